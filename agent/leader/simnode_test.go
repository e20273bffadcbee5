package leader

import (
	"time"

	"fleetmesh/agent/peer"
)

// machine is a node of the simulation: it keeps its journal whatever happens,
// obeys the highest term it has seen, and runs a job once.
type machine struct {
	sim *simulation
	id  string
	// up: the process runs. seen: gossip holds it alive.
	up, seen bool
	term     uint64
	jobs     map[string]*simJob
	removed  bool
}

type simJob struct {
	job       peer.Job
	starts    int
	startedAt time.Time
	running   bool
	sequence  uint64
	status    string
	details   string
	ended     time.Time
	acked     uint64
	// told is when the end was first acknowledged.
	told time.Time
}

// admit is the gate.
func (m *machine) admit(f peer.Fence) error {
	if f.Term < m.term {
		return &peer.Refusal{Kind: peer.RefusedStaleTerm, Message: "a newer leader was seen"}
	}
	m.term = f.Term
	return nil
}

// serve handles a call, as the worker does.
func (m *machine) serve(c *call) answer {
	a := answer{call: c}
	if a.err = m.admit(c.fence); a.err != nil {
		return a
	}
	switch c.kind {
	case callJobs:
		for _, job := range c.jobs {
			job.Arrive(m.sim.now, m.sim.now.Sub(c.fence.Now))
			a.answers = append(a.answers, m.accept(job))
		}
	case callCancel:
		for _, id := range c.ids {
			if j := m.jobs[id]; j != nil && j.running {
				m.end(j, "Cancelled", "Cancelled")
			}
		}
	case callStates:
		for _, id := range c.ids {
			if j := m.jobs[id]; j == nil {
				a.unknown = append(a.unknown, id)
			} else if j.sequence > 0 {
				m.sim.after(0, func() { m.send(j, j.sequence) })
			}
		}
	}
	return a
}

func (m *machine) accept(job peer.Job) peer.JobAnswer {
	out := peer.JobAnswer{CommandID: job.CommandID}
	if m.jobs[job.CommandID] != nil {
		out.Known = true
		return out
	}
	if !m.sim.now.Before(job.StartUntil) {
		out.Refused, out.TooLate = "too late to start", true
		return out
	}
	if m.sim.chance(0.01) {
		out.Refused = "the disk is full"
		return out
	}
	j := &simJob{job: job}
	m.jobs[job.CommandID] = j
	m.sim.after(m.sim.upTo(50*time.Millisecond), func() { m.start(j) })
	return out
}

func (m *machine) start(j *simJob) {
	s := m.sim
	if !m.up {
		s.after(100*time.Millisecond, func() { m.start(j) })
		return
	}
	if !s.now.Before(j.job.StartUntil) {
		j.sequence, j.status, j.details, j.ended = 1, "TimedOut", "DeliveryTimedOut", s.now
		m.send(j, 1)
		return
	}
	j.starts++
	j.startedAt, j.running = s.now, true
	j.sequence, j.status, j.details = 1, "InProgress", "InProgress"
	s.checkRunning(j.job.CommandID)
	m.send(j, 1)
	length := s.upTo(4 * time.Second)
	if j.job.StartUntil.Sub(s.now) < time.Minute && s.chance(0.03) {
		length = time.Hour // hangs until it is killed
	}
	outcome := [2]string{"Success", "Success"}
	switch {
	case s.chance(s.failures):
		outcome = [2]string{"Failed", "Failed"}
	case s.chance(s.failures / 4):
		outcome = [2]string{"TimedOut", "ExecutionTimedOut"}
	}
	s.after(length, func() { m.end(j, outcome[0], outcome[1]) })
	s.after(j.job.ExpiresAt.Sub(s.now), func() { m.end(j, "TimedOut", "ExecutionTimedOut") })
}

func (m *machine) end(j *simJob, status, details string) {
	if !j.running {
		return
	}
	j.running = false
	j.sequence, j.status, j.details, j.ended = 2, status, details, m.sim.now
	m.send(j, 2)
}

// send delivers a report to whoever leads, until it is acknowledged. Older ones
// may overtake newer ones.
func (m *machine) send(j *simJob, sequence uint64) {
	s := m.sim
	if j.acked >= sequence {
		return
	}
	retry := func() { s.after(300*time.Millisecond+s.upTo(time.Second), func() { m.send(j, sequence) }) }
	if !m.up || s.lossy(0.1) {
		retry()
		return
	}
	report := peer.JobReport{CommandID: j.job.CommandID, Sequence: sequence, StartedAt: j.startedAt, Status: "InProgress", StatusDetails: "InProgress"}
	if !j.ended.IsZero() && sequence == j.sequence {
		report.Status, report.StatusDetails, report.FinishedAt = j.status, j.details, j.ended
	}
	s.after(s.delay(), func() {
		to := s.leader
		if to == nil || to.dead {
			retry()
			return
		}
		call := &reportCall{nodeID: m.id, reports: []peer.JobReport{report}, done: make(chan reportResult, 1)}
		to.engine.takeReport(call)
		to.waiting = append(to.waiting, func() bool {
			select {
			case result := <-call.done:
				if result.err != nil || s.lossy(0.1) {
					retry()
					return true
				}
				s.acknowledged(m, j, report)
				if j.acked = max(j.acked, sequence); !report.FinishedAt.IsZero() && j.told.IsZero() {
					j.told = s.now
				}
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
