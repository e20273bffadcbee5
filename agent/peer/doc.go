// Package peer is how nodes speak to each other: one TLS port shared by the API,
// the peers and Raft (told apart by ALPN), one client and one set of routes.
//
// The package proves who calls and whether that caller may use a route; what a
// call then does is the business of the [Handlers] that agent plugs in. Nothing
// here is executed on the word of gossip: an address may come from there, an
// identity only from a certificate and the roster.
package peer
