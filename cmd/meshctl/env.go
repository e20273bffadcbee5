package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
)

// environment is what `env` prints; the names are those that AWS clients read.
type environment struct {
	Endpoint      string `json:"AWS_ENDPOINT_URL_SSM"`
	CABundle      string `json:"AWS_CA_BUNDLE"`
	AccessKeyID   string `json:"AWS_ACCESS_KEY_ID"`
	SecretKey     string `json:"AWS_SECRET_ACCESS_KEY"`
	Region        string `json:"AWS_REGION"`
	DefaultRegion string `json:"AWS_DEFAULT_REGION"`
}

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print the environment that AWS clients need for this mesh",
		Long: `env prints export lines, so that unmodified AWS clients talk to this mesh. It writes
the mesh's CA to a file below ~/.config/meshctl and asks no node.`,
		Example: `  eval "$(meshctl env)"; aws ssm describe-instance-information`,
		Args:    exactly(),
		RunE:    func(*cobra.Command, []string) error { return a.env() },
	}
}

func (a *app) env() error {
	road, err := a.access()
	if err != nil {
		return err
	}
	if road.socket != "" {
		return usagef("AWS clients need an access key and cannot use the local socket: give a configuration (--config), such as the admin.yaml that `meshd init` wrote")
	}
	bundle, err := a.writeCA(road.config)
	if err != nil {
		return err
	}
	e := environment{
		Endpoint: road.Endpoints[0], CABundle: bundle,
		AccessKeyID: road.AccessKeyID, SecretKey: road.SecretAccessKey,
		Region: region, DefaultRegion: region,
	}
	if a.getenv("AWS_SESSION_TOKEN") != "" {
		a.note("meshctl: AWS_SESSION_TOKEN is set and belongs to another access key; unset it")
	}
	return a.print(e, func(w io.Writer) {
		for _, pair := range [][2]string{
			{"AWS_ENDPOINT_URL_SSM", e.Endpoint}, {"AWS_CA_BUNDLE", e.CABundle},
			{"AWS_ACCESS_KEY_ID", e.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", e.SecretKey},
			{"AWS_REGION", e.Region}, {"AWS_DEFAULT_REGION", e.DefaultRegion},
		} {
			fmt.Fprintf(w, "export %s=%s\n", pair[0], shellQuote(pair[1]))
		}
	})
}

var plainID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// writeCA puts the CA into a file whose path stays the same for a mesh, so that
// shells which have it in their environment go on working when the CA changes.
func (a *app) writeCA(c config) (string, error) {
	directory, err := a.directory()
	if err != nil {
		return "", err
	}
	name := c.MeshID
	if !plainID.MatchString(name) {
		hash := sha256.Sum256([]byte(c.CA))
		name = hex.EncodeToString(hash[:8])
	}
	path := filepath.Join(directory, "ca-"+name+".pem")
	if old, err := os.ReadFile(path); err == nil && string(old) == c.CA {
		return path, nil
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", fmt.Errorf("write the CA bundle: %w", err)
	}
	// By way of a file of its own name: another env at the same moment, or a
	// client that reads, never sees half of it.
	file, err := os.CreateTemp(directory, ".ca-*")
	if err != nil {
		return "", fmt.Errorf("write the CA bundle: %w", err)
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(c.CA)
	if err == nil {
		err = file.Chmod(0o644) // a certificate is no secret
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("write the CA bundle: %w", err)
	}
	return path, nil
}
