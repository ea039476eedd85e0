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
	"syscall"

	"github.com/rs/zerolog"

	"berth/pkg/service"
)

const help = `perf: what Berth costs over plain Kubernetes, measured on this machine

Rounds of pods made straight through client-go (the floor) and rounds of pods
made through Berth take turns on the same cluster. Every answer is checked; the
exit code is 1 if one was wrong.

Usage: perf [flags]

Flags:
  --users N          how many users, one pod each (default 200)
  --concurrency N    how many of them at once (default 50)
  --rounds N         how often, each time first the floor, then Berth (default 3)
  --json             the figures as JSON
  --cpuprofile FILE  CPU profiles of this process in Berth's rounds, to FILE.1,
                     FILE.2 and so on; go tool pprof adds several up
  --help             this text
`

// plan says what is measured.
type plan struct {
	Users       int
	Concurrency int
	Rounds      int
	// Profile is where CPU profiles go, without the number of the round; empty for none.
	Profile string
	// Dir is an empty folder for everything that is stored.
	Dir string
}

func (p plan) check() error {
	if p.Users < 1 || p.Concurrency < 1 || p.Rounds < 1 {
		return errors.New("--users, --concurrency and --rounds must be positive")
	}
	return nil
}

func run(args []string, stdout, stderr io.Writer) int {
	p, asJSON, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return service.ExitClean
	}
	if err != nil {
		fmt.Fprintf(stderr, "perf: %v\nTry perf --help.\n", err)
		return service.ExitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal ends it at once.
	r, err := inFolder(ctx, p, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "perf: %v\n", err)
		return service.ExitFailure
	}
	if err := show(stdout, r, asJSON); err != nil {
		fmt.Fprintf(stderr, "perf: %v\n", err)
		return service.ExitFailure
	}
	if n := len(r.Failures); n > 0 {
		fmt.Fprintf(stderr, "perf: %d answers were wrong\n", n)
		return service.ExitFailure
	}
	return service.ExitClean
}

func parse(args []string) (p plan, asJSON bool, err error) {
	flags := flag.NewFlagSet("perf", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What it prints has no one form; help has.
	flags.IntVar(&p.Users, "users", 200, "")
	flags.IntVar(&p.Concurrency, "concurrency", 50, "")
	flags.IntVar(&p.Rounds, "rounds", 3, "")
	flags.BoolVar(&asJSON, "json", false, "")
	flags.StringVar(&p.Profile, "cpuprofile", "", "")
	if err := flags.Parse(args); err != nil {
		return p, false, err
	}
	if flags.NArg() > 0 {
		return p, false, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return p, asJSON, p.check()
}

// inFolder measures in a folder of its own, which it removes.
func inFolder(ctx context.Context, p plan, progress io.Writer) (r report, err error) {
	if p.Dir, err = os.MkdirTemp("", "berth-perf-"); err != nil {
		return report{}, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.Dir)) }()
	return measure(ctx, p, zerolog.New(progress).Level(zerolog.WarnLevel), progress)
}

// show writes the figures for people or for programs.
func show(w io.Writer, r report, asJSON bool) error {
	if !asJSON {
		return table(w, r)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}
