package archtest

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// level orders the packages: imports point to a lower number only. Packages on
// one level do not import each other.
var level = map[string]int{
	"cmd/meshd": 100, "cmd/meshctl": 100,
	"test/meshtest": 95, "test/e2e": 95, "test/bench": 95, "test/powerloss": 10, "test/leftover": 10,
	"agent":     90,
	"agent/api": 80, "agent/leader": 80, "agent/worker": 80,
	"agent/auth":    70,
	"agent/meshapi": 65,
	"agent/peer":    60,
	"raftstore":     50, "gossip": 50, "executor": 50, "patcher": 50,
	"executor/document": 40,
	"internal/awsjson":  10, "internal/clock": 10, "internal/pki": 10, "internal/durable": 10, "internal/failpoint": 10, "internal/schedule": 10, "internal/archtest": 10,
}

// exceptions to "one level does not import itself", and why.
var sameLevel = map[string]string{}

// forbidden third-party imports, by prefix, with the packages that may use them
// and the reason.
var confined = []struct {
	prefix string
	only   []string
	why    string
}{
	{"github.com/hashicorp/raft", []string{"raftstore", "agent", "test/meshtest", "test/bench"}, "Raft is the store's engine; agent only lends it a network"},
	{"go.etcd.io/bbolt", []string{"raftstore"}, "one package owns the files of the store"},
	{"github.com/hashicorp/memberlist", []string{"gossip"}, "gossip tells where; nobody else speaks it"},
	{"github.com/go-json-experiment", []string{"internal/awsjson", "executor/document"}, "one package knows the wire codec; executor/document reads documents with order and place"},
	{"github.com/spf13", []string{"cmd/meshd", "cmd/meshctl"}, "flags end at the command line"},
	{"github.com/jedib0t/go-pretty", []string{"cmd/meshctl"}, "tables are for people"},
	{"github.com/coreos/go-systemd", []string{"cmd/meshd"}, "a node can run without systemd"},
	{"github.com/knqyf263", []string{"patcher"}, "versions of packages are compared where patches are chosen"},
	{"github.com/aws/aws-sdk-go-v2", []string{"internal/awsjson", "agent/api", "agent/auth", "agent/leader", "agent/meshapi", "cmd/meshctl", "patcher", "test/meshtest", "test/bench"}, "SSM's words are spoken at the API face and where states are decided"},
}

type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "fleetmesh/...")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < len(level)/2 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "fleetmesh/")
		if strings.HasPrefix(name, "test/") && len(p.GoFiles) == 0 {
			continue // holds external tests only
		}
		mine, known := level[name]
		if !known {
			if strings.HasSuffix(name, "/gen") {
				continue // generators are programs of their own
			}
			t.Errorf("package %s has no level: place it in level and in docs/architecture.md", name)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, "fleetmesh/")
			if !ours {
				continue
			}
			theirs, known := level[other]
			switch {
			case !known:
				t.Errorf("%s imports %s, which has no level", name, other)
			case theirs >= mine && sameLevel[name+" "+other] == "":
				t.Errorf("%s (level %d) imports %s (level %d): imports point down only; declare a small interface and let agent plug it in", name, mine, other, theirs)
			}
		}
	}
}

func TestLibrariesAreConfined(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "fleetmesh/")
		for _, imported := range p.Imports {
			for _, rule := range confined {
				if strings.HasPrefix(imported, rule.prefix) && !slices.Contains(rule.only, name) {
					t.Errorf("%s imports %s, which belongs to %v: %s", name, imported, rule.only, rule.why)
				}
			}
		}
	}
}

func TestEachPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatalf("parse %s: %v", file, err)
			}
			if hasText(parsed.Doc) {
				with = append(with, file)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("%s has %d package comments (%v), want one", p.ImportPath, len(with), with)
		}
	}
}

func hasText(doc *ast.CommentGroup) bool {
	return doc != nil && strings.TrimSpace(doc.Text()) != ""
}

// TestNamesSayWhatTheyOwn keeps catch-all packages out.
func TestNamesSayWhatTheyOwn(t *testing.T) {
	for _, p := range packages(t) {
		switch base := filepath.Base(p.ImportPath); base {
		case "util", "utils", "common", "helper", "helpers", "manager", "misc", "model", "types":
			t.Errorf("%s: a package is named for what it owns, not %q", p.ImportPath, base)
		}
	}
}
