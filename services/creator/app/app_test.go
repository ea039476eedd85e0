package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/servicetest"
	"berth/pkg/service/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nowhere is a cluster that does not answer.
const nowhere = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`

func options(t *testing.T, server *eventstest.Server) worker.Options {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(nowhere), 0o600); err != nil {
		t.Fatal(err)
	}
	return worker.Options{InProcess: server, Process: service.Process{
		Identity: service.NewIdentity("creator"), Config: config.Default(), Log: zerolog.Nop(), Listen: "127.0.0.1:0", Kubeconfig: kubeconfig,
	}}
}

func TestStress(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	opts := options(t, server)
	servicetest.Stress(t, 5, func() servicetest.Service { return New(opts) })
}

func TestWithoutAKubeconfig(t *testing.T) {
	t.Parallel()
	opts := options(t, eventstest.NewServer(t))
	opts.Kubeconfig = filepath.Join(t.TempDir(), "missing")
	if err := New(opts).Start(t.Context()); err == nil {
		t.Error("it started without a cluster")
	}
}

// TestReload: the allow-list of a configuration that is reloaded holds from then on.
func TestReload(t *testing.T) {
	t.Parallel()
	manifests := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
	t.Cleanup(manifests.Close)
	server := eventstest.NewServer(t)
	opts := options(t, server)
	opts.Reloads = service.NewReloads(opts.Config)
	a := New(opts)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	verdict := func(id string) (o events.Outcome) {
		d := command(id, func(d *natsbus.Delivery) { d.Create.ManifestURL = manifests.URL + "/notebook.yaml" })
		if err := bus.Publish(t.Context(), d.Command, "1"); err != nil {
			t.Fatal(err)
		}
		eventstest.Eventually(t, "the command is decided", func() bool {
			var err error
			o, err = bus.Outcome(t.Context(), id)
			return err == nil && o.Verdict != ""
		})
		return o
	}
	if o := verdict("before"); o.Reason != events.ManifestForbidden {
		t.Errorf("before: %+v", o)
	}
	opts.Reloads.Reload(func() (config.Config, []config.Notice, error) {
		next := opts.Config
		var err error
		next.WhitelistManifestRegex, err = config.ParseManifestPattern(regexp.QuoteMeta(manifests.URL) + "/.*")
		return next, nil, err
	}, zerolog.Nop())
	if o := verdict("after"); o.Verdict != events.Accepted {
		t.Errorf("after: %+v", o)
	}
}
