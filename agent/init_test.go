package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetmesh/internal/pki"
)

func initOptions(t *testing.T) InitOptions {
	c := DefaultConfig()
	c.DataDir = filepath.Join(t.TempDir(), "node")
	c.Bind, c.NodeName = "127.0.0.1", "first"
	return InitOptions{Config: c, MeshName: "m", Tags: map[string]string{"role": "db"}}
}

// snapshot reads every file below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestInitIsRefusedOnACompleteDirectory(t *testing.T) {
	o := initOptions(t)
	if _, err := Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, o.Config.DataDir)
	if _, err := Init(t.Context(), o); !errors.Is(err, ErrDirectoryComplete) {
		t.Errorf("a second init: %v", err)
	}
	token := pki.JoinToken{ActivationID: "a", Code: "c", Addresses: []string{"127.0.0.1:1"}, CAFingerprint: "sha256:" + strings.Repeat("0", 64)}
	if _, err := Join(t.Context(), JoinOptions{Config: o.Config, Token: token}); !errors.Is(err, ErrDirectoryComplete) {
		t.Errorf("a join after init: %v", err)
	}
	after := snapshot(t, o.Config.DataDir)
	if len(before) != len(after) {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
}

func TestInitMakesAnewWhatWasUnfinished(t *testing.T) {
	o := initOptions(t)
	first, err := Init(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(directory(o.Config.DataDir).identityFile()); err != nil {
		t.Fatal(err)
	}
	second, err := Init(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.MeshID == second.MeshID {
		t.Error("the unfinished mesh was kept")
	}
}

// TestSecretsArePrivate: nothing that init writes is readable by others, and no
// secret lies in a file that has no need of it.
func TestSecretsArePrivate(t *testing.T) {
	o := initOptions(t)
	o.AdminConfig = filepath.Join(t.TempDir(), "admin.yaml")
	if _, err := Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	admin, err := os.ReadFile(o.AdminConfig)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(string(admin), "secret_access_key: ")
	secret = strings.TrimSpace(secret)
	if len(secret) < 30 {
		t.Fatalf("no secret in %s", admin)
	}
	for _, dir := range []string{o.Config.DataDir, o.AdminConfig} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			// What lies in a directory that is closed to others may itself be a directory
			// of any mode.
			if err == nil && info.Mode().Perm()&0o077 != 0 && (info.Mode().IsRegular() || path == dir) {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
			if path != o.AdminConfig && info.Mode().IsRegular() {
				data, readErr := os.ReadFile(path)
				if readErr != nil {
					return readErr
				}
				if strings.Contains(string(data), secret) || strings.Contains(string(data), "PRIVATE KEY") && filepath.Base(path) != "node.key" {
					t.Errorf("%s holds a secret in the clear", path)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	c := initOptions(t).Config
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(c, nil); !errors.Is(err, ErrNoNode) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestDirectoryHasOneOwner(t *testing.T) {
	o := initOptions(t)
	if _, err := Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	unlock, err := directory(o.Config.DataDir).lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := Open(o.Config, nil); !errors.Is(err, ErrDirectoryInUse) {
		t.Errorf("a second owner: %v", err)
	}
}
