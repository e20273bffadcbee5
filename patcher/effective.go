package patcher

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Effect is what a baseline says of one version that some source offers, for
// DescribeEffectivePatchesForPatchBaseline.
type Effect struct {
	Status types.PatchDeploymentStatus
	Level  types.PatchComplianceLevel
	// Date is when it was or will be approved; zero where no delay decided.
	Date   time.Time
	Reason string
}

// Effective judges offers of one platform by a baseline, in the same order; an
// Effect without Status is of what the baseline does not approve and never will by
// itself.
func Effective(b *Baseline, p Platform, offers []Offer, o EvaluateOptions) []Effect {
	inv := &Inventory{SecurityKnown: slices.ContainsFunc(offers, func(o Offer) bool { return o.Security || len(o.Notices) > 0 })}
	j := newJudge(b, p, inv, o)
	effects := make([]Effect, len(offers))
	for i := range offers {
		s := ofCandidate(&offers[i].Candidate)
		if entry, rejected := j.reject(s); rejected {
			effects[i] = Effect{Status: types.PatchDeploymentStatusExplicitRejected, Level: types.PatchComplianceLevelUnspecified, Reason: "rejected by " + entry}
			continue
		}
		if listed := j.listed(s); listed.approved {
			effects[i] = Effect{Status: types.PatchDeploymentStatusExplicitApproved, Level: listed.level, Reason: listed.reason}
			continue
		}
		v := j.approve(s)
		switch {
		case v.approved:
			effects[i] = Effect{Status: types.PatchDeploymentStatusApproved, Level: v.level, Reason: v.reason}
			if since, _ := j.released(s, v.notice); !since.IsZero() && !since.After(o.Now) {
				effects[i].Date = since
			}
		case !v.from.IsZero():
			effects[i] = Effect{Status: types.PatchDeploymentStatusPendingApproval, Level: v.level, Date: v.from, Reason: v.reason}
		}
	}
	return effects
}
