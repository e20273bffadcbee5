package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// As much of MessagePack as serf's RPC needs.

// appendPack appends nil, a bool, an int, a string, bytes, or a map of these.
func appendPack(to []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(to, 0xc0)
	case bool:
		if v {
			return append(to, 0xc3)
		}
		return append(to, 0xc2)
	case int:
		return binary.BigEndian.AppendUint64(append(to, 0xd3), uint64(v))
	case []byte:
		return append(binary.BigEndian.AppendUint32(append(to, 0xdb), uint32(len(v))), v...)
	case string:
		return appendPack(to, []byte(v))
	case map[string]any:
		to = binary.BigEndian.AppendUint32(append(to, 0xdf), uint32(len(v)))
		for key, value := range v {
			to = appendPack(appendPack(to, key), value)
		}
		return to
	}
	panic(fmt.Sprintf("no MessagePack for a %T", v)) // a mistake in this program
}

// maxPack bounds what one length may claim.
const maxPack = 16 << 20

// readPack reads one value: nil, bool, int64, float64, string (bytes too), []any or
// map[string]any.
func readPack(r *bufio.Reader) (any, error) {
	code, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch {
	case code < 0x80:
		return int64(code), nil
	case code < 0x90:
		return readPackMap(r, int(code&0x0f))
	case code < 0xa0:
		return readPackList(r, int(code&0x0f))
	case code < 0xc0:
		return readPackText(r, int(code&0x1f))
	case code >= 0xe0:
		return int64(int8(code)), nil
	}
	switch code {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return code == 0xc3, nil
	}
	size, known := map[byte]int{
		0xc4: 1, 0xc5: 2, 0xc6: 4, 0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8,
		0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4,
	}[code]
	if !known {
		return nil, fmt.Errorf("MessagePack code %#x is not known", code)
	}
	var buffer [8]byte
	if _, err := io.ReadFull(r, buffer[8-size:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(buffer[:])
	switch code {
	case 0xca:
		return float64(math.Float32frombits(uint32(n))), nil
	case 0xcb:
		return math.Float64frombits(n), nil
	case 0xcc, 0xcd, 0xce, 0xcf, 0xd3:
		return int64(n), nil
	case 0xd0:
		return int64(int8(n)), nil
	case 0xd1:
		return int64(int16(n)), nil
	case 0xd2:
		return int64(int32(n)), nil
	}
	if n > maxPack {
		return nil, fmt.Errorf("MessagePack value of %d bytes", n)
	}
	switch code {
	case 0xdc, 0xdd:
		return readPackList(r, int(n))
	case 0xde, 0xdf:
		return readPackMap(r, int(n))
	}
	return readPackText(r, int(n))
}

func readPackText(r *bufio.Reader, n int) (any, error) {
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return string(text), err
}

func readPackList(r *bufio.Reader, n int) (any, error) {
	var list []any
	for range n {
		v, err := readPack(r)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func readPackMap(r *bufio.Reader, n int) (any, error) {
	m := map[string]any{}
	for range n {
		key, err := readPack(r)
		if err != nil {
			return nil, err
		}
		value, err := readPack(r)
		if err != nil {
			return nil, err
		}
		m[fmt.Sprint(key)] = value
	}
	return m, nil
}
