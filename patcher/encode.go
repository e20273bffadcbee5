package patcher

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// maxDecoded bounds a report, in bytes of JSON.
const maxDecoded = 8 << 20

// ErrReport is wrapped by what DecodeReport refuses.
var ErrReport = errors.New("the report cannot be read")

// EncodeReport makes of a report what travels through the mesh: at most limit bytes.
// What does not fit is left out, the least important first, and Report.Omitted tells
// it: what is pending and offered, then the packages that no rule concerns, then the
// others that are compliant.
func EncodeReport(r *Report, limit int) ([]byte, error) {
	short := *r
	for _, shorten := range []func(){
		func() {},
		func() {
			short.Omitted.Others += len(short.Pending) + len(short.Offers)
			short.Pending, short.Offers = nil, nil
		},
		func() { short.Omitted.InstalledOther += short.omit(types.PatchComplianceDataStateInstalledOther) },
		func() { short.Omitted.Installed += short.omit(types.PatchComplianceDataStateInstalled) },
	} {
		shorten()
		data, err := pack(&short)
		if err != nil {
			return nil, fmt.Errorf("encode the report: %w", err)
		}
		if len(data) <= limit {
			return data, nil
		}
	}
	return nil, fmt.Errorf("the report has more than %d bytes", limit)
}

// omit leaves out the patches in a state, and returns how many.
func (r *Report) omit(state types.PatchComplianceDataState) int {
	kept := make([]Patch, 0, len(r.Patches))
	for _, p := range r.Patches {
		if p.State != state {
			kept = append(kept, p)
		}
	}
	omitted := len(r.Patches) - len(kept)
	r.Patches = kept
	return omitted
}

func pack(r *Report) ([]byte, error) {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	if err := json.NewEncoder(writer).Encode(r); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// DecodeReport reads what EncodeReport made, on whatever node.
func DecodeReport(data []byte) (*Report, error) {
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxDecoded+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if len(content) > maxDecoded {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrReport, maxDecoded)
	}
	r := &Report{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return r, nil
}
