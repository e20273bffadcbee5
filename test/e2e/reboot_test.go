//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machines makes each node one that can be started anew: its reboot command leaves
// a line, writes another boot id and kills meshd, as a machine's end does.
func machines(n *node) {
	boot := n.dir + ".boot"
	if err := os.WriteFile(boot, []byte("boot-1\n"), 0o600); err != nil {
		panic(err)
	}
	command := fmt.Sprintf("echo boot >> %s.boots; echo boot-$$ > %s; kill -9 $PPID", n.dir, boot)
	n.wrapper = []string{"/bin/sh", "-c", `exec "$@" --boot-id-file "$0" --reboot-command '` + command + `'`, boot}
}

// boots is how often a node's machine was started anew.
func boots(n *node) int {
	data, _ := os.ReadFile(n.dir + ".boots")
	return strings.Count(string(data), "\n")
}

// comesBack waits for a node's machine to go down, the n-th time, and starts it.
func (m *mesh) comesBack(n *node, times int) {
	m.t.Helper()
	n.process.Wait()
	n.process = nil
	if got := boots(n); got != times {
		m.t.Fatalf("%s went down after %d reboots, not %d", n.name, got, times)
	}
	m.start(n)
}

// step is what the AWS CLI shows of a step.
type shownStep struct {
	Status, StatusDetails, PluginName, StandardOutputContent, StandardErrorContent string
	ResponseCode                                                                   int
}

const rebootingDocument = `schemaVersion: "2.2"
parameters:
  mark: {type: String}
mainSteps:
- action: aws:runShellScript
  name: before
  inputs:
    runCommand: ["echo before >> {{ mark }}"]
- action: aws:runShellScript
  name: kernel
  inputs:
    runCommand:
    - echo "run $MESHD_REBOOTS"
    - echo kernel >> {{ mark }}
    - if [ "$(grep -c kernel {{ mark }})" -lt 3 ]; then exit 194; fi
- action: aws:runDocument
  name: after
  inputs:
    documentType: SSMDocument
    documentPath: Greet:1
    documentParameters: {who: operator}
- action: aws:downloadContent
  name: fetch
  inputs: {sourceType: HTTP, sourceInfo: {url: "https://example.org/"}}
- action: aws:runPowerShellScript
  name: windows
  precondition: {StringEquals: [platformType, Windows]}
  inputs: {runCommand: [Get-Date]}
`

// TestStepAsksForReboots: a step asks for two boots of its machine, the node that reboots holds
// no store; the AWS CLI sees where it is, and each step's end.
func TestStepAsksForReboots(t *testing.T) {
	m := newOutfittedMesh(t, 2, func(int) []string { return []string{"--member-only"} }, machines)
	through, target := m.nodes[0], m.nodes[1]
	for name, content := range map[string]string{"Greet": greetJSON, "Kernel": rebootingDocument} {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		format := "JSON"
		if name == "Kernel" {
			format = "YAML"
		}
		m.awsJSON(through, new(any), "create-document", "--name", name, "--document-type", "Command", "--document-format", format, "--content", "file://"+path)
	}
	mark := filepath.Join(m.dir, "mark")
	var sent struct{ Command struct{ CommandId string } }
	m.awsJSON(through, &sent, "send-command", "--document-name", "Kernel", "--instance-ids", target.id, "--parameters", "mark="+mark)
	id := sent.Command.CommandId

	// The machine is down: the mesh knows why.
	target.process.Wait()
	var listed struct {
		CommandInvocations []struct {
			Status, TraceOutput string
			CommandPlugins      []struct {
				Name, Status, Output, StandardOutputUrl string
				ResponseCode                            int
			}
		}
	}
	m.awsJSON(through, &listed, "list-command-invocations", "--command-id", id, "--details")
	if i := listed.CommandInvocations[0]; i.Status != "InProgress" || !strings.HasPrefix(i.TraceOutput, "rebooting: the step kernel") ||
		len(i.CommandPlugins) != 5 || i.CommandPlugins[0].Status != "Success" || i.CommandPlugins[1].Status != "InProgress" || i.CommandPlugins[2].Status != "Pending" {
		t.Errorf("while the machine is down: %+v", i)
	}
	m.comesBack(target, 1)
	m.comesBack(target, 2)
	m.await("the command ends", func() error {
		m.awsJSON(through, &listed, "list-command-invocations", "--command-id", id, "--details")
		if s := listed.CommandInvocations[0].Status; s != "Failed" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
	if data, _ := os.ReadFile(mark); string(data) != "before\nkernel\nkernel\nkernel\n" || boots(target) != 2 {
		t.Errorf("ran %q, with %d boots", data, boots(target))
	}
	for _, want := range []shownStep{
		{PluginName: "before", Status: "Success"},
		{PluginName: "kernel", Status: "Success", StandardOutputContent: "run 0\nrun 1\nrun 2\n"},
		{PluginName: "after", Status: "Success", StandardOutputContent: "hello operator\n1\n"},
		{PluginName: "fetch", Status: "Failed", ResponseCode: 1, StandardErrorContent: "The step fetch was not run: the plugin aws:downloadContent is not in this version of fleetmesh.\n"},
		{PluginName: "windows", Status: "Success", StandardOutputContent: "Step execution skipped due to unsatisfied preconditions: StringEquals: [platformType, Windows]. Step name: windows"},
	} {
		var got shownStep
		m.awsJSON(through, &got, "get-command-invocation", "--command-id", id, "--instance-id", target.id, "--plugin-name", want.PluginName)
		if want.StatusDetails = want.Status; got != want {
			t.Errorf("%+v\nnot %+v", got, want)
		}
	}
	for _, p := range listed.CommandInvocations[0].CommandPlugins {
		if p.StandardOutputUrl != "" || p.Status == "Success" && p.ResponseCode != 0 {
			t.Errorf("%+v", p)
		}
	}
	if _, err := m.aws(through, "get-command-invocation", "--command-id", id, "--instance-id", target.id); err == nil || !strings.Contains(err.Error(), "InvalidPluginName") {
		t.Errorf("without a step's name: %v", err)
	}
}

// TestRunAndReboot: `meshctl run --reboot` starts each machine anew once, a voter's
// too, and waits for it.
func TestRunAndReboot(t *testing.T) {
	m := newOutfittedMesh(t, 2, func(int) []string { return []string{"--member-only"} }, machines)
	target := m.nodes[1]
	mark := filepath.Join(m.dir, "mark")
	type answer struct {
		out string
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		out, _, err := m.run("meshctl", "run", "--reboot", "--nodes", target.id, "--", "echo ran >> "+mark)
		answered <- answer{out, err}
	}()
	m.comesBack(target, 1)
	if a := <-answered; a.err != nil {
		t.Errorf("%s, %v", a.out, a.err)
	}
	if data, _ := os.ReadFile(mark); string(data) != "ran\n" || boots(target) != 1 {
		t.Errorf("ran %q, with %d boots", data, boots(target))
	}
	if out, exit, _ := m.run("meshctl", "run", "--reboot", "--nodes", target.id, "--", "exit 3"); exit == 0 || boots(target) != 1 {
		t.Errorf("a failure: exit %d, %d boots, %s", exit, boots(target), out)
	}
}
