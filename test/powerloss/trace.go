package powerloss

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Kind is what a call does to files.
type Kind int

// The kinds of calls that matter.
const (
	Open     Kind = iota // may make the file, or empty it
	Write                // at Offset; at the descriptor's place when that is -1
	Truncate             // to Size
	Seek                 // to Offset, where the next Write without a place goes
	Sync
	MakeDir
	Rename // to To, in one step
	Remove
)

// Op is one call that succeeded, or that was under way at the trace's end.
type Op struct {
	Kind   Kind
	Path   string // absolute
	To     string // Rename
	Data   []byte // Write
	Offset int64
	Size   int64
	// Of Open: whether a missing file is made, an old one emptied, and whether
	// writes go to the end.
	Create, Empty, Append bool
}

// Event is the beginning or the end of a call.
type Event struct {
	At  time.Time
	End bool
	Op  *Op
}

// errNotTraced is returned for calls that the model cannot follow.
var errNotTraced = errors.New("a call that the model does not know")

// call is a line of strace's taken apart.
type call struct {
	name string
	args []string
}

// Parse reads what strace wrote, as [Command] has it do, and returns the events
// in their order. Calls that failed are left out.
func Parse(r io.Reader) ([]Event, error) {
	p := parser{open: map[int]*unfinished{}}
	lines := bufio.NewReaderSize(r, 1<<20)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			if err := p.line(line); err != nil {
				return nil, fmt.Errorf("read line %d of the trace, %.200s: %w", number, line, err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the trace: %w", err)
		}
	}
	// Only now is it known which calls failed.
	var events []Event
	for _, e := range p.events {
		if !p.failed[e.Op] {
			events = append(events, e)
		}
	}
	return events, nil
}

type unfinished struct {
	text string
	op   *Op
}

type parser struct {
	open   map[int]*unfinished // by thread
	events []Event
	failed map[*Op]bool
}

// line reads one line: "THREAD SECONDS CALL(…) = RESULT <TOOK>", or the first or
// second half of such a line, or what became of a process.
func (p *parser) line(line string) error {
	first, rest, ok := strings.Cut(line, " ")
	thread, err := strconv.Atoi(first)
	if !ok || err != nil {
		return errors.New("no thread")
	}
	first, text, ok := strings.Cut(strings.TrimLeft(rest, " "), " ")
	at, err := parseSeconds(first)
	if !ok || err != nil {
		return errors.New("no time")
	}
	if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
		return nil
	}
	if begun, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
		op, err := parseCall(begun + ") = 0")
		if err != nil {
			return err
		}
		p.open[thread] = &unfinished{begun, op}
		if op != nil {
			p.events = append(p.events, Event{At: at, Op: op})
		}
		return nil
	}
	ended := at
	var op *Op
	if strings.HasPrefix(text, "<... ") {
		half := p.open[thread]
		_, rest, ok := strings.Cut(text, " resumed>")
		if half == nil || !ok {
			return errors.New("the end of a call that did not begin")
		}
		delete(p.open, thread)
		text, op = half.text+rest, half.op
	}
	text, result, took, err := splitResult(text)
	if err != nil {
		return err
	}
	if op == nil {
		if op, err = parseCall(text + " = " + result); err != nil || op == nil {
			return err
		}
		p.events = append(p.events, Event{At: at, Op: op})
		ended = at.Add(took)
	}
	if !p.settle(op, result) {
		p.events = append(p.events, Event{At: ended, End: true, Op: op})
	}
	return nil
}

// settle notes what a call came to and reports whether it never ended, or failed.
func (p *parser) settle(op *Op, result string) (failed bool) {
	if strings.HasPrefix(result, "?") {
		return true // the process died in it
	}
	if strings.HasPrefix(result, "-1") {
		if p.failed == nil {
			p.failed = map[*Op]bool{}
		}
		p.failed[op] = true
		return true
	}
	n, err := strconv.ParseInt(result, 0, 64)
	switch {
	case err != nil: // a descriptor
	case op.Kind == Seek:
		op.Offset = n
	case op.Kind == Write && 0 <= n && n < int64(len(op.Data)):
		op.Data = op.Data[:n]
	}
	return false
}

// splitResult cuts "CALL(…) = RESULT <TOOK>".
func splitResult(text string) (call, result string, took time.Duration, err error) {
	at := strings.LastIndex(text, ") = ")
	if at < 0 {
		// strace pads short calls before the sign.
		at = strings.LastIndex(text, ")")
		if at < 0 || !strings.HasPrefix(strings.TrimLeft(text[at+1:], " "), "= ") {
			return "", "", 0, errors.New("no result")
		}
	}
	call = text[:at+1]
	result = strings.TrimPrefix(strings.TrimLeft(text[at+1:], " "), "= ")
	if open := strings.LastIndex(result, " <"); open >= 0 && strings.HasSuffix(result, ">") {
		if d, err := time.ParseDuration(result[open+2:len(result)-1] + "s"); err == nil {
			return call, result[:open], d, nil
		}
	}
	return call, result, 0, nil
}

func parseSeconds(text string) (time.Time, error) {
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	micros, err := strconv.ParseInt((part + "000000")[:6], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(seconds*1e6 + micros), nil
}

// parseCall returns what "CALL(…) = RESULT" does to files, nil for nothing.
func parseCall(text string) (*Op, error) {
	text, _, _, err := splitResult(text)
	if err != nil {
		return nil, err
	}
	name, args, ok := strings.Cut(text, "(")
	if !ok {
		return nil, errors.New("no call")
	}
	c := call{name: name}
	if args = strings.TrimSuffix(args, ")"); args != "" {
		c.args = strings.Split(args, ", ") // strings are all in hex
	}
	op, err := c.op()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return op, nil
}

func (c call) op() (*Op, error) {
	a := arguments{c.args, nil}
	op := &Op{Offset: -1}
	switch c.name {
	case "open", "creat":
		op.Kind, op.Path = Open, a.text(0)
		a.openFlags(op, 1, c.name == "creat")
	case "openat":
		op.Kind, op.Path = Open, a.pathAt(0)
		a.openFlags(op, 2, false)
	case "write":
		op.Kind, op.Path, op.Data = Write, a.file(0), []byte(a.text(1))
	case "pwrite64":
		op.Kind, op.Path, op.Data, op.Offset = Write, a.file(0), []byte(a.text(1)), a.number(3)
	case "ftruncate":
		op.Kind, op.Path, op.Size = Truncate, a.file(0), a.number(1)
	case "truncate":
		op.Kind, op.Path, op.Size = Truncate, a.text(0), a.number(1)
	case "lseek":
		op.Kind, op.Path = Seek, a.file(0) // the result is the place
	case "fsync", "fdatasync":
		op.Kind, op.Path = Sync, a.file(0)
	case "mkdir":
		op.Kind, op.Path = MakeDir, a.text(0)
	case "mkdirat":
		op.Kind, op.Path = MakeDir, a.pathAt(0)
	case "rename":
		op.Kind, op.Path, op.To = Rename, a.text(0), a.text(1)
	case "renameat", "renameat2":
		op.Kind, op.Path, op.To = Rename, a.pathAt(0), a.pathAt(2)
	case "unlink", "rmdir":
		op.Kind, op.Path = Remove, a.text(0)
	case "unlinkat":
		op.Kind, op.Path = Remove, a.pathAt(0)
	case "mmap":
		if !strings.Contains(a.at(2), "PROT_WRITE") || !strings.HasPrefix(a.at(3), "MAP_SHARED") || a.at(4) == "-1" {
			return nil, nil
		}
		op.Path = a.file(4)
		return nil, c.unknown(op.Path, a.err)
	case "writev", "pwritev", "fallocate", "copy_file_range", "sendfile", "linkat", "link", "symlinkat", "symlink":
		// Nothing of ours makes these on files; a socket or a pipe may.
		for i := range c.args {
			if path, ok := descriptor(c.args[i]); ok && isFile(path) && (c.name != "sendfile" || i == 0) {
				return nil, c.unknown(path, nil)
			}
		}
		return nil, nil
	default:
		return nil, errNotTraced
	}
	if a.err != nil {
		return nil, a.err
	}
	if !isFile(op.Path) {
		return nil, nil
	}
	op.Path = filepath.Clean(op.Path)
	if op.To != "" {
		op.To = filepath.Clean(op.To)
	}
	return op, nil
}

func (c call) unknown(path string, err error) error {
	if err == nil && (!isFile(path) || strings.HasPrefix(path, "/dev/")) {
		return nil
	}
	return errors.Join(fmt.Errorf("%w, on %s", errNotTraced, path), err)
}

// isFile tells files from sockets, pipes and the like.
func isFile(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasSuffix(path, " (deleted)") && !strings.HasSuffix(path, "(deleted)")
}

// arguments reads the arguments of one call and keeps the first failure.
type arguments struct {
	list []string
	err  error
}

func (a *arguments) at(i int) string {
	if i >= len(a.list) {
		a.fail(errors.New("too few arguments"))
		return ""
	}
	return a.list[i]
}

func (a *arguments) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// text is a string in quotes and in hex.
func (a *arguments) text(i int) string {
	quoted, ok := strings.CutPrefix(a.at(i), `"`)
	quoted, closed := strings.CutSuffix(quoted, `"`)
	if !ok || !closed {
		a.fail(fmt.Errorf("argument %d is no whole string", i))
		return ""
	}
	data, err := unhex(quoted)
	a.fail(err)
	return string(data)
}

// file is the path of a descriptor, "7<path>".
func (a *arguments) file(i int) string {
	path, ok := descriptor(a.at(i))
	if !ok {
		a.fail(fmt.Errorf("argument %d is no descriptor with its path", i))
	}
	return path
}

// pathAt is a path behind the descriptor of the directory where it begins.
func (a *arguments) pathAt(i int) string {
	path := a.text(i + 1)
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(a.file(i), path)
}

func (a *arguments) number(i int) int64 {
	n, err := strconv.ParseInt(a.at(i), 0, 64)
	a.fail(err)
	return n
}

func (a *arguments) openFlags(op *Op, i int, creat bool) {
	flags := "O_WRONLY|O_CREAT|O_TRUNC"
	if !creat {
		flags = a.at(i)
	}
	for _, flag := range strings.Split(flags, "|") {
		switch flag {
		case "O_CREAT":
			op.Create = true
		case "O_TRUNC":
			op.Empty = true
		case "O_APPEND":
			op.Append = true
		}
	}
}

// descriptor returns the path of "7<path>".
func descriptor(text string) (path string, ok bool) {
	_, rest, ok := strings.Cut(text, "<")
	hex, end, closed := strings.Cut(rest, ">")
	if !ok || !closed || end != "" && end != "(deleted)" {
		return "", false
	}
	data, err := unhex(hex)
	if err != nil {
		return hex, true // socket:[1] and such
	}
	return string(data) + end, true
}

// unhex reads \x2f\x74…, which is how -xx writes every string.
func unhex(text string) ([]byte, error) {
	if len(text)%4 != 0 {
		return nil, errors.New("a string that is not all in hex")
	}
	data := make([]byte, 0, len(text)/4)
	for ; text != ""; text = text[4:] {
		if text[0] != '\\' || text[1] != 'x' {
			return nil, errors.New("a string that is not all in hex")
		}
		n, err := strconv.ParseUint(text[2:4], 16, 8)
		if err != nil {
			return nil, errors.New("a string that is not all in hex")
		}
		data = append(data, byte(n))
	}
	return data, nil
}
