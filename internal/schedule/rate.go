package schedule

import (
	"fmt"
	"strings"
	"time"
)

// longestRate is as long as there are openings at all.
const longestRate = (lastYear - firstYear + 1) * 365 * 24 * time.Hour

// rate reads `value unit`: minute, hour or day with 1, their plurals with more.
func (r *reader) rate() (*Schedule, error) {
	const field = "rate"
	w := r.words
	switch {
	case len(w) < 2:
		return nil, r.fail(field, word{"", r.end}, "it is a number and minute(s), hour(s) or day(s)")
	case len(w) > 2:
		return nil, r.fail(field, w[2], "it is a number and minute(s), hour(s) or day(s), and nothing else")
	}
	n, ok := rateValue(w[0].text)
	if !ok {
		return nil, r.fail(field, w[0], "its number is a whole one, 1 or more, of at most 9 digits")
	}
	unit := strings.ToLower(w[1].text)
	length, known := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[strings.TrimSuffix(unit, "s")]
	switch {
	case !known || strings.HasSuffix(unit, "ss"):
		return nil, r.fail(field, w[1], "its unit is minute(s), hour(s) or day(s)")
	case n == 1 && strings.HasSuffix(unit, "s"):
		return nil, r.fail(field, w[1], fmt.Sprintf("with 1 it is %q", strings.TrimSuffix(unit, "s")))
	case n > 1 && !strings.HasSuffix(unit, "s"):
		return nil, r.fail(field, w[1], fmt.Sprintf("with %d it is %q", n, unit+"s"))
	case n > int(longestRate/length):
		return nil, r.fail(field, w[0], fmt.Sprintf("at most %d days", longestRate/(24*time.Hour)))
	}
	every := time.Duration(n) * length
	if every < r.kind.shortest() {
		return nil, r.fail(field, w[0], r.tooOften())
	}
	if r.kind == Association && every >= 31*24*time.Hour {
		return nil, r.fail(field, w[0], "an association's is less than 31 days")
	}
	return &Schedule{kind: r.kind, form: Rate, text: fmt.Sprintf("rate(%d %s)", n, unit), every: every}, nil
}

// rateValue reads up to nine digits that are more than 0.
func rateValue(s string) (int, bool) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n := 0
	for _, digit := range s {
		n = n*10 + int(digit-'0')
	}
	return n, n > 0
}

// at reads yyyy-MM-ddTHH:mm:ss, a local time.
func (r *reader) at() (*Schedule, error) {
	const field, layout = "at", "2006-01-02T15:04:05"
	switch {
	case len(r.words) == 0:
		return nil, r.fail(field, word{"", r.end}, "it is a local time such as 2026-11-24T02:30:00")
	case len(r.words) > 1:
		return nil, r.fail(field, r.words[1], "it is a local time such as 2026-11-24T02:30:00, and nothing else")
	}
	w := r.words[0]
	t, err := time.Parse(layout, w.text)
	if err != nil || t.Format(layout) != w.text { // Parse takes fractions of a second
		return nil, r.fail(field, w, "it is a local time such as 2026-11-24T02:30:00, without a zone")
	}
	if t.Year() < firstYear || t.Year() > lastYear {
		return nil, r.fail(field, w, fmt.Sprintf("its year is %d-%d", firstYear, lastYear))
	}
	return &Schedule{kind: r.kind, form: At, text: "at(" + w.text + ")", at: t.Unix()}, nil
}
