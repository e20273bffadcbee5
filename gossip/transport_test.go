package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// seal encrypts as memberlist does, whatever it is given.
func seal(t *testing.T, version byte, plain, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key(1))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return gcm.Seal(append([]byte{version}, nonce...), nonce, plain, data)
}

// Whoever holds the gossip key can say anything, and still ends nobody's process:
// memberlist does not survive an empty stream, nor wrong padding in its old
// encryption.
func TestKeyHolderCannotCrashOthers(t *testing.T) {
	nodes := mesh(t, 2)
	mesh := nodes[0].config.MeshID
	label := append([]byte{244, byte(len(mesh))}, mesh...)
	for _, version := range []byte{0, 1} {
		for _, plain := range [][]byte{{}, {0xff}, make([]byte, 16), {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff}} {
			size := 1 + 12 + len(plain) + 16
			header := binary.BigEndian.AppendUint32([]byte{encryptMsg}, uint32(size))
			stream := append(append(label[:len(label):len(label)], header...), seal(t, version, plain, append(header, mesh...))...)
			packet := append(label[:len(label):len(label)], seal(t, version, plain, []byte(mesh))...)

			udp, err := net.Dial("udp", nodes[0].Address())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = udp.Write(packet)
			_ = udp.Close()
			tcp, err := net.Dial("tcp", nodes[0].Address())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = tcp.Write(stream)
			// Until it has been dealt with.
			_, _ = io.Copy(io.Discard, tcp)
			_ = tcp.Close()
		}
	}
	nodes[0].SetTags("n2", 1, map[string]string{"still": "here"})
	sees(t, nodes[1], "n2", "tagged", hasTag("still", "here"))
}

// Streams that say nothing do not pile up, and do not hold the end up.
func TestSilentStreamsAreBounded(t *testing.T) {
	g := open(t, config(t, "n1"))
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range maxStreams + 20 {
		c, err := net.Dial("tcp", g.Address())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	// The last one is closed at once.
	if _, err := conns[len(conns)-1].Read(make([]byte, 1)); err == nil {
		t.Error("read something")
	}
	g.transport.mu.Lock()
	opened := g.transport.accepted
	g.transport.mu.Unlock()
	if opened > maxStreams {
		t.Errorf("%d streams are open", opened)
	}
	g.Kill()
	noLeak(t)
}
