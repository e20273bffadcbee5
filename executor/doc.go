// Package executor has the documents of Systems Manager and what runs them.
//
// A document (ParseDocument) has parameters and steps; parsing, checking and
// resolving are pure, and the same on every node. A step names an action, which a
// plugin of this node executes, and its inputs, in which {{ name }} stands for a
// parameter. Given a command's parameters, Resolve makes tasks of the steps: what
// is ready to run. Built-in documents are part of the program (BuiltIns).
//
// A job is one command on this node, with its document. The Runner takes its
// tasks one after another: the journal says, durably, that a task starts before it
// does, so nothing is ever run twice. A script is a process in its own session,
// started and watched by a shim, which is this program run with ShimCommand and
// stays when meshd is restarted: it writes the outputs and the exit to files in
// the step's directory.
package executor
