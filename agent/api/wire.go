package api

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// text makes an absent string an empty one, where Systems Manager answers so.
func text(s *string) *string {
	if s == nil {
		return aws.String("")
	}
	return s
}

// list makes an absent list an empty one, where Systems Manager answers so.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// optional makes an empty string an absent one.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// storeFault strips an error of its name for clients: what the store holds was
// checked when it came, so it is the mesh's fault and not this client's.
func storeFault(err error) error { return errors.New(err.Error()) }
