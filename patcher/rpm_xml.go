package patcher

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxTag bounds what one tag of a repository's metadata may take, and maxText a text
// that is kept, in bytes.
const (
	maxTag  = 64 << 10
	maxText = 64 << 10
)

// tags reads the tags of an XML file one after the other. Metadata of a distribution
// is hundreds of megabytes of which little is wanted: encoding/xml takes a second for
// twenty of them, this a second for hundreds, and holds one tag at a time. It does not
// check that tags are closed in order, and takes any text as UTF-8.
type tags struct {
	in *bufio.Reader
	// The tag that next found: its name, what follows the name, and whether it is
	// </name> or <name/>. Valid until next is called again.
	name       []byte
	attributes []byte
	end, empty bool
	held       []byte
	opened     bool // the "<" of the next tag is read
}

func newTags(in io.Reader) *tags { return &tags{in: bufio.NewReaderSize(in, 128<<10)} }

// next goes to the next tag; io.EOF where there is none.
func (t *tags) next() error {
	for {
		if !t.opened {
			if err := t.skipTo('<'); err != nil {
				return err
			}
		}
		t.opened = false
		if err := t.readTag(); err != nil {
			return err
		}
		if len(t.name) > 0 {
			return nil
		}
	}
}

func (t *tags) skipTo(delimiter byte) error {
	for {
		_, err := t.in.ReadSlice(delimiter)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return err
	}
}

// readTag reads what follows "<". It leaves name empty for what is no tag: comments,
// processing instructions, declarations, CDATA.
func (t *tags) readTag() error {
	t.name, t.attributes, t.end, t.empty = nil, nil, false, false
	first, err := t.in.ReadByte()
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	switch first {
	case '?':
		return t.skipPast("?>")
	case '!':
		if start, _ := t.in.Peek(2); string(start) == "--" {
			_, _ = t.in.Discard(2)
			return t.skipPast("-->")
		}
		if start, _ := t.in.Peek(7); string(start) == "[CDATA[" {
			return t.skipPast("]]>")
		}
		return t.skipPast(">")
	}
	if err := t.in.UnreadByte(); err != nil {
		return err
	}
	tag, err := t.readToEnd()
	if err != nil {
		return err
	}
	if tag[0] == '/' {
		t.end, tag = true, tag[1:]
	} else if tag[len(tag)-1] == '/' {
		t.empty, tag = true, tag[:len(tag)-1]
	}
	if i := bytes.IndexAny(tag, " \t\r\n"); i >= 0 {
		t.name, t.attributes = tag[:i], tag[i+1:]
	} else {
		t.name = tag
	}
	if len(t.name) == 0 {
		return errors.New("a tag without name")
	}
	return nil
}

// readToEnd reads up to the ">" that is outside of quotes, and returns what is before.
func (t *tags) readToEnd() ([]byte, error) {
	t.held = t.held[:0]
	for {
		part, err := t.in.ReadSlice('>')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, io.ErrUnexpectedEOF
		}
		if err == nil && len(t.held) == 0 && len(part) > 1 && !insideQuotes(part) {
			return part[:len(part)-1], nil
		}
		t.held = append(t.held, part...)
		if len(t.held) > maxTag {
			return nil, fmt.Errorf("a tag of more than %d bytes", maxTag)
		}
		if err == nil && !insideQuotes(t.held) {
			if len(t.held) == 1 {
				return nil, errors.New("an empty tag")
			}
			return t.held[:len(t.held)-1], nil
		}
	}
}

func insideQuotes(b []byte) bool {
	for {
		i := bytes.IndexAny(b, `"'`)
		if i < 0 {
			return false
		}
		j := bytes.IndexByte(b[i+1:], b[i])
		if j < 0 {
			return true
		}
		b = b[i+1+j+1:]
	}
}

// skipPast goes behind a text that ends with ">".
func (t *tags) skipPast(end string) error {
	var held [16]byte // the last bytes read, right-aligned
	tail := held[len(held)-len(end):]
	for {
		part, err := t.in.ReadSlice('>')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return io.ErrUnexpectedEOF
		}
		if len(part) >= len(end) {
			copy(tail, part[len(part)-len(end):])
		} else {
			copy(tail, tail[len(part):])
			copy(tail[len(tail)-len(part):], part)
		}
		if err == nil && string(tail) == end {
			return nil
		}
	}
}

// attribute is the value of an attribute of the tag, "" where it has none.
func (t *tags) attribute(name string) string {
	rest := t.attributes
	for {
		i := bytes.IndexByte(rest, '=')
		if i < 0 {
			return ""
		}
		key := bytes.TrimSpace(rest[:i])
		rest = bytes.TrimLeft(rest[i+1:], " \t\r\n")
		if len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
			return ""
		}
		j := bytes.IndexByte(rest[1:], rest[0])
		if j < 0 {
			return ""
		}
		if string(key) == name {
			return unescapeXML(rest[1 : 1+j])
		}
		rest = rest[1+j+1:]
	}
}

// text is what follows the tag up to the next one, without space around it. Its first
// maxText bytes are kept.
func (t *tags) text() (string, error) {
	if t.empty || t.end {
		return "", nil
	}
	var text []byte
	keep := func(b []byte) { text = append(text, b[:min(len(b), maxText-len(text))]...) }
	for {
		part, err := t.in.ReadSlice('<')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", io.ErrUnexpectedEOF
		}
		if err != nil {
			keep(part)
			continue
		}
		keep(part[:len(part)-1])
		if start, _ := t.in.Peek(8); string(start) == "![CDATA[" {
			raw, err := t.cdata()
			if err != nil {
				return "", err
			}
			rest, err := t.text()
			return strings.TrimSpace(unescapeXML(text) + raw + rest), err
		}
		t.opened = true
		return strings.TrimSpace(unescapeXML(text)), nil
	}
}

func (t *tags) cdata() (string, error) {
	_, _ = t.in.Discard(len("![CDATA["))
	var raw []byte
	for {
		part, err := t.in.ReadSlice('>')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", io.ErrUnexpectedEOF
		}
		if raw = append(raw, part...); bytes.HasSuffix(raw, []byte("]]>")) {
			return string(raw[:len(raw)-3]), nil
		}
		if len(raw) > maxText {
			return "", fmt.Errorf("a text of more than %d bytes", maxText)
		}
	}
}

// unescapeXML replaces the five entities of XML and references by number; others stay.
func unescapeXML(b []byte) string {
	i := bytes.IndexByte(b, '&')
	if i < 0 {
		return string(b)
	}
	var out strings.Builder
	for ; i >= 0; i = bytes.IndexByte(b, '&') {
		out.Write(b[:i])
		b = b[i:]
		end := bytes.IndexByte(b, ';')
		if end < 0 {
			break
		}
		if r, ok := xmlEntity(string(b[1:end])); ok {
			out.WriteRune(r)
			b = b[end+1:]
			continue
		}
		out.WriteByte('&')
		b = b[1:]
	}
	out.Write(b)
	return out.String()
}

func xmlEntity(name string) (rune, bool) {
	switch name {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	number, ok := strings.CutPrefix(name, "#")
	if !ok {
		return 0, false
	}
	base := 10
	if hex, ok := strings.CutPrefix(number, "x"); ok {
		number, base = hex, 16
	}
	code, err := strconv.ParseUint(number, base, 32)
	if err != nil || code > utf8.MaxRune || !utf8.ValidRune(rune(code)) {
		return 0, false
	}
	return rune(code), true
}
