package app

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
)

// The two names of the user's claim.
var plain, other = kube.StorageName(user, false), kube.StorageName(user, true)

// fakeStorages is a cluster's volumes and claims.
type fakeStorages struct {
	mu     sync.Mutex
	asked  []render.Storage
	errs   map[string]error // By the claim's name.
	claim  cluster.Claim
	later  cluster.Claim // What it is when it is looked at alone.
	gone   bool          // It is not there then.
	during func(render.Storage)
}

func (s *fakeStorages) Storage(_ context.Context, storage render.Storage) (cluster.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, storage)
	if s.during != nil {
		s.during(storage)
	}
	return s.claim, s.errs[storage.Name]
}

func (s *fakeStorages) Claim(context.Context, render.Storage) (cluster.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return cluster.Claim{}, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, "x")
	}
	return s.later, nil
}

// storing returns a creator whose pod, which mounts the user's storage, has come to
// an event, and its launch.
func storing(t *testing.T, last events.Type) (*bench, natsbus.Delivery) {
	t.Helper()
	b, d := launching(t, last)
	d.Rendered = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `","annotations":{"berth.dev/data-address":"10.2.0.1"}},
		"spec":{"volumes":[{"name":"sciencedata","persistentVolumeClaim":{"claimName":"` + plain + `"}}]}}`)
	return b, d
}

func (b *bench) storage(t *testing.T) events.Storage {
	t.Helper()
	entry, err := b.bus.Storage(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Storage
}

// mounts are the claims of the pods that were made.
func (b *bench) mounts() []string {
	var all []string
	for _, pod := range b.pods.made {
		all = append(all, pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	}
	return all
}

func TestLaunchWithStorage(t *testing.T) {
	t.Parallel()
	bound := cluster.Claim{UID: "uid-claim", Bound: true}
	tests := map[string]struct {
		prepare func(b *bench)
		claim   string
	}{
		"it is there, or bound at once": {func(b *bench) { b.storages.claim = bound }, plain},
		"the watcher says that it is bound": {func(b *bench) {
			b.storages.claim = cluster.Claim{UID: "uid-claim"}
			b.storages.during = func(s render.Storage) {
				// It may be said before the API server has answered, and about an earlier claim.
				b.claims.say(natsbus.Bound{Claim: s.Name, UID: "uid-of-another-time"})
				b.claims.say(natsbus.Bound{Claim: s.Name, UID: "uid-claim"})
			}
		}, plain},
		"the news is lost": {func(b *bench) {
			b.boundPatience, b.storages.claim, b.storages.later = time.Millisecond, cluster.Claim{UID: "uid-claim"}, bound
		}, plain},
		"the name is another user's": {func(b *bench) {
			b.storages.claim, b.storages.errs = bound, map[string]error{plain: cluster.ErrForeign}
		}, other},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := storing(t, events.Licensed)
			tt.prepare(b)
			if err := b.launch(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			entry := b.last(t, d.Pod)
			if entry.Event != events.Launched || entry.Storage != tt.claim {
				t.Errorf("the pod is %s with storage %q", entry.Event, entry.Storage)
			}
			want := events.Storage{
				State: events.StorageUsed, Cluster: eventstest.Cluster, User: user, Claim: tt.claim, Uses: []events.Use{events.UseOf(entry.Record)},
			}
			got := b.storage(t)
			got.At = time.Time{}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("storage (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]string{tt.claim}, b.mounts()); d != "" {
				t.Errorf("mounted (-want +got):\n%s", d)
			}
			asked := render.Storage{Name: tt.claim, User: user, Namespace: b.config.Namespace, Server: "10.2.0.1", Root: "/tank"}
			if d := cmp.Diff(asked, b.storages.asked[len(b.storages.asked)-1]); d != "" {
				t.Errorf("asked for (-want +got):\n%s", d)
			}
			if len(b.claims.waits) > 0 {
				t.Errorf("waits are left: %v", b.claims.waits)
			}
		})
	}
}

// TestSecondPodOfAUser takes the name that the first one has found.
func TestSecondPodOfAUser(t *testing.T) {
	t.Parallel()
	b, d := storing(t, events.Licensed)
	first := events.Use{Pod: "other", Generation: "1-1"}
	for _, fact := range []events.StorageFact{
		{Kind: events.StorageUse, Use: first, Claim: plain}, {Kind: events.StorageMove, From: plain, Claim: other},
	} {
		fact.User = user
		if _, err := b.bus.ChangeStorage(t.Context(), fact); err != nil {
			t.Fatal(err)
		}
	}
	b.storages.claim.Bound = true
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{other}, b.mounts()); d != "" {
		t.Errorf("mounted (-want +got):\n%s", d)
	}
	if got := b.storage(t).Uses; len(got) != 2 || got[0] != first {
		t.Errorf("used by %v", got)
	}
}

// TestLaunchWaitsForStorage says why, makes no pod, and goes on when it may.
func TestLaunchWaitsForStorage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before func(t *testing.T, b *bench)
		after  func(t *testing.T, b *bench)
		asked  int // How often the cluster was asked.
	}{
		"it is being removed": {
			func(t *testing.T, b *bench) {
				t.Helper()
				b.changes(t, events.StorageReclaim)
			},
			func(t *testing.T, b *bench) {
				t.Helper()
				b.changes(t, events.StorageGone)
			}, 0,
		},
		"it is not bound": {func(_ *testing.T, b *bench) {
			b.boundPatience, b.storages.claim = time.Millisecond, cluster.Claim{UID: "u"}
		}, nil, 2},
		"it went away while it was waited for": {func(_ *testing.T, b *bench) {
			b.boundPatience, b.storages.claim, b.storages.gone = time.Millisecond, cluster.Claim{UID: "u"}, true
		}, nil, 2},
		"it is on its way out": {func(_ *testing.T, b *bench) {
			b.storages.errs = map[string]error{plain: cluster.ErrUnsettled}
		}, nil, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := storing(t, events.Licensed)
			tt.before(t, b)
			for range 2 {
				if err := b.launch(t.Context(), d); err == nil {
					t.Fatal("launched")
				}
				d.Attempt++
				if got := b.last(t, d.Pod); got.Event != events.Waiting || got.Reason != events.StoragePending || got.Message == "" {
					t.Errorf("the pod is %s %s: %q", got.Event, got.Reason, got.Message)
				}
			}
			if len(b.pods.made) > 0 || len(b.storages.asked) != tt.asked {
				t.Errorf("%d pods were made, the cluster was asked for storage %d times", len(b.pods.made), len(b.storages.asked))
			}
			if tt.after != nil {
				tt.after(t, b)
			}
			b.storages.errs, b.storages.claim = nil, cluster.Claim{Bound: true}
			if err := b.launch(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if got := b.last(t, d.Pod); got.Event != events.Launched || got.Reason != "" || len(b.storage(t).Uses) != 1 {
				t.Errorf("the pod is %s %s", got.Event, got.Reason)
			}
		})
	}
}

func (b *bench) changes(t *testing.T, kind events.StorageKind) {
	t.Helper()
	if _, err := b.bus.ChangeStorage(t.Context(), events.StorageFact{Kind: kind, User: user, Claim: plain}); err != nil {
		t.Fatal(err)
	}
}

func TestLaunchWithStorageThatFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(b *bench, d *natsbus.Delivery)
		says   string
	}{
		"the API server refuses it": {func(b *bench, _ *natsbus.Delivery) {
			b.storages.errs = map[string]error{plain: &cluster.RejectedError{Reason: render.ReasonStorageFailed, Object: "volume v", Message: "forbidden"}}
		}, "volume v: forbidden"},
		"both names are another user's": {func(b *bench, _ *natsbus.Delivery) {
			b.storages.errs = map[string]error{plain: cluster.ErrForeign, other: cluster.ErrForeign}
		}, "the name of the user's storage is taken"},
		"the site has none any more": {func(b *bench, _ *natsbus.Delivery) { b.config.NFSStorageRoot = "" }, "this site has no storage for its users (nfsStorageRoot)"},
		"somebody else's was patched in": {func(_ *bench, d *natsbus.Delivery) {
			d.Rendered = []byte(`{"metadata":{"name":"` + name + `"},"spec":{"volumes":[{"name":"x","persistentVolumeClaim":{"claimName":"user-storage-bob"}}]}}`)
		}, `volume "x": user-storage-bob is not the storage of this user`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := storing(t, events.Licensed)
			tt.change(b, &d)
			err := b.launch(t.Context(), d)
			if err == nil || err.Error() != tt.says {
				t.Fatalf("launch = %v, want %q", err, tt.says)
			}
			if len(b.pods.made) > 0 {
				t.Error("a pod was made")
			}
			if err := b.failLaunch(t.Context(), d, events.StorageFailed, err.Error()); err != nil {
				t.Fatal(err)
			}
			if got := b.last(t, d.Pod); got.Event != events.Failed || got.Reason != events.StorageFailed {
				t.Errorf("the pod is %s %s", got.Event, got.Reason)
			}
			// The deleter takes the pod out of the storage.
			if d := cmp.Diff([]events.DeleteRequest{{LaunchOver: true}}, b.deletes(t)); d != "" {
				t.Errorf("deletes (-want +got):\n%s", d)
			}
		})
	}
}

// TestDeleteWhileStorageIsAwaited: the launch that waits finds the delete, and tells
// the deleter that nothing more will come.
func TestDeleteWhileStorageIsAwaited(t *testing.T) {
	t.Parallel()
	b, d := storing(t, events.Licensed)
	b.boundPatience, b.storages.claim = time.Millisecond, cluster.Claim{UID: "u"}
	b.storages.during = func(render.Storage) { b.appends(t, eventstest.Delete(d.Generation)) }
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatalf("launch = %v; there is nothing more to do", err)
	}
	if d := cmp.Diff([]events.DeleteRequest{{LaunchOver: true}}, b.deletes(t)); d != "" || len(b.pods.made) > 0 {
		t.Errorf("%d pods made; deletes (-want +got):\n%s", len(b.pods.made), d)
	}
}

// TestGoneWhileStorageIsAwaited: a launch that was paused for so long that its pod
// is gone makes no pod, and blocks nobody: its use of the storage is the sweep's.
func TestGoneWhileStorageIsAwaited(t *testing.T) {
	t.Parallel()
	b, d := storing(t, events.Licensed)
	b.boundPatience, b.storages.claim = time.Millisecond, cluster.Claim{UID: "u"}
	b.storages.during = func(render.Storage) {
		b.appends(t, eventstest.Delete(d.Generation))
		b.appends(t, eventstest.Gone(d.Generation))
	}
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatalf("launch = %v; there is nothing more to do", err)
	}
	if got := b.storage(t); got.State != events.StorageUsed || len(b.pods.made) > 0 || len(b.deletes(t)) > 0 {
		t.Errorf("%d pods were made, %d deletes asked for, the storage is %+v", len(b.pods.made), len(b.deletes(t)), got)
	}
}

// TestLaunchesOfOneUserAtOnce share the claim; all of them are its users.
func TestLaunchesOfOneUserAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.storages.claim.Bound = true
	var group sync.WaitGroup
	for _, pod := range []string{"a", "b", "c", "d"} {
		entry := eventstest.Bring(t, b.bus, pod, user, events.Licensed)
		c := eventstest.LaunchCommand(entry.Command, user, pod, entry.Generation)
		c.Rendered = []byte(`{"metadata":{"name":"` + pod + `","annotations":{"berth.dev/data-address":"10.2.0.1"}},
			"spec":{"volumes":[{"name":"sciencedata","persistentVolumeClaim":{"claimName":"` + plain + `"}}]}}`)
		for attempt := range 2 { // Each is delivered twice.
			group.Go(func() {
				if err := b.launch(t.Context(), natsbus.Delivery{Attempt: uint64(attempt + 1), Command: c}); err != nil {
					t.Errorf("launch: %v", err)
				}
			})
		}
	}
	group.Wait()
	pods := map[string]int{}
	for _, use := range b.storage(t).Uses {
		pods[use.Pod]++
	}
	if d := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1, "d": 1}, pods); d != "" {
		t.Errorf("uses (-want +got):\n%s", d)
	}
}

func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	c := &claims{draining: stopped}
	w := c.expect("claim")
	defer w.end()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	if w.bound(ctx, "uid", time.Minute) {
		t.Error("bound after the context's end")
	}
	close(stopped)
	if w.bound(t.Context(), "uid", time.Minute) {
		t.Error("bound when the service stops")
	}
	for range 2 * newsKept { // Nobody takes it.
		c.say(natsbus.Bound{Claim: "claim", UID: "another"})
	}
	c.say(natsbus.Bound{Claim: "nobody's", UID: "uid"})
}

// TestLaunchWithBelongings makes what belongs to the pod, for this life of it, and
// notes it.
func TestLaunchWithBelongings(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	d.Rendered = []byte(`{"metadata":{"name":"` + name + `","annotations":{"sciencedata.dk/ingress-port":"8888","sciencedata.dk/copy-token":"a, b"}},
		"spec":{"containers":[{"name":"main","ports":[{"containerPort":22}],"env":[{"name":"USERNAME","value":"data"}]}]}}`)
	b.pods.belongErr = cluster.ErrOccupied
	if err := b.launch(t.Context(), d); !errors.Is(err, cluster.ErrOccupied) {
		t.Fatalf("launch = %v, want %v", err, cluster.ErrOccupied)
	}
	if got := b.last(t, d.Pod); got.Event != events.Waiting || got.Reason != events.NameOccupied {
		t.Errorf("the pod is %s %s", got.Event, got.Reason)
	}
	b.pods.belongErr = nil
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got := b.last(t, d.Pod).Record
	want := got
	want.Event, want.HTTP, want.SSHPort, want.SSHUser, want.TokenKeys = events.Launched, true, 30022, "data", []string{"a", "b"}
	want.Objects = []events.Object{
		{Kind: "Service", Name: name + "-ssh", UID: "uid-" + name + "-ssh"},
		{Kind: "Service", Name: name + "-http", UID: "uid-" + name + "-http"},
		{Kind: "Ingress", Name: name + "-ingress", UID: "uid-" + name + "-ingress"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for _, service := range b.pods.belonging[1].Services {
		checkBelonging(t, d, service)
	}
}

func checkBelonging(t *testing.T, d natsbus.Delivery, service *corev1.Service) {
	t.Helper()
	if command, generation := kube.Life(service); command != d.ID || generation != d.Generation {
		t.Errorf("%s is marked as %s of %s", service.Name, generation, command)
	}
	if owners := service.OwnerReferences; len(owners) != 1 || owners[0].UID != "uid-"+name || owners[0].Name != name {
		t.Errorf("%s belongs to %v", service.Name, owners)
	}
}

func TestLaunchOfBadTokenKeys(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	d.Rendered = []byte(`{"metadata":{"name":"` + name + `","annotations":{"sciencedata.dk/copy-token":"../shadow"}}}`)
	if err := b.launch(t.Context(), d); err == nil || len(b.pods.made) > 0 {
		t.Errorf("launch = %v; %d pods were made", err, len(b.pods.made))
	}
}
