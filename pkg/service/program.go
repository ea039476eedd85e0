package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"berth/pkg/service/config"
)

// The exit codes of a [Program].
const (
	// ExitClean is a stop that was asked for, or a service that had nothing more to do.
	ExitClean = 0
	// ExitFailure is a service that failed; its log says why.
	ExitFailure = 1
	// ExitUsage is a command line, environment or configuration that is wrong; stderr says how.
	ExitUsage = 2
	// ExitKilled is a second signal, which ends the program at once.
	ExitKilled = 130
)

const (
	// giveUp ends a program that does not return after the first signal. It is longer than a
	// [Lifecycle] takes.
	giveUp = 15 * time.Second
	// traceFlush is what the export of the last spans may take.
	traceFlush = 2 * time.Second
)

// Program is the main function of a service:
//
//	func main() { os.Exit(service.Main("creator", app.Run)) }
type Program struct {
	// Name is the name of the service and of its binary.
	Name string
	// Summary says in a few words what it does, for --help.
	Summary string
	// Listen is the default of --listen; 127.0.0.1:0, a free port of loopback, if it is empty.
	Listen string
	// Run runs the service until the context ends, then drains it. An error that wraps the end of
	// the context is a clean stop.
	Run func(ctx context.Context, p Process) error
}

// Process is what a [Program] has read from its flags, environment and configuration.
type Process struct {
	Identity
	// Config is valid. It is the one that the process was started with.
	Config config.Config
	// Reloads tells of later ones, which SIGHUP asks for. It may be nil.
	Reloads *Reloads
	// Log is the logger of the service. The context of Run has it too.
	Log zerolog.Logger
	// Traces makes the spans of the service.
	Traces trace.TracerProvider
	// Listen is the address for health and metrics, and in the api for everything.
	Listen string
	// NATSURL is NATS_URL, nats://127.0.0.1:4222 if that is not set. It may hold a password.
	NATSURL string
	// NATSUser and NATSPassword are who the service is to that server; both are empty where it
	// asks for none, or NATSURL says it.
	NATSUser, NATSPassword string
	// Kubeconfig is KUBECONFIG. Empty means the service account of the pod.
	Kubeconfig string
	// DatabaseURL is DATABASE_URL, or empty. It may hold a password.
	DatabaseURL string
}

// SignalError is the cause of the context that a signal has ended.
type SignalError struct {
	Signal os.Signal
}

// Error implements error.
func (e SignalError) Error() string { return "received " + e.Signal.String() }

// Main runs a [Program] with this name and function, and returns the exit code.
func Main(name string, run func(ctx context.Context, p Process) error) int {
	return Program{Name: name, Run: run}.Main()
}

// Main runs the program with the arguments, environment, streams and signals of the process, and
// returns the exit code. The first SIGINT or SIGTERM ends the context of Run, with a
// [SignalError] as the cause; the second makes Main return at once. SIGHUP reloads the configuration, see
// [Reloads].
func (p Program) Main() int {
	TuneMemory()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	return p.main(call{
		args: os.Args[1:], environ: os.Environ(), getenv: os.Getenv,
		stdout: os.Stdout, stderr: os.Stderr, signals: signals,
	})
}

// call is how a program was called.
type call struct {
	args, environ  []string
	getenv         func(string) string
	stdout, stderr io.Writer
	signals        <-chan os.Signal
}

// say writes for people. There is no one to tell if that fails.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func (p Program) main(c call) int {
	o, code, done := p.parse(c)
	if done {
		return code
	}
	process, shutdown, err := p.process(c, o)
	if err != nil {
		say(c.stderr, "%s: %v\n", p.Name, err)
		return ExitUsage
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		process.Log.Warn().Err(err).Msg("Trace export failed")
	}))
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
		defer cancel()
		if err := shutdown(ctx); err != nil {
			process.Log.Warn().Err(err).Msg("Last traces lost")
		}
	}()
	reload := func() {
		process.Reloads.Reload(func() (config.Config, []config.Notice, error) { return config.Load(o.config, c.environ) }, process.Log)
	}
	return p.supervise(process, c.signals, reload)
}

// process makes what Run gets. Its errors are faults of whoever called the program.
func (p Program) process(c call, o options) (Process, func(context.Context) error, error) {
	settings, notices, err := config.Load(o.config, c.environ)
	if err != nil {
		return Process{}, nil, fmt.Errorf("the configuration has faults:\n%w", err)
	}
	level, err := ParseLevel(cmp.Or(c.getenv("LOG_LEVEL"), settings.LogLevel))
	if err != nil {
		return Process{}, nil, fmt.Errorf("LOG_LEVEL: %w", err)
	}
	user, password, err := natsUser(p.Name, c.getenv)
	if err != nil {
		return Process{}, nil, err
	}
	id := NewIdentity(p.Name)
	log := NewLogger(c.stderr, level, id)
	traces, shutdown, err := Tracing(context.Background(), id)
	if err != nil {
		return Process{}, nil, err
	}
	logNotices(log, notices)
	return Process{
		Identity: id, Config: settings, Reloads: NewReloads(settings), Log: log, Traces: traces, Listen: o.listen,
		NATSURL:  cmp.Or(c.getenv("NATS_URL"), defaultNATSURL),
		NATSUser: user, NATSPassword: password,
		Kubeconfig:  c.getenv("KUBECONFIG"),
		DatabaseURL: c.getenv("DATABASE_URL"),
	}, shutdown, nil
}

// maxPassword is the size of a file with a password, in bytes, at the most.
const maxPassword = 4096

// natsUser reads who the service is to the NATS server. With a password alone, the user has the
// name of the service.
func natsUser(service string, getenv func(string) string) (user, password string, err error) {
	password, file := getenv("NATS_PASSWORD"), getenv("NATS_PASSWORD_FILE")
	switch {
	case password != "" && file != "":
		return "", "", errors.New("NATS_PASSWORD and NATS_PASSWORD_FILE are both set: keep one")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", "", fmt.Errorf("NATS_PASSWORD_FILE: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
		if err != nil {
			return "", "", fmt.Errorf("NATS_PASSWORD_FILE: %w", err)
		}
		if password = strings.TrimRight(string(text), "\r\n"); password == "" || len(text) > maxPassword {
			return "", "", fmt.Errorf("NATS_PASSWORD_FILE: %s must hold one password, of at most %d bytes", file, maxPassword)
		}
	}
	if user = getenv("NATS_USER"); user != "" && password == "" {
		return "", "", errors.New("NATS_USER is set without a password: set NATS_PASSWORD or NATS_PASSWORD_FILE")
	}
	if user == "" && password != "" {
		user = service
	}
	return user, password, nil
}

// supervise runs the service until it returns, or a second signal or the time to give up comes. reload
// is called for each SIGHUP.
func (p Program) supervise(process Process, signals <-chan os.Signal, reload func()) int {
	ctx, cancel := context.WithCancelCause(process.Log.WithContext(context.Background()))
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, process) }()
	var expired <-chan time.Time // Nil, which never comes, until the first signal.
	for {
		select {
		case err := <-ended:
			if err != nil && (ctx.Err() == nil || !isEnd(ctx, err)) {
				process.Log.Error().Err(err).Msg("Service failed")
				return ExitFailure
			}
			return ExitClean
		case s := <-signals:
			if s == syscall.SIGHUP {
				reload()
				continue
			}
			if expired != nil {
				process.Log.Error().Stringer("signal", s).Msg("Killed by a second signal")
				return ExitKilled
			}
			process.Log.Info().Stringer("signal", s).Msg("Draining; a second signal kills")
			cancel(SignalError{Signal: s})
			expired = time.After(giveUp)
		case <-expired:
			process.Log.Error().Err(errors.New("the service did not stop in time")).Msg("Service failed")
			return ExitFailure
		}
	}
}
