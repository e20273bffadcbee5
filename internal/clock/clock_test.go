package clock

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// machine has clocks that a test turns.
type machine struct {
	*Clock
	wall time.Time
	ran  time.Duration
}

func newMachine(wall time.Time) *machine {
	m := &machine{wall: wall}
	m.Clock = New(func() time.Time { return m.wall })
	m.steady = func() time.Duration { return m.ran }
	return m
}

func (m *machine) pass(d time.Duration) { m.wall, m.ran = m.wall.Add(d), m.ran+d }

func want(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if !got.Equal(want) {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestNowIsOwnUntilTold(t *testing.T) {
	m := newMachine(noon)
	want(t, "alone", m.Now(), noon)
	select {
	case <-m.Known():
		t.Error("nobody has told the time, and it is known")
	default:
	}
	m.Hear(1, 0, noon.Add(-time.Hour))
	<-m.Known()
	m.pass(time.Minute)
	want(t, "told", m.Now(), noon.Add(time.Minute-time.Hour))
	m.wall = m.wall.Add(24 * time.Hour) // somebody sets the machine's clock
	want(t, "after the machine's clock was set", m.Now(), noon.Add(time.Minute-time.Hour))
	want(t, "its own", m.Own(), noon.Add(time.Minute+24*time.Hour))
}

// TestLeadersHandTheTimeOn: it does not jump when a node whose own clock is an hour
// ahead comes to lead.
func TestLeadersHandTheTimeOn(t *testing.T) {
	m := newMachine(noon.Add(time.Hour))
	m.Hear(1, 0, noon)
	m.pass(10 * time.Second)
	m.Lead(2)
	want(t, "at the beginning of its term", m.Now(), noon.Add(10*time.Second))
	if late := m.Hear(2, 0, noon); late != 0 {
		t.Errorf("its own call is %s late", late)
	}
	want(t, "after a call to itself", m.Now(), noon.Add(10*time.Second))
	m.Set(noon.Add(time.Minute))
	want(t, "once it has asked the others", m.Now(), noon.Add(time.Minute))
	m.Hear(3, 0, noon)
	want(t, "under the next leader", m.Now(), noon)
	m.Hear(1, 0, noon.Add(time.Hour))
	want(t, "after a word of a deposed leader", m.Now(), noon)
}

// TestHearFindsCallsThatStoodStill: a call is as late as it came later than the
// quickest one.
func TestHearFindsCallsThatStoodStill(t *testing.T) {
	m := newMachine(noon)
	m.ran = 1000 * time.Second
	call := func(term uint64, sent, onItsWay time.Duration) time.Duration {
		m.ran = 1000*time.Second + sent + onItsWay
		return m.Hear(term, sent, noon.Add(sent))
	}
	if late := call(1, 0, 5*time.Millisecond); late != 0 {
		t.Errorf("the first call is %s late", late)
	}
	if late := call(1, 10*time.Second, 2*time.Millisecond); late != 0 {
		t.Errorf("a quicker call is %s late", late)
	}
	late := call(1, 20*time.Second, time.Hour)
	if late < 59*time.Minute || late > time.Hour {
		t.Errorf("a call that lay an hour is %s late", late)
	}
	want(t, "the mesh's time after it", m.Now().Round(10*time.Second), noon.Add(time.Hour+20*time.Second))
	if late := call(2, 0, time.Hour); late != 0 {
		t.Errorf("another leader's first call is %s late", late)
	}
}

// TestDriftIsNoDelay: machines whose steady clocks differ by a ten-thousandth do
// not find each other late after a month.
func TestDriftIsNoDelay(t *testing.T) {
	m := newMachine(noon)
	for sent := time.Duration(0); sent < 30*24*time.Hour; sent += time.Hour {
		m.ran = sent + time.Duration(float64(sent)*1e-4)
		if late := m.Hear(1, sent, time.Time{}); late > time.Second {
			t.Fatalf("late by %s after %s", late, sent)
		}
	}
}

func TestAhead(t *testing.T) {
	m := newMachine(noon)
	m.Compare("a", noon.Add(time.Hour))
	if got := m.Ahead()["a"]; got != time.Hour {
		t.Errorf("ahead by %s, want 1h", got)
	}
	m.pass(time.Minute)
	m.wall = m.wall.Add(time.Hour)
	if got := m.Ahead()["a"]; got != 0 {
		t.Errorf("after this machine's clock was set: ahead by %s, want 0", got)
	}
	m.Forget("a")
	if len(m.Ahead()) != 0 {
		t.Errorf("forgotten, and still there: %v", m.Ahead())
	}
}

func TestAgreed(t *testing.T) {
	const h, s = time.Hour, time.Second
	for _, test := range []struct {
		name   string
		ahead  []time.Duration
		clocks int
		want   time.Duration
		ok     bool
	}{
		{"one alone", []time.Duration{0}, 1, 0, true},
		{"two that agree", []time.Duration{0, s}, 2, s, true},
		{"two that do not", []time.Duration{0, h}, 2, 0, false},
		{"one of three wrong, not this", []time.Duration{0, s, h}, 3, s, true},
		{"one of three wrong, this", []time.Duration{0, h, h + s}, 3, h + s, true},
		{"this is wrong and one is not read", []time.Duration{0, h}, 3, 0, false},
		{"two agree and one is not read", []time.Duration{0, 0}, 3, 0, true},
		{"all of three differ", []time.Duration{0, h, -h}, 3, 0, false},
		{"two of five wrong", []time.Duration{0, -h, -h, -h + s, 9 * h}, 5, -h, true},
		{"half of four", []time.Duration{0, 0, h, h}, 4, 0, false},
		{"a chain of clocks does not agree", []time.Duration{0, 2 * s, 4 * s, 6 * s, 8 * s}, 5, 0, false},
	} {
		got, ok := Agreed(test.ahead, test.clocks)
		if got != test.want || ok != test.ok {
			t.Errorf("%s: %s, %v, want %s, %v", test.name, got, ok, test.want, test.ok)
		}
	}
}
