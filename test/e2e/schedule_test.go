//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

var (
	seed      = flag.Uint64("seed", 0, "replay the fault schedule with this `seed` instead of drawing new ones")
	schedules = flag.Int("schedules", 2, "`how many` fault schedules to draw")
	faults    = flag.Int("faults", 4, "`how many` faults a schedule has")
)

// seeds are those of the schedules to run.
func seeds() []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	drawn := make([]uint64, *schedules)
	for i := range drawn {
		drawn[i] = 1 + rand.Uint64N(1<<32)
	}
	return drawn
}

// faultKind is something that befalls the leader.
type faultKind string

const (
	killed faultKind = "killed" // SIGKILL, then started again
	paused faultKind = "paused" // SIGSTOP, then SIGCONT: it goes on sending
	// The leader reaches nobody; its clients reach it or not.
	cutOff            faultKind = "cut off"
	cutOffWithClients faultKind = "cut off with clients"
	minority          faultKind = "in a minority" // with one follower, and clients
	deaf              faultKind = "deaf"          // it sends and hears nothing
	mute              faultKind = "mute"          // it hears and sends nothing
	muteToOne         faultKind = "mute to one"
	flapping          faultKind = "flapping"
	// The leader is cut off and another voter is killed: three of five are left.
	cutOffAndOneKilled faultKind = "cut off, and another killed"
)

var faultKinds = []faultKind{killed, paused, cutOff, cutOffWithClients, minority, deaf, mute, muteToOne, flapping, cutOffAndOneKilled}

// fault is one of a schedule: rest, then whoever leads is hit for hold.
type fault struct {
	kind       faultKind
	rest, hold time.Duration
	// other chooses the second node that it takes.
	other int
	// flaps are how long each cut, and each time in between, lasts.
	flaps []time.Duration
}

func (f fault) String() string { return fmt.Sprintf("%s for %s", f.kind, f.hold) }

// drawFaults draws a schedule: the same for the same seed. No kind comes twice
// before all have come.
func drawFaults(seed uint64, count int) []fault {
	r := rand.New(rand.NewPCG(seed, 0))
	drawn := make([]fault, count)
	var order []int
	for i := range drawn {
		if len(order) == 0 {
			order = r.Perm(len(faultKinds))
		}
		f := fault{kind: faultKinds[order[0]], other: r.IntN(1 << 16)}
		order = order[1:]
		f.rest = time.Duration(r.IntN(1500)) * time.Millisecond
		f.hold = time.Duration(300+r.IntN(4200)) * time.Millisecond
		for range 2 * (2 + r.IntN(5)) {
			f.flaps = append(f.flaps, time.Duration(50+r.IntN(800))*time.Millisecond)
		}
		drawn[i] = f
	}
	return drawn
}

func TestSchedulesReplay(t *testing.T) {
	for _, s := range []uint64{1, 7, 1 << 40} {
		if a, b := fmt.Sprint(drawFaults(s, 25)), fmt.Sprint(drawFaults(s, 25)); a != b {
			t.Errorf("seed %d draws %s, then %s", s, a, b)
		}
	}
	if a, b := fmt.Sprint(drawFaults(1, 25)), fmt.Sprint(drawFaults(2, 25)); a == b {
		t.Errorf("seeds 1 and 2 both draw %s", a)
	}
}

// inflict hits the leader and heals it again.
func (m *mesh) inflict(f fault) {
	m.t.Helper()
	time.Sleep(f.rest)
	leader := m.leader()
	rest := m.others(leader)
	var voters []*node
	s, err := m.status()
	if err != nil {
		m.t.Logf("the status before a fault: %v", err)
	}
	for _, id := range s.Voters {
		if id != leader.id {
			voters = append(voters, m.byID(id))
		}
	}
	if len(voters) == 0 {
		voters = rest
	}
	other := voters[f.other%len(voters)]
	m.t.Logf("the leader %s is %s (other: %s)", leader.name, f, other.name)
	w := m.network
	cut := func() {
		w.loseOneWay(hosts(leader), hosts(rest...))
		w.loseOneWay(hosts(rest...), hosts(leader))
	}
	switch f.kind {
	case killed:
		m.kill(leader)
		time.Sleep(f.hold)
		m.start(leader)
	case paused:
		leader.process.Process.Signal(syscall.SIGSTOP)
		time.Sleep(f.hold)
		leader.process.Process.Signal(syscall.SIGCONT)
	case cutOff:
		w.isolate(leader.host)
		time.Sleep(f.hold)
	case cutOffWithClients:
		cut()
		time.Sleep(f.hold)
	case minority:
		var majority []*node
		for _, n := range rest {
			if n != other {
				majority = append(majority, n)
			}
		}
		w.loseOneWay(hosts(leader, other), hosts(majority...))
		w.loseOneWay(hosts(majority...), hosts(leader, other))
		time.Sleep(f.hold)
	case deaf:
		w.loseOneWay(hosts(rest...), hosts(leader))
		time.Sleep(f.hold)
	case mute:
		w.loseOneWay(hosts(leader), hosts(rest...))
		time.Sleep(f.hold)
	case muteToOne:
		w.loseOneWay(hosts(leader), hosts(other))
		time.Sleep(f.hold)
	case flapping:
		for i, d := range f.flaps {
			if i%2 == 0 {
				cut()
			} else {
				w.heal()
			}
			time.Sleep(d)
		}
	case cutOffAndOneKilled:
		cut()
		m.kill(other)
		time.Sleep(f.hold)
		m.start(other)
	}
	w.heal()
}
