package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func use(n int) events.Use {
	return events.Use{Pod: fmt.Sprintf("p%d", n), Generation: fmt.Sprintf("1-%d", n)}
}

func storage(kind events.StorageKind, user string, u events.Use) events.StorageFact {
	return events.StorageFact{Kind: kind, User: user, Use: u, Claim: "claim-of-" + user, At: eventstest.Time()}
}

// TestChangeStorageRace lets many services change one user's record at once:
// nothing that any of them was told is lost.
func TestChangeStorageRace(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	buses := []*natsbus.Bus{eventstest.NewBus(t, server, "creator"), eventstest.NewBus(t, server, "creator"), eventstest.NewBus(t, server, "deleter")}
	const pods = 24
	each := func(kind events.StorageKind) {
		var all sync.WaitGroup
		for n := range pods {
			all.Go(func() {
				if _, err := buses[n%len(buses)].ChangeStorage(t.Context(), storage(kind, "alice", use(n))); err != nil {
					t.Errorf("%s %d: %v", kind, n, err)
				}
			})
		}
		all.Wait()
	}
	each(events.StorageUse)
	e, err := buses[0].Storage(t.Context(), "alice")
	if err != nil || e.State != events.StorageUsed || len(e.Uses) != pods || e.Claim != "claim-of-alice" {
		t.Fatalf("%s with %d uses, error %v", e.State, len(e.Uses), err)
	}
	each(events.StorageRelease)
	if e, err = buses[1].Storage(t.Context(), "alice"); err != nil || e.State != events.StorageRemoving || e.Remover.IsZero() {
		t.Fatalf("%s by %v, error %v", e.State, e.Remover, err)
	}
	if _, err := buses[0].ChangeStorage(t.Context(), storage(events.StorageUse, "alice", use(99))); !errors.Is(err, events.ErrRemoving) {
		t.Errorf("a use while it is removed: %v", err)
	}
	gone, err := buses[2].ChangeStorage(t.Context(), storage(events.StorageGone, "alice", e.Remover))
	if err != nil || gone.State != events.StorageAbsent {
		t.Errorf("%s, error %v", gone.State, err)
	}
}

func TestStorages(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	other := eventstest.NewBus(t, server, "creator", eventstest.InCluster("other"))
	if e, err := bus.Storage(t.Context(), "nobody"); err != nil || e.State != "" || e.Sequence != 0 {
		t.Errorf("no record: %v, error %v", e, err)
	}
	for _, user := range []string{"a.b@c.d", "a-b@c.d", "a.>"} {
		if _, err := bus.ChangeStorage(t.Context(), storage(events.StorageUse, user, use(1))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.ChangeStorage(t.Context(), storage(events.StorageUse, "elsewhere", use(1))); err != nil {
		t.Fatal(err)
	}
	all, err := bus.Storages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range all {
		got[e.User] = e.Claim
	}
	want := map[string]string{"a.b@c.d": "claim-of-a.b@c.d", "a-b@c.d": "claim-of-a-b@c.d", "a.>": "claim-of-a.>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What cannot be read is not "no record".
	if _, err := rawJetStream(t, server).Publish(t.Context(), events.StorageSubject("main", "broken"), []byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Storages(t.Context()); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("a broken record: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	ctx := t.Context()
	if _, known, err := bus.Tokens(ctx, "p", "1-1"); known || err != nil {
		t.Errorf("none yet: known %t, error %v", known, err)
	}
	want := map[string]string{"jupyter.token": "s3cret\n", "empty": ""}
	put := func(pod, generation string, tokens map[string]string) {
		t.Helper()
		if err := bus.PutTokens(ctx, pod, generation, tokens); err != nil {
			t.Fatal(err)
		}
	}
	put("p", "1-1", map[string]string{"jupyter.token": "old"})
	put("p", "1-1", want)
	put("p", "1-2", map[string]string{"k": "of another life"})
	got, known, err := bus.Tokens(ctx, "p", "1-1")
	if diff := cmp.Diff(want, got); diff != "" || !known || err != nil {
		t.Errorf("known %t, error %v (-want +got):\n%s", known, err, diff)
	}
	lives, err := bus.TokenLives(ctx)
	if diff := cmp.Diff(map[natsbus.TokenLife]bool{{Pod: "p", Generation: "1-1"}: true, {Pod: "p", Generation: "1-2"}: true}, lives); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if err := bus.DropTokens(ctx, "p", "1-1"); err != nil {
		t.Fatal(err)
	}
	if _, known, err := bus.Tokens(ctx, "p", "1-1"); known || err != nil {
		t.Errorf("dropped: known %t, error %v", known, err)
	}
	if _, known, err := bus.Tokens(ctx, "p", "1-2"); !known || err != nil {
		t.Errorf("the other life's: known %t, error %v", known, err)
	}

	// The bucket is lost: it is made anew, and is empty.
	before, err := bus.TokensCreated(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := rawJetStream(t, server).DeleteStream(ctx, events.TokenStream); err != nil {
		t.Fatal(err)
	}
	if _, known, err := bus.Tokens(ctx, "p", "1-2"); known || err != nil {
		t.Errorf("lost: known %t, error %v", known, err)
	}
	after, err := bus.TokensCreated(ctx)
	if err != nil || !after.After(before) {
		t.Errorf("made at %s, before at %s, error %v", after, before, err)
	}
	put("p", "1-2", want)
}

func TestBound(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	watcher, creator := eventstest.NewBus(t, server, "watcher"), eventstest.NewBus(t, server, "creator")
	heard := make(chan natsbus.Bound, 1)
	stop, err := creator.OnBound(func(b natsbus.Bound) {
		select {
		case heard <- b:
		default: // It is said again and again.
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	want := natsbus.Bound{Claim: "user-storage-alice", UID: "u1"}
	eventstest.Eventually(t, "the news to be heard", func() bool {
		if err := watcher.SayBound(want); err != nil {
			t.Error(err)
		}
		select {
		case got := <-heard:
			return got == want
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
}

func TestConfirmAddress(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	api := eventstest.NewBus(t, server, "api")
	question := natsbus.Address{Pod: "p", UID: "u", IP: "10.0.0.7"}
	if has, err := api.ConfirmAddress(t.Context(), question); has || !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("nobody leads: %t, error %v", has, err)
	}
	watcher := eventstest.NewBus(t, server, "watcher")
	entered, release := make(chan struct{}, 64), make(chan struct{})
	stop, err := watcher.OnConfirm(t.Context(), 1, func(_ context.Context, a natsbus.Address) (bool, error) {
		switch a.Pod {
		case "slow":
			entered <- struct{}{}
			<-release
			return false, nil
		case "unknown":
			return false, errors.New("the API server is away")
		}
		return a == question, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	eventstest.Eventually(t, "the watcher's yes", func() bool {
		has, err := api.ConfirmAddress(t.Context(), question)
		return has && err == nil
	})
	if has, err := api.ConfirmAddress(t.Context(), natsbus.Address{Pod: "p", UID: "other", IP: "10.0.0.7"}); has || err != nil {
		t.Errorf("another pod's: %t, error %v", has, err)
	}
	for _, a := range []natsbus.Address{{Pod: "unknown", IP: "10.0.0.7"}, {}} {
		if has, err := api.ConfirmAddress(t.Context(), a); has || !errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("%v: %t, error %v", a, has, err)
		}
	}
	// More questions than places are not answered with a no.
	done := make(chan error, 1)
	go func() {
		err := natsbus.ErrUnavailable
		for errors.Is(err, natsbus.ErrUnavailable) && t.Context().Err() == nil {
			_, err = api.ConfirmAddress(t.Context(), natsbus.Address{Pod: "slow", IP: "10.0.0.7"})
		}
		done <- err
	}()
	eventstest.Receive(t, "the slow question", entered)
	if _, err := api.ConfirmAddress(t.Context(), question); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("no place is left: %v", err)
	}
	close(release)
	if err := eventstest.Receive(t, "the slow answer", done); err != nil {
		t.Error(err)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	api := eventstest.NewBus(t, server, "api")
	eventstest.NewBus(t, server, "watcher")
	record := events.AuditRecord{
		Request: "r1", Time: eventstest.Time(), Silo: "silo1", Action: "delete_pod", User: "a.>", Pod: "p", Status: 404, Reason: events.NotFound,
	}
	eventstest.Eventually(t, "the record to be stored", func() bool { return api.Audit(t.Context(), record) == nil })
	if err := api.Audit(t.Context(), events.AuditRecord{}); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("a record of nothing: %v", err)
	}
}
