package api

import (
	"fmt"
	"strings"
	"time"
)

// health is what the state of the mesh is judged by. Names are shown to people:
// a node's name and id, where both are known.
type health struct {
	// leading: a leader has confirmed all this.
	leading     bool
	voters      []nodeHealth
	standBys    []nodeHealth
	others      int // enrolled nodes that hold no store
	eligible    int // of others, those that may vote
	lostMembers int // of others, those that do not answer
	// clocks are the nodes whose clock is wrong; undecided: the voters' clocks differ,
	// and no majority agrees.
	clocks    []wrongClock
	undecided bool
	// full are the nodes whose disk is full; lost the voters and stand-bys whose
	// store is gone.
	full, lost []string
}

// wrongClock is a node whose clock is ahead of the mesh's, or behind when negative.
type wrongClock struct {
	name  string
	ahead time.Duration
}

// tolerableSkew is what a clock may be wrong by before people are bothered; from 15
// minutes on clients that go by it are refused, from a day on nodes.
const tolerableSkew = time.Minute

type nodeHealth struct {
	name  string
	alive bool
}

// tolerance is how many more voters may fail before the mesh writes no more.
func (h health) tolerance() int {
	return max(len(h.voters)-len(silent(h.voters))-majority(len(h.voters)), 0)
}

func majority(voters int) int { return voters/2 + 1 }

func silent(nodes []nodeHealth) []string {
	var names []string
	for _, n := range nodes {
		if !n.alive {
			names = append(names, n.name)
		}
	}
	return names
}

// advice is what to do, the gravest first; empty when all is well.
func (h health) advice() []string {
	out := h.diskAdvice()
	dead := silent(h.voters)
	if !h.leading {
		living := len(h.voters) - len(dead)
		need := majority(len(h.voters))
		switch {
		case len(h.voters) == 0:
			out = append(out, "There is no leader, and this node knows no voter. Look whether it can reach the mesh.")
		case living < need:
			out = append(out, fmt.Sprintf("There is no leader: %d of %d voters answer and %d are needed. Bring back %s.", living, len(h.voters), need, strings.Join(dead, ", ")))
		case len(h.full) > 0: // that is why
		default:
			out = append(out, "There is no leader, though enough voters answer to gossip: look whether the TLS port between them is open; an election takes a few seconds.")
		}
		return out
	}
	if len(dead) > 0 {
		out = append(out, fmt.Sprintf("%s to answer: %s. Bring it back, or remove it with `meshctl node remove`.", plural(len(dead), "voter has ceased", "voters have ceased"), strings.Join(dead, ", ")))
	}
	if down := silent(h.standBys); len(down) > 0 {
		out = append(out, fmt.Sprintf("%s not answer: %s.", plural(len(down), "stand-by does", "stand-bys do"), strings.Join(down, ", ")))
	}
	switch {
	case len(h.voters) == 1 && len(h.standBys) == 0 && h.others == 0:
		out = append(out, "The mesh is this one node and stops with it. Let two more machines join (`meshctl activation create`).")
	case len(h.voters) == 1 && len(h.standBys)+h.eligible < 2:
		out = append(out, "Only one node votes, and the mesh stops with it: a second one alone would make it no safer. Let another machine join that may vote.")
	case h.tolerance() == 0 && len(h.voters) > 1:
		out = append(out, "One more voter that fails stops all writes.")
	}
	out = append(out, h.clockAdvice()...)
	if h.lostMembers > 0 {
		out = append(out, fmt.Sprintf("%s not answer; `meshctl node list` shows which. What is sent to them waits.", plural(h.lostMembers, "member does", "members do")))
	}
	return out
}

// maxNamed bounds how many nodes one sentence names.
const maxNamed = 10

// diskAdvice comes first: a full disk is often why there is no leader.
func (h health) diskAdvice() []string {
	var out []string
	if len(h.full) > 0 {
		out = append(out, fmt.Sprintf("%s full: %s. Free some of it: until then the node takes no jobs, and as a voter or stand-by it does not hold the store. Then it goes on by itself.",
			plural(len(h.full), "disk is", "disks are"), named(h.full)))
	}
	if len(h.lost) > 0 {
		out = append(out, fmt.Sprintf("%s no store any more: %s. Nothing is to be done: the mesh replaces what it can and gives them a new one. Find out who deleted the files.",
			plural(len(h.lost), "node that should hold the store has", "nodes that should hold the store have"), named(h.lost)))
	}
	return out
}

// named lists names, up to maxNamed of them.
func named(names []string) string {
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (h health) clockAdvice() []string {
	var out []string
	if h.undecided {
		out = append(out, "The voters' clocks differ, and no majority of them agrees: the mesh goes on by the time that it had, or by its leader's. Set all of them right.")
	}
	if len(h.clocks) == 0 {
		return out
	}
	var wrong []string
	for _, c := range h.clocks {
		where := "ahead"
		if c.ahead < 0 {
			where = "behind"
		}
		wrong = append(wrong, fmt.Sprintf("%s is %s %s", c.name, c.ahead.Abs().Round(time.Second), where))
	}
	return append(out, fmt.Sprintf("%s wrong, compared with the mesh's: %s. Set it right, best by a time service; a node that is a day behind, or some days ahead, takes no more jobs.",
		plural(len(h.clocks), "clock is", "clocks are"), named(wrong)))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
