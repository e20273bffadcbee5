// Package api is the API of the mesh as clients see it: Systems Manager's wire
// protocol on every node, and the operations behind it on the leader.
//
// A request takes this way:
//
//	serve.go      HTTP in, answer out; on the local socket without a key
//	request.go    which operation does it ask for (pure)
//	route.go      is this node the leader? else send it on, as it came
//	lead.go       on the leader: who asks, may they, is the input right,
//	              was it answered before; then the handler, then the commit
//	operation.go  the table: one entry per operation
//
// Glossary. The entry node is the one that a client talks to; it forwards the raw
// request, so the leader sees the client's own signature. A call is one request
// on the leader together with one confirmed moment of the store. A handler is a
// method of call: it reads that moment and adds to the call's transaction, and
// does neither wait nor write; so it can run again when the moment was overtaken.
// An answer is what a write answered, kept with the write, so that a repetition
// of the request gets it again. A repetition has the same access key,
// amz-sdk-invocation-id and body; a request with a signature seen before that is
// no repetition is a replay and refused.
//
// One file per noun has the handlers: command, invocation, node, activation,
// enrolment, tag, document, mesh, watch, output, keyring. Filters, targets, pages
// and advice are pure and in files of their own.
package api
