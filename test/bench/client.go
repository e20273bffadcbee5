package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// region is that of signatures; any would do.
const region = "us-east-1"

// client is both faces of the API at one node, over connections that stay open.
// It does not retry: what is measured is one request.
type client struct {
	ssm  *ssm.Client
	mesh *meshapi.Client
	// last is the id of the command that was sent last.
	last string
}

// client returns the clients of a node, the same ones each time.
func (m *mesh) client(n *node) *client {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.warm[n]; c != nil {
		return c
	}
	c := m.newClient(n)
	m.warm[n] = c
	return c
}

func (m *mesh) newClient(n *node) *client {
	httpClient := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: m.roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 512, DisableCompression: true,
	}}
	key := credentials.NewStaticCredentialsProvider(m.admin.AccessKeyID, m.admin.SecretAccessKey, "")
	endpoint := "https://" + n.config.Address()
	return &client{
		ssm: ssm.New(ssm.Options{
			Region: region, BaseEndpoint: aws.String(endpoint), Credentials: key, HTTPClient: httpClient, Retryer: aws.NopRetryer{},
		}),
		mesh: meshapi.NewClient(meshapi.Config{
			Endpoint: endpoint, HTTPClient: httpClient, Credentials: key, Region: region, Retryer: once{aws.NopRetryer{}},
		}),
	}
}

// socketClient speaks to a node over its local socket, on one connection.
func socketClient(path string) *meshapi.Client {
	return meshapi.NewClient(meshapi.Config{
		Endpoint: "http://meshd", Region: region, Retryer: once{aws.NopRetryer{}},
		HTTPClient: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
		}},
	})
}

// once makes the SDK's NopRetryer a RetryerV2.
type once struct{ aws.NopRetryer }

func (once) GetAttemptToken(context.Context) (func(error) error, error) {
	return func(error) error { return nil }, nil
}

// command is a run of a script on all nodes of the bench.
type command struct {
	script string
	// maxConcurrency is SSM's; "" leaves it to the default, 50.
	maxConcurrency string
	targets        []types.Target
}

func (c *command) input() *ssm.SendCommandInput {
	in := &ssm.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"),
		Parameters:   map[string][]string{"commands": {c.script}},
		Targets:      []types.Target{{Key: aws.String("tag:bench"), Values: []string{"yes"}}},
	}
	if len(c.targets) > 0 {
		in.Targets = c.targets
	}
	if c.maxConcurrency != "" {
		in.MaxConcurrency = aws.String(c.maxConcurrency)
	}
	return in
}

// send asks for a run and returns the command's id.
func (c *client) send(ctx context.Context, what *command) (string, error) {
	out, err := c.ssm.SendCommand(ctx, what.input())
	if err != nil {
		return "", fmt.Errorf("send a command: %w", err)
	}
	c.last = aws.ToString(out.Command.CommandId)
	return c.last, nil
}

// run sends a command to n nodes and returns the time from the request until the
// client has the last node's result: it holds Mesh.WatchCommand, which answers
// when results come. The command must succeed everywhere.
func (c *client) run(ctx context.Context, what *command, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	id, err := c.send(ctx, what)
	if err != nil {
		return 0, err
	}
	results := map[string]string{}
	for after := uint64(0); ; {
		out, err := c.mesh.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: id, AfterIndex: after, WaitSeconds: 20})
		if err != nil {
			// The command goes on, also when the mesh has no leader for a moment.
			if pause(ctx, pollEvery) != nil {
				return 0, fmt.Errorf("watch a command: %w", err)
			}
			continue
		}
		for _, change := range out.Invocations {
			results[change.InstanceId] = change.Status
		}
		after = out.Index
		if !out.Done || out.More {
			continue
		}
		took := time.Since(began)
		return took, allSucceeded(out.Status, results, n)
	}
}

func allSucceeded(status string, results map[string]string, n int) error {
	succeeded := 0
	for _, result := range results {
		if result == "Success" {
			succeeded++
		}
	}
	if status != "Success" || succeeded != n {
		return fmt.Errorf("the command ended %s with success on %d of %d nodes", status, succeeded, n)
	}
	return nil
}

// runPolled is the same with nothing but SSM's own operations: ListCommands every
// so often, until all nodes have completed.
func (c *client) runPolled(ctx context.Context, what *command, n int, every time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	id, err := c.send(ctx, what)
	if err != nil {
		return 0, err
	}
	for {
		if err := pause(ctx, every); err != nil {
			return 0, err
		}
		out, err := c.ssm.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: aws.String(id)})
		if err != nil {
			return 0, fmt.Errorf("look at a command: %w", err)
		}
		if len(out.Commands) != 1 {
			return 0, errors.New("look at a command: it is not there")
		}
		switch command := out.Commands[0]; command.Status {
		case types.CommandStatusPending, types.CommandStatusInProgress:
		default:
			took := time.Since(began)
			if command.Status != types.CommandStatusSuccess || int(command.CompletedCount) != n {
				return 0, fmt.Errorf("the command ended %s on %d of %d nodes", command.Status, command.CompletedCount, n)
			}
			return took, nil
		}
	}
}
