package patcher

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// namespaceVariable marks the process that runs the tests in a mount namespace of
// its own: file systems that tests mount end with it.
const namespaceVariable = "PATCHER_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(namespaceVariable) == "" {
		again := exec.Command("/proc/self/exe")
		again.Args = append([]string{os.Args[0]}, os.Args[1:]...)
		again.Env = append(os.Environ(), namespaceVariable+"=own")
		again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := again.Start(); err == nil {
			err := again.Wait()
			var status *exec.ExitError
			switch {
			case err == nil:
				os.Exit(0)
			case errors.As(err, &status) && status.Exited():
				os.Exit(status.ExitCode())
			}
			fmt.Fprintln(os.Stderr, "tests in a namespace of their own:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// overlayRoot is this machine's file system, to be changed without any effect on it.
// Where that cannot be had, as for others than root, the test is skipped.
func overlayRoot(t *testing.T) string {
	t.Helper()
	needNamespace(t)
	// Not t.TempDir: an overlay's options end at a comma, which names of tests may have.
	base, err := os.MkdirTemp("", "patcher-root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(base) })
	// On a file system of its own, since an overlay cannot be written to one.
	mount(t, "tmpfs", base, "tmpfs", 0, "mode=755")
	root := filepath.Join(base, "root")
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base))
	mount(t, "/dev", filepath.Join(root, "dev"), "", syscall.MS_BIND|syscall.MS_REC, "")
	mount(t, "/proc", filepath.Join(root, "proc"), "", syscall.MS_BIND|syscall.MS_REC, "")
	for _, dir := range []string{"run", "tmp"} {
		mount(t, "tmpfs", filepath.Join(root, dir), "tmpfs", 0, "mode=1777")
	}
	return root
}

// needNamespace skips where nothing may be mounted.
func needNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || os.Getenv(namespaceVariable) == "" {
		t.Skip("needs root and a mount namespace")
	}
}

func mount(t *testing.T, source, target, kind string, flags uintptr, options string) {
	t.Helper()
	err := syscall.Mount(source, target, kind, flags, options)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this root may not mount")
	}
	if err != nil {
		t.Fatalf("mount %s at %s: %v", source, target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

// emptyDir puts an empty directory over one of the overlay.
func emptyDir(t *testing.T, root, name string) {
	t.Helper()
	target := filepath.Join(root, name)
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", target, "tmpfs", 0, "mode=755")
}

// put writes a file below root.
func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
