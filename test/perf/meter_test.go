package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text    string
		want    processStat
		wantErr bool
	}{
		"plain": {
			text: "42 (etcd) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 1000 0 0",
			want: processStat{parent: 7, cpu: 1750 * time.Millisecond},
		},
		"a name like fields": {
			text: "42 (a) S 1 (b) R 7 42 42 0 -1 4194560 1 2 3 4 1 2 0 0 20 0 9 0 1000 0 0",
			want: processStat{parent: 7, cpu: 30 * time.Millisecond},
		},
		"cut off":       {text: "42 (etcd) S 7 42", wantErr: true},
		"not a number":  {text: "42 (etcd) S 7 42 42 0 -1 4194560 1 2 3 4 x 25 0", wantErr: true},
		"empty":         {text: "", wantErr: true},
		"without names": {text: "42", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat(tc.text)
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %t", err, tc.wantErr)
			}
			if err == nil && got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	const status = "Name:\tetcd\nVmHWM:\t    4096 kB\nVmRSS:\t    1536 kB\nVmLib:\t  x kB\n"
	for name, tc := range map[string]struct {
		want    float64
		wantErr bool
	}{"VmRSS": {want: 1.5}, "VmHWM": {want: 4}, "VmSwap": {wantErr: true}, "VmLib": {wantErr: true}} {
		got, err := parseMemory(status, name)
		if got != tc.want || (err != nil) != tc.wantErr {
			t.Errorf("%s: %v, %v; want %v, an error: %t", name, got, err, tc.want, tc.wantErr)
		}
	}
}

func TestParseMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text    string
		want    time.Duration
		wantErr bool
	}{
		"idle and waiting do not count": {text: "cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 1 2 3\n", want: 210 * time.Millisecond},
		"another file":                  {text: "intr 1 2 3 4 5 6 7 8", wantErr: true},
		"too short":                     {text: "cpu 1 2 3", wantErr: true},
		"not a number":                  {text: "cpu 1 2 x 4 5 6 7 8", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseMachine(tc.text)
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %t", err, tc.wantErr)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestParseRequests(t *testing.T) {
	t.Parallel()
	const metrics = `# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 200
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 3
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="binding",verb="POST",version="v1"} 1e+03
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/readyz",verb="GET",version=""} 7
apiserver_request_duration_seconds_count{resource="pods",verb="POST"} 5
`
	got, err := parseRequests(metrics)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"POST pods": 203, "POST pods/binding": 1000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parseRequests(`apiserver_request_total{resource="pods",verb="POST"} many`); err == nil {
		t.Error("a count that is no number: no error")
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	before := reading{
		at: begun, cpu: map[string]time.Duration{self: time.Second, "etcd": time.Second}, machine: 100 * time.Second,
		requests: map[string]int{"GET pods": 5, "POST pods": 1}, own: map[string]int{"POST pods": 1}, rss: map[string]float64{"etcd": 1},
	}
	after := reading{
		at: begun.Add(10 * time.Second), cpu: map[string]time.Duration{self: 4 * time.Second, "etcd": 3 * time.Second}, machine: 110 * time.Second,
		requests: map[string]int{"GET pods": 5, "POST pods": 8, "DELETE pods": 2}, own: map[string]int{"POST pods": 4}, rss: map[string]float64{"etcd": 2},
	}
	want := spent{
		cpu: map[string]time.Duration{self: 3 * time.Second, "etcd": 2 * time.Second}, others: 0.5,
		requests: map[string]int{"POST pods": 7, "DELETE pods": 2}, own: map[string]int{"POST pods": 3}, rss: map[string]float64{"etcd": 2},
	}
	if diff := cmp.Diff(want, after.since(before), cmp.AllowUnexported(spent{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
