package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// NewCertificateRequest makes a PEM PKCS#10 request. It names nobody: its only
// use is to prove that the asker holds the key.
func NewCertificateRequest(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseCertificateRequest checks a request's signature and returns its key. All
// that the request says besides is ignored.
func ParseCertificateRequest(requestPEM []byte) (crypto.PublicKey, error) {
	der, err := onePEM(requestPEM, "CERTIFICATE REQUEST")
	if err != nil {
		return nil, fmt.Errorf("decode certificate request: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("decode certificate request: %w", err)
	}
	if err := checkPublicKey(request.PublicKey); err != nil {
		return nil, fmt.Errorf("decode certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("decode certificate request: %w", err)
	}
	return request.PublicKey, nil
}
