package powerloss

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func hex(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}

// trace fills 'strings' in quotes into lines as strace -xx writes them.
func trace(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		parts := strings.Split(line, "'")
		for i, part := range parts {
			if i%2 == 1 {
				part = hex(part)
			}
			b.WriteString(part)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestParse(t *testing.T) {
	events, err := Parse(strings.NewReader(trace(
		`7 100.000001 openat(AT_FDCWD<'/w'>, "'d/a'", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 8<'/w/d/a'> <0.000010>`,
		`7 100.000020 openat(AT_FDCWD<'/w'>, "'d/b'", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000010>`,
		`7 100.000040 write(8<'/w/d/a'>, "'hello'", 5 <unfinished ...>`,
		`9 100.000041 pwrite64(9<'/w/d/b'>, "'xyz'", 3, 4096) = 2 <0.000004>`,
		`9 100.000046 pwrite64(9<'/w/d/b'>, "'xyz'", 3, 4096) = -1 ENOSPC (No space left on device) <0.000004>`,
		`7 100.000060 <... write resumed>)        = 5 <0.000020>`,
		`9 100.000070 write(4<socket:[33]>, "'out'", 3) = 3 <0.000001>`,
		`7 100.000080 --- SIGURG {si_signo=SIGURG} ---`,
		`7 100.000090 fsync(8<'/w/d/a'>)         = 0 <0.000500>`,
		`7 100.000700 renameat(AT_FDCWD<'/w'>, "'d/a'", AT_FDCWD<'/w'>, "'/w/d/c'") = 0 <0.000002>`,
		`7 100.000800 ftruncate(9<'/w/d/b'>, 16384) = 0 <0.000002>`,
		`7 100.000810 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 9<'/w/d/b'>, 0) = 0x7f0000000000 <0.000002>`,
		`7 100.000820 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.000002>`,
		`7 100.000900 write(9<'/w/d/gone'>(deleted), "'x'", 1) = 1 <0.000002>`,
		`7 100.001000 lseek(9<'/w/d/b'>, 0, SEEK_END) = 16384 <0.000002>`,
		`7 100.001100 fdatasync(9<'/w/d/b'>)     = ? <unavailable>`,
		`7 100.001100 +++ killed by SIGKILL +++`,
	)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		what := "begins"
		if e.End {
			what = "ends"
		}
		got = append(got, fmt.Sprintf("%06d %s %d %s%s %d %q", e.At.UnixMicro()-100e6, what, e.Op.Kind, e.Op.Path, e.Op.To, e.Op.Offset, e.Op.Data))
	}
	want := []string{
		`000001 begins 0 /w/d/a -1 ""`,
		`000011 ends 0 /w/d/a -1 ""`,
		`000040 begins 1 /w/d/a -1 "hello"`,
		`000041 begins 1 /w/d/b 4096 "xy"`,
		`000045 ends 1 /w/d/b 4096 "xy"`,
		`000060 ends 1 /w/d/a -1 "hello"`,
		`000090 begins 4 /w/d/a -1 ""`,
		`000590 ends 4 /w/d/a -1 ""`,
		`000700 begins 6 /w/d/a/w/d/c -1 ""`,
		`000702 ends 6 /w/d/a/w/d/c -1 ""`,
		`000800 begins 2 /w/d/b -1 ""`,
		`000802 ends 2 /w/d/b -1 ""`,
		`001000 begins 3 /w/d/b 16384 ""`,
		`001002 ends 3 /w/d/b 16384 ""`,
		`001100 begins 4 /w/d/b -1 ""`, // the cut came in it
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if op := events[0].Op; !op.Create || !op.Empty || op.Append {
		t.Errorf("open: %+v", op)
	}
	if op := events[10].Op; op.Size != 16384 {
		t.Errorf("truncate: %+v", op)
	}
}

func TestParseRefusesWhatItCannotFollow(t *testing.T) {
	for _, line := range []string{
		`7 100.1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 9<'/w/d/b'>, 0) = 0x7f0000000000 <0.000002>`,
		`7 100.1 writev(9<'/w/d/b'>, [{iov_base="'x'", iov_len=1}], 1) = 1 <0.000002>`,
		`7 100.1 copy_file_range(9<'/w/d/b'>, NULL, 10<'/w/d/c'>, NULL, 100, 0) = 100 <0.000002>`,
		`7 100.1 fsync(9) = 0 <0.000002>`,
		`7 100.1 pwrite64(9<'/w/d/b'>, "'abc'"..., 30, 0) = 30 <0.000002>`,
		`7 100.1 pwrite64(9<'/w/d/b'>, "'abc'", 3) = 3 <0.000002>`,
		`7 100.1 fchmod(9<'/w/d/b'>, 0600) = 0 <0.000002>`,
		`7 100.1 <... write resumed>) = 3`,
		`7 write(1`,
	} {
		if _, err := Parse(strings.NewReader(trace(line))); err == nil {
			t.Errorf("no error for %s", line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(trace(`7 100.000001 openat(AT_FDCWD<'/w'>, "'d/a'", O_WRONLY|O_CREAT, 0600) = 8<'/w/d/a'> <0.000010>`))
	f.Add(trace(`7 1.0 write(8<'/w/d/a'>, "'hello'", 5 <unfinished ...>`, `7 1.1 <... write resumed>) = 5 <0.1>`))
	f.Add(trace(`7 1.0 pwrite64(8<'/w/d/a'>, "'hello'", 5, 7) = 5 <0.1>`, `7 1.1 fsync(8<'/w/d/a'>) = 0`))
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Parse(strings.NewReader(text)) })
}
