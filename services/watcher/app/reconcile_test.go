package app

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

const (
	podName = "notebook-alice"
	owner   = "alice@example.org"
	podUID  = "uid-" + podName

	namespace = "berth"
)

// bench is a reconciler between a log and what a watch has said.
type bench struct {
	*reconciler
	server    *eventstest.Server
	table     *natsbus.Table
	committed []events.Type
	// belonging is what belongs to the pod, claimsLost how often that was complained about.
	belonging  diff.Belongings
	claimsLost int
	// outOfSight makes the API server still have what the watch shows no more.
	outOfSight bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{server: eventstest.NewServer(t)}
	bus := eventstest.NewBus(t, b.server, "watcher")
	eventstest.MarkComplete(t, bus)
	b.table = bus.NewTable(false, nil)
	eventstest.RunTable(t, b.table)
	b.reconciler = &reconciler{
		bus: bus, table: b.table, cluster: newCluster(func(string) {}), log: zerolog.Nop(), backOffs: 3, timeoutCreate: 100 * 365 * 24 * time.Hour, // The records are from long ago.
		exists:    func(context.Context, string, string) (bool, error) { return b.outOfSight, nil },
		committed: func(e natsbus.Entry) { b.committed = append(b.committed, e.Event) },
		later:     func(string, time.Duration) {},
		storages:  newStorages(namespace, func(string, string) {}, func(storageNews) {}),
		belongings: func(context.Context, string, diff.Pod) (diff.Belongings, error) {
			return b.belonging, nil
		},
		adopted: func(natsbus.Entry) {}, deletedOutside: func() { b.claimsLost++ },
	}
	return b
}

// bring takes the pod to an event, and waits until the table knows.
func (b *bench) bring(t *testing.T, last events.Type) natsbus.Entry {
	t.Helper()
	entry := eventstest.Bring(t, b.bus, podName, owner, last)
	eventstest.Eventually(t, "the table has the record", func() bool {
		e, _ := b.table.Pod(podName)
		return e.Sequence >= entry.Sequence
	})
	return entry
}

// shows makes the cluster show the pod of a generation.
func (b *bench) shows(generation string, change ...func(*corev1.Pod)) {
	pod := podOf(podName, podUID, append([]func(*corev1.Pod){func(pod *corev1.Pod) {
		pod.ResourceVersion = "1000"
		pod.Annotations[kube.AnnotationCommand], pod.Annotations[kube.AnnotationGeneration] = "cmd-"+podName, generation
	}}, change...)...)
	b.cluster.Seen(pod)
}

func terminating(pod *corev1.Pod) {
	now := metav1.Now()
	pod.DeletionTimestamp = &now
}

func (b *bench) last(t *testing.T) events.Record {
	t.Helper()
	entry, err := b.bus.Last(t.Context(), podName)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Record
}

func (b *bench) deletes(t *testing.T) []events.DeleteRequest {
	t.Helper()
	var requests []events.DeleteRequest
	for _, c := range eventstest.Queued(t, b.server, events.StageDelete) {
		requests = append(requests, *c.Delete)
	}
	return requests
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	old := func(pod *corev1.Pod) { pod.Annotations = nil }
	tests := map[string]struct {
		last     events.Type
		happens  func(b *bench, generation string)
		complete bool
		missing  bool
		want     events.Type
		reason   events.Reason
		deletes  []events.DeleteRequest
	}{
		"gets ready":     {events.Launched, func(b *bench, g string) { b.shows(g, ready) }, false, false, events.Ready, "", nil},
		"nothing new":    {events.Launching, func(b *bench, g string) { b.shows(g) }, false, false, events.Launching, "", nil},
		"is terminating": {events.Ready, func(b *bench, g string) { b.shows(g, ready, terminating) }, false, false, events.Deleting, events.DeletedOutside, []events.DeleteRequest{{}}},
		"vanishes": {
			events.Ready, func(b *bench, _ string) { b.cluster.Removed(podOf(podName, podUID)) }, false, false, events.Deleting, events.DeletedOutside,
			[]events.DeleteRequest{{Vanished: podUID}},
		},
		"is missing":          {events.Ready, func(*bench, string) {}, true, true, events.Deleting, events.DeletedOutside, []events.DeleteRequest{{}, {Vanished: podUID}}},
		"vanishes at the end": {events.Deleting, func(b *bench, _ string) { b.cluster.Removed(podOf(podName, podUID)) }, false, false, events.Deleting, "", []events.DeleteRequest{{Vanished: podUID}}},
		"fails": {
			events.Running, func(b *bench, g string) {
				b.shows(g, func(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Message = corev1.PodFailed, "no" })
			}, false, false, events.Failed, events.Crashed, []events.DeleteRequest{{}},
		},
		"is left over":              {events.Gone, func(b *bench, g string) { b.shows(g, ready) }, false, false, events.Gone, "", []events.DeleteRequest{{Found: podUID}}},
		"is unknown":                {"", func(b *bench, _ string) { b.shows("1-7", ready) }, false, false, events.Ready, "", nil},
		"is of the old backend":     {"", func(b *bench, _ string) { b.shows("", ready, old) }, false, false, events.Ready, "", nil},
		"is unknown and on its way": {"", func(b *bench, _ string) { b.shows("1-7", ready, terminating) }, false, false, events.Deleting, events.DeletedOutside, []events.DeleteRequest{{}}},
		"is out of sight": {events.Ready, func(b *bench, _ string) {
			b.outOfSight = true
			b.cluster.Removed(podOf(podName, podUID))
		}, false, false, events.Ready, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var entry natsbus.Entry
			if tt.last != "" {
				entry = b.bring(t, tt.last)
			}
			tt.happens(b, entry.Generation)
			for range 2 {
				if err := b.reconcile(t.Context(), podName, tt.complete, tt.missing); err != nil {
					t.Fatal(err)
				}
			}
			got := b.last(t)
			if got.Event != tt.want || got.Reason != tt.reason {
				t.Errorf("the pod is %q %q, want %q %q", got.Event, got.Reason, tt.want, tt.reason)
			}
			if tt.last == "" && tt.want != "" && (got.User != owner || got.Observed.UID != podUID || got.Generation == "") {
				t.Errorf("adopted as %+v", got)
			}
			if d := cmp.Diff(tt.deletes, b.deletes(t)); d != "" {
				t.Errorf("deletes (-want +got):\n%s", d)
			}
			var want []events.Type
			if tt.last == "" && tt.want != "" {
				want = append(want, events.Launched) // First it is adopted, then observed.
			}
			if tt.want != tt.last {
				want = append(want, tt.want)
			}
			if d := cmp.Diff(want, b.committed); d != "" {
				t.Errorf("appended (-want +got):\n%s", d)
			}
		})
	}
}

// TestReconcileAPodOfAnOldCommand: the log knows that the command had its pod,
// though the newest record of the name is another's.
func TestReconcileAPodOfAnOldCommand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := b.bring(t, events.Gone)
	second, _, err := b.bus.Append(t.Context(), podName, eventstest.Claim(podName, owner, "cmd-2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fact := range []events.Fact{eventstest.Delete(second.Generation), eventstest.Gone(second.Generation)} {
		if _, _, err := b.bus.Append(t.Context(), podName, fact); err != nil {
			t.Fatal(err)
		}
	}
	b.shows(first.Generation, ready)
	if err := b.reconcile(t.Context(), podName, true, false); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t).Event; got != events.Gone {
		t.Errorf("the name is %s; a pod came back whose life was over", got)
	}
	if d := cmp.Diff([]events.DeleteRequest{{Found: podUID}}, b.deletes(t)); d != "" {
		t.Errorf("deletes (-want +got):\n%s", d)
	}
}

// TestReconcileArms: a pod that is taken in has its time to get ready, and a
// comparison finds timers that were lost.
func TestReconcileArms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last     events.Type
		complete bool
		change   []func(*corev1.Pod)
		want     int
	}{
		"adopted":                      {"", false, nil, 1},
		"launched, in a comparison":    {events.Launched, true, nil, 1},
		"waiting, in a comparison":     {events.Waiting, true, nil, 1},
		"ready, in a comparison":       {events.Ready, true, []func(*corev1.Pod){ready}, 0},
		"gets ready":                   {events.Waiting, true, []func(*corev1.Pod){ready}, 0},
		"launched":                     {events.Launched, false, nil, 0},
		"being made, in a comparison":  {events.Launching, true, nil, 0},
		"being removed, in comparison": {events.Deleting, true, nil, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			generation := "1-7"
			if tt.last != "" {
				generation = b.bring(t, tt.last).Generation
			}
			b.shows(generation, tt.change...)
			for range 2 {
				if err := b.reconcile(t.Context(), podName, tt.complete, false); err != nil {
					t.Fatal(err)
				}
			}
			armed := eventstest.Armed(t, b.server)
			if len(armed) != tt.want {
				t.Fatalf("timers = %+v, want %d", armed, tt.want)
			}
			record := b.last(t)
			for _, a := range armed {
				if late := a.At.Sub(record.ProgressAt.Add(b.timeoutCreate)); a.Pod != podName || a.Timer != events.TimerCreate || late < 0 || late > time.Second {
					t.Errorf("timer = %+v, want one %s after %s", a, b.timeoutCreate, record.ProgressAt)
				}
			}
		})
	}
}

// TestLogged: what the watch said while the table did not know the record that
// it was to be held against is looked at again.
func TestLogged(t *testing.T) {
	t.Parallel()
	record := func(event events.Type, version string) natsbus.Entry {
		r := events.Record{Event: event, Pod: podName, Observed: events.Observed{ResourceVersion: version}}
		if event != events.Launching {
			r.LaunchedAt = eventstest.Time()
		}
		return natsbus.Entry{Record: r}
	}
	tests := map[string]struct {
		entry natsbus.Entry
		shown string // The version that the watch has shown, empty for none.
		want  int
	}{
		"launched, nothing seen":          {record(events.Launched, ""), "", 1},
		"launched, seen before":           {record(events.Launched, ""), "7", 1},
		"our own record of what was seen": {record(events.Ready, "7"), "7", 0},
		"a newer state was seen":          {record(events.Unready, "7"), "8", 1},
		"being made":                      {record(events.Launching, ""), "7", 0},
		"being deleted":                   {record(events.Deleting, "7"), "8", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &leader{
				rec:   &reconciler{cluster: newCluster(func(string) {})},
				queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
			}
			defer l.queue.ShutDown()
			if tt.shown != "" {
				l.rec.cluster.Seen(podOf(podName, podUID, func(pod *corev1.Pod) { pod.ResourceVersion = tt.shown }))
			}
			l.logged(tt.entry)
			if got := l.queue.Len(); got != tt.want {
				t.Errorf("%d names are to be looked at, want %d", got, tt.want)
			}
		})
	}
}

// TestLaggingTable: this replica knows the earlier life of a name, which is being
// deleted, and sees the pod of the next one. It must not take it for a stray.
func TestLaggingTable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	table := b.bus.NewTable(false, nil)
	stop := eventstest.Go(t, table.Run)
	b.reconciler.table, b.table = table, table
	old := b.bring(t, events.Deleting)
	stop() // From here on it lags.
	for _, fact := range []events.Fact{eventstest.Gone(old.Generation), eventstest.Claim(podName, owner, "cmd-2")} {
		if _, _, err := b.bus.Append(t.Context(), podName, fact); err != nil {
			t.Fatal(err)
		}
	}
	fresh, err := b.bus.Last(t.Context(), podName)
	if err != nil {
		t.Fatal(err)
	}
	b.shows(fresh.Generation, ready, func(p *corev1.Pod) { p.UID = "uid-new" })
	if err := b.reconcile(t.Context(), podName, false, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range eventstest.Queued(t, b.server, events.StageDelete) {
		t.Errorf("asked to delete generation %s (the new one is %s): %+v after %+v", c.Generation, fresh.Generation, *c.Delete, c.After)
	}
}
