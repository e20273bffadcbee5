package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fleetmesh/agent/peer"
)

// callGivenUp is when a call without an answer ends, as Settings.CallTimeout. What
// was sent arrives before that or never: TCP_USER_TIMEOUT is as long. Only what a
// node's kernel has taken already may be read later.
const callGivenUp = 10 * time.Second

// answered takes an answer back to its leader.
func (s *simulation) answered(l *simLeader, d time.Duration, a answer) {
	s.after(d, func() {
		if !l.dead {
			l.engine.takeAnswer(a)
			l.step()
		}
	})
}

// transmit carries a call to its node and the answer back, or does not.
func (s *simulation) transmit(l *simLeader, c *call) {
	m := s.byID[c.nodeID]
	lost := answer{call: c, err: errors.New("connection reset")}
	notSent := answer{call: c, err: fmt.Errorf("dial: %w", peer.ErrNotSent)}
	sent := s.now
	s.note("term %d calls %s: %s %v", l.replica.term, m.id, [...]string{"jobs", "cancel", "states"}[c.kind], c.ids)
	// late is a call that is read when the caller has given it up.
	late := func(within time.Duration) {
		s.after(s.upTo(within), func() { m.read(c, func(answer) {}) })
	}
	s.after(s.delay(), func() {
		switch {
		case !m.up && s.chance(0.7):
			s.answered(l, s.delay(), notSent)
		case !m.up:
			s.answered(l, callGivenUp, lost)
		case m.deaf && s.chance(0.4): // a new connection
			s.answered(l, 5*time.Second, notSent)
		case m.deaf: // on a warm one; it may get through in time
			if rest := callGivenUp - s.now.Sub(sent); s.chance(0.5) {
				late(rest)
			}
			s.answered(l, callGivenUp, lost)
		case s.lossy(0.05): // never arrives
			s.answered(l, s.delay(), lost)
		case s.lossy(s.tardy): // arrives after it was given up
			late(4 * time.Second)
			s.answered(l, s.delay(), lost)
		default:
			given := false
			m.read(c, func(a answer) {
				again := s.lossy(0.05) // it arrives twice
				switch {
				case given:
				case m.mute:
					s.answered(l, max(callGivenUp-s.now.Sub(sent), 0), lost)
				case s.lossy(0.05): // the reply is lost
					s.answered(l, s.delay(), lost)
				case again:
					s.after(s.delay(), func() { m.read(c, func(b answer) { s.answered(l, s.delay(), b) }) })
				case s.now.Sub(sent) < callGivenUp:
					s.answered(l, s.delay(), a)
				}
				given = true
			})
			if !given { // the node stands still
				s.answered(l, callGivenUp, lost)
				given = true
			}
		}
	})
}

// cut makes a part of the network fail in one direction or both; gossip may find
// another way.
func (s *simulation) cut() {
	deaf := s.chance(0.7)
	mute := !deaf || s.chance(0.6)
	hidden := s.chance(0.5)
	var parted []*machine
	for _, m := range s.machines {
		if s.chance(0.4) {
			parted = append(parted, m)
			m.deaf, m.mute = deaf, mute
			s.note("%s hears nothing: %t, is not heard: %t, gossip misses it: %t", m.id, deaf, mute, hidden)
			if hidden {
				s.sight(m, false)
			}
		}
	}
	s.after(s.upTo(25*time.Second), func() {
		for _, m := range parted {
			m.deaf, m.mute = false, false
			s.note("%s is reached again", m.id)
			s.sight(m, m.up)
		}
	})
}

// sight is what gossip will find out about a node.
func (s *simulation) sight(m *machine, alive bool) {
	s.after(s.upTo(5*time.Second), func() {
		if m.seen == alive {
			return
		}
		m.seen = alive
		s.note("gossip: %s alive %t", m.id, alive)
		for _, l := range s.leaders {
			if !l.dead {
				l.engine.membersChanged()
				s.after(0, l.step)
			}
		}
	})
}

// send delivers a node's report to who leads, or believes so, until it is
// acknowledged. Older ones may overtake newer ones.
func (m *machine) send(j *simJob, sequence uint64) {
	s := m.sim
	if j.acked >= sequence {
		return
	}
	retry := func() { s.after(300*time.Millisecond+s.upTo(time.Second), func() { m.send(j, sequence) }) }
	if !m.up || m.frozen || m.mute || s.lossy(0.1) {
		retry()
		return
	}
	report := peer.JobReport{CommandID: j.job.CommandID, Sequence: sequence, StartedAt: j.startedAt, Status: "InProgress", StatusDetails: "InProgress"}
	if !j.ended.IsZero() && sequence == j.sequence {
		report.Status, report.StatusDetails, report.FinishedAt = j.status, j.details, j.ended
	}
	s.after(s.delay(), func() {
		to := s.leader
		if s.lossy(0.2) {
			to = s.leaders[s.rng.IntN(len(s.leaders))] // deposed perhaps, and the node does not know
		}
		if to.dead {
			retry()
			return
		}
		s.note("%s reports %s %d: %s to term %d", m.id, j.job.CommandID, sequence, report.StatusDetails, to.replica.term)
		call := &reportCall{nodeID: m.id, reports: []peer.JobReport{report}, done: make(chan reportResult, 1)}
		to.engine.takeReport(call)
		to.waiting = append(to.waiting, func() bool {
			select {
			case result := <-call.done:
				if result.err == nil { // as Leader.Report
					result.err = disown(context.Background(), recordsOnly{Records: to.replica}, m.id, result.unknown)
				}
				if result.err != nil || m.deaf || s.lossy(0.1) {
					retry()
					return true
				}
				s.acknowledged(m, j, report)
				return true
			default:
				if to.dead {
					retry()
					return true
				}
				return false
			}
		})
		to.step()
		if s.lossy(0.05) {
			s.after(s.delay(), func() { m.send(j, sequence) })
		}
	})
}
