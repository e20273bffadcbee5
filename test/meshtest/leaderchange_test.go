package meshtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/meshtest"
)

var (
	manyNodes    = flag.Int("nodes", 20, "nodes of the mesh whose leaders change")
	manyCommands = flag.Int("commands", 12, "commands that it runs meanwhile, each on all nodes")
	changeSeed   = flag.Uint64("seed", 0, "the `seed` of when leaders change; 0 draws one")
)

// TestManyInvocationsAcrossLeaders: commands on all nodes go on while one leader
// after another stops: each invocation runs once, the counters are those of the
// invocations, and the nodes' own times keep the bounds.
func TestManyInvocationsAcrossLeaders(t *testing.T) {
	const concurrency, allowedErrors = 7, 2
	seed := *changeSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1<<32)
	}
	t.Logf("-seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	t.Cleanup(func() { noGoroutines(t) }) // runs after the mesh's end
	var members []int
	for i := 5; i < *manyNodes; i++ {
		members = append(members, i)
	}
	m := meshtest.New(t, *manyNodes, meshtest.MemberOnly(members...), meshtest.Tags(roles))
	m.AwaitVoters(5)
	client := retryingClient(t, m)
	file := filepath.Join(t.TempDir(), "ledger")
	ids := make([]string, *manyCommands)
	var clients sync.WaitGroup
	next := make(chan int)
	for range 3 {
		clients.Go(func() {
			for i := range next {
				note := func(what string) string {
					return fmt.Sprintf("echo %s c%d $AWS_SSM_INSTANCE_ID $(date +%%s%%N) >> %s", what, i, file)
				}
				in := &ssm.SendCommandInput{
					DocumentName: aws.String("AWS-RunShellScript"), Targets: []types.Target{{Key: aws.String("tag-key"), Values: []string{"role"}}},
					MaxConcurrency: aws.String(strconv.Itoa(concurrency)), MaxErrors: aws.String("0"), Comment: aws.String(fmt.Sprintf("c%d", i)),
					Parameters: map[string][]string{"commands": {note("start"), "sleep 0.05", note("end")}},
				}
				if fails(i) {
					in.MaxErrors = aws.String(strconv.Itoa(allowedErrors))
					in.Parameters["commands"] = append(in.Parameters["commands"], "exit 1")
				}
				out, err := client.SendCommand(t.Context(), in)
				if err != nil {
					t.Errorf("send command %d: %v", i, err)
					continue
				}
				ids[i] = *out.Command.CommandId
			}
		})
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range *manyCommands {
			next <- i
		}
		close(next)
		clients.Wait()
	}()
	changes := 0
	for ; !ended(t, client, *manyCommands); changes++ {
		leader := m.Leader()
		leader.Stop()
		time.Sleep(time.Duration(chance.IntN(800)) * time.Millisecond)
		leader.Start()
		time.Sleep(time.Duration(chance.IntN(2000)) * time.Millisecond)
		if t.Failed() {
			return
		}
	}
	<-sent
	done := map[string]types.Command{}
	for _, id := range ids {
		done[id] = awaitDone(t, m, m.Nodes[0], id)
	}
	runs := readLedger(t, file)
	invocations := 0
	for i, id := range ids {
		invocations += proveCommand(t, client, fmt.Sprintf("c%d", i), done[id], runs[fmt.Sprintf("c%d", i)], concurrency)
		if began := len(runs[fmt.Sprintf("c%d", i)]); fails(i) && began > allowedErrors+concurrency {
			t.Errorf("command %d, which fails everywhere, began on %d nodes with %d errors allowed and %d at once", i, began, allowedErrors, concurrency)
		}
	}
	all, err := client.ListCommands(t.Context(), &ssm.ListCommandsInput{MaxResults: aws.Int32(50)})
	if err != nil || all.NextToken == nil && len(all.Commands) != len(ids) {
		t.Errorf("%d requests made %d commands: %v", len(ids), len(all.Commands), err)
	}
	t.Logf("%d commands, %d invocations, %d leaders stopped", len(ids), invocations, changes)
	for _, line := range m.Errors() {
		t.Errorf("logged: %s", line)
	}
}

// ended reports whether so many commands are there, and all have ended.
func ended(t *testing.T, client *ssm.Client, count int) bool {
	t.Helper()
	seen := 0
	pages := ssm.NewListCommandsPaginator(client, &ssm.ListCommandsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Commands {
			seen++
			switch c.Status {
			case types.CommandStatusPending, types.CommandStatusInProgress:
				return false
			}
		}
	}
	return seen >= count
}

// fails says which commands fail on every node.
func fails(command int) bool { return command%4 == 3 }

// lap is what the ledger says about one command on one node.
type lap struct {
	starts, ends int
	from, to     int64
}

func readLedger(t *testing.T, file string) map[string]map[string]*lap {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]*lap{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			t.Fatalf("a torn line in the ledger: %q", line)
		}
		at, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if all[f[1]] == nil {
			all[f[1]] = map[string]*lap{}
		}
		r := all[f[1]][f[2]]
		if r == nil {
			r = &lap{}
			all[f[1]][f[2]] = r
		}
		if f[0] == "start" {
			r.starts, r.from = r.starts+1, at
		} else {
			r.ends, r.to = r.ends+1, at
		}
	}
	return all
}

// proveCommand checks an ended command against its invocations and its ledger, and
// returns how many invocations it has.
func proveCommand(t *testing.T, client *ssm.Client, name string, c types.Command, runs map[string]*lap, concurrency int) int {
	t.Helper()
	states := map[string]int{}
	count, errors := 0, 0
	pages := ssm.NewListCommandInvocationsPaginator(client, &ssm.ListCommandInvocationsInput{CommandId: c.CommandId})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.CommandInvocations {
			count++
			details := aws.ToString(i.StatusDetails)
			states[details]++
			r := runs[*i.InstanceId]
			switch {
			case details == "Success" && (r == nil || r.starts != 1 || r.ends != 1):
				t.Errorf("%s on %s is Success: %+v", name, *i.InstanceId, r)
			case details == "Terminated" && r != nil:
				t.Errorf("%s on %s is Terminated, and ran", name, *i.InstanceId)
			case r != nil && r.starts != 1:
				t.Errorf("%s ran %d times on %s", name, r.starts, *i.InstanceId)
			case details == "Failed":
				errors++
			}
		}
	}
	if int(c.TargetCount) != count || int(c.CompletedCount) != count || int(c.ErrorCount) != errors {
		t.Errorf("%s: %d targets, %d completed, %d errors; its invocations: %v", name, c.TargetCount, c.CompletedCount, c.ErrorCount, states)
	}
	var edges [][2]int64 // time, +1 or -1
	for _, r := range runs {
		if r.starts > 0 && r.ends > 0 {
			edges = append(edges, [2]int64{r.from, 1}, [2]int64{r.to, -1})
		}
	}
	slices.SortFunc(edges, func(a, b [2]int64) int {
		if a[0] != b[0] {
			return int(a[0] - b[0])
		}
		return int(a[1] - b[1])
	})
	now, most := 0, 0
	for _, e := range edges {
		now += int(e[1])
		most = max(most, now)
	}
	if most > concurrency {
		t.Errorf("%s ran on %d nodes at once, MaxConcurrency is %d", name, most, concurrency)
	}
	return count
}

// retryingClient is the stock client: each attempt dials another node, and the
// attempts of one request carry the same invocation id.
func retryingClient(t *testing.T, m *meshtest.Mesh) *ssm.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(m.Admin.CA))
	var addresses []string
	for _, n := range m.Nodes {
		addresses = append(addresses, n.Config.Address())
	}
	return ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("https://127.0.0.1:7947"),
		Credentials: credentials.NewStaticCredentialsProvider(m.Admin.AccessKeyID, m.Admin.SecretAccessKey, ""),
		HTTPClient: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", addresses[rand.IntN(len(addresses))])
			},
		}},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 60, 200*time.Millisecond, ratelimit.None
		}),
	})
}

// noGoroutines: nothing of a mesh that was stopped goes on. No other mesh may run.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(meshtest.Patience); ; {
		buffer := make([]byte, 4<<20)
		left = nil
		for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
			for _, part := range []string{"fleetmesh/agent", "fleetmesh/raftstore", "fleetmesh/gossip", "fleetmesh/executor", "hashicorp/"} {
				if strings.Contains(stack, part) {
					left = append(left, stack)
					break
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left, the first:\n%s", len(left), left[0])
}
