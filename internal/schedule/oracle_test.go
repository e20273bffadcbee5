package schedule

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	oracleSeeds = flag.Int("oracle.seeds", 20, "random expressions of TestOracle, each in five zones")
	oracleFirst = flag.Uint64("oracle.first", 1, "the `seed` of the first of them; 0 draws one")
	oracleZones = flag.String("oracle.zones", "Europe/Berlin,America/Sao_Paulo,Australia/Lord_Howe,Pacific/Apia,Africa/Casablanca", "the `zones` of TestOracle, or all")
	oracleYear  = flag.Int("oracle.year", 2008, "the first of the thirty `years` of TestOracle")
)

// allZones are some of each kind: clocks set at midnight, by half an hour, by two
// hours, back for a month, by a government at will, over the date line, and never.
const allZones = "UTC,Europe/Berlin,Europe/Dublin,Europe/Volgograd,America/New_York,America/Sao_Paulo,America/Nuuk,America/Caracas," +
	"Australia/Lord_Howe,Asia/Beirut,Asia/Gaza,Asia/Pyongyang,Asia/Kathmandu,Africa/Cairo,Africa/Casablanca,Antarctica/Troll,Pacific/Apia,Pacific/Chatham"

// wallClock is what the clocks on the walls of a zone show in some years, minute by
// minute: entry i is the date and time at from + i minutes, in minutes since
// 1970-01-01 there. All expressions share it.
type wallClock struct {
	zone     *time.Location
	from, to time.Time
	shows    []int32
	// sets are the quarters of an hour at or in which the clock is set.
	sets []time.Time
}

func newWallClock(t *testing.T, name string, year, years int) *wallClock {
	zone := mustZone(t, name)
	w := &wallClock{zone: zone, from: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), to: time.Date(year+years, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.shows = make([]int32, 0, w.to.Sub(w.from)/time.Minute)
	decode := func(at time.Time) int32 {
		date := at.In(zone)
		return int32(time.Date(date.Year(), date.Month(), date.Day(), date.Hour(), date.Minute(), 0, 0, time.UTC).Unix() / 60)
	}
	// Nearly all clocks are set at quarters of an hour: where the first and the last
	// minute of one tell nothing else, they need not be read between.
	for at := w.from; at.Before(w.to); at = at.Add(15 * time.Minute) {
		first := decode(at)
		steady := decode(at.Add(14*time.Minute)) == first+14
		if n := len(w.shows); !steady || n > 0 && first != w.shows[n-1]+1 {
			w.sets = append(w.sets, at)
		}
		for m := range int32(15) {
			if !steady {
				first = decode(at.Add(time.Duration(m)*time.Minute)) - m
			}
			w.shows = append(w.shows, first+m)
		}
	}
	return w
}

// openings is brute force: each minute is looked at.
func (w *wallClock) openings(e expression) []int64 {
	var found []int64
	moment := func(i int, later int32) int64 {
		return w.from.Unix() + int64(i)*60 + int64(later)*60 + int64(e.second)
	}
	today, meant := int32(-1), false // the day that was asked for last, and the answer
	isMeant := func(local int32) bool {
		if day := local / 1440; day != today {
			today, meant = day, e.hasDay(time.Unix(int64(day-e.offset)*86400, 0).UTC())
		}
		return meant && e.minute[local%1440]
	}
	newest := w.shows[0] - 1 // the latest that the clock has shown
	for i := 0; i < len(w.shows); i++ {
		local := w.shows[i]
		// What the clock has left out is so much later.
		for missing := newest + 1; missing < local; missing++ {
			if isMeant(missing) {
				found = append(found, moment(i, missing-newest-1))
			}
		}
		if local <= newest { // what it has shown before counts once
			continue
		}
		if isMeant(local) {
			found = append(found, moment(i, 0))
		}
		newest = local
		// The rest of a day that is not meant, and on which nobody sets the clock, may be
		// passed over.
		if rest := 1439 - local%1440; !meant && i+int(rest) < len(w.shows) && w.shows[i+int(rest)] == local+rest {
			i += int(rest)
			newest += rest
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// expression is a random cron expression, and what it means in the plainest way.
type expression struct {
	text   string
	second int
	minute [1440]bool
	// offset is ScheduleOffset.
	offset int32
	// hasDay gets a date in UTC.
	hasDay func(date time.Time) bool
}

// maker makes items of fields, with what they mean.
type maker struct{ *rand.Rand }

// plain is a list of numbers, ranges and steps of a field whose values are low to
// high; they begin at most at latest.
func (m maker) plain(low, high, latest int, names []string) (string, map[int]bool) {
	show := func(v int) string {
		if names != nil && m.IntN(2) == 0 {
			if m.IntN(4) == 0 {
				return strings.ToLower(names[v-low])
			}
			return names[v-low]
		}
		if m.IntN(4) == 0 {
			return fmt.Sprintf("%02d", v)
		}
		return strconv.Itoa(v)
	}
	var items []string
	values := map[int]bool{}
	for range 1 + m.IntN(4)/2*m.IntN(3) {
		from := low + m.IntN(latest-low+1)
		to := from + m.IntN(latest-from+1)
		step := 1 + m.IntN(high-low)
		text := ""
		switch m.IntN(6) {
		case 0, 1, 2:
			text, to, step = show(from), from, 1
		case 3:
			text, step = show(from)+"-"+show(to), 1
		case 4:
			text = fmt.Sprintf("%s-%s/%d", show(from), show(to), step)
		case 5:
			text, to = fmt.Sprintf("%s/%d", show(from), step), high
			if from == low && m.IntN(2) == 0 {
				text = fmt.Sprintf("*/%d", step)
			}
		}
		items = append(items, text)
		for v := low; v <= high; v++ {
			if v >= from && v <= to && (v-from)%step == 0 {
				values[v] = true
			}
		}
	}
	return strings.Join(items, ","), values
}

var (
	monthNames   = strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
	weekdayNames = strings.Fields("SUN MON TUE WED THU FRI SAT")
)

// leavesMonth says that there is no such date n days later in the month.
func leavesMonth(date time.Time, n int) bool { return date.AddDate(0, 0, n).Month() != date.Month() }

func isWeekday(date time.Time) bool {
	return date.Weekday() != time.Saturday && date.Weekday() != time.Sunday
}

// isNearest says whether a date is the weekday nearest to a day of its month: no
// other weekday of the month is nearer.
func isNearest(date time.Time, day int) bool {
	named := time.Date(date.Year(), date.Month(), day, 0, 0, 0, 0, time.UTC)
	if named.Month() != date.Month() || !isWeekday(date) {
		return false
	}
	for _, distance := range []int{0, -1, 1, -2, 2} {
		if other := named.AddDate(0, 0, distance); other.Month() == date.Month() && isWeekday(other) {
			return other.Equal(date)
		}
	}
	return false
}

// daysOf makes the fields of day of month and day of week.
func (m maker) daysOf() (month, week string, has func(time.Time) bool) {
	day := 1 + m.IntN(31)
	weekday := m.IntN(7)
	name := []string{strconv.Itoa(weekday + 1), weekdayNames[weekday]}[m.IntN(2)]
	switch m.IntN(12) {
	case 0:
		return "*", "?", func(time.Time) bool { return true }
	case 1:
		return "?", "*", func(time.Time) bool { return true }
	case 2, 3:
		text, values := m.plain(1, 31, 31, nil)
		return text, "?", func(date time.Time) bool { return values[date.Day()] }
	case 4, 5:
		text, values := m.plain(1, 7, 7, weekdayNames)
		return "?", text, func(date time.Time) bool { return values[int(date.Weekday())+1] }
	case 6:
		return "L", "?", func(date time.Time) bool { return leavesMonth(date, 1) }
	case 7:
		before := 1 + m.IntN(30)
		return fmt.Sprintf("L-%d", before), "?", func(date time.Time) bool {
			return leavesMonth(date, before+1) && !leavesMonth(date, before)
		}
	case 8:
		return "LW", "?", func(date time.Time) bool {
			last := date
			for !leavesMonth(last, 1) {
				last = last.AddDate(0, 0, 1)
			}
			return isNearest(date, last.Day())
		}
	case 9:
		return fmt.Sprintf("%dW", day), "?", func(date time.Time) bool { return isNearest(date, day) }
	case 10:
		return "?", name + "L", func(date time.Time) bool {
			return int(date.Weekday()) == weekday && leavesMonth(date, 7)
		}
	}
	nth := 1 + m.IntN(5)
	return "?", fmt.Sprintf("%s#%d", name, nth), func(date time.Time) bool {
		return int(date.Weekday()) == weekday && leavesMonth(date, -7*nth) && !leavesMonth(date, -7*(nth-1))
	}
}

// randomExpression is one that a window may have.
func randomExpression(seed uint64) expression {
	m := maker{rand.New(rand.NewPCG(seed, 0))}
	for {
		var e expression
		minuteText, inHour := m.plain(0, 59, 59, nil)
		hourText, inDay := m.plain(0, 23, 23, nil)
		dayText, weekText, has := m.daysOf()
		switch m.IntN(8) {
		case 0, 1, 2: // when clocks are set
			hourText, inDay = m.plain(0, 23, 3, nil)
			if m.IntN(2) == 0 {
				dayText, weekText, has = "*", "?", func(time.Time) bool { return true }
			}
		case 3:
			hourText = "*"
			for h := range 24 {
				inDay[h] = true
			}
		}
		monthText, yearText := "*", "*"
		var inYear, inYears map[int]bool
		if m.IntN(3) == 0 {
			monthText, inYear = m.plain(1, 12, 12, monthNames)
		}
		if m.IntN(4) == 0 {
			yearText, inYears = m.plain(1970, 2199, 2199, nil)
		}
		e.text = fmt.Sprintf("%s %s %s %s %s %s", minuteText, hourText, dayText, monthText, weekText, yearText)
		if m.IntN(3) == 0 {
			e.second = m.IntN(60)
			e.text = fmt.Sprintf("%d %s", e.second, e.text)
		}
		if m.IntN(5) == 0 {
			e.offset = 1 + m.Int32N(maxOffset)
		}
		e.text = "cron(" + e.text + ")"
		e.hasDay = func(date time.Time) bool {
			return (inYear == nil || inYear[int(date.Month())]) && (inYears == nil || inYears[date.Year()]) && has(date)
		}
		last, tooOften := -1440, false
		for i := range e.minute {
			if inDay[i/60] && inHour[i%60] {
				tooOften = tooOften || i-last < 5
				e.minute[i], last = true, i
			}
		}
		// Over midnight it depends on the days: TestTooOften.
		if !tooOften && slices.Index(e.minute[:], true)+1440-last >= 5 {
			return e
		}
	}
}

// The openings of random expressions are those that brute force finds.
func TestOracle(t *testing.T) {
	first := *oracleFirst
	if first == 0 {
		first = rand.Uint64()
	}
	zones := *oracleZones
	if zones == "all" {
		zones = allZones
	}
	for _, name := range strings.Split(zones, ",") {
		compareMany(t, name, *oracleYear, 30, first, *oracleSeeds)
	}
}

// Past the years that zone data list there is a rule for each year.
func TestOracleBeyondZoneData(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "Australia/Lord_Howe"} {
		compareMany(t, name, 2060, 5, 1, 20)
	}
}

func compareMany(t *testing.T, zone string, year, years int, first uint64, seeds int) {
	t.Helper()
	clock := newWallClock(t, zone, year, years)
	for i := range seeds {
		seed := first + uint64(i)
		if e := randomExpression(seed); clock.compare(e) != nil {
			t.Errorf("%s, offset %d, in %s: %v\nagain: go test ./internal/schedule -run '^TestOracle$' -oracle.first=%d -oracle.seeds=1 -oracle.zones=%s -oracle.year=%d",
				e.text, e.offset, zone, clock.compare(e), seed, zone, year)
		}
	}
}

func (w *wallClock) compare(e expression) error {
	s, err := Parse(e.text, Window)
	if err != nil {
		return err
	}
	timetable, err := s.With(Terms{Zone: w.zone, Offset: int(e.offset)})
	if err != nil {
		return err
	}
	// The days at both ends are left out: the table ends there, and what was missing
	// before is not in it.
	const margin = 2 * 24 * time.Hour
	from, to := w.from.Add(margin), w.to.Add(-margin)
	want := slices.DeleteFunc(w.openings(e), func(moment int64) bool { return moment < from.Unix() || moment >= to.Unix() })
	i := 0
	for got := range timetable.Between(from, to) {
		if i >= len(want) {
			return fmt.Errorf("opening %d is %v, want none", i, got)
		}
		if got.Unix() != want[i] {
			return fmt.Errorf("opening %d is %v, want %v", i, got, time.Unix(want[i], 0).In(w.zone))
		}
		i++
	}
	if i < len(want) {
		return fmt.Errorf("opening %d is missing: %v", i, time.Unix(want[i], 0).In(w.zone))
	}
	// Who asks about the time when clocks are set, gets the same.
	for _, set := range w.sets {
		for _, minutes := range []int{-61, -1, 0, 15, 40, 61} {
			after := set.Add(time.Duration(minutes)*time.Minute - time.Second)
			i, known := slices.BinarySearch(want, after.Unix())
			if known {
				i++
			}
			if i >= len(want) || after.Before(from) {
				continue
			}
			if got, _ := timetable.Next(after); got.Unix() != want[i] {
				return fmt.Errorf("the next opening after %v is %v, want %v", after.In(w.zone), got, time.Unix(want[i], 0).In(w.zone))
			}
		}
	}
	return nil
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}
