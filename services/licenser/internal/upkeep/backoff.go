package upkeep

import (
	"cmp"
	"fmt"
	"time"

	"berth/pkg/events"
)

// The delays before a project that is to run always is started again.
const (
	firstDelay = 10 * time.Second
	// MostDelay is the longest of them.
	MostDelay = 10 * time.Minute
)

// Backoff is how long to wait after so many failures in a row, before chance has its say: 10 s, doubling
// up to [MostDelay].
func Backoff(failures int) time.Duration {
	return min(firstDelay<<min(max(failures-1, 0), 10), MostDelay)
}

// Jitter takes a delay and a random number from [0, 1), and returns up to a fifth more, so
// that what died together does not come back together.
func Jitter(delay time.Duration, chance float64) time.Duration {
	return delay + time.Duration(chance*float64(delay)/5)
}

// Failures is how many failures in a row there are with one more: that of a pod that was ready from
// readyAt, zero for never, until it ended. One that was ready for as long as the last delay
// was no failure of its start, and the count begins again.
func Failures(before int, readyAt, ended time.Time) int {
	if !readyAt.IsZero() && ended.Sub(readyAt) >= Backoff(before) {
		return 1
	}
	return before + 1
}

// GaveUp is what is said of a project that is not started again.
func GaveUp(failures int, last string) string {
	return fmt.Sprintf("%s: the project is to run always, and has failed %d times in a row, the last time: %s. Mend that, and start it again",
		events.GaveUp, failures, cmp.Or(last, "it could not be started"))
}
