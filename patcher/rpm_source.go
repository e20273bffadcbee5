package patcher

import (
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// rpmRepository is a repository whose metadata is in a directory: repodata/repomd.xml
// and what that names, as dnf and libzypp keep it.
type rpmRepository struct {
	id  string
	dir string
	// indexes is the directory of the repositories' indexes, "" for none.
	indexes string
}

// head reads the repomd.xml, and tells when that was written here.
func (r rpmRepository) head() (repomd, time.Time, error) {
	file, err := os.Open(filepath.Join(r.dir, "repodata", "repomd.xml"))
	if err != nil {
		return repomd{}, time.Time{}, fmt.Errorf("repository %s: %w", r.id, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return repomd{}, time.Time{}, fmt.Errorf("repository %s: %w", r.id, err)
	}
	head, err := readRepomd(file)
	if err != nil {
		return repomd{}, time.Time{}, fmt.Errorf("repository %s: %w", r.id, err)
	}
	return head, info.ModTime().UTC(), nil
}

// read adds what the repository offers and says to the catalogue, and returns what is
// to tell of it.
func (r rpmRepository) read(ctx context.Context, root string, catalog *rpmCatalog) (Source, error) {
	source := Source{Name: r.id}
	head, written, err := r.head()
	if err != nil {
		return source, err
	}
	source.Fetched = written
	source.Updated = head.made
	primary, ok := head.files["primary"]
	if !ok {
		return source, fmt.Errorf("repository %s has no primary metadata", r.id)
	}
	// libdnf marks the time of its last look at the publisher on this file.
	if info, err := os.Stat(filepath.Join(r.dir, primary)); err == nil && info.ModTime().After(source.Fetched) {
		source.Fetched = info.ModTime().UTC()
	}
	if err := r.offers(ctx, root, head, func(o offered) { catalog.offer(r.id, o) }); err != nil {
		return source, fmt.Errorf("repository %s: %w", r.id, err)
	}
	updateinfo, ok := head.files["updateinfo"]
	if !ok {
		return source, nil
	}
	err = openPacked(ctx, root, filepath.Join(r.dir, updateinfo), func(in io.Reader) error {
		count, err := readUpdateinfo(in, catalog.wants, catalog.notice)
		catalog.notices += count
		return err
	})
	if err != nil {
		return source, fmt.Errorf("repository %s: %w", r.id, err)
	}
	return source, nil
}

// offers calls each for what the repository has, from its index if there is one.
func (r rpmRepository) offers(ctx context.Context, root string, head repomd, each func(offered)) error {
	fill := func(each func(offered)) error {
		return openPacked(ctx, root, filepath.Join(r.dir, head.files["primary"]), func(in io.Reader) error { return readPrimary(in, each) })
	}
	if r.indexes == "" || head.primarySum == "" || os.MkdirAll(r.indexes, 0o700) != nil {
		return fill(each)
	}
	index := offersIndex{path: filepath.Join(r.indexes, strings.ReplaceAll(r.id, "/", "_")), checksum: head.primarySum}
	if index.read(each) == nil {
		return nil
	}
	return index.write(fill, each)
}

// openPacked gives read the content of a file, which its name says how it is packed:
// gzip and bzip2 are unpacked here, xz and zstd by the machine's program.
func openPacked(ctx context.Context, root, path string, read func(io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	name := filepath.Base(path)
	switch filepath.Ext(path) {
	case ".gz":
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
		return read(unpacked)
	case ".bz2":
		return read(bzip2.NewReader(file))
	case ".xz", ".lzma":
		return unpackWith(ctx, "xz", path, read)
	case ".zst":
		return unpackWith(ctx, "zstd", path, read)
	case ".xml":
		return read(file)
	}
	return fmt.Errorf("%s is packed in an unknown way", name)
}

// unpackWith reads what program -dc prints of a file.
func unpackWith(ctx context.Context, program, path string, read func(io.Reader) error) error {
	result, err := tool{Name: program, Args: []string{"-dc", "--", path}, Stdout: read}.run(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("unpack %s: %w", filepath.Base(path), err)
	case result.Code != 0:
		return fmt.Errorf("unpack %s: %s: %s", filepath.Base(path), program, result.lastWords())
	}
	return nil
}

// exists tells whether there is a file, whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// within is a path of the machine as a program sees it whose root is Setup.Root.
func (h rpmHost) within(path string) string {
	root := filepath.Clean(h.setup.Root)
	if root == "/" || root == "." {
		return path
	}
	if rest, ok := strings.CutPrefix(path, root+"/"); ok {
		return "/" + rest
	}
	return path
}

// file is a path of the machine as this program sees it.
func (h rpmHost) file(path string) string { return filepath.Join("/", h.setup.Root, path) }
