package app

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
)

// launching returns a creator whose pod has come to an event, and its launch.
func launching(t *testing.T, last events.Type) (*bench, natsbus.Delivery) {
	t.Helper()
	b := newBench(t)
	entry := eventstest.Bring(t, b.bus, name, user, last)
	c := eventstest.LaunchCommand(entry.Command, user, name, entry.Generation)
	c.Rendered = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `"}}`)
	return b, natsbus.Delivery{Attempt: 1, Command: c}
}

// deletes are the deletes that wait for the deleter.
func (b *bench) deletes(t *testing.T) []events.DeleteRequest {
	t.Helper()
	var requests []events.DeleteRequest
	for _, c := range eventstest.Queued(t, b.server, events.StageDelete) {
		requests = append(requests, *c.Delete)
	}
	return requests
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	over := []events.DeleteRequest{{LaunchOver: true}}
	tests := map[string]struct {
		last    events.Type
		want    events.Type
		made    int
		deletes []events.DeleteRequest
	}{
		"licensed":                         {events.Licensed, events.Launched, 1, nil},
		"again: it died at the API server": {events.Launching, events.Launched, 1, nil},
		"again: it was reported":           {events.Launched, events.Launched, 0, nil},
		"again: it is ready":               {events.Ready, events.Ready, 0, nil},
		"deleted after it had launched":    {events.Deleting, events.Deleting, 0, over},
		"gone":                             {events.Gone, events.Gone, 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := launching(t, tt.last)
			for range 2 {
				if err := b.launch(t.Context(), d); err != nil {
					t.Fatalf("launch: %v", err)
				}
				d.Attempt++
			}
			entry := b.last(t, d.Pod)
			if entry.Event != tt.want || entry.LaunchedAt.IsZero() {
				t.Errorf("the pod is %s, launched at %s; want %s", entry.Event, entry.LaunchedAt, tt.want)
			}
			if len(b.pods.made) != tt.made {
				t.Errorf("%d pods were made, want %d", len(b.pods.made), tt.made)
			}
			for _, pod := range b.pods.made {
				if command, generation := kube.Life(pod); command != d.ID || generation != d.Generation {
					t.Errorf("the pod is marked as %s of %s", generation, command)
				}
			}
			if d := cmp.Diff(tt.deletes, b.deletes(t)); d != "" {
				t.Errorf("deletes (-want +got):\n%s", d)
			}
		})
	}
}

func (b *bench) appends(t *testing.T, fact events.Fact) {
	t.Helper()
	if _, _, err := b.bus.Append(t.Context(), name, fact); err != nil {
		t.Error(err)
	}
}

// TestLaunchAfterADelete makes nothing, and says so where an attempt before may
// have made something.
func TestLaunchAfterADelete(t *testing.T) {
	t.Parallel()
	for last, want := range map[events.Type][]events.DeleteRequest{
		events.Licensed: nil, events.Launching: {{LaunchOver: true}},
	} {
		b, d := launching(t, last)
		b.appends(t, eventstest.Delete(d.Generation))
		if err := b.launch(t.Context(), d); err != nil {
			t.Errorf("launch = %v", err)
		}
		if len(b.pods.made) > 0 {
			t.Error("a pod was made after its delete")
		}
		if d := cmp.Diff(want, b.deletes(t)); d != "" {
			t.Errorf("deletes after %s (-want +got):\n%s", last, d)
		}
	}
}

// TestDeleteDuringALaunch: the API server is at it when the delete comes. What
// it makes is deleted.
func TestDeleteDuringALaunch(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	b.pods.during = func() { b.appends(t, eventstest.Delete(d.Generation)) }
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t, name); got.Event != events.Deleting || !got.LaunchedAt.IsZero() {
		t.Errorf("the pod is %s, launched at %s; a delete has no way back", got.Event, got.LaunchedAt)
	}
	if d := cmp.Diff([]events.DeleteRequest{{LaunchOver: true}}, b.deletes(t)); d != "" {
		t.Errorf("deletes (-want +got):\n%s", d)
	}
}

func TestLaunchOfAnotherLife(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	d.Generation = "1767323045000000000-1"
	if err := b.launch(t.Context(), d); err != nil {
		t.Errorf("launch = %v; there is nothing to do", err)
	}
	if got := b.last(t, name).Event; got != events.Licensed || len(b.pods.made) > 0 {
		t.Errorf("the pod is %s, and %d were made", got, len(b.pods.made))
	}
}

func TestLaunchRefused(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	b.pods.err = &cluster.RejectedError{Reason: kube.ReasonQuotaExceeded, Message: "exceeded quota: cpu"}
	err := b.launch(t.Context(), d)
	if err == nil || err.Error() != "exceeded quota: cpu" {
		t.Fatalf("launch = %v, want the API server's own words", err)
	}
	for range 2 {
		if err := b.failLaunch(t.Context(), d, events.QuotaExceeded, err.Error()); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.last(t, name); got.Event != events.Failed || got.Reason != events.QuotaExceeded || got.Message != "exceeded quota: cpu" {
		t.Errorf("the pod is %s %s: %s", got.Event, got.Reason, got.Message)
	}
	if d := cmp.Diff([]events.DeleteRequest{{LaunchOver: true}}, b.deletes(t)); d != "" {
		t.Errorf("deletes (-want +got):\n%s", d)
	}
}

// TestLaunchBehindAnother: a project's pod that follows another waits until the namespace's quota has been counted anew, and not for ever.
func TestLaunchBehindAnother(t *testing.T) {
	t.Parallel()
	again, never := reflect.TypeOf(natsbus.Again(0, nil)), reflect.TypeOf(natsbus.Permanent("", nil))
	const project = "0b0c4d1e-5f6a-4b7c-8d9e-0f1a2b3c4d5e"
	tests := map[string]struct {
		user    string
		attempt uint64
		reason  string
		want    reflect.Type
	}{
		"a project's pod": {events.ProjectUser(project), 1, kube.ReasonQuotaExceeded, again},
		"the last time":   {events.ProjectUser(project), recountAttempts, kube.ReasonQuotaExceeded, never},
		"another refusal": {events.ProjectUser(project), 1, kube.ReasonPodRejected, never},
		"a person's pod":  {user, 1, kube.ReasonQuotaExceeded, never},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := launching(t, events.Licensed)
			d.User, d.Attempt = tt.user, tt.attempt
			b.pods.err = &cluster.RejectedError{Reason: tt.reason, Message: "exceeded quota: cpu"}
			if err := b.launch(t.Context(), d); reflect.TypeOf(err) != tt.want {
				t.Errorf("launch = %T %v, want %s", err, err, tt.want)
			}
			if got := b.last(t, d.Pod); (got.Event == events.Waiting && got.Reason == events.QuotaExceeded) != (tt.want == again) {
				t.Errorf("the pod is %s %s: %q", got.Event, got.Reason, got.Message)
			}
		})
	}
}

func TestLaunchOfAnOccupiedName(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	b.pods.err = cluster.ErrOccupied
	for range 2 {
		if err := b.launch(t.Context(), d); !errors.Is(err, cluster.ErrOccupied) {
			t.Fatalf("launch = %v, want %v", err, cluster.ErrOccupied)
		}
		if got := b.last(t, name); got.Event != events.Waiting || got.Reason != events.NameOccupied || got.Message == "" {
			t.Errorf("the pod is %s %s: %q", got.Event, got.Reason, got.Message)
		}
	}
	b.pods.err = nil
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t, name); got.Event != events.Launched || got.Reason != "" {
		t.Errorf("the pod is %s %s, want launched", got.Event, got.Reason)
	}
}

// TestWaitingForANameIsNoProgress: the create timer must end it.
func TestWaitingForANameIsNoProgress(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	b.pods.err = cluster.ErrOccupied
	var progress []string
	for range 2 {
		if err := b.launch(t.Context(), d); err == nil {
			t.Fatal("launched")
		}
		progress = append(progress, b.last(t, name).ProgressAt.String())
	}
	if progress[0] != progress[1] {
		t.Errorf("a second attempt counts as progress: %v", progress)
	}
}

func TestLaunchWithoutTheCluster(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	b.pods.err = errors.New("connection refused")
	if err := b.launch(t.Context(), d); !errors.Is(err, b.pods.err) {
		t.Errorf("launch = %v, want %v", err, b.pods.err)
	}
	if got := b.last(t, name).Event; got != events.Launching {
		t.Errorf("the pod is %s, want launching", got)
	}
}

// TestLaunchThatKeepsFailing: after some attempts the record says why, and which licenses
// may be to blame, so that whoever waits for the pod learns it; it is tried all the same.
func TestLaunchThatKeepsFailing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	claimed := b.appendsTo(t, name, eventstest.Claim(name, user, "c1"))
	license := eventstest.License(claimed.Generation)
	license.Licenses = []events.License{{ID: "l", Title: "Physics", Patched: true}}
	b.appendsTo(t, name, license)
	c := eventstest.LaunchCommand("c1", user, name, claimed.Generation)
	c.Rendered = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `"}}`)
	d := natsbus.Delivery{Attempt: toldAttempt - 1, Command: c}
	b.pods.err = errors.New("create pod: the storage is broken")
	var progress []string
	for range 3 {
		if err := b.launch(t.Context(), d); !errors.Is(err, b.pods.err) {
			t.Fatalf("launch = %v, want %v", err, b.pods.err)
		}
		got := b.last(t, name)
		progress = append(progress, got.ProgressAt.String())
		told := got.Event == events.Waiting && got.Reason == events.Unavailable && strings.Contains(got.Message, "storage is broken") &&
			strings.Contains(got.Message, "Physics")
		if told != (d.Attempt >= toldAttempt) {
			t.Errorf("attempt %d: the pod is %s %s: %q", d.Attempt, got.Event, got.Reason, got.Message)
		}
		d.Attempt++
	}
	if progress[1] != progress[2] {
		t.Errorf("another attempt counts as progress: %v", progress)
	}
	b.pods.err = nil
	if err := b.launch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t, name); got.Event != events.Launched || got.Reason != "" || got.Message != "" {
		t.Errorf("the pod is %s %s: %q, want launched", got.Event, got.Reason, got.Message)
	}
}

func TestLaunchOfNonsense(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	d.Rendered = []byte(`"no pod"`)
	if err := b.launch(t.Context(), d); err == nil || !strings.HasPrefix(err.Error(), "read rendered pod: ") {
		t.Errorf("launch = %v", err)
	}
}
