package events_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	want := events.Heartbeat{
		Cluster: "main", Instance: "watcher-1", Version: "1.2", Time: now, LeadingSince: now.Add(-time.Hour), WatchAge: 1.25,
	}
	wire, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const pinned = `{"cluster":"main","instance":"watcher-1","version":"1.2","time":"2026-01-02T03:04:05.0000006Z",` +
		`"leading_since":"2026-01-02T02:04:05.0000006Z","watch_age_seconds":1.25}`
	if diff := cmp.Diff(pinned, string(wire)); diff != "" {
		t.Errorf("wire form (-want +got):\n%s", diff)
	}
	got, err := events.ParseHeartbeat(wire)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}
}

func TestHeartbeatOfAnotherVersion(t *testing.T) {
	t.Parallel()
	got, err := events.ParseHeartbeat([]byte(`{"instance":"w","watch_age_seconds":0.5,"mood":"good"}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events.Heartbeat{Instance: "w", WatchAge: 0.5}, got); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}
}

func TestNoHeartbeat(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "alive", "{}", `{"instance":1}`} {
		if _, err := events.ParseHeartbeat([]byte(text)); !errors.Is(err, events.ErrMalformed) {
			t.Errorf("%q: error %v, want ErrMalformed", text, err)
		}
	}
	if _, err := (events.Heartbeat{Instance: "w", WatchAge: math.NaN()}).Marshal(); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("error %v, want ErrMalformed", err)
	}
}
