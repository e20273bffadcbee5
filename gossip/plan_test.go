package gossip

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestPlanAttempt(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	for name, test := range map[string]struct {
		attempts map[string]*attempt
		slots    int
		earliest time.Time
		address  string
		wait     time.Duration
	}{
		"nobody":               {nil, 4, now, "", -1},
		"the one due longest":  {map[string]*attempt{"a": {next: at(-1)}, "b": {next: at(-2)}}, 4, now, "b", 0},
		"not one that runs":    {map[string]*attempt{"a": {next: at(-1)}, "b": {next: at(-2), running: true}}, 4, now, "a", 0},
		"not one given up":     {map[string]*attempt{"z": {next: at(-1)}}, 4, now, "", -1},
		"none is due":          {map[string]*attempt{"a": {next: at(5)}, "b": {next: at(3)}}, 4, now, "", 3 * time.Second},
		"no slot":              {map[string]*attempt{"a": {next: at(-1)}}, 0, now, "", -1},
		"too soon for another": {map[string]*attempt{"a": {next: at(-1)}}, 4, at(2), "", 2 * time.Second},
	} {
		address, wait := planAttempt([]string{"a", "b"}, test.attempts, test.slots, test.earliest, now)
		if address != test.address || wait != test.wait {
			t.Errorf("%s: %q in %s", name, address, wait)
		}
	}
}

func TestPauseAfter(t *testing.T) {
	for _, test := range []struct {
		tries int
		alone bool
		want  time.Duration
	}{
		{1, false, time.Second}, {2, false, 2 * time.Second}, {5, false, 16 * time.Second},
		{6, false, 30 * time.Second}, {1 << 30, false, 30 * time.Second},
		{1, true, time.Second}, {4, true, 5 * time.Second}, {1 << 30, true, 5 * time.Second},
	} {
		if got := pauseAfter(test.tries, test.alone, time.Second, 30*time.Second); got != test.want {
			t.Errorf("after %d, alone %v: %s", test.tries, test.alone, got)
		}
	}
}

func TestPlanSpread(t *testing.T) {
	announces := func(v uint64) *member { return &member{alive: true, meta: meta{Tags: tagMark{Version: v}}} }
	has := func(v uint64, stored bool) *tagCopy { return &tagCopy{mark: tagMark{Version: v}, stored: stored} }
	members := map[string]*member{
		"self": announces(9), "ask": announces(3), "unheard": announces(1), "tell": announces(1),
		"not-mine": announces(1), "same": announces(2), "new": announces(0), "dead": {meta: meta{Tags: tagMark{Version: 9}}},
	}
	tags := map[string]*tagCopy{
		"ask": has(2, true), "tell": has(2, true), "not-mine": has(2, false), "same": has(2, true),
		"new": has(0, true), "absent": has(1, true),
	}
	work := planSpread("self", members, tags)
	if !slices.Equal(work.ask, []string{"ask", "unheard"}) || !slices.Equal(work.tell, []string{"tell"}) {
		t.Errorf("%+v", work)
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		key  string
		at   time.Duration
		want bool
	}{
		{"a", 0, true}, {"a", time.Second, false}, {"b", time.Second, true}, {"a", time.Minute, true}, {"a", 61 * time.Second, false},
	} {
		if got := l.allow(step.key, now.Add(step.at)); got != step.want {
			t.Errorf("%s at %s: %v", step.key, step.at, got)
		}
	}
	for i := range 2 * limitKeys {
		l.allow(strings.Repeat("x", i), now.Add(62*time.Second))
	}
	if len(l.last) != limitKeys {
		t.Errorf("%d keys remembered", len(l.last))
	}
	if !l.allow("later", now.Add(time.Hour)) || len(l.last) != 1 {
		t.Errorf("%d keys remembered later", len(l.last))
	}
}

func TestJudgeMemberlistLines(t *testing.T) {
	for text, want := range map[string]struct {
		level   slog.Level
		limited bool
		message string
	}{
		"[DEBUG] memberlist: Stream connection from=1.2.3.4:5":                         {slog.LevelDebug, false, "Stream connection from=1.2.3.4:5"},
		"[INFO] memberlist: Suspect n1 has failed, no acks received":                   {slog.LevelDebug, false, "Suspect n1 has failed, no acks received"},
		"[ERR] memberlist: Push/Pull with n1 failed: dial tcp: refused":                {slog.LevelDebug, false, "Push/Pull with n1 failed: dial tcp: refused"},
		"[WARN] memberlist: handler queue full, dropping message (3) from=1.2.3.4:5\n": {slog.LevelWarn, true, "gossip: handler queue full, dropping message (3) from=1.2.3.4:5"},
		"no level": {slog.LevelDebug, false, "no level"},
		"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=1.2.3.4:5":       {slog.LevelWarn, true, "gossip refused: it is encrypted with a key that is not on this node's ring"},
		"[WARN] memberlist: Was able to connect to n1 over TCP but UDP probes failed, network may be misconfigured": {slog.LevelWarn, true, "a node answers over TCP but not over UDP: is UDP blocked on the gossip port?"},
		"[WARN] memberlist: ignoring alive message for 'n1': removed":                                               {slog.LevelDebug, false, "ignoring alive message for 'n1': removed"},
		"[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=[::1]:5":             {slog.LevelWarn, true, "gossip refused: it is encrypted with a key that is not on this node's ring"},
		"": {slog.LevelDebug, false, ""},
	} {
		got := judge(text)
		if got.level != want.level || got.message != want.message || (got.key != "") != want.limited {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if from := sourceOf("x from=[::1]:5"); from != "::1" {
		t.Errorf("from %q", from)
	}
}

// A log that blocks must not block gossip.
func TestSpeakerNeverBlocks(t *testing.T) {
	var out records
	s := newSpeaker(out.logger())
	for range speakerLines + 10 {
		s.say(slog.LevelInfo, "line")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s.run(ended)
	if n := strings.Count(out.String(), "msg=line"); n != speakerLines {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(out.String(), "lines=10") {
		t.Error("nothing tells of the dropped lines")
	}
}

func TestChangeRing(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"first":              {"", "a"},
		"same":               {"ab", "ab"},
		"add":                {"a", "ab"},
		"use":                {"ab", "ba"},
		"remove":             {"ba", "b"},
		"remove the middle":  {"abc", "ac"},
		"remove the primary": {"abc", "c"},
		"other":              {"abc", "de"},
		"interleaved":        {"abcdef", "fbd"},
		"twice":              {"a", "bb"},
	} {
		ring := &memberlist.Keyring{}
		keys := func(s string) (list [][]byte) {
			for i := range len(s) {
				list = append(list, key(s[i]))
			}
			return list
		}
		if test.before != "" {
			if err := changeRing(ring, keys(test.before)); err != nil {
				t.Fatal(err)
			}
		}
		reader := ring.GetKeys()
		was := slices.Clone(reader)
		if err := changeRing(ring, keys(test.after)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := keys(strings.Join(slices.Compact(strings.Split(test.after, "")), ""))
		got := ring.GetKeys()
		if len(got) != len(want) || !bytes.Equal(got[0], want[0]) {
			t.Errorf("%s: ring %q, want %q", name, got, want)
		}
		for _, k := range want {
			if !slices.ContainsFunc(got, func(g []byte) bool { return bytes.Equal(g, k) }) {
				t.Errorf("%s: %q is missing", name, k)
			}
		}
		// Whoever decrypts at that moment keeps the ring it began with.
		if !slices.EqualFunc(reader, was, bytes.Equal) {
			t.Errorf("%s: a reader's ring changed from %q to %q", name, was, reader)
		}
	}
}

func TestPeersFile(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	if peers := readPeers(dir, log); peers != nil {
		t.Errorf("no file: %v", peers)
	}
	want := []peer{{NodeID: "n1", GossipAddress: "10.0.0.1:7946", Address: "10.0.0.1:7947", Version: "1", Voter: true, LastSeen: time.Unix(5, 0).UTC()}}
	for range 2 {
		if err := writePeers(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	if got := readPeers(dir, log); !slices.Equal(got, want) {
		t.Errorf("read %+v", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	// A file that is damaged is said and replaced, and no reason not to start.
	for _, text := range []string{"", "{", `{"format":2}`, `{"format":1,"peers":[{"node_id":"\u0007"}]}`} {
		if err := os.WriteFile(filepath.Join(dir, peersName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out records
		if got := readPeers(dir, out.logger()); len(got) != 0 {
			t.Errorf("%q: %v", text, got)
		}
		if said := strings.Contains(out.String(), peersName); said == strings.HasSuffix(text, "]}") {
			t.Errorf("%q: said %q", text, out.String())
		}
	}
	if err := writePeers(filepath.Join(dir, "absent"), want); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func FuzzDecodePeers(f *testing.F) {
	f.Add([]byte(`{"format":1,"peers":[{"node_id":"n1","gossip_address":"10.0.0.1:7946","address":"10.0.0.1:7947"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := decodePeers(b)
		for _, p := range peers {
			if err != nil || !validNodeID(p.NodeID) {
				t.Errorf("%+v, %v", p, err)
			}
		}
	})
}

func TestLargeMeshesRememberLessOften(t *testing.T) {
	for members, want := range map[int]time.Duration{1: time.Second, 19: time.Second, 20: 2 * time.Second, 1000: 51 * time.Second} {
		if got := rememberPause(members); got != want {
			t.Errorf("%d members: %s, want %s", members, got, want)
		}
	}
}

func TestLargeMeshesExchangeLessOften(t *testing.T) {
	for members, want := range map[int]time.Duration{1: time.Second, 99: time.Second, 100: 2 * time.Second, 1000: 11 * time.Second} {
		if got := stretched(time.Second, members); got != want {
			t.Errorf("%d members: %s, want %s", members, got, want)
		}
	}
}
