package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// NewKey makes a node's key pair (P-256: small, fast, and known to every client
// of the API).
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// MarshalKey encodes a private key as PKCS#8 PEM.
func MarshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey decodes what MarshalKey made.
func ParseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	der, err := onePEM(keyPEM, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("decode private key: it is not a P-256 key")
	}
	return key, nil
}

// PublicKeyFingerprint is the lower-case hex SHA-256 of the key's
// SubjectPublicKeyInfo: how rosters and node records name a key.
func PublicKeyFingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("fingerprint of public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// CertificateFingerprint is "sha256:" and the lower-case hex SHA-256 of the
// certificate's DER: how a join token names the CA.
func CertificateFingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return fingerprintPrefix + hex.EncodeToString(sum[:])
}

const fingerprintPrefix = "sha256:"

// maxPEM bounds, in bytes, what is decoded; everything of ours is far smaller.
const maxPEM = 64 << 10

const pemBegin = "-----BEGIN "

// onePEM returns the bytes of the only block in data, which must have this type.
func onePEM(data []byte, blockType string) ([]byte, error) {
	blocks, err := allPEM(data, blockType)
	if err != nil {
		return nil, err
	}
	if len(blocks) != 1 {
		return nil, fmt.Errorf("found %d PEM blocks of type %s where one belongs", len(blocks), blockType)
	}
	return blocks[0], nil
}

// allPEM returns the bytes of each block in data; there is at least one, all have
// this type, no headers, and nothing but white space around them.
func allPEM(data []byte, blockType string) ([][]byte, error) {
	if len(data) > maxPEM {
		return nil, fmt.Errorf("PEM of %d bytes is longer than %d", len(data), maxPEM)
	}
	var blocks [][]byte
	for {
		data = bytes.TrimSpace(data)
		if len(data) == 0 {
			break
		}
		if !bytes.HasPrefix(data, []byte(pemBegin)) {
			return nil, errors.New("there is something beside the PEM block")
		}
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("it is not PEM")
		}
		// Decode skips what it cannot read; a block found further on would leave
		// the broken one unnoticed.
		if consumed := data[:len(data)-len(rest)]; bytes.Count(consumed, []byte(pemBegin)) != 1 {
			return nil, errors.New("a PEM block is broken")
		}
		if block.Type != blockType {
			return nil, fmt.Errorf("found a PEM block of type %q where %q belongs", block.Type, blockType)
		}
		if len(block.Headers) != 0 {
			return nil, errors.New("a PEM block has headers")
		}
		blocks = append(blocks, block.Bytes)
		data = rest
	}
	if len(blocks) == 0 {
		return nil, errors.New("there is no PEM block")
	}
	return blocks, nil
}
