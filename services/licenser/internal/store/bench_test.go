package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkCheck is fifty starts at once that share a license with a limit, so that they wait for each other.
func BenchmarkCheck(b *testing.B) {
	const starts = 50
	f := setup(b)
	f.put(b, licenseA, 10)
	for i := range starts {
		f.attach(b, project(i), licenseA)
	}
	var mu sync.Mutex
	var took []time.Duration
	life := 0
	for b.Loop() {
		life++
		var wg sync.WaitGroup
		for i := range starts {
			wg.Go(func() {
				began := time.Now()
				err := f.Check(b.Context(), start(project(i), life), greedy)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(began))
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
