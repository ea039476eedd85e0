package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// TestBesidesOfAProjectThatDoesNotRun: who asks why hears what was refused, and when it is tried again.
func TestBesidesOfAProjectThatDoesNotRun(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		row  client.ProjectRow
		want []string
	}{
		"nothing is wrong": {client.ProjectRow{State: "opened"}, nil},
		"refused":          {client.ProjectRow{State: "opened", Error: "TEMPLATE_INVALID: no"}, []string{"it does not run where it should: TEMPLATE_INVALID: no"}},
		"backs off": {
			client.ProjectRow{AlwaysRunning: true, Error: "IMAGE_PULL", Failures: 3, RetryAt: at},
			[]string{"it does not run where it should: IMAGE_PULL", "failures in a row: 3; it is tried again at 2026-01-02T03:04:05Z"},
		},
		"comes back": {client.ProjectRow{AlwaysRunning: true, RetryAt: at}, []string{"it is tried again at 2026-01-02T03:04:05Z"}},
		"given up":   {client.ProjectRow{AlwaysRunning: true, Error: "GAVE_UP", Failures: 5}, []string{"it does not run where it should: GAVE_UP"}},
	} {
		got := besides(client.Project{Event: "gone", Database: client.ProjectDetails{Project: &test.row}})
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
