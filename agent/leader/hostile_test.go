package leader

import (
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// TestHostileReportsFit: whatever a node reports, its record fits into an entry.
// One that did not would stop every commit of the leader again and again.
func TestHostileReportsFit(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long := strings.Repeat("\x01", 40_000)
	for name, text := range map[string]string{
		"controls": long, "invalid": strings.Repeat("\xff", 40_000), "wide": strings.Repeat("\U0010ffff", 40_000),
		"escaped": strings.Repeat("\u2028", 40_000), "quotes": strings.Repeat(`"`, 40_000), "html": strings.Repeat("<", 40_000),
	} {
		for _, outputs := range []bool{false, true} {
			if outputs && name != "html" {
				continue // one is enough for what takes long
			}
			report := peer.JobReport{
				CommandID: "c", Sequence: 1, Status: text, StatusDetails: text, Reason: text,
				StartedAt: time.Unix(1<<40, 0), FinishedAt: time.Unix(-1<<40, 0).In(time.FixedZone(text, 1)),
			}
			for range 1000 {
				p := raftstore.PluginResult{Name: text, Status: text, StatusDetails: text, ResponseCode: -1 << 62, StartedAt: report.StartedAt, FinishedAt: report.FinishedAt, StdoutBytes: -1}
				if outputs {
					p.Stdout, p.Stderr = text, text
				}
				report.Plugins = append(report.Plugins, p)
			}
			if short := shortened([]peer.JobReport{report}, now); encodedSize(raftstore.Invocation{Plugins: short[0].Plugins}) > maxRecord || len(report.Plugins) != 1000 {
				t.Errorf("%s: the engine is given more than a record holds", name)
			}
			is, changed := applyReport(raftstore.Invocation{CommandID: "c", NodeID: "n", NodeName: strings.Repeat("\x01", 255)}, report, now)
			if !changed {
				t.Fatal("nothing changed")
			}
			if size := sizeOf(invocationTxn(is)); size > maxRecord+4<<10 {
				t.Errorf("%s: the record of a hostile report has %d bytes", name, size)
			}
			// And again as a detail of what has ended.
			late := report
			late.Sequence = 2
			if is, _ = applyReport(is, late, now); sizeOf(invocationTxn(is)) > maxRecord+4<<10 {
				t.Errorf("%s: a late report made the record too large", name)
			}
		}
	}
}
