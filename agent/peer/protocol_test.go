package peer

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// docs/protocol.md and this package agree on routes, rights, refusals and names.
func TestProtocolDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	m := newMesh(t)
	n := m.newSilentNode(true)
	rows := 0
	for name, entry := range newRoutes(n.config, n.handlers).table {
		who := map[right]string{rightNode: "node", rightRenew: "node, also", rightLeader: "leader"}[entry.right]
		_, row, found := strings.Cut(text, "\n| `"+name+"` |")
		row, _, _ = strings.Cut(row, "\n")
		if cells := strings.Split(row, "|"); !found || len(cells) != 3 || !strings.HasPrefix(strings.TrimSpace(cells[1]), who) {
			t.Errorf("route %s, for %s, stands there as %q", name, who, row)
		}
		rows++
	}
	if rows != 13 {
		t.Errorf("%d routes", rows)
	}
	for _, kind := range []RefusalKind{RefusedNotLeader, RefusedForbidden, RefusedStaleTerm, RefusedInput, RefusedUnavailable, RefusedInternal} {
		if !strings.Contains(text, "| `"+string(kind)+"` | "+strconv.Itoa(statusOf(kind))+" |") {
			t.Errorf("refusal %s with status %d is missing", kind, statusOf(kind))
		}
	}
	for _, want := range []string{protocolPeer, protocolRaft, strconv.Quote(greeting)[1 : len(greeting)+2]} {
		if !strings.Contains(text, "`"+want+"`") {
			t.Errorf("%q is missing", want)
		}
	}
}
