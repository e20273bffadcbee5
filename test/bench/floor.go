package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The floors are what the machine needs for the work itself, by programs that do
// nothing else:
//
//	exec   N times fork and exec of `sh -c true`, two at a time
//	warm   N agent processes, each at the other end of a kept TLS 1.3 connection
//	       with certificates on both sides, get a request, start `sh -c true`,
//	       answer
//	cold   the same with a fresh handshake for each
//	disk   256 bytes and fdatasync, again and again

// floorAgentCommand is the first argument of an agent process.
const floorAgentCommand = "floor-agent"

// floorCommand is what each agent runs.
const floorCommand = "true"

// floorAgent serves requests until standard input ends, which it does with the
// bench. args are the directory of the certificates and the address.
func floorAgent(args []string) error {
	if len(args) != 2 {
		return errors.New("floor-agent DIR ADDRESS")
	}
	config, err := floorTLS(args[0])
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", args[1], config)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveFloor(conn)
		}
	}()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// serveFloor: a request is a command behind its length, an answer its exit status;
// both lengths are 4 bytes, little endian.
func serveFloor(conn net.Conn) {
	defer conn.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		command := make([]byte, min(binary.LittleEndian.Uint32(head[:]), 64<<10))
		if _, err := io.ReadFull(conn, command); err != nil {
			return
		}
		cmd := exec.Command("/bin/sh", "-c", string(command))
		status := uint32(0)
		if err := cmd.Run(); err != nil {
			status = 1
		}
		binary.LittleEndian.PutUint32(head[:], status)
		if _, err := conn.Write(head[:]); err != nil {
			return
		}
	}
}

// floorMesh is N agent processes and the controller's connections to them.
type floorMesh struct {
	addresses []string
	processes []*exec.Cmd
	inputs    []io.Closer
	config    *tls.Config
	warm      []net.Conn
}

// newFloorMesh starts n agents on addresses of subnet ("127.1.2") and connects to
// all of them.
func newFloorMesh(ctx context.Context, dir, subnet string, n int) (_ *floorMesh, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeFloorCertificates(dir); err != nil {
		return nil, fmt.Errorf("make the certificates of the floor: %w", err)
	}
	config, err := floorTLS(dir)
	if err != nil {
		return nil, err
	}
	f := &floorMesh{config: config}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for i := range n {
		address := fmt.Sprintf("%s.%d:7900", subnet, i+1)
		cmd := exec.CommandContext(ctx, self, floorAgentCommand, dir, address)
		cmd.Stderr = os.Stderr
		input, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		output, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start a floor agent: %w", err)
		}
		f.processes, f.inputs = append(f.processes, cmd), append(f.inputs, input)
		if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
			return nil, fmt.Errorf("floor agent %s did not start: %w", address, err)
		}
		f.addresses = append(f.addresses, address)
		conn, err := f.dial(address)
		if err != nil {
			return nil, err
		}
		f.warm = append(f.warm, conn)
	}
	return f, nil
}

func (f *floorMesh) dial(address string) (net.Conn, error) {
	conn, err := tls.Dial("tcp", address, f.config)
	if err != nil {
		return nil, fmt.Errorf("connect to a floor agent: %w", err)
	}
	return conn, nil
}

func (f *floorMesh) close() {
	for _, conn := range f.warm {
		conn.Close()
	}
	for i, p := range f.processes {
		f.inputs[i].Close()
		_ = p.Wait()
	}
}

// fan runs the command on the first n agents at once and returns how long it took
// until the last answer.
func (f *floorMesh) fan(n int, cold bool) (time.Duration, error) {
	began := time.Now()
	var group sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		group.Go(func() {
			conn := f.warm[i]
			if cold {
				fresh, err := f.dial(f.addresses[i])
				if err != nil {
					errs[i] = err
					return
				}
				defer fresh.Close()
				conn = fresh
			}
			errs[i] = askFloor(conn, floorCommand)
		})
	}
	group.Wait()
	return time.Since(began), errors.Join(errs...)
}

func askFloor(conn net.Conn, command string) error {
	request := binary.LittleEndian.AppendUint32(nil, uint32(len(command)))
	if _, err := conn.Write(append(request, command...)); err != nil {
		return fmt.Errorf("ask a floor agent: %w", err)
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("hear a floor agent: %w", err)
	}
	if status := binary.LittleEndian.Uint32(answer[:]); status != 0 {
		return fmt.Errorf("a floor agent's command ended with %d", status)
	}
	return nil
}

// fans are several runs in a row, in milliseconds.
func (f *floorMesh) fans(n, runs int, cold bool) ([]float64, error) {
	var out []float64
	for range runs {
		took, err := f.fan(n, cold)
		if err != nil {
			return nil, err
		}
		out = append(out, milliseconds(took))
	}
	return out, nil
}

// execFloor starts `sh -c true` n times, two at a time, some times over, and
// returns milliseconds for the n.
func execFloor(n, runs int) ([]float64, error) {
	var out []float64
	for range runs {
		began := time.Now()
		var group sync.WaitGroup
		errs := make([]error, 2)
		for worker := range errs {
			group.Go(func() {
				for i := worker; i < n; i += len(errs) {
					if err := exec.Command("/bin/sh", "-c", floorCommand).Run(); err != nil {
						errs[worker] = err
						return
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("exec floor: %w", err)
		}
		out = append(out, milliseconds(time.Since(began)))
	}
	return out, nil
}

// diskFloor appends 256 bytes and syncs them, and returns milliseconds for each.
func diskFloor(dir string, writes int) ([]float64, error) {
	file, err := os.CreateTemp(dir, "disk")
	if err != nil {
		return nil, fmt.Errorf("disk floor: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	value := make([]byte, 256)
	out := make([]float64, 0, writes)
	for range writes {
		began := time.Now()
		if _, err := file.Write(value); err != nil {
			return nil, fmt.Errorf("disk floor: %w", err)
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return nil, fmt.Errorf("disk floor: %w", err)
		}
		out = append(out, milliseconds(time.Since(began)))
	}
	return out, nil
}

// writeFloorCertificates makes one CA and one certificate for both ends.
func writeFloorCertificates(dir string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "floor CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: floorName}, DNSNames: []string{floorName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: caDER},
		"cert.pem": {Type: "CERTIFICATE", Bytes: leafDER},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const floorName = "floor"

// floorTLS is TLS 1.3 with certificates on both sides and without resumption, for
// either end.
func floorTLS(dir string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	caPEM, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPEM)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, ServerName: floorName,
		RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
	}, nil
}
