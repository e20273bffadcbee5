// Package meshapi is the types and the client of the Mesh.* operations: what
// Systems Manager has no operation for. They travel as SSM's do (AWS JSON 1.1,
// X-Amz-Target: Mesh.<Operation>, SigV4 or the local socket).
package meshapi
