package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"

	"berth/pkg/service"
)

const help = `perf: what Berth costs over plain Kubernetes, measured on this machine

Pods made straight through client-go (the floor) and pods made through Berth
take turns on the same cluster. Every answer is checked.

Usage: perf [flags]

Flags:
  --scenario LIST    what to measure, with commas between, or all (default pods):
{scenarios}
  --users N          pods: how many users, one pod each (default 200)
  --concurrency N    pods: how many of them at once (default 50)
  --rounds N         pods: how often, each time first the floor, then Berth (default 3)
  --lives N          alone: how many pods of each side, one after the other (default 100)
  --polls N          polls: how many long polls, 20 for each pod (default 2000)
  --abandoned N      abandon: how many long polls (default 5000)
  --listed N         list: how many pods are in the log (default 3000)
  --requests N       list: how many requests (default 20000)
  --logged N         start: how many pods are in the log (default 10000)
  --replicas N       how many of each service there are (default 1)
  --processes DIR    each replica is a process of its own, from a program in DIR
                     (make build makes them in bin); what Berth itself asks of the API
                     server is not known then
  --durable          NATS and etcd wait for the disk at every write
  --json FILE        the figures as JSON, into FILE
  --svg FILE         a plot of how long things took, in pods and alone
  --cpuprofile FILE  CPU profiles of this process in the rounds of pods through
                     Berth, to FILE.1, FILE.2 and so on; go tool pprof adds several up
  --help             this text

Exit codes: 0 measured, 1 an answer was wrong, a promise broken, or it could not
be measured, 2 wrong flags, 130 interrupted.
`

// plan says what is measured.
type plan struct {
	Scenarios []string
	// How much of it; see the flags.
	Users, Concurrency, Rounds, Lives, Polls, Abandoned, Listed, Requests, Logged int
	// Replicas is how many of each service there are. Processes is the folder of
	// their programs; empty means that they run in this process.
	Replicas  int
	Processes string
	// Durable makes NATS and etcd wait for the disk at every write.
	Durable bool
	// Profile is where CPU profiles go, without the number of the round; empty for none.
	Profile string
	// Dir is an empty folder for everything that is stored.
	Dir string
}

// output says how the figures are shown.
type output struct {
	json string // The file of the figures; empty for none.
	svg  string // The file of the plot; empty for none.
}

func run(args []string, stdout, stderr io.Writer) int {
	p, out, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, strings.Replace(help, "{scenarios}\n", aboutScenarios(), 1))
		return service.ExitClean
	}
	if err != nil {
		fmt.Fprintf(stderr, "perf: %v; see perf --help\n", err)
		return service.ExitUsage
	}
	service.TuneMemory() // Berth runs in here.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal ends it at once.
	r, err := inFolder(ctx, p, stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "perf: interrupted; nothing is left running")
		return service.ExitKilled
	}
	if err == nil {
		err = show(stdout, r, out)
	}
	if err != nil {
		fmt.Fprintf(stderr, "perf: %v\n", err)
		return service.ExitFailure
	}
	if n := len(r.Failures); n > 0 {
		fmt.Fprintf(stderr, "perf: %d failures\n", n)
		return service.ExitFailure
	}
	return service.ExitClean
}

func parse(args []string) (p plan, out output, err error) {
	flags := flag.NewFlagSet("perf", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What it prints has no one form; help has.
	names := flags.String("scenario", "pods", "")
	counts := map[string]*int{}
	for _, c := range []struct {
		to    *int
		name  string
		value int
	}{
		{&p.Users, "users", 200},
		{&p.Concurrency, "concurrency", 50},
		{&p.Rounds, "rounds", 3},
		{&p.Lives, "lives", 100},
		{&p.Polls, "polls", 2000},
		{&p.Abandoned, "abandoned", 5000},
		{&p.Listed, "listed", 3000},
		{&p.Requests, "requests", 20000},
		{&p.Logged, "logged", 10000},
		{&p.Replicas, "replicas", 1},
	} {
		flags.IntVar(c.to, c.name, c.value, "")
		counts[c.name] = c.to
	}
	flags.StringVar(&p.Processes, "processes", "", "")
	flags.BoolVar(&p.Durable, "durable", false, "")
	flags.StringVar(&out.json, "json", "", "")
	flags.StringVar(&out.svg, "svg", "", "")
	flags.StringVar(&p.Profile, "cpuprofile", "", "")
	if err := flags.Parse(args); err != nil {
		return p, out, err
	}
	if flags.NArg() > 0 {
		return p, out, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	flags.VisitAll(func(f *flag.Flag) {
		if n := counts[f.Name]; n != nil && *n < 1 && err == nil {
			err = fmt.Errorf("--%s must be positive", f.Name)
		}
	})
	if err != nil {
		return p, out, err
	}
	if p.Polls%pollsPerPod != 0 {
		return p, out, fmt.Errorf("--polls must be a multiple of %d", pollsPerPod)
	}
	if p.Scenarios, err = chosen(*names); err != nil {
		return p, out, err
	}
	if out.svg != "" && !p.plots() {
		return p, out, errors.New("--svg has nothing to show without the scenario pods or alone")
	}
	return p, out, nil
}

// inFolder measures in a folder of its own, which it removes.
func inFolder(ctx context.Context, p plan, progress io.Writer) (r report, err error) {
	if p.Dir, err = os.MkdirTemp("", "berth-perf-"); err != nil {
		return report{}, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.Dir)) }()
	return measure(ctx, lab{plan: p, log: zerolog.New(progress).Level(zerolog.WarnLevel), progress: progress})
}

// show writes the figures for people or for programs, and the plot.
func show(w io.Writer, r report, out output) error {
	if out.svg != "" {
		if err := r.plot(out.svg); err != nil {
			return err
		}
	}
	if out.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(out.json, append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write figures: %w", err)
		}
	}
	return table(w, r)
}
