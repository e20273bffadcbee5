package pki

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Enrolment is what a joiner's proof covers: everything that it asks for. The
// fields are those of meshapi.EnrolInput.
type Enrolment struct {
	ActivationID       string
	CertificateRequest string
	NodeName           string
	Tags               map[string]string
	IPAddress          string
	Address            string
	GossipAddress      string
	ComputerName       string
	PlatformType       string
	PlatformName       string
	PlatformVersion    string
	AgentVersion       string
}

// EnrolmentCanonical is the one byte sequence for an enrolment, the same on both
// sides: a label, each string in the order of the fields, each preceded by its
// length in bytes (4, big-endian), the tags in their place as their number (4,
// big-endian) and key and value of each in byte order of the keys.
func EnrolmentCanonical(e Enrolment) []byte {
	var out bytes.Buffer
	number := func(n int) { out.Write(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	text := func(s string) {
		number(len(s))
		out.WriteString(s)
	}
	text(enrolmentLabel)
	text(e.ActivationID)
	text(e.CertificateRequest)
	text(e.NodeName)
	number(len(e.Tags))
	for _, key := range slices.Sorted(maps.Keys(e.Tags)) {
		text(key)
		text(e.Tags[key])
	}
	for _, fact := range []string{
		e.IPAddress, e.Address, e.GossipAddress, e.ComputerName,
		e.PlatformType, e.PlatformName, e.PlatformVersion, e.AgentVersion,
	} {
		text(fact)
	}
	return out.Bytes()
}

// enrolmentLabel keeps this proof and this key apart from any other; it is on the
// wire: never change it, add a version instead.
const enrolmentLabel = "fleetmesh enrolment v1"

// EnrolmentProof is the hex HMAC-SHA256 of a canonical enrolment, with a key
// derived from the activation code (HKDF-SHA256). The code itself never travels.
func EnrolmentProof(code string, canonical []byte) string {
	return hex.EncodeToString(enrolmentMAC(code, enrolmentLabel, canonical))
}

// CheckEnrolmentProof reports, in constant time, whether the proof was made with
// this code over these bytes.
func CheckEnrolmentProof(code string, canonical []byte, proof string) bool {
	given, err := hex.DecodeString(proof)
	if err != nil {
		return false
	}
	return hmac.Equal(given, enrolmentMAC(code, enrolmentLabel, canonical))
}

// answerLabel keeps the proof of an answer apart from that of a request.
const answerLabel = "fleetmesh enrolment answer v1"

// EnrolmentAnswerProof is the leader's proof, made as EnrolmentProof is, that it
// knows the code and has answered just this request with just this answer. The
// node that carried both could otherwise change the answer: it need be no more
// than a member, and what it forged would be the joiner's idea of the mesh.
func EnrolmentAnswerProof(code, requestProof string, answer []byte) string {
	return hex.EncodeToString(enrolmentMAC(code, answerLabel, answerBytes(requestProof, answer)))
}

// CheckEnrolmentAnswerProof reports, in constant time, whether the proof is that
// of this answer to the request with this proof.
func CheckEnrolmentAnswerProof(code, requestProof string, answer []byte, proof string) bool {
	given, err := hex.DecodeString(proof)
	return err == nil && hmac.Equal(given, enrolmentMAC(code, answerLabel, answerBytes(requestProof, answer)))
}

func answerBytes(requestProof string, answer []byte) []byte {
	return append(CanonicalStrings(requestProof), answer...)
}

// CanonicalStrings is strings as one byte sequence that no other strings have:
// each preceded by its length in bytes (4, big-endian).
func CanonicalStrings(texts ...string) []byte {
	var out []byte
	for _, text := range texts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(text)))
		out = append(out, text...)
	}
	return out
}

func enrolmentMAC(code, label string, canonical []byte) []byte {
	key, err := hkdf.Key(sha256.New, []byte(code), nil, label, sha256.Size)
	if err != nil {
		panic(fmt.Sprintf("pki: HKDF refuses a 32-byte key: %v", err))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(canonical)
	return mac.Sum(nil)
}
