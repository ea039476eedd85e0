package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// TestAfter: a scope's records after a position, and nobody else's.
func TestAfter(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "test")
	created, err := bus.Created(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := eventstest.Bring(t, bus, "a", "alice", events.Gone)
	eventstest.Bring(t, bus, "a", "bob", events.Licensed)
	eventstest.Bring(t, bus, "b", "alice", events.Claimed)
	tests := map[string]struct {
		after uint64
		scope natsbus.Scope
		limit int
		want  []string
	}{
		"a name and user":   {first.Sequence - 2, natsbus.Scope{Pod: "a", User: "alice"}, 100, []string{"a alice deleting", "a alice gone"}},
		"the other user":    {0, natsbus.Scope{Pod: "a", User: "bob"}, 100, []string{"a bob claimed", "a bob licensed"}},
		"a user":            {first.Sequence - 1, natsbus.Scope{User: "alice"}, 100, []string{"a alice gone", "b alice claimed"}},
		"everything, some":  {first.Sequence, natsbus.Scope{}, 2, []string{"a bob claimed", "a bob licensed"}},
		"after the end":     {first.Sequence + 100, natsbus.Scope{}, 100, nil},
		"a wildcard's name": {0, natsbus.Scope{User: "*"}, 100, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, err := bus.After(t.Context(), events.At(created, tt.after), tt.scope, tt.limit, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range steps {
				got = append(got, s.Pod+" "+s.User+" "+string(s.Event))
				if s.Source != "berth/test/test" || s.Generation == "" {
					t.Errorf("source %q, generation %q", s.Source, s.Generation)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	}
	if _, err := bus.After(t.Context(), events.Position{Created: 1}, natsbus.Scope{}, 1, nil); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("records of another log: %v", err)
	}
	for what, p := range map[string]events.Position{"a record": events.At(created, first.Sequence), "none": events.At(created, first.Sequence+100), "another log's": {Created: 1, Sequence: first.Sequence}} {
		appended, there, err := bus.RecordAt(t.Context(), p)
		if err != nil || there != (what == "a record") || there && time.Since(appended) > time.Minute {
			t.Errorf("%s: %v, %v, %v", what, appended, there, err)
		}
	}
}

// TestAfterMany: far more records than are read one by one, of which some are wanted,
// with no more rights than an api has; and a time that is over is no answer.
func TestAfterMany(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	bus := eventstest.NewBus(t, server, "test", func(o *natsbus.Options) { o.User, o.Password = server.Options().User, server.Options().Password })
	api := eventstest.NewBus(t, server, "api", func(o *natsbus.Options) {
		o.InProcess, o.URL = nil, server.URL()
		o.User, o.Password = server.Credentials("api")
	})
	created, err := bus.Created(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const pods = 60
	for i := range pods {
		user := "alice"
		if i%3 == 0 {
			user = "bob"
		}
		eventstest.Bring(t, bus, fmt.Sprintf("p%d", i), user, events.Launched)
	}
	bobs := func(r events.Record) bool { return r.User == "bob" }
	tests := map[string]struct {
		scope natsbus.Scope
		limit int
		wants func(events.Record) bool
		want  int
	}{
		"all":               {natsbus.Scope{}, 1000, nil, 4 * pods},
		"as many as wanted": {natsbus.Scope{}, 70, nil, 70},
		"a user's":          {natsbus.Scope{User: "bob"}, 1000, nil, 4 * pods / 3},
		"those of a silo":   {natsbus.Scope{}, 1000, bobs, 4 * pods / 3},
		"the last of them":  {natsbus.Scope{}, 4 * pods / 3, bobs, 4 * pods / 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, err := api.After(t.Context(), events.At(created, 0), tt.scope, tt.limit, tt.wants)
			if err != nil || len(steps) != tt.want {
				t.Fatalf("%d records, %v; want %d", len(steps), err, tt.want)
			}
			last := uint64(0)
			for _, s := range steps {
				if s.Sequence <= last || tt.wants != nil && !tt.wants(s.Record) {
					t.Errorf("%d after %d: %+v", s.Sequence, last, s)
				}
				last = s.Sequence
			}
		})
	}
	over, cancel := context.WithTimeout(t.Context(), 0)
	cancel()
	if steps, err := api.After(over, events.At(created, 0), natsbus.Scope{}, 1000, nil); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("out of time: %d records, %v", len(steps), err)
	}
}

// TestEpoch: it changes when the log is read again, and then only.
func TestEpoch(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "test")
	eventstest.MarkComplete(t, bus)
	table := bus.NewTable(false, nil)
	eventstest.RunTable(t, table)
	first := table.Epoch()
	eventstest.Bring(t, bus, "a", "alice", events.Ready)
	pods, err := table.FreshPods(t.Context())
	if err != nil || len(pods) != 1 || pods[0].Event != events.Ready {
		t.Errorf("pods %v, %v", pods, err)
	}
	if got := table.Epoch(); !readAgain(table) && (got != first || first.Loads != 1) || first.Created == 0 {
		t.Errorf("epoch %v after %v", got, first)
	}
	server.Restart()
	eventstest.Eventually(t, "the log is read again", func() bool { return table.Epoch().Loads > first.Loads })
	if got := table.Epoch(); got.Created != first.Created {
		t.Errorf("epoch %v after %v: the log is the same", got, first)
	}
}
