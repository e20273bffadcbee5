package raftstore

import (
	"strings"
	"time"
)

// Answer is what an acknowledged API write answered, kept in the write's own
// transaction so that a repetition gets the same answer, also from another
// leader, and a replayed signature is known.
type Answer struct {
	Meta
	AccessKeyID  string
	InvocationID string // amz-sdk-invocation-id
	BodySHA256   string // lower-case hex
	Operation    string
	// Body is the response's JSON, sealed with the mesh key: it can hold a secret.
	Body      []byte
	ExpiresAt time.Time
}

// SeenSignature remembers a write's SigV4 signature until it is no longer valid.
type SeenSignature struct {
	Meta
	Signature    string // hex
	InvocationID string
	ExpiresAt    time.Time
}

const (
	answerPrefix           = "answer/"
	seenSignaturePrefix    = "seen-signature/"
	answerExpiryPrefix     = "answer-expiry/"
	answerVersion          = 1
	seenSignatureVersion   = 1
	expiryKeyTimeFormat    = "20060102T150405.000000000Z"
	maxExpiredPerSweepKeys = 1000
)

func answerKey(accessKeyID, invocationID, bodySHA256 string) string {
	return answerPrefix + accessKeyID + "/" + invocationID + "/" + bodySHA256
}

// GetAnswer returns the answer given to this request before, or ErrNotFound.
func GetAnswer(r Reader, accessKeyID, invocationID, bodySHA256 string) (Answer, error) {
	var a Answer
	index, found, err := getRecord(r, answerKey(accessKeyID, invocationID, bodySHA256), answerVersion, &a)
	if err == nil && !found {
		err = ErrNotFound
	}
	a.ModifyIndex = index
	return a, err
}

// GetSeenSignature returns the record of a signature, or ErrNotFound.
func GetSeenSignature(r Reader, signature string) (SeenSignature, error) {
	var s SeenSignature
	index, found, err := getRecord(r, seenSignaturePrefix+signature, seenSignatureVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// PutAnswer writes a new answer, requiring that there is none yet.
func (t *Txn) PutAnswer(a Answer) {
	key := answerKey(a.AccessKeyID, a.InvocationID, a.BodySHA256)
	t.Require(key, 0)
	t.Put(key, encodeRecord(answerVersion, a))
	t.Put(answerExpiryPrefix+a.ExpiresAt.UTC().Format(expiryKeyTimeFormat)+"/"+key, nil)
}

// PutSeenSignature writes a new signature, requiring that it was not seen.
func (t *Txn) PutSeenSignature(s SeenSignature) {
	key := seenSignaturePrefix + s.Signature
	t.Require(key, 0)
	t.Put(key, encodeRecord(seenSignatureVersion, s))
	t.Put(answerExpiryPrefix+s.ExpiresAt.UTC().Format(expiryKeyTimeFormat)+"/"+key, nil)
}

// SweepAnswers returns the transaction that deletes answers and signatures whose
// time is over; it is empty when there are none, and bounded in size.
func SweepAnswers(r Reader, now time.Time) Txn {
	var t Txn
	limit := answerExpiryPrefix + now.UTC().Format(expiryKeyTimeFormat)
	r.Scan(answerExpiryPrefix, "", func(key string, _ []byte, _ uint64) bool {
		if key >= limit || len(t.Ops) >= maxExpiredPerSweepKeys {
			return false
		}
		t.Delete(key)
		if _, record, ok := strings.Cut(strings.TrimPrefix(key, answerExpiryPrefix), "/"); ok {
			t.Delete(record)
		}
		return true
	})
	return t
}
