package chaos

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"berth/pkg/service"
	"berth/test/chaos/verdict"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args       []string
		wantCode   int
		wantStdout string
		wantStderr string
	}{
		"help":        {args: []string{"--help"}, wantCode: service.ExitClean, wantStdout: "Usage: chaos"},
		"unknown":     {args: []string{"--fast"}, wantCode: service.ExitUsage, wantStderr: "-fast"},
		"argument":    {args: []string{"now"}, wantCode: service.ExitUsage, wantStderr: `"now"`},
		"no time":     {args: []string{"--duration", "0s"}, wantCode: service.ExitUsage, wantStderr: "must be positive"},
		"no replicas": {args: []string{"--replicas", "0"}, wantCode: service.ExitUsage, wantStderr: "must be positive"},
		"bad seed":    {args: []string{"--seed", "-1"}, wantCode: service.ExitUsage, wantStderr: "seed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if got := Command(tc.args, &stdout, &stderr); got != tc.wantCode {
				t.Errorf("exit code %d, want %d", got, tc.wantCode)
			}
			if !strings.Contains(stdout.String(), tc.wantStdout) || !strings.Contains(stderr.String(), tc.wantStderr) {
				t.Errorf("stdout %q and stderr %q, want %q and %q in them", &stdout, &stderr, tc.wantStdout, tc.wantStderr)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--duration", "90s"})
	if err != nil || o.Faults != 90 || o.Replicas != 2 {
		t.Errorf("%+v, %v; want a fault a second and two replicas", o.Plan, err)
	}
}

// TestReport: a broken promise is told with the seed, how to do it again, and
// the history of its pod.
func TestReport(t *testing.T) {
	t.Parallel()
	r := Report{
		Plan: Plan{Duration: time.Minute, Faults: 60, Pods: 100, Replicas: 2, Users: 20, Projects: 10}, Seed: 42,
		Breaches: []verdict.Breach{{Statement: verdict.OnePod, Text: "two pods", Pod: "p", At: time.Unix(1, 0)}},
		Evidence: verdict.Evidence{Pods: []verdict.PodEvent{{At: time.Unix(1, 0), Pod: "p", UID: "u1", Kind: verdict.Added}}},
	}
	for _, want := range []string{"seed 42", "--seed 42 --duration 1m0s --faults 60 --pods 100", "statement 1", "two pods", "uid u1"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("nothing of %q in\n%s", want, r)
		}
	}
	r.Breaches = nil
	if !strings.Contains(r.String(), "every promise was kept") {
		t.Error(r)
	}
}
