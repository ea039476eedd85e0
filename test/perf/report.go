package main

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// report is everything that a run has measured. Times are in milliseconds. What
// was not measured is nil.
type report struct {
	CPUs    int  `json:"cpus"`
	Durable bool `json:"durable"`
	// Replicas is how many of each service there were; with Processes each was a
	// process of its own.
	Replicas  int        `json:"replicas"`
	Processes bool       `json:"processes"`
	Pods      *load      `json:"pods,omitempty"`
	Full      *load      `json:"full,omitempty"`
	Projects  *licensed  `json:"projects,omitempty"`
	Alone     *alone     `json:"alone,omitempty"`
	Polls     *polls     `json:"polls,omitempty"`
	Abandon   *abandoned `json:"abandon,omitempty"`
	List      *listed    `json:"list,omitempty"`
	Start     *started   `json:"start,omitempty"`
	// Failures are the answers that were wrong, and the promises that were broken.
	Failures []string `json:"failures"`
}

// load is what users, many at once, have measured.
type load struct {
	Users       int     `json:"users"`
	Concurrency int     `json:"concurrency"`
	Rounds      []round `json:"rounds"`
	// Floor and Berth have the medians of the rounds.
	Floor round `json:"floor"`
	Berth round `json:"berth"`
	// Ratio is Berth's pods a second by the floor's, of the medians; RatioLow and
	// RatioHigh are of the rounds that came one after the other.
	Ratio     float64 `json:"ratio"`
	RatioLow  float64 `json:"ratio_low"`
	RatioHigh float64 `json:"ratio_high"`
	// Before and After are what this process held before and after the rounds.
	Before memory `json:"before"`
	After  memory `json:"after"`
}

// round is what one round has measured, or the medians of several.
type round struct {
	Kind          string  `json:"kind"`
	Number        int     `json:"number,omitempty"`
	Seconds       float64 `json:"seconds"`
	PodsPerSecond float64 `json:"pods_per_second"`
	// Ready is from the create to the pod being ready, Gone from the delete to its
	// end, both as the caller learns of it. List is an answer of /get_pods.
	Ready quantiles `json:"ready_ms"`
	Gone  quantiles `json:"gone_ms"`
	List  quantiles `json:"get_pods_ms"`
	// CPU is by program, for each pod.
	CPU map[string]float64 `json:"cpu_ms_per_pod"`
	// RSS is by program what it has in memory at the end of the round, in MB.
	RSS map[string]float64 `json:"rss_mb"`
	// OtherCPUs is how many CPUs were busy with processes that are none of ours.
	OtherCPUs float64 `json:"other_cpus"`
	// Requests to the API server are by verb and resource, for each pod, those of
	// the cluster's own programs and the check for the pod's end among them.
	Requests map[string]float64 `json:"requests_per_pod"`
	// Writes are those of the requests that change something.
	Writes float64 `json:"writes_per_pod"`
	// Own are the requests that Berth itself has sent, for each pod. Watches are
	// not among them.
	Own map[string]float64 `json:"berth_requests_per_pod"`

	samples samples
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// times collects how long things took in a round. It is safe for concurrent use.
type times struct{ ready, gone, list durations }

type durations struct {
	mu  sync.Mutex
	all []time.Duration
}

// add notes the time since begun.
func (d *durations) add(begun time.Time) {
	took := time.Since(begun)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, took)
}

// samples are how long each pod of a side took, in milliseconds.
type samples struct{ ready, gone []float64 }

// samples returns all that was noted, in order of length.
func (t *times) samples() samples { return samples{t.ready.milliseconds(), t.gone.milliseconds()} }

func (d *durations) milliseconds() []float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.all)
	all := make([]float64, 0, len(d.all))
	for _, took := range d.all {
		all = append(all, milliseconds(took))
	}
	return all
}

// quantiles are the nearest ranks.
func (d *durations) quantiles() quantiles {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return quantiles{}
	}
	slices.Sort(d.all)
	rank := func(q float64) float64 {
		return milliseconds(d.all[int(math.Ceil(q*float64(len(d.all))))-1])
	}
	return quantiles{P50: rank(0.5), P99: rank(0.99)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// round puts the figures of a round together. A pod counts when it is gone.
func (t *times) round(number int, kind string, took time.Duration, s spent) round {
	r := round{
		Kind: kind, Number: number, Seconds: took.Seconds(),
		Ready: t.ready.quantiles(), Gone: t.gone.quantiles(), List: t.list.quantiles(),
		CPU: map[string]float64{}, RSS: s.rss, OtherCPUs: s.others, Requests: map[string]float64{}, Own: map[string]float64{},
		samples: t.samples(),
	}
	pods := float64(len(t.gone.all))
	if pods == 0 {
		return r
	}
	r.PodsPerSecond = pods / took.Seconds()
	for program, cpu := range s.cpu {
		r.CPU[program] = milliseconds(cpu) / pods
	}
	for key, n := range s.requests {
		r.Requests[key] = float64(n) / pods
		if writes(key) {
			r.Writes += float64(n) / pods
		}
	}
	for key, n := range s.own {
		r.Own[key] = float64(n) / pods
	}
	return r
}

func writes(key string) bool {
	verb, _, _ := strings.Cut(key, " ")
	return slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, verb)
}

// conclude fills in what follows from the rounds.
func (r *load) conclude() {
	r.Floor, r.Berth = r.medians(kindFloor), r.medians(kindBerth)
	r.Ratio = ratio(r.Berth, r.Floor)
	var pairs []float64
	for i := 1; i < len(r.Rounds); i += 2 {
		pairs = append(pairs, ratio(r.Rounds[i], r.Rounds[i-1]))
	}
	r.RatioLow, r.RatioHigh = slices.Min(pairs), slices.Max(pairs)
}

func ratio(berth, floor round) float64 {
	if floor.PodsPerSecond == 0 {
		return 0
	}
	return berth.PodsPerSecond / floor.PodsPerSecond
}

// medians returns the median of each figure over the rounds of a kind.
func (r *load) medians(kind string) round {
	var rounds []round
	for _, one := range r.Rounds {
		if one.Kind == kind {
			rounds = append(rounds, one)
		}
	}
	of := func(figure func(round) float64) float64 { return median(rounds, figure) }
	mapped := func(figures func(round) map[string]float64) map[string]float64 {
		all := map[string]float64{}
		for _, one := range rounds {
			for key := range figures(one) {
				all[key] = of(func(one round) float64 { return figures(one)[key] })
			}
		}
		return all
	}
	return round{
		Kind:          kind,
		Seconds:       of(func(r round) float64 { return r.Seconds }),
		PodsPerSecond: of(func(r round) float64 { return r.PodsPerSecond }),
		Ready:         quantiles{of(func(r round) float64 { return r.Ready.P50 }), of(func(r round) float64 { return r.Ready.P99 })},
		Gone:          quantiles{of(func(r round) float64 { return r.Gone.P50 }), of(func(r round) float64 { return r.Gone.P99 })},
		List:          quantiles{of(func(r round) float64 { return r.List.P50 }), of(func(r round) float64 { return r.List.P99 })},
		CPU:           mapped(func(r round) map[string]float64 { return r.CPU }),
		RSS:           mapped(func(r round) map[string]float64 { return r.RSS }),
		OtherCPUs:     of(func(r round) float64 { return r.OtherCPUs }),
		Requests:      mapped(func(r round) map[string]float64 { return r.Requests }),
		Writes:        of(func(r round) float64 { return r.Writes }),
		Own:           mapped(func(r round) map[string]float64 { return r.Own }),
		samples:       pooled(rounds),
	}
}

// pooled are the samples of all rounds together.
func pooled(rounds []round) (all samples) {
	for _, r := range rounds {
		all.ready, all.gone = append(all.ready, r.samples.ready...), append(all.gone, r.samples.gone...)
	}
	slices.Sort(all.ready)
	slices.Sort(all.gone)
	return all
}

// median is the middle one, or the mean of the two in the middle.
func median(rounds []round, figure func(round) float64) float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, figure(r))
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

// keys returns the keys of both maps, sorted.
func keys(a, b map[string]float64) []string {
	all := map[string]float64{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
