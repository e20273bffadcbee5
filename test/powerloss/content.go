package powerloss

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
)

const pageSize = 4096

type page [pageSize]byte

// content is a file's bytes. Pages are never changed once they are in it, so that
// copies share them; a page that is not there is zeros.
type content struct {
	size  int64
	pages map[int64]*page
}

func (c *content) clone() *content {
	return &content{size: c.size, pages: maps.Clone(c.pages)}
}

// put writes data at offset; the file grows as needed.
func (c *content) put(offset int64, data []byte) {
	if c.pages == nil {
		c.pages = map[int64]*page{}
	}
	for len(data) > 0 {
		number, within := offset/pageSize, offset%pageSize
		n := min(int64(len(data)), pageSize-within)
		next := new(page)
		if old := c.pages[number]; old != nil {
			*next = *old
		}
		copy(next[within:], data[:n])
		c.pages[number] = next
		offset, data = offset+n, data[n:]
	}
	c.size = max(c.size, offset)
}

func (c *content) truncate(size int64) {
	if size < c.size {
		for number := range c.pages {
			if number*pageSize >= size {
				delete(c.pages, number)
			}
		}
		if old := c.pages[size/pageSize]; old != nil {
			next := new(page)
			copy(next[:size%pageSize], old[:])
			c.pages[size/pageSize] = next
		}
	}
	c.size = size
}

// bytes is for small files.
func (c *content) bytes() []byte {
	data := make([]byte, c.size)
	for number, p := range c.pages {
		if number*pageSize < c.size {
			copy(data[number*pageSize:], p[:])
		}
	}
	return data
}

// write makes a file of it, with holes where nothing was written.
func (c *content) write(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for number, p := range c.pages {
		if _, err := file.WriteAt(p[:], number*pageSize); err != nil {
			return err
		}
	}
	if err := file.Truncate(c.size); err != nil {
		return err
	}
	return file.Close()
}

// load is the content of a file that is there already.
func load(path string) (*content, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load what was there before: %w", err)
	}
	c := &content{}
	var zeros page
	for at := 0; at < len(data); at += pageSize {
		if part := data[at:min(at+pageSize, len(data))]; string(part) != string(zeros[:len(part)]) {
			c.put(int64(at), part)
		}
	}
	c.size = int64(len(data))
	return c, nil
}

func (c *content) sum() [sha256.Size]byte {
	hash := sha256.New()
	var zeros page
	for _, number := range slices.Sorted(maps.Keys(c.pages)) {
		if *c.pages[number] != zeros {
			hash.Write(binary.BigEndian.AppendUint64(nil, uint64(number)))
			hash.Write(c.pages[number][:])
		}
	}
	hash.Write(binary.BigEndian.AppendUint64(nil, uint64(c.size)))
	return [sha256.Size]byte(hash.Sum(nil))
}
