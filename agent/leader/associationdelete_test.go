package leader

import (
	"errors"
	"testing"

	"fleetmesh/raftstore"
)

// Once an association is deleted no node is told to comply with it, at the leader's
// next look and not only after a sweep.
func TestADeletedAssociationIsForgottenAtOnce(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 1)
	m.put(modelAssociation, map[string]any{"Name": "State", "Targets": []map[string]any{{"Key": "InstanceIds", "Values": []string{"*"}}}})
	m.work()
	node := m.join()
	m.work()
	if c, err := raftstore.GetCompliance(m.memory, complianceAssociation, node); err != nil || c.Compliant.Unspecified != 1 {
		t.Fatalf("before it was deleted: %+v, %v", c, err)
	}
	record, err := raftstore.GetAssociation(m.memory, modelAssociation)
	if err != nil {
		t.Fatal(err)
	}
	due := raftstore.AssociationDue{AssociationID: modelAssociation, At: m.now.Add(m.skew), Cause: raftstore.AssociationTargets + "1"}
	var txn raftstore.Txn
	txn.DeleteAssociation(record)
	txn.PutAssociationDue(due)
	m.memory.must(txn)
	m.look()
	m.work()
	if s, err := raftstore.GetAssociationTarget(m.memory, modelAssociation, node); !errors.Is(err, raftstore.ErrNotFound) {
		t.Errorf("how it stood on the node is known still: %+v, %v", s, err)
	}
	if c, err := raftstore.GetCompliance(m.memory, complianceAssociation, node); err != nil || c.Compliant.Unspecified != 0 {
		t.Errorf("the node complies with it still: %+v, %v", c, err)
	}
	if err := raftstore.ScanAssociationsDue(m.memory, func(d raftstore.AssociationDue) bool {
		t.Errorf("due still: %+v", d)
		return true
	}); err != nil {
		t.Error(err)
	}
}
