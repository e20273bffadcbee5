package leader

import (
	"time"

	"fleetmesh/agent/peer"
)

// machine is a node of the model: it keeps its journal whatever happens, obeys the
// highest term it has seen, and runs a job once.
type machine struct {
	sim *simulation
	id  string
	// up: the process runs. frozen: it stands still, and its kernel goes on taking
	// calls. seen: gossip holds it alive.
	up, frozen, seen bool
	// deaf and mute: nothing reaches it, nothing from it gets through.
	deaf, mute bool
	// skew is how far its clock is off; jumped, that it ever was.
	skew    time.Duration
	jumped  bool
	term    uint64
	epoch   uint64
	jobs    map[string]*simJob
	removed bool
	// queue is what waits in the kernel of a node that stands still.
	queue []func()
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

func (m *machine) clock() time.Time { return m.sim.now.Add(m.skew) }

// admit is the gate.
func (m *machine) admit(f peer.Fence) error {
	if f.Term < m.term {
		return &peer.Refusal{Kind: peer.RefusedStaleTerm, Message: "a newer leader was seen"}
	}
	m.term, m.epoch = f.Term, max(m.epoch, f.Epoch)
	return nil
}

// read takes a call when the process gets to it, and gives the answer to back.
func (m *machine) read(c *call, back func(answer)) {
	switch {
	case !m.up: // the connection is gone with the process
	case m.frozen:
		m.queue = append(m.queue, func() { m.read(c, back) })
	default:
		back(m.serve(c))
	}
}

// serve handles a call, as the worker does.
func (m *machine) serve(c *call) answer {
	a := answer{call: c}
	if a.err = m.admit(c.fence); a.err != nil {
		m.sim.note("%s refuses a call of term %d", m.id, c.fence.Term)
		return a
	}
	switch c.kind {
	case callJobs:
		for _, job := range c.jobs {
			// The mesh's time tells how long the call was on its way.
			job.Arrive(m.clock(), m.sim.now.Sub(c.fence.Now))
			a.answers = append(a.answers, m.accept(job))
		}
	case callCancel:
		for _, id := range c.ids {
			switch j := m.jobs[id]; {
			case j == nil:
			case j.running:
				m.end(j, "Cancelled", "Cancelled")
			case j.sequence == 0:
				m.finish(j, "Cancelled", "Cancelled") // it waits, and is never started
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
	switch {
	case m.jobs[job.CommandID] != nil:
		out.Known = true
		return out
	case job.Epoch < m.epoch:
		out.Refused = "of an epoch that is over"
	case !m.clock().Before(job.StartUntil):
		out.Refused, out.TooLate = "too late to start", true
	case m.sim.chance(0.01):
		out.Refused = "the disk is full"
	}
	if out.Refused != "" {
		m.sim.note("%s refuses %s: %s", m.id, job.CommandID, out.Refused)
		return out
	}
	m.sim.note("%s accepts %s", m.id, job.CommandID)
	j := &simJob{job: job}
	m.jobs[job.CommandID] = j
	m.sim.checkAccepted(m, job)
	m.sim.after(m.sim.upTo(50*time.Millisecond), func() { m.start(j) })
	return out
}

func (m *machine) start(j *simJob) {
	s := m.sim
	if !j.ended.IsZero() {
		return // cancelled before
	}
	if !m.up || m.frozen {
		s.after(100*time.Millisecond, func() { m.start(j) })
		return
	}
	if !m.clock().Before(j.job.StartUntil) {
		m.finish(j, "TimedOut", "DeliveryTimedOut")
		return
	}
	s.note("%s starts %s", m.id, j.job.CommandID)
	j.starts++
	j.startedAt, j.running = m.clock(), true
	j.sequence, j.status, j.details = 1, "InProgress", "InProgress"
	s.checkRunning(j.job.CommandID)
	m.send(j, 1)
	length := s.upTo(4 * time.Second)
	if j.job.StartUntil.Sub(m.clock()) < time.Minute && s.chance(0.03) {
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
	s.after(j.job.ExpiresAt.Sub(m.clock()), func() { m.end(j, "TimedOut", "ExecutionTimedOut") })
}

// end ends a job that runs.
func (m *machine) end(j *simJob, status, details string) {
	if j.running {
		j.running = false
		m.finish(j, status, details)
	}
}

// finish makes the job's end known.
func (m *machine) finish(j *simJob, status, details string) {
	m.sim.note("%s: %s ends %s", m.id, j.job.CommandID, details)
	j.sequence, j.status, j.details, j.ended = j.sequence+1, status, details, m.clock()
	m.send(j, j.sequence)
}

// kill ends the process; what its shims run goes on.
func (m *machine) kill() {
	m.sim.note("%s goes down", m.id)
	m.up, m.frozen, m.queue = false, false, nil
	m.sim.sight(m, false)
}

// boot starts the process; a machine that was started anew runs nothing any more.
func (m *machine) boot(anew bool) {
	s := m.sim
	if m.up {
		return
	}
	s.note("%s comes up, anew %t", m.id, anew)
	m.up = true
	if anew {
		for _, c := range s.commands {
			if j := m.jobs[c.ID]; j != nil {
				m.end(j, "Failed", "Failed") // interrupted
			}
		}
	}
	s.sight(m, true)
}

// freeze lets the process stand still for a while.
func (m *machine) freeze(d time.Duration) {
	if !m.up || m.frozen {
		return
	}
	s := m.sim
	s.note("%s stands still for %s", m.id, d)
	m.frozen = true
	if d > 3*time.Second {
		s.sight(m, false)
	}
	s.after(d, func() {
		if !m.frozen {
			return
		}
		s.note("%s goes on", m.id)
		m.frozen = false
		queue := m.queue
		m.queue = nil
		for _, read := range queue {
			s.after(s.upTo(4*time.Second), read)
		}
		s.sight(m, m.up)
	})
}
