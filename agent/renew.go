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
	// renewLook is how often the loop looks at the clock.
	renewLook       = time.Hour
	renewRetryFirst = time.Second
	renewRetryMost  = 2 * time.Minute
)

// renewAgain is the pause after a renewal with which nothing was won: by this
// machine's clock the new certificate is to be renewed as well. The clock is wrong
// by days, and says nothing about when.
const renewAgain = time.Hour

// renewalWait says how long to wait before a certificate is renewed: until a third
// of its life is left, so that two thirds of a site's outage is bridged without
// anybody noticing, and a little less by chance, so that nodes enrolled together do
// not come together. spread is in [0,1). A clock so far behind that the certificate
// has not begun could let it end unnoticed: then it is renewed now. renewed says
// that it was just issued.
func renewalWait(notAfter, now time.Time, spread float64, renewed bool) time.Duration {
	third := pki.CertificateLifetime / 3
	wait := notAfter.Add(-third - time.Duration(spread*float64(third)/4)).Sub(now)
	if wait > 2*third+pki.BackDate {
		wait = 0
	}
	if renewed {
		wait = max(wait, renewAgain)
	}
	return max(wait, 0)
}

// renewCertificates keeps this node's certificate valid and its facts known to
// the mesh: at the start when they changed, then in time before the end. It tries
// until it succeeds: expiry never locks a node out.
func (a *Agent) renewCertificates() {
	facts := nodeFacts(a.config)
	pause, renewed, spread := time.Duration(0), false, rand.Float64()
	factsFile := a.dir.facts()
	for {
		var announced peer.NodeFacts
		if err := readJSON(factsFile, &announced); err != nil && !errors.Is(err, os.ErrNotExist) {
			a.log.Warn("read the announced facts", "error", err)
		}
		wait := pause
		if announced == facts && pause == 0 {
			wait = renewalWait(a.identity.Identity().NotAfter, a.clock.Own(), spread, renewed)
		}
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(min(wait, renewLook)):
		}
		if wait > renewLook {
			continue // the machine may have slept, or its clock been set
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
		if renewed = err == nil; renewed {
			pause, spread = 0, rand.Float64()
			continue
		}
		level := a.log.Debug
		if a.clock.Own().After(a.identity.Identity().NotAfter) {
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
