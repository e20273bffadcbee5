// Package pki is how the mesh names, trusts and keeps secrets: its CA and the
// certificates of its nodes, the mesh key that seals secrets at rest, the join
// token and the proof that a joiner knows an activation's code.
//
// Glossary. A node's identity is its id (mi- and 17 hex digits) together with its
// key: the key's fingerprint is the lower-case hex SHA-256 of its
// SubjectPublicKeyInfo. A certificate names mesh, role and node in its one URI,
// spiffe://<mesh id>/node/<node id> for members and /voter/ for voters and
// stand-bys. A chain is PEM, the node's certificate first, then the CA's. The
// mesh key is the AES-256 key that voters share; sealing binds a secret to its
// purpose, so that a sealed value cannot be moved to another place.
//
// Nothing here keeps state or knows the roster: whether a valid certificate may
// do something is decided in agent/peer.
package pki
