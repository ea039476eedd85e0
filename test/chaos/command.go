package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"berth/pkg/service"
	"berth/test/chaos/verdict"
)

const help = `chaos: whether Berth keeps its promises while everything around it breaks

Starts a Kubernetes, NATS, PostgreSQL and replicas of each service, each a process
of its own. Users make, watch, list and delete pods at random; projects are started,
stopped and restarted, over HTTP and by their hub, while their licenses change.
Meanwhile processes are killed, stopped and paused, and the networks between them
break. In the end everything that was seen in the log, in Kubernetes, in the database
and in the answers is held against what must always hold.

Usage: chaos [flags]

Flags:
  --duration D  over how long the faults are spread (default 1m)
  --faults N    how many faults (default: one a second)
  --pods N      how many pods are made at least (default 100)
  --seed N      decides the faults and what users do (default: a new one)
  --replicas N  processes of each service (default 2)
  --users N     how many at once (default 20)
  --projects N  how many projects (default 10)
  --bin DIR     take the services from there (default: build them)
  --keep        keep the folder with the logs of all processes and all that was
                seen (evidence.json); it is kept anyway when a promise was broken
  --json        the report as JSON
  --help        this text

Ctrl-C ends a run early; what was seen is judged all the same.
Exit codes: 0 all promises kept, 1 one was broken or the run failed, 2 wrong usage.
`

// Command is the program: it reads the arguments, runs, reports, and returns
// the exit code.
func Command(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return service.ExitClean
	}
	if err != nil {
		fmt.Fprintf(stderr, "chaos: %v\nTry chaos --help.\n", err)
		return service.ExitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal ends it at once.
	if o.Dir, err = os.MkdirTemp("", "berth-chaos-"); err != nil {
		fmt.Fprintf(stderr, "chaos: make a folder: %v\n", err)
		return service.ExitFailure
	}
	fmt.Fprintf(stderr, "chaos: seed %d, everything is in %s\n", o.Seed, o.Dir)
	report, err := Run(ctx, o.Plan, stderr)
	if err == nil {
		err = keep(o.Dir, report.Evidence)
	}
	if err == nil && len(report.Breaches) == 0 && !o.keep {
		err = os.RemoveAll(o.Dir)
	}
	if report.Took > 0 { // It came to a verdict, whatever went wrong beside it.
		err = errors.Join(err, show(stdout, report, o.json))
	}
	if err != nil {
		_ = os.Remove(o.Dir) // If nothing is in it.
		fmt.Fprintf(stderr, "chaos: %v\n", err)
		return service.ExitFailure
	}
	if len(report.Breaches) > 0 {
		return service.ExitFailure
	}
	return service.ExitClean
}

type options struct {
	Plan
	json, keep bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What it prints has no one form; help has.
	flags.DurationVar(&o.Duration, "duration", time.Minute, "")
	flags.IntVar(&o.Faults, "faults", -1, "")
	flags.IntVar(&o.Pods, "pods", 100, "")
	flags.Uint64Var(&o.Seed, "seed", rand.Uint64(), "")
	flags.IntVar(&o.Replicas, "replicas", 2, "")
	flags.IntVar(&o.Users, "users", 20, "")
	flags.IntVar(&o.Projects, "projects", 10, "")
	flags.StringVar(&o.Bin, "bin", "", "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.keep, "keep", false, "")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.Bin != "" {
		for _, service := range services() {
			if _, err := exec.LookPath(filepath.Join(o.Bin, service)); err != nil {
				return o, fmt.Errorf("--bin: %w; make build puts the programs into bin", err)
			}
		}
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.Faults == -1 {
		o.Faults = int(o.Duration / time.Second)
	}
	return o, o.check()
}

// keep writes everything that was seen beside the logs.
func keep(dir string, e verdict.Evidence) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evidence.json"), text, 0o600); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

// show writes the report for people or for programs.
func show(w io.Writer, r Report, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		return nil
	}
	_, err := fmt.Fprint(w, r)
	return err
}

// mostHistories is how many breaches are told with their whole history.
const mostHistories = 5

// String tells a person what came of the run, and of each broken promise the
// history of its pod.
func (r Report) String() string {
	var b []byte
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		total += r.Faults[kind]
		b = fmt.Appendf(b, "%6d  %s\n", r.Faults[kind], kind)
	}
	b = fmt.Appendf(b, "%6d  faults\n\n", total)
	for _, kind := range slices.Sorted(maps.Keys(r.Requests)) {
		b = fmt.Appendf(b, "%6d  %s\n", r.Requests[kind], kind)
	}
	p := r.Projects
	b = fmt.Appendf(b, "\n%d projects: %d pods, %d replaced because of a license, %d brought back that run always; %d changes of seats in %d looks, %d times all taken; %d keepers\n",
		p.Projects, p.Pods, p.Relicensed, p.Revived, p.Changes, p.Looks, p.Full, p.Keepers)
	b = fmt.Appendf(b, "%d pods in all, %d times ready, %d failed; settled %s after the last fault; %s in all\n",
		r.Pods, r.Ready, r.Failed, r.Settling.Round(time.Second/10), r.Took.Round(time.Second))
	if len(r.Breaches) == 0 {
		return string(fmt.Appendf(b, "seed %d: every promise was kept\n", r.Seed))
	}
	b = fmt.Appendf(b, "seed %d: %d PROMISES WERE BROKEN\nagain: make chaos ARGS='--seed %d --duration %s --faults %d --pods %d --replicas %d --users %d --projects %d'\n",
		r.Seed, len(r.Breaches), r.Seed, r.Plan.Duration, r.Plan.Faults, r.Plan.Pods, r.Plan.Replicas, r.Plan.Users, r.Plan.Projects)
	for i, breach := range r.Breaches {
		b = fmt.Appendf(b, "\nstatement %d (%s):\n%s %s\n", breach.Statement, verdict.Statement(breach.Statement), breach.Pod, breach.Text)
		if i < mostHistories {
			b = append(b, verdict.History(r.Evidence, breach)...)
		}
	}
	return string(b)
}
