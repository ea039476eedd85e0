package natsbus_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// What was in the log is no more: the table says that it does not know, nobody is
// told a wrong "no", and then it is right again.
func TestTableWhenTheLogIsMadeAnew(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *eventstest.Server, *natsbus.Bus){
		"the stream is deleted": func(t *testing.T, s *eventstest.Server, _ *natsbus.Bus) {
			if err := rawJetStream(t, s).DeleteStream(t.Context(), events.LogStream); err != nil {
				t.Fatal(err)
			}
		},
		"the stream is deleted and made at once": func(t *testing.T, s *eventstest.Server, bus *natsbus.Bus) {
			if err := rawJetStream(t, s).DeleteStream(t.Context(), events.LogStream); err != nil {
				t.Fatal(err)
			}
			if err := bus.Provision(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"the server is replaced by an empty one": func(_ *testing.T, s *eventstest.Server, _ *natsbus.Bus) { s.Wipe() },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := eventstest.NewServer(t)
			bus, watcher := eventstest.NewBus(t, server, "api"), eventstest.NewBus(t, server, "watcher")
			eventstest.MarkComplete(t, bus)
			var mu sync.Mutex
			told := map[string][]events.Type{}
			table := bus.NewTable(true, func(e natsbus.Entry) {
				mu.Lock()
				defer mu.Unlock()
				told[e.Pod] = append(told[e.Pod], e.Event)
			})
			eventstest.RunTable(t, table)
			old := eventstest.Bring(t, watcher, "p", "alice", events.Ready)
			eventstest.Bring(t, watcher, "q", "alice", events.Ready)
			eventstest.Eventually(t, "the table has both", func() bool { return len(table.User("alice")) == 2 })
			was := table.Created()

			waits := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := table.Await(t.Context(), "p", func(e natsbus.Entry) bool {
						if e.Sequence == 0 {
							t.Error("a waiter is told that there is no pod")
						}
						return e.Event == events.Gone
					})
					waits <- err
				}()
			}
			outcome := table.ExpectOutcome("cmd")
			defer outcome.Close()
			eventstest.Eventually(t, "all wait", func() bool { return table.Waiting() == 3 })

			// Whoever asks gets what was true, or no answer.
			lost := make(chan struct{})
			var asking sync.WaitGroup
			for range 2 {
				asking.Go(func() {
					for {
						if e, err := table.Fresh(t.Context(), "p"); err == nil && e.Sequence == 0 {
							t.Error("the table denies a pod")
						}
						if pods, err := table.FreshUser(t.Context(), "alice"); err == nil && len(pods) != 2 {
							t.Errorf("the table lists %d of two pods", len(pods))
						}
						if pods, err := table.Snapshot(); err == nil && len(pods) != 2 {
							t.Errorf("the snapshot has %d of two pods", len(pods))
						}
						if compared(t, bus) {
							if e, err := bus.Last(t.Context(), "p"); err == nil && e.Sequence == 0 && compared(t, bus) {
								t.Error("the log is complete without the pod")
							}
						}
						select {
						case <-lost:
							return
						default:
						}
					}
				})
			}
			lose(t, server, watcher)
			for range 2 {
				if err := eventstest.Receive(t, "a wait ends", waits); !errors.Is(err, natsbus.ErrUnavailable) {
					t.Errorf("a wait ended with %v, want ErrUnavailable", err)
				}
			}
			if _, err := outcome.Now(); !errors.Is(err, natsbus.ErrUnavailable) {
				t.Errorf("the outcome: error %v, want ErrUnavailable", err)
			}
			eventstest.Eventually(t, "the new log is loaded", func() bool { return table.Loaded() == nil && table.Created() != was })
			if err := table.Ready(); !errors.Is(err, natsbus.ErrUnavailable) {
				t.Errorf("before the comparison: error %v, want ErrUnavailable", err)
			}
			close(lost)
			asking.Wait()

			// The watcher rebuilds, and the table follows without a restart.
			mu.Lock()
			clear(told)
			mu.Unlock()
			loads := table.Epoch().Loads
			rebuilt := eventstest.Bring(t, watcher, "p", "alice", events.Licensed)
			eventstest.MarkComplete(t, watcher)
			eventstest.Eventually(t, "the table is ready", func() bool { return table.Ready() == nil })
			if e, err := table.Fresh(t.Context(), "p"); err != nil || e.Generation != rebuilt.Generation || e.Generation == old.Generation {
				t.Errorf("fresh %+v, error %v, want %+v", e, err, rebuilt)
			}
			if pods, err := table.FreshUser(t.Context(), "alice"); err != nil || len(pods) != 1 {
				t.Errorf("alice has %d pods, error %v, want one", len(pods), err)
			}
			if e, err := table.Fresh(t.Context(), "q"); err != nil || e.Sequence != 0 {
				t.Errorf("what is not there any more is %+v, error %v", e, err)
			}
			mu.Lock()
			defer mu.Unlock()
			// Where it has been read once more, only the newest may have been told.
			if diff := cmp.Diff(map[string][]events.Type{"p": {events.Claimed, events.Licensed}}, told); diff != "" && table.Epoch().Loads == loads {
				t.Errorf("changes told (-want +got):\n%s", diff)
			}
			if n := table.Waiting(); n != 1 {
				t.Errorf("%d are still registered, want the outcome's", n)
			}
		})
	}
}

// A server that comes back with its streams disturbs nobody.
func TestTableWhileTheServerRestarts(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus, creator := eventstest.NewBus(t, server, "api"), eventstest.NewBus(t, server, "creator")
	eventstest.MarkComplete(t, bus)
	var mu sync.Mutex
	told := map[string][]events.Type{}
	table := bus.NewTable(false, func(e natsbus.Entry) {
		mu.Lock()
		defer mu.Unlock()
		told[e.Pod] = append(told[e.Pod], e.Event)
	})
	eventstest.RunTable(t, table)
	before := eventstest.Bring(t, creator, "p", "u", events.Ready)
	waits := make(chan error, 1)
	go func() {
		_, err := table.Await(t.Context(), "p", func(e natsbus.Entry) bool { return e.Event == events.Gone })
		waits <- err
	}()
	eventstest.Eventually(t, "somebody waits", func() bool { return table.Waiting() == 1 })
	for range 3 {
		server.Restart()
		if e, ok := table.Pod("p"); !ok || e.Sequence != before.Sequence {
			t.Errorf("the table forgot what it had: %+v, %t", e, ok)
		}
		eventstest.Eventually(t, "the log answers", func() bool { _, err := creator.Last(t.Context(), "p"); return err == nil })
	}
	for _, f := range []events.Fact{eventstest.Delete(before.Generation), eventstest.Gone(before.Generation)} {
		if _, _, err := creator.Append(t.Context(), "p", f); err != nil {
			t.Fatal(err)
		}
	}
	if err := eventstest.Receive(t, "the wait ends", waits); err != nil {
		t.Errorf("the wait ended with %v", err)
	}
	after := eventstest.Bring(t, creator, "q", "u", events.Licensed)
	eventstest.Eventually(t, "the table follows", func() bool { e, _ := table.Pod("q"); return e.Sequence == after.Sequence })
	mu.Lock()
	defer mu.Unlock()
	// Nothing is told twice. What came while nobody read may have been told at once.
	for pod, types := range told {
		seen := map[events.Type]bool{}
		for _, event := range types {
			if seen[event] {
				t.Errorf("%s of %s was told twice: %v", event, pod, types)
			}
			seen[event] = true
		}
	}
	if got := told["p"]; len(got) == 0 || got[len(got)-1] != events.Gone {
		t.Errorf("the end was not told: %v", got)
	}
}

// The machine lost power, and with it the newest records of the log, whose
// sequences are given again to others.
func TestTableWhenTheLogIsAnOlderCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := eventstest.NewServerIn(t, filepath.Join(dir, "now"))
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	table := bus.NewTable(false, nil)
	eventstest.RunTable(t, table)
	kept := eventstest.Bring(t, bus, "kept", "u", events.Licensed)
	server.Stop()
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "now"))); err != nil {
		t.Fatal(err)
	}
	server.Start()
	eventstest.Eventually(t, "the log answers", func() bool { _, err := bus.Last(t.Context(), "kept"); return err == nil })
	for _, f := range []events.Fact{eventstest.Launch(kept.Generation), eventstest.Launched(kept.Generation, "uid")} {
		if _, _, err := bus.Append(t.Context(), "kept", f); err != nil {
			t.Fatal(err)
		}
	}
	lost := eventstest.Bring(t, bus, "lost", "u", events.Ready)
	eventstest.Eventually(t, "the table has all", func() bool { e, _ := table.Pod("lost"); return e.Sequence == lost.Sequence })

	server.Stop()
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "now")), os.Rename(filepath.Join(dir, "copy"), filepath.Join(dir, "now"))); err != nil {
		t.Fatal(err)
	}
	server.Start()
	eventstest.Eventually(t, "the table has what the log has", func() bool {
		e, ok := table.Pod("kept")
		_, found := table.Pod("lost")
		return ok && e.Sequence == kept.Sequence && !found && table.Ready() == nil
	})
	next := eventstest.Bring(t, bus, "next", "u", events.Claimed)
	eventstest.Eventually(t, "the table follows", func() bool { e, _ := table.Pod("next"); return e.Sequence == next.Sequence })
}

// While the leader is away the table gives no answer that needs it, and says so;
// it ends at once when it is told to.
func TestTableWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api", func(o *natsbus.Options) { o.RequestTimeout = 500 * time.Millisecond })
	creator := eventstest.NewBus(t, server, "creator")
	eventstest.MarkComplete(t, creator)
	e := eventstest.Bring(t, creator, "p", "u", events.Ready)
	table := bus.NewTable(false, nil)
	stop := eventstest.Go(t, table.Run)
	eventstest.Eventually(t, "the table is ready", func() bool { return table.Ready() == nil })
	server.Stop()
	if _, err := table.Fresh(t.Context(), "p"); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("fresh: error %v, want ErrUnavailable", err)
	}
	if _, err := table.FreshUser(t.Context(), "u"); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("fresh list: error %v, want ErrUnavailable", err)
	}
	eventstest.Eventually(t, "the table is not to be trusted", func() bool { return errors.Is(table.Ready(), natsbus.ErrUnavailable) })
	if got, ok := table.Pod("p"); !ok || got.Sequence != e.Sequence {
		t.Errorf("what was known is %+v, %t", got, ok)
	}
	ends(t, stop)
}

// One of three servers goes away, whichever: the table goes on.
func TestTableWhenOneOfThreeServersGoes(t *testing.T) {
	t.Parallel()
	servers := eventstest.NewServers(t)
	bus, creator := eventstest.NewBus(t, servers, "api"), eventstest.NewBus(t, servers, "creator")
	eventstest.MarkComplete(t, bus)
	table := bus.NewTable(false, nil)
	eventstest.RunTable(t, table)
	waits := make(chan error, 1)
	go func() {
		_, err := table.Await(t.Context(), "b", func(e natsbus.Entry) bool { return e.Event == events.Claimed })
		waits <- err
	}()
	for i, name := range []string{"a", "b"} {
		servers.Nodes[i].Stop()
		var e natsbus.Entry
		eventstest.Eventually(t, "a claim is made", func() bool {
			var err error
			e, _, err = creator.Append(t.Context(), name, eventstest.Claim(name, "u", "cmd-"+name))
			return err == nil
		})
		eventstest.Eventually(t, "the table has it", func() bool {
			got, ok := table.Pod(name)
			return ok && got.Generation == e.Generation
		})
		servers.Nodes[i].Start()
		eventstest.Eventually(t, "all servers keep the log", func() bool { return current(t, servers) })
	}
	if err := eventstest.Receive(t, "the wait ends", waits); err != nil {
		t.Errorf("somebody who waited all the time was sent away: %v", err)
	}
}

// current says that all replicas of the log have what its leader has.
func current(tb testing.TB, servers *eventstest.Servers) bool {
	tb.Helper()
	js, done := dial(tb, servers)
	defer done()
	s, err := js.Stream(tb.Context(), events.LogStream)
	if err != nil {
		return false
	}
	cluster := s.CachedInfo().Cluster
	if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != 2 {
		return false
	}
	for _, r := range cluster.Replicas {
		if !r.Current || r.Offline {
			return false
		}
	}
	return true
}

func dial(tb testing.TB, site eventstest.Site) (jetstream.JetStream, func()) {
	tb.Helper()
	nc, err := natsConnect(site.Options())
	if err != nil {
		tb.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		tb.Fatal(err)
	}
	return js, nc.Close
}

// compared says that a bus finds the log compared with the cluster.
func compared(t *testing.T, bus *natsbus.Bus) bool {
	t.Helper()
	_, err := bus.Complete(t.Context())
	return err == nil
}
