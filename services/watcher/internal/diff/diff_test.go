package diff_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

const (
	name       = "notebook-alice"
	user       = "alice@example.org"
	command    = "018fb3e0-0000-7000-8000-000000000001"
	generation = "1767323045000000000-7"
	other      = "1767323045000000000-3"
	uid        = "uid-1"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// record is a pod of alice's after an event, with what it has by then.
func record(event events.Type, change ...func(*events.Record)) events.Record {
	r := events.Record{
		Event: event, Cluster: "main", Pod: name, User: user, Generation: generation, Command: command,
		ClaimedAt: now().Add(-time.Minute),
	}
	switch event {
	case events.Claimed, events.Licensed:
	case events.Launching:
		r.LaunchingAt = now().Add(-time.Second)
	default:
		r.LaunchingAt, r.LaunchedAt = now().Add(-2*time.Second), now().Add(-time.Second)
		r.Observed.UID = uid
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

// notLaunched is a record of a life that ended before `launched` was written.
func notLaunched(r *events.Record) {
	r.LaunchedAt, r.Observed = time.Time{}, events.Observed{}
}

// pod is what the cluster shows of that pod.
func pod(change ...func(*diff.Pod)) diff.Pod {
	p := diff.Pod{
		State: kube.State{
			UID: uid, ResourceVersion: "101", Phase: "Running", Ready: true, Progress: 4,
			ContainerName: "main", ContainerImage: "example.org/notebook:1",
		},
		User: user, Command: command, Generation: generation, Silo: "silo1", Ours: true,
	}
	for _, f := range change {
		f(&p)
	}
	return p
}

func terminating(p *diff.Pod) { p.Deleting = true }

func wasReady(p *diff.Pod) { p.Ready, p.WasReady = false, true }
func hasEnded(p *diff.Pod) { p.Ready, p.Ended = false, true }

// foreign is a pod of the backend that was here before: no annotations.
func foreign(p *diff.Pod) { p.Command, p.Generation, p.Silo = "", "", "" }

func look(p diff.Pod, change ...func(*diff.Look)) diff.Look {
	l := diff.Look{Name: name, Pod: p, Cluster: "main", At: now(), PullBackOffLimit: 3}
	for _, f := range change {
		f(&l)
	}
	return l
}

func complete(l *diff.Look) { l.Complete = true }
func missing(l *diff.Look)  { l.Missing = true }

func vanished(uid string) func(*diff.Look) { return func(l *diff.Look) { l.Vanished = uid } }

func observes(p diff.Pod) diff.Action {
	return diff.Action{Generation: generation, Fact: &events.Fact{
		Kind: events.FactObserve, Generation: generation, At: now(), Observed: diff.Observed(p.State), PullBackOffLimit: 3,
	}}
}

func adopts(p diff.Pod) diff.Action {
	return diff.Action{Fact: &events.Fact{
		Kind: events.FactAdopt, At: now(), Observed: diff.Observed(p.State),
		Record: events.Record{
			Cluster: "main", Pod: name, User: p.User, Command: p.Command, Generation: p.Generation, Silo: p.Silo,
			Container: "main", Image: "example.org/notebook:1",
		},
	}}
}

// established is the adoption of a pod that its users have had already.
func established(p diff.Pod) diff.Action {
	a := adopts(p)
	a.Fact.Record.ReadyAt = now()
	return a
}

func outside(vanished string) diff.Action {
	return diff.Action{
		Generation: generation, Delete: &events.DeleteRequest{Vanished: vanished},
		Fact: &events.Fact{
			Kind: events.FactDelete, Generation: generation, At: now(),
			Reason: events.DeletedOutside, Message: "the pod was deleted in Kubernetes",
		},
	}
}

func deletes(generation string, request events.DeleteRequest) diff.Action {
	return diff.Action{Generation: generation, Delete: &request}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	nothing := diff.Action{}
	tests := map[string]struct {
		record events.Record
		look   diff.Look
		want   diff.Action
	}{
		// Nothing is in the cluster.
		"nothing anywhere":                   {events.Record{}, look(diff.Pod{}), nothing},
		"nothing left of a pod that went":    {record(events.Gone), look(diff.Pod{}, vanished(uid)), nothing},
		"claimed, not made yet":              {record(events.Claimed), look(diff.Pod{}, complete), nothing},
		"being made":                         {record(events.Launching), look(diff.Pod{}, complete, vanished("uid-0")), nothing},
		"launched, the watch lags":           {record(events.Launched), look(diff.Pod{}), nothing},
		"launched, the comparison is unsure": {record(events.Launched), look(diff.Pod{}, complete), nothing},
		"launched, an earlier pod of the name went": {
			record(events.Launched), look(diff.Pod{}, vanished("uid-0")), nothing,
		},
		"vanished while it was ready":  {record(events.Ready), look(diff.Pod{}, vanished(uid)), outside(uid)},
		"vanished before it was ready": {record(events.Launched), look(diff.Pod{}, vanished(uid)), outside(uid)},
		"missing in a comparison":      {record(events.Ready), look(diff.Pod{}, complete, missing), outside("")},
		"vanished while being deleted": {record(events.Deleting), look(diff.Pod{}, vanished(uid)), deletes(generation, events.DeleteRequest{Vanished: uid})},
		"vanished after it had failed": {record(events.Failed), look(diff.Pod{}, vanished(uid)), deletes(generation, events.DeleteRequest{Vanished: uid})},
		"being deleted, another went":  {record(events.Deleting), look(diff.Pod{}, vanished("uid-0")), nothing},
		"being deleted, nothing heard": {record(events.Deleting), look(diff.Pod{}), nothing},
		"being deleted, nobody at it":  {record(events.Deleting), look(diff.Pod{}, complete), deletes(generation, events.DeleteRequest{})},
		"failed, nobody at it":         {record(events.Failed), look(diff.Pod{}, complete), deletes(generation, events.DeleteRequest{})},
		"deleted during its launch, its pod went": {
			record(events.Deleting, notLaunched), look(diff.Pod{}, vanished(uid)), deletes(generation, events.DeleteRequest{Vanished: uid}),
		},
		"being deleted and missing in a comparison": {
			record(events.Deleting), look(diff.Pod{}, complete, missing), deletes(generation, events.DeleteRequest{Vanished: uid}),
		},

		// Something is there that Berth must not touch.
		"not ours, no record":        {events.Record{}, look(pod(func(p *diff.Pod) { p.Ours = false }), complete), nothing},
		"not ours, in our pod's way": {record(events.Launching), look(pod(func(p *diff.Pod) { p.Ours = false }), complete), nothing},

		// A pod that the log does not know.
		"lost with the log":             {events.Record{}, look(pod()), adopts(pod())},
		"was ready before":              {events.Record{}, look(pod(wasReady)), established(pod(wasReady))},
		"ended before":                  {events.Record{}, look(pod(hasEnded)), established(pod(hasEnded))},
		"of the old backend":            {events.Record{}, look(pod(foreign)), adopts(pod(foreign))},
		"unknown and on its way out":    {events.Record{}, look(pod(terminating)), adopts(pod(terminating))},
		"re-made by hand after gone":    {record(events.Gone), look(pod(foreign, func(p *diff.Pod) { p.UID = "uid-2" })), adopts(pod(foreign, func(p *diff.Pod) { p.UID = "uid-2" }))},
		"gone, but there by its UID":    {record(events.Gone, func(r *events.Record) { r.Command = "" }), look(pod(foreign)), deletes(generation, events.DeleteRequest{Found: uid})},
		"gone, but there by its life":   {record(events.Gone, notLaunched), look(pod()), deletes(generation, events.DeleteRequest{Found: uid})},
		"gone, there by its command":    {record(events.Gone, notLaunched), look(pod(func(p *diff.Pod) { p.Generation = other })), deletes(generation, events.DeleteRequest{Found: uid})},
		"gone, there and terminating":   {record(events.Gone), look(pod(terminating)), nothing},
		"gone, there is a later life's": {record(events.Gone), look(pod(func(p *diff.Pod) { p.UID, p.Generation, p.Command = "uid-2", other, "x" })), adopts(pod(func(p *diff.Pod) { p.UID, p.Generation, p.Command = "uid-2", other, "x" }))},

		// A pod under a name that has another life.
		"left over from another life": {
			record(events.Claimed), look(pod(func(p *diff.Pod) { p.Generation, p.UID = other, "uid-0" })), deletes(other, events.DeleteRequest{Found: "uid-0"}),
		},
		"left over and terminating": {
			record(events.Claimed), look(pod(terminating, func(p *diff.Pod) { p.Generation, p.UID = other, "uid-0" })), nothing,
		},
		"replaced by hand": {
			record(events.Ready), look(pod(foreign, func(p *diff.Pod) { p.UID = "uid-2" })), outside(uid),
		},
		"copied with its annotations": {
			record(events.Ready), look(pod(func(p *diff.Pod) { p.UID = "uid-2" })), outside(uid),
		},
		"replaced while being deleted": {
			record(events.Deleting), look(pod(foreign, func(p *diff.Pod) { p.UID = "uid-2" })), deletes(generation, events.DeleteRequest{Vanished: uid}),
		},

		// The pod of the record.
		"ready":                       {record(events.Launched), look(pod()), observes(pod())},
		"seen before it was reported": {record(events.Launching), look(pod()), observes(pod())},
		"terminating from outside":    {record(events.Ready), look(pod(terminating)), observes(pod(terminating))},
		"adopted earlier":             {record(events.Ready, func(r *events.Record) { r.Command = "" }), look(pod(foreign)), observes(pod(foreign))},
		"being deleted, still there":  {record(events.Deleting), look(pod()), nothing},
		"failed, still there":         {record(events.Failed), look(pod()), nothing},
		"being deleted, still there in a comparison": {
			record(events.Deleting), look(pod(), complete), deletes(generation, events.DeleteRequest{}),
		},
		"failed, still there in a comparison": {
			record(events.Failed), look(pod(), complete), deletes(generation, events.DeleteRequest{}),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := diff.Decide(tt.record, tt.look)
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
				t.Errorf("Decide (-want +got):\n%s", d)
			}
		})
	}
}

// TestDecisionsAreTaken holds every fact that Decide returns against Next: it
// must be one that the log takes, or ignores without a fault.
func TestDecisionsAreTaken(t *testing.T) {
	t.Parallel()
	records := []events.Record{{}}
	for _, i := range events.Types() {
		records = append(records, record(i.Type))
		if i.Type.Over() {
			records = append(records, record(i.Type, notLaunched))
		}
	}
	pods := []diff.Pod{
		{},
		pod(), pod(terminating), pod(foreign), pod(foreign, terminating),
		pod(func(p *diff.Pod) { p.UID = "uid-2" }), pod(func(p *diff.Pod) { p.Generation = other }),
		pod(func(p *diff.Pod) { p.Ready, p.Ended, p.End = false, true, kube.Cause{Reason: kube.ReasonCrashed} }),
	}
	looks := [][]func(*diff.Look){nil, {complete}, {complete, missing}, {vanished(uid)}, {vanished("uid-0")}}
	for _, r := range records {
		for _, p := range pods {
			for _, l := range looks {
				action := diff.Decide(r, look(p, l...))
				if action.Delete != nil && action.Generation == "" {
					t.Errorf("Decide(%q, %+v): a delete of no generation", r.Event, p)
				}
				if action.Fact == nil {
					continue
				}
				if _, _, err := events.Next(r, *action.Fact); err != nil {
					t.Errorf("Next(%q, %s) = %v; Decide must not ask for what the log refuses", r.Event, action.Fact.Kind, err)
				}
			}
		}
	}
}

func TestStray(t *testing.T) {
	t.Parallel()
	want := deletes(generation, events.DeleteRequest{Found: uid})
	if d := cmp.Diff(want, diff.Stray(look(pod()))); d != "" {
		t.Errorf("Stray (-want +got):\n%s", d)
	}
	if d := cmp.Diff(diff.Action{}, diff.Stray(look(pod(terminating)))); d != "" {
		t.Errorf("Stray of a pod that is going already (-want +got):\n%s", d)
	}
}

func TestObserved(t *testing.T) {
	t.Parallel()
	start := now().Add(-time.Hour)
	common := kube.State{
		UID: uid, ResourceVersion: "7", Phase: "Pending", Progress: 2, Restarts: 3, IPs: []string{"10.0.0.1", "fd00::1"},
		HostNetwork: true, NodeName: "node-1", HostIP: "192.0.2.1", StartTime: start,
	}
	tests := map[string]struct {
		change func(*kube.State)
		want   events.Observed
	}{
		"waits": {
			func(s *kube.State) {
				s.Waiting = kube.Cause{Reason: kube.ReasonImagePull, Message: "not found"}
				s.BackOff, s.Hopeless = true, true
			},
			events.Observed{Reason: events.ImagePull, Message: "not found", BackOff: true, Hopeless: true},
		},
		"ended": {
			func(s *kube.State) {
				s.Waiting = kube.Cause{Reason: kube.ReasonNotReady}
				s.Ended, s.End = true, kube.Cause{Reason: kube.ReasonOOMKilled, Message: "killed"}
			},
			events.Observed{Ended: true, Reason: events.OOMKilled, Message: "killed"},
		},
		"ready, and announced to be put out": {
			func(s *kube.State) { s.Ready, s.End = true, kube.Cause{Reason: kube.ReasonEvicted} },
			events.Observed{Ready: true},
		},
		"terminating": {func(s *kube.State) { s.Deleting = true }, events.Observed{Terminating: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := common
			tt.change(&state)
			want := tt.want
			want.UID, want.ResourceVersion, want.Phase, want.Progress, want.Restarts = uid, "7", "Pending", 2, 3
			want.IPs, want.HostNetwork, want.Node, want.NodeIP, want.StartTime = common.IPs, true, "node-1", "192.0.2.1", start
			if d := cmp.Diff(want, diff.Observed(state), cmp.AllowUnexported(events.Observed{})); d != "" {
				t.Errorf("Observed (-want +got):\n%s", d)
			}
		})
	}
}

// TestReasonsAreTheLogs sees to it that whatever package kube says is on the
// log's list.
func TestReasonsAreTheLogs(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		kube.ReasonUnschedulable, kube.ReasonStarting, kube.ReasonPulling, kube.ReasonImagePull, kube.ReasonStoragePending,
		kube.ReasonContainerConfig, kube.ReasonNotReady, kube.ReasonCrashed, kube.ReasonOOMKilled, kube.ReasonCompleted,
		kube.ReasonEvicted, kube.ReasonNodeLost, kube.ReasonPodRejected, kube.ReasonQuotaExceeded,
	} {
		if !events.Reason(reason).Known() {
			t.Errorf("the log does not know the reason %q", reason)
		}
	}
}

// TestPatience: a pod that has just been launched and is starting is no news yet.
func TestPatience(t *testing.T) {
	t.Parallel()
	starting := func(p *diff.Pod) {
		p.Phase, p.Ready = "Pending", false
		p.Waiting = kube.Cause{Reason: kube.ReasonStarting, Message: "waiting for the scheduler"}
	}
	unschedulable := func(p *diff.Pod) {
		starting(p)
		p.Waiting.Reason = kube.ReasonUnschedulable
	}
	since := func(d time.Duration) func(*events.Record) {
		return func(r *events.Record) { r.LaunchedAt = now().Add(-d) }
	}
	for name, tc := range map[string]struct {
		record    events.Record
		pod       diff.Pod
		wantLater time.Duration
	}{
		"just launched":         {record(events.Launched, since(100*time.Millisecond)), pod(starting), 400 * time.Millisecond},
		"for a while":           {record(events.Launched, since(500*time.Millisecond)), pod(starting), 0},
		"news besides":          {record(events.Launched, since(0)), pod(unschedulable), 0},
		"ready":                 {record(events.Launched, since(0)), pod(), 0},
		"terminating":           {record(events.Launched, since(0)), pod(starting, terminating), 0},
		"it was waiting before": {record(events.Waiting, since(0)), pod(starting), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := diff.Decide(tc.record, look(tc.pod))
			if got.Later != tc.wantLater || (got.Fact == nil) != (tc.wantLater > 0) {
				t.Errorf("later = %s, fact = %v; want later %s", got.Later, got.Fact, tc.wantLater)
			}
		})
	}
}
