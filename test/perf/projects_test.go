package main

import (
	"math"
	"testing"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	const metrics = `# TYPE berth_command_duration_seconds histogram
berth_command_duration_seconds_bucket{stage="license",verdict="ack",le="0.001"} 50
berth_command_duration_seconds_bucket{stage="license",verdict="ack",le="0.002"} 90
berth_command_duration_seconds_bucket{stage="license",verdict="ack",le="+Inf"} 100
berth_command_duration_seconds_bucket{stage="license",verdict="again",le="+Inf"} 1
berth_command_duration_seconds_bucket{stage="project",verdict="ack",le="0.001"} 1000
`
	h := parseHistogram(metrics, "berth_command_duration_seconds", `stage="license"`)
	if h[0.001] != 50 || h[0.002] != 90 || h[math.Inf(1)] != 101 {
		t.Errorf("counts %v", h)
	}
	h = h.plus(h).since(h).since(histogram{math.Inf(1): 1})
	for q, want := range map[float64]float64{0.25: 0.5, 0.5: 1, 0.7: 1.5, 0.99: 2} {
		if got := h.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %.2f is %f ms, want %f", q, got, want)
		}
	}
	if got := (histogram{}).quantile(0.5); got != 0 {
		t.Errorf("of nothing: %f", got)
	}
}
