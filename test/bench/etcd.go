package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// etcdMember speaks gRPC to one member, as far as it takes to put a value: one
// HTTP/2 connection without TLS, and a few fields of protobuf made by hand, so
// that the client costs next to nothing.
type etcdMember struct {
	address string
	http    *http.Client
	process *exec.Cmd
}

// openEtcd starts three members; nil where etcd is not installed.
func openEtcd(ctx context.Context, b *bench) (_ *system, err error) {
	if b.quick || !installed("etcd") {
		return nil, nil
	}
	var members []*etcdMember
	closeAll := func() {
		for _, m := range members {
			_ = m.process.Process.Kill()
			_ = m.process.Wait()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	var cluster []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.77.4.%d:2380", i, i+1))
	}
	for i := range 3 {
		ip := fmt.Sprintf("127.77.4.%d", i+1)
		dir := filepath.Join(b.dir, "etcd", strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		log, err := os.Create(dir + ".log")
		if err != nil {
			return nil, err
		}
		cmd := exec.Command("etcd", "--name", fmt.Sprintf("m%d", i), "--data-dir", dir,
			"--listen-client-urls", "http://"+ip+":2379", "--advertise-client-urls", "http://"+ip+":2379",
			"--listen-peer-urls", "http://"+ip+":2380", "--initial-advertise-peer-urls", "http://"+ip+":2380",
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new", "--logger", "zap")
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
		log.Close()
		if err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
		members = append(members, &etcdMember{address: ip + ":2379", http: plainHTTP2(), process: cmd})
	}
	var leader *etcdMember
	err = await(ctx, "etcd's leader", func() error {
		for _, m := range members {
			if leads, err := m.leads(ctx); err == nil && leads {
				leader = m
				return nil
			}
		}
		return errors.New("none yet")
	})
	if err != nil {
		return nil, err
	}
	value := bytes.Repeat([]byte("v"), valueSize)
	return &system{name: "etcd", close: closeAll, write: func(ctx context.Context, i int64) error {
		request := protobufBytes(nil, 1, fmt.Appendf(nil, "key-%08d", i))
		_, err := leader.call(ctx, "/etcdserverpb.KV/Put", protobufBytes(request, 2, value))
		return err
	}}, nil
}

// plainHTTP2 is HTTP/2 without TLS and without asking for it first.
func plainHTTP2() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
}

// call is one gRPC exchange without streams.
func (m *etcdMember) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.address+method, bytes.NewReader(append(frame, message...)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	response, err := m.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call etcd: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("call etcd: %w", err)
	}
	status := response.Trailer.Get("Grpc-Status")
	if status == "" {
		status = response.Header.Get("Grpc-Status")
	}
	if status != "0" || len(body) < 5 {
		return nil, fmt.Errorf("call etcd: gRPC status %q %s", status, response.Trailer.Get("Grpc-Message"))
	}
	return body[5:], nil
}

// leads asks a member whether it is the leader: the leader's id is field 4 of the
// status, the member's own is field 2 of its header, field 1.
func (m *etcdMember) leads(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, err := m.call(ctx, "/etcdserverpb.Maintenance/Status", nil)
	if err != nil {
		return false, err
	}
	var self, leader uint64
	err = protobufFields(status, func(field int, number uint64, data []byte) error {
		switch field {
		case 1:
			return protobufFields(data, func(field int, number uint64, _ []byte) error {
				if field == 2 {
					self = number
				}
				return nil
			})
		case 4:
			leader = number
		}
		return nil
	})
	return leader != 0 && leader == self, err
}

// protobufBytes appends a field of bytes.
func protobufBytes(to []byte, field int, data []byte) []byte {
	to = binary.AppendUvarint(to, uint64(field)<<3|2)
	to = binary.AppendUvarint(to, uint64(len(data)))
	return append(to, data...)
}

var errProtobuf = errors.New("not a protobuf message")

// protobufFields calls take for each field that is a number or bytes.
func protobufFields(message []byte, take func(field int, number uint64, data []byte) error) error {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		if n <= 0 {
			return errProtobuf
		}
		message = message[n:]
		number, n := binary.Uvarint(message)
		if n <= 0 {
			return errProtobuf
		}
		message = message[n:]
		var data []byte
		switch key & 7 {
		case 0:
		case 2:
			if number > uint64(len(message)) {
				return errProtobuf
			}
			data, message = message[:number], message[number:]
		default:
			return errProtobuf
		}
		if err := take(int(key>>3), number, data); err != nil {
			return err
		}
	}
	return nil
}
