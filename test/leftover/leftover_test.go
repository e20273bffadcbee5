package leftover

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, what := range map[string]func(*exec.Cmd){
		"argument":          func(c *exec.Cmd) { c.Args = append(c.Args, file.Name()) },
		"environment":       func(c *exec.Cmd) { c.Env = append(os.Environ(), "HERE="+dir) },
		"open file":         func(c *exec.Cmd) { c.Stdout = file },
		"working directory": func(c *exec.Cmd) { c.Dir = dir },
	} {
		cmd := exec.Command("/bin/sh", "-c", "read line", "sh")
		input, err := cmd.StdinPipe() // it ends with the end of its input
		if err != nil {
			t.Fatal(err)
		}
		what(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if left := Of(dir); len(left) != 1 || left[cmd.Process.Pid] == "" {
			t.Errorf("%s: found %v, want process %d", name, left, cmd.Process.Pid)
		}
		for _, other := range []string{filepath.Join(dir, "other"), dir[:len(dir)-1]} {
			if left := Of(other); len(left) != 0 {
				t.Errorf("%s: found %v of %s", name, left, other)
			}
		}
		input.Close()
		cmd.Wait()
		None(t, dir)
	}
}
