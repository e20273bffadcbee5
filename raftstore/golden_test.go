package raftstore

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenRecord is one record as it lies in the store, after a step down.
type goldenRecord struct {
	Key     string
	Value   json.RawMessage `json:",omitempty"`
	Deleted bool            `json:",omitempty"`
}

// goldenExamples has one fixed example of each kind of record, with all that its
// Put writes. A file that changes means that older nodes, or this one tomorrow,
// may not read what is on disk: raise the kind's version, or think again.
func goldenExamples() map[string]func(*Txn) {
	at := time.Date(2026, 11, 23, 19, 30, 0, 123456789, time.UTC)
	later := at.Add(time.Hour)
	const (
		node       = "mi-0123456789abcdef0"
		command    = "8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f"
		activation = "1b2c3d4e-5f60-4718-8920-a1b2c3d4e5f6"
	)
	key := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	examples := map[string]func(*Txn){
		"mesh": func(t *Txn) {
			t.PutMesh(Mesh{
				ID: "7c9e6679-7425-40de-944b-e07fc1f90ae7", Name: "site", AccountID: "123456789012", CreatedAt: at, Epoch: 2,
				CACertificate: []byte("-----BEGIN CERTIFICATE-----"), SealedCAKey: []byte{1, 2, 3},
			})
		},
		"roster": func(t *Txn) {
			t.PutRoster(Roster{
				Version: 3, MeshID: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
				Members: []RosterMember{{NodeID: node, Address: "127.0.0.1:7947", PublicKey: key, StandBy: true}},
				Removed: []RemovedKey{{NodeID: "mi-0123456789abcdef1", PublicKey: key, RemovedAt: at}},
			})
		},
		"keyring": func(t *Txn) {
			t.PutKeyring(Keyring{Version: 4, Keys: []GossipKey{{ID: "0123456789abcdef", Sealed: []byte{4, 5, 6}}}})
		},
		"node": func(t *Txn) { t.PutNode(goldenNode(node, activation, key, at)) },
		"node-deleted": func(t *Txn) {
			n := goldenNode(node, activation, key, at)
			n.ModifyIndex = 7
			t.DeleteNode(n)
		},
		"activation": func(t *Txn) {
			t.PutActivation(Activation{
				ID: activation, SealedCode: []byte{7, 8, 9}, Description: "rack 1", DefaultName: "web", IamRole: "role",
				RegistrationLimit: 10, Registrations: 1, CreatedAt: at, ExpiresAt: later, Tags: map[string]string{"role": "web"},
				MemberOnly: true, JoinerTags: []string{"zone"},
			})
		},
		"access-key": func(t *Txn) {
			t.PutAccessKey(AccessKey{ID: "AKIA0123456789ABCDEF", SealedSecret: []byte{1}, UserName: "admin", Administrator: true, CreatedAt: at})
		},
		"answer": func(t *Txn) {
			t.PutAnswer(Answer{
				AccessKeyID: "AKIA0123456789ABCDEF", InvocationID: "0b7c1d2e-3f40-4152-8364-758697a8b9ca", BodySHA256: key,
				Operation: "SendCommand", Body: []byte(`{"Command":{}}`), ExpiresAt: later,
			})
		},
		"seen-signature": func(t *Txn) {
			t.PutSeenSignature(SeenSignature{Signature: key, InvocationID: "0b7c1d2e-3f40-4152-8364-758697a8b9ca", ExpiresAt: later})
		},
		"audit": func(t *Txn) {
			t.PutAudit(AuditEntry{
				ID: command, Time: at, Operation: "SendCommand", Caller: "AKIA0123456789ABCDEF", SourceIP: "127.0.0.1",
				RequestID: activation, Parameters: json.RawMessage(`{"DocumentName":"AWS-RunShellScript"}`), Resource: command,
			})
		},
		"command": func(t *Txn) {
			t.PutNewCommand(Command{
				ID: command, Input: json.RawMessage(`{"DocumentName":"AWS-RunShellScript"}`), DocumentName: "AWS-RunShellScript",
				DocumentVersion: "1", Document: json.RawMessage(`{"schemaVersion":"2.2"}`), Caller: "AKIA0123456789ABCDEF",
				RequestedAt: at, DeliverUntil: later, ExpiresAt: later.Add(time.Hour), Epoch: 2,
			}, CommandState{ID: command, Status: "Pending", StatusDetails: "Pending"})
		},
		"command-state": func(t *Txn) {
			t.PutCommandState(CommandState{
				Meta: Meta{ModifyIndex: 9}, ID: command, Status: "Failed", StatusDetails: "Failed", Resolved: true,
				TargetCount: 10, CompletedCount: 9, ErrorCount: 1, DeliveryTimedOutCount: 1, InFlight: 1,
				MaxConcurrency: 5, MaxErrors: 1, Cancelling: true, Stopped: true, FinishedAt: later,
			})
		},
		"command-cancel": func(t *Txn) {
			t.PutCommandCancel(CommandCancel{CommandID: command, All: true, NodeIDs: []string{node}, RequestedAt: at, Caller: "root@" + node})
		},
		"swept-command": func(t *Txn) { t.putSweptCommand(command, sweptCommand{RequestedAt: at}) },
		"document": func(t *Txn) {
			t.PutDocument(Document{
				Name: "Install-App", ID: activation, Type: "Command", CreatedAt: at, Caller: "AKIA0123456789ABCDEF",
				LastVersion: 3, LatestVersion: 2, DefaultVersion: 1, Tags: map[string]string{"role": "web"},
				Shares: []DocumentShare{{AccountID: "123456789012", Version: "$DEFAULT"}},
			})
		},
		"document-count": func(t *Txn) { t.PutDocumentCount(DocumentCount{Documents: 7}) },
		"document-version": func(t *Txn) {
			t.PutNewDocumentVersion(DocumentVersion{
				DocumentID: activation, Number: 2, VersionName: "Release-2", DisplayName: "install", TargetType: "/AWS::EC2::Instance",
				Format: "JSON", SHA256: key, SchemaVersion: "2.2", Description: "what it does", PlatformTypes: []string{"Linux"},
				Requires: json.RawMessage(`[{"Name":"Other","Version":"1"}]`), CreatedAt: at, Caller: "root@" + node,
			}, []byte(`{"schemaVersion":"2.2"}`))
		},
		"invocation": func(t *Txn) {
			t.PutInvocation(Invocation{
				CommandID: command, NodeID: node, NodeName: "web1", RequestedAt: at, Status: "Success", StatusDetails: "Success",
				DispatchedAt: at, Cancelling: true, Sequence: 3, StartedAt: at, FinishedAt: later, Reason: "why",
				Plugins: []PluginResult{{
					Name: "runShellScript", Status: "Success", StatusDetails: "Success", ResponseCode: 0, StartedAt: at, FinishedAt: later,
					Stdout: "out", Stderr: "err", StdoutBytes: 3, StderrBytes: 3,
				}},
			})
		},
	}
	maps.Copy(examples, goldenPatchExamples(node, at, later))
	maps.Copy(examples, goldenWindowExamples(at, later))
	maps.Copy(examples, goldenAssociationExamples(node, at, later))
	return examples
}

func goldenNode(id, activation, key string, at time.Time) Node {
	return Node{
		ID: id, Name: "web1", ComputerName: "web1.example", PublicKey: key, PublicKeyDER: []byte{48, 89},
		IPAddress: "127.0.0.1", Address: "127.0.0.1:7947", GossipAddress: "127.0.0.1:7946", ActivationID: activation,
		IamRole: "role", RegisteredAt: at, MemberOnly: true, PlatformType: "Linux", PlatformName: "Debian GNU/Linux",
		PlatformVersion: "12", AgentVersion: "0.1.0", CertificateEnds: at.Add(168 * time.Hour),
		Tags: map[string]string{"role": "web"}, LastPing: at,
	}
}

func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	examples := goldenExamples()
	for kind, example := range examples {
		var txn Txn
		example(&txn)
		records := make([]goldenRecord, 0, len(txn.Ops))
		for _, op := range txn.Ops {
			records = append(records, goldenRecord{Key: op.Key, Value: op.Value, Deleted: op.Delete})
		}
		got, err := json.MarshalIndent(records, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		path := filepath.Join("testdata", "golden", kind+".json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("records of kind %s are now\n%s\nand were\n%s", kind, got, want)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(examples) {
		t.Errorf("%d golden files for %d examples: %v", len(files), len(examples), files)
	}
}

// What is in the golden files is read by today's code, whole.
func TestGoldenRecordsAreRead(t *testing.T) {
	t.Parallel()
	const (
		node       = "mi-0123456789abcdef0"
		command    = "8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f"
		activation = "1b2c3d4e-5f60-4718-8920-a1b2c3d4e5f6"
		key        = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		invocation = "0b7c1d2e-3f40-4152-8364-758697a8b9ca"
		access     = "AKIA0123456789ABCDEF"
	)
	r := memoryReader{}
	for kind := range goldenExamples() {
		data, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var records []goldenRecord
		if err := json.Unmarshal(data, &records); err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if !record.Deleted && string(record.Value) != "null" {
				r[record.Key] = record.Value
			}
		}
	}
	check := func(kind string, read func() (any, error)) {
		t.Helper()
		record, err := read()
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		// Written again, it is what it was.
		var txn Txn
		switch record := record.(type) {
		case Mesh:
			record.ModifyIndex = 0
			txn.PutMesh(record)
		case Roster:
			record.ModifyIndex = 0
			txn.PutRoster(record)
		case Keyring:
			txn.PutKeyring(record)
		case Node:
			txn.PutNode(record)
		case Activation:
			txn.PutActivation(record)
		case AccessKey:
			txn.PutAccessKey(record)
		case Answer:
			txn.PutAnswer(record)
		case SeenSignature:
			txn.PutSeenSignature(record)
		case Command:
			txn.PutNewCommand(record, CommandState{})
		case CommandState:
			txn.PutCommandState(record)
		case CommandCancel:
			txn.PutCommandCancel(record)
		case sweptCommand:
			txn.putSweptCommand(command, record)
		case Document:
			txn.PutDocument(record)
		case DocumentCount:
			txn.PutDocumentCount(record)
		case DocumentVersion:
			content, err := GetDocumentContent(r, record.DocumentID, record.Number)
			if err != nil || string(content) != `{"schemaVersion":"2.2"}` {
				t.Errorf("content %q, %v", content, err)
			}
			txn.PutNewDocumentVersion(record, content)
		case Invocation:
			txn.PutInvocation(record)
		case AuditEntry:
			txn.PutAudit(record)
		}
		if !sameJSON(t, txn.Ops[0].Value, r[txn.Ops[0].Key]) {
			t.Errorf("%s was\n%s\nand comes back as\n%s", kind, r[txn.Ops[0].Key], txn.Ops[0].Value)
		}
	}
	check("mesh", func() (any, error) { return GetMesh(r) })
	check("roster", func() (any, error) { return GetRoster(r) })
	check("keyring", func() (any, error) { return GetKeyring(r) })
	check("node", func() (any, error) { return GetNode(r, node) })
	check("node by key", func() (any, error) { return GetNodeByKey(r, key) })
	check("activation", func() (any, error) { return GetActivation(r, activation) })
	check("access-key", func() (any, error) { return GetAccessKey(r, access) })
	check("answer", func() (any, error) { return GetAnswer(r, access, invocation, key) })
	check("seen-signature", func() (any, error) { return GetSeenSignature(r, key) })
	check("swept-command", func() (any, error) {
		var s sweptCommand
		_, _, err := getRecord(r, sweptCommandPrefix+command, sweptCommandVersion, &s)
		return s, err
	})
	check("command", func() (any, error) { return GetCommand(r, command) })
	check("command-state", func() (any, error) { return GetCommandState(r, command) })
	check("command-cancel", func() (any, error) { return GetCommandCancel(r, command) })
	check("document", func() (any, error) { return GetDocument(r, "Install-App") })
	check("document-count", func() (any, error) { return CountDocuments(r) })
	check("document-version", func() (any, error) { return GetDocumentVersion(r, activation, 2) })
	check("invocation", func() (any, error) { return GetInvocation(r, command, node) })
	check("audit", func() (any, error) {
		var entry AuditEntry
		return entry, ScanAudit(r, time.Time{}, func(e AuditEntry) bool { entry = e; return false })
	})
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	c, _ := json.Marshal(x)
	d, _ := json.Marshal(y)
	return string(c) == string(d)
}

// memoryReader is a Reader of a map.
type memoryReader map[string]json.RawMessage

func (m memoryReader) Index() uint64 { return 1 }

func (m memoryReader) Get(key string) ([]byte, uint64, bool) {
	value, ok := m[key]
	if !ok {
		return nil, 0, false
	}
	return value, 0, true
}

func (m memoryReader) Scan(prefix, start string, fn func(string, []byte, uint64) bool) {
	var keys []string
	for key := range m {
		if key >= max(prefix, start) && len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !fn(key, m[key], 0) {
			return
		}
	}
}
