package patcher

import (
	"cmp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
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
	// The offers are those of many machines: what one of them does not know, others do.
	j := newJudge(b, p, &Inventory{SecurityKnown: true}, o)
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
			effects[i] = Effect{Status: types.PatchDeploymentStatusApproved, Level: v.level, Date: j.approvedAt(s), Reason: v.reason}
		case !v.from.IsZero():
			effects[i] = Effect{Status: types.PatchDeploymentStatusPendingApproval, Level: v.level, Date: v.from, Reason: v.reason}
		}
	}
	return effects
}

// approvedAt is when the first rule approved what rules approve, zero where no date
// of it is known.
func (j *judge) approvedAt(s *subject) time.Time {
	var first time.Time
	verdicts := j.byRules(s)
	if len(verdicts) != len(j.rules) {
		return first
	}
	for i, v := range verdicts {
		at, _ := j.released(s, v.notice)
		if !v.approved || at.IsZero() {
			continue
		}
		if !(j.family == aptFamily && j.predefined) {
			at = at.Add(time.Duration(aws.ToInt32(j.rules[i].ApproveAfterDays)) * day)
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// Description is what SSM shows of an offer.
type Description struct {
	Classification, Severity string
	Epoch, Version, Release  string // of rpm "EPOCH:VERSION-RELEASE", of apt alike
	// Repository is the source: the id of one, or the suite of apt.
	Repository, Vendor string
	// Notice is the one that Classification and Severity are of, nil without any.
	Notice *Notice
	// Released is when it was published, zero where nothing tells.
	Released time.Time
}

// Describe describes an offer for machines of an operating system.
func (o *Offer) Describe(os OperatingSystem) Description {
	var d Description
	s := ofCandidate(&o.Candidate)
	j := &judge{family: familyOf(os, "")}
	d.Notice = j.leading(s)
	d.Classification, d.Severity = classification(d.Notice), severity(os, d.Notice)
	if d.Classification == "" && o.Security {
		d.Classification = "Security"
	}
	rest := o.Version
	if epoch, version, found := strings.Cut(rest, ":"); found {
		d.Epoch, rest = epoch, version
	}
	d.Version = rest
	if at := strings.LastIndexByte(rest, '-'); at >= 0 {
		d.Version, d.Release = rest[:at], rest[at+1:]
	}
	for _, origin := range o.Origins {
		d.Repository = cmp.Or(d.Repository, origin.Repository, origin.Suite, origin.Codename)
		d.Vendor = cmp.Or(d.Vendor, origin.Vendor)
	}
	d.Released = o.Built
	if d.Notice != nil {
		d.Released = d.Notice.Updated
		if d.Released.IsZero() {
			d.Released = d.Notice.Issued
		}
	}
	return d
}
