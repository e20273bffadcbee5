package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JoinToken is all that a machine needs to join: which activation, its code,
// where to ask, and which CA to believe. It is a secret as long as the activation
// lasts.
type JoinToken struct {
	ActivationID string   `json:"i"`
	Code         string   `json:"c"`
	Addresses    []string `json:"a"` // host:port of API ports, the first is tried first
	// CAFingerprint is CertificateFingerprint of the mesh's CA.
	CAFingerprint string `json:"f"`
}

const (
	// tokenPrefix names kind and version of the text; never renumber.
	tokenPrefix = "fmjoin1_"
	// maxToken bounds the text, in bytes: what fits on a command line.
	maxToken = 8 << 10
	// maxTokenAddresses bounds how many addresses a joiner tries.
	maxTokenAddresses = 32
)

// String is the token as text without white space: the prefix, then base64 (URL
// alphabet, no padding) of a CRC-32 (so that a token cut short by a terminal is
// told from a wrong one) and the JSON.
func (t JoinToken) String() string {
	body, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("pki: a struct of strings cannot be encoded: %v", err))
	}
	raw := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(raw, body...))
}

// ParseJoinToken reads what String wrote.
func ParseJoinToken(text string) (JoinToken, error) {
	var t JoinToken
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return t, fmt.Errorf("read join token: it is longer than %d bytes", maxToken)
	}
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return t, fmt.Errorf("read join token: it does not begin with %s", tokenPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) < 4 || binary.BigEndian.Uint32(raw) != crc32.ChecksumIEEE(raw[4:]) {
		return t, errors.New("read join token: it is damaged or was not copied whole")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw[4:]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return JoinToken{}, fmt.Errorf("read join token: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return JoinToken{}, errors.New("read join token: something follows its content")
	}
	if err := t.check(); err != nil {
		return JoinToken{}, fmt.Errorf("read join token: %w", err)
	}
	return t, nil
}

func (t JoinToken) check() error {
	switch {
	case t.ActivationID == "":
		return errors.New("it names no activation")
	case t.Code == "":
		return errors.New("it has no code")
	case len(t.Addresses) == 0:
		return errors.New("it has no address")
	case len(t.Addresses) > maxTokenAddresses:
		return fmt.Errorf("it has more than %d addresses", maxTokenAddresses)
	}
	for _, address := range t.Addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || host == "" {
			return fmt.Errorf("address %q is not host:port", address)
		}
	}
	return CheckFingerprint(t.CAFingerprint)
}

// CheckFingerprint reports whether the text has the form of
// CertificateFingerprint's result.
func CheckFingerprint(text string) error {
	digits, ok := strings.CutPrefix(text, fingerprintPrefix)
	if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not a CA fingerprint: it is %s and 64 lower-case hex digits", text, fingerprintPrefix)
	}
	return nil
}

// ErrOtherMesh is why the handshake fails with a server whose CA is not the one of
// the join token: asking it again is of no use.
var ErrOtherMesh = errors.New("the server belongs to another mesh: its CA has not the fingerprint of the join token")

// ErrOutsideItsTime is why the handshake fails with a server whose certificate has
// expired, or not begun, by this machine's clock.
var ErrOutsideItsTime = errors.New("the server's certificate is outside its time")

// TLSConfigForJoin is for the joiner's calls to the API of a mesh of which it
// knows the CA's fingerprint only. The server must present a chain that holds
// that CA, with a node's certificate signed by it and in its time; now is the
// machine's clock.
func TLSConfigForJoin(caFingerprint string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The names in the certificate do not matter and the CA is not known
		// beforehand: VerifyConnection does all of the checking.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyForJoin(caFingerprint, state.PeerCertificates, now())
		},
	}
}

func verifyForJoin(caFingerprint string, chain []*x509.Certificate, now time.Time) error {
	at := slices.IndexFunc(chain, func(c *x509.Certificate) bool {
		return CertificateFingerprint(c) == caFingerprint
	})
	if at < 0 {
		return ErrOtherMesh
	}
	if !chain[at].IsCA {
		return errors.New("the fingerprint of the join token is not that of a CA")
	}
	_, expired, err := VerifyChain(chain[at], chain, now)
	if err != nil {
		return err
	}
	if expired {
		return fmt.Errorf("%w: this machine's clock says %s, and the server's certificate is valid from %s to %s: check the clocks of both machines, or ask another node",
			ErrOutsideItsTime, now.UTC().Format(time.RFC3339), chain[0].NotBefore.Format(time.RFC3339), chain[0].NotAfter.Format(time.RFC3339))
	}
	return nil
}
