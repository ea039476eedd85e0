package app

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestBeat: what a leader says can be read by those who look after it.
func TestBeat(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	a := New(options(t, server))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	beats := make(chan []byte, 100)
	stop, err := eventstest.NewBus(t, server, "test").OnHeartbeat(func(data []byte) {
		select {
		case beats <- data:
		default: // One is enough.
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	begun := time.Now().UTC().Add(-time.Minute)
	l := &leader{app: a}
	eventstest.Eventually(t, "a heartbeat comes", func() bool {
		if err := l.beat(begun); err != nil {
			t.Log(err) // Not connected yet.
		}
		return len(beats) > 0
	})
	got, err := events.ParseHeartbeat(<-beats)
	if err != nil {
		t.Fatal(err)
	}
	want := events.Heartbeat{Cluster: "main", Instance: a.Instance, Version: a.Version, Time: time.Now(), LeadingSince: begun}
	if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Minute)); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}
}
