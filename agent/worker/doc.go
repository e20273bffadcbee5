// Package worker is this machine's hands: it accepts a job once, runs it, keeps
// its outputs and reports what became of it until the mesh has it.
//
// Glossary. A job is one command on this node; its id is the command's. A job is
// known from the moment that its acceptance is in the journal, which is before
// Accept answers. It waits in the queue, runs through its steps, and is finished
// for ever in a terminal state. The outbox is what the journal knows and the mesh
// does not: every job whose newest sequence is not acknowledged. Package executor
// has the journal and the steps; this package decides what is accepted, when it
// runs, and who is told.
package worker
