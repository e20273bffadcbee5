package main

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
)

// retryer is the SDK's standard one, but for the refusal that nobody leads. The
// node that says so has searched for a leader itself, for longer than an election
// takes; asking it again makes the same answer late. Each other endpoint is asked
// once, at once: the node may be the one that is cut off.
type retryer struct {
	*retry.Standard
	endpoints int
}

func newRetryer(endpoints int) retryer {
	// At least once to each endpoint.
	standard := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = max(retry.DefaultMaxAttempts, endpoints) })
	return retryer{Standard: standard, endpoints: endpoints}
}

// IsErrorRetryable is asked after each attempt that is not the last.
func (r retryer) IsErrorRetryable(err error) bool {
	if leaderless(err) {
		return r.endpoints > 1
	}
	return r.Standard.IsErrorRetryable(err)
}

// RetryDelay ends the operation with the error that it returns.
func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	switch {
	case !leaderless(err):
		return r.Standard.RetryDelay(attempt, err)
	case attempt < r.endpoints:
		return 0, nil
	}
	return 0, err
}

// leaderless reports whether the mesh has said that it has no leader.
func leaderless(err error) bool {
	var refusal smithy.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode() == "ServiceUnavailable"
}
