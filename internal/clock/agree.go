package clock

import (
	"slices"
	"time"
)

// Agreed is the time that more than half of a number of clocks agree on, within
// Tolerance: the middle one of those, as the distance from the clock that ahead is
// counted from, which must be in it as 0. ok is false when there is no such time:
// then nobody can say whose clock is right. Clocks that could not be read count as
// disagreeing.
func Agreed(ahead []time.Duration, clocks int) (by time.Duration, ok bool) {
	sorted := slices.Sorted(slices.Values(ahead))
	var best []time.Duration
	for from := range sorted {
		to := from
		for to < len(sorted) && sorted[to]-sorted[from] <= Tolerance {
			to++
		}
		if to-from > len(best) {
			best = sorted[from:to]
		}
	}
	if 2*len(best) <= clocks {
		return 0, false
	}
	return best[len(best)/2], true
}
