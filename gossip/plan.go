package gossip

import (
	"slices"
	"time"
)

// attempt is what the reconnect loop knows of an address.
type attempt struct {
	tries   int
	next    time.Time
	running bool
}

// planAttempt picks the address to try now, the one that waits longest, or says
// how long nothing is to be done (negative: until something changes). slots is
// how many more attempts may run; earliest is when the next may begin, which
// bounds the rate over all addresses.
func planAttempt(targets []string, attempts map[string]*attempt, slots int, earliest, now time.Time) (address string, wait time.Duration) {
	var best *attempt
	for _, target := range targets {
		if a := attempts[target]; a != nil && !a.running && (best == nil || a.next.Before(best.next)) {
			best, address = a, target
		}
	}
	if best == nil || slots <= 0 {
		return "", -1
	}
	at := best.next
	if earliest.After(at) {
		at = earliest
	}
	if at.After(now) {
		return "", at.Sub(now)
	}
	return address, 0
}

// pauseAfter is how long an address rests after its tries-th attempt in vain:
// doubling from shortest to longest. While nobody is alive the longest is a
// sixth, since then this node has nothing better to do.
func pauseAfter(tries int, alone bool, shortest, longest time.Duration) time.Duration {
	if alone {
		longest = max(longest/6, shortest)
	}
	pause := shortest
	for i := 1; i < tries && pause < longest; i++ {
		pause *= 2
	}
	return min(pause, longest)
}

// stretchEach members make the pauses before push/pulls longer by one more of them.
const stretchEach = 100

// stretched is a pause before a push/pull in a mesh of so many members. A push/pull
// carries all of them, and each node does some: unstretched, what a crowd that comes
// costs all nodes grows with the cube of its size.
func stretched(pause time.Duration, members int) time.Duration {
	return pause * time.Duration(1+members/stretchEach)
}

// spreadWork says what is known of the living that is not where it belongs.
type spreadWork struct {
	// ask: these nodes announce newer tags of their own than are known here.
	ask []string
	// tell: these nodes announce older tags of their own than the store here has.
	tell []string
}

func (w spreadWork) none() bool { return len(w.ask) == 0 && len(w.tell) == 0 }

// planSpread compares what each node announces with what is known here. self is
// left out: it knows what it knows.
func planSpread(self string, members map[string]*member, tags map[string]*tagCopy) spreadWork {
	var work spreadWork
	for id, m := range members {
		if id == self || !m.alive {
			continue
		}
		var mine tagMark
		stored := false
		if c := tags[id]; c != nil {
			mine, stored = c.mark, c.stored
		}
		switch {
		case m.meta.Tags.newer(mine):
			work.ask = append(work.ask, id)
		case stored && mine.newer(m.meta.Tags):
			work.tell = append(work.tell, id)
		}
	}
	slices.Sort(work.ask)
	slices.Sort(work.tell)
	return work
}
