package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// MaxSkew is how far a request's date may be from now, either way; a signature is
// valid as long.
const MaxSkew = 15 * time.Minute

// Request is what a signature covers, as it came over the wire.
type Request struct {
	Method   string
	Path     string
	RawQuery string
	Host     string
	Header   http.Header // canonical keys
	Body     []byte
}

// Key is what is known of an access key.
type Key struct {
	Secret        string
	UserName      string
	Administrator bool
}

// Principal is a caller whose signature was right.
type Principal struct {
	AccessKeyID   string
	UserName      string
	Administrator bool
	// Region is the one that the client signed for; any is accepted.
	Region string
	// Signature is in hex. The same one is accepted again until ValidUntil: whoever
	// must not act twice remembers it.
	Signature  string
	ValidUntil time.Time
}

// Lookup returns the access key with this id; found is false when there is none.
// An error means that it could not be found out.
type Lookup func(accessKeyID string) (key Key, found bool, err error)

// decoy is signed with when the access key is unknown, so that an unknown key
// costs the same work as a wrong secret. No key can have it: it is no secret that
// the mesh would make.
const decoy = "no such access key, and none can have this secret"

// unsignable headers are left out by the SDK's signer; a signature that covers one
// could not be checked. Official clients never sign them.
var unsignable = map[string]bool{
	"authorization": true, "user-agent": true, "x-amzn-trace-id": true, "expect": true, "transfer-encoding": true,
}

// Verify returns who signed r, or a smithy.APIError with the name that SSM
// clients expect. Any other error is lookup's, wrapped.
func Verify(r Request, lookup Lookup, now time.Time) (Principal, error) {
	a, signedAt, bodyHash, err := check(r, now)
	if err != nil {
		return Principal{}, err
	}
	key, known, err := lookup(a.accessKeyID)
	if err != nil {
		return Principal{}, fmt.Errorf("look up access key %s: %w", a.accessKeyID, err)
	}
	// From here to the comparison the work is the same whether the key is known.
	if !known {
		key.Secret = decoy
	}
	expected, err := sign(r, a, key.Secret, bodyHash, signedAt)
	if err != nil {
		return Principal{}, fmt.Errorf("sign the request again: %w", err)
	}
	right := subtle.ConstantTimeCompare([]byte(expected), []byte(a.signature)) == 1
	switch {
	case !known:
		return Principal{}, refusal(codeUnrecognized, "The security token included in the request is invalid: the mesh knows no access key with this id.")
	case !right:
		return Principal{}, invalid("The request signature we calculated does not match the signature you provided. Check your secret access key and signing method, and that nothing between changes the request.")
	}
	return Principal{
		AccessKeyID: a.accessKeyID, UserName: key.UserName, Administrator: key.Administrator,
		Region: a.region, Signature: a.signature, ValidUntil: signedAt.Add(MaxSkew),
	}, nil
}

// Check finds what is wrong with a request's signature without knowing any key:
// all that Verify refuses but an unknown key and a wrong signature.
func Check(r Request, now time.Time) error {
	_, _, _, err := check(r, now)
	return err
}

func check(r Request, now time.Time) (a authorization, signedAt time.Time, bodyHash string, err error) {
	if a, err = readAuthorization(r); err != nil {
		return a, signedAt, "", err
	}
	if signedAt, err = checkDate(r.Header, a, now); err != nil {
		return a, signedAt, "", err
	}
	if err = checkCoverage(r.Header, a); err != nil {
		return a, signedAt, "", err
	}
	bodyHash, err = checkBodyHash(r)
	return a, signedAt, bodyHash, err
}

func readAuthorization(r Request) (authorization, error) {
	headers := r.Header["Authorization"]
	switch {
	case len(headers) > 1:
		return authorization{}, incomplete("The request has more than one Authorization header.")
	case len(headers) == 1 && headers[0] != "":
		return parseAuthorization(headers[0])
	case strings.Contains(r.RawQuery, "X-Amz-Signature=") || strings.Contains(r.RawQuery, "X-Amz-Algorithm="):
		return authorization{}, incomplete("Signatures in the query (presigned URLs) are not accepted: sign with the Authorization header.")
	}
	return authorization{}, refusal(codeMissing, "Missing Authentication Token: the request is not signed. Sign it with an access key of the mesh (AWS Signature Version 4, service %s).", service)
}

// checkDate returns when the request says it was signed.
func checkDate(header http.Header, a authorization, now time.Time) (time.Time, error) {
	dates := header["X-Amz-Date"]
	if len(dates) != 1 {
		return time.Time{}, incomplete("Authorization header requires existence of one 'X-Amz-Date' header.")
	}
	const compact = "20060102T150405Z"
	signedAt, err := time.Parse(compact, dates[0])
	if err != nil {
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format', YYYYMMDD'T'HHMMSS'Z'. Got '%s'.", clip(dates[0]))
	}
	if day := dates[0][:8]; day != a.day {
		return time.Time{}, invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", a.day, day)
	}
	now = now.UTC()
	if oldest := now.Add(-MaxSkew); signedAt.Before(oldest) {
		return time.Time{}, invalid("Signature expired: %s is now earlier than %s (%s - 15 min.). %s",
			signedAt.Format(compact), oldest.Format(compact), now.Format(compact), skewAdvice(now.Sub(signedAt), "behind"))
	}
	if newest := now.Add(MaxSkew); signedAt.After(newest) {
		return time.Time{}, invalid("Signature not yet current: %s is still later than %s (%s + 15 min.). %s",
			signedAt.Format(compact), newest.Format(compact), now.Format(compact), skewAdvice(signedAt.Sub(now), "ahead of"))
	}
	return signedAt, nil
}

// skewAdvice says what is wrong with a date and what to do.
func skewAdvice(by time.Duration, where string) string {
	return fmt.Sprintf("This client's clock is %s %s the mesh's, or the request was signed at another time: set the client's clock. If that is right, `meshctl mesh status` names the node whose clock is wrong.", by.Round(time.Second), where)
}

// checkCoverage demands that the signature covers whatever decides over the
// request: the host and every x-amz- header that is there.
func checkCoverage(header http.Header, a authorization) error {
	if _, given := header["X-Amz-Security-Token"]; given {
		return refusal(codeUnrecognized, "The security token included in the request is invalid: the mesh issues no temporary credentials; use an access key without a session token.")
	}
	for _, name := range a.signedHeaders {
		if unsignable[name] {
			return incomplete("The header '%s' cannot be a 'SignedHeader'.", name)
		}
	}
	if !a.signs("host") {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !a.signs(lower) {
			return invalid("'%s' must be a 'SignedHeader' in the AWS Authorization.", clip(lower))
		}
	}
	return nil
}

// checkBodyHash returns the body's hash in hex. Where the client names one it
// must be right: a payload is never left unsigned.
func checkBodyHash(r Request) (string, error) {
	sum := sha256.Sum256(r.Body)
	bodyHash := hex.EncodeToString(sum[:])
	given, ok := r.Header["X-Amz-Content-Sha256"]
	if ok && (len(given) != 1 || given[0] != bodyHash) {
		return "", invalid("The value of X-Amz-Content-Sha256 is not the hash of the request's body.")
	}
	return bodyHash, nil
}

// sign returns the signature, in hex, that a holder of secret gives r, or "" when
// nobody could sign it as it says.
func sign(r Request, a authorization, secret, bodyHash string, signedAt time.Time) (string, error) {
	again := &http.Request{
		Method: r.Method,
		// Without a scheme the signer takes the host as it is.
		URL:    &url.URL{Path: r.Path, RawQuery: r.RawQuery},
		Host:   r.Host,
		Header: http.Header{},
	}
	for _, name := range a.signedHeaders {
		switch name {
		case "host":
		case "content-length":
			// The server has seen to it that the body has the length announced.
			if len(r.Header["Content-Length"]) == 0 || r.Header.Get("Content-Length") == strconv.Itoa(len(r.Body)) {
				again.ContentLength = int64(len(r.Body))
			}
		default:
			key := textproto.CanonicalMIMEHeaderKey(name)
			if values, ok := r.Header[key]; ok {
				again.Header[key] = append([]string(nil), values...)
			}
		}
	}
	// A new signer for each request: the signer remembers derived keys by access key
	// id alone, so a kept one would go on accepting a replaced secret.
	credentials := aws.Credentials{AccessKeyID: a.accessKeyID, SecretAccessKey: secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, again, bodyHash, service, a.region, signedAt); err != nil {
		return "", err
	}
	made, err := parseAuthorization(again.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	if !slices.Equal(made.signedHeaders, a.signedHeaders) {
		// A header was named that the request does not have: no signature is right.
		return "", nil
	}
	return made.signature, nil
}
