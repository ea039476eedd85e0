package cli

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// untilWritten is an output that ends the command with its first line.
type untilWritten struct {
	strings.Builder

	cancel context.CancelFunc
}

func (u *untilWritten) Write(b []byte) (int, error) {
	defer u.cancel()
	return u.Builder.Write(b)
}

// TestPodsEvents: a line, or an object, for each thing that happens.
func TestPodsEvents(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: pod\nid: 1-9\ndata: {\"name\":\"p\",\"user_id\":\"alice\",\"event\":\"waiting\",\"reason\":\"PULLING\","+
			"\"created_at\":\"2026-01-02T03:04:05Z\",\"updated_at\":\"2026-01-02T03:04:06Z\",\"position\":\"1-9\"}\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	tests := map[string]struct{ flag, want string }{
		"for people": {"--quiet", "2026-01-02T03:04:06Z  p                               alice                     waiting    PULLING\n"},
		"for programs": {"--json", `{"kind":"pod","position":"1-9","pod":{"pod_name":"p","name":"p","user_id":"alice","generation":"","event":"waiting","reason":"PULLING",` +
			`"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:06Z","position":"1-9"}}` + "\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &untilWritten{cancel: cancel}
			code := Run(ctx, Process{Args: []string{"pods", "events", "--user", "alice", "--url", server.URL, tt.flag}, Stdout: out, Stderr: io.Discard})
			if d := cmp.Diff(tt.want, out.String()); d != "" || code != ExitOK {
				t.Errorf("code %d, output (-want +got):\n%s", code, d)
			}
		})
	}
}

// TestWhy has the sentence about a pod, for each way in which it may be.
func TestWhy(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	phase := func(event, reason, message string) client.Phase {
		return client.Phase{Event: event, Reason: reason, Message: message, Started: at, Duration: 61}
	}
	claimed := phase("claimed", "", "")
	tests := map[string]struct {
		phases []client.Phase
		want   string
	}{
		"waits": {
			[]client.Phase{claimed, phase("waiting", "UNSCHEDULABLE", "0/3 nodes")},
			"p is waiting for 1m01s: UNSCHEDULABLE: 0/3 nodes (no node can take the pod; the message is the scheduler's)",
		},
		"is ready":  {[]client.Phase{claimed, phase("ready", "", "")}, "p is ready for 1m01s"},
		"has ended": {[]client.Phase{phase("ready", "", ""), phase("ended", "COMPLETED", "")}, "p has ended: COMPLETED (the containers ended by themselves, without an error)"},
		"failed, and is gone": {
			[]client.Phase{claimed, phase("failed", "X", "m"), phase("deleting", "X", "m"), phase("gone", "X", "m")}, "p is gone; it failed at 2026-01-02T03:04:05Z: X: m",
		},
		"deleted outside": {
			[]client.Phase{phase("ready", "", ""), phase("deleting", "DELETED_OUTSIDE", ""), phase("gone", "", "")},
			"p is gone; it was deleted at 2026-01-02T03:04:05Z: DELETED_OUTSIDE (somebody deleted the pod in Kubernetes, not through Berth)",
		},
		"deleted":                               {[]client.Phase{phase("ready", "", ""), phase("deleting", "", ""), phase("gone", "", "")}, "p is gone: its user, or the silo for it, asked for that"},
		"a message that would steer a terminal": {[]client.Phase{phase("waiting", "X", "\x1b[31m")}, "p is waiting for 1m01s: X: \uFFFD[31m"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why, now := decisive(client.Timeline{Phases: tt.phases})
			if d := cmp.Diff(tt.want, sentence("p", why, now)); d != "" {
				t.Errorf("sentence (-want +got):\n%s", d)
			}
		})
	}
}
