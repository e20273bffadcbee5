package awsjson

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Years 1 to 9999, what a timestamp may say, in epoch seconds.
const (
	firstSecond = -62135596800
	lastSecond  = 253402300799
)

var errTimestamp = errors.New("not a number of epoch seconds between the years 1 and 9999")

// marshalTime writes epoch seconds, with milliseconds where there are any.
func marshalTime(enc *jsontext.Encoder, t time.Time) error {
	return enc.WriteValue(formatTime(t))
}

func formatTime(t time.Time) jsontext.Value {
	ms := t.UnixMilli()
	sign := ""
	if ms < 0 {
		sign, ms = "-", -ms
	}
	text := sign + strconv.FormatInt(ms/1000, 10)
	if fraction := ms % 1000; fraction != 0 {
		text += strings.TrimRight("."+strconv.FormatInt(1000+fraction, 10)[1:], "0")
	}
	return jsontext.Value(text)
}

// unmarshalTime reads epoch seconds and keeps milliseconds.
func unmarshalTime(dec *jsontext.Decoder, t *time.Time) error {
	if dec.PeekKind() == 'n' {
		return dec.SkipValue()
	}
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	parsed, err := parseTime(value)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

func parseTime(value jsontext.Value) (time.Time, error) {
	if value.Kind() != '0' {
		return time.Time{}, errTimestamp
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < firstSecond || seconds > lastSecond {
		return time.Time{}, errTimestamp
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}
