package executor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A frame is how records lie in the journal and in a step's status file:
//
//	4 bytes  frameMark
//	4 bytes  length of the payload, little endian
//	8 bytes  sequence number: 1 for the first frame of a file, then one more each
//	4 bytes  CRC-32C of length, sequence and payload
//	payload  JSON
//
// A frame is written by one write and synced before the next is written. So a
// torn write can only be the last frame, and a bad frame that is followed by a
// good one is damage. The mark holds a zero byte, which JSON never does: no
// payload can look like a frame.
const (
	frameHeader = 20
	// maxFrame bounds what a damaged length can make a reader believe.
	maxFrame = 256 << 20
)

var frameMark = [4]byte{0x00, 'f', 'm', 0xfe}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBadFrame is returned for bytes that do not begin with a whole, sound frame.
var errBadFrame = errors.New("bad frame")

// appendFrame adds a frame to buf.
func appendFrame(buf []byte, sequence uint64, payload []byte) []byte {
	buf = append(buf, frameMark[:]...)
	start := len(buf)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(payload)))
	buf = binary.LittleEndian.AppendUint64(buf, sequence)
	sum := crc32.Update(crc32.Checksum(buf[start:], castagnoli), castagnoli, payload)
	buf = binary.LittleEndian.AppendUint32(buf, sum)
	return append(buf, payload...)
}

// parseFrame reads the frame that data begins with; rest is what follows it.
func parseFrame(data []byte) (sequence uint64, payload, rest []byte, err error) {
	if len(data) < frameHeader || !bytes.Equal(data[:4], frameMark[:]) {
		return 0, nil, nil, errBadFrame
	}
	length := binary.LittleEndian.Uint32(data[4:])
	if length > maxFrame || int(length) > len(data)-frameHeader {
		return 0, nil, nil, errBadFrame
	}
	payload = data[frameHeader : frameHeader+int(length)]
	sum := crc32.Update(crc32.Checksum(data[4:16], castagnoli), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(data[16:]) {
		return 0, nil, nil, errBadFrame
	}
	return binary.LittleEndian.Uint64(data[8:]), payload, data[frameHeader+int(length):], nil
}

// scanFrames calls each for the payload of every frame of data, in order, until
// it fails. good is the number of bytes that whole, sound frames take; what is
// beyond is a torn tail, unless damaged is set: then a sound frame lies further
// on, or the order is broken.
func scanFrames(data []byte, each func(payload []byte) error) (good int, frames uint64, damaged bool, err error) {
	for good < len(data) {
		sequence, payload, rest, parseErr := parseFrame(data[good:])
		if parseErr != nil {
			return good, frames, holdsFrame(data[good:]), nil
		}
		if sequence != frames+1 {
			return good, frames, true, nil
		}
		if err := each(payload); err != nil {
			return good, frames, false, err
		}
		frames = sequence
		good = len(data) - len(rest)
	}
	return good, frames, false, nil
}

// holdsFrame reports whether a sound frame lies anywhere in data.
func holdsFrame(data []byte) bool {
	for {
		at := bytes.Index(data, frameMark[:])
		if at < 0 {
			return false
		}
		if _, _, _, err := parseFrame(data[at:]); err == nil {
			return true
		}
		data = data[at+1:]
	}
}
