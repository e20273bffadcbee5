package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// config is the file that gives a person access to a mesh; `meshd init` writes
// it. It is self-contained and works on any machine.
type config struct {
	MeshName        string   `yaml:"mesh_name"`
	MeshID          string   `yaml:"mesh_id"`
	Endpoints       []string `yaml:"endpoints"` // https://host:port, tried in this order
	CA              string   `yaml:"ca"`        // PEM
	AccessKeyID     string   `yaml:"access_key_id"`
	SecretAccessKey string   `yaml:"secret_access_key"`
}

// access is the road to a mesh: a configuration, or a local socket.
type access struct {
	config
	path   string // of the configuration
	socket string // "" when there is a configuration
}

// access chooses the road: flags before MESHCTL_CONFIG before the user's file
// before the local socket that root may use.
func (a *app) access() (access, error) {
	switch {
	case a.socket != "" && a.configFile != "":
		return access{}, usagef("--socket and --config are two roads to a mesh: choose one")
	case a.socket != "" && a.endpoint != "":
		return access{}, usagef("--socket and --endpoint are two roads to a mesh: choose one")
	case a.socket != "":
		return access{socket: a.socket}, nil
	case a.configFile != "":
		return a.readConfig(a.configFile, "--config")
	}
	if path := a.getenv("MESHCTL_CONFIG"); path != "" {
		return a.readConfig(path, "MESHCTL_CONFIG")
	}
	path := "~/.config/meshctl/config.yaml"
	if directory, err := a.directory(); err == nil {
		path = filepath.Join(directory, "config.yaml")
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return a.readConfig(path, "")
		}
	}
	if a.root && a.endpoint == "" {
		if _, err := os.Stat(a.defaultSocket); err == nil {
			return access{socket: a.defaultSocket}, nil
		}
		return access{}, usagef("there is no configuration (%s) and no node here (%s): give --config FILE or --socket PATH; `meshd init` writes admin.yaml into the node's directory", path, a.defaultSocket)
	}
	return access{}, usagef("there is no configuration: put the admin.yaml that `meshd init` wrote at %s, or name it with --config or MESHCTL_CONFIG", path)
}

// directory is where this user's own files are.
func (a *app) directory() (string, error) {
	home, err := a.home()
	if err != nil {
		return "", fmt.Errorf("find the home directory (set HOME): %w", err)
	}
	return filepath.Join(home, ".config", "meshctl"), nil
}

// maxConfig bounds a configuration, in bytes.
const maxConfig = 1 << 20

func (a *app) readConfig(path, from string) (access, error) {
	if from != "" {
		from = " (" + from + ")"
	}
	file, err := os.Open(path)
	if err != nil {
		return access{}, usagef("read the configuration%s: %v", from, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.note("meshctl: %s holds a secret key and others may read it; chmod 600 %s", path, shellQuote(path))
	}
	content, err := io.ReadAll(io.LimitReader(file, maxConfig))
	if err != nil {
		return access{}, usagef("read the configuration%s: %v", from, err)
	}
	c, err := parseConfig(content)
	if err != nil {
		return access{}, usagef("configuration %s%s: %v", path, from, err)
	}
	if a.endpoint != "" {
		if err := checkEndpoint(a.endpoint); err != nil {
			return access{}, usagef("--endpoint: %v", err)
		}
		c.Endpoints = []string{a.endpoint}
	}
	return access{config: c, path: path}, nil
}

// How the decoder tells of a key that means nothing, and of what is no mapping.
var (
	goKey  = regexp.MustCompile(`field (\S+) not found in type \S+`)
	goType = regexp.MustCompile("cannot unmarshal \\S+( `[^`]*`)? into main\\.config")
)

// parseConfig decodes strictly: a key that means nothing is an error.
func parseConfig(content []byte) (config, error) {
	var c config
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return c, errors.New("it is empty")
		}
		return c, errors.New(goKey.ReplaceAllString(goType.ReplaceAllString(err.Error(), "this is no list of keys and values"), "there is no key $1"))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, errors.New("it has more than one document")
	}
	if len(c.Endpoints) == 0 {
		return c, errors.New("endpoints is missing: a list of https URLs")
	}
	for _, endpoint := range c.Endpoints {
		if err := checkEndpoint(endpoint); err != nil {
			return c, fmt.Errorf("endpoints: %w", err)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)) {
		return c, errors.New("ca is missing or has no PEM certificate")
	}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return c, errors.New("access_key_id and secret_access_key are needed")
	}
	return c, nil
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return fmt.Errorf("%q is not of the form https://host:port", text)
	}
	return nil
}
