package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// MeshKey seals the secrets of the store. Voters and stand-bys hold it in a file
// of mode 0600; it never enters the Raft log.
type MeshKey [32]byte

// sealVersion is the first byte of every sealed value: version 1 is
// AES-256-GCM, a random 12-byte nonce, then ciphertext and tag; version byte and
// purpose are authenticated. It lies in the store: never renumber.
const sealVersion = 1

// ErrSealed is returned when a sealed value cannot be opened: another key,
// another purpose, or changed bytes. Which of them is not to be known.
var ErrSealed = errors.New("the secret cannot be opened with this mesh's key")

// NewMeshKey makes the mesh key of a new mesh.
func NewMeshKey() MeshKey {
	var k MeshKey
	// Read never fails: without randomness the program ends inside it.
	_, _ = rand.Read(k[:])
	return k
}

// String keeps the key out of logs.
func (MeshKey) String() string { return "mesh key (not shown)" }

// GoString keeps the key out of logs.
func (k MeshKey) GoString() string { return k.String() }

// Seal encrypts plaintext for a purpose. The purpose names kind and owner of the
// secret ("access-key/AKIA…"), so that a sealed value works nowhere else.
func (k MeshKey) Seal(plaintext []byte, purpose string) []byte {
	gcm := k.aead()
	sealed := make([]byte, 1+gcm.NonceSize(), 1+gcm.NonceSize()+len(plaintext)+gcm.Overhead())
	sealed[0] = sealVersion
	nonce := sealed[1:]
	_, _ = rand.Read(nonce)
	return gcm.Seal(sealed, nonce, plaintext, associated(purpose))
}

// Open decrypts what Seal made for the same purpose.
func (k MeshKey) Open(sealed []byte, purpose string) ([]byte, error) {
	gcm := k.aead()
	if len(sealed) < 1+gcm.NonceSize()+gcm.Overhead() {
		return nil, ErrSealed
	}
	if sealed[0] != sealVersion {
		return nil, fmt.Errorf("the secret is sealed by version %d and this program reads %d; upgrade this node", sealed[0], sealVersion)
	}
	nonce, ciphertext := sealed[1:1+gcm.NonceSize()], sealed[1+gcm.NonceSize():]
	plaintext, err := gcm.Open(nil, nonce, ciphertext, associated(purpose))
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func associated(purpose string) []byte {
	return append([]byte{sealVersion}, purpose...)
}

func (k MeshKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("pki: a 32-byte key is refused by AES: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("pki: AES is refused by GCM: " + err.Error())
	}
	return gcm
}
