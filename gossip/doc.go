// Package gossip knows who is there: membership, failure detection and the tags
// of the living, on hashicorp/memberlist (SWIM with Lifeguard).
//
// Glossary. A member is a node this one has heard of: alive, failed (it no
// longer answers) or left (it said goodbye). It stays listed until it is
// forgotten. The metadata is what a member announces about itself in each alive
// message: under 210 bytes. The tags of a node come from the store ([Gossip.SetTags]
// on nodes that hold it) with a version; the higher version wins everywhere. A
// peer is a member as remembered in peers.json. A seed is an address given by
// the caller, tried for as long as nobody alive is there. A push/pull is one TCP
// exchange of everything two nodes know.
//
// Gossip tells where a node is and whether it answers, never who it is: the key
// is the mesh's common secret, and whoever holds it can announce any name.
// Nothing may be executed on the word of this package.
//
// Callbacks of memberlist run while it holds its locks. They take this package's
// one mutex for a moment, copy, and wake a goroutine; nothing here calls
// memberlist while holding that mutex. So every method may be called from
// anywhere, [Config.Admit] included.
package gossip
