// Package eventstest has what tests and the development stack need of package
// events and its bus: NATS servers in the process, builders, and the
// conformance suite of natsbus.
package eventstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"berth/pkg/events/natsbus"
)

// startTimeout bounds the start of a server, and what is asked of one, on a machine that is busy with other tests.
const startTimeout = time.Minute

// Options are the options of [StartServer].
type Options struct {
	// Dir is where JetStream keeps its streams. It is made if it is missing.
	Dir string
	// Durable makes every write reach the disk before it is answered, so that it
	// survives a power loss.
	Durable bool
	// Listen is the address to listen on, host:port; port 0 is a free one. Empty
	// means none: the server is then reached by its InProcessConn only.
	Listen string
	// Users are who may connect; none means everybody, who may then do everything.
	Users []User
}

// User is one who may connect to a server.
type User struct {
	natsbus.Grant
	Password string
}

// Users returns a user for each service and the operator of a cluster, with
// passwords from a function of the user's name; nil makes them easy to guess.
func Users(cluster string, password func(user string) string) []User {
	if password == nil {
		password = func(user string) string { return "secret of the " + user }
	}
	var users []User
	for _, g := range natsbus.Grants(cluster) {
		users = append(users, User{g, password(g.User)})
	}
	return users
}

// serverUsers is what the server calls them.
func serverUsers(users []User) []*server.User {
	var all []*server.User
	for _, u := range users {
		all = append(all, &server.User{Username: u.User, Password: u.Password, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: u.Publish}, Subscribe: &server.SubjectPermission{Allow: u.Subscribe},
		}})
	}
	return all
}

// StartServer starts a NATS server with JetStream in this process and waits
// until it takes connections. The caller stops it with Shutdown and
// WaitForShutdown. It handles no signals, writes no log, and sets no limits of
// its own to what JetStream keeps.
func StartServer(opts Options) (*server.Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("start NATS: a folder is required")
	}
	o := serverOptions(opts.Dir)
	o.SyncAlways, o.Users = opts.Durable, serverUsers(opts.Users)
	o.DontListen = opts.Listen == ""
	if opts.Listen != "" {
		host, port, err := splitAddress(opts.Listen)
		if err != nil {
			return nil, fmt.Errorf("start NATS: %w", err)
		}
		o.Host, o.Port = host, port
	}
	return start(o)
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("listen address: %w", err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: %w", address, err)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

func serverOptions(dir string) *server.Options {
	return &server.Options{
		JetStream: true, StoreDir: dir, DontListen: true,
		NoLog: true, NoSigs: true,
	}
}

func start(o *server.Options) (*server.Server, error) {
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start NATS: it does not take connections after %s", startTimeout)
	}
	return s, nil
}

// Server is a NATS server of a test that can be stopped and started again on
// the same streams. It is stopped when the test ends.
type Server struct {
	tb  testing.TB
	dir string

	mu      sync.Mutex
	options server.Options
	running *server.Server
}

// NewServer starts a server that is reached through [Server.InProcessConn] only.
func NewServer(tb testing.TB) *Server {
	tb.Helper()
	return newServer(tb, serverOptions(tb.TempDir()))
}

// NewServerIn is [NewServer] with its streams in a folder that the test may
// change while the server is stopped.
func NewServerIn(tb testing.TB, dir string) *Server {
	tb.Helper()
	return newServer(tb, serverOptions(dir))
}

// NewListeningServer starts a server that listens on a free loopback port,
// which it keeps when it is started again.
func NewListeningServer(tb testing.TB) *Server {
	tb.Helper()
	o := serverOptions(tb.TempDir())
	o.DontListen, o.Host, o.Port = false, loopback(tb), server.RANDOM_PORT
	return newServer(tb, o)
}

// loopback returns an address of this machine that others hardly use, where it has several (Linux has all of 127.0.0.0/8): a port
// that others know before a server listens on it, or that a server gives up for a while, is then still free.
func loopback(tb testing.TB) string {
	tb.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)) //nolint:gosec // No secret.
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", host+":0")
	if err != nil {
		return "127.0.0.1"
	}
	_ = l.Close()
	return host
}

// admin is the user by which a test looks behind the services.
const admin = "admin"

// NewServerWithUsers is [NewListeningServer] with the users of a cluster, who may
// do what the design grants them and nothing else; see [Server.Credentials].
func NewServerWithUsers(tb testing.TB, cluster string) *Server {
	tb.Helper()
	o := serverOptions(tb.TempDir())
	o.DontListen, o.Host, o.Port = false, loopback(tb), server.RANDOM_PORT
	o.Users = serverUsers(append(Users(cluster, nil), User{
		Grant:    natsbus.Grant{User: admin, Publish: []string{">"}, Subscribe: []string{">"}},
		Password: "secret of the " + admin,
	}))
	return newServer(tb, o)
}

func newServer(tb testing.TB, o *server.Options) *Server {
	tb.Helper()
	o.AuthTimeout = startTimeout.Seconds()
	s := &Server{tb: tb, dir: o.StoreDir, options: *o}
	tb.Cleanup(s.Stop)
	s.Start()
	if !o.DontListen {
		u, err := url.Parse(s.URL())
		if err != nil {
			tb.Fatalf("parse the server's URL: %v", err)
		}
		if _, s.options.Port, err = splitAddress(u.Host); err != nil {
			tb.Fatalf("parse the server's URL: %v", err)
		}
	}
	return s
}

// Start starts the server, unless it runs.
func (s *Server) Start() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return
	}
	o := s.options
	running, err := start(&o)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.running = running
}

// Stop stops the server, if it runs. What was acknowledged stays.
func (s *Server) Stop() {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	if running != nil {
		quiet(running)
		running.Shutdown()
		running.WaitForShutdown()
	}
}

// quiet waits, for a second at most, until the server works on no request any
// more: a stream that is being made during a shutdown is never closed, and its
// goroutines would be called a leak.
func quiet(s *server.Server) {
	const rounds, pause = 100, 10 * time.Millisecond
	for range rounds {
		if state, err := s.Jsz(nil); err != nil || state.API.Inflight == 0 {
			return
		}
		<-time.After(pause)
	}
}

// Restart stops the server and starts it again on the same streams.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.Start()
}

// Wipe replaces the server by an empty one.
func (s *Server) Wipe() {
	s.tb.Helper()
	s.Stop()
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Fatalf("wipe NATS: %v", err)
	}
	s.Start()
}

// URL is where clients connect over the network.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return ""
	}
	return s.running.ClientURL()
}

var errStopped = errors.New("the server is stopped")

// InProcessConn connects to the server without a network, as nats.go asks for
// it with [nats.InProcessServer].
//
// [nats.InProcessServer]: https://pkg.go.dev/github.com/nats-io/nats.go#InProcessServer
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if running == nil {
		return nil, errStopped
	}
	return running.InProcessConn()
}
