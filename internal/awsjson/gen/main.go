// Command gen derives internal/awsjson/model_gen.go, the constraint table of
// Systems Manager's inputs, from the service model that botocore ships. Its
// argument is the path of service-2.json or service-2.json.gz; without one it
// asks the python3 on the path where its botocore is. It takes facts only
// (kinds, bounds, patterns, enums, members), no documentation.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("usage: gen [service-2.json[.gz]]")
	}
	path := ""
	if len(args) == 1 {
		path = args[0]
	} else {
		var err error
		if path, err = findModel(); err != nil {
			return err
		}
	}
	raw, err := readModel(path)
	if err != nil {
		return err
	}
	source, err := generate(raw)
	if err != nil {
		return err
	}
	return os.WriteFile("model_gen.go", source, 0o644)
}

// findModel returns the path of the model in the botocore that python3 imports.
func findModel() (string, error) {
	out, err := exec.Command("python3", "-c", "import botocore; print(botocore.__file__)").Output()
	if err != nil {
		return "", fmt.Errorf("find botocore by python3 (give the model's path instead): %w", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "data", "ssm", "2014-11-06")
	for _, name := range []string{"service-2.json.gz", "service-2.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("no service-2.json in %s", dir)
}

// readModel returns the model's JSON, unpacked.
func readModel(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if !bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		return raw, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("unpack model: %w", err)
	}
	var all bytes.Buffer
	if _, err := all.ReadFrom(unpacked); err != nil {
		return nil, fmt.Errorf("unpack model: %w", err)
	}
	return all.Bytes(), nil
}

// fingerprint names a version of the model: the hex SHA-256 of its JSON.
func fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// model is what the generator reads of botocore's service-2.json.
type model struct {
	Operations map[string]struct {
		Input *reference `json:"input"`
	} `json:"operations"`
	Shapes map[string]*modelShape `json:"shapes"`
}

type reference struct {
	Shape        string `json:"shape"`
	LocationName string `json:"locationName"`
}

type modelShape struct {
	Type      string      `json:"type"`
	Required  []string    `json:"required"`
	Members   members     `json:"members"`
	Member    *reference  `json:"member"`
	Key       *reference  `json:"key"`
	Value     *reference  `json:"value"`
	Min       json.Number `json:"min"`
	Max       json.Number `json:"max"`
	Pattern   string      `json:"pattern"`
	Enum      []string    `json:"enum"`
	Sensitive bool        `json:"sensitive"`
	Union     bool        `json:"union"`
}

// members keeps the order of the model, which is the order of violations.
type members []member

type member struct {
	Name string
	reference
}

func (m *members) UnmarshalJSON(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		next := member{Name: fmt.Sprint(name)}
		if err := dec.Decode(&next.reference); err != nil {
			return err
		}
		*m = append(*m, next)
	}
	return nil
}
