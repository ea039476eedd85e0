package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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

// TestOutage: a stream that has never been there is given up like anything else; one
// that breaks is waited for, with one line on stderr, also for a program.
func TestOutage(t *testing.T) {
	t.Parallel()
	reset := fmt.Errorf("%w: %w", client.ErrNoAnswer, errors.New("connection reset"))
	refused := fmt.Errorf("%w: %w", client.ErrNoAnswer, &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	retries := func(count int, err error) []error { return slices.Repeat([]error{err}, count) }
	heard := []error{nil}
	tests := map[string]struct {
		happens     []error // Nil for an event.
		json, quiet bool
		code        int // 0 for not given up.
		lines       int
	}{
		"nobody there":              {retries(firstTries, refused), false, false, ExitUnavailable, 1},
		"nobody there, as JSON":     {retries(firstTries, refused), true, false, ExitUnavailable, 0},
		"nobody there yet":          {slices.Concat(retries(firstTries-1, refused), heard, retries(2, refused)), false, false, 0, 2},
		"lost and lost":             {retries(firstTries, reset), false, false, ExitUnavailable, firstTries - 1},
		"ends and ends":             {retries(firstTries, client.ErrStreamEnded), true, false, ExitUnavailable, 0},
		"busy":                      {retries(firstTries, &client.Problem{Status: 503, Reason: "UNAVAILABLE"}), true, false, ExitUnavailable, 0},
		"not yet":                   {retries(firstTries-1, reset), true, false, 0, 0},
		"it breaks":                 {slices.Concat(heard, retries(20, refused)), false, false, 0, 1},
		"it breaks, as JSON":        {slices.Concat(heard, retries(20, refused)), true, false, 0, 1},
		"it breaks, quietly":        {slices.Concat(heard, retries(20, refused)), false, true, 0, 0},
		"it breaks twice":           {slices.Concat(heard, retries(2, refused), heard, retries(2, reset)), true, false, 0, 2},
		"it is stopped and started": {slices.Concat(heard, retries(20, client.ErrStreamEnded)), false, false, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			a := &app{Process: Process{Stderr: &stderr}, json: tt.json, quiet: tt.quiet}
			code := 0
			o := &outage{app: a, display: a.newDisplay(""), began: time.Now(), giveUp: func(why error) { code = failed(t.Context(), "follow", why).code }}
			for _, err := range tt.happens {
				if o.over(err); err != nil && code == 0 {
					o.retry(err, time.Second)
				}
			}
			if lines := strings.Count(stderr.String(), "\n"); code != tt.code || lines != tt.lines {
				t.Errorf("code %d, want %d; %d lines, want %d:\n%s", code, tt.code, lines, tt.lines, stderr.String())
			}
		})
	}
}
