package schedule

import (
	"strings"
	"time"
)

// days are the days that an expression names, by day of month or by day of week.
type days struct {
	// ofMonth has 1 to 31.
	ofMonth set
	// beforeLast has how many days before the month's last: L is 0, L-3 is 3.
	beforeLast set
	// nearest has the days whose nearest weekday in the month is meant: 15W.
	nearest set
	// lastWeekday is LW.
	lastWeekday bool
	// byWeek says that what follows is meant, and not what is above.
	byWeek bool
	// ofWeek has 1 (SUN) to 7.
	ofWeek set
	// lastOfWeek has the days of the week whose last of the month is meant: 6L.
	lastOfWeek set
	// nth has the days of the week whose nth of the month is meant, n from 0: TUE#3
	// is in nth[2].
	nth [5]set
}

// days reads the two fields of which one has to be ?.
func (r *reader) days(month, week word) (days, error) {
	var d days
	switch {
	case month.text == "?" && week.text == "?":
		return d, r.fail(daysOfWeek.name, week, "only one of day of month and day of week can be ?")
	case month.text != "?" && week.text != "?":
		return d, r.fail(daysOfWeek.name, week, "one of day of month and day of week has to be ?")
	case week.text == "?":
		for _, item := range month.split(',') {
			if err := r.dayOfMonth(item, &d); err != nil {
				return d, err
			}
		}
	default:
		d.byWeek = true
		for _, item := range week.split(',') {
			if err := r.dayOfWeek(item, &d); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

func (r *reader) dayOfMonth(item word, d *days) error {
	text := strings.ToUpper(item.text)
	switch {
	case text == "L":
		d.beforeLast.add(0)
		return nil
	case text == "LW":
		d.lastWeekday = true
		return nil
	case strings.HasPrefix(text, "L-"):
		_, count, _ := item.cut('-')
		n, ok := number(count.text)
		if !ok || n < 1 || n > 30 {
			return r.fail(daysOfMonth.name, count, "L-1 to L-30 are so many days before the last")
		}
		d.beforeLast.add(n)
		return nil
	case strings.HasSuffix(text, "W"):
		v, err := r.value(daysOfMonth, word{item.text[:len(item.text)-1], item.offset})
		if err != nil {
			return r.fail(daysOfMonth.name, item, daysOfMonth.allowed)
		}
		d.nearest.add(v)
		return nil
	}
	return r.span(daysOfMonth, item, 0, &d.ofMonth)
}

func (r *reader) dayOfWeek(item word, d *days) error {
	text := strings.ToUpper(item.text)
	if text == "L" { // the last day of the week
		d.ofWeek.add(daysOfWeek.max)
		return nil
	}
	if strings.HasSuffix(text, "L") {
		v, err := r.value(daysOfWeek, word{item.text[:len(item.text)-1], item.offset})
		if err != nil {
			return r.fail(daysOfWeek.name, item, daysOfWeek.allowed)
		}
		d.lastOfWeek.add(v)
		return nil
	}
	if day, count, found := item.cut('#'); found {
		v, err := r.value(daysOfWeek, day)
		if err != nil {
			return err
		}
		n, ok := number(count.text)
		if !ok || n < 1 || n > len(d.nth) {
			return r.fail(daysOfWeek.name, count, "after # there is 1-5")
		}
		d.nth[n-1].add(v)
		return nil
	}
	return r.span(daysOfWeek, item, 0, &d.ofWeek)
}

// in has a bit for each of a month's days that is meant: bit 1 is the first.
func (d *days) in(year int, month time.Month) uint32 {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	length := last.Day()
	// weekday is 1 (SUN) to 7.
	weekday := func(day int) int { return (int(last.Weekday())+day-length+35)%7 + 1 }
	found := uint32(d.ofMonth[0])
	for n, ok := d.beforeLast.next(0); ok && n < length; n, ok = d.beforeLast.next(n + 1) {
		found |= 1 << (length - n)
	}
	for day, ok := d.nearest.next(0); ok && day <= length; day, ok = d.nearest.next(day + 1) {
		found |= 1 << nearestWeekday(day, weekday(day), length)
	}
	if d.lastWeekday {
		found |= 1 << nearestWeekday(length, weekday(length), length)
	}
	if d.byWeek {
		for first := 1; first <= 7; first++ { // the first of each day of the week
			w := weekday(first)
			for n := range d.nth {
				if d.ofWeek.has(w) || d.nth[n].has(w) || d.lastOfWeek.has(w) && first+7*n+7 > length {
					found |= 1 << (first + 7*n)
				}
			}
		}
	}
	return found & (1<<(length+1) - 1)
}

// nearestWeekday is the Monday to Friday nearest to a day, in the same month.
func nearestWeekday(day, weekday, length int) int {
	const sunday, saturday = 1, 7
	switch {
	case weekday == saturday && day == 1:
		return day + 2
	case weekday == saturday:
		return day - 1
	case weekday == sunday && day == length:
		return day - 2
	case weekday == sunday:
		return day + 1
	}
	return day
}
