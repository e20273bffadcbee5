package patcher

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// textRows is how many patches of a state the text lists; the report has all.
const textRows = 100

// WriteText writes a report for people: first what matters, the installed ones as
// numbers only.
func (r *Report) WriteText(w io.Writer) error {
	t := &reportText{}
	counts := Count(r.Patches, r.NotApplicable)
	if r.Problem != "" {
		t.linef("NOT DONE: %s.", strings.TrimSuffix(r.Problem, "."))
	}
	bad := counts.Missing + counts.Failed + counts.InstalledRejected + counts.InstalledPendingReboot
	switch {
	case len(r.Patches) == 0 && r.Problem != "":
		t.line("Nothing is known of this machine's patches.")
	case bad == 0:
		t.line("COMPLIANT: nothing that the baseline approves is missing.")
	default:
		t.linef("NON-COMPLIANT: %d missing, %d failed, %d waiting for a reboot, %d installed though rejected; %d of them for security.",
			counts.Missing, counts.Failed, counts.InstalledPendingReboot, counts.InstalledRejected, counts.SecurityNonCompliant)
	}
	t.linef("%s by %s on %s (%s %s, %s)", r.Operation, orUnknown(cmp.Or(r.BaselineName, r.BaselineId)), orUnknown(r.Platform.Product), r.Platform.Name, r.Platform.Release, orUnknown(r.Manager))
	t.linef("Began %s, took %s.", r.StartedAt.Format(time.RFC3339), r.EndedAt.Sub(r.StartedAt).Round(time.Second))
	if r.OverrideName != "" {
		t.linef("What to install is from the list %s.", r.OverrideName)
	}
	t.linef("Installed: %d that the baseline approves, %d others. Not installed, not needed: %d.", counts.Installed, counts.InstalledOther, counts.NotApplicable)
	for _, group := range []struct {
		state types.PatchComplianceDataState
		head  string
	}{
		{types.PatchComplianceDataStateFailed, "Failed"},
		{types.PatchComplianceDataStateMissing, "Missing"},
		{types.PatchComplianceDataStateInstalledPendingReboot, "Installed, waiting for a reboot"},
		{types.PatchComplianceDataStateInstalledRejected, "Installed, though rejected"},
	} {
		rows := slices.DeleteFunc(slices.Clone(r.Patches), func(p Patch) bool { return p.State != group.state })
		t.patches(group.head, rows)
	}
	if len(r.Pending) > 0 {
		t.head("Offered, not approved", len(r.Pending))
		for i, p := range r.Pending {
			if i == textRows {
				t.linef("  … and %d more", len(r.Pending)-textRows)
				break
			}
			t.linef("  %s: %s", p.Title, p.Reason)
		}
	}
	t.list("Repaired before", r.Repaired)
	var interrupted []string
	for _, i := range r.Interruptions {
		interrupted = append(interrupted, i.What)
	}
	t.list("Interrupted, and not repaired", interrupted)
	t.list("Worth a look", r.Notes)
	t.list("Not known", r.Gaps)
	if len(r.Sources) > 0 {
		t.head("Sources", len(r.Sources))
		for _, s := range r.Sources {
			text := "  " + s.Name + ": " + age("made", s.Updated, r.EndedAt) + ", " + age("fetched", s.Fetched, r.EndedAt)
			if s.Problem != "" {
				text += "; FAILED: " + s.Problem
			}
			t.line(text)
		}
	}
	t.line("")
	switch {
	case r.Rebooting:
		t.line("The machine is started anew now, and takes stock again after that.")
	case r.Reboot.Needed:
		t.line("The machine must be started anew.")
	case r.Problem == "":
		t.line("The machine need not be started anew.")
	}
	for _, evidence := range r.Reboot.Evidence {
		t.linef("  %s", evidence)
	}
	t.list("Services that run on with replaced files", r.Reboot.Services)
	_, err := io.WriteString(w, t.String())
	return err
}

type reportText struct{ strings.Builder }

func (t *reportText) line(text string) {
	t.WriteString(strings.TrimRight(text, " ") + "\n")
}

func (t *reportText) linef(format string, args ...any) { t.line(fmt.Sprintf(format, args...)) }

func (t *reportText) head(text string, count int) {
	t.line("")
	t.linef("%s (%d):", text, count)
}

func (t *reportText) list(head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.head(head, len(lines))
	for i, line := range lines {
		if i == textRows {
			t.linef("  … and %d more", len(lines)-textRows)
			return
		}
		t.line("  " + line)
	}
}

// patches is a table with the reason below each patch.
func (t *reportText) patches(head string, rows []Patch) {
	if len(rows) == 0 {
		return
	}
	t.head(head, len(rows))
	for i, p := range rows {
		if i == textRows {
			t.linef("  … and %d more", len(rows)-textRows)
			return
		}
		line := "  " + p.Title
		if p.Replaces != "" {
			line += " (now " + p.Replaces + ")"
		}
		var words []string
		for _, word := range []string{p.Classification, p.Severity, string(p.ComplianceLevel)} {
			if word != "" && word != string(types.PatchComplianceLevelUnspecified) {
				words = append(words, word)
			}
		}
		if len(words) > 0 {
			line += " " + strings.Join(words, ", ")
		}
		t.line(line)
		if p.Reason != "" {
			t.line("      " + p.Reason)
		}
	}
}

// age says how long ago something happened.
func age(what string, at, now time.Time) string {
	if at.IsZero() {
		return what + " at an unknown time"
	}
	d := now.Sub(at)
	switch {
	case d < 2*time.Minute:
		return what + " just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%s %d minutes ago", what, int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%s %d hours ago", what, int(d.Hours()))
	}
	return fmt.Sprintf("%s %d days ago", what, int(d.Hours()/24))
}
