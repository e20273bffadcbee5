//go:build !failpoint

package main

import "time"

// machineClock is what the node takes its time from; nil is the system's.
func machineClock() (func() time.Time, error) { return nil, nil }
