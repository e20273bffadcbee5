// Package raftstore keeps the mesh's truth: a transactional key-value store,
// replicated by Raft and kept in bbolt, and one file per kind of record with
// its struct, keys, indexes and typed queries.
//
// Glossary. An entry is one Raft log entry and holds one [Txn]: puts and
// deletes with preconditions, applied all or nothing. The modify index of a key
// is the Raft index of the entry that wrote it last. A record is the versioned
// JSON envelope kept under a key. A view is a read transaction: one consistent
// moment of the whole store; a confirmed view is one that shows all that was
// acknowledged before. A server is a node that holds the store, a voter or a
// stand-by. A reign is one time of leading, from the term's barrier on. A verdict
// is what became of an entry when it was applied; that a precondition did not
// hold is one.
//
// Applying decides nothing. Ids, times and randomness are made by whoever
// proposes, so every replica of every version computes the same state.
// Decisions (what runs where, who votes) live in agent/leader.
package raftstore
