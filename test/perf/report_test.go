package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	upTo := func(n int) []time.Duration {
		var all []time.Duration
		for i := n; i > 0; i-- {
			all = append(all, time.Duration(i)*time.Millisecond)
		}
		return all
	}
	for name, tc := range map[string]struct {
		all  []time.Duration
		want quantiles
	}{
		"none":    {want: quantiles{}},
		"one":     {all: upTo(1), want: quantiles{P50: 1, P99: 1}},
		"two":     {all: upTo(2), want: quantiles{P50: 1, P99: 2}},
		"hundred": {all: upTo(100), want: quantiles{P50: 50, P99: 99}},
		"more":    {all: upTo(1000), want: quantiles{P50: 500, P99: 990}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := durations{all: tc.all}
			if got := d.quantiles(); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	t0 := times{ready: durations{all: make([]time.Duration, 3)}, gone: durations{all: make([]time.Duration, 2)}}
	got := t0.round(1, kindBerth, 4*time.Second, spent{
		cpu: map[string]time.Duration{"etcd": 10 * time.Millisecond}, rss: map[string]float64{"etcd": 7},
		requests: map[string]int{"GET pods": 2, "POST pods": 3, "PATCH pods/status": 1}, own: map[string]int{"POST pods": 3},
	})
	want := round{
		Kind: kindBerth, Number: 1, Seconds: 4, PodsPerSecond: 0.5, CPU: map[string]float64{"etcd": 5},
		RSS: map[string]float64{"etcd": 7}, Requests: map[string]float64{"GET pods": 1, "POST pods": 1.5, "PATCH pods/status": 0.5}, Writes: 2,
		Own: map[string]float64{"POST pods": 1.5}, samples: samples{ready: []float64{0, 0, 0}, gone: []float64{0, 0}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(round{}, samples{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var none times
	if got := none.round(1, kindFloor, time.Second, spent{requests: map[string]int{"POST pods": 1}}); got.PodsPerSecond != 0 || got.Writes != 0 {
		t.Errorf("a round without pods: %+v", got)
	}
}

func TestConclude(t *testing.T) {
	t.Parallel()
	r := load{}
	for _, rates := range [][2]float64{{80, 40}, {100, 25}, {50, 30}} {
		r.Rounds = append(r.Rounds,
			round{Kind: kindFloor, PodsPerSecond: rates[0]}, round{Kind: kindBerth, PodsPerSecond: rates[1]})
	}
	for i := range r.Rounds {
		r.Rounds[i].samples.ready = []float64{float64(10 - i)}
	}
	r.Rounds[1].CPU = map[string]float64{"etcd": 3}
	r.conclude()
	got := []float64{r.Floor.PodsPerSecond, r.Berth.PodsPerSecond, r.Ratio, r.RatioLow, r.RatioHigh, r.Berth.CPU["etcd"]}
	if diff := cmp.Diff([]float64{80, 30, 0.375, 0.25, 0.6, 0}, got); diff != "" {
		t.Errorf("floor, berth, ratio, low, high, CPU (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{5, 7, 9}, r.Berth.samples.ready); diff != "" {
		t.Errorf("all that Berth's rounds took, in order (-want +got):\n%s", diff)
	}
	even := []round{{Writes: 1}, {Writes: 2}, {Writes: 6}, {Writes: 9}}
	if got := median(even, func(r round) float64 { return r.Writes }); got != 4 {
		t.Errorf("median of four: %v, want 4", got)
	}
}
