package app

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/pkg/service/worker"
	"berth/services/watcher/internal/watch"
)

const claimName = "user-storage-alice-example-org"

// term is a watcher that leads over a made-up cluster.
type term struct {
	*App
	server *eventstest.Server
	client *fake.Clientset
}

func newTerm(t *testing.T, objects ...runtime.Object) *term {
	t.Helper()
	m := &term{server: eventstest.NewServer(t), client: fake.NewClientset(objects...)}
	opts := options(t, m.server)
	opts.Config.Namespace, opts.Config.ResyncInterval = namespace, time.Hour
	a := &App{Worker: &worker.Worker{Options: opts, Bus: eventstest.NewBus(t, m.server, "watcher")}}
	a.watch = watch.New(m.client, namespace, zerolog.Nop())
	a.metrics = newMetrics(prometheus.NewRegistry(), a)
	a.table = a.Bus.NewTable(false, func(e natsbus.Entry) {
		if l := a.leading.Load(); l != nil {
			l.logged(e)
		}
	})
	m.App = a
	eventstest.Go(t, a.table.Run)
	return m
}

// leads begins the term, and returns when the log is complete.
func (m *term) leads(t *testing.T) (resign func()) {
	t.Helper()
	resign = eventstest.Go(t, m.lead)
	eventstest.Eventually(t, "the log is complete", func() bool {
		_, err := m.Bus.Complete(t.Context())
		return err == nil
	})
	return resign
}

func (m *term) record(t *testing.T, name string) events.Record {
	t.Helper()
	entry, err := m.Bus.Last(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Record
}

func (m *term) storage(t *testing.T) events.Storage {
	t.Helper()
	s, err := m.Bus.Storage(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return s.Storage
}

// finishes are the pods whose tokens are asked for.
func (m *term) finishes(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, c := range eventstest.Queued(t, m.server, events.StageFinish) {
		names = append(names, c.Pod)
	}
	return names
}

func longAgo() metav1.Time { return metav1.NewTime(time.Now().Add(-time.Hour)) }

// everything makes a pod of alice's want everything.
func everything(pod *corev1.Pod) {
	pod.Namespace, pod.CreationTimestamp = namespace, longAgo()
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, kube.AnnotationCopyToken, "token, URL")
	c := &pod.Spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{ContainerPort: 22}}
	c.Env = append(c.Env, corev1.EnvVar{Name: "USERNAME", Value: "sciencedata"})
	pod.Spec.Volumes = []corev1.Volume{{Name: "sciencedata", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName},
	}}}
}

// ofTheOldBackend leaves a pod what the old backend writes.
func ofTheOldBackend(pod *corev1.Pod) {
	pod.Annotations = map[string]string{kube.AnnotationCopyToken: pod.Annotations[kube.AnnotationCopyToken]}
}

// around are the services, the ingress, the claim and the volume of a pod of alice's.
func around(pod *corev1.Pod) []runtime.Object {
	meta := func(suffix string) metav1.ObjectMeta {
		m := metav1.ObjectMeta{
			Name: pod.Name + suffix, Namespace: namespace, UID: types.UID("uid" + suffix), CreationTimestamp: longAgo(),
			Labels: map[string]string{kube.LabelCreatedForPod: pod.Name},
		}
		if generation := pod.Annotations[kube.AnnotationGeneration]; generation != "" {
			m.Annotations = map[string]string{kube.AnnotationGeneration: generation}
		}
		return m
	}
	stored := metav1.ObjectMeta{Name: claimName, UID: "uid-claim", Labels: kube.StorageLabels(claimName, owner, "10.2.0.1")}
	inNamespace := stored
	inNamespace.Namespace = namespace
	stored.UID = "uid-volume"
	return []runtime.Object{
		&corev1.Service{ObjectMeta: meta("-ssh"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 22, NodePort: 30022}}}},
		&corev1.Service{ObjectMeta: meta("-http"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
		&networkingv1.Ingress{ObjectMeta: meta("-ingress")},
		&corev1.PersistentVolumeClaim{ObjectMeta: inNamespace, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}},
		&corev1.PersistentVolume{ObjectMeta: stored, Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: namespace, Name: claimName}}},
	}
}

// TestAdoption: pods with all that belongs to them are taken in, those of the old
// backend and those of a log that was lost, and again when it is lost once more. The
// log is complete with the storage records only.
func TestAdoption(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*corev1.Pod){"of the old backend": ofTheOldBackend, "of a lost log": func(*corev1.Pod) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(podName, podUID, everything, ready, change)
			m := newTerm(t, append(around(pod), pod)...)
			m.leads(t)
			for _, lost := range []bool{false, true} {
				if lost {
					eventstest.DeleteStream(t, m.server, events.LogStream)
					eventstest.Eventually(t, "the log is complete once more", func() bool {
						_, err := m.Bus.Complete(t.Context())
						return err == nil
					})
				}
				// Both are there as soon as the log is complete.
				got := m.record(t, podName)
				if d := cmp.Diff([]events.Use{events.UseOf(got)}, m.storage(t).Uses); d != "" {
					t.Errorf("uses of the storage (-want +got):\n%s", d)
				}
				if s := m.storage(t); s.State != events.StorageUsed || s.Claim != claimName {
					t.Errorf("the storage is %+v", s)
				}
				eventstest.Eventually(t, "the pod is ready", func() bool { return m.record(t, podName).Event == events.Ready })
				got = m.record(t, podName)
				want := events.Record{
					Storage: claimName, TokenKeys: []string{"token", "URL"}, HTTP: true, SSHPort: 30022, SSHUser: "sciencedata",
					Objects: []events.Object{
						{Kind: "Ingress", Name: podName + "-ingress", UID: "uid-ingress"},
						{Kind: "Service", Name: podName + "-http", UID: "uid-http"},
						{Kind: "Service", Name: podName + "-ssh", UID: "uid-ssh"},
					},
				}
				have := events.Record{
					Storage: got.Storage, TokenKeys: got.TokenKeys, HTTP: got.HTTP, SSHPort: got.SSHPort, SSHUser: got.SSHUser, Objects: got.Objects,
				}
				if d := cmp.Diff(want, have, cmpopts.IgnoreUnexported(events.Record{}, events.Observed{})); d != "" {
					t.Errorf("record (-want +got):\n%s", d)
				}
				eventstest.Eventually(t, "its tokens are asked for", func() bool { return len(m.finishes(t)) > 0 })
			}
		})
	}
}

// TestRebuildFindsDeletes: the log is lost while the user's last pod is being deleted.
// Its use is put into the record, so that its delete finds it and removes the claim.
func TestRebuildFindsDeletes(t *testing.T) {
	t.Parallel()
	pod := podOf(podName, podUID, everything, ready, terminating, func(p *corev1.Pod) { p.Finalizers = []string{"example.org/slow"} })
	m := newTerm(t, append(around(pod), pod)...)
	m.leads(t)
	eventstest.Eventually(t, "the pod is being deleted", func() bool { return m.record(t, podName).Event == events.Deleting })
	if d := cmp.Diff([]events.Use{events.UseOf(m.record(t, podName))}, m.storage(t).Uses); d != "" {
		t.Errorf("uses of the storage (-want +got):\n%s", d)
	}
}

// TestRemovalIsTold: the remover of a storage is told when both claim and volume are
// gone, and not before; when that was missed, by the next who leads.
func TestRemovalIsTold(t *testing.T) {
	t.Parallel()
	for name, missed := range map[string]bool{"seen": false, "missed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newTerm(t, around(podOf(podName, podUID))...)
			entry := eventstest.Bring(t, m.Bus, podName, owner, events.Deleting)
			for _, kind := range []events.StorageKind{events.StorageUse, events.StorageRelease} {
				fact := events.StorageFact{Kind: kind, User: owner, At: time.Now(), Use: events.UseOf(entry.Record), Claim: claimName}
				if _, err := m.Bus.ChangeStorage(t.Context(), fact); err != nil {
					t.Fatal(err)
				}
			}
			told := func() (n int) {
				for _, c := range eventstest.Queued(t, m.server, events.StageDelete) {
					if c.Pod == podName && (c.Delete.Vanished == "uid-claim" || c.Delete.Vanished == "uid-volume") {
						n++
					}
				}
				return n
			}
			remove := func() {
				if err := m.client.CoreV1().PersistentVolumeClaims(namespace).Delete(t.Context(), claimName, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				if !missed {
					l := m.leading.Load()
					eventstest.Eventually(t, "the claim is seen to go", func() bool { claim, _ := l.rec.storages.Present(claimName); return !claim })
					if n := told(); n > 0 {
						t.Error("told while the volume is there")
					}
				}
				if err := m.client.CoreV1().PersistentVolumes().Delete(t.Context(), claimName, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if missed {
				remove()
				m.leads(t)
				eventstest.Eventually(t, "the remover is asked to go on", func() bool {
					return len(eventstest.Queued(t, m.server, events.StageDelete)) > 0
				})
				return
			}
			m.leads(t)
			m.watched(t)
			remove()
			eventstest.Eventually(t, "the remover is told", func() bool { return told() == 1 })
		})
	}
}

// watched waits until all watches are open: those of the made-up cluster begin with
// what comes after.
func (m *term) watched(t *testing.T) {
	t.Helper()
	eventstest.Eventually(t, "the watches are open", func() bool {
		open := map[string]bool{}
		for _, a := range m.client.Actions() {
			if a.GetVerb() == "watch" {
				open[a.GetResource().Resource] = true
			}
		}
		return len(open) == 4
	})
}

// TestClaimIsBound is told to whoever waits for it, and nothing is told of claims that
// were bound before.
func TestClaimIsBound(t *testing.T) {
	t.Parallel()
	m := newTerm(t)
	heard := make(chan natsbus.Bound, 10)
	stop, err := eventstest.NewBus(t, m.server, "creator").OnBound(func(b natsbus.Bound) {
		select {
		case heard <- b:
		default: // It is said again and again.
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	s := newStorages(namespace, (&leader{app: m.App}).bound, func(storageNews) {})
	claim := around(podOf(podName, podUID))[3].(*corev1.PersistentVolumeClaim)
	claims{s}.Listed([]corev1.PersistentVolumeClaim{*claim})
	claims{s}.Seen(claim)
	next := claim.DeepCopy()
	next.UID, next.Status.Phase = "uid-next", corev1.ClaimPending
	claims{s}.Seen(next)
	bound := next.DeepCopy()
	bound.Status.Phase = corev1.ClaimBound
	eventstest.Eventually(t, "it is heard", func() bool {
		// The subscription may not have got to the server yet.
		claims{s}.Seen(next)
		claims{s}.Seen(bound)
		return len(heard) > 0
	})
	if d := cmp.Diff(natsbus.Bound{Claim: claimName, UID: "uid-next"}, <-heard); d != "" {
		t.Errorf("heard (-want +got):\n%s", d)
	}
}

// TestStoragesMissNothing: what a list shows no more has gone, and what was made anew
// meanwhile is another object. Volumes of other namespaces are another Berth's.
func TestStoragesMissNothing(t *testing.T) {
	t.Parallel()
	var news []storageNews
	s := newStorages(namespace, func(string, string) {}, func(n storageNews) { news = append(news, n) })
	objects := around(podOf(podName, podUID))
	claim, volume := objects[3].(*corev1.PersistentVolumeClaim), objects[4].(*corev1.PersistentVolume)
	claims{s}.Listed([]corev1.PersistentVolumeClaim{*claim})
	volumes{s}.Listed([]corev1.PersistentVolume{*volume})
	if c, v := s.Present(claimName); !c || !v {
		t.Fatalf("present: %t, %t", c, v)
	}
	claims{s}.Removed(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: claimName, UID: "uid-earlier"}})
	elsewhere := volume.DeepCopy()
	elsewhere.UID, elsewhere.Spec.ClaimRef.Namespace = "uid-elsewhere", "other"
	volumes{s}.Listed([]corev1.PersistentVolume{*elsewhere})
	claims{s}.Listed(nil)
	want := []storageNews{{user: owner, name: claimName, uid: "uid-volume"}, {user: owner, name: claimName, uid: "uid-claim", claim: true}}
	if d := cmp.Diff(want, news, cmp.AllowUnexported(storageNews{})); d != "" {
		t.Errorf("news (-want +got):\n%s", d)
	}
	if c, v := s.Present(claimName); c || v {
		t.Errorf("present: %t, %t", c, v)
	}
}

// TestClaimDeletedOutside is complained about where a pod uses it, and nothing is done.
func TestClaimDeletedOutside(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	news := storageNews{user: owner, name: claimName, uid: "uid-claim", claim: true}
	entry := b.bring(t, events.Ready)
	fact := events.StorageFact{Kind: events.StorageUse, User: owner, At: time.Now(), Use: events.UseOf(entry.Record), Claim: claimName}
	if _, err := b.bus.ChangeStorage(t.Context(), fact); err != nil {
		t.Fatal(err)
	}
	for _, other := range []storageNews{{user: owner, name: claimName}, {user: owner, name: "another", claim: true}, {user: "bob@example.org", name: claimName, claim: true}} {
		if err := b.removal(t.Context(), other); err != nil || b.claimsLost != 0 {
			t.Errorf("%+v: complained %d times, error %v", other, b.claimsLost, err)
		}
	}
	if err := b.removal(t.Context(), news); err != nil || b.claimsLost != 1 {
		t.Errorf("complained %d times, error %v; want once", b.claimsLost, err)
	}
	if deletes := b.deletes(t); len(deletes) > 0 {
		t.Errorf("asked for %+v", deletes)
	}
}

// TestVolumesAreForbidden: everything but the view of volumes goes on.
func TestVolumesAreForbidden(t *testing.T) {
	t.Parallel()
	pod := podOf(podName, podUID, everything, ready)
	m := newTerm(t, append(around(pod), pod)...)
	m.client.PrependReactor("list", "persistentvolumes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("persistentvolumes"), "", errors.New("no role"))
	})
	m.leads(t)
	if s := m.storage(t); s.State != events.StorageUsed || !m.watch.Blind() {
		t.Errorf("the storage is %+v, blind %t", s, m.watch.Blind())
	}
}

// TestComparisonCannotList: a comparison whose lists fail is made when they succeed again.
func TestComparisonCannotList(t *testing.T) {
	t.Parallel()
	m := newTerm(t)
	m.Config.ResyncInterval = 10 * time.Millisecond
	var down atomic.Bool
	var failed, listed atomic.Int64
	m.client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		if down.Load() {
			failed.Add(1)
			return true, nil, apierrors.NewServiceUnavailable("the API server is down")
		}
		listed.Add(1)
		return false, nil, nil
	})
	m.leads(t)
	down.Store(true)
	eventstest.Eventually(t, "lists have failed", func() bool { return failed.Load() > 2 })
	before := listed.Load()
	down.Store(false)
	eventstest.Eventually(t, "it is compared again", func() bool { return listed.Load() > before+1 })
}

// TestLostBucket: the tokens of ready pods are copied again, those of others are not.
func TestLostBucket(t *testing.T) {
	t.Parallel()
	m := newTerm(t)
	eventstest.MarkComplete(t, m.Bus)
	for _, name := range []string{"ready", "ended", "bare"} {
		var entry natsbus.Entry
		for _, fact := range eventstest.Life(name, owner, "cmd-"+name, "", "uid-"+name) {
			fact.Generation = entry.Generation
			if fact.Kind == events.FactLaunch && name != "bare" {
				fact.TokenKeys = []string{"token"}
			}
			var err error
			if entry, _, err = m.Bus.AppendAfter(t.Context(), entry, name, fact); err != nil {
				t.Fatal(err)
			}
			if fact.Kind == events.FactLaunched {
				finish := events.Fact{Kind: events.FactFinish, Generation: entry.Generation, At: time.Now()}
				if entry, _, err = m.Bus.AppendAfter(t.Context(), entry, name, finish); err != nil {
					t.Fatal(err)
				}
			}
			if entry.Event == events.Ready && name != "ended" || entry.Event == events.Ended {
				break
			}
		}
		if err := m.Bus.PutTokens(t.Context(), name, entry.Generation, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := &bucket{bus: m.Bus, table: m.table, log: zerolog.Nop()}
	eventstest.Eventually(t, "the table is ready", func() bool { return m.table.Ready() == nil && len(m.table.Pods()) == 3 })
	known, err := b.look(t.Context(), time.Time{}, true)
	if err != nil || len(m.finishes(t)) > 0 {
		t.Fatalf("look: error %v; asked for %v, and all is there", err, m.finishes(t))
	}
	eventstest.DeleteStream(t, m.server, events.TokenStream)
	eventstest.Go(t, b.run)
	eventstest.Eventually(t, "the tokens are asked for", func() bool { return len(m.finishes(t)) > 0 })
	if d := cmp.Diff([]string{"ready"}, m.finishes(t)); d != "" {
		t.Errorf("asked for the tokens of (-want +got):\n%s", d)
	}
	if again, err := b.look(t.Context(), known, false); err != nil || again.Equal(known) {
		t.Errorf("look = %s, %v; the bucket was made anew after %s", again, err, known)
	}
}

// TestTokensAreAskedFor once for each time that a pod becomes ready but for them, and
// again in a comparison.
func TestTokensAreAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var entry natsbus.Entry
	for _, fact := range eventstest.Life(podName, owner, "cmd-"+podName, "", podUID)[:4] {
		fact.Generation = entry.Generation
		if fact.Kind == events.FactLaunch {
			fact.TokenKeys = []string{"token"}
		}
		var err error
		if entry, _, err = b.bus.AppendAfter(t.Context(), entry, podName, fact); err != nil {
			t.Fatal(err)
		}
	}
	asked := func() int { return len(eventstest.Queued(t, b.server, events.StageFinish)) }
	look := func(complete bool, change ...func(*corev1.Pod)) {
		t.Helper()
		eventstest.Eventually(t, "the table is up to date", func() bool {
			last, err := b.bus.Last(t.Context(), podName)
			known, _ := b.table.Pod(podName)
			return err == nil && known.Sequence == last.Sequence
		})
		b.shows(entry.Generation, change...)
		if err := b.reconcile(t.Context(), podName, complete, false); err != nil {
			t.Fatal(err)
		}
	}
	at := func(version int) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.ResourceVersion = strconv.Itoa(version) }
	}
	addressed := func(pod *corev1.Pod) { pod.Status.PodIP = "10.0.0.7" }
	look(false, ready, at(1001))
	if record := b.last(t); record.Event != events.Running || record.Reason != events.TokensPending || asked() != 1 {
		t.Fatalf("the pod is %s %s, and the tokens were asked for %d times", record.Event, record.Reason, asked())
	}
	look(false, ready, addressed, at(1002))
	if n := asked(); n != 1 {
		t.Errorf("asked for the tokens %d times after another change, want once", n)
	}
	look(true, ready, addressed, at(1003))
	if n := asked(); n != 2 {
		t.Errorf("asked for the tokens %d times after a comparison, want twice: the record is another", n)
	}
	finish := events.Fact{Kind: events.FactFinish, Generation: entry.Generation, At: time.Now()}
	if after, _, err := b.bus.Append(t.Context(), podName, finish); err != nil || after.Event != events.Ready {
		t.Fatalf("the pod is %s, error %v", after.Event, err)
	}
	look(true, ready, addressed, at(1004))
	if n := asked(); n != 2 {
		t.Errorf("asked for the tokens %d times after they were copied", n)
	}
}

// TestYoungPodOfTheOldBackend: its services come after it, so it is taken in later.
func TestYoungPodOfTheOldBackend(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var wait time.Duration
	b.later = func(_ string, d time.Duration) { wait = d }
	b.shows("", ready, func(pod *corev1.Pod) { pod.Annotations, pod.CreationTimestamp = nil, metav1.Now() })
	if err := b.reconcile(t.Context(), podName, false, false); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t).Event; got != "" || wait <= 0 || wait > settled {
		t.Errorf("the pod is %q, to be looked at after %s", got, wait)
	}
	if err := b.reconcile(t.Context(), podName, true, false); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t).Event; got == "" {
		t.Error("a comparison did not take it in, and the log counts as complete")
	}
}

func TestBelongingsOfOnePod(t *testing.T) {
	t.Parallel()
	pod := podOf(podName, podUID, everything)
	m := newTerm(t, around(pod)...)
	b := &belongings{lister: m.watch}
	known := func() int {
		seen, _ := newClusterWith(pod).Look(podName)
		got, err := b.of(t.Context(), podName, seen)
		if err != nil {
			t.Fatal(err)
		}
		return len(got.Objects)
	}
	if n := known(); n != 3 {
		t.Errorf("%d objects without a list, want 3", n)
	}
	if err := b.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.client.ClearActions()
	if n := known(); n != 3 || len(m.client.Actions()) > 0 {
		t.Errorf("%d objects from a list, and %d requests; want 3 and none", n, len(m.client.Actions()))
	}
	pod.CreationTimestamp = metav1.Now()
	if n := known(); n != 3 || len(m.client.Actions()) != 3 {
		t.Errorf("%d objects of a pod that is younger than the list, and %d requests; want 3 and 3", n, len(m.client.Actions()))
	}
	b.drop()
	down := errors.New("connection refused")
	m.client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
	seen, _ := newClusterWith(pod).Look(podName)
	if _, err := b.of(t.Context(), podName, seen); !errors.Is(err, down) {
		t.Errorf("of = %v, want %v: what cannot be asked for is not absent", err, down)
	}
}

func newClusterWith(pod *corev1.Pod) *cluster {
	c := newCluster(func(string) {})
	c.Seen(pod.DeepCopy())
	return c
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	question := natsbus.Address{Pod: podName, UID: podUID, IP: "10.0.0.7"}
	ask := func(change func(*natsbus.Address)) natsbus.Address {
		q := question
		change(&q)
		return q
	}
	tests := map[string]struct {
		question natsbus.Address
		pod      func(*corev1.Pod)
		want     bool
	}{
		"has it":                    {question, func(*corev1.Pod) {}, true},
		"has it, written longer":    {ask(func(q *natsbus.Address) { q.IP = "::ffff:10.0.0.7" }), func(*corev1.Pod) {}, true},
		"has it as its second":      {ask(func(q *natsbus.Address) { q.IP = "fd00:0::7" }), func(*corev1.Pod) {}, true},
		"has another":               {ask(func(q *natsbus.Address) { q.IP = "10.0.0.70" }), func(*corev1.Pod) {}, false},
		"is another of the name":    {ask(func(q *natsbus.Address) { q.UID = "uid-2" }), func(*corev1.Pod) {}, false},
		"is not there":              {ask(func(q *natsbus.Address) { q.Pod = "other" }), func(*corev1.Pod) {}, false},
		"no address":                {ask(func(q *natsbus.Address) { q.IP = "everywhere" }), func(*corev1.Pod) {}, false},
		"is being deleted":          {question, func(p *corev1.Pod) { terminating(p); p.Finalizers = []string{"example.org/slow"} }, false},
		"has ended":                 {question, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, false},
		"has its node's address":    {question, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, false},
		"is none of Berth's":        {question, func(p *corev1.Pod) { delete(p.Labels, kube.LabelPodName) }, false},
		"has no address any more":   {question, func(p *corev1.Pod) { p.Status.PodIPs = nil }, false},
		"its node is not answering": {question, func(p *corev1.Pod) { p.Status.Reason = "NodeLost" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(podName, podUID, ready, func(p *corev1.Pod) {
				p.Namespace = namespace
				p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.7"}, {IP: "fd00::7"}}
			}, tt.pod)
			a := &App{watch: watch.New(fake.NewClientset(pod), namespace, zerolog.Nop())}
			if got, err := a.confirm(t.Context(), tt.question); got != tt.want || err != nil {
				t.Errorf("confirm = %t, %v, want %t", got, err, tt.want)
			}
		})
	}
	for _, verb := range []string{"get", "list"} {
		client := fake.NewClientset(podOf(podName, podUID, ready, func(p *corev1.Pod) { p.Namespace, p.Status.PodIP = namespace, "10.0.0.7" }))
		down := errors.New("connection refused")
		client.PrependReactor(verb, "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
		a := &App{watch: watch.New(client, namespace, zerolog.Nop())}
		if got, err := a.confirm(t.Context(), question); got || !errors.Is(err, down) {
			t.Errorf("confirm = %t, %v; want %v: nobody can tell without %s", got, err, down, verb)
		}
	}
}

// TestConfirmLooksAtAllPods: an address that another pod may send from is nobody's,
// whatever that pod is.
func TestConfirmLooksAtAllPods(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		other func(*corev1.Pod)
		want  bool
	}{
		"that has another address":              {func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.70"}} }, true},
		"that has none yet":                     {func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }, true},
		"that has ended":                        {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, true},
		"that was evicted":                      {func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }, true},
		"of another namespace":                  {func(p *corev1.Pod) { p.Namespace = "elsewhere" }, true},
		"of Berth's":                            {func(*corev1.Pod) {}, false},
		"without labels":                        {func(p *corev1.Pod) { p.Labels, p.Annotations = nil, nil }, false},
		"that is starting":                      {func(p *corev1.Pod) { p.Labels, p.Status.Phase = nil, corev1.PodPending }, false},
		"that is being deleted":                 {func(p *corev1.Pod) { terminating(p); p.Finalizers = []string{"example.org/slow"} }, false},
		"whose node is lost":                    {func(p *corev1.Pod) { p.Status.Reason = "NodeLost" }, false},
		"on its node's network":                 {func(p *corev1.Pod) { p.Labels, p.Spec.HostNetwork = nil, true }, false},
		"that has it as its second":             {func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "fd00::8"}, {IP: "10.0.0.7"}} }, false},
		"that has it in another way of writing": {func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "::ffff:10.0.0.7"}} }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := func(p *corev1.Pod) {
				p.Namespace, p.Status.PodIP, p.Status.PodIPs = namespace, "10.0.0.7", []corev1.PodIP{{IP: "10.0.0.7"}}
			}
			client := fake.NewClientset(podOf(podName, podUID, ready, at), podOf("other", "uid-other", ready, at, tt.other))
			a := &App{watch: watch.New(client, namespace, zerolog.Nop())}
			got, err := a.confirm(t.Context(), natsbus.Address{Pod: podName, UID: podUID, IP: "::ffff:10.0.0.7"})
			if got != tt.want || err != nil {
				t.Errorf("confirm = %t, %v, want %t", got, err, tt.want)
			}
			// The one that has it last is what counts, and only those at the address are listed.
			actions := client.Actions()
			last, ok := actions[len(actions)-1].(clienttesting.ListAction)
			if !ok || len(actions) != 2 {
				t.Fatalf("asked %v, want a get and a list", actions)
			}
			if got := last.GetListRestrictions(); got.Fields.String() != "status.podIP=10.0.0.7" || !got.Labels.Empty() {
				t.Errorf("listed by %q and %q", got.Fields, got.Labels)
			}
		})
	}
}

// TestConfirmOverNATS: whoever asks is answered by the watcher that leads, and by
// nobody when none does.
func TestConfirmOverNATS(t *testing.T) {
	t.Parallel()
	pod := podOf(podName, podUID, ready, func(p *corev1.Pod) { p.Namespace, p.Status.PodIP = namespace, "10.0.0.7" })
	m := newTerm(t, pod)
	api := eventstest.NewBus(t, m.server, "api")
	question := natsbus.Address{Pod: podName, UID: podUID, IP: "10.0.0.7"}
	if _, err := api.ConfirmAddress(t.Context(), question); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("ConfirmAddress = %v while nobody leads", err)
	}
	resign := m.leads(t)
	if has, err := api.ConfirmAddress(t.Context(), question); err != nil || !has {
		t.Errorf("ConfirmAddress = %t, %v", has, err)
	}
	resign()
	if _, err := api.ConfirmAddress(t.Context(), question); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("ConfirmAddress = %v after the term", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	newMetrics(registry, &App{watch: watch.New(fake.NewClientset(), namespace, zerolog.Nop())}).claimLost()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"berth_watcher_claims_lost_total": 1, "berth_watcher_volumes_hidden": 0, "berth_watcher_leading": 0,
		"berth_watcher_watch_age_seconds": 0, "berth_watcher_comparison_seconds": 0,
	}
	if d := cmp.Diff(want, values); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}
}
