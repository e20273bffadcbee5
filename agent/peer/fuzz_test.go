package peer

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRoutes feeds every route with foreign bytes, past the connection's checks:
// no panic, and what is not the route's JSON is refused as input.
func FuzzRoutes(f *testing.F) {
	f.Add("jobs", []byte(`{"Term":1,"Jobs":[{"CommandID":"c","Document":{"a":[1]},"StartWithin":60000000000}]}`))
	f.Add("roster", []byte(`{"Term":1,"Roster":{"Version":2,"MeshID":"x","Members":[{"NodeID":"n"}]}}`))
	f.Add("report", []byte(`{"Reports":[{"CommandID":"c","Plugins":[{}]}]}`))
	f.Add("forward", []byte(`{"Method":"POST","Header":{"A":["b"]},"Body":"AAAA"}`))
	f.Add("promote", []byte(`{"MeshKey":"!"}`))
	f.Add("output", []byte(`{"Offset":-1,"Limit":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		gate, err := OpenGate(filepath.Join(t.TempDir(), "gate.json"), testMeshID)
		if err != nil {
			t.Fatal(err)
		}
		handlers := &recorder{node: &node{gate: gate}}
		routes := newRoutes(Config{Gate: gate, Log: testLog(t)}, handlers)
		entry, ok := routes.table[name]
		if !ok {
			return
		}
		answer, err := entry.serve(t.Context(), Caller{NodeID: "n"}, body)
		if !json.Valid(body) {
			wantRefusal(t, err, RefusedInput)
			if handlers.seen("") != 0 {
				t.Error("the handler ran")
			}
			return
		}
		if err == nil {
			if _, err := json.Marshal(answer); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzDecodeRefusal reads whatever a peer answers.
func FuzzDecodeRefusal(f *testing.F) {
	f.Add(403, []byte(`{"Kind":"forbidden","Message":"no"}`))
	f.Add(421, []byte(`{"Kind":"not-leader","Leader":"h:1","LeaderID":"mi-1"}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		refusal, err := decodeRefusal(status, body)
		if err == nil && (refusal == nil || refusal.Kind == "" || refusal.Error() == "") {
			t.Errorf("refusal %+v", refusal)
		}
	})
}

func FuzzGateFile(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Term":7,"Roster":{"Version":1,"MeshID":"` + testMeshID + `"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "gate.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if gate, err := OpenGate(path, testMeshID); err == nil && gate.Roster().MeshID != testMeshID {
			t.Error("another mesh's gate is opened")
		}
	})
}

func TestStatusesAndKinds(t *testing.T) {
	for _, kind := range []RefusalKind{RefusedNotLeader, RefusedForbidden, RefusedStaleTerm, RefusedInput, RefusedUnavailable, RefusedInternal} {
		body, err := json.Marshal(&Refusal{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		refusal, err := decodeRefusal(statusOf(kind), body)
		if err != nil || refusal.Kind != kind || !strings.Contains(refusal.Message, string(kind)) {
			t.Errorf("%s comes back as %+v, %v", kind, refusal, err)
		}
		if _, err := decodeRefusal(http.StatusTeapot, body); err == nil {
			t.Errorf("%s with another status is taken", kind)
		}
	}
}
