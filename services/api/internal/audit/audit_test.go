package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/events"
)

// store keeps what it is given, but for the first faults.
type store struct {
	mu     sync.Mutex
	faults int
	kept   []string
}

func (s *store) Audit(_ context.Context, r events.AuditRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults > 0 {
		s.faults--
		return errors.New("away")
	}
	s.kept = append(s.kept, r.Request)
	return nil
}

func asked(request string) events.AuditRecord {
	return events.AuditRecord{Request: request, Silo: "silo1", Address: "10.0.0.1", Action: "get_pods", User: "alice@example.org", Status: 200}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults   int
		record   events.AuditRecord
		wantKept []string
		wantLost int
	}{
		"is kept":                         {record: asked("one"), wantKept: []string{"one"}},
		"is kept once the store is back":  {faults: attempts - 1, record: asked("one"), wantKept: []string{"one"}},
		"is given up, and counted":        {faults: 1000, record: asked("one"), wantLost: 1},
		"of an administrator":             {record: events.AuditRecord{Request: "one", Admin: true}, wantKept: []string{"one"}},
		"of a stranger is in the log":     {record: events.AuditRecord{Request: "one", Reason: events.Unauthorized}},
		"above the rate it is in the log": {record: events.AuditRecord{Request: "one", Silo: "silo1", Reason: events.RateLimited}},
		"of a silo that is denied":        {record: events.AuditRecord{Request: "one", Silo: "silo1", Denied: true, Reason: events.Forbidden}, wantKept: []string{"one"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, lost := &store{faults: tt.faults}, 0
				var log bytes.Buffer
				trail := New(s, zerolog.New(&log).Level(zerolog.InfoLevel), func() { lost++ })
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- trail.Run(ctx) }()
				trail.Record(tt.record)
				// The clock of the bubble runs until all tries are over.
				<-time.After((attempts + 1) * pause)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if d := cmp.Diff(tt.wantKept, s.kept); d != "" || lost != tt.wantLost {
					t.Errorf("lost %d, want %d; kept (-want +got):\n%s", lost, tt.wantLost, d)
				}
				var line map[string]any
				if err := json.Unmarshal(log.Bytes(), &line); err != nil || line["audit"] != true || line["request_id"] != "one" {
					t.Errorf("log = %q, %v", log.String(), err)
				}
			})
		})
	}
}

// TestFloodIsBounded: whatever comes in while nobody keeps it, Record does not block, and what is too
// much is counted. What waits at the end is kept.
func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	s, lost := &store{}, 0
	var log bytes.Buffer
	trail := New(s, zerolog.New(&log), func() { lost++ })
	const more = 10
	for range queued + more {
		trail.Record(asked("x"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trail.Run(ctx); err != nil {
		t.Error(err)
	}
	if lost != more || len(s.kept) != queued {
		t.Errorf("lost %d, kept %d; want %d and %d", lost, len(s.kept), more, queued)
	}
	if lines := bytes.Count(log.Bytes(), []byte("\n")); lines != queued+more {
		t.Errorf("%d lines, want %d", lines, queued+more)
	}
}

// TestStrangersAreSampled: a stranger does not fill the log.
func TestStrangersAreSampled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		trail := New(&store{}, zerolog.New(&log), func() { t.Error("lost") })
		for range 1000 {
			trail.Record(events.AuditRecord{Request: "x", Denied: true, Reason: events.Forbidden})
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines != spared {
			t.Errorf("%d lines, want %d", lines, spared)
		}
		// Those of a silo are not drowned by them, nor by another's, and bounded too.
		for _, silo := range []string{"silo1", "silo2"} {
			log.Reset()
			for range 1000 {
				trail.Record(events.AuditRecord{Request: "x", Silo: silo, Denied: true, Reason: events.Forbidden})
			}
			if lines := bytes.Count(log.Bytes(), []byte(silo)); lines != spared {
				t.Errorf("%d lines of %s, want %d", lines, silo, spared)
			}
		}
		if len(trail.queue) != 2*spared {
			t.Errorf("%d records are to be kept, want %d", len(trail.queue), 2*spared)
		}
	})
}

// TestLine has all members of a record but those that are empty.
func TestLine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	New(&store{}, zerolog.New(&log), nil).Record(events.AuditRecord{
		Request: "one", Silo: "silo1", Admin: true, Denied: true, Address: "10.0.0.1", Action: "clean_all_unused", Object: "10.0.7.7",
		User: "alice", Pod: "p", Command: "c", DryRun: true, Removed: 3, Status: 403, Reason: events.Forbidden, Took: 0.5,
	})
	var got map[string]any
	if err := json.Unmarshal(log.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"level": "info", "message": "Request answered", "audit": true, "request_id": "one", "silo": "silo1", "admin": true, "denied": true,
		"address": "10.0.0.1", "action": "clean_all_unused", "object": "10.0.7.7", "user_id": "alice", "pod_name": "p", "command_id": "c",
		"dry_run": true, "removed": 3.0, "status": 403.0, "reason": "FORBIDDEN", "took_seconds": 0.5,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("line (-want +got):\n%s", d)
	}
}

// TestManifest: what may be secret in the URL of a manifest is in no record.
func TestManifest(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"https://example.org/a/n.yaml":                     "https://example.org/a/n.yaml",
		"https://example.org/n.yaml?token=hidden#hidden":   "https://example.org/n.yaml",
		"https://user:hidden@example.org:8443/n.yaml?":     "https://example.org:8443/n.yaml",
		"https://hidden@example.org/n%20m.yaml":            "https://example.org/n%20m.yaml",
		"n.yaml?hidden":                                    "n.yaml",
		"https://exa\nmple.org/hidden":                     "(no URL)",
		"https://user:hid den@":                            "(no URL)",
		"https://example.org/" + strings.Repeat("n", 3000): "(longer than 2048 bytes)",
		"": "",
	} {
		if got := Manifest(given); got != want || strings.Contains(got, "hidden") {
			t.Errorf("Manifest(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	ctx, note := WithNote(t.Context())
	SetCommand(ctx, "c1")
	SetCommand(t.Context(), "nowhere")
	if note.Command() != "c1" {
		t.Errorf("command = %q", note.Command())
	}
}
