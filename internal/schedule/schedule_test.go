package schedule

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// tuesday is what the tables count from: a Tuesday.
var tuesday = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, expression string, kind Kind, terms Terms) *Timetable {
	t.Helper()
	s, err := Parse(expression, kind)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	timetable, err := s.With(terms)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return timetable
}

// next is some openings after a moment, as UTC.
func (t *Timetable) some(after time.Time, count int) []string {
	all := []string{}
	for opening, ok := t.Next(after); ok && len(all) < count; opening, ok = t.Next(opening) {
		all = append(all, opening.UTC().Format("2006-01-02T15:04:05Z"))
	}
	return all
}

// check compares the openings after a moment with those wanted; none further is
// wanted when the last is "none".
func (t *Timetable) check(tb testing.TB, name string, after time.Time, want string) {
	tb.Helper()
	wanted := strings.Fields(want)
	count := len(wanted)
	if last := len(wanted) - 1; wanted[last] == "none" {
		wanted = wanted[:last]
	}
	for i, at := range wanted {
		if strings.Count(at, ":") == 1 {
			wanted[i] = strings.Replace(at, "Z", ":00Z", 1)
		}
	}
	if got := t.some(after, count); !slices.Equal(got, wanted) {
		tb.Errorf("%s:\n got %q\nwant %q", name, got, wanted)
	}
}

func TestOpenings(t *testing.T) {
	for expression, want := range map[string]string{
		// The reference's.
		"cron(0 2 ? * THU#3 *)":       "2026-12-17T02:00Z 2027-01-21T02:00Z 2027-02-18T02:00Z",
		"cron(30 23 ? * TUE#3 *)":     "2026-12-15T23:30Z 2027-01-19T23:30Z",
		"cron(15 10 ? * MON-FRI *)":   "2026-11-25T10:15Z 2026-11-26T10:15Z 2026-11-27T10:15Z 2026-11-30T10:15Z",
		"cron(0 2 L * ? *)":           "2026-11-30T02:00Z 2026-12-31T02:00Z 2027-01-31T02:00Z 2027-02-28T02:00Z",
		"cron(15 10 ? * 6L *)":        "2026-11-27T10:15Z 2026-12-25T10:15Z 2027-01-29T10:15Z",
		"cron(0 0 ? * 3L *)":          "2026-12-29T00:00Z 2027-01-26T00:00Z 2027-02-23T00:00Z",
		"cron(24 30 09 ? * * *)":      "2026-11-25T09:30:24Z 2026-11-26T09:30:24Z",
		"rate(5 minutes)":             "2026-11-24T12:05Z 2026-11-24T12:10Z",
		"rate(1 hour)":                "2026-11-24T13:00Z 2026-11-24T14:00Z",
		"rate(7 days)":                "2026-12-01T12:00Z 2026-12-08T12:00Z",
		"at(2026-12-24T18:00:00)":     "2026-12-24T18:00Z none",
		"at(2026-11-24T12:00:00)":     "none",
		"cron(0/30 * * * ? *)":        "2026-11-24T12:30Z 2026-11-24T13:00Z",
		"cron(0 0/8 * * ? *)":         "2026-11-24T16:00Z 2026-11-25T00:00Z 2026-11-25T08:00Z",
		"cron(0 0/30 * 1/1 * ? *)":    "2026-11-24T12:30Z 2026-11-24T13:00Z",
		"cron(0 30 8/12 ? * 1-7 *)":   "2026-11-24T20:30Z 2026-11-25T08:30Z",
		"cron(0 3 1/10 * ? *)":        "2026-12-01T03:00Z 2026-12-11T03:00Z 2026-12-21T03:00Z 2026-12-31T03:00Z 2027-01-01T03:00Z",
		"cron(0 3 ? * SUN *)":         "2026-11-29T03:00Z 2026-12-06T03:00Z",
		"cron(0 12 24 11 ? *)":        "2027-11-24T12:00Z",
		"cron(59 11 24 11 ? 2026)":    "none",
		"cron(1 12 24 NOV ? 2026)":    "2026-11-24T12:01Z none",
		"cron(0 0 31 * ? *)":          "2026-12-31T00:00Z 2027-01-31T00:00Z 2027-03-31T00:00Z",
		"cron(0 0 29 2 ? *)":          "2028-02-29T00:00Z 2032-02-29T00:00Z",
		"cron(0 0 29 2 ? 2097/2)":     "none",
		"cron(0 0 31 APR,JUN ? *)":    "none",
		"cron(0 0 ? * MON#5 2026)":    "2026-11-30T00:00Z none",
		"cron(0 0 1 1 ? 2199)":        "2199-01-01T00:00Z none",
		"cron(0 0 1 1 ? 1970-2027)":   "2027-01-01T00:00Z none",
		"cron(0 0 ? * 1 *)":           "2026-11-29T00:00Z",
		"cron(0 0 ? * 7 *)":           "2026-11-28T00:00Z",
		"cron(0 0 ? * L *)":           "2026-11-28T00:00Z 2026-12-05T00:00Z",
		"cron(0 0 ? * friL *)":        "2026-11-27T00:00Z 2026-12-25T00:00Z",
		"cron(0 0 ? * 3#2 *)":         "2026-12-08T00:00Z 2027-01-12T00:00Z",
		"cron(0 0 ? * 2#1,SAT#1 *)":   "2026-12-05T00:00Z 2026-12-07T00:00Z 2027-01-02T00:00Z",
		"cron(0 0 ? * mon/2 *)":       "2026-11-25T00:00Z 2026-11-27T00:00Z 2026-11-30T00:00Z",
		"cron(0 0 L-2 * ? *)":         "2026-11-28T00:00Z 2026-12-29T00:00Z 2027-01-29T00:00Z 2027-02-26T00:00Z",
		"cron(0 0 L-30 * ? *)":        "2026-12-01T00:00Z 2027-01-01T00:00Z 2027-03-01T00:00Z",
		"cron(0 0 lw * ? *)":          "2026-11-30T00:00Z 2026-12-31T00:00Z 2027-01-29T00:00Z 2027-02-26T00:00Z",
		"cron(0 0 15W * ? *)":         "2026-12-15T00:00Z 2027-01-15T00:00Z 2027-02-15T00:00Z 2027-03-15T00:00Z 2027-04-15T00:00Z 2027-05-14T00:00Z",
		"cron(0 0 1W * ? *)":          "2026-12-01T00:00Z 2027-01-01T00:00Z 2027-02-01T00:00Z 2027-03-01T00:00Z 2027-04-01T00:00Z 2027-05-03T00:00Z",
		"cron(0 0 31W * ? *)":         "2026-12-31T00:00Z 2027-01-29T00:00Z 2027-03-31T00:00Z 2027-05-31T00:00Z",
		"cron(0 0 28W 2 ? *)":         "2027-02-26T00:00Z",
		"cron(0 0 4,L,6W JAN ? *)":    "2027-01-04T00:00Z 2027-01-06T00:00Z 2027-01-31T00:00Z",
		"cron(10-20/5,40 3 24 * ? *)": "2026-12-24T03:10Z 2026-12-24T03:15Z 2026-12-24T03:20Z 2026-12-24T03:40Z",
		"cron(*/20 22/1 * * ? *)":     "2026-11-24T22:00Z 2026-11-24T22:20Z 2026-11-24T22:40Z 2026-11-24T23:00Z 2026-11-24T23:20Z 2026-11-24T23:40Z 2026-11-25T22:00Z",
	} {
		must(t, expression, Window, Terms{Since: tuesday}).check(t, expression, tuesday, want)
	}
}

func TestDaysWithoutAndWithAnHourMore(t *testing.T) {
	for _, test := range []struct{ zone, expression, from, want string }{
		// 02:00 to 03:00 is not there.
		{"Europe/Berlin", "cron(30 2 * * ? *)", "2026-03-28", "2026-03-28T01:30Z 2026-03-29T01:30Z 2026-03-30T00:30Z"},
		{"Europe/Berlin", "cron(30 2 29 3 ? *)", "2026-03-28", "2026-03-29T01:30Z 2027-03-29T00:30Z"},
		{"Europe/Berlin", "cron(0 2 ? * SUNL *)", "2026-03-28", "2026-03-29T01:00Z"},
		{"Europe/Berlin", "cron(0/30 1-3 * * ? *)", "2026-03-28T23:30", "2026-03-29T00:00Z 2026-03-29T00:30Z 2026-03-29T01:00Z 2026-03-29T01:30Z 2026-03-29T23:00Z"},
		{"Europe/Berlin", "cron(5,40 2-3 * * ? *)", "2026-03-28T23:30", "2026-03-29T01:05Z 2026-03-29T01:40Z 2026-03-30T00:05Z"},
		{"Europe/Berlin", "cron(5,40 2 * * ? *)", "2026-03-28T23:30", "2026-03-29T01:05Z 2026-03-29T01:40Z 2026-03-30T00:05Z"},
		{"Europe/Berlin", "cron(40 2-3 * * ? *)", "2026-03-29T00:59:59", "2026-03-29T01:40Z 2026-03-30T00:40Z"},
		{"Europe/Berlin", "at(2026-03-29T02:59:59)", "2026-03-28", "2026-03-29T01:59:59Z none"},
		// 02:00 to 03:00 comes twice.
		{"Europe/Berlin", "cron(30 2 * * ? *)", "2026-10-24", "2026-10-24T00:30Z 2026-10-25T00:30Z 2026-10-26T01:30Z"},
		{"Europe/Berlin", "cron(0/30 1-3 * * ? *)", "2026-10-24T22:30", "2026-10-24T23:00Z 2026-10-24T23:30Z 2026-10-25T00:00Z 2026-10-25T00:30Z 2026-10-25T02:00Z 2026-10-25T02:30Z 2026-10-26T00:00Z"},
		{"Europe/Berlin", "cron(30 2 * * ? *)", "2026-10-25T01:00", "2026-10-26T01:30Z"},
		{"Europe/Berlin", "at(2026-10-25T02:00:00)", "2026-10-24", "2026-10-25T00:00Z none"},
		{"America/New_York", "cron(30 2 ? * 1#2 *)", "2026-03-01", "2026-03-08T07:30Z 2026-04-12T06:30Z"},
		{"America/New_York", "cron(30 1 ? * 1#1 *)", "2026-11-01", "2026-11-01T05:30Z 2026-12-06T06:30Z"},
		// Half an hour.
		{"Australia/Lord_Howe", "cron(15 2 * * ? *)", "2026-10-03T12:00", "2026-10-03T15:45Z 2026-10-04T15:15Z"},
		{"Australia/Lord_Howe", "cron(20,45 2 * * ? *)", "2026-10-03T12:00", "2026-10-03T15:45Z 2026-10-03T15:50Z 2026-10-04T15:20Z"},
		{"Australia/Lord_Howe", "cron(45 1 * * ? *)", "2026-04-04T12:00", "2026-04-04T14:45Z 2026-04-05T15:15Z"},
		// At midnight.
		{"America/Sao_Paulo", "cron(0 0 * * ? *)", "2018-11-03T12:00", "2018-11-04T03:00Z 2018-11-05T02:00Z"},
		{"America/Sao_Paulo", "cron(30 23 ? * SAT *)", "2018-02-17T12:00", "2018-02-18T01:30Z 2018-02-25T02:30Z"},
		{"Asia/Beirut", "cron(0 0 L * ? *)", "2024-03-30T12:00", "2024-03-30T22:00Z 2024-04-29T21:00Z"},
		{"Asia/Beirut", "cron(59 0 ? * SUNL *)", "2024-03-30T12:00", "2024-03-30T22:59Z"},
		// A day that was not there.
		{"Pacific/Apia", "cron(0 10 * * ? *)", "2011-12-29", "2011-12-29T20:00Z 2011-12-30T20:00Z 2011-12-31T20:00Z"},
		{"Pacific/Apia", "cron(0 10 30 * ? *)", "2011-12-01", "2011-12-30T20:00Z 2012-01-29T20:00Z"},
		{"Pacific/Apia", "cron(0 0/6 30-31 12 ? 2011)", "2011-12-30", "2011-12-30T10:00Z 2011-12-30T16:00Z 2011-12-30T22:00Z 2011-12-31T04:00Z none"},
		// Back in Ramadan.
		{"Africa/Casablanca", "cron(30 2 * * ? *)", "2024-03-09T12:00", "2024-03-10T01:30Z 2024-03-11T02:30Z"},
		{"Africa/Casablanca", "cron(30 2 * * ? *)", "2024-04-13T12:00", "2024-04-14T02:30Z 2024-04-15T01:30Z"},
		// Nothing happens.
		{"UTC", "cron(30 2 * * ? *)", "2026-03-28", "2026-03-28T02:30Z 2026-03-29T02:30Z 2026-03-30T02:30Z"},
		{"Asia/Kathmandu", "cron(0 0 * * ? *)", "2026-03-28", "2026-03-28T18:15Z"},
		// Past the years that zone data list.
		{"Europe/Berlin", "cron(30 2 ? MAR SUNL 2150)", "2026-01-01", "2150-03-29T01:30Z none"},
		{"Europe/Berlin", "cron(30 2 ? OCT SUNL 2150)", "2026-01-01", "2150-10-25T00:30Z none"},
		{"Europe/Berlin", "cron(30 2 31 12 ? 2040)", "2026-01-01", "2040-12-31T01:30Z none"},
	} {
		from, err := Date(test.from)
		if err != nil {
			t.Fatal(err)
		}
		zone := mustZone(t, test.zone)
		must(t, test.expression, Window, Terms{Zone: zone}).check(t, test.zone+" "+test.expression, from, test.want)
	}
}

// A rate counts hours, not what the clock shows.
func TestRateKnowsNoZone(t *testing.T) {
	zone := mustZone(t, "Europe/Berlin")
	from := time.Date(2026, 3, 28, 12, 0, 0, 0, zone)
	must(t, "rate(1 day)", Window, Terms{Zone: zone, Since: from}).check(t, "rate", from, "2026-03-29T11:00Z 2026-03-30T11:00Z")
}

func TestTerms(t *testing.T) {
	at := func(text string) time.Time {
		date, err := Date(text)
		if err != nil {
			t.Fatal(err)
		}
		return date
	}
	berlin := mustZone(t, "Europe/Berlin")
	const third = "cron(30 23 ? * TUE#3 *)"
	for name, test := range map[string]struct {
		expression string
		terms      Terms
		from, want string
	}{
		"two days after":                        {third, Terms{Offset: 2}, "2026-12-01", "2026-12-17T23:30Z 2027-01-21T23:30Z"},
		"made between the day and the opening":  {third, Terms{Offset: 2, Since: at("2026-12-16")}, "2026-12-16", "2027-01-21T23:30Z"},
		"made before the day":                   {third, Terms{Offset: 2, Since: at("2026-12-15T23:29:59")}, "2026-12-15", "2026-12-17T23:30Z"},
		"made on the second":                    {third, Terms{Offset: 2, Since: at("2026-12-15T23:30")}, "2026-12-15", "2027-01-21T23:30Z"},
		"asked between the day and the opening": {third, Terms{Offset: 2, Since: at("2026-12-01")}, "2026-12-16", "2026-12-17T23:30Z 2027-01-21T23:30Z"},
		"each day, made now":                    {"cron(0 3 * * ? *)", Terms{Offset: 6, Since: at("2026-12-01T12:00")}, "2026-12-01", "2026-12-08T03:00Z 2026-12-09T03:00Z"},
		"into the next month and year":          {"cron(0 3 L 12 ? *)", Terms{Offset: 1}, "2026-12-01", "2027-01-01T03:00Z 2028-01-01T03:00Z"},
		"out of the last year":                  {"cron(0 3 31 12 ? 2199)", Terms{Offset: 6}, "2026-12-01", "none"},
		"onto a day when the clock is set":      {"cron(30 2 ? * FRIL *)", Terms{Offset: 2, Zone: berlin}, "2026-03-01", "2026-03-01T01:30Z 2026-03-29T01:30Z"},
		"from a day when the clock is set":      {"cron(30 2 ? * SUNL *)", Terms{Offset: 1, Zone: berlin}, "2026-03-01", "2026-03-30T00:30Z"},
		"start":                                 {"cron(0 3 * * ? *)", Terms{Start: at("2027-01-05T03:00")}, "2026-12-01", "2027-01-05T03:00Z 2027-01-06T03:00Z"},
		"start is in no zone":                   {"cron(0 3 * * ? *)", Terms{Start: at("2027-01-05T02:30"), Zone: berlin}, "2026-12-01", "2027-01-06T02:00Z"},
		"start with a fraction":                 {"cron(0 3 * * ? *)", Terms{Start: at("2027-01-05T03:00:00.5Z")}, "2026-12-01", "2027-01-06T03:00Z"},
		"end":                                   {"cron(0 3 * * ? *)", Terms{End: at("2026-12-03T03:00")}, "2026-12-01", "2026-12-01T03:00Z 2026-12-02T03:00Z none"},
		"end with a fraction":                   {"cron(0 3 * * ? *)", Terms{End: at("2026-12-03T03:00:00.5Z")}, "2026-12-02T12:00", "2026-12-03T03:00Z none"},
		"end is over":                           {"cron(0 3 * * ? *)", Terms{End: at("2026-12-03")}, "2026-12-03", "none"},
		"start counts for the opening":          {third, Terms{Offset: 2, Start: at("2026-12-16")}, "2026-12-01", "2026-12-17T23:30Z"},
		"at before the start":                   {"at(2026-12-24T18:00:00)", Terms{Start: at("2026-12-25")}, "2026-12-01", "none"},
		"at, in a zone":                         {"at(2026-12-24T18:00:00)", Terms{Zone: berlin}, "2026-12-01", "2026-12-24T17:00Z none"},
		"at is over when it was made":           {"at(2026-12-24T18:00:00)", Terms{Since: at("2026-12-24T18:00")}, "2026-12-01", "none"},
		"rate from when it was made":            {"rate(2 hours)", Terms{Since: at("2026-12-01T00:07:30")}, "2026-12-03", "2026-12-03T00:07:30Z 2026-12-03T02:07:30Z"},
		"rate asked from before":                {"rate(2 hours)", Terms{Since: at("2026-12-01T00:07")}, "2026-11-03", "2026-12-01T02:07Z"},
		"rate from a start to come":             {"rate(2 days)", Terms{Since: at("2026-12-01"), Start: at("2027-01-05T03:00")}, "2026-12-01", "2027-01-05T03:00Z 2027-01-07T03:00Z"},
		"rate from a start that is over":        {"rate(2 days)", Terms{Since: at("2026-12-01"), Start: at("2026-11-30T03:00")}, "2026-12-01", "2026-12-03T00:00Z"},
		"rate to an end":                        {"rate(2 days)", Terms{Since: at("2026-12-01"), End: at("2026-12-04")}, "2026-12-01", "2026-12-03T00:00Z none"},
		"rate does not drift":                   {"rate(7 minutes)", Terms{Since: at("2000-01-01T00:00:01")}, "2150-01-01T00:00:00", "2150-01-01T00:03:01Z"},
	} {
		must(t, test.expression, Window, test.terms).check(t, name, at(test.from), test.want)
	}
	for name, test := range map[string]struct {
		expression string
		kind       Kind
		terms      Terms
	}{
		"offset of 7":              {third, Window, Terms{Offset: 7}},
		"offset of -1":             {third, Window, Terms{Offset: -1}},
		"offset of a rate":         {"rate(1 day)", Window, Terms{Offset: 1, Since: tuesday}},
		"offset of at":             {"at(2026-12-24T18:00:00)", Window, Terms{Offset: 1}},
		"rate without a beginning": {"rate(1 day)", Window, Terms{}},
		"ends before it starts":    {third, Window, Terms{Start: tuesday, End: tuesday}},
		"association in a zone":    {third, Association, Terms{Zone: berlin}},
	} {
		s, err := Parse(test.expression, test.kind)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := s.With(test.terms); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestBetween(t *testing.T) {
	timetable := must(t, "cron(0 3 * * ? *)", Window, Terms{})
	day := func(d, h int) time.Time { return time.Date(2026, 12, d, h, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		from, to time.Time
		want     []time.Time
	}{
		"both ends":  {day(1, 3), day(3, 3), []time.Time{day(1, 3), day(2, 3)}},
		"fractions":  {day(1, 3).Add(1), day(3, 3).Add(1), []time.Time{day(2, 3), day(3, 3)}},
		"empty":      {day(1, 4), day(2, 3), nil},
		"wrong way":  {day(3, 4), day(1, 3), nil},
		"given up":   {day(1, 0), day(30, 0), []time.Time{day(1, 3), day(2, 3), day(3, 3)}},
		"past times": {time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(-1, 0, 0), time.Date(1970, 1, 1, 4, 0, 0, 0, time.UTC), []time.Time{time.Date(1970, 1, 1, 3, 0, 0, 0, time.UTC)}},
	} {
		var got []time.Time
		for opening := range timetable.Between(test.from, test.to) {
			if got = append(got, opening); len(got) == 3 {
				break
			}
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// The openings are in the timetable's zone.
func TestOpeningsAreInTheZone(t *testing.T) {
	opening, ok := must(t, "cron(0 3 * * ? *)", Window, Terms{Zone: mustZone(t, "Europe/Berlin")}).Next(tuesday)
	if got := opening.Format(time.RFC3339); !ok || got != "2026-11-25T03:00:00+01:00" {
		t.Errorf("%s, %v", got, ok)
	}
}

func TestZone(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "GMT", "Asia/Kolkata"} {
		if zone, err := Zone(name); err != nil || zone.String() != name {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
	for _, name := range []string{"", "Local", "localtime", "europe/berlin/x", "Europe", "../etc/passwd", "/etc/localtime", "right/Europe/Berlin", "posix/UTC", "CEST", "+02:00", "Europe/Berlin ", "UTC\x00"} {
		if zone, err := Zone(name); !errors.Is(err, ErrInvalid) || zone != nil {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
}

// Minimal hosts have no zone data; here, where there are some, only the import shows
// that the program has its own.
func TestZoneDataComeWithTheProgram(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "zone.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"time/tzdata"` }) {
		t.Error("zone.go does not import time/tzdata")
	}
}

func TestDate(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-24T02:30:00Z": "2026-11-24T02:30:00Z", "2026-11-24T02:30:00.250Z": "2026-11-24T02:30:00.25Z", "2026-11-24T02:30:00-06:00": "2026-11-24T08:30:00Z",
		"2026-11-24T02:30Z": "2026-11-24T02:30:00Z", "2026-11-24T02:30:00": "2026-11-24T02:30:00Z", "2026-11-24T02:30": "2026-11-24T02:30:00Z", "2026-11-24": "2026-11-24T00:00:00Z",
	} {
		if got, err := Date(text); err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "now", "2026-02-30", "2026-11-24 02:30", "24.11.2026", "2026-11-24T25:00Z", "1700000000", "2026-11-24T02:30:00+6"} {
		if got, err := Date(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
