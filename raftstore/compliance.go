package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Compliance is what PutComplianceItems has told of one type of compliance on one
// node. Patch compliance is not in it: it follows from PatchState.
type Compliance struct {
	Meta
	NodeID        string
	Type          string // Custom:AVCheck, Association
	ExecutionTime time.Time
	ExecutionID   string
	ExecutionType string
	ContentHash   string
	UpdatedAt     time.Time
	// Compliant and NonCompliant count the items by severity.
	Compliant    SeverityCounts
	NonCompliant SeverityCounts
	// Content are the items, JSON deflated.
	Content []byte
}

// ComplianceItem is one item, as types.ComplianceItemEntry.
type ComplianceItem struct {
	ID       string            `json:"i,omitempty"`
	Title    string            `json:"t,omitempty"`
	Severity string            `json:"s"`
	Status   string            `json:"e"`
	Details  map[string]string `json:"d,omitempty"`
}

const (
	compliancePrefix  = "compliance/"
	complianceVersion = 1

	// MaxCompliance is how many bytes the items of one type on one node may have,
	// deflated.
	MaxCompliance = 128 << 10
)

// ErrComplianceTooLarge: the items have more than MaxCompliance bytes.
var ErrComplianceTooLarge = errors.New("the compliance items are too large")

// GetCompliance returns one type of compliance of a node, or ErrNotFound.
func GetCompliance(r Reader, kind, nodeID string) (Compliance, error) {
	var c Compliance
	index, found, err := getRecord(r, compliancePrefix+kind+"/"+nodeID, complianceVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	c.ModifyIndex = index
	return c, err
}

// ComplianceTypes returns the types that there are on any node, in byte order.
func ComplianceTypes(r Reader) []string { return namesBelow(r, compliancePrefix) }

// ScanCompliance calls fn for each node with a type of compliance, from node start
// on, in order of ids, until fn returns false.
func ScanCompliance(r Reader, kind, start string, fn func(Compliance) bool) error {
	return scanRecords(r, compliancePrefix+kind+"/", start, complianceVersion, func(c Compliance, index uint64) bool {
		c.ModifyIndex = index
		return fn(c)
	})
}

// Items returns the items.
func (c *Compliance) Items() ([]ComplianceItem, error) {
	var items []ComplianceItem
	if err := inflateJSON(c.Content, &items); err != nil {
		return nil, fmt.Errorf("read the %s compliance of %s: %w", c.Type, c.NodeID, err)
	}
	return items, nil
}

// SetItems packs items, or returns ErrComplianceTooLarge. The counts are the
// caller's.
func (c *Compliance) SetItems(items []ComplianceItem) error {
	content, err := deflateJSON(items)
	if err != nil {
		return err
	}
	if len(content) > MaxCompliance {
		return ErrComplianceTooLarge
	}
	c.Content = content
	return nil
}

// PutCompliance writes c, requiring that it is unchanged since it was read.
func (t *Txn) PutCompliance(c Compliance) {
	key := compliancePrefix + c.Type + "/" + c.NodeID
	t.Require(key, c.ModifyIndex)
	t.Put(key, encodeRecord(complianceVersion, c))
}

// SweepRemovedNodes returns the transaction that deletes what is kept of the patches
// and the compliance of nodes that are not enrolled any more; it is empty when there
// is nothing, and bounded in size.
func SweepRemovedNodes(r Reader) Txn {
	var t Txn
	sweep := func(prefix string) {
		r.Scan(prefix, "", func(key string, _ []byte, _ uint64) bool {
			if _, _, enrolled := r.Get(nodePrefix + key[strings.LastIndex(key, "/")+1:]); !enrolled {
				t.Delete(key)
			}
			return len(t.Ops) < maxSweep
		})
	}
	sweep(patchStatePrefix)
	sweep(patchListPrefix)
	sweep(compliancePrefix)
	return t
}
