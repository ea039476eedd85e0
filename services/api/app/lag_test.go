package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// lagging is the backend of a replica that has heard of nothing since the first
// life of the pod came to an event. It trusts its table for some seconds.
func lagging(t *testing.T, last events.Type) (*backend, *natsbus.Bus, *eventstest.Server) {
	t.Helper()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "test")
	eventstest.Bring(t, bus, pod, user, last)
	eventstest.MarkComplete(t, bus)
	settings := config.Default()
	settings.TimeoutDelete = 200 * time.Millisecond
	b := &backend{bus: bus, table: bus.NewTable(true, nil), config: settings, waits: patient(), draining: context.Background()}
	reading, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- b.table.Run(reading) }()
	eventstest.Eventually(t, "the table is ready", func() bool { return b.table.Ready() == nil })
	if e, ok := b.table.Pod(pod); !ok || e.Event != last {
		t.Fatalf("the table has %q", e.Event)
	}
	stop()
	if err := eventstest.Receive(t, "the end of the reader", ended); err != nil {
		t.Fatal(err)
	}
	return b, bus, server
}

// outdated is [lagging] where the pod has had another life since, whose generation it returns.
func outdated(t *testing.T, knows, last events.Type) (b *backend, server *eventstest.Server, generation string) {
	t.Helper()
	for range 10 {
		var bus *natsbus.Bus
		b, bus, server = lagging(t, knows)
		generation = nextLife(t, bus, last)
		if b.table.Ready() == nil {
			return b, server, generation
		}
	}
	t.Fatal("the machine is too slow: the table is never trusted for long enough")
	return nil, nil, ""
}

// nextLife ends the life of the pod and brings another one of the same name to
// an event.
func nextLife(t *testing.T, bus *natsbus.Bus, last events.Type) string {
	t.Helper()
	entry, err := bus.Last(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	add := func(facts ...events.Fact) {
		for _, fact := range facts {
			fact.Generation = entry.Generation
			if fact.Kind == events.FactClaim {
				fact.Record.Cluster = bus.Cluster()
			}
			if entry, _, err = bus.AppendAfter(t.Context(), entry, pod, fact); err != nil {
				t.Fatal(err)
			}
		}
	}
	if entry.Event != events.Gone {
		add(eventstest.Delete(""), eventstest.Gone(""))
	}
	for _, fact := range eventstest.Life(pod, user, "later", "", "uid-2") {
		if add(fact); entry.Event == last {
			return entry.Generation
		}
	}
	t.Fatalf("no pod comes to %q on the straight way", last)
	return ""
}

// TestLaggingReplica: a name was used again, and this replica does not know. What
// it says is about the pod that there is.
func TestLaggingReplica(t *testing.T) {
	t.Parallel()
	ready := func(ctx context.Context, b *backend) (bool, error) { return b.AwaitReady(ctx, user, pod) }
	gone := func(ctx context.Context, b *backend) (bool, error) { return b.AwaitGone(ctx, user, pod) }
	for name, tt := range map[string]struct {
		knows, last events.Type
		ask         func(context.Context, *backend) (bool, error)
		want        bool
	}{
		"ready, the earlier was made":         {events.Running, events.Ready, ready, true},
		"ready, the earlier is gone":          {events.Gone, events.Ready, ready, true},
		"ended, the earlier was ready":        {events.Ready, events.Ended, ready, false},
		"being deleted, the earlier is gone":  {events.Gone, events.Deleting, gone, false},
		"being deleted, the earlier was, too": {events.Deleting, events.Deleting, gone, false},
		"gone, the earlier was ready":         {events.Ready, events.Gone, gone, true},
		"ready, the earlier was deleted":      {events.Deleting, events.Ready, gone, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _, _ := outdated(t, tt.knows, tt.last)
			if got, err := tt.ask(t.Context(), b); err != nil || got != tt.want {
				t.Errorf("%t, %v; want %t", got, err, tt.want)
			}
		})
	}
}

// TestLaggingReplicaDeletes the pod that there is.
func TestLaggingReplicaDeletes(t *testing.T) {
	t.Parallel()
	for _, knows := range []events.Type{events.Running, events.Ready, events.Deleting, events.Gone} {
		t.Run(string(knows), func(t *testing.T) {
			t.Parallel()
			b, server, generation := outdated(t, knows, events.Ready)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- b.Delete(ctx, user, pod) }()
			var queued []events.Command
			eventstest.Eventually(t, "the delete is queued", func() bool {
				queued = eventstest.Queued(t, server, events.StageDelete)
				return len(queued) > 0
			})
			cancel()
			if err := eventstest.Receive(t, "the end of the wait", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("%v; nobody deletes it here", err)
			}
			if len(queued) != 1 || queued[0].Generation != generation {
				t.Errorf("queued %+v, want a delete of %s", queued, generation)
			}
		})
	}
}
