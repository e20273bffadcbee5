// Package peer is how nodes speak to each other: one TLS port shared by the API,
// the peers and Raft (told apart by ALPN), one client and one set of routes.
//
// The package proves who calls and whether that caller may use a route; what a
// call then does is the business of the [Handlers] that agent plugs in. Nothing
// here is executed on the word of gossip: an address may come from there, an
// identity only from a certificate and the roster.
//
// Glossary. The [Gate] keeps what this node knows of who counts: the roster and
// the highest term seen. A standing is what a certificate is worth under a roster
// (standing.go, pure). A link is one tracked connection, incoming or outgoing;
// each is judged anew when the roster changes and cut when its standing is gone.
// A purpose is what an outgoing connection is for; it decides which servers are
// believed. The fence is the term and epoch in every call from the leader.
//
// Goroutines. Server: one that accepts, one per handshake, net/http's for peers'
// connections; all end in [Server.Close]. Client: one that refreshes the roster
// when a voter turns up that the roster does not know, net/http's for pooled
// connections; all end in [Client.Close].
package peer
