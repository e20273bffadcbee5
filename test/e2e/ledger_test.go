//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.yaml.in/yaml/v3"
)

// ledger is what a fault schedule must not break: the commands that the mesh has
// acknowledged, and the lines that their scripts wrote when they began and ended.
type ledger struct {
	*mesh
	client *ssm.Client
	file   string
	// disksFill: outputs may be lost, if that is told.
	disksFill bool

	mu   sync.Mutex
	sent map[string]sentCommand // by command id
}

type sentCommand struct {
	token          string // also the command's comment
	nodes          []string
	maxConcurrency int
}

// newLedger's client is the stock SDK: each attempt dials another node, and the
// attempts of one request carry the same invocation id.
func newLedger(m *mesh) *ledger {
	var admin struct {
		CA     string `yaml:"ca"`
		ID     string `yaml:"access_key_id"`
		Secret string `yaml:"secret_access_key"`
	}
	data, err := os.ReadFile(filepath.Join(m.nodes[0].dir, "admin.yaml"))
	if err == nil {
		err = yaml.Unmarshal(data, &admin)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(admin.CA))
	addresses := make([]string, len(m.nodes))
	for i, n := range m.nodes {
		addresses[i] = n.address + ":7947"
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.dial(ctx, addresses[rand.IntN(len(addresses))])
		},
	}
	client := ssm.New(ssm.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String("https://127.0.0.1:7947"),
		Credentials:  credentials.NewStaticCredentialsProvider(admin.ID, admin.Secret, ""),
		HTTPClient:   &http.Client{Transport: transport, Timeout: 20 * time.Second},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 60, 500*time.Millisecond, ratelimit.None
		}),
	})
	return &ledger{mesh: m, client: client, file: filepath.Join(m.dir, "ledger"), sent: map[string]sentCommand{}}
}

// send sends a command whose script notes its begin, takes a while and notes its
// end. Only what was acknowledged enters the ledger.
func (l *ledger) send(ctx context.Context, seconds float64, maxConcurrency int, nodes ...*node) (string, error) {
	c, in := l.draft(seconds, maxConcurrency, nodes...)
	out, err := l.client.SendCommand(ctx, in)
	if err != nil {
		return "", err
	}
	l.enter(*out.Command.CommandId, c)
	return *out.Command.CommandId, nil
}

// draft is the request for such a command. Its comment is a token of its own, by
// which the commands that came of the request are found.
func (l *ledger) draft(seconds float64, maxConcurrency int, nodes ...*node) (sentCommand, *ssm.SendCommandInput) {
	token := fmt.Sprintf("t%x", rand.Uint64())
	c := sentCommand{token: token, maxConcurrency: maxConcurrency}
	for _, n := range nodes {
		c.nodes = append(c.nodes, n.id)
	}
	note := func(what string) string {
		return fmt.Sprintf("echo %s %s $AWS_SSM_INSTANCE_ID $(date +%%s%%N) >> %s", what, token, l.file)
	}
	return c, &ssm.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: c.nodes, Comment: &token,
		MaxConcurrency: aws.String(strconv.Itoa(maxConcurrency)), MaxErrors: aws.String("100%"),
		Parameters: map[string][]string{"commands": {note("start"), fmt.Sprintf("sleep %.2f", seconds), note("end"), "echo " + token}},
	}
}

// enter notes an acknowledged command.
func (l *ledger) enter(id string, c sentCommand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[id] = c
}

// command is what the mesh says about a command.
type command struct {
	types.Command
	invocations map[string]types.CommandInvocation // by node
}

func (l *ledger) command(ctx context.Context, id string) (command, error) {
	out, err := l.client.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &id})
	if err != nil {
		return command{}, err
	}
	if len(out.Commands) != 1 {
		return command{}, fmt.Errorf("%d commands have the id %s", len(out.Commands), id)
	}
	c := command{Command: out.Commands[0], invocations: map[string]types.CommandInvocation{}}
	pages := ssm.NewListCommandInvocationsPaginator(l.client, &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return command{}, err
		}
		for _, i := range page.CommandInvocations {
			c.invocations[*i.InstanceId] = i
		}
	}
	return c, nil
}

// run is what the ledger's file says about one command on one node.
type run struct {
	starts, ends int
	from, to     int64
}

func (l *ledger) runs() map[string]map[string]*run {
	l.t.Helper()
	data, err := os.ReadFile(l.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	all := map[string]map[string]*run{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			l.t.Errorf("a torn line in the ledger: %q", line)
			continue
		}
		at, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			l.t.Errorf("a torn line in the ledger: %q", line)
			continue
		}
		byNode := all[f[1]]
		if byNode == nil {
			byNode = map[string]*run{}
			all[f[1]] = byNode
		}
		r := byNode[f[2]]
		if r == nil {
			r = &run{}
			byNode[f[2]] = r
		}
		if f[0] == "start" {
			r.starts++
			r.from = at
		} else {
			r.ends++
			r.to = at
		}
	}
	return all
}

var terminal = []types.CommandStatus{types.CommandStatusSuccess, types.CommandStatusFailed, types.CommandStatusTimedOut, types.CommandStatusCancelled}

// prove waits until every command has ended, and checks all of them. It returns
// how many invocations ended in each state.
func (l *ledger) prove() map[string]int {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 4*time.Minute)
	defer cancel()
	commands := map[string]command{}
	for id := range l.sent {
		for {
			c, err := l.command(ctx, id)
			if err == nil && slices.Contains(terminal, c.Status) {
				commands[id] = c
				break
			}
			if err == nil {
				err = fmt.Errorf("it is %s, %d of %d complete", c.Status, c.CompletedCount, c.TargetCount)
			}
			if ctx.Err() != nil {
				l.t.Errorf("command %s did not end: %v; %s", id, err, open(c))
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	runs := l.runs()
	states := map[string]int{}
	for id, c := range commands {
		s := l.sent[id]
		l.check(id, s, c, runs[s.token], states)
	}
	known := map[string]bool{}
	for _, s := range l.sent {
		known[s.token] = true
	}
	unacknowledged := 0
	for token, nodes := range runs {
		for node, r := range nodes {
			if r.starts > 1 {
				l.t.Errorf("%s ran %d times on %s", token, r.starts, node)
			}
		}
		if !known[token] {
			unacknowledged++
		}
	}
	l.t.Logf("%d commands acknowledged, invocations by state: %v; scripts of unacknowledged commands: %d", len(l.sent), states, unacknowledged)
	return states
}

func open(c command) string {
	var text []string
	for id, i := range c.invocations {
		text = append(text, fmt.Sprintf("%s is %s (%s)", id, i.Status, aws.ToString(i.StatusDetails)))
	}
	sort.Strings(text)
	return strings.Join(text, ", ")
}

// hasOutput: the script's output is there, or, where disks fill up, what became of
// it is told.
func (l *ledger) hasOutput(i types.CommandInvocation, token string) bool {
	if len(i.CommandPlugins) != 1 {
		return false
	}
	if strings.TrimSpace(aws.ToString(i.CommandPlugins[0].Output)) == token {
		return true
	}
	if !l.disksFill {
		return false
	}
	out, err := l.client.GetCommandInvocation(l.t.Context(), &ssm.GetCommandInvocationInput{CommandId: i.CommandId, InstanceId: i.InstanceId})
	return err == nil && strings.Contains(aws.ToString(out.StandardErrorContent), "its output could not be kept") && strings.Contains(*out.StandardErrorContent, "no space left")
}

func (l *ledger) check(id string, s sentCommand, c command, runs map[string]*run, states map[string]int) {
	l.t.Helper()
	done, failed := 0, 0
	for node, i := range c.invocations {
		states[string(i.Status)+"/"+aws.ToString(i.StatusDetails)]++
		done++
		if i.Status != types.CommandInvocationStatusSuccess {
			failed++
		}
		r := runs[node]
		if r == nil {
			r = &run{}
		}
		if i.Status == types.CommandInvocationStatusSuccess && (r.starts != 1 || r.ends != 1) {
			l.t.Errorf("command %s on %s is Success, with %d starts and %d ends", id, node, r.starts, r.ends)
		}
		if i.Status == types.CommandInvocationStatusSuccess && !l.hasOutput(i, s.token) {
			l.t.Errorf("command %s on %s is Success without its output: %+v", id, node, i.CommandPlugins)
		}
		if d := aws.ToString(i.StatusDetails); r.starts > 0 && (d == "DeliveryTimedOut" || d == "Undeliverable") {
			l.t.Errorf("command %s on %s is %s, and ran", id, node, d)
		}
	}
	if len(c.invocations) != len(s.nodes) || int(c.TargetCount) != len(s.nodes) || int(c.CompletedCount) != done || int(c.ErrorCount)+int(c.DeliveryTimedOutCount) > failed {
		l.t.Errorf("command %s: %d targets, %d completed, %d errors, %d delivery time-outs; but %d invocations, %d without success; sent to %d",
			id, c.TargetCount, c.CompletedCount, c.ErrorCount, c.DeliveryTimedOutCount, done, failed, len(s.nodes))
	}
	type edge struct {
		at    int64
		delta int
	}
	var edges []edge
	for _, r := range runs {
		if r.starts > 0 && r.ends > 0 {
			edges = append(edges, edge{r.from, 1}, edge{r.to, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.delta - b.delta
	})
	now, most := 0, 0
	for _, e := range edges {
		now += e.delta
		most = max(most, now)
	}
	if most > s.maxConcurrency {
		l.t.Errorf("command %s ran on %d nodes at once, MaxConcurrency is %d", id, most, s.maxConcurrency)
	}
}

// pour sends commands one after another until ctx ends, without a break whatever
// fails.
func (l *ledger) pour(ctx context.Context, pause time.Duration, seconds float64, maxConcurrency int) (wait func() (refused int)) {
	done := make(chan int, 1)
	go func() {
		refused := 0
		for ctx.Err() == nil {
			if _, err := l.send(context.WithoutCancel(ctx), seconds, maxConcurrency, l.nodes...); err != nil {
				refused++
				l.t.Logf("not acknowledged: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
		done <- refused
	}()
	return func() int { return <-done }
}

// firstWrite returns how long it takes until a write is accepted.
func (l *ledger) firstWrite(from time.Time, alive []*node) time.Duration {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	client := l.through(alive)
	for {
		_, err := client.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
			ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &alive[0].id,
			Tags: []types.Tag{{Key: aws.String("round"), Value: aws.String(strconv.Itoa(rand.Int()))}},
		})
		if err == nil {
			return time.Since(from)
		}
		if ctx.Err() != nil {
			l.t.Fatalf("no write is accepted: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// through is the stock client against the first of the nodes, without retries.
func (l *ledger) through(alive []*node) *ssm.Client {
	o := l.client.Options()
	o.Retryer = aws.NopRetryer{}
	transport := o.HTTPClient.(*http.Client).Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.dial(ctx, alive[0].address+":7947")
	}
	o.HTTPClient = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return ssm.New(o)
}

func (m *mesh) others(n *node) []*node {
	return slices.DeleteFunc(slices.Clone(m.nodes), func(o *node) bool { return o == n || o.process == nil })
}

// strangers are the processes, but for the daemons, whose command line or open
// files lie in the mesh's directory.
func (m *mesh) strangers() []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		data, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		line := strings.ReplaceAll(string(data), "\x00", " ")
		ours := strings.Contains(line, m.dir+"/")
		files, _ := filepath.Glob(filepath.Join("/proc", e.Name(), "fd", "*"))
		for _, file := range files {
			to, _ := os.Readlink(file)
			ours = ours || strings.HasPrefix(to, m.dir+"/") && !strings.HasSuffix(to, ".log") // spare shims share their daemon's
		}
		if ours && !strings.Contains(line, "meshd run ") {
			found = append(found, e.Name()+" "+line)
		}
	}
	return found
}

// noLeaks: every script and shim has ended.
func (m *mesh) noLeaks() {
	m.t.Helper()
	m.await("the end of all scripts and shims", func() error {
		if left := m.strangers(); len(left) > 0 {
			return fmt.Errorf("%d are left: %v", len(left), left)
		}
		return nil
	})
}

// awaitEnd waits until a node's daemon has ended by itself.
func (m *mesh) awaitEnd(n *node) {
	m.t.Helper()
	ended := make(chan struct{})
	go func() { n.process.Wait(); close(ended) }()
	select {
	case <-ended:
		n.process = nil
	case <-time.After(patience):
		m.t.Fatalf("%s did not end within %s", n.name, patience)
	}
}

func (m *mesh) leader() *node {
	m.t.Helper()
	var s status
	m.await("a leader", func() (err error) { s, err = m.status(); return err })
	return m.byID(s.Leader)
}

func (m *mesh) awaitRest(voters, standBys int) {
	m.t.Helper()
	m.await(fmt.Sprintf("%d voters and %d stand-bys", voters, standBys), func() error {
		s, err := m.status()
		if err == nil && (len(s.Voters) != voters || len(s.StandBys) != standBys) {
			err = fmt.Errorf("%d voters, %d stand-bys", len(s.Voters), len(s.StandBys))
		}
		return err
	})
}
