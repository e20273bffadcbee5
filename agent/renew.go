package agent

import (
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
)

// Pauses between attempts to renew: short enough that a node is back soon after
// the mesh is, long enough that ten thousand nodes that wait are no load.
const (
	renewRetryFirst = time.Second
	renewRetryMost  = 2 * time.Minute
)

// renewalDue says when to renew a certificate: when a third of its life is left,
// so that two thirds of a site's outage is bridged without anybody noticing, and
// a little earlier by chance, so that nodes enrolled together do not come
// together. spread is in [0,1).
func renewalDue(notAfter time.Time, spread float64) time.Time {
	third := pki.CertificateLifetime / 3
	return notAfter.Add(-third - time.Duration(spread*float64(third)/4))
}

// renewCertificates keeps this node's certificate valid and its facts known to
// the mesh: at the start when they changed, then in time before the end. It tries
// until it succeeds: expiry never locks a node out.
func (a *Agent) renewCertificates() {
	facts := nodeFacts(a.config)
	pause := time.Duration(0)
	factsFile := a.dir.path("identity", "facts.json")
	for {
		var announced peer.NodeFacts
		if err := readJSON(factsFile, &announced); err != nil && !errors.Is(err, os.ErrNotExist) {
			a.log.Warn("read the announced facts", "error", err)
		}
		wait := pause
		if announced == facts && pause == 0 {
			wait = time.Until(renewalDue(a.identity.Identity().NotAfter, rand.Float64()))
		}
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(max(wait, 0)):
		}
		response, err := a.client.Renew(a.ctx, &peer.RenewRequest{Facts: facts})
		if err == nil {
			err = a.takeRenewal(response)
		}
		if err == nil {
			err = writeJSON(factsFile, facts)
		}
		if a.ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = 0
			continue
		}
		level := a.log.Debug
		if time.Now().After(a.identity.Identity().NotAfter) {
			level = a.log.Warn
		}
		pause = min(max(2*pause, renewRetryFirst), renewRetryMost)
		pause += time.Duration(rand.Int64N(int64(pause) / 2))
		level("renew the certificate", "error", err, "again in", pause.Round(time.Millisecond), "ends", a.identity.Identity().NotAfter)
	}
}

func (a *Agent) takeRenewal(response *peer.RenewResponse) error {
	if err := a.identity.Replace(response.Certificate); err != nil {
		return err
	}
	if _, err := a.gate.Update(response.Roster); err != nil {
		return err
	}
	if len(response.GossipKeys) == 0 {
		return nil
	}
	return a.takeGossipKeys(response.KeyringVersion, response.GossipKeys)
}
