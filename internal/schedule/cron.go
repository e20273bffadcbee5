package schedule

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

const (
	secondsOfMinute = 60
	minutesOfDay    = 24 * 60
	secondsOfDay    = minutesOfDay * secondsOfMinute
)

// cron is the local times that a cron expression names. It knows nothing of time
// zones: local seconds (see local.go) are all that it counts in.
type cron struct {
	// second is one: more in a minute would be too many openings for any kind.
	second         int
	minutes, hours set
	days           days
	months         set
	// years counts from firstYear.
	years set
}

func (r *reader) cron() (*Schedule, error) {
	w := r.words
	switch {
	case len(w) < 6:
		return nil, r.fail("expression", word{"", r.end}, fmt.Sprintf("cron has six fields (minutes, hours, day of month, month, day of week, year) and may have seconds before them, not %d", len(w)))
	case len(w) > 7:
		return nil, r.fail("expression", w[7], "cron has six fields (minutes, hours, day of month, month, day of week, year) and may have seconds before them, not more")
	}
	c := &cron{}
	if len(w) == 7 {
		all, err := r.list(seconds, w[0], 0)
		if err != nil {
			return nil, err
		}
		if all.size() > 1 {
			return nil, r.fail(seconds.name, w[0], r.tooOften())
		}
		c.second, _ = all.next(0)
		if r.kind == Association && c.second != 0 {
			return nil, r.fail(seconds.name, w[0], "an association's is 0")
		}
		w = w[1:]
	}
	var err error
	if c.minutes, err = r.list(minutes, w[0], 0); err != nil {
		return nil, err
	}
	if c.hours, err = r.list(hours, w[1], 0); err != nil {
		return nil, err
	}
	if c.months, err = r.list(months, w[3], 0); err != nil {
		return nil, err
	}
	if r.kind == Association && c.months.size() < months.max {
		return nil, r.fail(months.name, w[3], "an association's is *: it cannot choose months")
	}
	if c.years, err = r.list(years, w[5], firstYear); err != nil {
		return nil, err
	}
	// The days come last, so that a sign in the wrong field is told before that a ?
	// is missing.
	if c.days, err = r.days(w[2], w[4]); err != nil {
		return nil, err
	}
	if c.shortest() < r.kind.shortest() {
		return nil, r.fail(minutes.name, w[0], r.tooOften())
	}
	texts := make([]string, len(r.words))
	for i, field := range r.words {
		texts[i] = strings.ToUpper(field.text)
	}
	return &Schedule{kind: r.kind, form: Cron, text: "cron(" + strings.Join(texts, " ") + ")", cron: c}, nil
}

func (r *reader) tooOften() string {
	if r.kind == Association {
		return "an association runs every 30 minutes at most"
	}
	return "a window opens every 5 minutes at most"
}

// shortest is the least time between two openings.
func (k Kind) shortest() time.Duration {
	if k == Association {
		return 30 * time.Minute
	}
	return 5 * time.Minute
}

// shortest is the least time between two of the local times; a day when there is
// one on each day or fewer.
func (c *cron) shortest() time.Duration {
	first, _ := c.atOrAfter(0)
	least, last := minutesOfDay, first
	for m, ok := c.atOrAfter(first + 1); ok; m, ok = c.atOrAfter(m + 1) {
		least, last = min(least, m-last), m
	}
	if overnight := first + minutesOfDay - last; overnight < least && c.hasTwoDays() {
		least = overnight
	}
	return time.Duration(least) * time.Minute
}

// hasTwoDays reports whether one day follows another.
func (c *cron) hasTwoDays() bool {
	yesterday := false // whether the day before the month is meant
	for i := range (lastYear - firstYear + 1) * 12 {
		year, month := firstYear+i/12, time.Month(i%12+1)
		if !c.months.has(int(month)) || !c.years.has(year-firstYear) {
			yesterday = false
			continue
		}
		found := c.days.in(year, month)
		if found&(found>>1) != 0 || yesterday && found&(1<<1) != 0 {
			return true
		}
		yesterday = found&(1<<lengthOf(year, month)) != 0
	}
	return false
}

func lengthOf(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// atOrAfter is the first of a day's minutes that is at least m.
func (c *cron) atOrAfter(m int) (int, bool) {
	if m >= minutesOfDay {
		return 0, false
	}
	hour, ok := c.hours.next(m / 60)
	if !ok {
		return 0, false
	}
	if hour == m/60 {
		if minute, ok := c.minutes.next(m % 60); ok {
			return hour*60 + minute, true
		}
		if hour, ok = c.hours.next(hour + 1); !ok {
			return 0, false
		}
	}
	minute, _ := c.minutes.next(0)
	return hour*60 + minute, true
}

// next is the first of the local times that is at least from.
func (c *cron) next(from int64) (int64, bool) {
	day := floorDiv(from, secondsOfDay)
	// The first minute whose second is not over.
	minute := int(floorDiv(from-day*secondsOfDay-int64(c.second)+secondsOfMinute-1, secondsOfMinute))
	if m, ok := c.atOrAfter(max(minute, 0)); ok {
		today, found := c.nextDay(day)
		if !found {
			return 0, false
		}
		if today == day {
			return c.local(day, m), true
		}
		day = today
	} else {
		next, found := c.nextDay(day + 1)
		if !found {
			return 0, false
		}
		day = next
	}
	m, _ := c.atOrAfter(0)
	return c.local(day, m), true
}

func (c *cron) local(day int64, minute int) int64 {
	return day*secondsOfDay + int64(minute)*secondsOfMinute + int64(c.second)
}

// nextDay is the first of the days that is at least day, counted from 1970-01-01.
func (c *cron) nextDay(day int64) (int64, bool) {
	day = max(day, 0)
	year, month, dayOfMonth := time.Unix(day*secondsOfDay, 0).UTC().Date()
	for year <= lastYear {
		y, ok := c.years.next(year - firstYear)
		if !ok {
			return 0, false
		}
		if firstYear+y != year {
			year, month, dayOfMonth = firstYear+y, time.January, 1
		}
		for m, ok := c.months.next(int(month)); ok; m, ok = c.months.next(m + 1) {
			if m != int(month) {
				month, dayOfMonth = time.Month(m), 1
			}
			if left := c.days.in(year, month) >> dayOfMonth; left != 0 {
				d := dayOfMonth + bits.TrailingZeros32(left)
				return time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / secondsOfDay, true
			}
		}
		year, month, dayOfMonth = year+1, time.January, 1
	}
	return 0, false
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
