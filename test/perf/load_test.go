package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScenarios runs all of them, small. It asserts that every answer is right,
// no promise broken and nothing left, never how long anything took. What needs a
// cluster shares one, since the start of one takes longer than each of them.
func TestScenarios(t *testing.T) {
	t.Parallel()
	p := plan{
		Users: 20, Concurrency: 10, Rounds: 1, Lives: 3, Polls: 5 * pollsPerPod,
		Abandoned: 200, Listed: 50, Requests: 300, Logged: 200, Replicas: 1, Dir: t.TempDir(),
	}
	l := lab{plan: p, log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), progress: t.Output()}
	clustered := []string{"pods", "full", "projects", "alone", "polls"} // The last leaves its pods.
	var r report
	err := l.withSite(t.Context(), func(ctx context.Context, s *site) (err error) {
		shared := l
		shared.site, shared.plan.Scenarios = s, clustered
		r, err = measure(ctx, shared)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The others look at what this process holds, so that the site must be gone.
	all, err := chosen("all")
	if err != nil {
		t.Fatal(err)
	}
	l.plan.Scenarios = slices.DeleteFunc(all, func(name string) bool { return slices.Contains(clustered, name) })
	others, err := measure(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	r.Abandon, r.List, r.Start, r.Failures = others.Abandon, others.List, others.Start, append(r.Failures, others.Failures...)
	for _, failure := range r.Failures {
		t.Error(failure)
	}
	// Whatever is delivered twice, each user's create makes one pod, of which the
	// API server keeps one status and one binding.
	want := map[string]float64{"POST pods": 1, "POST pods/binding": 1}
	for _, one := range r.Pods.Rounds {
		got := map[string]float64{}
		for key := range want {
			got[key] = one.Requests[key]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: requests a pod (-want +got):\n%s", one.Kind, diff)
		}
	}
	if r.Polls.Polls != p.Polls || r.Polls.Pods != 5 {
		t.Errorf("%d polls for %d pods were answered", r.Polls.Polls, r.Polls.Pods)
	}
	path := filepath.Join(t.TempDir(), "latency.svg")
	if err := show(t.Output(), r, output{svg: path}); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, path)
}

// wellFormed sees to it that a picture can be read.
func wellFormed(t *testing.T, path string) {
	t.Helper()
	text, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for decoder := xml.NewDecoder(text); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("read %s: %v", path, err)
		}
	}
}
