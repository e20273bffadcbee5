// Package leader is what only the leader does: it decides what runs where and
// when, who votes, and it tells all nodes whose word counts.
//
// Glossary. A term is one reign of this node; everything here lives within one
// and ends with it. A target is one node of a command. A target is open until its
// invocation is terminal, and in flight from the commit that starts it until then.
// A delivery is what this leader knows about how far the job of an invocation in
// flight has come to its node; it is never stored, since a new leader finds it out
// by asking. A link is the row of deliveries for one node; one call at a time goes
// over it. A round is: look at what happened, decide, commit. A plan is the next
// single step of the quorum.
//
// Decisions are pure functions, one file each: targets.go, rate.go, aggregate.go,
// report.go, cancel.go, expiry.go, voters.go, rotation.go, windowdecide.go,
// windowplan.go. Loops around them only read, commit and call.
//
// Goroutines, all started by [Leader.Run] and ended before it returns: the engine
// (dispatch.go), the only writer of command states and invocations; one for each
// call to a node in flight, bounded by [Settings]; the voters' loop; the pusher
// and its calls; the loops of window.go, lastping.go and sweep.go.
package leader
