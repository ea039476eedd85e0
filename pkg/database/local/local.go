// Package local runs a PostgreSQL server of its own, from the programs that the machine has, for tests and for
// the launcher. Linux only.
//
// The server listens on a loopback port, asks for a password, and ends with the process that started it, however that
// ends. Under root it runs as an unprivileged user.
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/pkg/kube/kubetest/proc"
)

const (
	// startTimeout is for a busy machine that has to make the data first, which usually takes 2 s, or to recover.
	startTimeout = 2 * time.Minute
	// stopGrace is what a server has to end its connections and write its data.
	stopGrace = 4 * time.Second
	// killTimeout is for processes that were killed, on a busy machine, to be no more.
	killTimeout = 30 * time.Second
	// startTries bounds starts again: somebody took the port, or the processes of a killed server have not ended yet.
	startTries = 20
	poll       = 20 * time.Millisecond
	// superuser may do everything in the server.
	superuser = "postgres"
	// maxConnections are enough for the tests of a package at once.
	maxConnections = 300
)

// ErrInUse is returned for a folder whose server runs.
var ErrInUse = errors.New("a server runs in the folder")

// Options say what server to start.
type Options struct {
	// Dir has all that belongs to the server, its data too. It is made where it is missing; one of an earlier server goes on with its data.
	Dir string
	// Port on 127.0.0.1, 0 for any free one.
	Port int
	// Durable keeps the data also when the machine loses power; without it writing is quicker.
	Durable bool
	// Progress gets a line for what takes its time; nil for nobody.
	Progress io.Writer
}

// Server is a running server. It is safe for concurrent use.
type Server struct {
	// URL is that of the database postgres, as a superuser. It has the password.
	URL string
	// Port is where it listens on 127.0.0.1.
	Port int

	data    string
	starter *proc.Starter
	process *proc.Process
	lock    *os.File
	stop    sync.Once
	stopErr error
}

// Start starts a server and returns when it answers. The caller stops it. It fails with [ErrNoBinaries] where
// PostgreSQL is not installed, and with [ErrInUse].
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.Dir == "" || opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("start PostgreSQL: Dir must not be empty, and Port not be %d", opts.Port)
	}
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	programs, err := binaries(debian)
	if err != nil {
		return nil, err
	}
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	// The server runs as another user, who passes through.
	lock, err := proc.Claim(opts.Dir, 0o711, ErrInUse)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", opts.Dir, err)
	}
	s := &Server{lock: lock, starter: proc.NewStarter()}
	if err := s.start(ctx, opts, programs); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL in %s: %w", opts.Dir, err), s.Stop())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, opts Options, programs string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
	defer cancel()
	if err := proc.EndLeftovers(filepath.Join(opts.Dir, "run")); err != nil {
		return err
	}
	who, err := unprivileged(opts.Dir)
	if err != nil {
		return err
	}
	home := filepath.Join(opts.Dir, "server")
	// The server would take a process of its old number for itself, be it one that nobody has reaped. The lock is ours, and
	// it still looks whether anybody uses its memory.
	if err := os.Remove(filepath.Join(home, "data", "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(opts.Dir, 0o711), who.give(home)); err != nil { //nolint:gosec // See claim.
		return err
	}
	spec := func(program string, args ...string) proc.Spec {
		return proc.Spec{
			// It comes into its folder only with the capabilities that it has once it runs.
			Name: program, Path: filepath.Join(programs, program), Args: args, Dir: "/",
			// Times and messages are the same on all machines.
			Env: []string{"PATH=" + programs + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"},
			Log: filepath.Join(opts.Dir, "logs", program+".log"), Note: filepath.Join(opts.Dir, "run", program+".json"),
			User: who.credential, Capabilities: who.capabilities,
		}
	}
	password, err := s.initialize(ctx, opts, home, who, spec)
	if err != nil {
		return err
	}
	var errs []error
	for range startTries {
		err := s.serve(ctx, opts, filepath.Join(home, "data"), password, spec)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		text := err.Error()
		if !strings.Contains(text, "Address already in use") && !strings.Contains(text, "is still in use") {
			break
		}
		if err := pause(ctx, 10*poll); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errs[len(errs)-1]
}

// initialize makes the data where there is none, and returns the password.
func (s *Server) initialize(
	ctx context.Context, opts Options, home string, who account, spec func(string, ...string) proc.Spec,
) (string, error) {
	data, secret, fresh := filepath.Join(home, "data"), filepath.Join(home, "password"), filepath.Join(home, "new")
	if _, err := os.Stat(data); err == nil {
		text, err := os.ReadFile(secret)
		return string(text), err
	}
	fmt.Fprintf(opts.Progress, "making a PostgreSQL in %s\n", opts.Dir)
	password := rand.Text()
	// What is left of an attempt that was killed.
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(secret, []byte(password), 0o600), who.give(secret)); err != nil {
		return "", err
	}
	args := []string{
		"--pgdata=" + fresh, "--username=" + superuser, "--pwfile=" + secret, "--auth=scram-sha-256",
		"--encoding=UTF8", "--no-locale", "--no-instructions",
	}
	if !opts.Durable {
		args = append(args, "--no-sync")
	}
	initdb, err := s.starter.Start(spec("initdb", args...))
	if err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-initdb.Done():
	}
	if err := initdb.Err(); err != nil {
		return "", err
	}
	return password, os.Rename(fresh, data)
}

// serve starts the server and waits until it answers.
func (s *Server) serve(ctx context.Context, opts Options, data, password string, spec func(string, ...string) proc.Spec) error {
	port := opts.Port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return err
		}
	}
	settings := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=",
		"max_connections=" + strconv.Itoa(maxConnections), "logging_collector=off", "timezone=UTC", "log_timezone=UTC",
	}
	if !opts.Durable {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", data}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	process, err := s.starter.Start(spec("postgres", args...))
	if err != nil {
		return err
	}
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, password), Path: "postgres",
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
	}
	s.process, s.Port, s.URL, s.data = process, port, address.String(), data
	for {
		if err := answers(ctx, s.URL); err == nil {
			return nil
		}
		select {
		case <-process.Done():
			if err := process.Err(); err != nil {
				return err
			}
			return errors.New("it has ended at once")
		default:
		}
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
}

func answers(ctx context.Context, address string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Returns at once.
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: %s has none", listener.Addr())
	}
	return address.Port, nil
}

// Done is closed when the server has ended, by itself too.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Err waits for the server's end and says how it ended, with the last lines of its log.
func (s *Server) Err() error { return s.process.Err() }

// Kill ends the server as the loss of its machine does, with the processes that serve its clients, and gives the folder back.
func (s *Server) Kill() error {
	// Nobody is served by a new process while we look for them.
	s.process.Signal(syscall.SIGSTOP)
	children, err := children(filepath.Join(s.data, "postmaster.pid"))
	s.process.Signal(syscall.SIGKILL)
	for _, pid := range children {
		// One that has ended already is no fault.
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), killTimeout, errors.New("processes of the server do not end"))
	defer cancel()
	for _, pid := range children {
		for runs(pid) && err == nil {
			err = pause(ctx, poll)
		}
	}
	return errors.Join(err, s.Stop())
}

// Stop ends the server and gives the folder back, within 5 s. Connections are ended. Further calls wait for the first and return the same.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		if s.process != nil {
			// SIGTERM would wait for the clients to leave; https://www.postgresql.org/docs/current/server-shutdown.html.
			s.process.Signal(syscall.SIGINT)
			timer := time.NewTimer(stopGrace)
			defer timer.Stop()
			select {
			case <-s.process.Done():
			case <-timer.C:
			}
		}
		s.stopErr = errors.Join(s.starter.Close(), s.lock.Close())
	})
	return s.stopErr
}
