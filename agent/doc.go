// Package agent is one node of the mesh: it builds, owns, starts and stops every
// part, and knows nothing about what the parts decide.
//
// Glossary. A node's directory holds its [Config], its [Identity] (key,
// certificate, the mesh's CA; on voters and stand-bys also the mesh key), the
// roster and highest term (peer's gate), gossip's peers and keys, the store
// (voters and stand-bys only) and the worker's journal. [Init] makes a directory
// and with it a mesh; [Join] makes one that belongs to a mesh; [Open] runs one.
// Roles are found, not installed: a node holds the store from the moment that a
// leader promotes it until one demotes it.
package agent
