package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAClientThatGoesAwayIsNoFault: nothing was written, and nothing is logged as
// a fault of this node's.
func TestAClientThatGoesAwayIsNoFault(t *testing.T) {
	b := newBed(t)
	ctx, away := context.WithCancel(t.Context())
	b.troubled(func(func() (uint64, error)) (uint64, error) {
		away()
		return 0, fmt.Errorf("write to the store: %w", ctx.Err())
	})
	request := b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), nil)
	request.Host = request.URL.Host
	answer := httptest.NewRecorder()
	b.leader.ServeHTTP(answer, request.WithContext(ctx))
	if answer.Code == http.StatusOK {
		t.Errorf("HTTP %d %s", answer.Code, answer.Body)
	}
	if log := b.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("logged: %s", log)
	}
	if n := b.commandCount(); n != 0 {
		t.Errorf("%d commands", n)
	}
}
