package meshtest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/test/meshtest"
)

// TestRemovedNodeIsShutOut: it can neither report nor forward nor come back.
func TestRemovedNodeIsShutOut(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	gone := m.Nodes[3]
	if _, err := m.Nodes[1].Client().DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &gone.ID}); err != nil {
		t.Fatal(err)
	}
	m.AwaitOnline(3)
	m.Await("the removed node to be cut off", func() error {
		_, err := gone.Client().ListCommands(t.Context(), &ssm.ListCommandsInput{})
		if err == nil {
			return errStillServed
		}
		return nil
	})
	_, err := m.Nodes[0].Client().SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{gone.ID}, Parameters: map[string][]string{"commands": {"true"}}})
	wantCode(t, err, "InvalidInstanceId")
	gone.Stop()
	if again, err := agent.Open(gone.Config, discard); err == nil {
		gone.Agent = again
		m.Await("the removed node to stay cut off", func() error {
			_, err := gone.Client().ListCommands(t.Context(), &ssm.ListCommandsInput{})
			if err == nil {
				return errStillServed
			}
			return nil
		})
	}
	m.AwaitOnline(3)
}

// TestActivationLimitIsExact under concurrent joins.
func TestActivationLimitIsExact(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 1)
	token := m.Token(meshapi.CreateActivationInput{RegistrationLimit: 3, DefaultInstanceName: "worker", Tags: map[string]string{"site": "north"}})
	var joined atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		node := m.Add()
		group.Go(func() {
			config := node.Config
			config.NodeName = ""
			if _, err := agent.Join(t.Context(), agent.JoinOptions{Config: config, Token: token}); err == nil {
				joined.Add(1)
			}
		})
	}
	group.Wait()
	if joined.Load() != 3 {
		t.Errorf("%d nodes joined with an activation for 3", joined.Load())
	}
	out, err := m.Nodes[0].Client().DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{Filters: []types.DescribeActivationsFilter{{FilterKey: types.DescribeActivationsFilterKeysActivationIds, FilterValues: []string{token.ActivationID}}}})
	if err != nil || len(out.ActivationList) != 1 || *out.ActivationList[0].RegistrationsCount != 3 {
		t.Fatalf("activation: %+v, %v", out, err)
	}
	nodes, err := m.Nodes[0].Client().DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{Filters: []types.InstanceInformationStringFilter{{Key: aws.String("tag:site"), Values: []string{"north"}}}})
	if err != nil || len(nodes.InstanceInformationList) != 3 {
		t.Fatalf("nodes with the activation's tag: %+v, %v", nodes, err)
	}
	for _, n := range nodes.InstanceInformationList {
		if *n.Name != "worker" || *n.ActivationId != token.ActivationID {
			t.Errorf("node %+v", n)
		}
	}
}

// TestJoinIsRefusedAndResumes covers expiry, a wrong code and a second join.
func TestJoinIsRefusedAndResumes(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 1)
	good := m.Token(meshapi.CreateActivationInput{})
	node := m.Add()

	wrong := good
	wrong.Code = "x" + good.Code[1:]
	if wrong.Code == good.Code {
		wrong.Code = "y" + good.Code[1:]
	}
	if _, err := agent.Join(t.Context(), agent.JoinOptions{Config: node.Config, Token: wrong}); err == nil {
		t.Fatal("a wrong code enrolled a node")
	}
	// The same directory, the right code: the join resumes.
	node.Join(good, nil)
	if _, err := agent.Join(t.Context(), agent.JoinOptions{Config: node.Config, Token: good}); err == nil {
		t.Error("a second join of a complete directory was accepted")
	}
	used := m.Add()
	if _, err := agent.Join(t.Context(), agent.JoinOptions{Config: used.Config, Token: good}); err == nil {
		t.Error("an activation for one enrolled two")
	}
	past := time.Now().Add(time.Second)
	short := m.Token(meshapi.CreateActivationInput{ExpirationDate: &past})
	for time.Now().Before(past.Add(100 * time.Millisecond)) {
		time.Sleep(time.Until(past.Add(100 * time.Millisecond)))
	}
	late := m.Add()
	if _, err := agent.Join(t.Context(), agent.JoinOptions{Config: late.Config, Token: short}); err == nil {
		t.Error("an expired activation enrolled a node")
	}
	node.Start()
	m.AwaitOnline(2)
}

// TestJoinTellsFacts: what a node says of itself comes with its enrolment; it need
// not renew its certificate to say so again.
func TestJoinTellsFacts(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 1)
	node := m.Add()
	node.Join(m.Token(meshapi.CreateActivationInput{}), nil)
	data, err := os.ReadFile(filepath.Join(node.Config.DataDir, "identity", "facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var told, known peer.NodeFacts
	if err := json.Unmarshal(data, &told); err != nil {
		t.Fatal(err)
	}
	certificate := filepath.Join(node.Config.DataDir, "identity", "node.crt")
	issued, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	node.Start()
	m.AwaitOnline(2)
	out, err := m.Nodes[0].Client().DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range out.InstanceInformationList {
		if *i.InstanceId == node.ID {
			known = peer.NodeFacts{IPAddress: *i.IPAddress, ComputerName: *i.ComputerName, PlatformType: string(i.PlatformType), PlatformName: *i.PlatformName, PlatformVersion: *i.PlatformVersion, AgentVersion: *i.AgentVersion}
		}
	}
	known.Address, known.GossipAddress = node.Config.Address(), node.Config.GossipAddress()
	if told != known {
		t.Errorf("it has told %+v, the mesh knows %+v", told, known)
	}
	if now, err := os.ReadFile(certificate); err != nil || string(now) != string(issued) {
		t.Errorf("its certificate was renewed, %v", err)
	}
}
