package chaos

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// TestRun is as short as can be: `make chaos` has longer ones, each with another
// seed. Its runs come one after the other, since each is a load of its own.
func TestRun(t *testing.T) {
	t.Parallel()
	programs := t.TempDir()
	if err := build(t.Context(), programs, services()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // The first time Kubernetes is built.
	defer cancel()

	plan := Plan{Duration: 20 * time.Second, Faults: 32, Pods: 60, Seed: 4, Replicas: 2, Users: 12, Projects: 6, Dir: t.TempDir(), Bin: programs}
	report, err := Run(ctx, plan, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if len(report.Breaches) > 0 {
		t.Errorf("%d promises were broken", len(report.Breaches))
	}
	if n := len(report.Evidence.Faults); n < 28 {
		t.Errorf("only %d faults", n)
	}
	if report.Pods < plan.Pods || report.Ready == 0 {
		t.Errorf("%d pods, %d times ready", report.Pods, report.Ready)
	}
	if p := report.Projects; p.Pods == 0 || p.Looks == 0 || p.Keepers == 0 {
		t.Errorf("projects: %+v", p)
	}

	// A run that is told to end judges what there is.
	plan = Plan{Duration: time.Hour, Faults: 1, Pods: 1 << 20, Seed: 1, Replicas: 1, Users: 2, Projects: 2, Dir: t.TempDir(), Bin: programs}
	report, err = Run(ctx, plan, seen{"requests open", cancel})
	if err != nil || len(report.Breaches) > 0 {
		t.Errorf("interrupted: %v, %v", report, err)
	}
}

// seen does something once the progress says a thing.
type seen struct {
	what string
	do   func()
}

func (s seen) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.what)) {
		s.do()
	}
	return len(p), nil
}
