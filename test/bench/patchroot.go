package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"golang.org/x/sys/unix"
)

// inPrivateRoot gives work a copy of this machine's file system that it may change. It
// is mounted for one thread only, and goes with it: work starts its programs itself, by
// no other goroutine.
func inPrivateRoot(base string, work func(root string) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		root, err := mountPrivateRoot(base)
		if err == nil {
			err = work(root)
		}
		done <- err
	}()
	return <-done
}

func mountPrivateRoot(base string) (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", fmt.Errorf("make a copy of this machine: %w", err)
	}
	root := filepath.Join(base, "root")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	var failed error
	mount := func(source, target, kind string, flags uintptr, options string) {
		err := os.MkdirAll(target, 0o755)
		if err == nil {
			err = unix.Mount(source, target, kind, flags, options)
		}
		if err != nil && failed == nil {
			failed = fmt.Errorf("make a copy of this machine: mount %s: %w", target, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	// On a file system of its own, since an overlay cannot be written to one.
	mount("tmpfs", base, "tmpfs", 0, "mode=755")
	for _, dir := range []string{"upper", "work"} {
		failed = errors.Join(failed, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base))
	mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, "")
	mount("/proc", filepath.Join(root, "proc"), "", unix.MS_BIND|unix.MS_REC, "")
	return root, failed
}

// below runs a program of the machine below root.
func below(ctx context.Context, root string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.400s", program, err, errors.String()+string(out))
	}
	return out, nil
}

// patchCopy scans a copy of this machine that is set up as Debian comes: lists are not
// packed, and apt keeps what it computes of them.
func (b *bench) patchCopy(ctx context.Context, root string, system types.OperatingSystem) error {
	t := &table{Title: "Patching: a scan of a copy of this machine", Method: scanMethod + " The copy is set up as Debian comes, not as a container image: apt's lists are not packed, and apt keeps its package cache. Nothing is fetched."}
	configuration := "Dir::Cache \"/var/cache/apt\";\nDir::Cache::pkgcache \"pkgcache.bin\";\nDir::Cache::srcpkgcache \"srcpkgcache.bin\";\nAcquire::GzipIndexes \"false\";\n"
	if err := os.WriteFile(filepath.Join(root, "/etc/apt/apt.conf.d/zz-bench"), []byte(configuration), 0o644); err != nil {
		return err
	}
	const lists = "/var/lib/apt/lists"
	entries, err := os.ReadDir(filepath.Join(root, lists))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		plain := strings.TrimSuffix(name, filepath.Ext(name))
		if !strings.HasSuffix(plain, "_Packages") || plain == name {
			continue
		}
		text, err := below(ctx, root, "/usr/lib/apt/apt-helper", "cat-file", filepath.Join(lists, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(root, lists, plain), text, 0o644)
		}
		if err == nil {
			err = os.Remove(filepath.Join(root, lists, name))
		}
		if err != nil {
			return fmt.Errorf("unpack apt's lists: %w", err)
		}
	}
	list, upgrade := aptScans(root)
	again, err := b.patchScan("scan", root, "/var/cache/meshd/patch", system, false, true)
	if err != nil {
		return err
	}
	if err := t.measure(ctx, b, []*scan{list, again, upgrade}); err != nil {
		return err
	}
	t.add(list.name, "ms", list.took)
	t.add(upgrade.name, "ms", upgrade.took).times(list.took, list.name)
	t.add(again.name, "ms", again.took).within(list)
	t.costs(false, list)
	t.costs(false, upgrade)
	t.costs(true, again)
	if report, err := b.lastReport(); err == nil {
		t.Notes = append(t.Notes, describe(report))
	}
	b.finish(t)
	return nil
}
