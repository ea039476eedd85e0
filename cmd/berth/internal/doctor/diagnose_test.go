package doctor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

const (
	project    = "0190f3e0-0000-7000-8000-000000000001"
	noTemplate = `the template of the projects' pods is missing: make the ConfigMap "project-pod"`
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// healthy is what is seen of a site where all is well.
func healthy() doctor.Evidence {
	e := doctor.Evidence{
		At: now, Version: "1.0", Cluster: "main",
		API: doctor.API{URL: "http://berth:8080", Live: 200, Ready: 200, Version: "1.0", Took: 0.003, Skew: new(0.0)},
		NATS: doctor.NATS{
			Asked: true, Servers: "nats://nats:4222", Version: "2.12.0", RTT: 0.001, Skew: new(0.1),
			Mark:     doctor.Mark{There: true, Current: true, At: ago(time.Hour), Pods: 2},
			Commands: doctor.Commands{Timers: map[events.Timer]int{events.TimerCreate: 1, events.TimerDelete: 1}},
			Watcher: doctor.Watcher{Listened: 1.5, Beats: []doctor.Beat{{
				Heartbeat: events.Heartbeat{Instance: "watcher-1", Version: "1.0", Time: now, LeadingSince: ago(time.Hour), WatchAge: 3},
				Skew:      new(0.0),
			}}},
			Pods: doctor.Pods{
				Looked: true, States: map[events.Type]int{events.Ready: 1, events.Waiting: 1, events.Deleting: 1},
				Records: []doctor.Record{
					{Pod: "a", Event: events.Ready, At: ago(time.Hour), Launched: true, WasReady: true, Timer: "ca"},
					{Pod: "b", Event: events.Waiting, At: ago(time.Minute), Claimed: ago(time.Minute), Launched: true, Timer: "cb"},
					{Pod: "c", Event: events.Deleting, At: ago(time.Minute), Deleting: ago(time.Minute), Launched: true, Timer: "cc"},
					{Pod: "d", Event: events.Gone, At: ago(time.Hour)},
				},
				Armed: map[events.Timer]map[string]bool{events.TimerCreate: {"cb": true}, events.TimerDelete: {"cc": true}},
			},
		},
		Kubernetes: doctor.Kubernetes{
			Asked: true, Server: "https://k8s:6443", Namespace: "berth", Version: "v1.37.2", Skew: new(-0.5),
			LeaseHolder: "watcher-1", LeaseAge: 1, LeaseLasts: 5, Count: 2,
			Pods: []doctor.ClusterPod{{Name: "a", Created: ago(time.Hour)}, {Name: "b", Created: ago(time.Minute)}},
		},
	}
	for _, name := range natsbus.StreamNames() {
		e.NATS.Streams = append(e.NATS.Streams, doctor.Stream{Name: name, Messages: 12, Bytes: 3 << 20, Replicas: 3})
	}
	for _, stage := range events.Stages() {
		e.NATS.Stages = append(e.NATS.Stages, doctor.Stage{Stage: stage, Pulling: 2, Delivered: ago(time.Minute)})
	}
	return e
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	findings := doctor.Diagnose(healthy())
	for _, f := range findings {
		if f.Severity != doctor.OK || f.What == "" || f.Why != "" || f.Do != "" {
			t.Errorf("%+v", f)
		}
	}
	if !healthy().Reached() || doctor.Worst(findings) != doctor.OK {
		t.Error("a healthy site is not called one")
	}
	want := `✓ api                     answers in 3.0 ms, version 1.0
✓ api ready               ready
✓ api clock               agrees with this machine's
✓ nats                    nats://nats:4222, version 2.12.0, round trip 1.0 ms
✓ nats clock              agrees with this machine's
✓ stream LOG              12 messages, 3.0 MiB, 3 replicas
✓ stream COMMANDS         12 messages, 3.0 MiB, 3 replicas
✓ stream DEAD_LETTERS     12 messages, 3.0 MiB, 3 replicas
✓ stream AUDIT            12 messages, 3.0 MiB, 3 replicas
✓ stream KV_BERTH_TOKENS  12 messages, 3.0 MiB, 3 replicas
✓ log complete            compared with the cluster 1h00m ago, 2 pods
✓ watcher                 watcher-1 leads for 1h00m, heard of the API server 3.0s ago
✓ watcher clock           agrees with this machine's
✓ stage create            0 waiting, 0 under way, 2 requests for more
✓ stage license           0 waiting, 0 under way, 2 requests for more
✓ stage launch            0 waiting, 0 under way, 2 requests for more
✓ stage finish            0 waiting, 0 under way, 2 requests for more
✓ stage delete            0 waiting, 0 under way, 2 requests for more
✓ stage delete_user       0 waiting, 0 under way, 2 requests for more
✓ stage sweep             0 waiting, 0 under way, 2 requests for more
✓ stage restart           0 waiting, 0 under way, 2 requests for more
✓ stage project           0 waiting, 0 under way, 2 requests for more
✓ timers                  1 for creates, 1 for deletes
✓ dead letters            none
✓ pods                    3 pods: 1 waiting, 1 ready, 1 deleting
✓ kubernetes              https://k8s:6443, version v1.37.2, answers in 0.0 ms
✓ kubernetes clock        agrees with this machine's
✓ namespace               berth
✓ lease                   held by watcher-1, renewed 1.0s ago
✓ pods in the cluster     2 pods, all as in the log

No problem was found.
`
	if diff := cmp.Diff(want, doctor.Text(findings, false, false)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if text := doctor.Text(findings, true, true); text != "" {
		t.Errorf("brief text: %s", text)
	}
}

// finding is what a case must lead to; what and do are parts of the texts.
type finding struct {
	severity        doctor.Severity
	check, what, do string
}

type sick struct {
	change func(*doctor.Evidence)
	want   finding
	// only says that nothing else is wrong.
	only bool
}

func run(t *testing.T, cases map[string]sick) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := healthy()
			tc.change(&e)
			var wrong []doctor.Finding
			met := false
			for _, f := range doctor.Diagnose(e) {
				if f.Severity == doctor.OK {
					continue
				}
				wrong = append(wrong, f)
				if f.Do == "" || f.What == "" || f.Why == "" && f.Severity != doctor.Skipped {
					t.Errorf("no advice: %+v", f)
				}
				met = met || f.Severity == tc.want.severity && f.Check == tc.want.check &&
					strings.Contains(f.What, tc.want.what) && strings.Contains(f.Do, tc.want.do)
			}
			if !met || tc.only && len(wrong) != 1 {
				t.Errorf("want %+v, got %+v", tc.want, wrong)
			}
		})
	}
}

func TestHTTPFindings(t *testing.T) {
	t.Parallel()
	run(t, map[string]sick{
		"api away": {
			func(e *doctor.Evidence) { e.API = doctor.API{URL: "http://berth:1", Fault: "connection refused"} },
			finding{doctor.Problem, "api", "no answer from http://berth:1: connection refused", "BERTH_URL"},
			true,
		},
		"another server": {func(e *doctor.Evidence) { e.API.Live = 404 }, finding{doctor.Problem, "api", "answers 404", "own address"}, true},
		"no database": {
			func(e *doctor.Evidence) { e.API.Licenses, e.API.LicensesFault = 503, "the database is away" },
			finding{doctor.Problem, "licenses", "503 at /v1/licenses: the database is away", "PostgreSQL"},
			true,
		},
		"a site without a database": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.LicensesFault = 503, "this site has no database: set DATABASE_URL"
			},
			finding{doctor.Notice, "licenses", "has no database", "if the site is to have projects"},
			true,
		},
		"a broken template": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.Template, e.API.TemplateReason, e.API.TemplateFault = 200, 200, events.TemplateInvalid, "it is no Pod as JSON"
			},
			finding{doctor.Problem, "template", "it is no Pod as JSON", "Mend the ConfigMap"},
			true,
		},
		"no template, and no projects": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.Template, e.API.TemplateReason, e.API.TemplateFault = 200, 200, events.TemplateInvalid, noTemplate
			},
			finding{doctor.Notice, "template", "is missing", "if the site is to have projects"},
			true,
		},
		"no template, with projects": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.Template, e.API.TemplateReason, e.API.TemplateFault = 200, 200, events.TemplateInvalid, noTemplate
				e.NATS.Pods.Records = append(e.NATS.Pods.Records, doctor.Record{Pod: events.ProjectPod(project), Event: events.Gone, At: ago(time.Hour)})
			},
			finding{doctor.Problem, "template", "is missing", "Mend the ConfigMap"},
			true,
		},
		"settings that nothing can be started with": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.Template, e.API.TemplateReason, e.API.TemplateFault = 200, 200, events.SettingsInvalid, "out of range"
			},
			finding{doctor.Problem, "template", "SETTINGS_INVALID: out of range", "the site's settings"},
			true,
		},
		"a template that nobody says anything of": {
			func(e *doctor.Evidence) {
				e.API.Licenses, e.API.Template, e.API.TemplateFault = 200, 503, "no creator answers"
			},
			finding{doctor.Notice, "template", "answers 503 at /v1/preview: no creator answers", "creator"},
			true,
		},
		"not ready": {
			func(e *doctor.Evidence) { e.API.Ready, e.API.Failing = 503, []string{"log: is read", "nats: away"} },
			finding{doctor.Problem, "api ready", "log: is read; nats: away", "api's log"},
			true,
		},
		"not ready for want of NATS": {func(e *doctor.Evidence) {
			e.API.Ready, e.API.Failing, e.NATS.Fault = 503, []string{"nats: away"}, "no server answers there"
		}, finding{doctor.Problem, "api ready", "nats: away", "Mend NATS first"}, false},
		"not ready for want of a comparison": {func(e *doctor.Evidence) {
			e.API.Ready, e.API.Failing, e.NATS.Mark.Current = 503, []string{"log: not compared"}, false
		}, finding{doctor.Problem, "api ready", "not compared", "watcher"}, false},
		"not ready, NATS not looked at": {
			func(e *doctor.Evidence) { e.API.Ready, e.API.Failing, e.NATS = 503, []string{"x"}, doctor.NATS{} },
			finding{doctor.Problem, "api ready", "x", "Set NATS_URL"},
			false,
		},
		"not ready without a word": {func(e *doctor.Evidence) { e.API.Ready = 502 }, finding{doctor.Problem, "api ready", "answers 502", "log"}, true},
		"clock a little ahead":     {func(e *doctor.Evidence) { e.API.Skew = new(3.0) }, finding{doctor.Notice, "api clock", "3.0s ahead of", "chrony"}, true},
		"clock far behind":         {func(e *doctor.Evidence) { e.API.Skew = new(-90.0) }, finding{doctor.Problem, "api clock", "1m30s behind", "chrony"}, true},
		"versions":                 {func(e *doctor.Evidence) { e.API.Version = "1.1" }, finding{doctor.Notice, "versions", "the api is 1.1, the watcher 1.0", "upgrade"}, true},
	})
}

func TestNATSFindings(t *testing.T) {
	t.Parallel()
	stream := func(change func(*doctor.Stream)) func(*doctor.Evidence) {
		return func(e *doctor.Evidence) { change(&e.NATS.Streams[0]) }
	}
	run(t, map[string]sick{
		"not looked at": {func(e *doctor.Evidence) { e.NATS = doctor.NATS{} }, finding{doctor.Skipped, "nats", "not looked at", "NATS_URL"}, true},
		"away": {
			func(e *doctor.Evidence) {
				e.NATS = doctor.NATS{Asked: true, Servers: "nats://x", Fault: "no server answers there"}
			},
			finding{doctor.Problem, "nats", "nats://x: no server", "Start the NATS server"},
			true,
		},
		"password": {
			func(e *doctor.Evidence) {
				e.NATS = doctor.NATS{Asked: true, Fault: "the server refuses these credentials"}
			},
			finding{doctor.Problem, "nats", "credentials", "operator:PASSWORD"},
			true,
		},
		"too old":      {func(e *doctor.Evidence) { e.NATS.Version = "2.11.9" }, finding{doctor.Problem, "nats", "2.11.9", "2.12"}, true},
		"far away":     {func(e *doctor.Evidence) { e.NATS.RTT = 0.2 }, finding{doctor.Notice, "nats", "200.0 ms", "network"}, true},
		"no rights":    {func(e *doctor.Evidence) { e.NATS.Denied = []string{"publish to x"} }, finding{doctor.Notice, "nats rights", "publish to x", "operator"}, true},
		"no JetStream": {func(e *doctor.Evidence) { e.NATS.JetStream = "the server has no JetStream" }, finding{doctor.Problem, "jetstream", "no JetStream", "Enable"}, true},
		"clock":        {func(e *doctor.Evidence) { e.NATS.Skew = new(20.0) }, finding{doctor.Problem, "nats clock", "20.0s ahead", "chrony"}, true},

		"no stream":         {stream(func(s *doctor.Stream) { s.Missing = true }), finding{doctor.Problem, "stream LOG", "does not exist", "Start the services"}, true},
		"stream unseen":     {stream(func(s *doctor.Stream) { s.Fault = "no answer in time" }), finding{doctor.Notice, "stream LOG", "no answer in time", "operator"}, true},
		"stream leaderless": {stream(func(s *doctor.Stream) { s.Clustered = true }), finding{doctor.Problem, "stream LOG", "no leader", "more than half"}, true},
		"messages lost":     {stream(func(s *doctor.Stream) { s.Lost = 3 }), finding{doctor.Problem, "stream LOG", "lost 3 messages", "disk"}, true},
		"wrong stream":      {stream(func(s *doctor.Stream) { s.Faults = []string{"storage is Memory"} }), finding{doctor.Problem, "stream LOG", "storage is Memory", "Restart the watcher"}, true},
		"replica offline":   {stream(func(s *doctor.Stream) { s.Peers = []doctor.Peer{{Name: "n2", Offline: true}} }), finding{doctor.Problem, "stream LOG", "n2 is offline", "n2"}, true},
		"replica behind":    {stream(func(s *doctor.Stream) { s.Peers = []doctor.Peer{{Name: "n2", Current: true, Lag: 5000}} }), finding{doctor.Notice, "stream LOG", "5000 operations behind", "n2"}, true},
		"replica silent":    {stream(func(s *doctor.Stream) { s.Peers = []doctor.Peer{{Name: "n2", Active: 30}} }), finding{doctor.Notice, "stream LOG", "30.0s ago", "n2"}, true},
		"never compared":    {func(e *doctor.Evidence) { e.NATS.Mark = doctor.Mark{} }, finding{doctor.Problem, "log complete", "never", "--cluster"}, true},
		"made anew":         {func(e *doctor.Evidence) { e.NATS.Mark.Current = false }, finding{doctor.Problem, "log complete", "made anew", "watcher"}, true},
		"mark unseen":       {func(e *doctor.Evidence) { e.NATS.Mark = doctor.Mark{Fault: "x"} }, finding{doctor.Notice, "log complete", "x", "operator"}, true},
		"no watcher":        {func(e *doctor.Evidence) { e.NATS.Watcher = doctor.Watcher{Listened: 3} }, finding{doctor.Problem, "watcher", "no heartbeat within 3.0s", "berth-watcher-main"}, true},
		"watcher unseen":    {func(e *doctor.Evidence) { e.NATS.Watcher = doctor.Watcher{Fault: "x"} }, finding{doctor.Notice, "watcher", "x", "operator"}, true},
		"watcher deaf":      {func(e *doctor.Evidence) { e.NATS.Watcher.Beats[0].WatchAge = 100 }, finding{doctor.Problem, "watcher", "1m40s ago", "network"}, true},
		"watcher's clock":   {func(e *doctor.Evidence) { e.NATS.Watcher.Beats[0].Skew = new(-4.0) }, finding{doctor.Notice, "watcher clock", "4.0s behind", "chrony"}, true},
		"two watchers": {func(e *doctor.Evidence) {
			e.NATS.Watcher.Beats = append(e.NATS.Watcher.Beats, doctor.Beat{Heartbeat: events.Heartbeat{Instance: "other"}})
		}, finding{doctor.Problem, "watcher", "watcher-1, other", "cluster name"}, true},
		"letters unseen":     {func(e *doctor.Evidence) { e.NATS.DeadLetters.Fault = "x" }, finding{doctor.Notice, "dead letters", "x", "operator"}, true},
		"a refusal":          {func(e *doctor.Evidence) { e.NATS.DeadLetters = letters(events.PodRejected) }, finding{doctor.Notice, "dead letters", "1m00s ago launch of p: POD_REJECTED: cause", "users"}, true},
		"something given up": {func(e *doctor.Evidence) { e.NATS.DeadLetters = letters(events.RetriesExhausted) }, finding{doctor.Problem, "dead letters", "2 of the last week", "once more"}, true},
	})
}

func letters(reason events.Reason) doctor.DeadLetters {
	return doctor.DeadLetters{Count: 2, Newest: []doctor.Letter{{At: ago(time.Minute), Stage: events.StageLaunch, Pod: "p", Reason: reason, Cause: "cause"}}}
}

func TestQueueFindings(t *testing.T) {
	t.Parallel()
	stage := func(change func(*doctor.Stage)) func(*doctor.Evidence) {
		return func(e *doctor.Evidence) { change(&e.NATS.Stages[0]) }
	}
	run(t, map[string]sick{
		"no consumer": {
			stage(func(s *doctor.Stage) { *s = doctor.Stage{Stage: s.Stage, Missing: true, Queued: 2} }),
			finding{doctor.Problem, "stage create", "no creator has ever run for cluster main, and 2 commands wait", "Start the creator"},
			true,
		},
		"consumer unseen": {stage(func(s *doctor.Stage) { s.Fault = "x" }), finding{doctor.Notice, "stage create", "x", "operator"}, true},
		"nobody pulls":    {stage(func(s *doctor.Stage) { s.Pulling = 0 }), finding{doctor.Problem, "stage create", "nobody takes them", "Start the creator"}, true},
		"gone amid work":  {stage(func(s *doctor.Stage) { s.Pulling, s.Working = 0, 4 }), finding{doctor.Problem, "stage create", "4 under way; nobody", "Start the creator"}, true},
		"paused":          {stage(func(s *doctor.Stage) { s.Paused = true }), finding{doctor.Problem, "stage create", "paused", "resume"}, true},
		"leaderless":      {stage(func(s *doctor.Stage) { s.Leaderless = true }), finding{doctor.Problem, "stage create", "no leader", "NATS servers"}, true},
		"stuck":           {stage(func(s *doctor.Stage) { s.Queued, s.Working, s.Redelivered, s.Oldest = 1, 1, 1, ago(2*time.Minute) }), finding{doctor.Problem, "stage create", "1 of them again, the oldest asked for 2m00s ago", "log of the creator"}, true},
		"slow":            {stage(func(s *doctor.Stage) { s.Queued, s.Pending, s.Oldest = 1, 1, ago(20*time.Second) }), finding{doctor.Notice, "stage create", "20.0s ago", "again in a minute"}, true},
		"crowded":         {stage(func(s *doctor.Stage) { s.Queued, s.Pending = 900, 900 }), finding{doctor.Notice, "stage create", "900 waiting", "replicas"}, true},
		"foreign stage":   {func(e *doctor.Evidence) { e.NATS.Commands.Foreign = map[string]int{"finish": 1} }, finding{doctor.Notice, "stage finish", "1 command of a stage", "upgrade"}, true},
		"queue unseen":    {func(e *doctor.Evidence) { e.NATS.Commands.Fault = "x" }, finding{doctor.Notice, "timers", "x", "operator"}, true},
		"no timer":        {func(e *doctor.Evidence) { delete(e.NATS.Pods.Armed[events.TimerCreate], "cb") }, finding{doctor.Problem, "timers", "none for b", "Delete"}, true},
		"no delete timer": {func(e *doctor.Evidence) { delete(e.NATS.Pods.Armed[events.TimerDelete], "cc") }, finding{doctor.Problem, "timers", "none for c", "Delete"}, true},
		"pods unseen":     {func(e *doctor.Evidence) { e.NATS.Pods = doctor.Pods{Fault: "x"} }, finding{doctor.Notice, "pods", "x", "operator"}, true},
		"making too long": {func(e *doctor.Evidence) {
			e.NATS.Pods.Records[1].Claimed, e.NATS.Pods.Records[1].Reason = ago(time.Hour), events.Unschedulable
		}, finding{doctor.Problem, "pods", "b (UNSCHEDULABLE)", "timers"}, true},
		"projects wait": {func(e *doctor.Evidence) {
			r := &e.NATS.Pods.Records[1]
			r.User, r.Unlicensed, r.Message = "project:x", true, "its row is locked"
		}, finding{doctor.Problem, "projects", "starts of projects wait: b (its row is locked)", "PostgreSQL"}, true},
		"deleting too long": {func(e *doctor.Evidence) { e.NATS.Pods.Records[2].Deleting = ago(time.Hour) }, finding{doctor.Problem, "pods", "5m00s: c", "describe"}, true},
		"failed and left":   {func(e *doctor.Evidence) { e.NATS.Pods.Records[0].Event = events.Failed }, finding{doctor.Problem, "pods", "5m00s: a", "deleter"}, true},
		"a newer version":   {func(e *doctor.Evidence) { e.NATS.Pods.Unreadable = 1 }, finding{doctor.Notice, "pods", "1 pod with records", "version"}, true},
	})
}

func TestKubernetesFindings(t *testing.T) {
	t.Parallel()
	k := func(change func(*doctor.Kubernetes)) func(*doctor.Evidence) {
		return func(e *doctor.Evidence) { change(&e.Kubernetes) }
	}
	run(t, map[string]sick{
		"not looked at":    {k(func(k *doctor.Kubernetes) { *k = doctor.Kubernetes{} }), finding{doctor.Skipped, "kubernetes", "not looked at", "KUBECONFIG"}, true},
		"away":             {k(func(k *doctor.Kubernetes) { k.Fault = "refused" }), finding{doctor.Problem, "kubernetes", "https://k8s:6443: refused", "kubectl"}, true},
		"clock":            {k(func(k *doctor.Kubernetes) { k.Skew = new(60.0) }), finding{doctor.Problem, "kubernetes clock", "1m00s ahead", "chrony"}, true},
		"which namespace":  {k(func(k *doctor.Kubernetes) { k.Namespace = "" }), finding{doctor.Skipped, "namespace", "not looked at", "BERTH_NAMESPACE"}, true},
		"no namespace":     {k(func(k *doctor.Kubernetes) { k.NamespaceMissing = true }), finding{doctor.Problem, "namespace", "no namespace berth", "create namespace"}, true},
		"namespace unseen": {k(func(k *doctor.Kubernetes) { k.NamespaceFault = "x" }), finding{doctor.Notice, "namespace", "x", "may get"}, true},
		"no lease":         {k(func(k *doctor.Kubernetes) { k.LeaseMissing = true }), finding{doctor.Problem, "lease", "no lease berth-watcher-main", "Start the watcher"}, true},
		"lease of nobody":  {k(func(k *doctor.Kubernetes) { k.LeaseHolder = "" }), finding{doctor.Problem, "lease", "nobody", "Start the watcher"}, true},
		"lease run out":    {k(func(k *doctor.Kubernetes) { k.LeaseAge = 60 }), finding{doctor.Problem, "lease", "1m00s ago by watcher-1", "Start the watcher"}, true},
		"lease unseen":     {k(func(k *doctor.Kubernetes) { k.LeaseFault = "x" }), finding{doctor.Notice, "lease", "x", "leases"}, true},
		"pods unseen":      {k(func(k *doctor.Kubernetes) { k.PodsFault = "x" }), finding{doctor.Notice, "pods in the cluster", "x", "list"}, true},
		"pods without records": {k(func(k *doctor.Kubernetes) {
			k.Pods = append(k.Pods, doctor.ClusterPod{Name: "d", Created: ago(time.Hour)}, doctor.ClusterPod{Name: "x", Created: ago(time.Hour)},
				doctor.ClusterPod{Name: "young", Created: ago(time.Second)}, doctor.ClusterPod{Name: "ending", Created: ago(time.Hour), Terminating: true})
		}), finding{doctor.Problem, "pods in the cluster", "not in the log: d, x", "Restart the watcher"}, true},
		"records without pods": {k(func(k *doctor.Kubernetes) { k.Pods = nil }), finding{doctor.Problem, "pods in the cluster", "not there: a, b", "Restart the watcher"}, true},
	})
}

// TestLogNotReadWithTheCluster: without the log the pods are counted only.
func TestLogNotReadWithTheCluster(t *testing.T) {
	t.Parallel()
	e := healthy()
	e.NATS = doctor.NATS{}
	findings := doctor.Diagnose(e)
	if got := findings[len(findings)-1]; got.Severity != doctor.OK || got.What != "2 pods" {
		t.Errorf("%+v", got)
	}
	if doctor.Worst(findings) != doctor.Skipped {
		t.Errorf("worst is %s, want skipped", doctor.Worst(findings))
	}
}

func TestReached(t *testing.T) {
	t.Parallel()
	away := doctor.Evidence{
		API: doctor.API{Fault: "x"}, NATS: doctor.NATS{Asked: true, Fault: "x"}, Kubernetes: doctor.Kubernetes{},
	}
	if away.Reached() {
		t.Error("nothing answers, and it counts as reached")
	}
	away.Kubernetes.Asked = true
	if !away.Reached() {
		t.Error("Kubernetes answers, and it does not count")
	}
}

func TestTextOfWhatIsWrong(t *testing.T) {
	t.Parallel()
	findings := []doctor.Finding{
		{Severity: doctor.OK, Check: "api", What: "well"},
		{Severity: doctor.Skipped, Check: "kubernetes", What: "not looked at", Do: "Set it."},
		{Severity: doctor.Problem, Check: "nats", What: "a\nb\x1b[2J", Why: "So it is.", Do: "Mend it."},
		{Severity: doctor.Notice, Check: "timers", What: "odd", Why: "Maybe.", Do: "Look."},
	}
	want := `✓ api         well
- kubernetes  not looked at
✗ nats        a b�[2J
! timers      odd

1 problem:
✗ nats
    So it is.
    What to do: Mend it.

1 notice:
! timers
    Maybe.
    What to do: Look.

Not looked at:
- kubernetes
    What to do: Set it.
`
	if diff := cmp.Diff(want, doctor.Text(findings, false, false)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if got := doctor.Text(findings[2:3], true, true); !strings.HasPrefix(got, "\x1b[31m✗\x1b[0m nats  a b") {
		t.Errorf("in colour: %q", got)
	}
}

// TestTemplateOfASite: nothing is said of a template that nobody was asked for; of one that can be used that it can.
func TestTemplateOfASite(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		api  doctor.API
		want string
	}{
		"not asked":        {doctor.API{}, ""},
		"no database":      {doctor.API{Licenses: 503, Template: 200, TemplateReason: events.TemplateInvalid}, ""},
		"usable":           {doctor.API{Licenses: 200, Template: 200}, "projects can be started from it"},
		"a hub's database": {doctor.API{Licenses: 200, Template: 200, TemplateReason: events.ProjectUnknown, TemplateFault: "no such project"}, "projects can be started from it"},
		"an older api":     {doctor.API{Licenses: 200, Template: 404}, ""},
	} {
		e := healthy()
		tt.api.Live, tt.api.Ready = 200, 200
		e.API = tt.api
		got := ""
		for _, f := range doctor.Diagnose(e) {
			if f.Check == "template" {
				got = f.What
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
