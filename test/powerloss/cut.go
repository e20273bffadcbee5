package powerloss

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Image is one state that a power cut may leave.
type Image struct {
	files map[string]*content // by path below the root
	dirs  []string
}

// fate decides what becomes of what was not synced. Between extremes it is drawn
// once for each cut, so that each extreme comes up as well as all between.
type fate struct {
	random      *rand.Rand
	names, data float64 // how likely each is on the disk, 0 to 1
	torn        float64 // how likely a write is there in part
	sector      int64
}

func drawFate(r *rand.Rand) fate {
	f := fate{random: r, sector: []int64{512, pageSize}[r.IntN(2)]}
	switch r.IntN(6) {
	case 0: // nothing but what was synced
	case 1: // all of it
		f.names, f.data = 1, 1
	case 2: // names before content, as with a rename that was not waited for
		f.names = 1
	case 3:
		f.data = 1
	case 4:
		f.names, f.data, f.torn = 1, r.Float64(), r.Float64()
	default:
		f.names, f.data, f.torn = r.Float64(), r.Float64(), r.Float64()
	}
	return f
}

func (f fate) happens(p float64) bool { return f.random.Float64() < p }

// Cut makes one of the states that a power cut may leave now. The disk goes on.
func (d *Disk) Cut(r *rand.Rand) *Image {
	f := drawFate(r)
	kept := map[*node]map[string]*node{}
	for _, step := range d.names {
		if !f.happens(f.names) {
			continue
		}
		for _, part := range step.parts {
			if kept[part.dir] == nil {
				kept[part.dir] = maps.Clone(part.dir.kept)
			}
			set(kept[part.dir], part)
		}
	}
	image := &Image{files: map[string]*content{}}
	var walk func(path string, dir *node)
	walk = func(path string, dir *node) {
		names := dir.kept
		if kept[dir] != nil {
			names = kept[dir]
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			below := filepath.Join(path, name)
			if child := names[name]; child.dir {
				image.dirs = append(image.dirs, below)
				walk(below, child)
			} else {
				image.files[below] = f.content(child)
			}
		}
	}
	walk("", d.root)
	return image
}

func (f fate) content(file *node) *content {
	c := file.durable.clone() // the disk goes on
	for _, w := range file.writes {
		switch {
		case w.data != nil && f.happens(f.torn):
			f.tear(c, w)
		case f.happens(f.data):
			w.apply(c)
		}
	}
	return c
}

// tear writes some sectors of w: its beginning, its end, or any.
func (f fate) tear(c *content, w *change) {
	first, end := w.offset/f.sector, (w.offset+int64(len(w.data))+f.sector-1)/f.sector
	within := first + f.random.Int64N(end-first+1)
	style := f.random.IntN(3)
	for s := first; s < end; s++ {
		if style == 0 && s >= within || style == 1 && s < within || style == 2 && f.happens(0.5) {
			continue
		}
		from, to := max(s*f.sector, w.offset), min((s+1)*f.sector, w.offset+int64(len(w.data)))
		c.put(from, w.data[from-w.offset:to-w.offset])
	}
	// The length may be the whole's although the content is not.
	if f.happens(0.5) {
		c.size = max(c.size, w.offset+int64(len(w.data)))
	}
}

// Write makes the image's files below dir, which is there and empty.
func (i *Image) Write(dir string) error {
	for _, path := range i.dirs {
		if err := os.Mkdir(filepath.Join(dir, path), 0o700); err != nil {
			return fmt.Errorf("write what a power cut left: %w", err)
		}
	}
	for path, c := range i.files {
		if err := c.write(filepath.Join(dir, path)); err != nil {
			return fmt.Errorf("write what a power cut left: %w", err)
		}
	}
	return nil
}

// File returns a file's content, which is meant to be small.
func (i *Image) File(path string) (data []byte, ok bool) {
	c := i.files[path]
	if c == nil {
		return nil, false
	}
	return c.bytes(), true
}

// Sum tells images apart.
func (i *Image) Sum() [sha256.Size]byte {
	hash := sha256.New()
	for _, path := range i.dirs {
		fmt.Fprintf(hash, "%q/\n", path)
	}
	for _, path := range slices.Sorted(maps.Keys(i.files)) {
		fmt.Fprintf(hash, "%q %x\n", path, i.files[path].sum())
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// Disk is a disk that holds the image, all of it durable, as if it lay at path.
func (i *Image) Disk(path string) *Disk {
	d := &Disk{path: filepath.Clean(path), root: newDir(), under: map[*Op]func(){}, strange: map[string]bool{}}
	at := func(below string) (*node, string) {
		dir, name := filepath.Split(below)
		return d.find(filepath.Join(d.path, dir)), name
	}
	put := func(below string, n *node) {
		parent, name := at(below)
		parent.children[name], parent.kept[name] = n, n
	}
	for _, dir := range i.dirs { // each after its parent
		put(dir, newDir())
	}
	for below, c := range i.files {
		put(below, &node{durable: c.clone(), length: c.size})
	}
	return d
}
