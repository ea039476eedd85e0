package eventstest

import (
	"context"
	"testing"
	"time"

	"berth/pkg/events/natsbus"
)

// Cluster is the Kubernetes cluster that the builders and buses of tests are
// about, unless told otherwise.
const Cluster = "main"

// Site is what a bus connects to: a [Server] or a [Servers].
type Site interface {
	// Options are the options of natsbus.Connect that say where the site is.
	Options() natsbus.Options
}

var (
	_ Site = (*Server)(nil)
	_ Site = (*Servers)(nil)
)

// Options implements [Site]. Where the server has users, they are those of one
// who may do everything.
func (s *Server) Options() natsbus.Options {
	if s.options.DontListen {
		return natsbus.Options{InProcess: s}
	}
	user, password := s.Credentials(admin)
	return natsbus.Options{URL: s.URL(), User: user, Password: password}
}

// Credentials are the user and password of a service; empty where the server has
// no users.
func (s *Server) Credentials(service string) (user, password string) {
	for _, u := range s.options.Users {
		if u.Username == service {
			return u.Username, u.Password
		}
	}
	return "", ""
}

// NewBus connects a service to a site, with the streams made. It is closed when
// the test ends. The options can be changed before they are used. A request may take longer than a service gives it: the machine may
// be busy with other tests.
func NewBus(tb testing.TB, site Site, service string, change ...func(*natsbus.Options)) *natsbus.Bus {
	tb.Helper()
	opts := site.Options()
	opts.Service, opts.Instance, opts.Cluster, opts.RequestTimeout = service, "test", Cluster, requestTimeout
	if s, ok := site.(*Server); ok && opts.User != "" {
		opts.User, opts.Password = s.Credentials(service)
	}
	for _, f := range change {
		f(&opts)
	}
	bus, err := natsbus.Connect(opts)
	if err != nil {
		tb.Fatalf("connect to NATS: %v", err)
	}
	tb.Cleanup(bus.Close)
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	if err := bus.Provision(ctx); err != nil {
		tb.Fatalf("provision: %v", err)
	}
	return bus
}

// InCluster makes a bus one of another Kubernetes cluster, so that tests that
// share a site do not meet.
func InCluster(cluster string) func(*natsbus.Options) {
	return func(o *natsbus.Options) { o.Cluster = cluster }
}

// MarkComplete says that the log of a bus's cluster has been compared with the
// cluster, as a watcher does.
func MarkComplete(tb testing.TB, bus *natsbus.Bus) {
	tb.Helper()
	created, err := bus.Created(tb.Context())
	if err != nil {
		tb.Fatalf("ask for the log's age: %v", err)
	}
	if err := bus.MarkComplete(tb.Context(), created.UnixNano(), 0); err != nil {
		tb.Fatalf("mark the log complete: %v", err)
	}
}

// RunTable keeps a table up to date until the test ends, and returns when it is
// ready, for which the log must be marked complete.
func RunTable(tb testing.TB, table *natsbus.Table) {
	tb.Helper()
	Go(tb, table.Run)
	Eventually(tb, "the table is ready", func() bool { return table.Ready() == nil })
}

// Go runs f until the test ends, and then waits for its end; an error fails the
// test. The function returned ends it earlier.
func Go(tb testing.TB, f func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			tb.Errorf("run: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	tb.Cleanup(stop)
	return stop
}

// What is waited for is there soon, but on a machine that is busy with other tests.
const (
	pollEvery      = 5 * time.Millisecond
	pollTimeout    = 2 * time.Minute
	requestTimeout = 20 * time.Second
)

// Eventually waits until a condition holds. The test fails when it does not
// within two minutes; what says what was waited for.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.NewTimer(pollTimeout)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within %s: %s", pollTimeout, what)
		}
	}
}

// Receive takes the next value from a channel. The test fails when none comes
// within two minutes; what says what was waited for.
func Receive[T any](tb testing.TB, what string, ch <-chan T) (v T) {
	tb.Helper()
	deadline := time.NewTimer(pollTimeout)
	defer deadline.Stop()
	select {
	case v = <-ch:
	case <-deadline.C:
		tb.Fatalf("not within %s: %s", pollTimeout, what)
	}
	return v
}
