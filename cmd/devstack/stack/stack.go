// Package stack runs everything that Berth is in one process: what devstack
// starts, and what the tests run against.
package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"berth/pkg/events/eventstest"
	"berth/pkg/kube/kubetest"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	api "berth/services/api/app"
	creator "berth/services/creator/app"
	deleter "berth/services/deleter/app"
	licenser "berth/services/licenser/app"
	watcher "berth/services/watcher/app"
)

// Options say what a stack consists of. Data is required.
type Options struct {
	// Listen is where the api listens: a loopback address; port 0 is a free one.
	Listen string
	// Data is the folder that keeps everything.
	Data string
	// Kubeconfig is the file of a cluster to use; empty starts one.
	Kubeconfig string
	// NATSURL is a NATS server to use; empty starts one.
	NATSURL string
	// DatabaseURL is a PostgreSQL to use. No service needs one yet.
	DatabaseURL string
	// Manifests is a folder of manifests to serve; empty serves the samples.
	Manifests string
	// Durable makes NATS and etcd wait for the disk at every write.
	Durable bool
	// Config is the site's configuration. Manifests of the stack's own server are
	// allowed besides what it allows.
	Config config.Config
	// Nodes is how many nodes a cluster of its own has; 0 means 10.
	Nodes int
	Log   zerolog.Logger
	// Progress gets a line for each step that takes long; nil for none.
	Progress io.Writer
}

// Check returns what is wrong with the options, before anything is started.
func (o Options) Check() error {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q: want an address like 127.0.0.1:8080: %w", o.Listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %q: only loopback addresses, since no caller has to prove who it is", o.Listen)
	}
	if o.Data == "" {
		return errors.New("--data must not be empty")
	}
	if o.NATSURL != "" {
		if u, err := url.Parse(o.NATSURL); err != nil || u.Scheme == "" || u.Host == "" {
			return errors.New("--nats-url: want a URL like nats://127.0.0.1:4222")
		}
	}
	for flag, path := range map[string]string{"--kubeconfig": o.Kubeconfig, "--manifests": o.Manifests} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return nil
}

// Stack is everything that runs. It is safe for concurrent use.
type Stack struct {
	*service.Lifecycle
	// URL is the api's.
	URL string
	// NATSURL, Kubeconfig and ManifestsURL are what the parts can be reached by.
	NATSURL, Kubeconfig, ManifestsURL string

	opts    Options
	nats    *server.Server
	cluster *kubetest.Cluster
}

// Start starts everything and returns when it can be used. An error says which
// part does not work; nothing is left running then.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	if err := opts.Check(); err != nil {
		return nil, err
	}
	s := &Stack{opts: opts}
	s.Lifecycle = service.NewLifecycle("devstack", opts.Log, s.start)
	return s, s.Lifecycle.Start(ctx)
}

// Wait returns when ctx ends or a part of the stack has failed; Stop says which.
func (s *Stack) Wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.Draining():
	}
}

func (s *Stack) start(ctx context.Context) error {
	if err := s.checkListen(ctx); err != nil {
		return err
	}
	data, err := filepath.Abs(s.opts.Data)
	if err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	s.opts.Data = data
	if err := s.claim(); err != nil {
		return err
	}
	if err := s.startManifests(ctx); err != nil {
		return err
	}
	if err := s.startNATS(); err != nil {
		return err
	}
	if err := s.startCluster(ctx); err != nil {
		return err
	}
	if err := s.startServices(ctx); err != nil {
		return err
	}
	return s.writeEnv()
}

// checkListen says at once that a port is in use, not after the control plane
// has started.
func (s *Stack) checkListen(ctx context.Context) error {
	probe, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opts.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --listen (make up LISTEN=127.0.0.1:8081)", s.opts.Listen, err)
	}
	return probe.Close()
}

// startNATS starts a NATS server, unless there is one to use.
func (s *Stack) startNATS() error {
	if s.opts.NATSURL != "" {
		s.NATSURL = s.opts.NATSURL
		return checkNATS(s.NATSURL)
	}
	nats, err := eventstest.StartServer(eventstest.Options{
		Dir: filepath.Join(s.opts.Data, "nats"), Durable: s.opts.Durable, Listen: "127.0.0.1:0",
	})
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	s.nats, s.NATSURL = nats, nats.ClientURL()
	s.OnStop("stop NATS", func(context.Context) error {
		nats.Shutdown()
		nats.WaitForShutdown()
		return nil
	})
	return nil
}

// unit is a service as the stack runs it.
type unit interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Draining() <-chan struct{}
}

// firstToStop returns the error of the first service that stops by itself.
func firstToStop(ctx context.Context, units []unit) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, u := range units {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-u.Draining():
				return cmp.Or(u.Stop(context.WithoutCancel(ctx)), errStopped)
			}
		})
	}
	return group.Wait()
}

var errStopped = errors.New("a service stopped by itself")

// startServices starts the five services and waits until the api is ready.
func (s *Stack) startServices(ctx context.Context) error {
	s.say("starting the services")
	options := func(name, listen string) worker.Options {
		o := worker.Options{Process: service.Process{
			Identity: service.NewIdentity(name), Config: s.opts.Config, Listen: listen,
			NATSURL: s.NATSURL, Kubeconfig: s.Kubeconfig, DatabaseURL: s.opts.DatabaseURL,
		}}
		o.Log = s.opts.Log.With().Str("service", name).Str("instance", o.Instance).Logger()
		if s.nats != nil {
			o.InProcess = s.nats
		}
		return o
	}
	const free = "127.0.0.1:0"
	front := api.New(options("api", s.opts.Listen))
	units := []unit{
		watcher.New(options("watcher", free)), licenser.New(options("licenser", free)),
		deleter.New(options("deleter", free)), creator.New(options("creator", free)), front,
	}
	s.OnStop("stop the services", func(ctx context.Context) error {
		var group errgroup.Group
		for _, u := range units {
			group.Go(func() error { return u.Stop(ctx) })
		}
		return group.Wait()
	})
	for _, u := range units {
		if err := u.Start(ctx); err != nil {
			return err
		}
	}
	s.Go("watch the services", func(ctx context.Context) error { return firstToStop(ctx, units) })
	s.URL = "http://" + front.Addr()
	return s.ready(ctx, front)
}

// ready waits until the api answers, which is when the log has been compared
// with the cluster.
func (s *Stack) ready(ctx context.Context, front *api.App) error {
	const limit = 30 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the api is not ready after %s", limit))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := front.Health.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// say writes a line of progress.
func (s *Stack) say(format string, args ...any) {
	if s.opts.Progress != nil {
		fmt.Fprintf(s.opts.Progress, "devstack: "+format+"\n", args...)
	}
}
