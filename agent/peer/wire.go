package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// routePrefix begins the path of every route.
const routePrefix = "/v1/"

const contentType = "application/json"

// clockHeader is in every request and answer: what the sender's clock says.
const clockHeader = "Mesh-Clock"

func (c Config) tellClock(header http.Header) {
	if c.Clock != nil {
		header.Set(clockHeader, c.Clock.Own().UTC().Format(time.RFC3339Nano))
	}
}

// readClock notes what the clock of a node says that has proved who it is. What
// comes of it are advice and, where a majority of voters agrees, the mesh's time: a
// node can lie about its own clock only.
func (c Config) readClock(nodeID string, header http.Header) {
	if c.Clock == nil {
		return
	}
	if theirs, err := time.Parse(time.RFC3339Nano, header.Get(clockHeader)); err == nil {
		c.Clock.Compare(nodeID, theirs)
	}
}

// statusOf is the HTTP status of each kind of refusal. The kind in the body
// counts; the status is for people with a packet dump.
func statusOf(kind RefusalKind) int {
	switch kind {
	case RefusedNotLeader:
		return http.StatusMisdirectedRequest
	case RefusedForbidden:
		return http.StatusForbidden
	case RefusedStaleTerm:
		return http.StatusConflict
	case RefusedInput:
		return http.StatusBadRequest
	case RefusedUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// decode reads one JSON value that fills data. Members that this version does not
// know are passed over, so that nodes of two versions understand each other.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("it is not the JSON of this route: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON")
	}
	return nil
}

// decodeRefusal reads the body of an answer that is not 200. An answer that is
// none of ours is an error: what happened at the other side is then unknown.
func decodeRefusal(status int, data []byte) (*Refusal, error) {
	var refusal Refusal
	if err := decode(data, &refusal); err != nil {
		return nil, fmt.Errorf("status %d: %w", status, err)
	}
	if refusal.Kind == "" || statusOf(refusal.Kind) != status {
		return nil, fmt.Errorf("status %d with a refusal of kind %q", status, refusal.Kind)
	}
	if refusal.Message == "" {
		refusal.Message = "refused: " + string(refusal.Kind)
	}
	return &refusal, nil
}

func isJSON(header http.Header) bool {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && media == contentType
}
