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
	nc, err := nats.Connect(s.log.URL, nats.UserInfo(s.log.User, s.log.Password))
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
		nc, err := nats.Connect(s.log.URL, nats.UserInfo(s.log.User, s.log.Password))
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
	tests := map[string]struct {
		manifest string
		phase    events.Type
		// hold keeps a pod from getting further; what it returns lets it. Without it
		// the pod does not get further by itself, and the shared stack will do.
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
		"waiting": {"too-big", events.Waiting, nil, false},
		"running": {"never-ready", events.Running, nil, false},
		"ready":   {"notebook", events.Ready, nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const user = "changed@example.org"
			s, proceed := shared.site, func(*testing.T) {}
			if tc.hold != nil {
				p, services := whole(t)
				s, proceed = p.site, tc.hold(t, scene{p, services})
				defer p.untouched(t)
			}
			pod := s.create(t, user, tc.manifest)
			s.reaches(t, pod, tc.phase)
			watched := make(chan bool, 1)
			go func() { watched <- s.ready(t, user, pod) }()
			if tc.phase == events.Ready {
				receive(t, "the answer to the watcher of the create", watched)
			}
			s.remove(t, user, pod)
			if tc.phase != events.Ready && receive(t, "the answer to the watcher of the create", watched) {
				t.Error("the watcher of the create was told ready")
			}
			if s.ready(t, user, pod) {
				t.Error("ready after the delete")
			}
			if tc.stays {
				s.reaches(t, pod, events.Deleting)
				proceed(t)
			}
			s.gone(t, user, pod)
			if !tc.stays {
				proceed(t)
			}
			s.lives(t, pod)
		})
	}
}

// untouched sees to it that nothing is made any more: all commands that there
// are have been carried out, and nothing is in the cluster.
func (p *parts) untouched(t *testing.T) {
	t.Helper()
	p.idle(t)
	if left := p.objects(t); len(left) > 0 {
		t.Errorf("left in the cluster: %v", left)
	}
}
