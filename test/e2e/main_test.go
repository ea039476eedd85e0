// Package e2e tests the whole: five services, a NATS server and a real Kubernetes
// control plane with simulated nodes, asked over HTTP as a silo does, and held
// against the cluster and the log.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/client-go/kubernetes"

	"berth/cmd/devstack/stack"
	"berth/pkg/kube/client"
	"berth/pkg/service/config"
)

// site is the stack that most tests share.
type site struct {
	*stack.Stack
	kube kubernetes.Interface
}

// shared is started by TestMain, once for all tests: a control plane takes some
// seconds and half a gigabyte.
var shared *site

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "berth-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
		defer cancel()
		settings := config.Default()
		settings.TimeoutCreate = 5 * time.Second
		settings.TimeoutDelete = 20 * time.Second
		settings.CreateDeadline = 5 * time.Second
		shared, err = start(ctx, stack.Options{
			Listen: "127.0.0.1:0", Data: dir, Config: settings, Manifests: "testdata/manifests", Progress: os.Stderr,
			Log: logger(filepath.Join(dir, "log")),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if err := shared.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "stop:", err)
			code = 1
		}
		if code != 0 {
			tail(filepath.Join(dir, "log"))
		}
		return code
	}())
}

func start(ctx context.Context, opts stack.Options) (*site, error) {
	s, err := stack.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	clients, _, err := client.New(client.Options{Kubeconfig: s.Kubeconfig, Service: "e2e", Version: "test"})
	if err != nil {
		return nil, err
	}
	return &site{Stack: s, kube: clients}, nil
}

func logger(path string) zerolog.Logger {
	f, err := os.Create(path)
	if err != nil {
		return zerolog.New(os.Stderr)
	}
	return zerolog.New(f).With().Timestamp().Logger()
}

// tail shows the end of the services' log after a failure.
func tail(path string) {
	const most = 16 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	fmt.Fprintf(os.Stderr, "--- the end of the services' log\n%s\n", text)
}
