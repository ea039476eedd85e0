package app

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/servicetest"
	"berth/pkg/service/worker"
)

const (
	notebook = "notebook-alice"
	user     = "alice@example.org"
	command  = "cmd-" + notebook
)

// bring returns a licenser without a database whose pod has come to an event, and the command for it.
func bring(t *testing.T, last events.Type) (*licenser, *eventstest.Server, natsbus.Delivery) {
	t.Helper()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "licenser")
	entry := eventstest.Bring(t, bus, notebook, user, last)
	d := natsbus.Delivery{Attempt: 1, Command: eventstest.LicenseCommand(command, user, notebook, entry.Generation)}
	return newLicenser(bus, config.Default(), zerolog.Nop(), nil), server, d
}

func TestLicense(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last      events.Type // Where the pod is when the command comes.
		want      events.Type // Where it is afterwards.
		wantsNext bool        // The launch is asked for.
	}{
		"a new pod": {events.Claimed, events.Licensed, true},
		"again, the launch may not have been asked": {events.Licensed, events.Licensed, true},
		"again, while it is launched":               {events.Launching, events.Launching, true},
		"again, after it was launched":              {events.Launched, events.Launched, false},
		"again, when it is ready":                   {events.Ready, events.Ready, false},
		"deleted meanwhile":                         {events.Deleting, events.Deleting, false},
		"gone":                                      {events.Gone, events.Gone, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, server, d := bring(t, tt.last)
			for range 2 {
				if err := a.license(t.Context(), d); err != nil {
					t.Fatalf("license: %v", err)
				}
				d.Attempt++
			}
			entry, err := a.bus.Last(t.Context(), notebook)
			if err != nil {
				t.Fatal(err)
			}
			if entry.Event != tt.want {
				t.Errorf("the pod is %s, want %s", entry.Event, tt.want)
			}
			if entry.Event == events.Licensed && entry.Licenses == nil {
				t.Error("the record does not say that no license is needed")
			}
			var want []events.Command
			if tt.wantsNext {
				want = []events.Command{eventstest.LaunchCommand(command, user, notebook, d.Generation)}
			}
			queued := eventstest.Queued(t, server, events.StageLaunch)
			for i := range queued {
				if k := queued[i].After; k == nil || k.Sequence != entry.Sequence || k.Record.Event != entry.Event {
					t.Errorf("the launch comes after %+v, want %+v", k, entry)
				}
				queued[i].After = nil
			}
			if d := cmp.Diff(want, queued); d != "" {
				t.Errorf("launches asked for (-want +got):\n%s", d)
			}
		})
	}
}

// TestLicenseOfAnotherLife: a command of a pod that went must not touch the one
// that has its name now.
func TestLicenseOfAnotherLife(t *testing.T) {
	t.Parallel()
	a, server, d := bring(t, events.Claimed)
	d.Generation = "1767323045000000000-1"
	if err := a.license(t.Context(), d); err != nil {
		t.Errorf("license = %v; there is nothing to do", err)
	}
	if entry, err := a.bus.Last(t.Context(), notebook); err != nil || entry.Event != events.Claimed {
		t.Errorf("the pod is %s (%v), want claimed", entry.Event, err)
	}
	if queued := eventstest.Queued(t, server, events.StageLaunch); len(queued) > 0 {
		t.Errorf("launches asked for: %+v", queued)
	}
}

func TestLicenseWithoutTheLog(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	entry := eventstest.Bring(t, eventstest.NewBus(t, server, "creator"), notebook, user, events.Claimed)
	bus := eventstest.NewBus(t, server, "licenser")
	server.Stop()
	a := newLicenser(bus, config.Default(), zerolog.Nop(), nil)
	d := natsbus.Delivery{Command: eventstest.LicenseCommand(command, user, notebook, entry.Generation)}
	if err := a.license(t.Context(), d); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("license = %v, want %v", err, natsbus.ErrUnavailable)
	}
}

func optionsOf(server *eventstest.Server) worker.Options {
	cfg := config.Default()
	cfg.Projects.Image, cfg.Projects.Tag = "hub.example/project", "v1"
	return worker.Options{InProcess: server, Process: service.Process{
		Identity: service.NewIdentity("licenser"), Config: cfg, Log: zerolog.Nop(), Listen: "127.0.0.1:0",
	}}
}

// TestService is the licenser as it runs: a command comes in, the next goes out.
func TestService(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	entry := eventstest.Bring(t, bus, notebook, user, events.Claimed)
	if err := bus.Publish(t.Context(), eventstest.LicenseCommand(command, user, notebook, entry.Generation), "1"); err != nil {
		t.Fatal(err)
	}
	a := New(optionsOf(server))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the launch is asked for, and the command done", func() bool {
		return len(eventstest.Queued(t, server, events.StageLaunch)) == 1 && len(eventstest.Queued(t, server, events.StageLicense)) == 0
	})
	eventstest.Eventually(t, "it is ready", func() bool { return a.Health.Ready(t.Context()) == nil })
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOneCommandHoldsUpNoOther: what cannot be done yet is tried again beside the rest.
func TestOneCommandHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	entry := eventstest.Bring(t, bus, notebook, user, events.Claimed)
	a := New(optionsOf(server))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []events.Command{
		eventstest.LicenseCommand("cmd-lost", user, "lost", entry.Generation), // The log has no such pod.
		eventstest.LicenseCommand(command, user, notebook, entry.Generation),
	} {
		if err := bus.Publish(t.Context(), c, "1"); err != nil {
			t.Fatal(err)
		}
	}
	eventstest.Eventually(t, "the other command is done", func() bool {
		return len(eventstest.Queued(t, server, events.StageLaunch)) == 1
	})
	if queued := eventstest.Queued(t, server, events.StageLicense); len(queued) != 1 || queued[0].ID != "cmd-lost" {
		t.Errorf("queued = %+v, want what cannot be done yet", queued)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStress(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	servicetest.Stress(t, 5, func() servicetest.Service { return New(optionsOf(server)) })
}
