package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"fleetmesh/agent/meshapi"
)

// region is the one of signatures and of what `env` exports: any would do, and
// SDKs insist on one.
const region = "us-east-1"

// How long a node may take to be connected to and to begin its answer. The second
// is above what the mesh holds a long poll.
const (
	connectTimeout = 5 * time.Second
	answerTimeout  = 40 * time.Second
	// connectPatience is when the next endpoint gets its turn; the slow one gets
	// another when no other is better.
	connectPatience = time.Second
)

// client is both faces of the mesh's API over one road.
type client struct {
	ssm  *ssm.Client
	mesh *meshapi.Client
}

// connect makes the client. It connects when it is first used.
func (a *app) connect() (*client, error) {
	road, err := a.access()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	// No proxy: nothing that meshctl does leaves the mesh.
	transport := &http.Transport{
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: answerTimeout,
		MaxIdleConnsPerHost:   detailFetchers,
		DisableCompression:    true,
		IdleConnTimeout:       time.Minute,
	}
	endpoints := []string{"http://meshd"}
	var credentials aws.CredentialsProvider // stays nil on the socket
	if road.socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", road.socket)
		}
	} else {
		endpoints = road.Endpoints
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(road.CA))
		transport.DialContext = dialer.DialContext
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		key := aws.Credentials{AccessKeyID: road.AccessKeyID, SecretAccessKey: road.SecretAccessKey, Source: "meshctl"}
		credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return key, nil })
	}
	failover, err := newFailover(endpoints, transport)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{
		Transport:     failover,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	retryer := newRetryer(len(endpoints))
	userAgent := "meshctl/" + programVersion()
	return &client{
		ssm: ssm.New(ssm.Options{
			BaseEndpoint: aws.String(endpoints[0]),
			Region:       region,
			Credentials:  credentials,
			HTTPClient:   httpClient,
			Retryer:      retryer,
			APIOptions: []func(*middleware.Stack) error{
				awsmiddleware.AddUserAgentKeyValue("meshctl", programVersion()),
				timeLimit(a.timeout),
				keepRefusalText,
			},
		}),
		mesh: meshapi.NewClient(meshapi.Config{
			Endpoint: endpoints[0], HTTPClient: httpClient, Credentials: credentials, Region: region,
			UserAgent: userAgent, Timeout: a.timeout, Retryer: retryer,
		}),
	}, nil
}

// timeLimit bounds an operation of the SDK with all its retries.
func timeLimit(limit time.Duration) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("TimeLimit",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				ctx, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				return next.HandleInitialize(ctx, in)
			}), middleware.Before)
	}
}

// refusalText is where an operation keeps the text of the refusal it got.
type refusalText struct{}

// maxRefusal bounds what is read of a refusal, in bytes.
const maxRefusal = 64 << 10

// keepRefusalText gives back their text to errors that have none in the public
// model, such as InvalidCommandId and DuplicateInstanceId: for those the SDK drops
// what the mesh said.
func keepRefusalText(stack *middleware.Stack) error {
	err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc("RefusalText",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			text := new(string)
			out, metadata, err := next.HandleInitialize(context.WithValue(ctx, refusalText{}, text), in)
			var refusal smithy.APIError
			if errors.As(err, &refusal) && refusal.ErrorMessage() == "" {
				err = &smithy.GenericAPIError{Code: refusal.ErrorCode(), Message: *text, Fault: refusal.ErrorFault()}
			}
			return out, metadata, err
		}), middleware.Before)
	if err != nil {
		return err
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("RefusalText",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			response, ok := out.RawResponse.(*smithyhttp.Response)
			text, kept := ctx.Value(refusalText{}).(*string)
			if err != nil || !ok || !kept || response.StatusCode < http.StatusBadRequest {
				return out, metadata, err
			}
			body, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
			response.Body.Close()
			if err != nil {
				return out, metadata, &smithyhttp.RequestSendError{Err: fmt.Errorf("read the answer: %w", err)}
			}
			response.Body = io.NopCloser(bytes.NewReader(body))
			var refusal struct{ Message string }
			if json.Unmarshal(body, &refusal) == nil {
				*text = refusal.Message
			}
			return out, metadata, nil
		}), middleware.After)
}

// failover sends each request to the endpoint that answered last. When it cannot
// be connected to, nothing was sent, and the next one gets the same request; the
// Host that was signed stays. When a connection breaks later, or a node says that
// it sees no leader, the next request (a retry with the same invocation id) goes
// to the next endpoint.
type failover struct {
	endpoints []*url.URL
	transport http.RoundTripper
	first     atomic.Uint32 // index of the endpoint to begin with
}

func newFailover(endpoints []string, transport http.RoundTripper) (*failover, error) {
	f := &failover{transport: transport}
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			return nil, fmt.Errorf("parse endpoint: %w", err)
		}
		f.endpoints = append(f.endpoints, u)
	}
	return f, nil
}

func (f *failover) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		var err error
		body, err = io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
	}
	first, count := int(f.first.Load()), len(f.endpoints)
	order := make([]int, count)
	for i := range order {
		order[i] = (first + i) % count
	}
	unreachable := &unreachableError{}
	for limit := connectPatience; len(order) > 0; limit = 0 {
		if count == 1 {
			limit = 0
		}
		var slow []int
		for _, index := range order {
			response, sent, err := f.send(request, body, f.endpoints[index], limit)
			switch {
			case err == nil && response.StatusCode != http.StatusServiceUnavailable:
				f.first.Store(uint32(index))
				return response, nil
			case err == nil, sent:
				f.first.Store(uint32((index + 1) % count))
				return response, err
			case errors.Is(err, errSlow):
				slow = append(slow, index)
				continue
			}
			unreachable.tries = append(unreachable.tries, fmt.Errorf("%s: %w", f.endpoints[index].Host, err))
			if request.Context().Err() != nil {
				return nil, unreachable
			}
		}
		order = slow
	}
	return nil, unreachable
}

// errSlow: connecting takes longer than it may before the next endpoint's turn.
var errSlow = errors.New("it takes long to connect")

// send sends the request to one endpoint; sent is false when it surely did not
// get a connection, with errSlow when it had none within the limit (0: the
// transport's own).
func (f *failover) send(request *http.Request, body []byte, endpoint *url.URL, limit time.Duration) (response *http.Response, sent bool, err error) {
	var connected atomic.Bool
	ctx, cancel := context.WithCancelCause(request.Context())
	var slow *time.Timer
	if limit > 0 {
		slow = time.AfterFunc(limit, func() { cancel(errSlow) })
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if slow == nil || slow.Stop() {
			connected.Store(true)
		}
	}})
	attempt := request.Clone(ctx)
	if attempt.Host == "" {
		attempt.Host = request.URL.Host
	}
	attempt.URL.Scheme, attempt.URL.Host = endpoint.Scheme, endpoint.Host
	attempt.Body = io.NopCloser(bytes.NewReader(body))
	attempt.ContentLength = int64(len(body))
	attempt.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if response, err = f.transport.RoundTrip(attempt); err == nil {
		response.Body = &answerBody{ReadCloser: response.Body, closed: func() { cancel(nil) }}
		return response, true, nil
	}
	late := context.Cause(ctx) == errSlow
	cancel(nil)
	var open *net.OpError
	switch {
	case late && !connected.Load():
		return nil, false, errSlow
	case errors.As(err, &open) && open.Op == "dial":
		return nil, false, err
	}
	return nil, connected.Load(), err
}

// answerBody frees what an answer holds when it has been read.
type answerBody struct {
	io.ReadCloser
	closed func()
}

func (b *answerBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}
