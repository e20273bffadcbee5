package raftstore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

const (
	goldenAssociation = "6f1e2d3c-4b5a-4697-8877-665544332211"
	goldenExecution   = "9b8a7c6d-5e4f-5321-8abc-def012345678"
)

func goldenAssociationExamples(node string, at, later time.Time) map[string]func(*Txn) {
	return map[string]func(*Txn){
		"association": func(t *Txn) {
			t.PutAssociation(Association{
				ID: goldenAssociation, Version: 2, Input: json.RawMessage(`{"Name":"AWS-RunShellScript"}`), DocumentName: "AWS-RunShellScript",
				CreatedAt: at, UpdatedAt: later, ScheduledSince: at, Caller: "root@" + node, Tags: map[string]string{"role": "web"},
				Reported: &AssociationReport{Name: "Success", Message: "m", AdditionalInfo: "i", Date: at},
			})
		},
		"association-count": func(t *Txn) { t.PutAssociationCount(AssociationCount{Associations: 7}) },
		"association-version": func(t *Txn) {
			t.PutNewAssociationVersion(AssociationVersion{
				AssociationID: goldenAssociation, Number: 2, Input: json.RawMessage(`{"Name":"AWS-RunShellScript"}`), CreatedAt: later, Caller: "root@" + node,
			})
		},
		"association-state": func(t *Txn) {
			t.PutAssociationState(AssociationState{
				ID: goldenAssociation, NextDue: later, Version: 2, DocumentVersion: "1", ExecutionID: goldenExecution, RunAt: at, SucceededAt: at,
				Counts: map[string]int{"Success": 3},
			})
		},
		"association-due": func(t *Txn) {
			t.PutAssociationDue(AssociationDue{AssociationID: goldenAssociation, At: later, Cause: AssociationScheduled})
		},
		"association-execution": func(t *Txn) {
			t.PutNewAssociationExecution(AssociationExecution{
				ID: goldenExecution, AssociationID: goldenAssociation, Version: 2, DocumentVersion: "1", Cause: AssociationScheduled, ScheduledFor: at,
				CreatedAt: later, NodeIDs: []string{node}, NoCommand: true, Superseded: true, Reason: "why", Status: "Pending", DetailedStatus: "Pending",
				Counts: map[string]int{"Success": 1}, Seen: 9,
			})
		},
		"association-execution-ended": func(t *Txn) {
			t.PutAssociationExecution(AssociationExecution{
				Meta: Meta{ModifyIndex: 9}, ID: goldenExecution, AssociationID: goldenAssociation, Version: 2, Cause: "version-2", CreatedAt: at,
				Status: "Success", DetailedStatus: "Success", FinishedAt: later,
			})
		},
		"association-target": func(t *Txn) {
			t.PutAssociationTarget(AssociationTarget{
				AssociationID: goldenAssociation, NodeID: node, Version: 2, DocumentVersion: "1", ExecutionID: goldenExecution, ExecutedAt: at,
				Status: "Failed", DetailedStatus: "Failed", StartedAt: at, SucceededAt: at, ReturnedAt: at, ErrorCode: "1", Summary: "why",
			})
		},
		"association-owed": func(t *Txn) {
			t.PutAssociationOwed(AssociationOwed{NodeID: node, AssociationID: goldenAssociation, Version: 2, Since: at, Why: "the node was away"})
		},
		"association-nodes": func(t *Txn) { t.PutAssociationNodes(AssociationNodes{Index: 9}) },
		"association-start": func(t *Txn) { t.PutAssociationStart(AssociationStart{NodeID: node, Start: 1790000000000}) },
		"swept-association": func(t *Txn) {
			t.DeleteAssociation(Association{Meta: Meta{ModifyIndex: 9}, ID: goldenAssociation})
		},
	}
}

// What is in the golden files of associations is read by today's code, whole.
func TestGoldenAssociationRecordsAreRead(t *testing.T) {
	t.Parallel()
	const node = "mi-0123456789abcdef0"
	at := time.Date(2026, 11, 23, 19, 30, 0, 123456789, time.UTC)
	r := memoryReader{}
	examples := goldenAssociationExamples(node, at, at.Add(time.Hour))
	for kind := range examples {
		data, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var records []goldenRecord
		if err := json.Unmarshal(data, &records); err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if !record.Deleted {
				r[record.Key] = record.Value
			}
		}
	}
	again := func(kind string, err error, put func(*Txn)) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		var want, got Txn
		examples[kind](&want)
		put(&got)
		if !reflect.DeepEqual(got.Ops, want.Ops) {
			t.Errorf("%s comes back as\n%v\nand was\n%v", kind, got.Ops, want.Ops)
		}
	}
	a, err := GetAssociation(r, goldenAssociation)
	again("association", err, func(t *Txn) { t.PutAssociation(a) })
	v, err := GetAssociationVersion(r, goldenAssociation, 2)
	again("association-version", err, func(t *Txn) { t.PutNewAssociationVersion(v) })
	s, err := GetAssociationState(r, goldenAssociation)
	again("association-state", err, func(t *Txn) { t.PutAssociationState(s) })
	e, err := GetAssociationExecution(r, goldenExecution)
	again("association-execution", err, func(t *Txn) { t.PutNewAssociationExecution(e) })
	target, err := GetAssociationTarget(r, goldenAssociation, node)
	again("association-target", err, func(t *Txn) { t.PutAssociationTarget(target) })
	owed, err := GetAssociationOwed(r, node, goldenAssociation)
	again("association-owed", err, func(t *Txn) { t.PutAssociationOwed(owed) })
	nodes, err := GetAssociationNodes(r)
	again("association-nodes", err, func(t *Txn) { t.PutAssociationNodes(nodes) })
	err = ScanAssociationStarts(r, func(s AssociationStart) bool {
		again("association-start", nil, func(t *Txn) { t.PutAssociationStart(s) })
		return true
	})
	if err != nil {
		t.Error(err)
	}
	err = ScanAssociationsDue(r, func(d AssociationDue) bool {
		again("association-due", nil, func(t *Txn) { t.PutAssociationDue(d) })
		return true
	})
	if err != nil {
		t.Error(err)
	}
	claim, err := GetAssociationClaim(r, goldenAssociation, AssociationClaimName(AssociationScheduled, at))
	if err != nil || claim.ExecutionID != goldenExecution {
		t.Errorf("claim %+v, %v", claim, err)
	}
}
