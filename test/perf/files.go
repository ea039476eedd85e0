package main

import (
	"fmt"
	"syscall"
)

// spareFiles is what the process needs besides the connections of the load.
const spareFiles = 500

// enoughFiles returns an error if this process may not have as many connections
// open at once, both ends of each.
func enoughFiles(connections int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	// Go has raised the limit as far as it may be raised.
	if need := uint64(2*connections + spareFiles); limit.Cur < need {
		return fmt.Errorf("%d connections need %d open files, and %d are allowed: raise the limit (ulimit -Hn %d) or ask for fewer",
			connections, need, limit.Cur, need)
	}
	return nil
}
