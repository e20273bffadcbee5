package patcher

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// readUpdateinfo calls each for every notice of an updateinfo.xml with the packages
// that it lists. Packages without a name that wanted takes are left out, and notices
// that are left without packages are not told. It returns how many notices there are.
func readUpdateinfo(in io.Reader, wanted func(name string) bool, each func(Notice, []Package)) (int, error) {
	t := newTags(in)
	var notice Notice
	var packages []Package
	count, open := 0, false
	for {
		err := t.next()
		if errors.Is(err, io.EOF) {
			if open {
				return count, errors.New("read updateinfo.xml: it ends within a notice")
			}
			return count, nil
		}
		if err != nil {
			return count, fmt.Errorf("read updateinfo.xml: %w", err)
		}
		if t.end {
			if open && string(t.name) == "update" {
				if notice.ID != "" && len(packages) > 0 {
					each(notice, packages)
				}
				open = false
				count++
			}
			continue
		}
		if string(t.name) == "update" {
			open = !t.empty
			notice, packages = Notice{Type: strings.ToLower(t.attribute("type"))}, nil
			continue
		}
		if !open {
			continue
		}
		switch string(t.name) {
		case "id":
			notice.ID, err = t.text()
		case "title":
			notice.Title, err = t.text()
		case "severity":
			notice.Severity, err = t.text()
		case "issued":
			notice.Issued = noticeTime(t.attribute("date"))
		case "updated":
			notice.Updated = noticeTime(t.attribute("date"))
		case "reference":
			readReference(t, &notice)
		case "reboot_suggested":
			var text string
			if text, err = t.text(); text == "" || strings.EqualFold(text, "true") || text == "1" || strings.EqualFold(text, "yes") {
				notice.Reboot = true
			}
		case "package":
			p := Package{Name: t.attribute("name"), Arch: t.attribute("arch"),
				Version: evr(t.attribute("epoch"), t.attribute("version"), t.attribute("release"))}
			if p.Name != "" && p.Version != "" && p.Arch != "src" && wanted(p.Name) {
				packages = append(packages, p)
			}
		}
		if err != nil {
			return count, fmt.Errorf("read updateinfo.xml: %w", err)
		}
	}
}

// readReference takes a CVE or an entry of Bugzilla from a <reference>. SUSE writes
// the kind in lower case too, and some publishers "self" for the notice's own page.
func readReference(t *tags, notice *Notice) {
	id := t.attribute("id")
	switch strings.ToLower(t.attribute("type")) {
	case "cve":
		if id == "" {
			id = t.attribute("title")
		}
		if id != "" && !slices.Contains(notice.CVEs, id) {
			notice.CVEs = append(notice.CVEs, id)
		}
	case "bugzilla":
		if id != "" && !slices.Contains(notice.Bugzillas, id) {
			notice.Bugzillas = append(notice.Bugzillas, id)
		}
	}
}

// noticeTime reads a date of a notice: seconds since 1970, or one of the ways of
// writing that publishers use, in UTC; zero for any other.
func noticeTime(text string) time.Time {
	text = strings.TrimSuffix(strings.TrimSpace(text), " UTC")
	if at := unixTime(text); !at.IsZero() {
		return at
	}
	for _, layout := range []string{time.DateTime, time.DateOnly, "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}
