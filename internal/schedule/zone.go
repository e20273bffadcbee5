package schedule

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // minimal hosts have no zone data
)

// Zone is the IANA time zone of a name such as Europe/Berlin. It is read from the
// host's zone data where there are some, else from those that came with the
// program. An error is ErrInvalid.
func Zone(name string) (*time.Location, error) {
	// What is no name of a zone, though the host may have a file there: its own zone,
	// and those that count leap seconds.
	switch first, _, _ := strings.Cut(name, "/"); first {
	case "", "Local", "localtime", "posixrules", "Factory", "right", "posix":
		return nil, fmt.Errorf("%w: %q is not an IANA time zone such as Europe/Berlin", ErrInvalid, name)
	case "UTC":
		if name == first {
			return time.UTC, nil
		}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not an IANA time zone such as Europe/Berlin", ErrInvalid, name)
	}
	return zone, nil
}

// Date reads a StartDate or EndDate: ISO-8601 in its extended form, a date or a date
// and a time, to the minute or finer, with or without an offset from UTC; without
// one it is UTC's, whatever the window's zone. An error is ErrInvalid.
func Date(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %q is not an ISO-8601 date and time such as 2026-11-24T02:30:00Z", ErrInvalid, text)
}
