// Package archtest holds the rules of the architecture as tests: which package
// may import which, and that each tells what it is for.
package archtest
