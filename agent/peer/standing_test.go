package peer

import (
	"strings"
	"testing"
	"time"

	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// The tables go over everybody who may be at the other end, under one roster:
// voter, stand-by, a removed voter, and those who are not in it.
var (
	standingNow    = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	standingRoster = viewOf(raftstore.Roster{
		Version: 4,
		Members: []raftstore.RosterMember{
			{NodeID: "voter", PublicKey: "kv"}, {NodeID: "standby", PublicKey: "ks", StandBy: true}, {NodeID: "both", PublicKey: "kb"},
		},
		Removed: []raftstore.RemovedKey{{NodeID: "removed", PublicKey: "kr"}, {NodeID: "both", PublicKey: "kb"}},
	})
)

// shown is a certificate: id, key, V for a voter's, and a time.
func shown(nodeID, key string, voter bool, when string) presented {
	p := presented{
		id:        pki.Identity{NodeID: nodeID, PublicKey: key, Voter: voter, NotAfter: standingNow.Add(time.Hour)},
		notBefore: standingNow.Add(-time.Hour),
	}
	switch when {
	case "over":
		p.id.NotAfter = standingNow.Add(-time.Second)
	case "to come":
		p.notBefore = standingNow.Add(time.Second)
	}
	return p
}

func TestStandingOfCallers(t *testing.T) {
	const yes, no = true, false
	for _, test := range []struct {
		name                                       string
		p                                          presented
		self                                       string // key of the node that is called
		connect, stream, node, renew, leader, rise bool
	}{
		{"voter", shown("voter", "kv", true, ""), "km", yes, yes, yes, yes, yes, no},
		{"stand-by", shown("standby", "ks", true, ""), "km", yes, yes, yes, yes, yes, no},
		{"voter with a member's certificate", shown("voter", "kv", false, ""), "km", yes, yes, yes, yes, no, no},
		{"expired voter at a member", shown("voter", "kv", true, "over"), "km", yes, yes, no, yes, no, no},
		{"expired voter at a stand-by", shown("voter", "kv", true, "over"), "ks", yes, yes, no, yes, yes, no},
		{"voter of tomorrow at a stand-by", shown("voter", "kv", true, "to come"), "ks", yes, yes, no, yes, yes, no},
		{"voter's id with another key", shown("voter", "kx", true, ""), "km", yes, no, yes, yes, no, yes},
		{"voter's key with another id", shown("member", "kv", true, ""), "km", yes, no, yes, yes, no, yes},
		{"member", shown("member", "km", false, ""), "ks", yes, no, yes, yes, no, no},
		{"expired member", shown("member", "km", false, "over"), "ks", yes, no, no, yes, no, no},
		{"demoted or new voter", shown("other", "ko", true, ""), "ks", yes, no, yes, yes, no, yes},
		{"expired and not in the roster", shown("other", "ko", true, "over"), "ks", yes, no, no, yes, no, no},
		{"removed", shown("removed", "kr", true, ""), "ks", no, no, no, no, no, no},
		{"removed, with a member's certificate", shown("removed", "kr", false, "over"), "ks", no, no, no, no, no, no},
		{"in the roster and removed", shown("both", "kb", true, ""), "ks", no, no, no, no, no, no},
	} {
		t.Run(test.name, func(t *testing.T) {
			self := pki.Identity{NodeID: map[string]string{"ks": "standby", "km": "member"}[test.self], PublicKey: test.self}
			for what, got := range map[string]struct{ got, want bool }{
				"connect":            {mayConnect(standingRoster, test.p) == nil, test.connect},
				"stream":             {mayStream(standingRoster, test.p) == nil, test.stream},
				"a node's routes":    {mayCall(rightNode, standingRoster, self, test.p, standingNow) == nil, test.node},
				"renewal":            {mayCall(rightRenew, standingRoster, self, test.p, standingNow) == nil, test.renew},
				"the leader's route": {mayCall(rightLeader, standingRoster, self, test.p, standingNow) == nil, test.leader},
				"looks like new":     {looksLikeNewVoter(standingRoster, test.p, standingNow), test.rise},
			} {
				if got.got != got.want {
					t.Errorf("%s: %t, want %t", what, got.got, got.want)
				}
			}
		})
	}
}

func TestStandingOfServers(t *testing.T) {
	const yes, no = true, false
	for _, test := range []struct {
		name                                string
		p                                   presented
		meant                               string
		self                                string // key of the node that calls
		node, leader, renew, hinted, roster bool
	}{
		{"voter", shown("voter", "kv", true, ""), "voter", "km", yes, yes, yes, yes, yes},
		{"another than meant", shown("voter", "kv", true, ""), "standby", "km", no, no, no, no, no},
		{"voter with a member's certificate", shown("voter", "kv", false, ""), "voter", "km", yes, no, yes, no, yes},
		{"expired voter, called by a member", shown("voter", "kv", true, "over"), "voter", "km", no, no, yes, no, yes},
		{"expired voter, called by a stand-by", shown("voter", "kv", true, "over"), "voter", "ks", yes, yes, yes, no, yes},
		{"voter's id with another key", shown("voter", "kx", true, ""), "voter", "km", yes, no, no, yes, no},
		{"new voter", shown("other", "ko", true, ""), "other", "km", yes, no, no, yes, no},
		{"member", shown("member", "km", false, ""), "member", "ks", yes, no, no, no, no},
		{"expired member", shown("member", "km", false, "over"), "member", "ks", no, no, no, no, no},
		{"removed", shown("removed", "kr", true, ""), "removed", "ks", no, no, no, no, no},
		{"in the roster and removed", shown("both", "kb", true, ""), "both", "ks", no, no, no, no, no},
	} {
		t.Run(test.name, func(t *testing.T) {
			self := pki.Identity{NodeID: map[string]string{"ks": "standby", "km": "member"}[test.self], PublicKey: test.self}
			for to, want := range map[purpose]bool{toNode: test.node, toLeader: test.leader, toRenew: test.renew, toHinted: test.hinted, toRoster: test.roster, toRemoved: strings.Contains(test.name, "removed")} {
				if err := mayServe(to, test.meant, standingRoster, self, test.p, standingNow); (err == nil) != want {
					t.Errorf("%s: %v, want %t", to, err, want)
				}
			}
		})
	}
}
