package executor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// The API shows this many characters of a step's outputs; they are part of its
// result. The whole output stays in its file.
const (
	StdoutCharacters = 24000
	StderrCharacters = 8000
	// TruncatedMark ends an output of which the API shows not all; its characters
	// are among those that are shown.
	TruncatedMark = "--output truncated--"
)

// StepDir is the directory of a step: its script, its outputs stdout and stderr,
// its status. jobs is the directory of all jobs.
func StepDir(jobs, jobID string, index int, name string) string {
	return filepath.Join(jobs, jobID, fmt.Sprintf("%d.%s", index, pathPart(name)))
}

// runDir is the directory of one run of a step, for all but its outputs, which are
// those of all runs: the step's own for the first, one in it for each run after a
// boot that the step has asked for.
func runDir(step string, reboots int) string {
	if reboots == 0 {
		return step
	}
	return filepath.Join(step, fmt.Sprintf("run.%d", reboots))
}

// pathPart keeps what is harmless in a file name.
func pathPart(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return -1
	}, name)
	return clean[:min(len(clean), 64)]
}

// excerpt returns the first characters of a file as valid UTF-8, marked where it
// has more, and the size of the file; a missing file is an empty one.
func excerpt(path string, characters int) (text string, size int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", 0, err
	}
	// No character takes more bytes than UTFMax, so this is always enough to see
	// whether there is one more.
	data, err := io.ReadAll(io.LimitReader(file, int64(characters+1)*utf8.UTFMax))
	if err != nil {
		return "", info.Size(), err
	}
	return Truncate(firstCharacters(data, characters+1), characters), info.Size(), nil
}

// Truncate returns at most count characters of s: where it cuts, TruncatedMark is
// the last of them.
func Truncate(s string, count int) string {
	if len(s) <= count || utf8.RuneCountInString(s) <= count {
		return s
	}
	if count <= len(TruncatedMark) {
		return TruncatedMark[:max(count, 0)]
	}
	return firstCharacters([]byte(s), count-len(TruncatedMark)) + TruncatedMark
}

// firstCharacters returns at most count characters; every byte that is no part
// of one becomes U+FFFD.
func firstCharacters(data []byte, count int) string {
	var b strings.Builder
	b.Grow(min(len(data), count+count/8))
	for ; count > 0 && len(data) > 0; count-- {
		r, size := utf8.DecodeRune(data)
		b.WriteRune(r)
		data = data[size:]
	}
	return b.String()
}
