package peer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fleetmesh/raftstore"
)

func TestGateSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.json")
	gate, err := OpenGate(path, testMeshID)
	if err != nil {
		t.Fatal(err)
	}
	if gate.Term() != 0 || gate.Roster().Version != 0 {
		t.Errorf("a new gate has term %d, roster %d", gate.Term(), gate.Roster().Version)
	}
	var seen []uint64
	gate.Subscribe(func(r raftstore.Roster) { seen = append(seen, r.Version) })
	for _, test := range []struct {
		version uint64
		changed bool
	}{{2, true}, {2, false}, {1, false}, {5, true}} {
		changed, err := gate.Update(raftstore.Roster{Version: test.version, MeshID: testMeshID})
		if err != nil || changed != test.changed {
			t.Errorf("version %d: changed %t, %v", test.version, changed, err)
		}
	}
	if len(seen) != 2 || seen[0] != 2 || seen[1] != 5 {
		t.Errorf("subscribers saw %v", seen)
	}
	for _, test := range []struct {
		term uint64
		ok   bool
	}{{3, true}, {3, true}, {2, false}, {9, true}, {8, false}} {
		err := gate.Admit(test.term)
		if test.ok && err != nil {
			t.Errorf("term %d: %v", test.term, err)
		}
		if !test.ok {
			wantRefusal(t, err, RefusedStaleTerm)
		}
	}
	if _, err := gate.Update(raftstore.Roster{Version: 100, MeshID: "another"}); err == nil {
		t.Error("another mesh's roster is taken")
	}

	again, err := OpenGate(path, testMeshID)
	if err != nil {
		t.Fatal(err)
	}
	if again.Term() != 9 || again.Roster().Version != 5 {
		t.Errorf("after a restart: term %d, roster %d", again.Term(), again.Roster().Version)
	}
	wantRefusal(t, again.Admit(8), RefusedStaleTerm)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := OpenGate(path, "another"); err == nil {
		t.Error("another mesh's gate is opened")
	}
}

func TestGateRefusesFilesItCannotRead(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut": `{"Version":1,"Ter`, "newer": `{"Version":2,"Roster":{"MeshID":"` + testMeshID + `"}}`, "no version": `{}`,
	} {
		path := filepath.Join(t.TempDir(), "gate.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenGate(path, testMeshID); err == nil {
			t.Errorf("%s: opened", name)
		} else if name == "newer" && !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What could not be written is not in force.
func TestGateThatCannotWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	gate, err := OpenGate(filepath.Join(dir, "gate.json"), testMeshID)
	if err != nil {
		t.Fatal(err)
	}
	// Even root makes nothing below a file.
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := gate.Admit(7); err == nil || gate.Term() != 0 {
		t.Errorf("%v, term %d", err, gate.Term())
	}
	if refusal := (*Refusal)(nil); errors.As(gate.Admit(7), &refusal) {
		t.Error("a full disk is told as a stale term")
	}
	if _, err := gate.Update(raftstore.Roster{Version: 1, MeshID: testMeshID}); err == nil || gate.Roster().Version != 0 {
		t.Errorf("%v, roster %d", err, gate.Roster().Version)
	}
}

func TestGateUnderConcurrency(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.json")
	gate, err := OpenGate(path, testMeshID)
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	gate.Subscribe(func(r raftstore.Roster) {
		if r.Version < last {
			t.Errorf("roster %d comes after %d", r.Version, last)
		}
		last = r.Version
	})
	const most = 50
	var running sync.WaitGroup
	for i := range uint64(most) {
		running.Go(func() {
			if _, err := gate.Update(raftstore.Roster{Version: i + 1, MeshID: testMeshID}); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() {
			if err := gate.Admit(i + 1); err != nil && gate.Term() <= i+1 {
				t.Errorf("term %d is refused at %d: %v", i+1, gate.Term(), err)
			}
		})
	}
	running.Wait()
	again, err := OpenGate(path, testMeshID)
	if err != nil {
		t.Fatal(err)
	}
	if again.Term() != most || again.Roster().Version != most || last != most {
		t.Errorf("term %d, roster %d, last seen %d; want %d", again.Term(), again.Roster().Version, last, most)
	}
}
