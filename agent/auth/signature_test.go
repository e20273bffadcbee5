package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	testKeyID  = "FMAKEXAMPLE000000001"
	testSecret = "a secret that only this test knows"
)

func lookup(id string) (Key, bool, error) {
	if id != testKeyID {
		return Key{}, false, nil
	}
	return Key{Secret: testSecret, UserName: "admin", Administrator: true}, true, nil
}

// signing is how a test request is signed; its zero value is a good one.
type signing struct {
	keyID, secret, token, service, region string
	at                                    time.Time
}

func signed(t testing.TB, body string, s signing, header map[string]string) Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://10.0.0.1:7947/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonSSM.ListCommands")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	or := func(value, fallback string) string {
		if value == "" {
			return fallback
		}
		return value
	}
	if s.at.IsZero() {
		s.at = now
	}
	sum := sha256.Sum256([]byte(body))
	credentials := aws.Credentials{AccessKeyID: or(s.keyID, testKeyID), SecretAccessKey: or(s.secret, testSecret), SessionToken: s.token}
	err = v4.NewSigner().SignHTTP(context.Background(), credentials, r, hex.EncodeToString(sum[:]), or(s.service, "ssm"), or(s.region, "eu-central-1"), s.at)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Host: r.Host, Header: r.Header, Body: []byte(body)}
}

func TestGoodSignatureNamesItsCaller(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"plain":                 nil,
		"with body hash":        {"X-Amz-Content-Sha256": hash(`{"MaxResults":5}`)},
		"with invocation id":    {"Amz-Sdk-Invocation-Id": "5f3c", "Amz-Sdk-Request": "attempt=1; max=3"},
		"with unsigned headers": {"User-Agent": "aws-cli/2 exotic", "X-Amzn-Trace-Id": "Root=1", "Expect": "100-continue"},
		"with spaces":           {"X-Amz-Meta-Note": "  two   blanks  "},
	} {
		r := signed(t, `{"MaxResults":5}`, signing{}, header)
		got, err := Verify(r, lookup, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.AccessKeyID != testKeyID || got.UserName != "admin" || !got.Administrator || got.Region != "eu-central-1" {
			t.Errorf("%s: principal %+v", name, got)
		}
		if !strings.HasSuffix(r.Header.Get("Authorization"), got.Signature) || !got.ValidUntil.Equal(now.Add(MaxSkew)) {
			t.Errorf("%s: signature %s valid until %s", name, got.Signature, got.ValidUntil)
		}
	}
}

func TestUnsignedExtrasDoNotMatter(t *testing.T) {
	r := signed(t, `{}`, signing{}, nil)
	r.Header.Set("Via", "a proxy")
	if _, err := Verify(r, lookup, now); err != nil {
		t.Fatal(err)
	}
}

func TestClockSkewWithin15MinutesIsAccepted(t *testing.T) {
	for _, off := range []time.Duration{-MaxSkew, -14 * time.Minute, 14 * time.Minute, MaxSkew} {
		if _, err := Verify(signed(t, `{}`, signing{at: now.Add(off)}, nil), lookup, now); err != nil {
			t.Errorf("%s off: %v", off, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	authorization := func(edit func(string) string) func(*Request) {
		return func(r *Request) { r.Header.Set("Authorization", edit(r.Header.Get("Authorization"))) }
	}
	replace := func(old, new string) func(*Request) {
		return authorization(func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q is not in %q", old, s)
			}
			return strings.ReplaceAll(s, old, new)
		})
	}
	set := func(name, value string) func(*Request) {
		return func(r *Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name string
		how  signing
		edit func(*Request)
		code string
		says string
	}{
		{name: "unsigned", edit: func(r *Request) { r.Header.Del("Authorization") }, code: codeMissing, says: "not signed"},
		{name: "empty authorization", edit: set("Authorization", ""), code: codeMissing},
		{name: "presigned", edit: func(r *Request) {
			r.Header.Del("Authorization")
			r.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
		}, code: codeIncomplete, says: "presigned"},
		{name: "unknown key", how: signing{keyID: "FMAKEXAMPLE000000002"}, code: codeUnrecognized},
		{name: "unknown key signed with the decoy", how: signing{keyID: "FMAKEXAMPLE000000002", secret: decoy}, code: codeUnrecognized},
		{name: "wrong secret", how: signing{secret: "guess"}, code: codeInvalid, says: "does not match"},
		{name: "session token", how: signing{token: "token"}, code: codeUnrecognized, says: "session token"},
		{name: "other service", how: signing{service: "ec2"}, code: codeInvalid, says: "correct service: 'ssm'"},
		{name: "too old", how: signing{at: now.Add(-MaxSkew - time.Second)}, code: codeInvalid,
			says: "Signature expired: 20261123T114459Z is now earlier than 20261123T114500Z (20261123T120000Z - 15 min.)"},
		{name: "from the future", how: signing{at: now.Add(MaxSkew + time.Second)}, code: codeInvalid,
			says: "Signature not yet current: 20261123T121501Z is still later than 20261123T121500Z (20261123T120000Z + 15 min.)"},
		{name: "tampered body", edit: func(r *Request) { r.Body = []byte(`{"MaxResults":6}`) }, code: codeInvalid, says: "does not match"},
		{name: "tampered body with the old hash", edit: func(r *Request) {
			r.Header.Set("X-Amz-Content-Sha256", hash(`{}`))
			r.Body = []byte(`{"MaxResults":6}`)
		}, code: codeInvalid},
		{name: "unsigned payload", edit: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), code: codeInvalid},
		{name: "other target", edit: set("X-Amz-Target", "AmazonSSM.SendCommand"), code: codeInvalid, says: "does not match"},
		{name: "second target", edit: func(r *Request) { r.Header.Add("X-Amz-Target", "AmazonSSM.SendCommand") }, code: codeInvalid},
		{name: "target not covered", edit: replace(";x-amz-target", ""), code: codeInvalid, says: "'x-amz-target' must be a 'SignedHeader'"},
		{name: "host not covered", edit: replace("host;", ""), code: codeInvalid, says: "'Host' must be"},
		{name: "other host", edit: func(r *Request) { r.Host = "10.0.0.2:7947" }, code: codeInvalid},
		{name: "other method", edit: func(r *Request) { r.Method = http.MethodPut }, code: codeInvalid},
		{name: "other path", edit: func(r *Request) { r.Path = "/x" }, code: codeInvalid},
		{name: "query added", edit: func(r *Request) { r.RawQuery = "a=b" }, code: codeInvalid},
		{name: "new x-amz header", edit: set("X-Amz-Fresh", "1"), code: codeInvalid, says: "x-amz-fresh"},
		{name: "no date", edit: func(r *Request) { r.Header.Del("X-Amz-Date") }, code: codeIncomplete, says: "X-Amz-Date"},
		{name: "two dates", edit: func(r *Request) { r.Header.Add("X-Amz-Date", "20261123T120000Z") }, code: codeIncomplete},
		{name: "date in words", edit: set("X-Amz-Date", "yesterday"), code: codeIncomplete, says: "basic format"},
		{name: "other date", edit: set("X-Amz-Date", "20261123T120001Z"), code: codeInvalid},
		{name: "other day in the scope", edit: replace("/20261123/", "/20261122/"), code: codeInvalid, says: "does not match YYYYMMDD"},
		{name: "other region in the scope", edit: replace("/eu-central-1/", "/us-east-1/"), code: codeInvalid},
		{name: "signature changed", edit: authorization(func(s string) string {
			last := "0"
			if strings.HasSuffix(s, "0") {
				last = "1"
			}
			return s[:len(s)-1] + last
		}), code: codeInvalid, says: "does not match"},
		{name: "two authorizations", edit: func(r *Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, code: codeIncomplete},
		{name: "unsignable header", edit: replace(";x-amz-date", ";user-agent;x-amz-date"), code: codeIncomplete, says: "'user-agent' cannot"},
		{name: "header that is not there", edit: replace(";x-amz-target", ";x-absent;x-amz-target"), code: codeIncomplete, says: "not sorted"},
		{name: "sorted header that is not there", edit: replace(";x-amz-date", ";x-absent;x-amz-date"), code: codeInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := signed(t, `{}`, test.how, nil)
			if test.edit != nil {
				test.edit(&r)
			}
			wantRefusal(t, r, test.code, test.says)
		})
	}
}

func wantRefusal(t *testing.T, r Request, code, says string) {
	t.Helper()
	principal, err := Verify(r, lookup, now)
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		t.Fatalf("got %+v, %v; want %s", principal, err, code)
	}
	if refused.ErrorCode() != code || !strings.Contains(refused.ErrorMessage(), says) {
		t.Fatalf("got %s %q; want %s saying %q", refused.ErrorCode(), refused.ErrorMessage(), code, says)
	}
	if principal != (Principal{}) {
		t.Errorf("a refusal came with the principal %+v", principal)
	}
	if strings.Contains(err.Error(), testSecret) {
		t.Error("the refusal shows the secret")
	}
}

func TestMalformedHeaders(t *testing.T) {
	const good = "Credential=AKID/20261123/us-east-1/ssm/aws4_request, SignedHeaders=host;x-amz-date, Signature="
	digits := strings.Repeat("a", 64)
	if _, err := parseAuthorization("AWS4-HMAC-SHA256 " + good + digits); err != nil {
		t.Fatal(err)
	}
	if _, err := parseAuthorization("AWS4-HMAC-SHA256 " + strings.ReplaceAll(good, ", ", ",") + digits); err != nil {
		t.Errorf("without blanks: %v", err)
	}
	for _, header := range []string{
		"", "AWS4-HMAC-SHA256", "Bearer abc", "AWS4-ECDSA-P256-SHA256 " + good + digits, "AWS " + good + digits,
		"AWS4-HMAC-SHA256 " + good, "AWS4-HMAC-SHA256 " + good + digits[1:], "AWS4-HMAC-SHA256 " + good + strings.ToUpper(digits),
		"AWS4-HMAC-SHA256 " + good + digits + ", Signature=" + digits, "AWS4-HMAC-SHA256 " + good + digits + ", More=1",
		"AWS4-HMAC-SHA256 " + good + digits + ",", "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=" + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "AKID", "AK ID", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "AKID", "", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "20261123", "today", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "us-east-1", "US", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "aws4_request", "aws5", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "host;x-amz-date", "x-amz-date;host", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "host;", "host;host;", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "host;", "Host;", 1) + digits,
		"AWS4-HMAC-SHA256 " + strings.Replace(good, "host;", "host;;", 1) + digits,
		"AWS4-HMAC-SHA256 " + good + digits + strings.Repeat(" ", maxHeader),
	} {
		_, err := parseAuthorization(header)
		var refused smithy.APIError
		if !errors.As(err, &refused) {
			t.Errorf("%.60q: %v", header, err)
		}
	}
}

func TestLookupFailureIsNoRefusal(t *testing.T) {
	broken := errors.New("the store is closed")
	_, err := Verify(signed(t, `{}`, signing{}, nil), func(string) (Key, bool, error) { return Key{}, false, broken }, now)
	var refused smithy.APIError
	if !errors.Is(err, broken) || errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
}

func TestReplacedSecretIsNotRemembered(t *testing.T) {
	secret := "first"
	changing := func(string) (Key, bool, error) { return Key{Secret: secret}, true, nil }
	r := signed(t, `{}`, signing{secret: "first"}, nil)
	if _, err := Verify(r, changing, now); err != nil {
		t.Fatal(err)
	}
	secret = "second"
	if _, err := Verify(r, changing, now); err == nil {
		t.Fatal("the old secret still signs")
	}
}

func hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/ssm/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64))
	f.Add("AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;,Signature==")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err != nil {
			var refused smithy.APIError
			if !errors.As(err, &refused) || refused.ErrorMessage() == "" {
				t.Fatalf("not a refusal: %v", err)
			}
			if bytes.ContainsAny([]byte(refused.ErrorMessage()), "\x00\r\n") && !strings.ContainsAny(header, "\x00\r\n") {
				t.Fatalf("message %q", refused.ErrorMessage())
			}
			return
		}
		if a.accessKeyID == "" || a.region == "" || len(a.day) != 8 || len(a.signature) != 64 || len(a.signedHeaders) == 0 {
			t.Fatalf("accepted %q as %+v", header, a)
		}
	})
}

// FuzzVerify changes one header of a good request: no change of a signed part may
// be accepted, whatever it is.
func FuzzVerify(f *testing.F) {
	f.Add("X-Amz-Target", "AmazonSSM.SendCommand", `{}`)
	f.Add("X-Amz-Date", "20261123T120000Z", `{}`)
	f.Add("Content-Type", "", `{"a":1}`)
	f.Fuzz(func(t *testing.T, name, value, body string) {
		good := signed(t, `{}`, signing{}, nil)
		changed := good
		changed.Header = good.Header.Clone()
		changed.Header.Set(name, value)
		changed.Body = []byte(body)
		if _, err := Verify(changed, lookup, now); err != nil {
			return
		}
		for _, header := range []string{"X-Amz-Target", "X-Amz-Date", "Content-Type"} {
			// Runs of blanks count as one for the signature.
			if strings.Join(strings.Fields(changed.Header.Get(header)), " ") != good.Header.Get(header) {
				t.Fatalf("accepted %s=%q", header, changed.Header.Get(header))
			}
		}
		if body != `{}` {
			t.Fatalf("accepted body %q", body)
		}
	})
}
