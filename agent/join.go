package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/internal/durable"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// JoinOptions is what `meshd join` is told.
type JoinOptions struct {
	Config Config
	Token  pki.JoinToken
	// Tags are those the joiner asks for; the activation says which it may choose.
	Tags map[string]string
	// Progress, where set, is told in a sentence what is being tried.
	Progress func(string)
}

// JoinResult is what the mesh answered.
type JoinResult struct {
	MeshID   string
	MeshName string
	NodeID   string
	// RefusedTags are keys that were asked for and that the activation does not
	// leave to the joiner.
	RefusedTags []string
}

// EnrolError is the mesh's refusal to enrol; trying again without a change will
// be refused again.
type EnrolError struct{ Code, Message string }

func (e *EnrolError) Error() string { return e.Code + ": " + e.Message }

// clockPatience is how long join goes on when all that it reaches have certificates
// outside their time: a mesh that was dark renews them within seconds, and a clock
// that is wrong by days stays so.
const clockPatience = 10 * time.Second

// joinTimeout bounds how long join looks for a mesh that answers.
const joinTimeout = 60 * time.Second

// Join enrols this machine. It is refused on a directory that holds a node
// (ErrDirectoryComplete). An interrupted join resumes: the key pair stays, and
// the mesh knows it.
func Join(ctx context.Context, o JoinOptions) (JoinResult, error) {
	named := o.Config.NodeName != ""
	if err := o.Config.complete(); err != nil {
		return JoinResult{}, err
	}
	if err := checkTags(o.Tags); err != nil {
		return JoinResult{}, err
	}
	if o.Token.ActivationID == "" || o.Token.Code == "" || len(o.Token.Addresses) == 0 || o.Token.CAFingerprint == "" {
		return JoinResult{}, errors.New("a join needs --token, or all of --id, --code, --peer and --ca-fingerprint")
	}
	if err := pki.CheckFingerprint(o.Token.CAFingerprint); err != nil {
		return JoinResult{}, fmt.Errorf("the CA's fingerprint: %w", err)
	}
	dir := directory(o.Config.DataDir)
	unlock, err := dir.claim()
	if err != nil {
		return JoinResult{}, err
	}
	defer unlock()
	if unfinished, err := dir.unfinishedInit(); err != nil {
		return JoinResult{}, err
	} else if unfinished {
		return JoinResult{}, fmt.Errorf("%s holds an unfinished `meshd init`; finish it, or delete the directory", string(dir))
	}

	keyPEM, err := os.ReadFile(dir.nodeKey())
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		key, keyErr := pki.NewKey()
		if keyErr != nil {
			return JoinResult{}, fmt.Errorf("make the node's key: %w", keyErr)
		}
		if keyPEM, err = pki.MarshalKey(key); err == nil {
			err = durable.WriteFile(dir.nodeKey(), keyPEM)
		}
	}
	if err != nil {
		return JoinResult{}, fmt.Errorf("make the node's key: %w", err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return JoinResult{}, fmt.Errorf("%s: %w; delete the directory and join again", dir.nodeKey(), err)
	}
	request, err := pki.NewCertificateRequest(key)
	if err != nil {
		return JoinResult{}, fmt.Errorf("make the certificate request: %w", err)
	}

	facts := nodeFacts(o.Config)
	input := meshapi.EnrolInput{
		ActivationId: o.Token.ActivationID, CertificateRequest: string(request), Tags: o.Tags,
		Facts: meshapi.EnrolFacts(facts),
	}
	if named {
		input.NodeName = o.Config.NodeName
	}
	input.Proof = pki.EnrolmentProof(o.Token.Code, input.Canonical())

	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	output, err := enrol(ctx, o.Config, o.Token, input, o.Progress)
	if err != nil {
		return JoinResult{}, err
	}
	if err := checkEnrolment(o.Token, input.Proof, key, output, o.Config.now()); err != nil {
		return JoinResult{}, err
	}
	if first { // of an enrolment that is repeated, the mesh keeps what it was told first
		if err := writeJSON(dir.facts(), facts); err != nil {
			return JoinResult{}, err
		}
	}
	if err := keepEnrolment(dir, o.Config, output); err != nil {
		return JoinResult{}, err
	}
	return JoinResult{MeshID: output.MeshId, MeshName: output.MeshName, NodeID: output.NodeId, RefusedTags: output.RefusedTags}, nil
}

// enrol asks the token's addresses in turn until one answers for the mesh.
func enrol(ctx context.Context, config Config, token pki.JoinToken, input meshapi.EnrolInput, progress func(string)) (*meshapi.EnrolOutput, error) {
	body, err := awsjson.Marshal(&input)
	if err != nil {
		return nil, fmt.Errorf("encode the enrolment: %w", err)
	}
	client := &http.Client{
		Timeout:   15 * time.Second,
		Transport: &http.Transport{TLSClientConfig: pki.TLSConfigForJoin(token.CAFingerprint, config.now), TLSHandshakeTimeout: 5 * time.Second},
	}
	defer client.CloseIdleConnections()
	var last error
	began := time.Now()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		strangers, untimely := 0, 0
		for _, address := range token.Addresses {
			if progress != nil {
				progress("asking " + address)
			}
			output, err := enrolAt(ctx, client, address, body)
			var refused *EnrolError
			if err == nil || errors.As(err, &refused) {
				return output, err
			}
			last = fmt.Errorf("%s: %w", address, err)
			if errors.Is(err, pki.ErrOtherMesh) {
				strangers++
			}
			if errors.Is(err, pki.ErrOutsideItsTime) {
				untimely++
			}
		}
		if strangers == len(token.Addresses) {
			return nil, fmt.Errorf("%w; look whether the token, or the fingerprint, is that of the mesh at this address", last)
		}
		if untimely == len(token.Addresses) && time.Since(began) > clockPatience {
			return nil, last
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no node of the mesh could enrol this machine; the last answer was %w; run the same command again when the mesh is back", last)
		case <-time.After(wait):
		}
	}
}

// maxEnrolAnswer bounds what is read from a mesh, in bytes.
const maxEnrolAnswer = 4 << 20

func enrolAt(ctx context.Context, client *http.Client, address string, body []byte) (*meshapi.EnrolOutput, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Mesh.Enrol")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxEnrolAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		var output meshapi.EnrolOutput
		if err := awsjson.Unmarshal(answer, &output); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		return &output, nil
	}
	var failure struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(answer, &failure); err != nil || failure.Type == "" {
		return nil, fmt.Errorf("it answered with HTTP %d and no reason", response.StatusCode)
	}
	if response.StatusCode >= 500 {
		return nil, fmt.Errorf("%s: %s", failure.Type, failure.Message)
	}
	return nil, &EnrolError{Code: failure.Type, Message: failure.Message}
}

// ErrForgedAnswer is returned by Join when the answer is not the mesh's: whoever
// carried it has changed it, or the code is another mesh's. Nothing was kept.
var ErrForgedAnswer = errors.New("the answer is not the mesh's own, so the node that carried it may be compromised; nothing was kept")

// checkEnrolment makes sure that the answer is that of a leader that knows the
// activation's code, and that all of it is about this mesh and this key. A member
// that carries the answer could otherwise make itself the joiner's master.
func checkEnrolment(token pki.JoinToken, requestProof string, key *ecdsa.PrivateKey, output *meshapi.EnrolOutput, now time.Time) error {
	if !pki.CheckEnrolmentAnswerProof(token.Code, requestProof, output.Canonical(), output.Proof) {
		return fmt.Errorf("%w: its proof is wrong", ErrForgedAnswer)
	}
	ca, err := pki.ParseCACertificate([]byte(output.CACertificate))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForgedAnswer, err)
	}
	if pki.CertificateFingerprint(ca) != token.CAFingerprint {
		return fmt.Errorf("%w: its CA is not the one that the token names", ErrForgedAnswer)
	}
	chain, err := pki.ParseChain([]byte(output.Certificate))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForgedAnswer, err)
	}
	id, outdated, err := pki.VerifyChain(ca, chain, now)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForgedAnswer, err)
	}
	own, err := pki.PublicKeyFingerprint(key.Public())
	if err != nil {
		return err
	}
	switch {
	case id.MeshID != output.MeshId || id.NodeID != output.NodeId || id.PublicKey != own:
		return fmt.Errorf("%w: its certificate is for node %s of mesh %s", ErrForgedAnswer, id.NodeID, id.MeshID)
	case outdated:
		return fmt.Errorf("this machine's clock says %s, and the certificate that the mesh has just issued is valid from %s to %s: set the clock that is wrong, and join again with the same command",
			now.UTC().Format(time.RFC3339), chain[0].NotBefore.Format(time.RFC3339), chain[0].NotAfter.Format(time.RFC3339))
	}
	return nil
}

// keepEnrolment writes what the mesh answered; identity.json comes last.
func keepEnrolment(dir directory, config Config, output *meshapi.EnrolOutput) error {
	var roster raftstore.Roster
	if err := json.Unmarshal(output.Roster, &roster); err != nil {
		return fmt.Errorf("read the mesh's roster: %w", err)
	}
	gate, err := peer.OpenGate(dir.gate(), output.MeshId)
	if err != nil {
		return err
	}
	if _, err := gate.Update(roster); err != nil {
		return err
	}
	keys := gossipKeysFile{Version: output.KeyringVersion}
	for _, text := range output.GossipKeys {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("read the mesh's gossip keys: %w", err)
		}
		keys.Keys = append(keys.Keys, key)
	}
	if err := writeJSON(dir.gossipKeys(), keys); err != nil {
		return err
	}
	if err := writeJSON(dir.path("gossip", "first-peers.json"), output.GossipPeers); err != nil {
		return err
	}
	for _, file := range []struct{ path, content string }{{dir.caFile(), output.CACertificate}, {dir.certificate(), output.Certificate}} {
		if err := durable.WriteFile(file.path, []byte(file.content)); err != nil {
			return err
		}
	}
	settings, err := config.encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(ConfigPath(string(dir)), settings); err != nil {
		return err
	}
	return writeJSON(dir.identityFile(), identityFacts{Version: identityVersion, MeshID: output.MeshId, MeshName: output.MeshName, NodeID: output.NodeId})
}

// checkTags refuses at once what the API would refuse later.
func checkTags(tags map[string]string) error {
	if len(tags) > 50 {
		return fmt.Errorf("a node has at most 50 tags, not %d", len(tags))
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if key == "" || len([]rune(key)) > 128 || len([]rune(tags[key])) > 256 {
			return fmt.Errorf("tag %q: keys have 1 to 128 characters, values up to 256", key)
		}
	}
	return nil
}
