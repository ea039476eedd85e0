package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"berth/pkg/events/eventstest"
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
		Identity: service.NewIdentity("deleter"), Config: config.Default(), Log: zerolog.Nop(), Listen: "127.0.0.1:0", Kubeconfig: kubeconfig,
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
