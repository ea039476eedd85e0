package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// stage is a cluster with one user's pods, in which requests fail now and then, and
// finalizers take their time. It tells what vanishes, as a watcher does.
type stage struct {
	*fakeObjects
	t   *testing.T
	bus *natsbus.Bus

	podsMu sync.Mutex
	pods   map[string]string // Name to UID.
	claims atomic.Int64
}

var errFlaky = errors.New("connection reset")

// flaky fails one request in ten, before or after it was done.
func flaky() error {
	if rand.IntN(10) == 0 {
		return errFlaky
	}
	return nil
}

func (s *stage) Find(_ context.Context, name, _ string) (string, error) {
	s.podsMu.Lock()
	defer s.podsMu.Unlock()
	return s.pods[name], flaky()
}

func (s *stage) Exists(_ context.Context, name, uid string) (bool, error) {
	s.podsMu.Lock()
	defer s.podsMu.Unlock()
	return s.pods[name] == uid, flaky()
}

func (s *stage) Delete(ctx context.Context, name, uid string) (bool, error) {
	s.podsMu.Lock()
	there := s.pods[name] == uid
	if there {
		delete(s.pods, name)
	}
	s.podsMu.Unlock()
	if there {
		s.vanished(ctx, name, uid)
	}
	return !there, flaky()
}

// vanished is what a watcher says; now and then it is not there to say it.
func (s *stage) vanished(ctx context.Context, name, uid string) {
	if rand.IntN(5) == 0 {
		return
	}
	if entry, err := s.bus.Last(ctx, name); err == nil && entry.Event == events.Deleting {
		_ = s.bus.AskDelete(ctx, entry, events.DeleteRequest{Vanished: uid})
	}
}

func (s *stage) Remove(ctx context.Context, o reap.Object) (bool, error) {
	if err := flaky(); err != nil {
		return false, err
	}
	vanished, err := s.fakeObjects.Remove(ctx, o)
	if o.Kind == reap.KindClaim && !vanished && err == nil {
		s.settle()
		if r, err := s.bus.Storage(ctx, user); err == nil && r.State == events.StorageRemoving {
			s.vanished(ctx, r.Remover.Pod, o.UID)
		}
	}
	return vanished, errors.Join(err, flaky())
}

// claimed makes the user's claim, as a creator does, and says whether it is there.
func (s *stage) claimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.pick(func(o reap.Object) bool { return o.Kind == reap.KindClaim })
	if len(found) > 0 {
		return !found[0].Terminating
	}
	s.objects = append(s.objects, reap.Object{Kind: reap.KindClaim, Name: claim, User: user, UID: fmt.Sprintf("uid-claim-%d", s.claims.Add(1))})
	return true
}

// checked asserts that a claim does not go under a pod.
func (s *stage) checked(o reap.Object) {
	s.podsMu.Lock()
	defer s.podsMu.Unlock()
	if o.Kind == reap.KindClaim && len(s.pods) > 0 {
		s.t.Errorf("the claim is deleted under %v", s.pods)
	}
}

// create is a creator that makes a pod. A delete may come between any two steps.
func (s *stage) create(ctx context.Context, bus *natsbus.Bus, name string) error {
	entry, _, err := bus.Append(ctx, name, eventstest.Claim(name, user, "cmd-"+name))
	if err != nil {
		return err
	}
	g := entry.Generation
	over := func(err error) error {
		if errors.Is(err, events.ErrOver) {
			return bus.AskDelete(ctx, entry, events.DeleteRequest{LaunchOver: true})
		}
		return err
	}
	if _, _, err := bus.Append(ctx, name, eventstest.License(g)); err != nil {
		return over(err)
	}
	launch := eventstest.Launch(g)
	launch.At, launch.Storage = time.Now(), claim
	if entry, _, err = bus.Append(ctx, name, launch); err != nil {
		return over(err)
	}
	for {
		_, err := bus.ChangeStorage(ctx, events.StorageFact{Kind: events.StorageUse, User: user, At: time.Now(), Use: events.UseOf(entry.Record), Claim: claim})
		if err == nil && s.claimed() {
			break
		}
		if err != nil && !errors.Is(err, events.ErrRemoving) {
			return err
		}
		launch.At = time.Now()
		if _, _, err = bus.Append(ctx, name, launch); err != nil {
			return over(err) // The use, if there is one, is released by the delete.
		}
		<-time.After(time.Millisecond)
	}
	uid := "uid-" + name
	s.podsMu.Lock()
	s.pods[name] = uid
	s.podsMu.Unlock()
	o := reap.Object{Kind: reap.KindService, Name: name + "-http", UID: uid + "-http", User: user, Pod: name, Generation: g}
	s.mu.Lock()
	s.objects = append(s.objects, o)
	s.mu.Unlock()
	fact := eventstest.Launched(g, uid)
	fact.Objects = []events.Object{{Kind: o.Kind, Name: o.Name, UID: o.UID}}
	_, _, err = bus.Append(ctx, name, fact)
	return over(err)
}

// TestRandomInterleavings lets creators and deleters work on one user's pods at the
// same time, with requests that fail and news that is lost. The claim must never go
// under a pod, and at the end be there if and only if a pod is.
func TestRandomInterleavings(t *testing.T) {
	t.Parallel()
	const creators, pods = 2, 6
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	eventstest.MarkComplete(t, bus)
	s := &stage{fakeObjects: newFakeObjects(), t: t, bus: bus, pods: map[string]string{}}
	s.keeps, s.removing = map[string]bool{reap.KindClaim: true}, s.checked
	for range 2 {
		d := &deleter{
			bus: eventstest.NewBus(t, server, "deleter"), pods: s, objects: s, timeoutDelete: time.Second, launchAttempt: time.Minute,
			limits: reap.Limits{Create: time.Hour, CreateMax: time.Hour},
		}
		eventstest.Go(t, func(ctx context.Context) error {
			return d.bus.Consume(ctx, natsbus.Stage{Stage: events.StageDelete, Handler: d.handle, Fail: d.fail, Concurrency: 4})
		})
	}
	gone := func(name string) {
		eventstest.Eventually(t, name+" is gone", func() bool {
			entry, err := bus.Last(t.Context(), name)
			return err == nil && entry.Event == events.Gone
		})
	}
	var group sync.WaitGroup
	var names []string
	for c := range creators {
		for p := range pods {
			names = append(names, fmt.Sprintf("pod-%d-%d", c, p))
		}
		group.Go(func() {
			for p := range pods {
				name := fmt.Sprintf("pod-%d-%d", c, p)
				made := make(chan error, 1)
				go func() { made <- s.create(t.Context(), bus, name) }()
				// The user changes his mind at any time, with the first pod when it is there: it has used the storage.
				var err error
				if p == 0 {
					err = <-made
				} else {
					<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
				}
				eventstest.Eventually(t, "the pod is claimed", func() bool {
					entry, err := bus.Last(t.Context(), name)
					return err == nil && entry.Sequence > 0 && bus.AskDelete(t.Context(), entry, events.DeleteRequest{}) == nil
				})
				if p > 0 {
					err = <-made
				}
				if err != nil {
					t.Errorf("create %s: %v", name, err)
				}
				if rand.IntN(4) > 0 {
					gone(name)
				}
			}
		})
	}
	group.Wait()
	for _, name := range names {
		gone(name)
	}
	if left := s.uids(); len(left) > 0 || len(s.pods) > 0 {
		t.Errorf("left in the cluster: %v %v", left, s.pods)
	}
	if r, err := bus.Storage(t.Context(), user); err != nil || r.State != events.StorageAbsent {
		t.Errorf("the storage is %+v, error %v; want absent", r, err)
	}
	t.Logf("the claim was made %d times", s.claims.Load())
}
