package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/pkg/kube/kubetest/proc"
	"berth/pkg/service"
	"berth/pkg/service/worker"
	api "berth/services/api/app"
	creator "berth/services/creator/app"
	deleter "berth/services/deleter/app"
	licenser "berth/services/licenser/app"
	watcher "berth/services/watcher/app"
)

// services are the names of the services and of their programs, in the order in
// which they are started.
func services() []string { return []string{"watcher", "licenser", "deleter", "creator", "api"} }

// replica is one of a service, in this process or as one of its own.
type replica interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	// Draining is closed when the replica stops by itself.
	Draining() <-chan struct{}
}

// free is a port that nobody uses.
const free = "127.0.0.1:0"

// startServices starts the replicas of the five services and waits until each of
// the api is ready.
func (s *Stack) startServices(ctx context.Context) error {
	s.say("starting the services")
	var starter *proc.Starter
	if s.opts.Processes != "" {
		if err := proc.EndLeftovers(s.notes()); err != nil {
			return err
		}
		starter = proc.NewStarter()
		s.OnStop("end the processes", func(context.Context) error { return starter.Close() })
	}
	var replicas []replica
	s.OnStop("stop the services", func(ctx context.Context) error {
		var group errgroup.Group
		for _, r := range replicas {
			group.Go(func() error { return r.Stop(ctx) })
		}
		return group.Wait()
	})
	for _, name := range services() {
		for n := range max(s.opts.Replicas, 1) {
			listen := free
			if name == "api" && n == 0 {
				listen = s.opts.Listen
			}
			r, address, err := s.startReplica(ctx, starter, name, n, listen)
			if err != nil {
				return err
			}
			replicas = append(replicas, r)
			s.Services[name] = append(s.Services[name], address())
			if name == "api" {
				s.URLs = append(s.URLs, "http://"+address())
			}
		}
	}
	s.URL = s.URLs[0]
	s.Go("watch the services", func(ctx context.Context) error { return firstToStop(ctx, replicas) })
	for _, url := range s.URLs {
		if err := ready(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

// startReplica starts the n-th replica of a service. Its address is known
// afterwards.
func (s *Stack) startReplica(
	ctx context.Context, starter *proc.Starter, name string, n int, listen string,
) (r replica, address func() string, err error) {
	if starter != nil {
		if listen, err = resolve(ctx, listen); err != nil {
			return nil, nil, err
		}
		p := s.program(starter, name, n, listen)
		s.programs = append(s.programs, p)
		r, address = p, func() string { return listen }
	} else {
		r, address = s.inProcess(name, listen)
	}
	return r, address, r.Start(ctx)
}

// inProcess is a replica in this process.
func (s *Stack) inProcess(name, listen string) (r replica, address func() string) {
	o := worker.Options{Process: service.Process{
		Identity: service.NewIdentity(name), Config: s.opts.Config, Reloads: s.reloads, Listen: listen, NATSURL: s.NATSURL, Kubeconfig: s.Kubeconfig,
		DatabaseURL: s.DatabaseURL,
	}}
	o.Log = s.opts.Log.With().Str("service", name).Str("instance", o.Instance).Logger()
	if s.nats != nil {
		o.InProcess, o.NATSURL, o.NATSUser, o.NATSPassword = s.nats, "", name, s.password(name)
	}
	switch name {
	case "api":
		a := api.New(o)
		return a, a.Addr
	case "creator":
		a := creator.New(o)
		return a, a.Addr
	case "deleter":
		a := deleter.New(o)
		return a, a.Addr
	case "licenser":
		a := licenser.New(o)
		return a, a.Addr
	default:
		a := watcher.New(o)
		return a, a.Addr
	}
}

// resolve finds a free port where port 0 is wanted: a process must be told where
// to listen, also when it is started again.
func resolve(ctx context.Context, address string) (string, error) {
	probe, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return probe.Addr().String(), probe.Close()
}

// firstToStop returns the error of the first replica that stops by itself.
func firstToStop(ctx context.Context, replicas []replica) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range replicas {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-r.Draining():
				return cmp.Or(r.Stop(context.WithoutCancel(ctx)), errStopped)
			}
		})
	}
	return group.Wait()
}

var errStopped = errors.New("a service stopped by itself")

// ready waits until an api answers, which is when the log has been compared with
// the cluster.
func ready(ctx context.Context, url string) error {
	const limit = time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the api is not ready after %s", limit))
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := askReady(ctx, &http.Client{Transport: transport}, url)
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

func askReady(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the api: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the api: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the api: it answers %s", response.Status)
	}
	return nil
}
