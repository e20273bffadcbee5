package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestWindowSchedule(t *testing.T) {
	m := newFakeMesh(t)
	for name, line := range map[string][]string{
		"window-schedule":         {"--expression", "cron(30 2 ? * SUNL *)", "--timezone", "Europe/Berlin", "--from", "2026-03-01", "--next", "8"},
		"window-schedule-json":    {"--expression", "cron(30 2 ? * SUNL *)", "--timezone", "Europe/Berlin", "--from", "2026-03-01", "--next", "2", "-o", "json"},
		"window-schedule-yaml":    {"--expression", "cron(30 23 ? * TUE#3 *)", "--offset", "2", "--next", "2", "-o", "yaml"},
		"window-schedule-dates":   {"--expression", "rate(7 days)", "--start-date", "2027-01-03T02:00:00+02:00", "--end-date", "2027-01-20"},
		"window-schedule-never":   {"--expression", "at(2020-02-29T00:00:00)"},
		"window-schedule-no-json": {"--expression", "at(2020-02-29T00:00:00)", "-o", "json"},
		"window-schedule-wrong":   {"--expression", "cron(0 2 ? *\tMON-FRY *)"},
		"window-schedule-short":   {"--expression", "cron(0 2 ? * MON)"},
		"window-schedule-as-json": {"--expression", "cron(0 24 * * ? *)", "-o", "json"},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m.run(append([]string{"window", "schedule"}, line...)...)) })
	}
	if len(m.called("")) != 0 {
		t.Error("a mesh was asked")
	}
}

func TestWindowScheduleIsRefused(t *testing.T) {
	m := newFakeMesh(t)
	const good = "cron(0 2 * * ? *)"
	for _, test := range []struct {
		line []string
		exit int
		want string
	}{
		{nil, exitUsage, "say which schedule, with WINDOW or --expression"},
		{[]string{"--expression", good, "--next", "0"}, exitUsage, "--next is 1 to"},
		{[]string{"--expression", good, "--next", "50001", "-o", "yaml"}, exitUsage, "--next is 1 to 50000, and to 1000000 with -o json"},
		{[]string{"--expression", good, "--next", "1000001", "-o", "json"}, exitUsage, "--next is 1 to 50000"},
		{[]string{"--expression", good, "--offset", "0"}, exitUsage, "--offset is 1 to 6 days, not 0"},
		{[]string{"mw-1", "mw-2"}, exitUsage, `unexpected argument "mw-2"`},
		{[]string{"--expression", ""}, exitRefused, "it has to be cron(...), rate(...) or at(...)"},
		{[]string{"--expression", good, "--offset", "7"}, exitRefused, "the offset is 1 to 6 days, not 7"},
		{[]string{"--expression", "rate(1 day)", "--offset", "2"}, exitRefused, "only cron(...) can have an offset"},
		{[]string{"--expression", good, "--timezone", "Europe/Wien"}, exitRefused, `"Europe/Wien" is not an IANA time zone`},
		{[]string{"--expression", good, "--start-date", "tomorrow"}, exitRefused, `"tomorrow" is not an ISO-8601 date`},
		{[]string{"--expression", good, "--from", "24.11.2026"}, exitRefused, `"24.11.2026" is not an ISO-8601 date`},
		{[]string{"--expression", good, "--start-date", "2027-01-02", "--end-date", "2027-01-01"}, exitRefused, "the end date is not after the start date"},
	} {
		r := m.run(append([]string{"window", "schedule"}, test.line...)...)
		if r.code != test.exit || r.out != "" || !strings.Contains(r.err, test.want) {
			t.Errorf("%q: %+v, want %d, %q", test.line, r, test.exit, test.want)
		}
	}
}

// The caret is below the first character of what is wrong, whatever is before it.
func TestCaret(t *testing.T) {
	m := newFakeMesh(t)
	for expression, wrong := range map[string]string{
		"cron(0 2 ? * MON-FRY *)": "FRY",
		"cron(0  2  ? * MON 1#*)": "1#",
		"cron(ä 2 ? * MON *)":     "ä",
		"cron(0 2 ? * MON *":      "",
		"rate(5 hour)":            "hour",
	} {
		r := m.run("window", "schedule", "--expression", expression)
		lines := strings.Split(r.err, "\n")
		if len(lines) != 4 || lines[1] != "  "+expression {
			t.Errorf("%s: %+v", expression, r)
			continue
		}
		column := len([]rune(strings.TrimSuffix(lines[2], "^")))
		if shown := string([]rune(lines[1] + "\n")[column:]); !strings.HasPrefix(shown, wrong) || wrong == "" && shown != "\n" {
			t.Errorf("%s: the caret is below %q\n%s", expression, shown, r.err)
		}
	}
}

// What programs read is the same moment three times.
func TestWindowScheduleForPrograms(t *testing.T) {
	m := newFakeMesh(t)
	r := m.runIn(func(s *surroundings) { s.zone = time.FixedZone("here", -5*3600) },
		"window", "schedule", "--expression", "cron(0/5 1-3 * * ? *)", "--timezone", "Australia/Lord_Howe", "--next", "500", "-o", "json")
	var out windowScheduleOutput
	if err := json.Unmarshal([]byte(r.out), &out); err != nil || r.code != 0 || len(out.ScheduledWindowExecutions) != 500 {
		t.Fatalf("%v: %+v", err, r)
	}
	last := testNow
	for _, opening := range out.ScheduledWindowExecutions {
		at, err := time.Parse("2006-01-02T15:04:05Z", opening.ExecutionTime)
		if err != nil || !at.After(last) {
			t.Fatalf("%+v after %v: %v", opening, last, err)
		}
		last = at
		there, _ := time.Parse(time.RFC3339, opening.WindowTime)
		here, _ := time.Parse(time.RFC3339, opening.LocalTime)
		if !there.Equal(at) || !here.Equal(at) || !strings.HasSuffix(opening.LocalTime, "-05:00") || there.Hour() < 1 || there.Hour() > 3 || opening.SecondsUntil != int64(at.Sub(testNow)/time.Second) {
			t.Fatalf("%+v", opening)
		}
	}
}

func TestAway(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0m 0s", 59 * time.Second: "0m 59s", 90 * time.Minute: "1h 30m", 24 * time.Hour: "1d 0h",
		400*24*time.Hour + 23*time.Hour: "400d 23h", -time.Minute: "-1m 0s", -25 * time.Hour: "-1d 1h",
	} {
		if got := away(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
