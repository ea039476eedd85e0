package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// mostFailures is how many failures the table shows.
const mostFailures = 20

// rare is what a table of requests leaves out, in requests a pod.
const rare = 0.05

// table writes the figures for people.
func table(w io.Writer, r report) error {
	var text bytes.Buffer
	line := func(name string, floor, berth any) { fmt.Fprintf(&text, "%-30s %20v %20v\n", name, floor, berth) }
	fmt.Fprintf(&text, "%d users, %d at once; rounds each: %d, in turn; CPUs: %d; medians (lowest-highest)\n\n",
		r.Users, r.Concurrency, len(r.Rounds)/2, r.CPUs)
	line("", kindFloor, kindBerth)
	line("pods/s", r.rates(kindFloor), r.rates(kindBerth))
	line("create to ready, p50/p99 ms", r.Floor.Ready, r.Berth.Ready)
	line("delete to gone, p50/p99 ms", r.Floor.Gone, r.Berth.Gone)
	line("get_pods, p50/p99 ms", r.Floor.List, r.Berth.List)
	line("other CPUs busy", rounded(r.Floor.OtherCPUs), rounded(r.Berth.OtherCPUs))

	fmt.Fprintf(&text, "\nCPU ms a pod\n")
	var floor, berth float64
	for _, program := range keys(r.Floor.CPU, r.Berth.CPU) {
		line("  "+program, rounded(r.Floor.CPU[program]), rounded(r.Berth.CPU[program]))
		floor, berth = floor+r.Floor.CPU[program], berth+r.Berth.CPU[program]
	}
	line("  all", rounded(floor), rounded(berth))

	fmt.Fprintf(&text, "\nAPI server requests a pod\n")
	for _, key := range keys(r.Floor.Requests, r.Berth.Requests) {
		if max(r.Floor.Requests[key], r.Berth.Requests[key]) >= rare {
			line("  "+key, rounded(r.Floor.Requests[key]), rounded(r.Berth.Requests[key]))
		}
	}
	line("  all writes", rounded(r.Floor.Writes), rounded(r.Berth.Writes))

	fmt.Fprintf(&text, "\nberth/floor %.2f (%.2f-%.2f)\n", r.Ratio, r.RatioLow, r.RatioHigh)
	fmt.Fprintf(&text, "One GET of a pod is the check that it is gone. %q is Berth, NATS and the load.\n", self)
	fmt.Fprintf(&text, "%s held %d goroutines and %.1f MB before, %d and %.1f MB after\n", self,
		r.Before.Goroutines, megabytes(r.Before), r.After.Goroutines, megabytes(r.After))
	fmt.Fprintf(&text, "%d failures\n", len(r.Failures))
	for _, failure := range r.Failures[:min(len(r.Failures), mostFailures)] {
		fmt.Fprintf(&text, "  %s\n", failure)
	}
	if _, err := text.WriteTo(w); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// rates are the pods a second of a kind of rounds: median, lowest and highest.
func (r *report) rates(kind string) string {
	var rates []float64
	for _, one := range r.Rounds {
		if one.Kind == kind {
			rates = append(rates, one.PodsPerSecond)
		}
	}
	return fmt.Sprintf("%.1f (%.1f-%.1f)", r.medians(kind).PodsPerSecond, slices.Min(rates), slices.Max(rates))
}

func rounded(x float64) string { return fmt.Sprintf("%.2f", x) }

func (q quantiles) String() string {
	if q == (quantiles{}) {
		return "-"
	}
	return fmt.Sprintf("%.1f/%.1f", q.P50, q.P99)
}

func megabytes(m memory) float64 { return float64(m.HeapBytes) / (1 << 20) }
