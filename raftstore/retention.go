package raftstore

import (
	"errors"
	"strings"
	"time"
)

// sweptCommandPrefix marks commands that are gone for every reader while what is
// left of their invocations is deleted, lot by lot.
const (
	sweptCommandPrefix  = "swept-command/"
	sweptCommandVersion = 1
)

// sweptCommand has what the keys of its invocations need.
type sweptCommand struct {
	RequestedAt time.Time
}

func (t *Txn) putSweptCommand(id string, s sweptCommand) {
	t.Put(sweptCommandPrefix+id, encodeRecord(sweptCommandVersion, s))
}

// maxSweep is how many keys one transaction of a sweep deletes at most. It stays
// far below MaxTxnSize.
const maxSweep = 1000

// CommandSize is how many bytes the records of a command take: its own and those
// of its invocations.
func CommandSize(r Reader, id string) int64 {
	value, _, _ := r.Get(commandPrefix + id)
	size := int64(len(value))
	r.Scan(InvocationPrefix(id), "", func(_ string, value []byte, _ uint64) bool {
		size += int64(len(value))
		return true
	})
	return size
}

// BeginCommandSweep returns the transaction that takes an ended command out of
// every list and marks what is left for [SweepCommands]. It is empty for a command
// that is not there or has not ended.
func BeginCommandSweep(r Reader, id string) (Txn, error) {
	var t Txn
	state, err := GetCommandState(r, id)
	if errors.Is(err, ErrNotFound) || err == nil && state.FinishedAt.IsZero() {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	command, err := GetCommand(r, id)
	if err != nil {
		return t, err
	}
	t.Require(commandStatePrefix+id, state.ModifyIndex)
	t.putSweptCommand(id, sweptCommand{RequestedAt: command.RequestedAt})
	t.Delete(commandPrefix + id)
	t.Delete(commandStatePrefix + id)
	t.Delete(commandByTimePrefix + newestFirst(command.RequestedAt) + "/" + id)
	return t, t.dropAssociationExecution(r, id)
}

// SweepCommands returns the transaction that deletes the next lot of what marked
// commands have left; it is empty when there is nothing.
func SweepCommands(r Reader) (Txn, error) {
	var t Txn
	var failed error
	r.Scan(sweptCommandPrefix, "", func(key string, value []byte, _ uint64) bool {
		var swept sweptCommand
		if failed = decodeRecord(key, value, sweptCommandVersion, &swept); failed != nil {
			return false
		}
		id := strings.TrimPrefix(key, sweptCommandPrefix)
		r.Scan(InvocationPrefix(id), "", func(invocation string, _ []byte, _ uint64) bool {
			if len(t.Ops)+2 > maxSweep {
				return false
			}
			t.Delete(invocation)
			t.Delete(invocationByNodePrefix + strings.TrimPrefix(invocation, InvocationPrefix(id)) + "/" + newestFirst(swept.RequestedAt) + "/" + id)
			return true
		})
		if len(t.Ops)+2 > maxSweep {
			return false // more of it may be left
		}
		t.Delete(key)
		return true
	})
	return t, failed
}

// SweepAudit returns the transaction that deletes audit entries from before a
// time, oldest first; it is empty when there are none, and bounded in size.
func SweepAudit(r Reader, before time.Time) Txn {
	var t Txn
	limit := auditPrefix + before.UTC().Format(expiryKeyTimeFormat)
	r.Scan(auditPrefix, "", func(key string, _ []byte, _ uint64) bool {
		if key >= limit || len(t.Ops) >= maxSweep {
			return false
		}
		t.Delete(key)
		return true
	})
	return t
}
