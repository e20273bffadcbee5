package schedule

import (
	"math"
	"time"
)

// Local seconds are what a clock on the wall shows, counted as if it were UTC's:
// seconds since 1970-01-01T00:00:00 there.
//
// Where a clock is set forward, some local times do not exist; where it is set
// back, some come twice. Both are told by the offset from UTC that held before the
// clock was set (so does RFC 5545, 3.3.5): a time that does not exist is as much
// later as the clock was set forward, and of a time that comes twice the first is
// meant. So each local time is one moment.

// era is a stretch of time in which a zone has one offset from UTC. Moments are
// seconds since 1970-01-01T00:00:00Z.
type era struct {
	// start is its first moment, end the first of the next era.
	start, end int64
	// before and after are the offsets of its neighbours.
	offset, before, after int64
}

func eraAt(moment int64, zone *time.Location) era {
	offsetAt := func(moment int64) int64 {
		_, offset := time.Unix(moment, 0).In(zone).Zone()
		return int64(offset)
	}
	e := era{start: math.MinInt64 / 2, end: math.MaxInt64 / 2, offset: offsetAt(moment)}
	e.before, e.after = e.offset, e.offset
	start, end := time.Unix(moment, 0).In(zone).ZoneBounds()
	if !start.IsZero() {
		e.start = start.Unix()
		e.before = offsetAt(e.start - 1)
	}
	if !end.IsZero() {
		e.end = end.Unix()
		// Past the years that zone data list, package time cuts eras at the end of a year,
		// and ends a leap year a day early: on its last day the end is not to come.
		for e.end <= moment {
			e.end += secondsOfDay
		}
		e.after = offsetAt(e.end)
	}
	return e
}

// first and beyond bound the local times that are told by this era's offset. They
// include those that do not exist between this era and the next, and not those
// that were there before, in the era before.
func (e era) first() int64  { return e.start + max(e.offset, e.before) }
func (e era) beyond() int64 { return e.end + max(e.offset, e.after) }

// missing is the first local time that does not exist between this era and the
// next, if there is one; beyond is the first that exists again.
func (e era) missing() int64 { return e.end + e.offset }

// eraOf is the era that tells a local time.
func eraOf(local int64, zone *time.Location) era {
	e := eraAt(local, zone)
	for local < e.first() {
		e = eraAt(e.start-1, zone)
	}
	for local >= e.beyond() {
		e = eraAt(e.end, zone)
	}
	return e
}

// momentOf is when a local time is.
func momentOf(local int64, zone *time.Location) int64 { return local - eraOf(local, zone).offset }

// times are local times, in order: the first that is at least from.
type times func(from int64) (int64, bool)

// next is the first moment, from one on, that one of the local times is.
func (next times) next(from int64, zone *time.Location) (moment int64, found bool) {
	consider := func(m int64) {
		if !found || m < moment {
			moment, found = m, true
		}
	}
	e := eraAt(from, zone)
	// Times that did not exist when this era began may be still to come.
	if from < e.start+e.offset-e.before {
		if local, ok := next(from + e.before); ok && local < e.first() {
			consider(local - e.before)
		}
	}
	local, ok := next(max(from+e.offset, e.first()))
	if !ok {
		return moment, found
	}
	if local >= e.beyond() {
		e = eraOf(local, zone)
	}
	consider(local - e.offset)
	// A time that does not exist comes after the first ones of the next era.
	if local >= e.missing() {
		if local, ok := next(e.beyond()); ok {
			consider(momentOf(local, zone))
		}
	}
	return moment, found
}
