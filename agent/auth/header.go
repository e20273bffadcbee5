package auth

import (
	"slices"
	"strings"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	// service is what the scope must name.
	service = "ssm"
	// scopeEnd is the last part of every scope.
	scopeEnd = "aws4_request"
	// maxHeader bounds, in bytes, an Authorization header; real ones have 300.
	maxHeader = 8 << 10
	// maxSignedHeaders bounds how many headers a signature may cover.
	maxSignedHeaders = 100
)

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID   string
	day           string // YYYYMMDD
	region        string
	signedHeaders []string // lower case, sorted, each once
	signature     string   // 64 lower-case hex digits
}

// parseAuthorization reads the header that SigV4 clients send:
//
//	AWS4-HMAC-SHA256 Credential=<id>/<day>/<region>/ssm/aws4_request, SignedHeaders=<a;b>, Signature=<hex>
func parseAuthorization(header string) (authorization, error) {
	var a authorization
	if len(header) > maxHeader {
		return a, incomplete("The Authorization header is longer than %d bytes.", maxHeader)
	}
	name, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if name != algorithm {
		return a, incomplete("Unsupported algorithm %q in the Authorization header: requests are signed with %s.", clip(name), algorithm)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return a, incomplete("'%s' is not a key=value pair (missing equal-sign) in the Authorization header.", clip(part))
		}
		if key != "Credential" && key != "SignedHeaders" && key != "Signature" {
			return a, incomplete("The Authorization header has an unknown part %q.", clip(key))
		}
		if _, twice := parts[key]; twice {
			return a, incomplete("The Authorization header has '%s' twice.", key)
		}
		parts[key] = value
	}
	for _, key := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parts[key] == "" {
			return a, incomplete("Authorization header requires '%s' parameter.", key)
		}
	}
	if err := a.parseCredential(parts["Credential"]); err != nil {
		return a, err
	}
	if err := a.parseSignedHeaders(parts["SignedHeaders"]); err != nil {
		return a, err
	}
	a.signature = parts["Signature"]
	if len(a.signature) != 64 || strings.Trim(a.signature, "0123456789abcdef") != "" {
		return a, incomplete("The Signature in the Authorization header is not 64 lower-case hex digits.")
	}
	return a, nil
}

func (a *authorization) parseCredential(credential string) error {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", clip(credential))
	}
	a.accessKeyID, a.day, a.region = scope[0], scope[1], scope[2]
	switch {
	case !consistsOf(a.accessKeyID, 128, isWord):
		return incomplete("The access key id in the Credential is malformed.")
	case len(a.day) != 8 || !consistsOf(a.day, 8, isDigit):
		return incomplete("The date in the Credential must be YYYYMMDD, got '%s'.", clip(a.day))
	case !consistsOf(a.region, 64, isRegion):
		return incomplete("The region in the Credential is malformed.")
	case scope[3] != service:
		return invalid("Credential should be scoped to correct service: '%s', not '%s'.", service, clip(scope[3]))
	case scope[4] != scopeEnd:
		return invalid("Credential should be scoped with a valid terminator: '%s', not '%s'.", scopeEnd, clip(scope[4]))
	}
	return nil
}

func (a *authorization) parseSignedHeaders(list string) error {
	a.signedHeaders = strings.Split(list, ";")
	if len(a.signedHeaders) > maxSignedHeaders {
		return incomplete("SignedHeaders names more than %d headers.", maxSignedHeaders)
	}
	for i, name := range a.signedHeaders {
		if !consistsOf(name, 128, isHeaderName) {
			return incomplete("SignedHeaders names '%s', which is not a lower-case header name.", clip(name))
		}
		if i > 0 && a.signedHeaders[i-1] >= name {
			return incomplete("SignedHeaders is not sorted, or names '%s' twice.", clip(name))
		}
	}
	return nil
}

// signs reports whether the signature covers the header, given in lower case.
func (a *authorization) signs(header string) bool {
	_, found := slices.BinarySearch(a.signedHeaders, header)
	return found
}

// consistsOf reports whether s has 1 to limit bytes that all are allowed.
func consistsOf(s string, limit int, allowed func(byte) bool) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range []byte(s) {
		if !allowed(c) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLower(c byte) bool  { return 'a' <= c && c <= 'z' }
func isWord(c byte) bool   { return isDigit(c) || isLower(c) || 'A' <= c && c <= 'Z' || c == '_' }
func isRegion(c byte) bool { return isDigit(c) || isLower(c) || c == '-' }
func isHeaderName(c byte) bool {
	return isDigit(c) || isLower(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// clip keeps what a caller sent short in what the caller is told.
func clip(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
