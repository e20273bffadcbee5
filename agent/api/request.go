package api

import (
	"net/http"
	"regexp"
	"strings"

	"fleetmesh/agent/peer"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 1 << 20
	// largeBody is what counts as a large body, in bytes, and maxLarge how many of
	// them are in memory at once: who sends one has proved nothing yet.
	largeBody = 64 << 10
	maxLarge  = 256
	// maxInvocationID bounds the id of an invocation, in characters; a UUID has 36.
	maxInvocationID = 128

	ssmPrefix  = "AmazonSSM."
	meshPrefix = "Mesh."

	targetHeader     = "X-Amz-Target"
	invocationHeader = "Amz-Sdk-Invocation-Id"
)

var operationName = regexp.MustCompile(`^[A-Za-z]{1,64}$`)

// target returns the name of the operation that a request asks for, as it is in
// the table: the bare name for Systems Manager's, with its prefix for the mesh's.
func target(header http.Header) (string, error) {
	values := header[targetHeader]
	if len(values) != 1 {
		return "", refuse(codeUnknown, "The request must name its operation in one X-Amz-Target header, such as AmazonSSM.SendCommand.")
	}
	name, ssm := strings.CutPrefix(values[0], ssmPrefix)
	if !ssm {
		if name, ssm = strings.CutPrefix(values[0], meshPrefix); !ssm {
			return "", refuse(codeUnknown, "X-Amz-Target must begin with %q or %q.", ssmPrefix, meshPrefix)
		}
		if !operationName.MatchString(name) {
			return "", refuse(codeUnknown, "X-Amz-Target names no operation.")
		}
		return meshPrefix + name, nil
	}
	if !operationName.MatchString(name) {
		return "", refuse(codeUnknown, "X-Amz-Target names no operation.")
	}
	return name, nil
}

// invocationID returns what SDKs give every attempt of one call, "" when the
// client gives none.
func invocationID(header http.Header) (string, error) {
	values := header[invocationHeader]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return "", nil
	}
	id := values[0]
	if len(values) > 1 || len(id) > maxInvocationID || strings.Trim(id, invocationAlphabet) != "" {
		return "", refuse(codeValidation, "The amz-sdk-invocation-id must be one header of at most %d letters, digits and hyphens.", maxInvocationID)
	}
	return id, nil
}

// invocationAlphabet is what ids of known SDKs consist of (UUIDs); the id becomes
// part of a key of the store.
const invocationAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"

// hopByHop headers are for one connection and say nothing to the leader.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Upgrade"}

// checkShape refuses what no operation accepts. It decides nothing that needs the
// store, so that every node can say it at once.
func checkShape(in *peer.ForwardRequest) (httpStatus int, err error) {
	switch {
	case in.Path != "/":
		return http.StatusNotFound, refuse(codeUnknown, "There is nothing at this path: requests go to POST /.")
	case in.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, refuse(codeUnknown, "Requests go to POST /.")
	}
	for _, encoding := range in.Header["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return http.StatusBadRequest, refuse(codeSerialization, "The body must not be compressed.")
		}
	}
	return http.StatusOK, nil
}
