package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The pages of a bbolt file, version 2. bbolt trusts them: on a file that is not
// what was written it panics in a goroutine of its own, or goes in circles. So
// each file is read here first. Numbers are in the machine's order.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltPageHeader = 16 // id 8, flags 2, count 2, overflow 4
	boltElement    = 16
	boltMeta       = 64
	boltBucket     = 16 // root 8, sequence 8
	boltNoFreelist = ^uint64(0)
	boltMaxDepth   = 64

	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltFreelist = 0x10
)

var native = binary.NativeEndian

// boltPages reads one file.
type boltPages struct {
	file     io.ReaderAt
	size     int64
	pageSize int64
	high     uint64 // the first page number that is not in use
	seen     []uint64
	buffers  [boltMaxDepth][]byte
}

// boltRoot is what a meta page says.
type boltRoot struct {
	pageSize int64
	root     uint64
	freelist uint64
	high     uint64
	txid     uint64
}

// checkPages reads every page in use of a bbolt file of size bytes: each is within
// the file, what its number says, used once, and its keys are in order. torn is
// set when one of the two meta pages is not whole: the last commit was under way,
// and the one before counts.
func checkPages(file io.ReaderAt, size int64) (torn bool, err error) {
	meta, torn, err := newestMeta(file, size)
	if err != nil {
		return torn, err
	}
	if meta.high < 3 || meta.high > uint64(size/meta.pageSize) {
		return torn, fmt.Errorf("it has %d bytes and should have %d pages of %d", size, meta.high, meta.pageSize)
	}
	p := &boltPages{file: file, size: size, pageSize: meta.pageSize, high: meta.high, seen: make([]uint64, meta.high/64+1)}
	if err := p.tree(meta.root, nil, nil, 0); err != nil {
		return torn, err
	}
	if meta.freelist == boltNoFreelist {
		return torn, nil
	}
	return torn, p.freelist(meta.freelist)
}

// newestMeta finds the meta page that counts.
func newestMeta(file io.ReaderAt, size int64) (newest boltRoot, torn bool, err error) {
	first, firstErr := readMeta(file, 0)
	var second boltRoot
	secondErr := firstErr
	if firstErr == nil {
		second, secondErr = readMeta(file, first.pageSize)
	} else {
		for at := int64(1 << 10); at <= 16<<20 && at < size; at *= 2 {
			if second, secondErr = readMeta(file, at); secondErr == nil && second.pageSize == at {
				break
			}
			secondErr = firstErr
		}
	}
	switch {
	case firstErr != nil && secondErr != nil:
		return newest, true, firstErr
	case firstErr != nil || secondErr == nil && second.txid > first.txid:
		return second, firstErr != nil, nil
	}
	return first, secondErr != nil, nil
}

func readMeta(file io.ReaderAt, at int64) (boltRoot, error) {
	var page [boltPageHeader + boltMeta]byte
	if _, err := file.ReadAt(page[:], at); err != nil {
		return boltRoot{}, fmt.Errorf("read its meta page: %w", err)
	}
	b := page[boltPageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:56])
	pageSize := int64(native.Uint32(b[8:]))
	switch {
	case native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion:
		return boltRoot{}, errors.New("it does not begin as a store's file")
	case native.Uint64(b[56:]) != sum.Sum64():
		return boltRoot{}, errors.New("the checksum of its meta page is wrong")
	case pageSize < 1<<10 || pageSize > 16<<20 || pageSize&(pageSize-1) != 0:
		return boltRoot{}, fmt.Errorf("it has pages of %d bytes", pageSize)
	}
	return boltRoot{
		pageSize: pageSize, root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]),
		high: native.Uint64(b[40:]), txid: native.Uint64(b[48:]),
	}, nil
}

// page reads page id with its overflow, and marks it as seen.
func (p *boltPages) page(id uint64, depth int) ([]byte, error) {
	if depth >= boltMaxDepth {
		return nil, errors.New("its pages nest too deep")
	}
	if id < 2 || id >= p.high {
		return nil, fmt.Errorf("page %d is not in it", id)
	}
	var header [boltPageHeader]byte
	if _, err := p.file.ReadAt(header[:], int64(id)*p.pageSize); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	overflow := uint64(native.Uint32(header[12:]))
	if native.Uint64(header[:]) != id || overflow >= p.high-id {
		return nil, fmt.Errorf("page %d is not what it should be", id)
	}
	for n := id; n <= id+overflow; n++ {
		if p.seen[n/64]&(1<<(n%64)) != 0 {
			return nil, fmt.Errorf("page %d is used twice", n)
		}
		p.seen[n/64] |= 1 << (n % 64)
	}
	length := int64(overflow+1) * p.pageSize
	if int64(len(p.buffers[depth])) < length {
		p.buffers[depth] = make([]byte, length)
	}
	page := p.buffers[depth][:length]
	if _, err := p.file.ReadAt(page, int64(id)*p.pageSize); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return page, nil
}

// tree reads page id and all below it. Its keys are from low on and before high,
// where those are not nil.
func (p *boltPages) tree(id uint64, low, high []byte, depth int) error {
	page, err := p.page(id, depth)
	if err != nil {
		return err
	}
	if err := p.elements(page, low, high, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements reads what a branch or a leaf has.
func (p *boltPages) elements(page, low, high []byte, depth int) error {
	flags, count := native.Uint16(page[8:]), int(native.Uint16(page[10:]))
	if flags != boltBranch && flags != boltLeaf || flags == boltBranch && count == 0 {
		return fmt.Errorf("it has flags %#x and %d elements", flags, count)
	}
	if boltPageHeader+count*boltElement > len(page) {
		return fmt.Errorf("%d elements do not fit", count)
	}
	var last []byte
	for i := range count {
		key, err := elementKey(page, i)
		switch {
		case err != nil:
			return err
		case i > 0 && bytes.Compare(last, key) >= 0, low != nil && bytes.Compare(key, low) < 0, high != nil && bytes.Compare(key, high) >= 0:
			return fmt.Errorf("its keys are out of order at %d", i)
		}
		last = key
		at := boltPageHeader + i*boltElement
		if flags == boltLeaf {
			if native.Uint32(page[at:])&1 != 0 {
				if err := p.bucket(elementValue(page, i), depth); err != nil {
					return err
				}
			}
			continue
		}
		until := high
		if i+1 < count {
			if until, err = elementKey(page, i+1); err != nil {
				return err
			}
		}
		if err := p.tree(native.Uint64(page[at+8:]), key, until, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// elementKey returns the key of element i, and has made sure that a leaf's value
// is within the page, too.
func elementKey(page []byte, i int) ([]byte, error) {
	at := int64(boltPageHeader + i*boltElement)
	leaf := native.Uint16(page[8:]) == boltLeaf
	fields := page[at:]
	var position, keySize, valueSize int64
	if leaf {
		position, keySize, valueSize = int64(native.Uint32(fields[4:])), int64(native.Uint32(fields[8:])), int64(native.Uint32(fields[12:]))
	} else {
		position, keySize = int64(native.Uint32(fields)), int64(native.Uint32(fields[4:]))
	}
	from := at + position
	if from+keySize+valueSize > int64(len(page)) {
		return nil, fmt.Errorf("element %d does not fit", i)
	}
	return page[from : from+keySize], nil
}

// elementValue is for an element whose key was read.
func elementValue(page []byte, i int) []byte {
	at := boltPageHeader + i*boltElement
	from := at + int(native.Uint32(page[at+4:])) + int(native.Uint32(page[at+8:]))
	return page[from : from+int(native.Uint32(page[at+12:]))]
}

// bucket reads a bucket: a tree of its own, or one small leaf within its parent's.
func (p *boltPages) bucket(value []byte, depth int) error {
	if len(value) < boltBucket {
		return errors.New("a bucket does not fit")
	}
	if root := native.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, depth+1)
	}
	inline := value[boltBucket:]
	if len(inline) < boltPageHeader || native.Uint16(inline[8:]) != boltLeaf {
		return errors.New("a bucket is not what it should be")
	}
	if depth+1 >= boltMaxDepth {
		return errors.New("its buckets nest too deep")
	}
	return p.elements(inline, nil, nil, depth+1)
}

// freelist reads the list of free pages, where there is one: none of them is in use.
func (p *boltPages) freelist(id uint64) error {
	page, err := p.page(id, 0)
	if err != nil {
		return err
	}
	count, at := uint64(native.Uint16(page[10:])), boltPageHeader
	if count == 0xffff && len(page) >= boltPageHeader+8 {
		count, at = native.Uint64(page[boltPageHeader:]), boltPageHeader+8
	}
	if native.Uint16(page[8:]) != boltFreelist || count > uint64(len(page)-at)/8 {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	for i := range count {
		free := native.Uint64(page[at+int(i)*8:])
		if free < 2 || free >= p.high || p.seen[free/64]&(1<<(free%64)) != 0 {
			return fmt.Errorf("page %d is listed as free", free)
		}
		p.seen[free/64] |= 1 << (free % 64)
	}
	return nil
}
