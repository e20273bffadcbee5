// Package patcher brings a machine's packages to what a patch baseline approves.
//
// The machine's own package manager resolves and installs (Manager: apt, dnf, yum,
// zypper). What it offers and what is installed is an Inventory; Evaluate, pure,
// makes of it and of a Baseline the state of each patch with the reason. Run does
// one operation of AWS-RunPatchBaseline, Scan or Install, and returns its Report.
// It runs in a process of its own, outside of the daemon, as root.
package patcher
