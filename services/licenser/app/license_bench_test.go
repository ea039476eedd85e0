package app

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/pkg/events/natsbus"
)

// BenchmarkStarts is the stage's own time per start, with 50 at a time: the broker, the database (which does not
// wait for its disk) and the pod. All use one license with seats, the worst case: its row is locked by one at a time.
func BenchmarkStarts(b *testing.B) {
	const atOnce = 50
	p := newPlace(b)
	limited := patching(course, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`)
	limited.RunLimit = new(1 << 20)
	p.save(b, limited)
	for i := range atOnce {
		p.save(b, limited, fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
	}
	var took []time.Duration
	for round := 0; b.Loop(); round++ {
		b.StopTimer()
		var starts []natsbus.Delivery
		for i := range atOnce {
			d := p.claimed(b, fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), fmt.Sprintf("cmd-%d-%d", round, i))
			starts = append(starts, d)
		}
		b.StartTimer()
		var wait sync.WaitGroup
		times := make([]time.Duration, atOnce)
		for i, d := range starts {
			wait.Go(func() {
				begun := time.Now()
				if err := p.license(b.Context(), d); err != nil {
					b.Error(err)
				}
				times[i] = time.Since(begun)
			})
		}
		wait.Wait()
		b.StopTimer()
		took = append(took, times...)
		for _, d := range starts {
			p.end(b, d)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
