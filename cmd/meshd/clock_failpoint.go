//go:build failpoint

package main

import (
	"fmt"
	"os"
	"time"
)

// machineClock is wrong by what MESHD_CLOCK_OFFSET says ("+1h", "-87600h").
func machineClock() (func() time.Time, error) {
	text := os.Getenv("MESHD_CLOCK_OFFSET")
	if text == "" {
		return nil, nil
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("MESHD_CLOCK_OFFSET: %w", err)
	}
	return func() time.Time { return time.Now().Add(offset) }, nil
}
