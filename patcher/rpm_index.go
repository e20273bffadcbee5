package patcher

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// offersIndex is what readPrimary found in a repository, kept for the next scan: most
// scans find the metadata unchanged, and reading it is the slowest that is ours. It is
// a text of lines,
//
//	offers 1 CHECKSUM
//	NAME <tab> ARCH <tab> VERSION <tab> BUILT <tab> VENDOR
//	<tab> end COUNT
//
// of which CHECKSUM is that of the primary metadata as repomd.xml has it. A text without
// its end, or of another checksum, counts as none.
type offersIndex struct {
	path     string
	checksum string
}

const offersFormat = "offers 1 "

// errNoIndex: there is no index of this metadata.
var errNoIndex = errors.New("no index of these offers")

// read calls each for each offer of the index. After an error it may have been called
// for some.
func (x offersIndex) read(each func(offered)) error {
	file, err := os.Open(x.path)
	if err != nil {
		return errNoIndex
	}
	defer file.Close()
	return readOffers(file, x.checksum, each)
}

func readOffers(in io.Reader, checksum string, each func(offered)) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() || lines.Text() != offersFormat+checksum {
		return errNoIndex
	}
	count := 0
	for lines.Scan() {
		line := lines.Bytes()
		if end, ok := bytes.CutPrefix(line, []byte("\tend ")); ok {
			if told, err := strconv.Atoi(string(end)); err != nil || told != count || lines.Scan() {
				return errNoIndex
			}
			return nil
		}
		var field [5]string
		rest, more := line, true
		for i := range field {
			if !more {
				return errNoIndex
			}
			var one []byte
			one, rest, more = bytes.Cut(rest, []byte{'\t'})
			field[i] = string(one)
		}
		if more || field[0] == "" || field[1] == "" || field[2] == "" {
			return errNoIndex
		}
		each(offered{Package: Package{Name: field[0], Arch: field[1], Version: field[2]}, built: unixTime(field[3]), vendor: field[4]})
		count++
	}
	return errNoIndex
}

// write makes the index of what fill tells. An error of the file is none of fill's: the
// index is only not there then.
func (x offersIndex) write(fill func(each func(offered)) error, each func(offered)) error {
	file, err := os.CreateTemp(filepath.Dir(x.path), filepath.Base(x.path)+".new*")
	if err != nil {
		return fill(each)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	out := bufio.NewWriterSize(file, 64<<10)
	fmt.Fprintf(out, "%s%s\n", offersFormat, x.checksum)
	count := 0
	err = fill(func(o offered) {
		var built int64
		if !o.built.IsZero() {
			built = o.built.Unix()
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%s\n", oneLine(o.Name), oneLine(o.Arch), oneLine(o.Version), built, oneLine(o.vendor))
		count++
		each(o)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\tend %d\n", count)
	if out.Flush() == nil && file.Close() == nil {
		_ = os.Rename(file.Name(), x.path) // without it the next scan reads the metadata again
	}
	return nil
}

// oneLine is a text without what separates the fields and lines of an index.
func oneLine(text string) string {
	if strings.ContainsAny(text, "\t\r\n") {
		return strings.Join(strings.Fields(text), " ")
	}
	return text
}
