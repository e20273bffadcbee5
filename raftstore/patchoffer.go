package raftstore

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// PatchOffer is a version of a package that a source has offered to some node: an
// entry of the mesh's catalogue, and of its first-seen ledger.
type PatchOffer struct {
	Meta
	OperatingSystem string
	Product         string // Debian12, RedhatEnterpriseLinux9.4
	Title           string // name.arch:version
	// Offer is what is offered, as patcher.Offer without what is a node's own.
	Offer json.RawMessage
	// Detail is how much Offer tells: nodes see different sources, and an advisory may
	// come after its package. What tells more replaces what tells less.
	Detail int
	// FirstSeen and LastSeen are when a node first and last reported it; LastSeen is
	// right to offerSeenEvery.
	FirstSeen time.Time
	LastSeen  time.Time
}

const (
	patchOfferPrefix  = "patch-offer/"
	patchOfferVersion = 1

	// offerSeenEvery is how old LastSeen grows before it is written again: each write
	// costs all voters, and hundreds of nodes report the same.
	offerSeenEvery = 24 * time.Hour
	// OfferRetention is how long an offer stays that nobody reports: longer than the
	// longest approval delay, so that the ledger still knows it.
	OfferRetention = 400 * 24 * time.Hour
	// maxOfferTxn bounds a transaction of offers, in bytes.
	maxOfferTxn = 150 << 10
	// maxTitle is the longest title that is kept, in bytes; the key has room for it.
	maxTitle = 1024
)

// Position is where the offer is in the order of the catalogue.
func (o *PatchOffer) Position() string {
	return o.OperatingSystem + "/" + o.Product + "/" + o.Title
}

// ScanPatchOffers calls fn for each offer of an operating system ("" for all) from
// position start on, by product and title, until fn returns false.
func ScanPatchOffers(r Reader, operatingSystem, start string, fn func(PatchOffer) bool) error {
	prefix := patchOfferPrefix
	if operatingSystem != "" {
		prefix += operatingSystem + "/"
	}
	if start == "" {
		start = prefix
	} else {
		start = patchOfferPrefix + start
	}
	var failed error
	r.Scan(prefix, start, func(key string, value []byte, index uint64) bool {
		var o PatchOffer
		if failed = decodeRecord(key, value, patchOfferVersion, &o); failed != nil {
			return false
		}
		o.ModifyIndex = index
		return fn(o)
	})
	return failed
}

// PatchesFirstSeen returns when each version of an operating system's packages was
// first seen on any product of it, by title, for at most limit of them: those that
// were seen last. It reads the whole catalogue of the system.
func PatchesFirstSeen(r Reader, operatingSystem string, limit int) (map[string]time.Time, error) {
	seen := map[string]time.Time{}
	last := map[string]time.Time{}
	err := ScanPatchOffers(r, operatingSystem, "", func(o PatchOffer) bool {
		// Another product may have had the very version before.
		if at, there := seen[o.Title]; !there || o.FirstSeen.Before(at) {
			seen[o.Title] = o.FirstSeen
		}
		if !o.LastSeen.Before(last[o.Title]) {
			last[o.Title] = o.LastSeen
		}
		return true
	})
	if len(seen) <= limit {
		return seen, err
	}
	titles := slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		return cmp.Or(last[b].Compare(last[a]), strings.Compare(a, b))
	})
	for _, title := range titles[limit:] {
		delete(seen, title)
	}
	return seen, err
}

// PutPatchOffers returns the transactions that bring the catalogue up to what a
// node has reported at now, of bounded size; none when it knows all of it. They need
// no order; one that meets ErrConflict is to be made again.
func PutPatchOffers(r Reader, offers []PatchOffer, now time.Time) ([]Txn, error) {
	var txns []Txn
	var t Txn
	size := 0
	written := map[string]bool{}
	for _, o := range offers {
		key := patchOfferPrefix + o.Position()
		if o.Title == "" || len(o.Title) > maxTitle || len(key) > maxKeySize || written[key] {
			continue
		}
		written[key] = true
		var was PatchOffer
		index, found, err := getRecord(r, key, patchOfferVersion, &was)
		if err != nil {
			return nil, err
		}
		o.FirstSeen, o.LastSeen = now, now
		if found {
			o.FirstSeen = was.FirstSeen
			if was.Detail >= o.Detail {
				if now.Sub(was.LastSeen) < offerSeenEvery {
					continue
				}
				o.Offer, o.Detail = was.Offer, was.Detail
			}
		}
		value := encodeRecord(patchOfferVersion, o)
		if grows := len(value) + 2*len(key) + 40; len(t.Ops) > 0 && size+grows > maxOfferTxn {
			txns = append(txns, t)
			t, size = Txn{}, 0
		}
		if len(value) > maxOfferTxn {
			continue // no publisher has such a notice
		}
		t.Require(key, index)
		t.Put(key, value)
		size += len(value) + 2*len(key) + 40
	}
	if len(t.Ops) > 0 {
		txns = append(txns, t)
	}
	return txns, nil
}

// SweepPatchOffers returns the transaction that deletes offers that nobody has
// reported since before, from position start on, with the position to go on from,
// "" at the end; it looks at a bounded number.
func SweepPatchOffers(r Reader, before time.Time, start string) (t Txn, next string, err error) {
	looked := 0
	err = ScanPatchOffers(r, "", start, func(o PatchOffer) bool {
		if looked == maxSweep {
			next = o.Position()
			return false
		}
		looked++
		if o.LastSeen.Before(before) {
			t.Require(patchOfferPrefix+o.Position(), o.ModifyIndex)
			t.Delete(patchOfferPrefix + o.Position())
		}
		return true
	})
	return t, next, err
}
