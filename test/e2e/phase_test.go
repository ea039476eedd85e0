package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// pause stops the deliveries of a stage's commands, until the function that it
// returns is called.
func (s *site) pause(t *testing.T, stage events.Stage) (resume func()) {
	t.Helper()
	nc, err := nats.Connect(s.log.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	set := func(ctx context.Context, js jetstream.JetStream, until time.Time) {
		t.Helper()
		if _, err := js.PauseConsumer(ctx, events.CommandStream, "main-"+string(stage), until); err != nil {
			t.Fatalf("pause the stage %s: %v", stage, err)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	set(t.Context(), js, time.Now().Add(time.Hour))
	return func() {
		t.Helper()
		nc, err := nats.Connect(s.log.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		set(t.Context(), js, time.Now().Add(-time.Second))
	}
}

// TestDeleteInEachPhase: a delete wins in whatever phase of its create a pod is.
// The watcher of the create is told at once, and nothing is left.
func TestDeleteInEachPhase(t *testing.T) {
	t.Parallel()
	type scene struct {
		*parts
		services map[string]*replica
	}
	nothing := func(*testing.T, scene) func(*testing.T) { return func(*testing.T) {} }
	tests := map[string]struct {
		manifest string
		phase    events.Type
		// hold keeps a pod from getting further; what it returns lets it.
		hold func(t *testing.T, s scene) func(t *testing.T)
		// stays says that the pod cannot go before it is let.
		stays bool
	}{
		"claimed": {"notebook", events.Claimed, func(t *testing.T, s scene) func(*testing.T) {
			t.Helper()
			s.services["licenser"].stop(t)
			return func(t *testing.T) { t.Helper(); s.replica(t, "licenser") }
		}, false},
		"licensed": {"notebook", events.Licensed, func(t *testing.T, s scene) func(*testing.T) {
			t.Helper()
			resume := s.pause(t, events.StageLaunch)
			return func(*testing.T) { resume() }
		}, false},
		"launching, the API server has not heard of it": {"notebook", events.Launching, func(t *testing.T, s scene) func(*testing.T) {
			t.Helper()
			s.services["creator"].cluster.block()
			return func(*testing.T) { s.services["creator"].cluster.unblock() }
		}, true},
		"launched": {"notebook", events.Launched, func(t *testing.T, s scene) func(*testing.T) {
			t.Helper()
			s.services["watcher"].stop(t)
			return func(t *testing.T) { t.Helper(); s.replica(t, "watcher") }
		}, true},
		"waiting": {"too-big", events.Waiting, nothing, false},
		"running": {"never-ready", events.Running, nothing, false},
		"ready":   {"notebook", events.Ready, nothing, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const user = "changed@example.org"
			p, services := whole(t)
			proceed := tc.hold(t, scene{p, services})
			pod := p.create(t, user, tc.manifest)
			p.newest(t, pod, tc.phase)
			watched := make(chan bool, 1)
			go func() { watched <- p.ready(t, user, pod) }()
			p.remove(t, user, pod)
			if tc.phase != events.Ready {
				if got := receive(t, "the answer to the watcher of the create", watched); got {
					t.Error("the watcher of the create was told ready")
				}
			}
			if p.ready(t, user, pod) {
				t.Error("ready after the delete")
			}
			if tc.stays {
				p.newest(t, pod, events.Deleting)
				proceed(t)
			}
			p.gone(t, user, pod)
			if !tc.stays {
				proceed(t)
			}
			if tc.phase == events.Ready {
				receive(t, "the answer to the watcher of the create", watched)
			}
			p.untouched(t, pod, events.Gone)
		})
	}
}

// untouched sees to it that a pod stays at an event, and nothing is made: all
// commands that there are have been carried out.
func (p *parts) untouched(t *testing.T, pod string, event events.Type) {
	t.Helper()
	p.idle(t)
	history := p.history(t, pod, event)
	for _, e := range history {
		if e.Generation != history[0].Generation {
			t.Errorf("history %v has several lives", types(history))
		}
	}
	if left := p.objects(t); len(left) > 0 {
		t.Errorf("left in the cluster: %v", left)
	}
}
