package app

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

const claim = "user-storage-alice-example-org"

// full is a bench with a pod that has everything: two services, an ingress, the
// user's storage and a token.
type full struct {
	*bench
	objects *fakeObjects
}

func newFull(t *testing.T, last events.Type, change ...func(*events.Fact)) *full {
	t.Helper()
	b := newBench(t, "")
	eventstest.MarkComplete(t, b.bus)
	f := &full{bench: b, objects: newFakeObjects()}
	f.deleter.objects = f.objects
	f.entry = bringFull(t, b.bus, pod, user, last, change...)
	f.pods.objects[pod] = uid
	f.objects.objects = append(belongingOf(f.entry.Record), storageOf(user)...)
	f.objects.keeps = map[string]bool{reap.KindClaim: true, reap.KindVolume: true}
	return f
}

// bringFull takes such a pod to an event.
func bringFull(t *testing.T, bus *natsbus.Bus, pod, user string, last events.Type, change ...func(*events.Fact)) natsbus.Entry {
	t.Helper()
	var entry natsbus.Entry
	life := eventstest.Life(pod, user, "cmd-"+pod, "", "uid-"+pod)
	for _, fact := range slices.Insert(life, 4, events.Fact{Kind: events.FactFinish, At: eventstest.Time()}) {
		fact.Generation = entry.Generation
		switch fact.Kind { //nolint:exhaustive // The others are as they are.
		case events.FactLaunch:
			fact.Storage, fact.TokenKeys = claim, []string{"token"}
		case events.FactLaunched:
			use(t, bus, user, events.UseOf(entry.Record))
			for _, o := range belongingOf(entry.Record) {
				fact.Objects = append(fact.Objects, events.Object{Kind: o.Kind, Name: o.Name, UID: o.UID})
			}
		}
		for _, f := range change {
			f(&fact)
		}
		var err error
		if entry, _, err = bus.AppendAfter(t.Context(), entry, pod, fact); err != nil {
			t.Fatalf("append %s: %v", fact.Kind, err)
		}
		if entry.Event == last {
			break
		}
	}
	if err := bus.PutTokens(t.Context(), pod, entry.Generation, map[string]string{"token": "secret"}); err != nil {
		t.Fatal(err)
	}
	return entry
}

func use(t *testing.T, bus *natsbus.Bus, user string, u events.Use) {
	t.Helper()
	if _, err := bus.ChangeStorage(t.Context(), events.StorageFact{Kind: events.StorageUse, User: user, At: time.Now(), Use: u, Claim: claim}); err != nil {
		t.Fatal(err)
	}
}

func belongingOf(r events.Record) []reap.Object {
	o := reap.Object{User: r.User, Pod: r.Pod, Generation: r.Generation, Created: eventstest.Time()}
	objects := []reap.Object{o, o, o}
	for i, kind := range []string{reap.KindService, reap.KindService, reap.KindIngress} {
		suffix := []string{"-http", "-ssh", "-ingress"}[i]
		objects[i].Kind, objects[i].Name, objects[i].UID = kind, r.Pod+suffix, "uid-"+r.Pod+suffix
	}
	return objects
}

func storageOf(user string) []reap.Object {
	return []reap.Object{
		{Kind: reap.KindClaim, Name: claim, UID: "uid-claim", User: user, Created: eventstest.Time()},
		{Kind: reap.KindVolume, Name: claim, UID: "uid-volume", User: user, Created: eventstest.Time()},
	}
}

func (b *bench) storageRecord(t *testing.T) events.Storage {
	t.Helper()
	s, err := b.bus.Storage(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return s.Storage
}

// nothingLeft asserts that the pod is gone in every respect.
func (f *full) nothingLeft(t *testing.T) {
	t.Helper()
	if got := f.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
	if left := f.objects.uids(); len(left) > 0 || len(f.pods.objects) > 0 {
		t.Errorf("left in the cluster: %v %v", left, f.pods.objects)
	}
	if s := f.storageRecord(t); s.State != events.StorageAbsent {
		t.Errorf("the storage is %q, want absent", s.State)
	}
	if lives, err := f.bus.TokenLives(t.Context()); err != nil || len(lives) > 0 {
		t.Errorf("tokens of %v are left, error %v", lives, err)
	}
	if timers := f.timers(t); len(timers) > 0 {
		t.Errorf("timers = %v after the end", timers)
	}
}

// TestDeleteOfAFullPod follows the requests of a delete: each object is deleted once,
// services and ingress after the pod, claim and volume after these, tokens last.
func TestDeleteOfAFullPod(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Ready)
	step := func(what string, request events.DeleteRequest, wantPods, wantObjects []string) {
		t.Helper()
		f.handled(t, f.delivery(request))
		if d := cmp.Diff(wantPods, f.pods.calls); d != "" {
			t.Errorf("%s: asked for pods (-want +got):\n%s", what, d)
		}
		if d := cmp.Diff(wantObjects, f.objects.asked()); d != "" {
			t.Errorf("%s: asked for objects (-want +got):\n%s", what, d)
		}
		f.pods.calls = nil
	}
	step("asked for", events.DeleteRequest{}, []string{"delete " + pod + " " + uid}, nil)
	step("the pod has vanished", events.DeleteRequest{Vanished: uid}, nil, []string{
		"look for " + claim, "remove Ingress uid-" + pod + "-ingress", "remove PersistentVolume uid-volume",
		"remove PersistentVolumeClaim uid-claim", "remove Service uid-" + pod + "-http", "remove Service uid-" + pod + "-ssh",
	})
	if got := f.event(t).Event; got != events.Deleting {
		t.Fatalf("the pod is %s while its claim is there", got)
	}
	if s := f.storageRecord(t); !s.Removes(f.event(t)) {
		t.Fatalf("the storage is %+v, want that this delete removes it", s)
	}
	if lives, err := f.bus.TokenLives(t.Context()); err != nil || len(lives) != 1 {
		t.Errorf("tokens of %v are there before the end, error %v", lives, err)
	}
	step("the timer fires meanwhile", events.DeleteRequest{Timer: events.TimerDelete}, []string{"exists " + pod + " " + uid}, []string{"look for " + claim})
	f.objects.settle()
	step("the claim has vanished", events.DeleteRequest{Vanished: "uid-claim"}, []string{"exists " + pod + " " + uid}, []string{"look for " + claim})
	f.nothingLeft(t)
	step("told twice", events.DeleteRequest{Vanished: "uid-claim"}, nil, nil)
}

// TestDeleteWithoutTheLog: what is missing in a log that is being rebuilt is not
// absent, so no claim is taken from anybody.
func TestDeleteWithoutTheLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	f := &full{bench: b, objects: newFakeObjects(storageOf(user)...)}
	f.deleter.objects = f.objects
	f.entry = bringFull(t, b.bus, pod, user, events.Ready)
	if err := f.handle(t.Context(), f.delivery(events.DeleteRequest{})); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("handle = %v, want %v", err, natsbus.ErrUnavailable)
	}
	if s := f.storageRecord(t); s.State != events.StorageUsed || len(f.objects.uids()) != 2 {
		t.Errorf("the storage is %q, and %v are there", s.State, f.objects.uids())
	}
	eventstest.MarkComplete(t, b.bus)
	f.handled(t, f.delivery(events.DeleteRequest{Vanished: uid}))
	f.nothingLeft(t)
}

// TestDeleteOfOneOfTwo: the claim stays as long as a pod uses it.
func TestDeleteOfOneOfTwo(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Ready)
	other := events.Use{Pod: "other", Generation: "1-1", Command: "c"}
	use(t, f.bus, user, other)
	delete(f.pods.objects, pod)
	f.handled(t, f.delivery(events.DeleteRequest{}))
	if got := f.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
	s := f.storageRecord(t)
	if d := cmp.Diff([]events.Use{other}, s.Uses); d != "" || s.State != events.StorageUsed {
		t.Errorf("the storage is %q, its uses (-want +got):\n%s", s.State, d)
	}
	if d := cmp.Diff([]string{"uid-claim", "uid-volume"}, f.objects.uids()); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
}

// TestDeleteOfAnothersClaim: the claim of that name is another user's; it stays.
func TestDeleteOfAnothersClaim(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Ready)
	f.objects.objects = storageOf("alice.example@org")
	delete(f.pods.objects, pod)
	f.handled(t, f.delivery(events.DeleteRequest{}))
	if got, left := f.event(t).Event, f.objects.uids(); got != events.Gone || len(left) != 2 {
		t.Errorf("the pod is %s, and left are %v; want gone, and another's objects", got, left)
	}
}

// TestDeleteOfAnUnreportedLaunch: the log has no UIDs; what belongs to this life is
// found by its name.
func TestDeleteOfAnUnreportedLaunch(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Launching)
	use(t, f.bus, user, events.UseOf(f.entry.Record))
	delete(f.pods.objects, pod)
	f.objects.objects[1].Generation = "1-1" // Of another life.
	f.objects.keeps = nil
	f.handled(t, f.delivery(events.DeleteRequest{LaunchOver: true}))
	if got := f.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
	if d := cmp.Diff([]string{"uid-" + pod + "-ssh"}, f.objects.uids()); d != "" {
		t.Errorf("left in the cluster (-want +got):\n%s", d)
	}
}

// TestDeleteOfWhatWasNeverMade asks the cluster for nothing.
func TestDeleteOfWhatWasNeverMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Licensed)
	objects := newFakeObjects()
	b.deleter.objects = objects
	b.handled(t, b.delivery(events.DeleteRequest{}))
	if got, calls := b.event(t).Event, objects.asked(); got != events.Gone || len(calls) > 0 {
		t.Errorf("the pod is %s after %v, want gone after nothing", got, calls)
	}
}

// TestDeleteOfAnAdoptedPod: the UIDs of its adoption decide, for the old backend wrote
// no generation.
func TestDeleteOfAnAdoptedPod(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	eventstest.MarkComplete(t, b.bus)
	f := &full{bench: b, objects: newFakeObjects()}
	f.deleter.objects = f.objects
	f.objects.objects = append(belongingOf(events.Record{Pod: pod}), storageOf(user)...)
	fact := events.Fact{Kind: events.FactAdopt, At: time.Now(), Observed: events.Observed{UID: uid}, Record: events.Record{
		Cluster: eventstest.Cluster, Pod: pod, User: user, Storage: claim,
	}}
	for _, o := range belongingOf(events.Record{Pod: pod}) {
		fact.Record.Objects = append(fact.Record.Objects, events.Object{Kind: o.Kind, Name: o.Name, UID: o.UID})
	}
	entry, _, err := b.bus.Append(t.Context(), pod, fact)
	if err != nil {
		t.Fatal(err)
	}
	f.entry = entry
	use(t, f.bus, user, events.UseOf(entry.Record))
	f.handled(t, f.delivery(events.DeleteRequest{}))
	f.nothingLeft(t)
}

// TestDeleteWithAFinalizer: a service that something keeps is asked for again, looked
// at first, and the pod is not gone before it is.
func TestDeleteWithAFinalizer(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Ready)
	f.objects.keeps = map[string]bool{reap.KindIngress: true}
	delete(f.pods.objects, pod)
	d := f.delivery(events.DeleteRequest{})
	for d.Attempt = 1; d.Attempt < 4; d.Attempt++ {
		if err := f.handle(t.Context(), d); err == nil {
			t.Fatal("handle = nil, and nobody would look at the ingress again")
		}
	}
	asked := f.objects.asked()
	if n := len(slices.DeleteFunc(asked, func(s string) bool { return s != "remove Ingress uid-"+pod+"-ingress" })); n != 1 {
		t.Errorf("the ingress was deleted %d times, want once", n)
	}
	f.objects.settle()
	f.handled(t, d)
	f.nothingLeft(t)
}

// TestDeleteThatBreaksOffAnywhere fails each request of a delete in turn, once. The
// command is delivered again, and it comes to the same end.
func TestDeleteThatBreaksOffAnywhere(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		t.Run(fmt.Sprintf("request %d", n), func(t *testing.T) {
			t.Parallel()
			f := newFull(t, events.Ready)
			delete(f.pods.objects, pod)
			f.objects.keeps = nil
			broke, calls := errors.New("connection reset"), 0
			f.objects.fault = func(string) error {
				if calls++; calls == n+1 {
					return broke
				}
				return nil
			}
			d := f.delivery(events.DeleteRequest{})
			for d.Attempt = 1; ; d.Attempt++ {
				err := f.handle(t.Context(), d)
				if err == nil {
					break
				}
				if !errors.Is(err, broke) || d.Attempt > 2 {
					t.Fatalf("attempt %d: %v", d.Attempt, err)
				}
			}
			f.nothingLeft(t)
		})
	}
}

// TestReleasedTooEarly: a creator that knew of less than there is has released the
// storage. The pod is there, so it goes first.
func TestReleasedTooEarly(t *testing.T) {
	t.Parallel()
	f := newFull(t, events.Ready)
	f.pods.lingers = true
	_, err := f.bus.ChangeStorage(t.Context(), events.StorageFact{
		Kind: events.StorageRelease, User: user, At: time.Now(), Use: events.UseOf(f.entry.Record),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.handled(t, f.delivery(events.DeleteRequest{}))
	}
	if got, asked := f.event(t).Event, f.objects.asked(); got != events.Deleting || len(asked) > 0 {
		t.Errorf("the pod is %s, and asked was %v; want that the pod goes first", got, asked)
	}
	delete(f.pods.objects, pod)
	f.objects.keeps = nil
	f.handled(t, f.delivery(events.DeleteRequest{Vanished: uid}))
	f.nothingLeft(t)
}

func TestLookAgain(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[uint64]time.Duration{0: firstLook, 1: firstLook, 2: 2 * firstLook, 6: mostLook, 1 << 40: mostLook} {
		if got := lookAgain(attempt); got != want {
			t.Errorf("after attempt %d: %s, want %s", attempt, got, want)
		}
	}
}
