package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// news is a knower to whom everything is new.
func news(string, uint64, []byte) bool { return false }

func TestMeta(t *testing.T) {
	full := meta{
		NodeID: strings.Repeat("n", maxNodeID), Address: strings.Repeat("a", maxAddress-6) + ":65535",
		Version: strings.Repeat("v", maxVersion), Voter: true, Leaving: true, Tags: tagMark{1<<64 - 1, 1<<64 - 1},
		Start: 1<<64 - 1,
	}
	if n := len(full.encode()); n >= metaLimit {
		t.Errorf("full metadata has %d bytes", n)
	}
	for _, m := range []meta{full, {NodeID: "mi-1", Address: "[::1]:7947"}} {
		got, err := decodeMeta(m.encode())
		if err != nil || got != m {
			t.Errorf("%+v becomes %+v, %v", m, got, err)
		}
		// What a later program appends is skipped.
		got, err = decodeMeta(append(m.encode(), "more"...))
		if err != nil || got != m {
			t.Errorf("%+v with more becomes %+v, %v", m, got, err)
		}
		old := len(m.encode()) - len(binary.AppendUvarint(nil, m.Start)) // an older program's
		if got, err := decodeMeta(m.encode()[:old]); err != nil || got.Start != 0 || got.NodeID != m.NodeID {
			t.Errorf("%+v of an older program becomes %+v, %v", m, got, err)
		}
		for n := range m.encode() {
			if _, err := decodeMeta(m.encode()[:n]); n != old && !errors.Is(err, errMalformed) {
				t.Errorf("%d bytes of %+v: %v", n, m, err)
			}
		}
	}
	for name, m := range map[string]meta{
		"id":      {NodeID: "a\x1b[2J", Address: "h:1"},
		"address": {NodeID: "a", Address: "h:0"},
		"port":    {NodeID: "a", Address: "h"},
		"version": {NodeID: "a", Address: "h:1", Version: "\n"},
	} {
		if _, err := decodeMeta(m.encode()); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTagMarks(t *testing.T) {
	for _, test := range []struct {
		a, b tagMark
		want bool
	}{
		{tagMark{2, 0}, tagMark{1, 9}, true},
		{tagMark{1, 9}, tagMark{2, 0}, false},
		{tagMark{1, 2}, tagMark{1, 1}, true},
		{tagMark{1, 1}, tagMark{1, 1}, false},
		{tagMark{0, 0}, tagMark{0, 0}, false},
	} {
		if got := test.a.newer(test.b); got != test.want {
			t.Errorf("%v newer than %v: %v", test.a, test.b, got)
		}
	}
}

func TestTagsEncoding(t *testing.T) {
	long := strings.Repeat("v", tagsLimit)
	for name, test := range map[string]struct {
		tags, want map[string]string
		cut        bool
	}{
		"none":      {nil, map[string]string{}, false},
		"some":      {map[string]string{"b": "2", "a": "", "": "x", "ö": "ü"}, map[string]string{"b": "2", "a": "", "": "x", "ö": "ü"}, false},
		"too long":  {map[string]string{"a": long, "b": "2"}, map[string]string{"b": "2"}, true},
		"not UTF-8": {map[string]string{"a": "\xff", "b": "2"}, map[string]string{"b": "2"}, true},
	} {
		payload, cut := encodeTags(test.tags)
		got, gotCut, err := decodeTags(payload)
		if err != nil || !maps.Equal(got, test.want) || cut != test.cut || gotCut != test.cut || len(payload) > tagsLimit {
			t.Errorf("%s: %v, cut %v and %v, %v", name, got, cut, gotCut, err)
		}
	}
	// The longest that fits: flags, 1 for the key, 2 for the value's length.
	exact := map[string]string{"k": strings.Repeat("v", tagsLimit-1-2-2)}
	if payload, cut := encodeTags(exact); cut || len(payload) != tagsLimit {
		t.Errorf("%d bytes, cut %v", len(payload), cut)
	}
	for name, payload := range map[string]string{
		"empty":          "",
		"unknown flag":   "\x02",
		"no value":       "\x00\x01a",
		"short value":    "\x00\x01a\x02b",
		"wrong order":    "\x00\x01b\x00\x01a\x00",
		"twice":          "\x00\x01a\x00\x01a\x00",
		"padded length":  "\x00\x81\x00a\x00",
		"huge length":    "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"endless length": "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"not UTF-8":      "\x00\x01\xff\x00",
		"too long":       strings.Repeat("\x00", tagsLimit+1),
	} {
		if _, _, err := decodeTags([]byte(payload)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStateIsBoundedAndTakenWhole(t *testing.T) {
	g := offline()
	big := map[string]string{"k": strings.Repeat("v", tagsLimit-5)}
	for i := range 2 * stateLimit / tagsLimit {
		id := "n" + string(rune('a'+i%26)) + strings.Repeat("x", i/26%60) + string(rune('a'+i/26/60))
		g.members[id] = &member{alive: true}
		g.tags[id] = newTagCopy(1, big)
	}
	b := g.encodeState(time.Now())
	if len(b) > stateLimit || len(b) < stateLimit/2 {
		t.Errorf("state has %d bytes", len(b))
	}
	entries, err := decodeState(b, news)
	if err != nil || len(entries) < 900 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if entries, err := decodeState(b[:len(b)-1], news); !errors.Is(err, errMalformed) || entries != nil {
		t.Errorf("cut state: %d entries, %v", len(entries), err)
	}
	if _, err := decodeState(append(b, make([]byte, stateLimit)...), news); !errors.Is(err, errMalformed) {
		t.Errorf("long state: %v", err)
	}
}

func TestKnownTagsAreNotDecodedAgain(t *testing.T) {
	g := offline()
	g.members["a"] = &member{alive: true}
	g.members["b"] = &member{alive: true}
	g.tags["a"] = newTagCopy(2, map[string]string{"zone": "north"})
	g.tags["b"] = newTagCopy(2, map[string]string{"zone": "south"})
	state := g.encodeState(time.Now())
	count := func() (fresh int) {
		t.Helper()
		entries, err := decodeState(state, g.hasTags)
		if err != nil || len(entries) != 2 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for _, entry := range entries {
			if entry.copied != nil {
				fresh++
			}
		}
		return fresh
	}
	if fresh := count(); fresh != 0 {
		t.Errorf("%d of two known tags were decoded", fresh)
	}
	g.tags["a"] = newTagCopy(1, map[string]string{"zone": "north"}) // the same, older
	g.tags["b"] = newTagCopy(2, map[string]string{"zone": "east"})  // others with the same version
	if fresh := count(); fresh != 2 {
		t.Errorf("%d of two new tags were decoded", fresh)
	}
	delegate{g}.MergeRemoteState(state, false)
	if g.tags["a"].mark.Version != 2 {
		t.Error("newer tags were not taken")
	}
}

func TestTagsOfUnknownAndLongDeadNodesAreDropped(t *testing.T) {
	g := offline()
	now := time.Now()
	g.members["living"] = &member{alive: true}
	g.members["recent"] = &member{lastSeen: now.Add(-time.Second)}
	g.members["long"] = &member{lastSeen: now.Add(-time.Hour)}
	state := []byte{stateFormat}
	for _, id := range []string{"living", "recent", "long", "unknown"} {
		c := newTagCopy(3, map[string]string{"id": id})
		state = appendEntry(state, id, c.mark.Version, c.payload)
	}
	delegate{g}.MergeRemoteState(state, false)
	for id, want := range map[string]bool{"living": true, "recent": true, "long": false, "unknown": false} {
		if got := g.tags[id] != nil; got != want {
			t.Errorf("tags of %s kept: %v", id, got)
		}
	}
	if sent, err := decodeState(g.encodeState(now), news); err != nil || len(sent) != 2 {
		t.Errorf("sends %d entries, %v", len(sent), err)
	}
}

// offline is a Gossip that only remembers, for what needs no network.
func offline() *Gossip {
	c, _, err := Config{
		NodeID: "self", MeshID: "mesh", Bind: "127.0.0.1", APIAddress: "127.0.0.1:1", Keys: [][]byte{key(1)},
	}.checked()
	if err != nil {
		panic(err)
	}
	g := &Gossip{
		config:      c,
		speaker:     newSpeaker(c.Log),
		members:     map[string]*member{"self": {alive: true, meta: meta{NodeID: "self"}}},
		tags:        make(map[string]*tagCopy),
		subscribers: make(map[chan struct{}]struct{}),
		broadcasts:  &memberlist.TransmitLimitedQueue{NumNodes: func() int { return 3 }, RetransmitMult: 4},
	}
	return g
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(meta{NodeID: "mi-0123456789abcdef0", Address: "10.0.0.1:7947", Version: "1.0.0", Voter: true, Tags: tagMark{5, 6}}.encode())
	f.Add([]byte{metaFormat, 0xff, 1, 'a', 3, 'h', ':', '1', 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := decodeMeta(m.encode())
		if err != nil || again != m || len(m.encode()) >= metaLimit {
			t.Errorf("%+v becomes %+v, %v", m, again, err)
		}
	})
}

func FuzzMergeRemoteState(f *testing.F) {
	c := newTagCopy(7, map[string]string{"role": "web", "zone": "a"})
	f.Add(appendEntry(appendEntry([]byte{stateFormat}, "self", 7, c.payload), "other", 8, c.payload))
	f.Add([]byte{stateFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := offline()
		g.members["other"] = &member{alive: true}
		delegate{g}.MergeRemoteState(b, true)
		checkTags(t, g)
		// What was taken can be told on, and is then the same.
		h := offline()
		h.members["other"] = &member{alive: true}
		delegate{h}.MergeRemoteState(g.encodeState(time.Now()), false)
		for id, c := range g.tags {
			if h.tags[id] == nil || h.tags[id].mark != c.mark {
				t.Errorf("%s is told on as %+v", id, h.tags[id])
			}
		}
	})
}

func FuzzNotifyMsg(f *testing.F) {
	f.Add(encodeMessage("self", newTagCopy(7, map[string]string{"role": "web"})))
	f.Add([]byte{messageTags, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		g := offline()
		before := bytes.Clone(b)
		delegate{g}.NotifyMsg(b)
		if !bytes.Equal(before, b) {
			t.Error("the message was changed")
		}
		checkTags(t, g)
		// memberlist may use the buffer again.
		for i := range b {
			b[i] = 0xff
		}
		checkTags(t, g)
	})
}

// checkTags: what was taken is as it would be had it been made here.
func checkTags(t *testing.T, g *Gossip) {
	t.Helper()
	for id, c := range g.tags {
		if g.members[id] == nil {
			t.Errorf("tags of the unknown %q", id)
		}
		if len(c.payload) > tagsLimit || c.mark.Digest != digestOf(c.payload) {
			t.Errorf("tags of %s: %+v", id, c)
		}
		tags, cut, err := decodeTags(c.payload)
		if err != nil || cut != c.cut || !maps.Equal(tags, c.tags) {
			t.Errorf("tags of %s: %v %v %v", id, tags, cut, err)
		}
	}
}
