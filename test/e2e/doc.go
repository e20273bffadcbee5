// Package e2e tests the whole program: real processes, SIGKILL, the real AWS CLI.
// Its tests need the build tag e2e; `make e2e` runs them.
package e2e
