package powerloss

import (
	"fmt"
	"os"
	"os/exec"
)

// traced are the calls that change files or make them durable. mmap, and what
// stands at the end, are there to be refused: the model would not see their effect.
const traced = "open,openat,creat,write,pwrite64,ftruncate,truncate,lseek,fsync,fdatasync," +
	"rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat," +
	"mmap,writev,pwritev,fallocate,copy_file_range,sendfile,link,linkat,symlink,symlinkat"

// Command is program under strace, which writes to the file trace. A signal for
// the program must be sent to strace's only child.
func Command(trace, program string, args ...string) *exec.Cmd {
	flags := []string{"-f", "--seccomp-bpf", "-qq", "-ttt", "-T", "-y", "-xx", "-s", "100000000", "-e", "signal=none", "-e", "trace=" + traced, "-o", trace, program}
	return exec.Command("strace", append(flags, args...)...)
}

// ParseFile is [Parse] of a file.
func ParseFile(path string) ([]Event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	defer file.Close()
	return Parse(file)
}
