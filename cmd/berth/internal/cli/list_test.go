package cli

import (
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[time.Duration]string{
		11*time.Second + 900*time.Millisecond:       "11s",
		3*time.Minute + 4*time.Second:               "3m04s",
		2*time.Hour + 3*time.Minute + 4*time.Second: "2h03m",
		100 * time.Hour:                             "4d4h",
		-time.Second:                                "",
		0:                                           "0s",
	}
	for ago, want := range tests {
		if got := age(now.Add(-ago), now); got != want {
			t.Errorf("age of %s = %q, want %q", ago, got, want)
		}
	}
	if got := age(time.Time{}, now); got != "" {
		t.Errorf("age of a pod that has not started = %q", got)
	}
}
