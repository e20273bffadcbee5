package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// offeredPatch is an entry of the catalogue as operations show it.
type offeredPatch struct {
	raftstore.PatchOffer
	patcher.Description
	offer patcher.Offer
}

func readOffer(record raftstore.PatchOffer) (*offeredPatch, error) {
	p := &offeredPatch{PatchOffer: record}
	if err := json.Unmarshal(record.Offer, &p.offer); err != nil {
		return nil, fmt.Errorf("read the offer %s: %w", record.Position(), err)
	}
	p.Description = p.offer.Describe(patcher.OperatingSystem(record.OperatingSystem))
	return p, nil
}

// describe shows an offer as Systems Manager shows a patch of Linux.
func (p *offeredPatch) describe() *types.Patch {
	out := &types.Patch{
		Title: aws.String(p.Title), ProductFamily: aws.String(p.OperatingSystem), Product: aws.String(p.Product), Vendor: optional(p.Vendor),
		Classification: optional(p.Classification), Severity: optional(p.Severity), Name: aws.String(p.offer.Name), Arch: aws.String(p.offer.Arch),
		Version: optional(p.Version), Release: optional(p.Release), Repository: optional(p.Repository), ReleaseDate: optionalTime(p.Released),
		CVEIds: p.texts(func(n *patcher.Notice) []string { return n.CVEs }), BugzillaIds: p.texts(func(n *patcher.Notice) []string { return n.Bugzillas }),
		AdvisoryIds: p.texts(func(n *patcher.Notice) []string { return []string{n.ID} }),
	}
	if p.Epoch != "" {
		var epoch int32
		if _, err := fmt.Sscanf(p.Epoch, "%d", &epoch); err == nil {
			out.Epoch = epoch
		}
	}
	if p.Notice != nil {
		out.Description = optional(p.Notice.Title)
	}
	return out
}

// texts are what all notices of an offer name, each once.
func (p *offeredPatch) texts(of func(*patcher.Notice) []string) []string {
	var all []string
	for i := range p.offer.Notices {
		all = append(all, of(&p.offer.Notices[i])...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// offerFilters are the filters of DescribeAvailablePatches, and what an offer has for
// them. Those of Windows alone match nothing.
var offerFilters = map[string]func(*offeredPatch) []string{
	"PRODUCT":        func(p *offeredPatch) []string { return []string{p.Product} },
	"PRODUCT_FAMILY": func(p *offeredPatch) []string { return []string{p.OperatingSystem} },
	"PATCH_SET":      func(*offeredPatch) []string { return []string{string(types.PatchSetOs)} },
	"NAME":           func(p *offeredPatch) []string { return []string{p.offer.Name} },
	"SEVERITY":       func(p *offeredPatch) []string { return []string{p.Severity} },
	"CLASSIFICATION": func(p *offeredPatch) []string { return []string{p.Classification} },
	"EPOCH":          func(p *offeredPatch) []string { return []string{p.Epoch} },
	"VERSION":        func(p *offeredPatch) []string { return []string{p.Version} },
	"RELEASE":        func(p *offeredPatch) []string { return []string{p.Release} },
	"ARCH":           func(p *offeredPatch) []string { return []string{p.offer.Arch} },
	"REPOSITORY":     func(p *offeredPatch) []string { return []string{p.Repository} },
	"PRIORITY":       func(p *offeredPatch) []string { return []string{p.offer.Priority} },
	"SECTION":        func(p *offeredPatch) []string { return []string{p.offer.Section} },
	"ADVISORY_ID": func(p *offeredPatch) []string {
		return p.texts(func(n *patcher.Notice) []string { return []string{n.ID} })
	},
	"CVE_ID": func(p *offeredPatch) []string { return p.texts(func(n *patcher.Notice) []string { return n.CVEs }) },
	"BUGZILLA_ID": func(p *offeredPatch) []string {
		return p.texts(func(n *patcher.Notice) []string { return n.Bugzillas })
	},
	"PATCH_ID":      func(p *offeredPatch) []string { return []string{p.Title, p.offer.ID()} },
	"MSRC_SEVERITY": func(*offeredPatch) []string { return nil },
}

func (p *offeredPatch) matches(filters map[string][]string) bool {
	for key, values := range filters {
		have := offerFilters[key](p)
		if !slices.ContainsFunc(values, func(v string) bool {
			return slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, v) })
		}) {
			return false
		}
	}
	return true
}

// describeAvailablePatches shows the catalogue of what sources have offered to the
// nodes.
func (c *call) describeAvailablePatches(in *ssm.DescribeAvailablePatchesInput) (*ssm.DescribeAvailablePatchesOutput, error) {
	keys := make([]string, 0, len(offerFilters))
	for key := range offerFilters {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	filters, err := orchestratorFilters(in.Filters, keys...)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeAvailablePatchesOutput{Patches: []types.Patch{}}
	next := ""
	var failed error
	err = raftstore.ScanPatchOffers(c, "", start, func(record raftstore.PatchOffer) bool {
		if !fits(filters["PRODUCT"], func(v string) bool { return strings.EqualFold(v, record.Product) }) {
			return true
		}
		var p *offeredPatch
		if p, failed = readOffer(record); failed != nil {
			return false
		}
		if !p.matches(filters) {
			return true
		}
		if len(out.Patches) == pageSize(in.MaxResults) {
			next = record.Position()
			return false
		}
		out.Patches = append(out.Patches, *p.describe())
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// describeEffectivePatchesForPatchBaseline judges the catalogue by a baseline, as a
// scan now would.
func (c *call) describeEffectivePatchesForPatchBaseline(in *ssm.DescribeEffectivePatchesForPatchBaselineInput) (*ssm.DescribeEffectivePatchesForPatchBaselineOutput, error) {
	b, err := c.findBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeEffectivePatchesForPatchBaselineOutput{EffectivePatches: []types.EffectivePatch{}}
	for {
		lot, next, err := c.offerLot(b.os(), start)
		if err != nil {
			return nil, err
		}
		for i, effect := range effects(&b.Baseline, lot, c.now) {
			if effect.Status == "" {
				continue
			}
			if len(out.EffectivePatches) == pageSize(in.MaxResults) {
				out.NextToken, err = c.nextPage(&bound, lot[i].Position())
				return out, err
			}
			out.EffectivePatches = append(out.EffectivePatches, types.EffectivePatch{
				Patch: lot[i].describe(),
				PatchStatus: &types.PatchStatus{
					DeploymentStatus: effect.Status, ComplianceLevel: effect.Level, ApprovalDate: optionalTime(effect.Date),
				},
			})
		}
		if start = next; next == "" {
			return out, nil
		}
	}
}

// maxOfferLot is how many offers are judged at a time.
const maxOfferLot = 256

// offerLot reads offers of one product, from a position on; next is
// where to go on, "" at the end.
func (c *call) offerLot(os, start string) (lot []*offeredPatch, next string, err error) {
	var failed error
	err = raftstore.ScanPatchOffers(c, os, start, func(record raftstore.PatchOffer) bool {
		var p *offeredPatch
		if p, failed = readOffer(record); failed != nil {
			return false
		}
		if len(lot) > 0 && (len(lot) == maxOfferLot || p.Product != lot[0].Product) {
			next = record.Position()
			return false
		}
		lot = append(lot, p)
		return true
	})
	return lot, next, errors.Join(err, failed)
}

// effects is what a baseline says of a lot, as a scan now would.
func effects(b *patcher.Baseline, lot []*offeredPatch, now time.Time) []patcher.Effect {
	if len(lot) == 0 {
		return nil
	}
	platform := patcher.Platform{OperatingSystem: patcher.OperatingSystem(lot[0].OperatingSystem), Product: lot[0].Product}
	options := patcher.EvaluateOptions{Now: now, FirstSeen: map[string]time.Time{}}
	offers := make([]patcher.Offer, len(lot))
	for i, p := range lot {
		offers[i], options.FirstSeen[p.Title] = p.offer, p.FirstSeen
	}
	return patcher.Effective(b, platform, offers, options)
}
