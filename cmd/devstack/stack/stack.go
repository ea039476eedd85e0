// Package stack runs everything that Berth is on one machine: what devstack
// starts, and what the tests run against.
package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube/kubetest"
	"berth/pkg/service"
	"berth/pkg/service/config"
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
	// DatabaseURL is a PostgreSQL database to use; empty starts a server.
	DatabaseURL string
	// Manifests is a folder of manifests to serve; empty serves the samples.
	Manifests string
	// Durable makes NATS and etcd wait for the disk at every write.
	Durable bool
	// Config is the site's configuration. Manifests of the stack's own server are
	// allowed besides what it allows.
	Config config.Config
	// Replicas is how many of each service there are; 0 means 1.
	Replicas int
	// Processes is a folder with the programs of the services. Where it is set, each
	// replica is a process of its own, which is started again when it ends; else all
	// are in this process.
	Processes string
	// ConfigFile is where Config comes from, for those processes; empty for none.
	ConfigFile string
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
	if o.DatabaseURL != "" {
		if u, err := url.Parse(o.DatabaseURL); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return errors.New("--database-url: want a URL like postgres://user:password@127.0.0.1:5432/berth")
		}
	}
	if o.Replicas < 0 || o.Replicas > maxReplicas {
		return fmt.Errorf("--replicas %d: want 1 to %d", o.Replicas, maxReplicas)
	}
	for flag, path := range map[string]string{"--kubeconfig": o.Kubeconfig, "--manifests": o.Manifests, "--processes": o.Processes} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if o.Processes == "" {
		return nil
	}
	for _, name := range services() {
		if _, err := exec.LookPath(filepath.Join(o.Processes, name)); err != nil {
			return fmt.Errorf("--processes: %w; make build puts the programs into bin", err)
		}
	}
	return nil
}

// maxReplicas is more than one machine can use.
const maxReplicas = 9

// Stack is everything that runs. It is safe for concurrent use.
type Stack struct {
	*service.Lifecycle
	// URL is that of the first replica of the api, URLs are those of all.
	URL  string
	URLs []string
	// Services are the addresses of all replicas, by the names of the services.
	Services map[string][]string
	// NATSURL is where the log is, for one who may read it; Kubeconfig and
	// ManifestsURL are what the other parts can be reached by.
	NATSURL, Kubeconfig, ManifestsURL string
	// DatabaseURL is that of the database, with the password.
	DatabaseURL string

	opts Options
	// admin is the hash of the administrator's token that the stack has made, and adminText is that
	// hash as a configuration has it.
	admin     config.Hash
	adminText string
	nats      *server.Server // Nil where the server is another's.
	users     []eventstest.User
	cluster   *kubetest.Cluster
	reloads   *service.Reloads
	// programs are the replicas that are processes of their own.
	programs []*program
}

// Start starts everything and returns when it can be used. An error says which
// part does not work; nothing is left running then.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	if err := opts.Check(); err != nil {
		return nil, err
	}
	s := &Stack{opts: opts, Services: map[string][]string{}}
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
	if err := s.makeAdmin(); err != nil {
		return err
	}
	if err := s.startManifests(ctx); err != nil {
		return err
	}
	s.reloads = service.NewReloads(s.opts.Config)
	if err := s.startNATS(); err != nil {
		return err
	}
	if err := s.startDatabase(ctx); err != nil {
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
	s.users = eventstest.Users(s.opts.Config.Cluster, func(string) string { return rand.Text() })
	nats, err := eventstest.StartServer(eventstest.Options{
		Dir: filepath.Join(s.opts.Data, "nats"), Durable: s.opts.Durable, Listen: "127.0.0.1:0", Users: s.users,
	})
	if err != nil {
		return err
	}
	s.nats, s.NATSURL = nats, withUser(nats.ClientURL(), natsbus.Operator, s.password(natsbus.Operator))
	s.OnStop("stop NATS", func(context.Context) error {
		nats.Shutdown()
		nats.WaitForShutdown()
		return nil
	})
	return nil
}

// password is that of a user of the stack's own NATS server.
func (s *Stack) password(user string) string {
	for _, u := range s.users {
		if u.User == user {
			return u.Password
		}
	}
	return ""
}

// withUser is the URL of a server for one of its users.
func withUser(address, user, password string) string {
	u := &url.URL{Scheme: "nats", User: url.UserPassword(user, password), Host: strings.TrimPrefix(address, "nats://")}
	return u.String()
}

// say writes a line of progress.
func (s *Stack) say(format string, args ...any) {
	if s.opts.Progress != nil {
		fmt.Fprintf(s.opts.Progress, "devstack: "+format+"\n", args...)
	}
}
