package service

import (
	"os"
	"runtime/debug"
)

// gcPercent is how far the heap grows between two collections of garbage. Berth's
// processes hold some ten megabytes and allocate a hundred times that for a few
// thousand pods: with Go's 100 the collector took a tenth of their CPU time (measured
// with test/perf), and what 400 costs is some tens of megabytes.
const gcPercent = 400

// TuneMemory sets how often garbage is collected, unless GOGC says it. It is for
// whoever is the process, once, at its start. GOMEMLIMIT works as always.
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
