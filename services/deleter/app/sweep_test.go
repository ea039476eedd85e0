package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// swept is a sweeper between a log and a cluster.
type swept struct {
	*sweeper
	server  *eventstest.Server
	objects *fakeObjects
}

func newSwept(t *testing.T, objects ...reap.Object) *swept {
	t.Helper()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "deleter")
	eventstest.MarkComplete(t, bus)
	s := &swept{server: server, objects: newFakeObjects(objects...)}
	s.sweeper = &sweeper{bus: bus, lister: s.objects, objects: s.objects, log: zerolog.Nop(), metrics: newMetrics(prometheus.NewRegistry())}
	return s
}

func sweepCommand(dryRun bool) natsbus.Delivery {
	return natsbus.Delivery{Attempt: 1, Command: events.Command{
		Stage: events.StageSweep, ID: "sweep-1", Cluster: eventstest.Cluster, Sweep: &events.SweepRequest{DryRun: dryRun},
	}}
}

func (s *swept) outcome(t *testing.T, command string) events.Outcome {
	t.Helper()
	o, err := s.bus.Outcome(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// leftovers leaves things behind of a pod that is gone, and of one that is there.
func leftovers(t *testing.T, s *swept) {
	t.Helper()
	gone := eventstest.Bring(t, s.bus, "went", user, events.Gone)
	there := eventstest.Bring(t, s.bus, pod, "bob@example.org", events.Ready)
	s.objects.objects = slices.Concat(belongingOf(gone.Record), belongingOf(there.Record), storageOf(user))
	s.objects.pods = []reap.Pod{{Name: pod, Generation: there.Generation}}
	for _, e := range []natsbus.Entry{gone, there} {
		if err := s.bus.PutTokens(t.Context(), e.Pod, e.Generation, map[string]string{"k": "v"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	for _, dryRun := range []bool{true, false} {
		t.Run(fmt.Sprintf("dry run %t", dryRun), func(t *testing.T) {
			t.Parallel()
			s := newSwept(t)
			leftovers(t, s)
			for attempt := range uint64(2) {
				d := sweepCommand(dryRun)
				d.Attempt += attempt
				if err := s.handle(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			o := s.outcome(t, "sweep-1")
			want := &events.Report{DryRun: dryRun, Total: 6, Removed: 6, Found: []events.Leftover{
				{Kind: "Ingress", Name: "went-ingress", Why: "its pod is gone"},
				{Kind: reap.KindVolume, Name: claim, Why: "no pod uses it"},
				{Kind: reap.KindClaim, Name: claim, Why: "no pod uses it"},
				{Kind: "Service", Name: "went-http", Why: "its pod is gone"},
				{Kind: "Service", Name: "went-ssh", Why: "its pod is gone"},
				{Kind: "Token", Name: "went", Why: "its pod is gone"},
			}}
			left, lives := 3, 1
			if dryRun {
				want.Removed, left, lives = 0, 8, 2
			}
			if d := cmp.Diff(want, o.Report); d != "" || o.Verdict != events.Done {
				t.Errorf("outcome %s (-want +got):\n%s", o.Verdict, d)
			}
			if uids := s.objects.uids(); len(uids) != left {
				t.Errorf("left are %v, want %d", uids, left)
			}
			if tokens, err := s.bus.TokenLives(t.Context()); err != nil || len(tokens) != lives {
				t.Errorf("tokens of %v, error %v; want %d", tokens, err, lives)
			}
		})
	}
}

// TestSweepFollowsRemovals: whoever asked is answered; the sweep goes on until claim
// and volume are gone, since the user's creates wait for that.
func TestSweepFollowsRemovals(t *testing.T) {
	t.Parallel()
	s := newSwept(t, storageOf(user)...)
	s.objects.keeps = map[string]bool{reap.KindClaim: true, reap.KindVolume: true}
	d := sweepCommand(false)
	if err := s.handle(t.Context(), d); err == nil {
		t.Fatal("handle = nil while the claim is being removed")
	}
	if o := s.outcome(t, "sweep-1"); o.Verdict != events.Done || o.Report.Removed != 2 {
		t.Errorf("outcome %+v, want done", o)
	}
	s.objects.settle()
	d.Attempt++
	if err := s.handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if record, err := s.bus.Storage(t.Context(), user); err != nil || record.State != events.StorageAbsent {
		t.Errorf("the storage is %+v, error %v; want absent", record, err)
	}
}

// TestSweepIsFenced: a pod comes between the look and the removal. Its use in the log
// stops the sweep.
func TestSweepIsFenced(t *testing.T) {
	t.Parallel()
	s := newSwept(t, storageOf(user)...)
	s.objects.fault = func(call string) error {
		if call == "list" {
			use(t, s.bus, user, events.Use{Pod: "new", Generation: "1-9"})
		}
		return nil
	}
	if err := s.handle(t.Context(), sweepCommand(false)); err != nil {
		t.Fatal(err)
	}
	if uids := s.objects.uids(); len(uids) != 2 {
		t.Errorf("left are %v; a claim went under a pod", uids)
	}
}

// TestSweepWithoutSight: what cannot be listed, or is missing in a log that is not
// complete, is not left over.
func TestSweepWithoutSight(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	tests := map[string]struct {
		change func(t *testing.T, s *swept)
		want   error
	}{
		"the cluster is away": {func(_ *testing.T, s *swept) { s.objects.fault = func(string) error { return down } }, down},
		"the log is being rebuilt": {func(t *testing.T, s *swept) {
			t.Helper()
			s.bus = eventstest.NewBus(t, eventstest.NewServer(t), "deleter")
		}, natsbus.ErrUnavailable},
		"the log is lost meanwhile": {func(t *testing.T, s *swept) {
			t.Helper()
			other := eventstest.NewBus(t, eventstest.NewServer(t), "deleter")
			s.objects.fault = func(string) error { s.bus = other; return nil }
		}, natsbus.ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSwept(t, storageOf(user)...)
			tt.change(t, s)
			if err := s.handle(t.Context(), sweepCommand(false)); !errors.Is(err, tt.want) {
				t.Errorf("handle = %v, want %v", err, tt.want)
			}
			if o := s.outcome(t, "sweep-1"); o.Verdict != "" || len(s.objects.uids()) != 2 {
				t.Errorf("outcome %+v, left %v", o, s.objects.uids())
			}
			if err := s.fail(t.Context(), sweepCommand(false), events.RetriesExhausted, "x"); err != nil {
				t.Fatal(err)
			}
			if o := s.outcome(t, "sweep-1"); o.Verdict != events.Refused || o.Reason != events.RetriesExhausted {
				t.Errorf("outcome %+v in the end", o)
			}
		})
	}
}

// TestSweepOfOthers: what cannot be removed keeps nothing else from being removed, which
// may be another user's, and is said.
func TestSweepOfOthers(t *testing.T) {
	t.Parallel()
	stuck := reap.Object{Kind: reap.KindService, Name: "keep-http", UID: "uid-keep", Pod: "keep", Created: eventstest.Time()}
	s := newSwept(t, append(storageOf(user), stuck)...)
	s.objects.fault = func(call string) error {
		if call == "remove Service uid-keep" {
			return errors.New("a policy forbids it")
		}
		return nil
	}
	if err := s.handle(t.Context(), sweepCommand(false)); err == nil {
		t.Error("the sweep does not come back for what is left")
	}
	if diff := cmp.Diff([]string{"uid-keep"}, s.objects.uids()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	o := s.outcome(t, "sweep-1")
	if o.Verdict != events.Done || o.Report.Total != 3 || o.Report.Removed != 2 || !strings.Contains(o.Message, "a policy forbids it") {
		t.Errorf("outcome %+v, report %+v", o, o.Report)
	}
}

// TestSweepReleases: the uses of pods that are gone are taken out, and what has no
// other user is removed.
func TestSweepReleases(t *testing.T) {
	t.Parallel()
	for name, others := range map[string][]events.Use{"the last": nil, "one of two": {{Pod: "there", Generation: "1-9"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSwept(t, storageOf(user)...)
			gone := eventstest.Bring(t, s.bus, "went", user, events.Gone)
			for _, u := range append(others, events.UseOf(gone.Record)) {
				use(t, s.bus, user, u)
				if u.Pod == "there" {
					s.objects.pods = []reap.Pod{{Name: u.Pod, Generation: u.Generation, Claims: []string{claim}}}
				}
			}
			if _, err := s.sweep(t.Context(), scope{}); err != nil {
				t.Fatal(err)
			}
			record, err := s.bus.Storage(t.Context(), user)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(others, record.Uses, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("uses (-want +got):\n%s", d)
			}
			if left := len(s.objects.uids()); left != 2*len(others) {
				t.Errorf("%d objects are left with %d pods", left, len(others))
			}
		})
	}
}

// deleteUser is the removal of everything of alice's.
func deleteUser(queued time.Time) natsbus.Delivery {
	return natsbus.Delivery{Attempt: 1, Queued: queued, Command: events.Command{
		Stage: events.StageDeleteUser, ID: "delete-user-1", Cluster: eventstest.Cluster, User: user,
	}}
}

func TestDeleteUser(t *testing.T) {
	t.Parallel()
	s := newSwept(t)
	r := &remover{bus: s.bus, sweep: s.sweep}
	one := eventstest.Bring(t, s.bus, "one", user, events.Ready)
	two := eventstest.Bring(t, s.bus, "two", user, events.Deleting)
	went := eventstest.Bring(t, s.bus, "went", user, events.Gone)
	bobs := eventstest.Bring(t, s.bus, "bobs", "bob@example.org", events.Ready)
	s.objects.objects = slices.Concat(belongingOf(went.Record), belongingOf(bobs.Record), storageOf(user))
	s.objects.keeps = map[string]bool{reap.KindClaim: true}
	d := deleteUser(eventstest.Time().Add(time.Second))
	if err := r.handle(t.Context(), d); err == nil {
		t.Fatal("handle = nil while there are pods")
	}
	var asked []string
	for _, c := range eventstest.Queued(t, s.server, events.StageDelete) {
		asked = append(asked, c.Pod)
	}
	slices.Sort(asked)
	if d := cmp.Diff([]string{"one", "two"}, asked); d != "" {
		t.Errorf("asked to delete (-want +got):\n%s", d)
	}
	for _, e := range []natsbus.Entry{one, two} {
		for _, fact := range []events.Fact{eventstest.Delete(e.Generation), eventstest.Gone(e.Generation)} {
			if _, _, err := s.bus.Append(t.Context(), e.Pod, fact); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A pod that comes meanwhile is new; it does not keep this up.
	claim := eventstest.Claim("new", user, "cmd-new")
	claim.At = d.Queued.Add(time.Minute)
	if _, _, err := s.bus.Append(t.Context(), "new", claim); err != nil {
		t.Fatal(err)
	}
	d.Attempt++
	if err := r.handle(t.Context(), d); err == nil {
		t.Fatal("handle = nil while the claim is being removed")
	}
	if o := s.outcome(t, d.ID); o.Verdict != "" {
		t.Errorf("outcome %+v while the claim is there", o)
	}
	s.objects.settle()
	for range 2 {
		d.Attempt++
		if err := r.handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if o := s.outcome(t, d.ID); o.Verdict != events.Done || o.User != user {
		t.Errorf("outcome %+v, want done", o)
	}
	if uids := s.objects.uids(); len(uids) != 3 {
		t.Errorf("left are %v; want those of bob's pod", uids)
	}
	if err := r.fail(t.Context(), d, events.RetriesExhausted, "x"); err != nil {
		t.Errorf("fail after it was done: %v", err)
	}
}

func TestDeleteUserWithoutTheLog(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "deleter")
	r := &remover{bus: bus, sweep: func(context.Context, scope) (result, error) { return result{}, errors.New("not to be called") }}
	if err := r.handle(t.Context(), deleteUser(time.Now())); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("handle = %v, want %v", err, natsbus.ErrUnavailable)
	}
}

// TestSweepEvery: all replicas ask at the same moment; there is one sweep a time.
func TestSweepEvery(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	begun := time.Now()
	for range 2 {
		bus := eventstest.NewBus(t, server, "deleter")
		eventstest.Go(t, func(ctx context.Context) error {
			return sweepEvery(ctx, bus, 100*time.Millisecond, func(err error) { t.Error(err) })
		})
	}
	eventstest.Eventually(t, "sweeps are asked for", func() bool { return len(eventstest.Queued(t, server, events.StageSweep)) > 0 })
	// The name has whole seconds, so however often it was asked for there is one a second.
	if n, most := len(eventstest.Queued(t, server, events.StageSweep)), int(time.Since(begun)/time.Second)+2; n > most {
		t.Errorf("%d sweeps are asked for, want %d at the most", n, most)
	}
	eventstest.Go(t, func(ctx context.Context) error {
		return sweepEvery(ctx, nil, 0, func(err error) { t.Error(err) })
	})
}
