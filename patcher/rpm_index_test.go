package patcher

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOffersIndex(t *testing.T) {
	want := []offered{
		{Package{"lib", "x86_64", "1:2-3"}, time.Unix(1700000000, 0).UTC(), "A vendor <of\tthings>"},
		{Package{"end 1", "noarch", "0:1-1"}, time.Time{}, ""},
	}
	index := offersIndex{path: filepath.Join(t.TempDir(), "repository"), checksum: "abc"}
	if err := index.read(func(offered) { t.Error("told of nothing") }); !errors.Is(err, errNoIndex) {
		t.Errorf("without a file: %v", err)
	}
	var told []offered
	err := index.write(func(each func(offered)) error {
		for _, o := range want {
			each(o)
		}
		return nil
	}, func(o offered) { told = append(told, o) })
	if err != nil || !slices.Equal(told, want) {
		t.Fatalf("told %v, %v", told, err)
	}
	want[0].vendor = "A vendor <of things>"
	var got []offered
	if err := index.read(func(o offered) { got = append(got, o) }); err != nil || !slices.Equal(got, want) {
		t.Errorf("read %v, %v", got, err)
	}
	other := offersIndex{path: index.path, checksum: "abcd"}
	if err := other.read(func(offered) { t.Error("told of other metadata") }); !errors.Is(err, errNoIndex) {
		t.Errorf("with another checksum: %v", err)
	}
	text, err := os.ReadFile(index.path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) - 1 {
		if err := readOffers(bytes.NewReader(text[:cut]), "abc", func(offered) {}); err == nil {
			t.Errorf("cut at %d of %d it is taken", cut, len(text))
		}
	}
	// What cannot be read through leaves no index.
	fails := errors.New("broken metadata")
	broken := offersIndex{path: filepath.Join(t.TempDir(), "broken"), checksum: "abc"}
	if err := broken.write(func(each func(offered)) error { each(want[0]); return fails }, func(offered) {}); !errors.Is(err, fails) {
		t.Errorf("broken metadata: %v", err)
	}
	if files, err := os.ReadDir(filepath.Dir(broken.path)); err != nil || len(files) != 0 {
		t.Errorf("left: %v, %v", files, err)
	}
}

func FuzzOffers(f *testing.F) {
	f.Add([]byte("offers 1 abc\nlib\tx86_64\t0:1-1\t1700000000\tv\n\tend 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readOffers(bytes.NewReader(data), "abc", func(o offered) {
			if o.Name == "" || o.Arch == "" || o.Version == "" || strings.Contains(o.Name, "\t") {
				t.Errorf("half an offer: %+v", o)
			}
		})
	})
}
