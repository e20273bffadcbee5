package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// The limits of what a node announces about itself. With all of them reached the
// metadata has 209 bytes; memberlist's own limit is 512.
const (
	metaFormat = 1
	metaLimit  = 210
	maxNodeID  = 64
	maxAddress = 80
	maxVersion = 32
)

const (
	metaVoter   = 1 << 0
	metaLeaving = 1 << 1
	metaFull    = 1 << 2
)

// meta is what a node announces about itself.
//
// Encoding: format byte 1; flags byte (1 voter, 2 leaving, 4 disk
// full); then node id, TLS
// address and version, each with a length byte before it; then the version of the
// node's tags as a uvarint and their digest in 8 bytes, big endian; then the start as
// a uvarint, which older programs do not have. A later program may append to this, and what is appended is skipped; anything else
// needs a new format byte.
type meta struct {
	NodeID  string
	Address string
	Version string
	Voter   bool
	// Leaving is announced just before a node leaves: memberlist does not say
	// whether a node that is gone has left or failed.
	Leaving bool
	// DiskFull: the node takes no jobs, because its disk is full.
	DiskFull bool
	Tags     tagMark
	// Start tells one start of the program from another: its milliseconds since 1970 by
	// the node's own clock; 0 is unknown.
	Start uint64
}

var errMalformed = errors.New("malformed")

// encode cannot exceed metaLimit: Open has checked the lengths.
func (m meta) encode() []byte {
	b := make([]byte, 0, metaLimit)
	var flags byte
	if m.Voter {
		flags |= metaVoter
	}
	if m.Leaving {
		flags |= metaLeaving
	}
	if m.DiskFull {
		flags |= metaFull
	}
	b = append(b, metaFormat, flags)
	for _, s := range [...]string{m.NodeID, m.Address, m.Version} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, m.Tags.Version)
	b = binary.BigEndian.AppendUint64(b, m.Tags.Digest)
	return binary.AppendUvarint(b, m.Start)
}

func decodeMeta(b []byte) (meta, error) {
	var m meta
	if len(b) < 2 {
		return m, fmt.Errorf("metadata of %d bytes: %w", len(b), errMalformed)
	}
	if b[0] != metaFormat {
		return m, fmt.Errorf("metadata of format %d, this program knows %d: %w", b[0], metaFormat, errMalformed)
	}
	m.Voter = b[1]&metaVoter != 0
	m.Leaving = b[1]&metaLeaving != 0
	m.DiskFull = b[1]&metaFull != 0
	b = b[2:]
	for _, field := range [...]*string{&m.NodeID, &m.Address, &m.Version} {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return m, fmt.Errorf("metadata ends early: %w", errMalformed)
		}
		*field = string(b[1 : 1+b[0]])
		b = b[1+b[0]:]
	}
	version, n := binary.Uvarint(b)
	if n <= 0 || len(b) < n+8 {
		return m, fmt.Errorf("metadata ends early: %w", errMalformed)
	}
	m.Tags = tagMark{Version: version, Digest: binary.BigEndian.Uint64(b[n:])}
	if b = b[n+8:]; len(b) > 0 {
		start, n := binary.Uvarint(b)
		if n <= 0 {
			return m, fmt.Errorf("metadata ends early: %w", errMalformed)
		}
		m.Start = start
	}
	switch {
	case !validNodeID(m.NodeID):
		return m, fmt.Errorf("node id %.80q in metadata: %w", m.NodeID, errMalformed)
	case !validAddress(m.Address):
		return m, fmt.Errorf("address %.80q in metadata: %w", m.Address, errMalformed)
	case !validVersion(m.Version):
		return m, fmt.Errorf("version %.80q in metadata: %w", m.Version, errMalformed)
	}
	return m, nil
}

func validNodeID(s string) bool {
	if s == "" || len(s) > maxNodeID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

func validVersion(s string) bool { return len(s) <= maxVersion && printable(s) }

func validAddress(s string) bool {
	if len(s) > maxAddress || !printable(s) {
		return false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// printable keeps what others announce harmless on a terminal.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
