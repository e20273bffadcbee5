package api

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTrail: reads and denials are told on the node that answers, changes in the
// store only.
func TestTrail(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	b.leader.trail.path = path
	b.do(b.request(b.leaderURL, "AmazonSSM.ListCommands", `{}`, time.Now(), nil))
	b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), nil))
	b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", strings.Replace(sendBody, memberID, nodeID(99), 1), time.Now(), nil))
	b.do(b.request(b.leaderURL, "AmazonSSM.PutParameter", `{}`, time.Now(), nil))
	unknown := b.request(b.leaderURL, "AmazonSSM.ListCommands", `{}`, time.Now(), nil)
	replaceAuthorization(adminKeyID, "FMKATESTNOBODY000000")(unknown)
	b.do(unknown)

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		var e trailEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Time.IsZero() || e.RequestID == "" || e.SourceIP != "127.0.0.1" {
			t.Errorf("line %s", line)
		}
		got = append(got, e.Operation+" "+e.Caller+" "+e.Outcome)
	}
	want := []string{
		"ListCommands " + adminKeyID + " ok", "SendCommand " + adminKeyID + " InvalidInstanceId",
		"PutParameter  UnknownOperationException", "ListCommands  UnrecognizedClientException",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestTrailIsBounded(t *testing.T) {
	log := &logBuffer{}
	tr := &trail{path: filepath.Join(t.TempDir(), "audit.log"), limit: 1000, log: newTextLog(log)}
	for range 100 {
		tr.note(trailEntry{Operation: "ListCommands", Outcome: outcomeOK})
	}
	for _, path := range []string{tr.path, tr.path + ".1"} {
		if info, err := os.Stat(path); err != nil || info.Size() > 1000 || info.Size() == 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	tr.path = filepath.Join(t.TempDir(), "missing", "audit.log")
	for range 5 {
		tr.note(trailEntry{Outcome: outcomeOK})
	}
	if n := strings.Count(log.String(), "local audit file"); n != 1 {
		t.Errorf("the log was told %d times", n)
	}
}
