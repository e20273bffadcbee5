package meshapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/uuid"

	"fleetmesh/internal/awsjson"
)

// HTTPClient sends one request. What it is decides the road: TLS with the mesh's
// CA, or the local socket. An *http.Client is one.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Config is what a Client needs.
type Config struct {
	// Endpoint is where requests are addressed to: https://host:port, or any http
	// URL when HTTPClient leads to the local socket.
	Endpoint   string
	HTTPClient HTTPClient
	// Credentials sign the requests; nil on the local socket, which needs no key.
	Credentials aws.CredentialsProvider
	// Region is the one of the signature's scope; any will do.
	Region    string
	UserAgent string
	// Timeout bounds a call with its retries; an operation that waits gets what it
	// may wait on top. 0 leaves it to the caller's context.
	Timeout time.Duration
	// Retryer decides what is tried again; nil is the SDK's standard one.
	Retryer aws.RetryerV2
}

// Client calls the Mesh.* operations. It retries as the SDK's clients do, always
// under one invocation id, so that a write whose answer was lost is
// not done twice. An error of the API is a smithy.APIError (errors.As), as with
// the SDK's clients; an error without one means that no answer came. A Client may
// be used by several goroutines at once.
type Client struct {
	config  Config
	signer  *v4.Signer
	retryer aws.RetryerV2
	// skew is the mesh's clock minus ours in nanoseconds, once a refusal has shown
	// that they are far apart.
	skew atomic.Int64
}

// NewClient returns a client; it connects when it is first used.
func NewClient(config Config) *Client {
	retryer := config.Retryer
	if retryer == nil {
		retryer = retry.NewStandard()
	}
	return &Client{config: config, signer: v4.NewSigner(), retryer: retryer}
}

// maxAnswer bounds what is read of an answer, in bytes: the largest has
// thousands of patches with their reasons.
const maxAnswer = 16 << 20

// longestOutputWait is how long ReadOutput with Wait may be held by the mesh.
const longestOutputWait = 10 * time.Second

// Status tells how the mesh is.
func (c *Client) Status(ctx context.Context, in *StatusInput) (*StatusOutput, error) {
	return call[StatusOutput](ctx, c, "Status", in, 0)
}

// Members tells which nodes the answering node's gossip sees.
func (c *Client) Members(ctx context.Context, in *MembersInput) (*MembersOutput, error) {
	return call[MembersOutput](ctx, c, "Members", in, 0)
}

// CreateActivation makes an activation and its join token.
func (c *Client) CreateActivation(ctx context.Context, in *CreateActivationInput) (*CreateActivationOutput, error) {
	return call[CreateActivationOutput](ctx, c, "CreateActivation", in, 0)
}

// WatchCommand waits up to in.WaitSeconds for a command to change.
func (c *Client) WatchCommand(ctx context.Context, in *WatchCommandInput) (*WatchCommandOutput, error) {
	return call[WatchCommandOutput](ctx, c, "WatchCommand", in, time.Duration(in.WaitSeconds)*time.Second)
}

// ReadOutput reads a part of a step's whole output.
func (c *Client) ReadOutput(ctx context.Context, in *ReadOutputInput) (*ReadOutputOutput, error) {
	wait := time.Duration(0)
	if in.Wait {
		wait = longestOutputWait
	}
	return call[ReadOutputOutput](ctx, c, "ReadOutput", in, wait)
}

// Keyring lists or changes the gossip keys.
func (c *Client) Keyring(ctx context.Context, in *KeyringInput) (*KeyringOutput, error) {
	return call[KeyringOutput](ctx, c, "Keyring", in, 0)
}

// DescribeAssociationRuns tells when associations run, and why.
func (c *Client) DescribeAssociationRuns(ctx context.Context, in *DescribeAssociationRunsInput) (*DescribeAssociationRunsOutput, error) {
	return call[DescribeAssociationRunsOutput](ctx, c, "DescribeAssociationRuns", in, 0)
}

// DescribePatchStatus tells how all nodes stand with their patches, page by page.
func (c *Client) DescribePatchStatus(ctx context.Context, in *DescribePatchStatusInput) (*DescribePatchStatusOutput, error) {
	return call[DescribePatchStatusOutput](ctx, c, "DescribePatchStatus", in, 0)
}

// GetPatchReport tells all that is known of a node's patches.
func (c *Client) GetPatchReport(ctx context.Context, in *GetPatchReportInput) (*GetPatchReportOutput, error) {
	return call[GetPatchReportOutput](ctx, c, "GetPatchReport", in, 0)
}

// call makes one call, retries included. Errors have the shape of the SDK's own.
func call[Out any](ctx context.Context, c *Client, operation string, in any, wait time.Duration) (*Out, error) {
	if c.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.config.Timeout+wait)
		defer cancel()
	}
	out := new(Out)
	if err := c.invoke(ctx, operation, in, out); err != nil {
		return nil, &smithy.OperationError{ServiceID: "Mesh", OperationName: operation, Err: err}
	}
	return out, nil
}

func (c *Client) invoke(ctx context.Context, operation string, in, out any) error {
	body, err := awsjson.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	invocation := uuid.NewString()
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, operation, invocation, attempt, body, out)
		if err == nil || ctx.Err() != nil || attempt >= c.retryer.MaxAttempts() {
			return err
		}
		if !c.learnSkew(err) && !c.retryer.IsErrorRetryable(err) {
			return err
		}
		delay, delayErr := c.retryer.RetryDelay(attempt, err)
		if delayErr != nil {
			return err
		}
		if pause(ctx, delay) != nil {
			return err
		}
	}
}

// clockSkewCodes are the refusals that a wrong clock can cause.
var clockSkewCodes = []string{"InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch"}

// tolerableSkew is the difference below which a refused signature has another
// reason; the mesh tolerates 15 minutes, the SDK corrects from 4 on.
const tolerableSkew = 4 * time.Minute

func (c *Client) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// learnSkew reports whether err is a refusal that our clock explains; then the
// next signature goes by the mesh's.
func (c *Client) learnSkew(err error) bool {
	var refusal smithy.APIError
	var response *smithyhttp.ResponseError
	if !errors.As(err, &refusal) || !slices.Contains(clockSkewCodes, refusal.ErrorCode()) || !errors.As(err, &response) {
		return false
	}
	theirs, err := http.ParseTime(response.Response.Header.Get("Date"))
	if err != nil || theirs.Sub(c.now()).Abs() < tolerableSkew {
		return false
	}
	c.skew.Store(int64(time.Until(theirs)))
	return true
}

// pause waits, or returns the context's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) attempt(ctx context.Context, operation, invocation string, attempt int, body []byte, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.Endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	if request.URL.Path == "" {
		request.URL.Path = "/" // what is sent, and so what is signed
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Mesh."+operation)
	request.Header.Set("User-Agent", c.config.UserAgent)
	request.Header.Set("Amz-Sdk-Invocation-Id", invocation)
	request.Header.Set("Amz-Sdk-Request", fmt.Sprintf("attempt=%d; max=%d", attempt, c.retryer.MaxAttempts()))
	if c.config.Credentials != nil {
		credentials, err := c.config.Credentials.Retrieve(ctx)
		if err != nil {
			return fmt.Errorf("get the access key: %w", err)
		}
		hash := sha256.Sum256(body)
		if err := c.signer.SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), "ssm", c.config.Region, c.now()); err != nil {
			return fmt.Errorf("sign the request: %w", err)
		}
	}
	response, err := c.config.HTTPClient.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return &aws.RequestCanceledError{Err: err}
		}
		return &smithyhttp.RequestSendError{Err: err}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return &smithyhttp.RequestSendError{Err: fmt.Errorf("read the answer: %w", err)}
	}
	if len(answer) > maxAnswer {
		return fmt.Errorf("read the answer: it has more than %d bytes", maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: response}, Err: apiError(response, answer)}
	}
	if err := awsjson.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}

// apiError reads an error as AWS JSON 1.1 writes it: {"__type":…,"message":…},
// of the type what follows a "#" and precedes a ":".
func apiError(response *http.Response, answer []byte) *smithy.GenericAPIError {
	var failure struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // or Message: encoding/json takes both
	}
	fault := smithy.FaultClient
	if response.StatusCode >= 500 {
		fault = smithy.FaultServer
	}
	code := ""
	if err := json.Unmarshal(answer, &failure); err == nil {
		code = failure.Type
	}
	if code == "" {
		code = response.Header.Get("X-Amzn-Errortype")
	}
	code = code[strings.LastIndex(code, "#")+1:]
	code, _, _ = strings.Cut(code, ":")
	if code == "" {
		return &smithy.GenericAPIError{Code: "UnknownError", Message: "the answer is " + response.Status, Fault: fault}
	}
	return &smithy.GenericAPIError{Code: code, Message: failure.Message, Fault: fault}
}
