package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/clock"
	"fleetmesh/raftstore"
)

const (
	sourceStore  = "store"
	sourceGossip = "gossip"
)

// status tells how the mesh is, as its leader knows it.
func (c *call) status(*meshapi.StatusInput) (*meshapi.StatusOutput, error) {
	meshRecord, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	servers, _, err := c.store.Servers()
	if err != nil {
		return nil, fmt.Errorf("read who holds the store: %w", err)
	}
	out := &meshapi.StatusOutput{
		MeshId: meshRecord.ID, Name: meshRecord.Name, Leader: c.face.cfg.NodeID, Term: c.store.Term(),
		Voters: []string{}, StandBys: []string{}, Source: sourceStore, AnsweredBy: c.face.cfg.NodeID,
	}
	members := c.face.membersByID()
	holds := map[string]bool{}
	names := map[string]string{}
	h := health{leading: true}
	for _, s := range servers {
		holds[s.ID] = true
	}
	err = raftstore.ScanNodes(c, "", func(n raftstore.Node) bool {
		names[n.ID] = n.Name
		alive := members[n.ID].Alive
		if alive {
			out.Nodes.Online++
		} else {
			out.Nodes.ConnectionLost++
		}
		if holds[n.ID] {
			return true
		}
		h.others++
		if !n.MemberOnly {
			h.eligible++
		}
		if !alive {
			h.lostMembers++
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		// This node leads: a majority has just confirmed it, whatever gossip says.
		node := nodeHealth{name: shownName(names[s.ID], s.ID), alive: s.ID == c.face.cfg.NodeID || members[s.ID].Alive}
		if s.Voter {
			out.Voters = append(out.Voters, s.ID)
			h.voters = append(h.voters, node)
		} else {
			out.StandBys = append(out.StandBys, s.ID)
			h.standBys = append(h.standBys, node)
		}
	}
	c.compareClocks(&h, out.Voters, names)
	for id, name := range names {
		if members[id].DiskFull && members[id].Alive {
			h.full = append(h.full, shownName(name, id))
		}
	}
	if c.face.cfg.Storeless != nil {
		for id, why := range c.face.cfg.Storeless() {
			if name, enrolled := names[id]; enrolled && why == "" {
				h.lost = append(h.lost, shownName(name, id))
			}
		}
	}
	slices.Sort(h.full)
	slices.Sort(h.lost)
	out.FailureTolerance, out.Advice = h.tolerance(), list(h.advice())
	return out, nil
}

// compareClocks finds the wrong ones among the clocks of enrolled nodes.
func (c *call) compareClocks(h *health, voters []string, names map[string]string) {
	clocks := c.face.cfg.Clock
	if clocks == nil {
		return
	}
	self := c.face.cfg.NodeID
	ahead := clocks.Ahead()
	ahead[self] = 0
	var votes []time.Duration
	for _, id := range voters {
		if by, known := ahead[id]; known {
			votes = append(votes, by)
		}
	}
	if _, agreed := clock.Agreed(votes, len(voters)); !agreed && len(votes) == len(voters) {
		h.undecided = true
	}
	own := clocks.Own().Sub(c.now) // this machine's clock, compared with the mesh's
	for id, by := range ahead {
		name, enrolled := names[id]
		if by += own; enrolled && by.Abs() >= tolerableSkew {
			h.clocks = append(h.clocks, wrongClock{shownName(name, id), by})
		}
	}
	slices.SortFunc(h.clocks, func(a, b wrongClock) int { return cmp.Compare(a.name, b.name) })
}

func shownName(name, id string) string {
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

// gossipStatus is this node's own view, for when nobody leads.
func (f *Face) gossipStatus(*meshapi.StatusInput) (*meshapi.StatusOutput, error) {
	roster := f.cfg.Roster()
	out := &meshapi.StatusOutput{
		MeshId: roster.MeshID, Voters: []string{}, StandBys: []string{}, Source: sourceGossip, AnsweredBy: f.cfg.NodeID,
	}
	if store := f.cfg.Store(); store != nil {
		out.Term = store.Term()
	}
	members := f.membersByID()
	for _, m := range members {
		if m.Alive {
			out.Nodes.Online++
		} else {
			out.Nodes.ConnectionLost++
		}
	}
	var h health
	for id, m := range members {
		if m.DiskFull && m.Alive {
			h.full = append(h.full, id)
		}
	}
	slices.Sort(h.full)
	for _, m := range roster.Members {
		node := nodeHealth{name: m.NodeID, alive: m.NodeID == f.cfg.NodeID || members[m.NodeID].Alive}
		if m.StandBy {
			out.StandBys = append(out.StandBys, m.NodeID)
			h.standBys = append(h.standBys, node)
		} else {
			out.Voters = append(out.Voters, m.NodeID)
			h.voters = append(h.voters, node)
		}
	}
	out.Advice = h.advice()
	return out, nil
}

// members is the leader's part of Members: it says who may ask. The answer comes
// from the node that was asked.
func (c *call) members(in *meshapi.MembersInput) (*meshapi.MembersOutput, error) {
	return c.face.gossipMembers(in)
}

// gossipMembers are the nodes that this node's gossip sees.
func (f *Face) gossipMembers(in *meshapi.MembersInput) (*meshapi.MembersOutput, error) {
	if in.TagKey == "" && in.TagValue != "" {
		return nil, refuse(codeValidation, "TagValue needs a TagKey.")
	}
	out := &meshapi.MembersOutput{AnsweredBy: f.cfg.NodeID, Members: []meshapi.Member{}}
	for _, m := range f.cfg.Members() {
		value, has := m.Tags[in.TagKey]
		if in.TagKey != "" && (!has || in.TagValue != "" && value != in.TagValue) {
			continue
		}
		out.Members = append(out.Members, meshapi.Member{
			NodeId: m.NodeID, Address: m.Address, Version: m.Version, Voter: m.Voter, Alive: m.Alive, Tags: m.Tags,
		})
	}
	return out, nil
}
