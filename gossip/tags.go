package gossip

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

const (
	// tagsLimit is the most that is spread of one node's tags, in bytes.
	tagsLimit = 4096
	// stateLimit is the most one push/pull says about tags; beyond it each
	// exchange takes another part of the nodes.
	stateLimit = 4 << 20
	// broadcastLimit is the longest message that is spread in packets, which have
	// 1,400 bytes; longer ones go by push/pull alone.
	broadcastLimit = 1024

	stateFormat = 1
	messageTags = 1

	tagsCut = 1 << 0
)

// tagMark tells which tags of a node somebody has: the version, and the digest of
// their encoding (0 and 0: none at all).
type tagMark struct{ Version, Digest uint64 }

// newer is the one rule by which tags replace others, everywhere: the higher
// version. The digest only breaks a tie, so that two nodes never disagree for
// ever.
func (a tagMark) newer(b tagMark) bool {
	return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Digest, b.Digest)) > 0
}

// tagCopy is a node's tags as known here.
type tagCopy struct {
	mark tagMark
	tags map[string]string
	// payload is the encoding that is spread; cut tells that not all fitted.
	payload []byte
	cut     bool
	// stored: they came from the store on this node, so it is this node's duty
	// that the others learn of them.
	stored bool
}

func newTagCopy(version uint64, tags map[string]string) *tagCopy {
	c := &tagCopy{tags: maps.Clone(tags), stored: true}
	c.payload, c.cut = encodeTags(tags)
	c.mark = tagMark{Version: version, Digest: digestOf(c.payload)}
	return c
}

func digestOf(payload []byte) uint64 {
	sum := sha256.Sum256(payload)
	return binary.BigEndian.Uint64(sum[:8])
}

// encodeTags returns a flags byte (1: cut), then each key and value with its
// length as a uvarint before it, in ascending order of keys. Keys that no longer
// fit into tagsLimit are left out.
func encodeTags(tags map[string]string) (payload []byte, cut bool) {
	payload = []byte{0}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		value := tags[key]
		next := appendString(appendString(slices.Clip(payload), key), value)
		if len(next) > tagsLimit || !utf8.ValidString(key) || !utf8.ValidString(value) {
			cut = true
			continue
		}
		payload = next
	}
	if cut {
		payload[0] |= tagsCut
	}
	return payload, cut
}

// decodeTags takes only what encodeTags can have made, so that equal tags have
// equal bytes.
func decodeTags(payload []byte) (tags map[string]string, cut bool, err error) {
	if len(payload) < 1 || len(payload) > tagsLimit || payload[0]&^tagsCut != 0 {
		return nil, false, fmt.Errorf("tags of %d bytes: %w", len(payload), errMalformed)
	}
	cut = payload[0]&tagsCut != 0
	tags = make(map[string]string)
	last, rest := "", payload[1:]
	for first := true; len(rest) > 0; first = false {
		var key, value string
		if key, rest, err = readString(rest); err != nil {
			return nil, false, fmt.Errorf("tag key: %w", err)
		}
		if value, rest, err = readString(rest); err != nil {
			return nil, false, fmt.Errorf("tag value: %w", err)
		}
		if !first && key <= last {
			return nil, false, fmt.Errorf("tag keys out of order: %w", errMalformed)
		}
		tags[key], last = value, key
	}
	return tags, cut, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func readString(b []byte) (s string, rest []byte, err error) {
	raw, rest, err := readBytes(b)
	if err == nil && !utf8.Valid(raw) {
		err = fmt.Errorf("not UTF-8: %w", errMalformed)
	}
	return string(raw), rest, err
}

func readBytes(b []byte) (raw, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 || size > uint64(len(b)-n) {
		return nil, nil, fmt.Errorf("length: %w", errMalformed)
	}
	end := n + int(size)
	return b[n:end], b[end:], nil
}

// tagEntry is the tags of one node on the wire: node id with a length byte before
// it, version as a uvarint, payload with its length as a uvarint before it.
type tagEntry struct {
	NodeID string
	// copied is nil when the tags were known before.
	copied *tagCopy
}

// knower tells whether tags are known already; then they are not decoded. Most of
// what comes is: each node says the same many times, and each push/pull says all.
type knower func(nodeID string, version uint64, payload []byte) bool

func appendEntry(b []byte, nodeID string, version uint64, payload []byte) []byte {
	b = append(b, byte(len(nodeID)))
	b = append(b, nodeID...)
	b = binary.AppendUvarint(b, version)
	b = binary.AppendUvarint(b, uint64(len(payload)))
	return append(b, payload...)
}

// readEntry copies all that it keeps.
func readEntry(b []byte, known knower) (entry tagEntry, rest []byte, err error) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return entry, nil, fmt.Errorf("node id: %w", errMalformed)
	}
	entry.NodeID = string(b[1 : 1+b[0]])
	if !validNodeID(entry.NodeID) {
		return entry, nil, fmt.Errorf("node id %.80q: %w", entry.NodeID, errMalformed)
	}
	b = b[1+b[0]:]
	version, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return entry, nil, fmt.Errorf("version: %w", errMalformed)
	}
	raw, rest, err := readBytes(b[n:])
	if err != nil {
		return entry, nil, err
	}
	if known(entry.NodeID, version, raw) {
		return entry, rest, nil
	}
	tags, cut, err := decodeTags(raw)
	if err != nil {
		return entry, nil, err
	}
	entry.copied = &tagCopy{
		mark:    tagMark{Version: version, Digest: digestOf(raw)},
		tags:    tags,
		payload: slices.Clone(raw),
		cut:     cut,
	}
	return entry, rest, nil
}

// encodeMessage is a broadcast: the byte 1 and one entry.
func encodeMessage(nodeID string, c *tagCopy) []byte {
	return appendEntry([]byte{messageTags}, nodeID, c.mark.Version, c.payload)
}

func decodeMessage(b []byte, known knower) (tagEntry, error) {
	if len(b) < 1 || b[0] != messageTags {
		return tagEntry{}, fmt.Errorf("message: %w", errMalformed)
	}
	entry, rest, err := readEntry(b[1:], known)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many: %w", len(rest), errMalformed)
	}
	return entry, err
}

// decodeState reads what a push/pull brings: format byte 1 and entries to the
// end. It is taken whole or not at all.
func decodeState(b []byte, known knower) ([]tagEntry, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > stateLimit || b[0] != stateFormat {
		return nil, fmt.Errorf("tags of all nodes, %d bytes: %w", len(b), errMalformed)
	}
	var entries []tagEntry
	for rest := b[1:]; len(rest) > 0; {
		entry, after, err := readEntry(rest, known)
		if err != nil {
			return nil, fmt.Errorf("tags of all nodes, entry %d: %w", len(entries), err)
		}
		entries, rest = append(entries, entry), after
	}
	return entries, nil
}
