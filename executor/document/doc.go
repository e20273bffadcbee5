// Package document has the documents of Systems Manager: it reads, checks and
// converts them, and resolves those that run. It is pure: the same content gives
// the same answer on every node.
package document
