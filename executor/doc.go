// Package executor runs documents.
//
// A step of a document names an action, which a plugin of this node executes, and
// its inputs. The package document makes tasks of the steps of a command: what is
// ready to run.
//
// A job is one command on this node, with its document. The Runner takes its
// tasks one after another: the journal says, durably, that a task starts before it
// does, so nothing is ever run twice. A script is a process in its own session,
// started and watched by a shim, which is this program run with ShimCommand and
// stays when meshd is restarted: it writes the outputs and the exit to files in
// the step's directory.
package executor
