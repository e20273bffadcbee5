package schedule

import (
	"fmt"
	"iter"
	"time"
)

// maxOffset is what ScheduleOffset can be, in days.
const maxOffset = 6

// Terms are what a window or an association says beside its expression.
type Terms struct {
	// Zone is the window's; nil is UTC. An association's is UTC.
	Zone *time.Location
	// Offset is ScheduleOffset: how many days after a cron expression's time the
	// opening is; 0 is none.
	Offset int
	// Start and End are StartDate and EndDate: openings are not before Start, and
	// before End. Zero is no bound.
	Start, End time.Time
	// Since is when the window was made, or its schedule last changed. There are no
	// openings up to it, nor such as a time up to it would have, with an offset. A
	// rate counts from it, unless Start is later; a rate needs it.
	Since time.Time
}

// Timetable is when there are openings. It never changes.
type Timetable struct {
	schedule *Schedule
	zone     *time.Location
	// shift is the offset in seconds.
	shift int64
	// from and to bound the openings: from is the first moment that may be one, to the
	// first that may not.
	from, to int64
	// since is Terms.Since, the last moment at which a cron's time makes no opening.
	since int64
	// anchor is what a rate counts from.
	anchor int64
}

// With makes the timetable of a schedule; an error is ErrInvalid.
func (s *Schedule) With(terms Terms) (*Timetable, error) {
	t := &Timetable{schedule: s, zone: terms.Zone, shift: int64(terms.Offset) * secondsOfDay, since: beginning - 1}
	if t.zone == nil {
		t.zone = time.UTC
	}
	switch {
	case terms.Offset < 0 || terms.Offset > maxOffset:
		return nil, fmt.Errorf("%w: the offset is 1 to %d days, not %d", ErrInvalid, maxOffset, terms.Offset)
	case terms.Offset > 0 && s.form != Cron:
		return nil, fmt.Errorf("%w: only cron(...) can have an offset", ErrInvalid)
	case s.kind == Association && t.zone != time.UTC:
		return nil, fmt.Errorf("%w: associations are in UTC", ErrInvalid)
	case s.form == Rate && terms.Since.IsZero():
		return nil, fmt.Errorf("%w: rate(...) has to count from a moment", ErrInvalid)
	case !terms.Start.IsZero() && !terms.End.IsZero() && !terms.Start.Before(terms.End):
		return nil, fmt.Errorf("%w: the end date is not after the start date", ErrInvalid)
	}
	if !terms.Since.IsZero() {
		t.since = terms.Since.Unix()
	}
	t.from, t.to, t.anchor = t.since+1, ending, t.since
	if start := ceiling(terms.Start); !terms.Start.IsZero() && start > t.since {
		t.from, t.anchor = start, start
	}
	if !terms.End.IsZero() {
		t.to = min(t.to, ceiling(terms.End))
	}
	return t, nil
}

// There are openings from beginning on, and before ending: some zones' first and
// last local years are a day longer.
var (
	beginning = time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC).Unix() - secondsOfDay
	ending    = time.Date(lastYear+1, 1, 1, 0, 0, 0, 0, time.UTC).Unix() + secondsOfDay
)

// ceiling is the first whole second that is not before t.
func ceiling(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}

// Next is the first opening after a moment, in the timetable's zone. There is none
// after the end date, nor after the year 2199.
func (t *Timetable) Next(after time.Time) (time.Time, bool) {
	moment, ok := t.next(after.Unix() + 1)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(moment, 0).In(t.zone), true
}

// Between is the openings from a moment on, and before another.
func (t *Timetable) Between(from, to time.Time) iter.Seq[time.Time] {
	end := ceiling(to)
	return func(yield func(time.Time) bool) {
		for moment, ok := t.next(ceiling(from)); ok && moment < end; moment, ok = t.next(moment + 1) {
			if !yield(time.Unix(moment, 0).In(t.zone)) {
				return
			}
		}
	}
}

// next is the first opening that is at least from.
func (t *Timetable) next(from int64) (int64, bool) {
	from = max(from, t.from)
	if from >= t.to {
		return 0, false
	}
	var moment int64
	found := true
	switch t.schedule.form {
	case Cron:
		moment, found = times(t.local).next(from, t.zone)
	case Rate:
		moment = t.nextOfRate(from)
	case At:
		moment = momentOf(t.schedule.at, t.zone)
		found = moment >= from
	}
	return moment, found && moment < t.to
}

// local is the first local time of an opening that is at least from.
func (t *Timetable) local(from int64) (int64, bool) {
	from -= t.shift
	for {
		local, ok := t.schedule.cron.next(from)
		if !ok || t.shift == 0 || momentOf(local, t.zone) > t.since {
			return local + t.shift, ok
		}
		from = max(local+1, t.since-secondsOfDay) // no offset from UTC is a day
	}
}

// nextOfRate counts from the anchor, never from an opening: so it does not drift.
func (t *Timetable) nextOfRate(from int64) int64 {
	every := int64(t.schedule.every / time.Second)
	return t.anchor + max(0, from-t.anchor+every-1)/every*every
}
