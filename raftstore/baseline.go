package raftstore

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// PatchBaseline is a patch baseline of the mesh's own. The predefined ones are parts
// of the program.
type PatchBaseline struct {
	Meta
	ID              string // pb- and 17 hex digits
	Name            string
	OperatingSystem string // types.OperatingSystem
	Description     string
	// Definition has the members of CreatePatchBaseline, but for Name, Description,
	// OperatingSystem, ClientToken and Tags, as they came over the wire.
	Definition json.RawMessage
	CreatedAt  time.Time
	ModifiedAt time.Time
	Caller     string
	Tags       map[string]string
	// ClientToken made the baseline; Request is the hex SHA-256 of what else was asked.
	ClientToken string
	Request     string
}

// PatchGroup is the registration of a patch group with a baseline.
type PatchGroup struct {
	Meta
	OperatingSystem string
	Name            string
	BaselineID      string // an id of the mesh's own, or the ARN of a predefined one
	RegisteredAt    time.Time
}

// DefaultPatchBaseline is the baseline of an operating system for nodes without a
// group of their own. Without the record the predefined one is.
type DefaultPatchBaseline struct {
	Meta
	OperatingSystem string
	BaselineID      string
}

type patchBaselineByToken struct{ ID string }

const (
	patchBaselinePrefix        = "patch-baseline/"
	patchBaselineByTokenPrefix = "patch-baseline-by-token/"
	defaultPatchBaselinePrefix = "patch-baseline-default/"
	patchGroupPrefix           = "patch-group/"

	patchBaselineVersion        = 1
	patchBaselineByTokenVersion = 1
	defaultPatchBaselineVersion = 1
	patchGroupVersion           = 1
)

// GetPatchBaseline returns the baseline with this id, or ErrNotFound.
func GetPatchBaseline(r Reader, id string) (PatchBaseline, error) {
	var b PatchBaseline
	index, found, err := getRecord(r, patchBaselinePrefix+id, patchBaselineVersion, &b)
	if err == nil && !found {
		err = ErrNotFound
	}
	b.ModifyIndex = index
	return b, err
}

// GetPatchBaselineByToken returns the baseline that a client token made, or
// ErrNotFound.
func GetPatchBaselineByToken(r Reader, token string) (PatchBaseline, error) {
	var ref patchBaselineByToken
	_, found, err := getRecord(r, patchBaselineByTokenPrefix+token, patchBaselineByTokenVersion, &ref)
	if err != nil {
		return PatchBaseline{}, err
	}
	if !found {
		return PatchBaseline{}, ErrNotFound
	}
	return GetPatchBaseline(r, ref.ID)
}

// ScanPatchBaselines calls fn for each baseline with an id >= start, in order of
// ids, until fn returns false.
func ScanPatchBaselines(r Reader, start string, fn func(PatchBaseline) bool) error {
	return scanRecords(r, patchBaselinePrefix, start, patchBaselineVersion, func(b PatchBaseline, index uint64) bool {
		b.ModifyIndex = index
		return fn(b)
	})
}

// CountPatchBaselines returns how many baselines there are.
func CountPatchBaselines(r Reader) int { return countKeys(r, patchBaselinePrefix) }

// PutPatchBaseline writes b, requiring that it is unchanged since it was read.
func (t *Txn) PutPatchBaseline(b PatchBaseline) {
	t.Require(patchBaselinePrefix+b.ID, b.ModifyIndex)
	t.Put(patchBaselinePrefix+b.ID, encodeRecord(patchBaselineVersion, b))
	if b.ModifyIndex == 0 && b.ClientToken != "" {
		t.Require(patchBaselineByTokenPrefix+b.ClientToken, 0)
		t.Put(patchBaselineByTokenPrefix+b.ClientToken, encodeRecord(patchBaselineByTokenVersion, patchBaselineByToken{ID: b.ID}))
	}
}

// DeletePatchBaseline deletes b, requiring that it is unchanged. That it is no
// default and has no groups is the caller's to see to: registering either writes the
// baseline's record too.
func (t *Txn) DeletePatchBaseline(b PatchBaseline) {
	t.Require(patchBaselinePrefix+b.ID, b.ModifyIndex)
	t.Delete(patchBaselinePrefix + b.ID)
	if b.ClientToken != "" {
		t.Delete(patchBaselineByTokenPrefix + b.ClientToken)
	}
}

// GetDefaultPatchBaseline returns the registered default of an operating system, or
// ErrNotFound.
func GetDefaultPatchBaseline(r Reader, operatingSystem string) (DefaultPatchBaseline, error) {
	var d DefaultPatchBaseline
	index, found, err := getRecord(r, defaultPatchBaselinePrefix+operatingSystem, defaultPatchBaselineVersion, &d)
	if err == nil && !found {
		err = ErrNotFound
	}
	d.ModifyIndex = index
	return d, err
}

// PutDefaultPatchBaseline writes d, requiring that it is unchanged since it was read.
func (t *Txn) PutDefaultPatchBaseline(d DefaultPatchBaseline) {
	t.Require(defaultPatchBaselinePrefix+d.OperatingSystem, d.ModifyIndex)
	t.Put(defaultPatchBaselinePrefix+d.OperatingSystem, encodeRecord(defaultPatchBaselineVersion, d))
}

// GetPatchGroup returns the registration of a group for an operating system, or
// ErrNotFound.
func GetPatchGroup(r Reader, operatingSystem, name string) (PatchGroup, error) {
	var g PatchGroup
	index, found, err := getRecord(r, patchGroupPrefix+operatingSystem+"/"+name, patchGroupVersion, &g)
	if err == nil && !found {
		err = ErrNotFound
	}
	g.ModifyIndex = index
	return g, err
}

// ScanPatchGroups calls fn with each registration and its position in the list, by
// operating system and name, from position start on, until fn returns false.
func ScanPatchGroups(r Reader, start string, fn func(position string, g PatchGroup) bool) error {
	return scanRecords(r, patchGroupPrefix, start, patchGroupVersion, func(g PatchGroup, index uint64) bool {
		g.ModifyIndex = index
		return fn(g.OperatingSystem+"/"+g.Name, g)
	})
}

// PatchGroupsOf returns the names of the groups that are registered with a baseline.
func PatchGroupsOf(r Reader, operatingSystem, baselineID string) ([]string, error) {
	var names []string
	err := scanRecords(r, patchGroupPrefix+operatingSystem+"/", "", patchGroupVersion, func(g PatchGroup, _ uint64) bool {
		if g.BaselineID == baselineID {
			names = append(names, g.Name)
		}
		return true
	})
	return names, err
}

// PatchGroupOf is the patch group that a node's tags name, "" for none.
func PatchGroupOf(tags map[string]string) string {
	if group := tags["Patch Group"]; group != "" {
		return group
	}
	return tags["PatchGroup"]
}

// PatchBaselineFor is the id of the baseline that is registered for a group of an
// operating system, else of its registered default, else "".
func PatchBaselineFor(r Reader, operatingSystem, group string) (string, error) {
	if group != "" {
		g, err := GetPatchGroup(r, operatingSystem, group)
		if err == nil {
			return g.BaselineID, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	d, err := GetDefaultPatchBaseline(r, operatingSystem)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return d.BaselineID, err
}

// PutPatchGroup writes g, requiring that it is unchanged since it was read.
func (t *Txn) PutPatchGroup(g PatchGroup) {
	key := patchGroupPrefix + g.OperatingSystem + "/" + g.Name
	t.Require(key, g.ModifyIndex)
	t.Put(key, encodeRecord(patchGroupVersion, g))
}

// DeletePatchGroup deletes g, requiring that it is unchanged.
func (t *Txn) DeletePatchGroup(g PatchGroup) {
	key := patchGroupPrefix + g.OperatingSystem + "/" + g.Name
	t.Require(key, g.ModifyIndex)
	t.Delete(key)
}

// PatchBaselineUse says what a baseline is in use for.
type PatchBaselineUse struct {
	Default bool
	Groups  []string
}

// UseOfPatchBaseline finds what a baseline is in use for.
func UseOfPatchBaseline(r Reader, operatingSystem, baselineID string) (PatchBaselineUse, error) {
	var use PatchBaselineUse
	d, err := GetDefaultPatchBaseline(r, operatingSystem)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return use, err
	}
	use.Default = err == nil && d.BaselineID == baselineID
	use.Groups, err = PatchGroupsOf(r, operatingSystem, baselineID)
	return use, err
}

// scanRecords decodes the records below prefix, from prefix+start on, until fn
// returns false.
func scanRecords[T any](r Reader, prefix, start string, version int, fn func(record T, index uint64) bool) error {
	var failed error
	from := ""
	if start != "" {
		from = prefix + start
	}
	r.Scan(prefix, from, func(key string, value []byte, index uint64) bool {
		var record T
		if failed = decodeRecord(key, value, version, &record); failed != nil {
			return false
		}
		return fn(record, index)
	})
	return failed
}

func countKeys(r Reader, prefix string) int {
	count := 0
	r.Scan(prefix, "", func(string, []byte, uint64) bool {
		count++
		return true
	})
	return count
}

// namesBelow returns the first parts of the keys below prefix, each once, without
// reading the records behind them.
func namesBelow(r Reader, prefix string) []string {
	var names []string
	for start := ""; ; {
		found := ""
		r.Scan(prefix, start, func(key string, _ []byte, _ uint64) bool {
			found, _, _ = strings.Cut(strings.TrimPrefix(key, prefix), "/")
			return false
		})
		if found == "" {
			return names
		}
		names = append(names, found)
		start = prefix + found + "0" // the byte behind the slash
	}
}
