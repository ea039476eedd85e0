// Package cli is devstack's command line: its flags, signals, exit codes and what
// it prints.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"berth/cmd/devstack/stack"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

// stopLimit is how long a stop may take before devstack ends anyway.
const stopLimit = 9500 * time.Millisecond

const help = `devstack: all of Berth on this machine

It starts a NATS server, a PostgreSQL server, a Kubernetes control plane with
simulated nodes, a server of sample manifests, and Berth's five services, and prints
"ready http://ADDR" when they can be used. Ctrl-C stops all of it; what it
stored is there the next time.

Usage: devstack [flags]

Flags:
  --listen ADDR        where the api listens (default 127.0.0.1:8080; loopback only)
  --data DIR           where everything is kept (default .berth)
  --kubeconfig FILE    use this cluster instead of starting one
  --nats-url URL       use this NATS server (2.12 or newer) instead of starting one
  --database-url URL   use this PostgreSQL database instead of starting a server
  --config FILE        the site's configuration; BACKEND_* variables win over it
  --manifests DIR      serve the manifests of this folder instead of the samples
  --replicas N         how many of each service (default 1)
  --processes DIR      run each of them as a process of its own, from the programs
                       in DIR (make build puts them into bin)
  --durable            let NATS and etcd wait for the disk at every write
  --version, --help    print this and exit

Environment:
  LOG_LEVEL            trace, debug, info, warn or error (default info)
  BERTH_ROOT           a checkout of Berth, to build the control plane from

SIGHUP reloads the configuration: silos, limits and the allow-list.

Exit codes: 0 stopped, 1 failed, 2 wrong flags or configuration, 130 killed by a
second signal.
`

// Main runs devstack with the arguments of the process and returns the exit code.
func Main() int {
	service.TuneMemory()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	return run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr, signals)
}

func run(args, environ []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	opts, code, done := parse(args, environ, stdout, stderr)
	if done {
		return code
	}
	interactive := hasTerminal()
	load := func() (config.Config, []config.Notice, error) { return config.Load(opts.ConfigFile, environ) }
	var running atomic.Pointer[stack.Stack]
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, opts, stdout, stderr, running.Store) }()
	var expired <-chan time.Time
	for {
		select {
		case err := <-ended:
			if err != nil && !(expired != nil && errors.Is(err, context.Canceled)) {
				fmt.Fprintf(stderr, "devstack: %s\n", strings.TrimPrefix(err.Error(), "start devstack: "))
				return service.ExitFailure
			}
			return service.ExitClean
		case s := <-signals:
			if s == syscall.SIGHUP && !(interactive && !hasTerminal()) {
				if s := running.Load(); s != nil {
					s.Reload(load)
				}
				continue
			}
			if expired != nil {
				fmt.Fprintln(stderr, "devstack: killed by a second signal")
				return service.ExitKilled
			}
			fmt.Fprintln(stderr, "devstack: stopping; once more kills")
			cancel(service.SignalError{Signal: s})
			expired = time.After(stopLimit)
		case <-expired:
			fmt.Fprintln(stderr, "devstack: something did not stop in time; leaving it to the next start")
			return service.ExitFailure
		}
	}
}

// hasTerminal says whether the process has a terminal: one that is closed sends
// SIGHUP too, and nobody is left then to stop devstack.
func hasTerminal() bool {
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	_ = terminal.Close()
	return true
}

// serve starts the stack, says how to use it, tells started, and stops it when ctx
// ends or a part of it fails.
func serve(ctx context.Context, opts stack.Options, stdout, stderr io.Writer, started func(*stack.Stack)) error {
	s, err := stack.Start(ctx, opts)
	if err != nil {
		if ctx.Err() != nil {
			return context.Canceled
		}
		return err
	}
	started(s)
	fmt.Fprintf(stdout, "ready %s\n", s.URL)
	fmt.Fprint(stderr, s.Hint())
	s.Wait(ctx)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return s.Stop(stopCtx)
}

func parse(args, environ []string, stdout, stderr io.Writer) (opts stack.Options, code int, done bool) {
	var file string
	var version bool
	flags := flag.NewFlagSet("devstack", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What it prints has no one form; help has.
	flags.StringVar(&opts.Listen, "listen", "127.0.0.1:8080", "")
	flags.StringVar(&opts.Data, "data", ".berth", "")
	flags.StringVar(&opts.Kubeconfig, "kubeconfig", "", "")
	flags.StringVar(&opts.NATSURL, "nats-url", "", "")
	flags.StringVar(&opts.DatabaseURL, "database-url", "", "")
	flags.StringVar(&file, "config", "", "")
	flags.StringVar(&opts.Manifests, "manifests", "", "")
	flags.IntVar(&opts.Replicas, "replicas", 1, "")
	flags.StringVar(&opts.Processes, "processes", "", "")
	flags.BoolVar(&opts.Durable, "durable", false, "")
	flags.BoolVar(&version, "version", false, "")
	fail := func(err error) (stack.Options, int, bool) {
		fmt.Fprintf(stderr, "devstack: %v\nTry devstack --help.\n", err)
		return opts, service.ExitUsage, true
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help)
		return opts, service.ExitClean, true
	case err != nil:
		return fail(err)
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case opts.Replicas < 1:
		return fail(fmt.Errorf("--replicas %d: want at least 1", opts.Replicas))
	case version:
		fmt.Fprintf(stdout, "devstack %s\n", service.Version())
		return opts, service.ExitClean, true
	}
	settings, notices, err := config.Load(file, environ)
	if err != nil {
		return fail(fmt.Errorf("the configuration has faults:\n%w", err))
	}
	opts.Config, opts.ConfigFile, opts.Progress = settings, file, stderr
	if opts.Log, err = logger(stderr, settings.LogLevel); err != nil {
		return fail(err)
	}
	for _, n := range notices {
		if n.Path == "whitelistManifestRegex" && settings.WhitelistManifestRegex.IsZero() {
			continue // Nothing is allowed but the stack's own manifests, which is what a beginner wants.
		}
		opts.Log.Warn().Str("file", n.File).Int("line", n.Line).Str("key", n.Path).Msg(n.Message)
	}
	if err := opts.Check(); err != nil {
		return fail(err)
	}
	return opts, 0, false
}

// logger writes for people on a terminal and JSON elsewhere.
func logger(w io.Writer, configured string) (zerolog.Logger, error) {
	level := configured
	if v := os.Getenv("LOG_LEVEL"); v != "" {
		level = v
	}
	parsed, err := service.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("LOG_LEVEL: %w", err)
	}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		w = zerolog.ConsoleWriter{Out: f, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
