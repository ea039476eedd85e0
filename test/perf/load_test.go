package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLoad runs a short load. It asserts that every answer is right and nothing
// is left, never how long anything took.
func TestLoad(t *testing.T) {
	t.Parallel()
	p := plan{Users: 20, Concurrency: 10, Rounds: 1, Dir: t.TempDir()}
	r, err := measure(t.Context(), p, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, failure := range r.Failures {
		t.Error(failure)
	}
	// Whatever is delivered twice, each user's create makes one pod, of which the
	// API server keeps one status and one binding.
	want := map[string]float64{"POST pods": 1, "POST pods/binding": 1}
	for _, one := range r.Rounds {
		got := map[string]float64{}
		for key := range want {
			got[key] = one.Requests[key]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: requests a pod (-want +got):\n%s", one.Kind, diff)
		}
	}
	if err := table(t.Output(), r); err != nil {
		t.Error(err)
	}
}
