package schedule

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The place of the fault is where ^ stands below the expression; nothing is what is
// quoted when it stands behind it.
func TestRefusals(t *testing.T) {
	const anyKind = Kind(-1)
	for _, test := range []struct {
		kind                      Kind
		expression, caret         string
		field, value, reasonParts string
	}{
		{anyKind, "", "^", "expression", "", "cron(...), rate(...) or at(...)"},
		{anyKind, "0 2 ? * MON *", "^", "expression", "0 2 ? * MON *", "cron(...)"},
		{anyKind, "corn(0 2 ? * MON *)", "^", "expression", "corn", "cron(...)"},
		{anyKind, " cron(0 2 ? * MON *)", "^", "expression", " cron", "cron(...)"},
		{anyKind, "cron(0 2 ? * MON *", "                  ^", "expression", "", "a ) is missing"},
		{anyKind, "cron(0 2 ? * MON *))", "                   ^", "expression", ")", "nothing may follow"},
		{anyKind, "cron(0 2 ? * MON *) ", "                   ^", "expression", " ", "nothing may follow"},
		{anyKind, ")cron(", "^", "expression", ")", "cron(...)"},
		{anyKind, "cron()", "     ^", "expression", "", "six fields"},
		{anyKind, "cron(0 2 ? * MON)", "                ^", "expression", "", "not 5"},
		{anyKind, "cron(0 0 2 ? * MON * *)", "                     ^", "expression", "*", "not more"},
		{anyKind, "cron(0\n2 ? * MON *)", "      ^", "expression", "\n", "no such characters"},
		{anyKind, "cron(0 2 ? * ＭON *)", "             ^", "expression", "Ｍ", "no such characters"},
		{anyKind, "cron(0 2 ? * \xff *)", "             ^", "expression", "\ufffd", "no such characters"},

		{anyKind, "cron(60 2 ? * MON *)", "     ^", "minutes", "60", "0-59"},
		{anyKind, "cron(-5 2 ? * MON *)", "     ^", "minutes", "", "0-59"},
		{anyKind, "cron(5- 2 ? * MON *)", "       ^", "minutes", "", "0-59"},
		{anyKind, "cron(1-2-3 2 ? * MON *)", "       ^", "minutes", "2-3", "0-59"},
		{anyKind, "cron(5,,6 2 ? * MON *)", "       ^", "minutes", "", "0-59"},
		{anyKind, "cron(, 2 ? * MON *)", "     ^", "minutes", "", "0-59"},
		{anyKind, "cron(0x1 2 ? * MON *)", "     ^", "minutes", "0x1", "0-59"},
		{anyKind, "cron(+1 2 ? * MON *)", "     ^", "minutes", "+1", "0-59"},
		{anyKind, "cron(1.5 2 ? * MON *)", "     ^", "minutes", "1.5", "0-59"},
		{anyKind, "cron(00001 2 ? * MON *)", "     ^", "minutes", "00001", "0-59"},
		{anyKind, "cron(99999999999999999999 2 ? * MON *)", "     ^", "minutes", "99999999999999999999", "0-59"},
		{anyKind, "cron(? 2 ? * MON *)", "     ^", "minutes", "?", "0-59"},
		{anyKind, "cron(L 2 ? * MON *)", "     ^", "minutes", "L", "0-59"},
		{anyKind, "cron(MON 2 ? * MON *)", "     ^", "minutes", "MON", "0-59"},
		{anyKind, "cron(*5 2 ? * MON *)", "     ^", "minutes", "*5", "0-59"},
		{anyKind, "cron(** 2 ? * MON *)", "     ^", "minutes", "**", "0-59"},
		{anyKind, "cron(/5 2 ? * MON *)", "     ^", "minutes", "", "0-59"},
		{anyKind, "cron(0/0 2 ? * MON *)", "       ^", "minutes", "0", "a step is 1-59"},
		{anyKind, "cron(0/60 2 ? * MON *)", "       ^", "minutes", "60", "a step is 1-59"},
		{anyKind, "cron(0/ 2 ? * MON *)", "       ^", "minutes", "", "a step is 1-59"},
		{anyKind, "cron(*/5/5 2 ? * MON *)", "       ^", "minutes", "5/5", "a step is 1-59"},
		{anyKind, "cron(50-10 2 ? * MON *)", "     ^", "minutes", "50-10", "from the lower to the higher"},
		{anyKind, "cron(0 24 ? * MON *)", "       ^", "hours", "24", "0-23"},
		{anyKind, "cron(0 22-2 ? * MON *)", "       ^", "hours", "22-2", "from the lower to the higher"},
		{anyKind, "cron(0 */24 ? * MON *)", "         ^", "hours", "24", "a step is 1-23"},
		{anyKind, "cron(60 0 2 ? * MON *)", "     ^", "seconds", "60", "0-59"},
		{anyKind, "cron(? 0 2 ? * MON *)", "     ^", "seconds", "?", "0-59"},

		{anyKind, "cron(0 2 0 * ? *)", "         ^", "day of month", "0", "1-31"},
		{anyKind, "cron(0 2 32 * ? *)", "         ^", "day of month", "32", "1-31"},
		{anyKind, "cron(0 2 MON * ? *)", "         ^", "day of month", "MON", "1-31"},
		{anyKind, "cron(0 2 3L * ? *)", "         ^", "day of month", "3L", "1-31"},
		{anyKind, "cron(0 2 W * ? *)", "         ^", "day of month", "W", "15W"},
		{anyKind, "cron(0 2 WL * ? *)", "         ^", "day of month", "WL", "LW"},
		{anyKind, "cron(0 2 32W * ? *)", "         ^", "day of month", "32W", "15W"},
		{anyKind, "cron(0 2 1-5W * ? *)", "         ^", "day of month", "1-5W", "15W"},
		{anyKind, "cron(0 2 3#2 * ? *)", "         ^", "day of month", "3#2", "1-31"},
		{anyKind, "cron(0 2 L-0 * ? *)", "           ^", "day of month", "0", "L-1 to L-30"},
		{anyKind, "cron(0 2 L-31 * ? *)", "           ^", "day of month", "31", "L-1 to L-30"},
		{anyKind, "cron(0 2 L-3W * ? *)", "           ^", "day of month", "3W", "L-1 to L-30"},
		{anyKind, "cron(0 2 L/2 * ? *)", "         ^", "day of month", "L", "1-31"},
		{anyKind, "cron(0 2 1,? * ? *)", "           ^", "day of month", "?", "1-31"},
		{anyKind, "cron(0 2 1-7 * MON *)", "               ^", "day of week", "MON", "has to be ?"},
		{anyKind, "cron(0 2 * * * *)", "             ^", "day of week", "*", "has to be ?"},
		{anyKind, "cron(0 2 ? * ? *)", "             ^", "day of week", "?", "only one"},
		{anyKind, "cron(0 2 ? * 0 *)", "             ^", "day of week", "0", "1 is SUN"},
		{anyKind, "cron(0 2 ? * 8 *)", "             ^", "day of week", "8", "1 is SUN"},
		{anyKind, "cron(0 2 ? * MONDAY *)", "             ^", "day of week", "MONDAY", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * MON-FRY *)", "                 ^", "day of week", "FRY", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * FRI-MON *)", "             ^", "day of week", "FRI-MON", "from the lower to the higher"},
		{anyKind, "cron(0 2 ? * MON,TUE,JAN *)", "                     ^", "day of week", "JAN", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * 15W *)", "             ^", "day of week", "15W", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * LW *)", "             ^", "day of week", "LW", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * 8L *)", "             ^", "day of week", "8L", "6L"},
		{anyKind, "cron(0 2 ? * L-3 *)", "             ^", "day of week", "L", "6L"},
		{anyKind, "cron(0 2 ? * MON#0 *)", "                 ^", "day of week", "0", "1-5"},
		{anyKind, "cron(0 2 ? * MON#6 *)", "                 ^", "day of week", "6", "1-5"},
		{anyKind, "cron(0 2 ? * MON# *)", "                 ^", "day of week", "", "1-5"},
		{anyKind, "cron(0 2 ? * MON#L *)", "             ^", "day of week", "MON#L", "6L"},
		{anyKind, "cron(0 2 ? * #2 *)", "             ^", "day of week", "", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * 9#2 *)", "             ^", "day of week", "9", "SUN-SAT"},
		{anyKind, "cron(0 2 ? * MON-WED#2 *)", "             ^", "day of week", "MON-WED", "SUN-SAT"},
		{anyKind, "cron(0 2 ? 0 MON *)", "           ^", "month", "0", "1-12"},
		{anyKind, "cron(0 2 ? 13 MON *)", "           ^", "month", "13", "1-12"},
		{anyKind, "cron(0 2 ? SUN MON *)", "           ^", "month", "SUN", "JAN-DEC"},
		{anyKind, "cron(0 2 ? NOV-FEB MON *)", "           ^", "month", "NOV-FEB", "from the lower to the higher"},
		{anyKind, "cron(0 2 ? ? MON *)", "           ^", "month", "?", "1-12"},
		{anyKind, "cron(0 2 ? * MON 1969)", "                 ^", "year", "1969", "1970-2199"},
		{anyKind, "cron(0 2 ? * MON 2200)", "                 ^", "year", "2200", "1970-2199"},
		{anyKind, "cron(0 2 ? * MON ?)", "                 ^", "year", "?", "1970-2199"},
		{anyKind, "cron(0 2 ? * MON 26)", "                 ^", "year", "26", "1970-2199"},
		{anyKind, "cron(0 2 ? * MON 2026/230)", "                      ^", "year", "230", "a step is 1-229"},

		{anyKind, "rate()", "     ^", "rate", "", "minute(s), hour(s) or day(s)"},
		{anyKind, "rate(5)", "      ^", "rate", "", "minute(s), hour(s) or day(s)"},
		{anyKind, "rate(5minutes)", "             ^", "rate", "", "minute(s)"},
		{anyKind, "rate(0 minutes)", "     ^", "rate", "0", "1 or more"},
		{anyKind, "rate(-5 hours)", "     ^", "rate", "-5", "1 or more"},
		{anyKind, "rate(1.5 hours)", "     ^", "rate", "1.5", "whole"},
		{anyKind, "rate(one hour)", "     ^", "rate", "one", "whole"},
		{anyKind, "rate(9999999999 minutes)", "     ^", "rate", "9999999999", "9 digits"},
		{anyKind, "rate(999999999 days)", "     ^", "rate", "999999999", "at most 83950 days"},
		{anyKind, "rate(1 hours)", "       ^", "rate", "hours", `with 1 it is "hour"`},
		{anyKind, "rate(5 hour)", "       ^", "rate", "hour", `with 5 it is "hours"`},
		{anyKind, "rate(2 weeks)", "       ^", "rate", "weeks", "minute(s), hour(s) or day(s)"},
		{anyKind, "rate(60 seconds)", "        ^", "rate", "seconds", "minute(s), hour(s) or day(s)"},
		{anyKind, "rate(2 dayss)", "       ^", "rate", "dayss", "minute(s), hour(s) or day(s)"},
		{anyKind, "rate(2 days 5 hours)", "            ^", "rate", "5", "nothing else"},
		{Window, "rate(4 minutes)", "     ^", "rate", "4", "every 5 minutes"},
		{Window, "rate(1 minute)", "     ^", "rate", "1", "every 5 minutes"},
		{Association, "rate(29 minutes)", "     ^", "rate", "29", "every 30 minutes"},
		{Association, "rate(31 days)", "     ^", "rate", "31", "less than 31 days"},
		{Association, "rate(744 hours)", "     ^", "rate", "744", "less than 31 days"},

		{anyKind, "at()", "   ^", "at", "", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24)", "   ^", "at", "2026-11-24", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24T02:30)", "   ^", "at", "2026-11-24T02:30", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24T02:30:00Z)", "   ^", "at", "2026-11-24T02:30:00Z", "without a zone"},
		{anyKind, "at(2026-11-24T02:30:00.5)", "   ^", "at", "2026-11-24T02:30:00.5", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24T2:30:00)", "   ^", "at", "2026-11-24T2:30:00", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-02-29T02:30:00)", "   ^", "at", "2026-02-29T02:30:00", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24T24:00:00)", "   ^", "at", "2026-11-24T24:00:00", "2026-11-24T02:30:00"},
		{anyKind, "at(2026-11-24 02:30:00)", "              ^", "at", "02:30:00", "nothing else"},
		{anyKind, "at(1969-12-31T00:00:00)", "   ^", "at", "1969-12-31T00:00:00", "1970-2199"},

		{Association, "cron(24 30 09 ? * * *)", "     ^", "seconds", "24", "is 0"},
		{Association, "cron(0 2 1 JAN ? *)", "           ^", "month", "JAN", "cannot choose months"},
		{Association, "cron(0 2 1 1-11 ? *)", "           ^", "month", "1-11", "cannot choose months"},
	} {
		for _, kind := range []Kind{Window, Association} {
			if test.kind != anyKind && test.kind != kind {
				continue
			}
			_, err := Parse(test.expression, kind)
			var syntax *SyntaxError
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &syntax) {
				t.Errorf("%q: %v, want a SyntaxError", test.expression, err)
				continue
			}
			if syntax.Column() != len(test.caret)-1 || syntax.Field != test.field || syntax.Value != test.value || !strings.Contains(syntax.Reason, test.reasonParts) {
				t.Errorf("%v\n%s\n%s^\n%s wanted, with %s %q and %q", err, test.expression, strings.Repeat(" ", syntax.Column()), test.caret, test.field, test.value, test.reasonParts)
			}
			if !strings.Contains(err.Error(), syntax.Reason) || !strings.Contains(err.Error(), syntax.Field) {
				t.Errorf("%v does not say all", err)
			}
		}
	}
	if _, err := Parse("cron("+strings.Repeat("0,", 118)+"0 2 ? * MON *)", Window); err != nil {
		t.Errorf("a long one: %v", err)
	}
	if _, err := Parse("cron("+strings.Repeat("0,", 119)+"0 2 ? * MON *)", Window); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "256") {
		t.Errorf("a too long one: %v", err)
	}
}

func TestSpellings(t *testing.T) {
	for expression, want := range map[string]string{
		"cron(0 2 ? * mon-Fri *)":        "cron(0 2 ? * MON-FRI *)",
		"CRON(0 2 lw jan ? *)":           "cron(0 2 LW JAN ? *)",
		"cron( 0  2 ?\t*  MON *  )":      "cron(0 2 ? * MON *)",
		"Rate( 0030 Minutes )":           "rate(30 minutes)",
		"rate(01 DAY)":                   "rate(1 day)",
		"at( 2026-11-24T02:30:00 )":      "at(2026-11-24T02:30:00)",
		"cron(00 02 ? * 2#01 2026-2030)": "cron(00 02 ? * 2#01 2026-2030)",
	} {
		s, err := Parse(expression, Window)
		if err != nil || s.String() != want {
			t.Errorf("%q is %v, %v, want %q", expression, s, err, want)
		}
	}
}

func TestForms(t *testing.T) {
	for expression, want := range map[string]Form{"cron(0 2 ? * MON *)": Cron, "rate(1 day)": Rate, "at(2026-11-24T02:30:00)": At} {
		if s, err := Parse(expression, Association); err != nil || s.Form() != want {
			t.Errorf("%s: %v, %v", expression, s, err)
		}
	}
}

func TestTooOften(t *testing.T) {
	for _, test := range []struct {
		expression          string
		window, association bool
	}{
		{"* * * * ? *", false, false},
		{"0/4 * * * ? *", false, false},
		{"0/5 * * * ? *", true, false},
		{"0/29 * * * ? *", false, false}, // 0, 29 and 58
		{"0/30 * * * ? *", true, true},
		{"15,45 * * * ? *", true, true},
		{"0,20 * * * ? *", true, false},
		{"0 * * * ? *", true, true},
		{"0,4 2 * * ? *", false, false},
		{"0,5 2 1 1 ? 2030", true, false},
		{"* 2 1 1 ? 2030", false, false},
		{"0/30 0 2 * * ? *", false, false}, // twice in a minute
		{"30 0 2 * * ? *", true, false},
		{"*/5 0 * * * ? *", false, false},
		{"* 0 2 * * ? *", false, false},
		// From one hour into the next.
		{"2,58 * * * ? *", false, false},
		{"2,58 2 * * ? *", true, true},
		{"2,58 2,3 * * ? *", false, false},
		{"2,58 2,4 * * ? *", true, true},
		{"0,29 2,4 * * ? *", true, false},
		// From one day into the next.
		{"2,58 0,23 * * ? *", false, false},
		{"2,58 0,23 ? * MON *", true, true},
		{"2,58 0,23 ? * SAT,SUN *", false, false},
		{"2,58 0,23 1,L * ? *", false, false},
		{"2,58 0,23 1,30 * ? *", false, false}, // April to May
		{"2,58 0,23 1/2 * ? *", false, false},  // a 31st and a 1st
		{"2,58 0,23 2/2 * ? *", true, true},
		{"2,58 0,23 ? * SAT#5,SUN#1 *", false, false},
		{"2,58 0,23 ? * SAT#4,SUN#1 *", false, false}, // 28 February and 1 March
		{"2,58 0,23 ? * SAT#3,SUN#1 *", true, true},
		{"2,58 0,23 1,31 1,12 ? 2030-2031", false, false},
		{"2,58 0,23 1,31 1,12 ? 2030/2", true, false}, // no association chooses months
		{"2,57 0,23 * * ? *", true, false},
	} {
		for kind, want := range map[Kind]bool{Window: test.window, Association: test.association} {
			_, err := Parse("cron("+test.expression+")", kind)
			if (err == nil) != want || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, kind %d: %v, want it taken: %v", test.expression, kind, err, want)
			}
		}
	}
}

// What the reference says that associations support.
func TestAssociations(t *testing.T) {
	for _, expression := range []string{
		"cron(0/30 * * * ? *)", "cron(0 0/1 * * ? *)", "cron(0 0/2 * * ? *)", "cron(0 0/4 * * ? *)", "cron(0 0/8 * * ? *)", "cron(0 0/12 * * ? *)",
		"cron(15 13 ? * * *)", "cron(15 13 ? * MON *)", "cron(0 3 1/5 * ? *)", "cron(0 3 ? * 6L *)", "cron(30 23 ? * TUE#3 *)", "cron(0 2 ? * THU#3 *)",
		"cron(0 0/30 * 1/1 * ? *)", "cron(0 0 2 * 1-12 ? *)", "cron(0 */2 * * ? *)",
		"rate(30 minutes)", "rate(1 hour)", "rate(7 days)", "rate(30 days)", "rate(743 hours)", "at(2026-11-24T02:30:00)",
	} {
		if _, err := Parse(expression, Association); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// Whatever is parsed does not panic, says a place within it, and is read again the
// same from its plainest spelling; openings are in order and within their bounds.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"cron(0 2 ? * THU#3 *)", "cron(24 30 09 ? * * *)", "cron(15 10 ? * 6L 2026/2)", "cron(0/30 1-3 L-3,LW,15W JAN,2-4/2 ? *)", "cron(2,58 0,23 ? * SAT#5,SUN#1 *)",
		"rate(5 minutes)", "rate(1 days)", "at(2026-11-24T02:30:00)", "cron(", "cron(ȿȿȿW)", ")(", "",
	} {
		f.Add(seed, uint8(0), int64(tuesday.Unix()))
		f.Add(seed, uint8(9), int64(time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC).Unix()))
	}
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo"} {
		zones = append(zones, mustZone(f, name))
	}
	f.Fuzz(func(t *testing.T, expression string, choice uint8, after int64) {
		kind := Kind(choice & 1)
		s, err := Parse(expression, kind)
		if err != nil {
			var syntax *SyntaxError
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(expression) {
				t.Fatalf("%q: %#v", expression, err)
			}
			return
		}
		again, err := Parse(s.String(), kind)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%q is %q, which is %v, %v", expression, s, again, err)
		}
		from := time.Unix(after%(1<<33), 0)
		terms := Terms{Since: from}
		if kind == Window {
			terms.Zone = zones[int(choice>>1)%len(zones)]
		}
		if s.Form() == Cron {
			terms.Offset = int(choice>>4) % 7
		}
		timetable, err := s.With(terms)
		if err != nil {
			t.Fatal(err)
		}
		last := from
		for range 5 {
			opening, ok := timetable.Next(last)
			if !ok {
				break
			}
			if !opening.After(last) || opening.Year() > lastYear+1 {
				t.Fatalf("%q: %v after %v", expression, opening, last)
			}
			if before, _ := timetable.Next(opening.Add(-time.Nanosecond)); !before.Equal(opening) {
				t.Fatalf("%q: %v, but %v a nanosecond before it", expression, opening, before)
			}
			last = opening
		}
	})
}
