package leader

import (
	"slices"
	"time"
)

// settled is how long an ended command stays whatever room is left: whoever waits
// for it must be able to read how it ended.
const settled = time.Hour

// keptCommand is an ended command in the store.
type keptCommand struct {
	id         string
	finishedAt time.Time
	// expiresAt: until then a node may know of it and report.
	expiresAt time.Time
	size      int64 // bytes of its records
}

// outdated returns the ids of the commands that go, oldest first: those that ended
// longer ago than the retention, and the oldest as long as all that stay take more
// than space bytes. commands are in the order of their requests.
func outdated(commands []keptCommand, now time.Time, retention time.Duration, space int64) []string {
	var total int64
	for _, c := range commands {
		total += c.size
	}
	var ids []string
	for _, c := range commands {
		age := now.Sub(c.finishedAt)
		old := age >= retention && !now.Before(c.expiresAt)
		crowded := total > space && age >= settled
		if !old && !crowded {
			continue
		}
		ids = append(ids, c.id)
		total -= c.size
	}
	return slices.Clip(ids)
}
