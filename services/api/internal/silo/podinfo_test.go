package silo_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/services/api/internal/silo"
)

func TestInfoOf(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := events.Record{
		Event: events.Ready, Pod: "n-alice", User: "alice@example.org", Generation: "1-7", Container: "main", Image: "debian:12",
		Reason: events.NotReady, Message: "m", Warnings: []string{"w"},
		Observed: events.Observed{Phase: "Running", NodeIP: "192.0.2.1", IPs: []string{"10.0.0.1", "fd00::1"}, StartTime: start},
	}
	want := silo.PodInfo{
		Name: "n-alice", Container: "main", Image: "debian:12", IP: "10.0.0.1", NodeIP: "192.0.2.1", Owner: "alice@example.org",
		Age: "0:0:11", Status: "Running:2026-01-02T03:04:05Z", Tokens: map[string]string{}, Kubernetes: map[string]string{},
		Event: events.Ready, Reason: events.NotReady, Message: "m", Generation: "1-7", Warnings: []string{"w"},
	}
	if d := cmp.Diff(want, silo.InfoOf(r, "", start.Add(11*time.Second+999*time.Millisecond))); d != "" {
		t.Errorf("InfoOf (-want +got):\n%s", d)
	}
	if ip := silo.InfoOf(events.Record{}, "", start).IP; ip != "" {
		t.Errorf("pod_ip = %q before there is one", ip)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for after, want := range map[time.Duration]string{
		-time.Second: "0:0:0", 0: "0:0:0", 59 * time.Second: "0:0:59", time.Minute: "0:1:0",
		time.Hour + 2*time.Minute + 3*time.Second: "1:2:3", 100*time.Hour - 1: "99:59:59", 1000 * time.Hour: "1000:0:0",
	} {
		if got := silo.InfoOf(events.Record{Observed: events.Observed{StartTime: start}}, "", start.Add(after)).Age; got != want {
			t.Errorf("age %s after the start = %q, want %q", after, got, want)
		}
	}
	if got := silo.InfoOf(events.Record{}, "", start).Age; got != "0:0:0" {
		t.Errorf("age before the start = %q", got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 5, 4, 5, 0, time.FixedZone("", 2*60*60))
	want := map[events.Type]string{
		events.Claimed: "Creating", events.Licensed: "Creating", events.Launching: "Creating", events.Launched: "Creating",
		events.Waiting: "Creating", events.Running: "Creating", events.Failed: "Deleting", events.Deleting: "Deleting",
		events.Ready: "Running:2026-01-02T03:04:05Z", events.Unready: "Running:2026-01-02T03:04:05Z", events.Ended: "Running:2026-01-02T03:04:05Z",
		events.Gone: "Running:2026-01-02T03:04:05Z",
	}
	for _, info := range events.Types() {
		r := events.Record{Event: info.Type, Observed: events.Observed{Phase: "Running", StartTime: start}}
		if got := silo.InfoOf(r, "", start).Status; got != want[info.Type] {
			t.Errorf("status when %s = %q, want %q", info.Type, got, want[info.Type])
		}
	}
	r := events.Record{Event: events.Ready, Observed: events.Observed{Phase: "Running"}}
	if got := silo.InfoOf(r, "", start).Status; got != "Running:" {
		t.Errorf("status without a start time = %q", got)
	}
}

// TestWaysIn has what leads into a pod.
func TestWaysIn(t *testing.T) {
	t.Parallel()
	none := map[string]string{}
	tests := map[string]struct {
		record  events.Record
		domain  string
		url     string
		ssh     string
		wantK8s map[string]string
	}{
		"none":                  {events.Record{Pod: "n"}, "pods.example.org", "", "", none},
		"an ingress":            {events.Record{Pod: "n", HTTP: true}, "pods.example.org", "https://n.pods.example.org", "", none},
		"ssh":                   {events.Record{Pod: "n", SSHPort: 30022, SSHUser: "jovyan"}, "pods.example.org", "", "ssh://jovyan@pods.example.org:30022", map[string]string{"sshPort": "30022"}},
		"ssh of nobody":         {events.Record{Pod: "n", SSHPort: 30022}, "pods.example.org", "", "ssh://root@pods.example.org:30022", map[string]string{"sshPort": "30022"}},
		"a user that is no URL": {events.Record{Pod: "n", SSHPort: 30022, SSHUser: "a@b:c/d"}, "x.org", "", "ssh://a%40b%3Ac%2Fd@x.org:30022", map[string]string{"sshPort": "30022"}},
		"both without a domain": {events.Record{Pod: "n", HTTP: true, SSHPort: 30022}, "", "", "", map[string]string{"sshPort": "30022"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := silo.InfoOf(tt.record, tt.domain, time.Now())
			if got.URL != tt.url || got.SSHURL != tt.ssh {
				t.Errorf("url %q, ssh_url %q; want %q, %q", got.URL, got.SSHURL, tt.url, tt.ssh)
			}
			if d := cmp.Diff(tt.wantK8s, got.Kubernetes); d != "" {
				t.Errorf("k8s_pod_info (-want +got):\n%s", d)
			}
		})
	}
}
