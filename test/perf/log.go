package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// logServer is a NATS server in this process whose log has pods that are in no
// cluster.
type logServer struct{ server *server.Server }

// withLog starts a server, brings pods to an event, says that the log has been
// compared with the cluster, and lets f measure. Pod n is user n's.
func (l lab) withLog(ctx context.Context, pods int, last events.Type, f func(ctx context.Context, s *logServer) error) error {
	running, err := eventstest.StartServer(eventstest.Options{Dir: l.plan.Dir, Durable: l.plan.Durable, Listen: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer func() {
		running.Shutdown()
		running.WaitForShutdown()
	}()
	bus, err := natsbus.Connect(natsbus.Options{
		InProcess: running, Service: "watcher", Instance: "perf", Cluster: eventstest.Cluster, Logger: l.log,
	})
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Provision(ctx); err != nil {
		return err
	}
	if err := write(ctx, bus, pods, last); err != nil {
		return err
	}
	created, err := bus.Created(ctx)
	if err != nil {
		return err
	}
	if err := bus.MarkComplete(ctx, created.UnixNano(), pods); err != nil {
		return err
	}
	return f(ctx, &logServer{running})
}

// writers is how many pods are written at once.
const writers = 32

// write appends what a pod's life leaves in the log, for pods at once.
func write(ctx context.Context, bus *natsbus.Bus, pods int, last events.Type) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for n := range pods {
		group.Go(func() error {
			var entry natsbus.Entry
			name := podName(n)
			for _, fact := range eventstest.Life(name, userID(n), "command-"+name, "", "uid-"+name) {
				// A plain pod is ready before its first steps are news.
				if o := fact.Observed; o.UID != "" && !o.Ready && !o.Ended {
					continue
				}
				fact.Generation = entry.Generation
				var err error
				if entry, _, err = bus.AppendAfter(ctx, entry, name, fact); err != nil {
					return fmt.Errorf("write %s: %w", name, err)
				}
				if entry.Event == last {
					return nil
				}
			}
			return fmt.Errorf("write %s: no plain pod comes to %s", name, last)
		})
	}
	return group.Wait()
}

// podName is the name of user n's pod in a log that was written.
func podName(n int) string { return fmt.Sprintf("notebook-u%03d", n) }

// sent returns how many messages the clients with a name have sent to the server.
func (s *logServer) sent(name string) (int64, error) {
	connections, err := s.server.Connz(&server.ConnzOptions{})
	if err != nil {
		return 0, fmt.Errorf("read the server's connections: %w", err)
	}
	var messages int64
	for _, c := range connections.Conns {
		if c.Name == name {
			messages += c.InMsgs
		}
	}
	return messages, nil
}
