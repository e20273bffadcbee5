package schedule

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// The years that an expression can name, and in which there are openings.
const (
	firstYear = 1970
	lastYear  = 2199
)

// set is a set of numbers from 0 to 255.
type set [4]uint64

func (s *set) add(v int) { s[v>>6] |= 1 << (v & 63) }

func (s *set) has(v int) bool { return s[v>>6]&(1<<(v&63)) != 0 }

// next is the smallest member that is at least v.
func (s *set) next(v int) (int, bool) {
	for i := v >> 6; i < len(s); i++ {
		rest := s[i]
		if i == v>>6 {
			rest &= ^uint64(0) << (v & 63)
		}
		if rest != 0 {
			return i<<6 + bits.TrailingZeros64(rest), true
		}
	}
	return 0, false
}

func (s *set) size() int {
	n := 0
	for _, part := range s {
		n += bits.OnesCount64(part)
	}
	return n
}

// field is one of the fields of a cron expression.
type field struct {
	name     string
	min, max int
	// names are the values' other names, that of min first.
	names []string
	// allowed is what a refusal says.
	allowed string
}

var (
	seconds     = &field{name: "seconds", max: 59, allowed: "allowed are 0-59 and , - * /"}
	minutes     = &field{name: "minutes", max: 59, allowed: "allowed are 0-59 and , - * /"}
	hours       = &field{name: "hours", max: 23, allowed: "allowed are 0-23 and , - * /"}
	daysOfMonth = &field{name: "day of month", min: 1, max: 31, allowed: "allowed are 1-31 and , - * / ? L LW L-3 15W"}
	months      = &field{name: "month", min: 1, max: 12, allowed: "allowed are 1-12, JAN-DEC and , - * /",
		names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}}
	daysOfWeek = &field{name: "day of week", min: 1, max: 7, allowed: "allowed are 1-7 (1 is SUN), SUN-SAT and , - * / ? L 6L TUE#3",
		names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}}
	years = &field{name: "year", min: firstYear, max: lastYear, allowed: "allowed are 1970-2199 and , - * /"}
)

// span reads one of a list's items that any field may have, *, 5, 2-6, */2, 5/2 or
// 2-6/2, and adds its values, counted from base, to s.
func (r *reader) span(f *field, item word, base int, s *set) error {
	whole, step, stepped := item.cut('/')
	first, last := f.min, f.max
	if whole.text != "*" {
		var err error
		from, to, ranged := whole.cut('-')
		if first, err = r.value(f, from); err != nil {
			return err
		}
		switch {
		case ranged:
			if last, err = r.value(f, to); err != nil {
				return err
			}
			if last < first {
				return r.fail(f.name, whole, "a range goes from the lower to the higher value; write two ranges with a comma")
			}
		case !stepped:
			last = first
		}
	}
	by := 1
	if stepped {
		widest := f.max
		if f == years {
			widest = lastYear - firstYear
		}
		n, ok := number(step.text)
		if !ok || n < 1 || n > widest {
			return r.fail(f.name, step, fmt.Sprintf("a step is 1-%d", widest))
		}
		by = n
	}
	for v := first; v <= last; v += by {
		s.add(v - base)
	}
	return nil
}

// value reads a number or a name.
func (r *reader) value(f *field, at word) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(at.text, name) {
			return f.min + i, nil
		}
	}
	if n, ok := number(at.text); ok && n >= f.min && n <= f.max {
		return n, nil
	}
	return 0, r.fail(f.name, at, f.allowed)
}

// number reads up to four digits.
func number(s string) (int, bool) {
	if s == "" || len(s) > 4 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// list reads a field that has no signs of its own.
func (r *reader) list(f *field, w word, base int) (set, error) {
	var s set
	for _, item := range w.split(',') {
		if err := r.span(f, item, base, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}
