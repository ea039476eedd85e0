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

// sheet is what people read.
type sheet struct{ bytes.Buffer }

func (s *sheet) say(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// row has a name and two columns.
func (s *sheet) row(name string, left, right any) { s.say("%-30s %20v %20v", name, left, right) }

// table writes the figures for people.
func table(w io.Writer, r report) error {
	s := &sheet{}
	disk := "no fsync"
	if r.Durable {
		disk = "fsync at every write"
	}
	s.say("CPUs: %d; replicas of each service: %d; NATS and etcd: %s; ms are p50/p99", r.CPUs, r.Replicas, disk)
	for _, part := range []interface{ table(s *sheet) }{named{"pods", r.Pods}, named{"full", r.Full}, r.Projects, r.Alone, r.Polls, r.Abandon, r.List, r.Start} {
		part.table(s)
	}
	s.say("\n%d failures", len(r.Failures))
	for _, failure := range r.Failures[:min(len(r.Failures), mostFailures)] {
		s.say("  %s", failure)
	}
	if _, err := s.WriteTo(w); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// named is the load of a scenario.
type named struct {
	scenario string
	load     *load
}

func (n named) table(s *sheet) {
	l := n.load
	if l == nil {
		return
	}
	s.say("\n"+n.scenario+": %d users, %d at once; rounds each: %d, in turn; medians (lowest-highest)\n", l.Users, l.Concurrency, len(l.Rounds)/2)
	s.row("", kindFloor, kindBerth)
	s.row("pods/s", l.rates(kindFloor), l.rates(kindBerth))
	s.row("create to ready, ms", l.Floor.Ready, l.Berth.Ready)
	s.row("delete to gone, ms", l.Floor.Gone, l.Berth.Gone)
	s.row("get_pods, ms", l.Floor.List, l.Berth.List)
	s.row("other CPUs busy", rounded(l.Floor.OtherCPUs), rounded(l.Berth.OtherCPUs))
	s.say("\nCPU ms a pod")
	s.sums(l.Floor.CPU, l.Berth.CPU)
	s.say("\nmemory at the end of the round, MB (RSS)")
	s.sums(l.Floor.RSS, l.Berth.RSS)
	s.say("\nAPI server requests a pod")
	for _, key := range keys(l.Floor.Requests, l.Berth.Requests) {
		if max(l.Floor.Requests[key], l.Berth.Requests[key]) >= rare {
			s.row("  "+key, rounded(l.Floor.Requests[key]), rounded(l.Berth.Requests[key]))
		}
	}
	s.row("  all writes", rounded(l.Floor.Writes), rounded(l.Berth.Writes))
	if len(l.Berth.Own) > 0 {
		s.say("those that Berth itself sent")
	}
	for _, key := range keys(nil, l.Berth.Own) {
		s.row("  "+key, "", fmt.Sprintf("%.3f", l.Berth.Own[key]))
	}
	s.say("\nberth/floor %.2f (%.2f-%.2f)", l.Ratio, l.RatioLow, l.RatioHigh)
	s.say("One GET of a pod is the check that it is gone. %q is NATS, the load, and Berth unless it has processes.", self)
	s.say("%s held %s before and %s after the rounds", self, l.Before, l.After)
}

// sums has a row for each key, and one for their sum.
func (s *sheet) sums(floor, berth map[string]float64) {
	var left, right float64
	for _, key := range keys(floor, berth) {
		s.row("  "+key, rounded(floor[key]), rounded(berth[key]))
		left, right = left+floor[key], right+berth[key]
	}
	s.row("  all", rounded(left), rounded(right))
}

// rates are the pods a second of a kind of rounds: median, lowest and highest.
func (l *load) rates(kind string) string {
	var rates []float64
	for _, one := range l.Rounds {
		if one.Kind == kind {
			rates = append(rates, one.PodsPerSecond)
		}
	}
	return fmt.Sprintf("%.1f (%.1f-%.1f)", l.medians(kind).PodsPerSecond, slices.Min(rates), slices.Max(rates))
}

func (a *alone) table(s *sheet) {
	if a == nil {
		return
	}
	s.say("\nalone: one user, %d pods each, in turn\n", a.Lives)
	s.row("", kindFloor, kindBerth)
	s.row("create to ready, ms", a.Floor.Ready, a.Berth.Ready)
	s.row("delete to gone, ms", a.Floor.Gone, a.Berth.Gone)
	s.say("Berth's medians over the floor's: ready %.1f ms, gone %.1f ms", a.ReadyOver, a.GoneOver)
}

func (p *polls) table(s *sheet) {
	if p == nil {
		return
	}
	s.say("\npolls: %d long polls for %d pods, which became ready within %.2f s", p.Polls, p.Pods, p.ReadyWithin)
	s.say("from a bare watch's event to the client's answer: %s ms, at most %.1f ms", p.Behind, p.Max)
}

func (a *abandoned) table(s *sheet) {
	if a == nil {
		return
	}
	s.say("\nabandon: %d long polls", a.Polls)
	s.say("%s held %s before, %s with all open, %s after", self, a.Before, a.Open, a.After)
}

func (l *listed) table(s *sheet) {
	if l == nil {
		return
	}
	s.say("\nlist: get_pods of one api, %d pods in the log, %d clients at once\n", l.Pods, askers)
	s.row("", "users with a pod", "users without")
	s.row("requests", l.Present.Requests, l.Absent.Requests)
	s.row("requests/s", rounded(l.Present.PerSecond), rounded(l.Absent.PerSecond))
	s.row("ms", l.Present.Times, l.Absent.Times)
	s.row("the api's CPU, us a request", rounded(l.Present.CPU), rounded(l.Absent.CPU))
	s.row("seconds", rounded(l.Present.Seconds), rounded(l.Absent.Seconds))
	s.row("messages from the api to NATS", l.Present.Messages, l.Absent.Messages)
}

func (d *started) table(s *sheet) {
	if d == nil {
		return
	}
	s.say("\nstart: an api, medians of %d starts\n", starts)
	s.row("pods in the log", 0, d.Pods)
	s.row("ready after, ms", rounded(d.Empty.Ready), rounded(d.Full.Ready))
	s.row("CPU, ms", rounded(d.Empty.CPU), rounded(d.Full.CPU))
	s.row("memory, MB (RSS)", rounded(d.Empty.RSS), rounded(d.Full.RSS))
	s.row("memory at most, MB", rounded(d.Empty.Peak), rounded(d.Full.Peak))
}

func rounded(x float64) string { return fmt.Sprintf("%.2f", x) }

func (q quantiles) String() string {
	if q == (quantiles{}) {
		return "-"
	}
	return fmt.Sprintf("%.1f/%.1f", q.P50, q.P99)
}

func (m memory) String() string {
	return fmt.Sprintf("%d goroutines, %.1f MB", m.Goroutines, megabytes(m))
}

func megabytes(m memory) float64 { return float64(m.HeapBytes) / (1 << 20) }
