package patcher

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// patchesVariable names a directory of AWS's default baselines, real inputs of
// CreatePatchBaseline and override lists; its default lies beside the repository. They
// are not part of it.
const patchesVariable = "FLEETMESH_PATCHES"

// realFiles are the files of a part of that directory, by name; nothing, and a
// sentence in the log, where there is none.
func realFiles(t *testing.T, part, pattern string) map[string][]byte {
	t.Helper()
	dir := os.Getenv(patchesVariable)
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "patch")
	}
	names, err := filepath.Glob(filepath.Join(dir, part, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Logf("there are no real files in %s: the cases of the tests stand alone (%s names another directory)", filepath.Join(dir, part), patchesVariable)
	}
	files := make(map[string][]byte)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = data
	}
	return files
}

func TestRealOverrideLists(t *testing.T) {
	for name, data := range realFiles(t, "install-override-list", "*.yaml") {
		list, err := ParseOverrideList(data)
		if err != nil || len(list.Patches) != 5 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func TestParseOverrideList(t *testing.T) {
	list, err := ParseOverrideList([]byte("comment: ours\npatches:\n    -\n        id: 'bind*.x86_64'\n        title: '*1:1.10.2-14.el7_5'\n        other: {a: b}\n    - id: 4494440\n      title: ~\n    - {id: ' a.amd64 '}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []OverridePatch{{"bind*.x86_64", "*1:1.10.2-14.el7_5"}, {"4494440", ""}, {"a.amd64", ""}}
	if len(list.Patches) != len(want) {
		t.Fatalf("got %+v", list.Patches)
	}
	for i := range want {
		if list.Patches[i] != want[i] {
			t.Errorf("patch %d: got %+v, want %+v", i+1, list.Patches[i], want[i])
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no list": "patches: {a: b}", "no patches": "patches: []", "no id": "patches: [{title: a}]", "blank id": "patches: [{id: '  '}]",
		"no YAML": "patches: [", "a word": "hello", "binary": "\x00\xff", "list of words": "patches: [a, b]",
		"bomb": bomb(), "too long": "patches: [{id: a}]\n#" + strings.Repeat("x", maxOverride),
	} {
		if _, err := ParseOverrideList([]byte(text)); !errors.Is(err, ErrInvalidOverride) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bomb is a small YAML that is huge when its aliases are followed.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		n := string(rune('0' + i))
		p := string(rune('0' + i - 1))
		b.WriteString("a" + n + ": &a" + n + " [" + strings.TrimSuffix(strings.Repeat("*a"+p+", ", 9), ", ") + "]\n")
	}
	b.WriteString("patches: *a8\n")
	return b.String()
}

func TestOverridePatchNames(t *testing.T) {
	deb, rpm := parsePackage("apt.amd64:1.2.27"), parsePackage("NetworkManager-libs.x86_64:1:1.10.2-14.el7_5")
	for _, test := range []struct {
		entry OverridePatch
		p     Package
		want  bool
	}{
		{OverridePatch{"apt.amd64", ""}, deb, true},
		{OverridePatch{"apt", ""}, deb, false},
		{OverridePatch{"apt.*", "*1.2.27"}, deb, true},
		{OverridePatch{"apt.amd64", "apt.amd64:1.2.27"}, deb, true},
		{OverridePatch{"apt.amd64", "1.2.27"}, deb, true}, // as AWS's own example has it
		{OverridePatch{"apt.amd64", "1.2.2"}, deb, false},
		{OverridePatch{"apt.amd64", "*1.2.25"}, deb, false},
		{OverridePatch{"*", "*"}, deb, true},
		{OverridePatch{"NetworkManager-*.x86_64", "*1:1.10.2-14.el7_5"}, rpm, true},
		{OverridePatch{"NetworkManager-*.x86_64", "*:1.10.2*"}, rpm, true},
		{OverridePatch{"NetworkManager.x86_64", ""}, rpm, false},
		{OverridePatch{"N*M*-l*.x86_64", "N*:1:1.10*el7*"}, rpm, true},
	} {
		if got := test.entry.names(test.p); got != test.want {
			t.Errorf("%+v names %s: %v", test.entry, test.p.Title(), got)
		}
	}
}

func TestParseBaselineOverride(t *testing.T) {
	const rule = `{"PatchFilterGroup":{"PatchFilters":[{"Key":"PRIORITY","Values":["Required"]}]},"ApproveAfterDays":0,"ComplianceLevel":"HIGH"}`
	list, err := ParseBaselineOverride([]byte(`[
	 {"BaselineId":"arn:aws:ssm:us-east-1:075727635805:patchbaseline/pb-09a5f8eb62bde80b1","OperatingSystem":"DEBIAN","CreatedDate":"2020-01-01",
	  "PatchGroups":["a"],"ApprovalRules":{"PatchRules":[` + rule + `]},"RejectedPatches":["a"],"RejectedPatchesAction":"BLOCK"},
	 {"OperatingSystem":"SUSE","ApprovedPatches":["b"]}]`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ChooseBaseline(list, "DEBIAN")
	if err != nil || b.RejectedPatchesAction != "BLOCK" || len(b.ApprovalRules.PatchRules) != 1 || b.ApprovalRules.PatchRules[0].ComplianceLevel != "HIGH" {
		t.Errorf("got %+v, %v", b, err)
	}
	if b.BaselineId != "" {
		t.Error("an override has the id of a predefined baseline, and with it its rule for delays")
	}
	if _, err := ChooseBaseline(list, "UBUNTU"); !errors.Is(err, ErrInvalidOverride) {
		t.Errorf("UBUNTU: %v", err)
	}
	if _, err := ChooseBaseline(append(list, list...), "SUSE"); !errors.Is(err, ErrInvalidOverride) {
		t.Errorf("two of SUSE: %v", err)
	}
	for name, text := range map[string]string{
		"empty": "", "no list": `{"OperatingSystem":"SUSE"}`, "empty list": "[]", "two lists": `[{"OperatingSystem":"SUSE"}] []`, "no JSON": "[{",
		"null": "null", "a wrong type": `[{"ApprovedPatches":"a"}]`, "an invalid rule": `[{"OperatingSystem":"DEBIAN","ApprovalRules":{"PatchRules":[{}]}}]`,
		"an unknown system": `[{"OperatingSystem":"PLAN9"}]`, "too long": "[" + strings.Repeat(" ", maxOverride) + "]",
	} {
		if _, err := ParseBaselineOverride([]byte(text)); !errors.Is(err, ErrInvalidOverride) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRealBaselinesAsOverride: what GetPatchBaseline writes is a baseline override.
func TestRealBaselinesAsOverride(t *testing.T) {
	for name, data := range realFiles(t, "aws-default-baselines", "*.json") {
		list, err := ParseBaselineOverride([]byte("[" + string(data) + "]"))
		if err != nil || len(list) != 1 || list[0].ApprovalRules == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseOverrideList(f *testing.F) {
	f.Add([]byte("patches:\n    -\n        id: 'apt.amd64'\n        title: '*1.2.27'\n"), "apt.amd64:1.2.27")
	f.Add([]byte("patches: [{id: 1}, {id: '*'}]"), "a.b:c")
	f.Add([]byte(bomb()), "")
	f.Fuzz(func(t *testing.T, data []byte, title string) {
		list, err := ParseOverrideList(data)
		if err != nil {
			if !errors.Is(err, ErrInvalidOverride) {
				t.Errorf("the error is no ErrInvalidOverride: %v", err)
			}
			return
		}
		if len(list.Patches) == 0 {
			t.Error("a list without patches was taken")
		}
		id, version, _ := strings.Cut(title, ":")
		c := Candidate{Package: Package{Name: id, Arch: "all", Version: version}, Replaces: "0"}
		Evaluate(nil, bookworm, &Inventory{Manager: "apt", Candidates: []Candidate{c}},
			EvaluateOptions{Operation: types.PatchOperationTypeInstall, Override: list})
	})
}

func FuzzParseBaselineOverride(f *testing.F) {
	f.Add([]byte(`[{"OperatingSystem":"DEBIAN","ApprovalRules":{"PatchRules":[{"PatchFilterGroup":{"PatchFilters":[{"Key":"PRODUCT","Values":["*"]}]},"ApproveUntilDate":"2026-01-01"}]},"ApprovedPatches":["a"]}]`))
	f.Add([]byte(`[{"OperatingSystem":"SUSE","GlobalFilters":null,"Sources":[{"Name":"abc","Products":["*"],"Configuration":"[a]"}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseBaselineOverride(data)
		if err != nil {
			if !errors.Is(err, ErrInvalidOverride) {
				t.Errorf("the error is no ErrInvalidOverride: %v", err)
			}
			return
		}
		inv := inventory("apt", []Installed{have("a.all:1")}, offer("a.all:2", "1", by(secSuite)))
		for i := range list {
			Evaluate(&list[i], bookworm, inv, EvaluateOptions{Now: testNow})
			again, err := json.Marshal(list[i : i+1])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseBaselineOverride(again); err != nil {
				t.Errorf("what was taken is refused when it is written: %v\n%s", err, again)
			}
		}
	})
}
