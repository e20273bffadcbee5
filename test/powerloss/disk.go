package powerloss

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Disk is what lies below one directory, as programs see it and as the disk owes
// it. It is played event by event and is not safe for concurrent use.
type Disk struct {
	path  string
	root  *node
	names []*naming // not durable yet, in their order
	// under holds what the calls in flight will have done.
	under map[*Op]func()
	// strange are paths that calls named and that were never made here, like
	// sockets: nothing is known of them.
	strange map[string]bool
}

// node is a file or a directory, whatever it is called.
type node struct {
	dir bool
	// Of a directory: its names as programs see them, and the durable ones.
	children, kept map[string]*node

	// Of a file: the durable content and what was written since, in order.
	durable *content
	writes  []*change
	// length as programs see it; place and append say where the next write goes
	// that does not say it. One descriptor at a time writes that way.
	length, place int64
	append        bool
}

// naming is one step of names: each name stands for the node then, or for none.
type naming struct {
	parts []namePart
	done  bool
}

type namePart struct {
	dir  *node
	name string
	node *node
}

// change is one write, or with no data a new length.
type change struct {
	offset int64
	data   []byte
	size   int64
	done   bool
}

// New is a disk that holds what lies below path now, all of it durable. path
// itself is always there.
func New(path string) (*Disk, error) {
	root, err := loadNode(path)
	if err != nil {
		return nil, err
	}
	return &Disk{path: filepath.Clean(path), root: root, under: map[*Op]func(){}, strange: map[string]bool{}}, nil
}

func newDir() *node { return &node{dir: true, children: map[string]*node{}, kept: map[string]*node{}} }

func loadNode(path string) (*node, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("load what was there before: %w", err)
	}
	dir := newDir()
	for _, entry := range entries {
		var child *node
		below := filepath.Join(path, entry.Name())
		switch {
		case entry.IsDir():
			child, err = loadNode(below)
		case entry.Type().IsRegular():
			child = &node{}
			if child.durable, err = load(below); err == nil {
				child.length = child.durable.size
			}
		default:
			continue // sockets do not survive a power cut as more than a name
		}
		if err != nil {
			return nil, err
		}
		dir.children[entry.Name()], dir.kept[entry.Name()] = child, child
	}
	return dir, nil
}

// Strange lists the paths of calls that could not be followed.
func (d *Disk) Strange() []string {
	var paths []string
	for path := range d.strange {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// within returns the names that lead from the root to path.
func (d *Disk) within(path string) ([]string, bool) {
	if path == d.path {
		return nil, true
	}
	below, ok := strings.CutPrefix(path, d.path+"/")
	if !ok {
		return nil, false
	}
	return strings.Split(below, "/"), true
}

// find returns the node at path, nil when there is none.
func (d *Disk) find(path string) *node {
	names, ok := d.within(path)
	if !ok {
		return nil
	}
	at := d.root
	for _, name := range names {
		if at == nil || !at.dir {
			return nil
		}
		at = at.children[name]
	}
	return at
}

// Play takes the next event.
func (d *Disk) Play(e Event) {
	if e.End {
		if finish := d.under[e.Op]; finish != nil {
			finish()
		}
		delete(d.under, e.Op)
		return
	}
	if finish := d.begin(e.Op); finish != nil {
		d.under[e.Op] = finish
	}
}

// begin does what a call may do from now on, and returns what its end does.
func (d *Disk) begin(op *Op) (finish func()) {
	_, from := d.within(op.Path)
	_, to := d.within(op.To)
	if !from && !to {
		return nil
	}
	file := d.find(op.Path)
	parent, name := d.find(filepath.Dir(op.Path)), filepath.Base(op.Path)
	switch op.Kind {
	case Open:
		return d.open(op, file, parent, name)
	case MakeDir:
		if parent != nil && file == nil {
			return d.name(namePart{parent, name, newDir()})
		}
	case Remove:
		if file != nil {
			return d.name(namePart{parent, name, nil})
		}
	case Rename:
		target := d.find(filepath.Dir(op.To))
		switch {
		case file != nil && target != nil:
			return d.name(namePart{parent, name, nil}, namePart{target, filepath.Base(op.To), file})
		case file != nil:
			return d.name(namePart{parent, name, nil})
		}
	case Sync:
		if file != nil {
			return d.sync(file)
		}
	case Seek:
		if file != nil {
			return func() { file.place = op.Offset }
		}
	case Truncate:
		if file != nil {
			return file.change(&change{size: op.Size})
		}
	case Write:
		if file != nil {
			return file.write(op)
		}
	}
	d.strange[op.Path] = true
	return nil
}

func (d *Disk) open(op *Op, file, parent *node, name string) func() {
	var made, emptied func()
	if file == nil {
		if !op.Create || parent == nil {
			return nil // a socket, or a directory that was not traced
		}
		file = &node{durable: &content{}}
		made = d.name(namePart{parent, name, file})
	}
	if file.dir {
		return nil
	}
	file.place, file.append = 0, op.Append
	if op.Empty && file.length > 0 {
		emptied = file.change(&change{size: 0})
	}
	return func() {
		if made != nil {
			made()
		}
		if emptied != nil {
			emptied()
		}
	}
}

// name takes a step of names.
func (d *Disk) name(parts ...namePart) func() {
	for _, part := range parts {
		set(part.dir.children, part)
	}
	step := &naming{parts: parts}
	d.names = append(d.names, step)
	return func() { step.done = true }
}

func set(names map[string]*node, part namePart) {
	if part.node == nil {
		delete(names, part.name)
	} else {
		names[part.name] = part.node
	}
}

func (f *node) write(op *Op) func() {
	at := op.Offset
	if at < 0 {
		if at = f.place; f.append {
			at = f.length
		}
		f.place = at + int64(len(op.Data))
	}
	return f.change(&change{offset: at, data: op.Data})
}

func (f *node) change(c *change) func() {
	if c.data == nil {
		f.length = c.size
	} else {
		f.length = max(f.length, c.offset+int64(len(c.data)))
	}
	f.writes = append(f.writes, c)
	return func() { c.done = true }
}

func (c *change) apply(to *content) {
	if c.data == nil {
		to.truncate(c.size)
	} else {
		to.put(c.offset, c.data)
	}
}

// sync makes durable, at its end, what was done before its beginning.
func (d *Disk) sync(file *node) func() {
	if !file.dir {
		covered := map[*change]bool{}
		for _, c := range file.writes {
			covered[c] = c.done
		}
		return func() {
			var left []*change
			for _, c := range file.writes {
				if covered[c] {
					c.apply(file.durable)
				} else {
					left = append(left, c)
				}
			}
			file.writes = left
		}
	}
	covered := map[*naming]bool{}
	for _, step := range d.names {
		covered[step] = step.done && slices.ContainsFunc(step.parts, func(p namePart) bool { return p.dir == file })
	}
	return func() {
		var left []*naming
		for _, step := range d.names {
			if !covered[step] {
				left = append(left, step)
				continue
			}
			for _, part := range step.parts {
				set(part.dir.kept, part)
			}
		}
		d.names = left
	}
}
