package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	a := newAnswers([]string{"p", "q"})
	a.see("p")
	a.see("p")
	a.see("another")
	select {
	case <-a.seenAll:
		t.Error("q was not seen, and all were said to be")
	default:
	}
	a.see("q")
	<-a.seenAll

	begun := time.Now()
	a.seen = map[string]time.Time{"p": begun, "q": begun.Add(1500 * time.Millisecond)}
	a.answer("q", errors.New("not ready"))
	for ms := range 100 {
		a.answered = append(a.answered, answer{"p", begun.Add(time.Duration(ms+1) * time.Millisecond)})
	}
	want := &polls{Polls: 100, Pods: 2, ReadyWithin: 1.5, Behind: quantiles{P50: 50, P99: 99}, Max: 100}
	if diff := cmp.Diff(want, a.figures(), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"q: not ready"}, a.failures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestFaultsOfPromises(t *testing.T) {
	t.Parallel()
	held := func(goroutines int, heap uint64) memory { return memory{Goroutines: goroutines, HeapBytes: heap} }
	for name, tc := range map[string]struct {
		faults []string
		want   int
	}{
		"nothing left":    {(&abandoned{Before: held(40, 5<<20), After: held(41, 6<<20)}).faults(), 0},
		"less than ever":  {(&abandoned{Before: held(40, 5<<20), After: held(30, 4<<20)}).faults(), 0},
		"goroutines left": {(&abandoned{Before: held(40, 5<<20), After: held(400, 5<<20)}).faults(), 1},
		"memory left":     {(&abandoned{Before: held(40, 5<<20), After: held(40, 9<<20)}).faults(), 1},
		"only checks":     {(&listed{Present: listing{Requests: 9000, Seconds: 3, Messages: 6}}).faults(), 0},
		"audit records":   {(&listed{Present: listing{Requests: 9000, Seconds: 3, Messages: 9006}}).faults(), 0},
		"asks each time":  {(&listed{Present: listing{Requests: 9000, Seconds: 3, Messages: 18_006}}).faults(), 1},
	} {
		if len(tc.faults) != tc.want {
			t.Errorf("%s: %q, want %d", name, tc.faults, tc.want)
		}
	}
}

func TestEnoughFiles(t *testing.T) {
	t.Parallel()
	if err := enoughFiles(1); err != nil {
		t.Error(err)
	}
	if err := enoughFiles(1 << 40); err == nil {
		t.Error("more connections than any system has: no error")
	}
}
