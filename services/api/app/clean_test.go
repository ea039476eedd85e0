package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

func TestDeleteUser(t *testing.T) {
	t.Parallel()
	b := compared(t)
	answered := b.begin("/delete_all_user", object{"user_id": user})
	var queued []events.Command
	eventstest.Eventually(t, "the delete is queued", func() bool {
		queued = eventstest.Queued(t, b.server, events.StageDeleteUser)
		return len(queued) == 1
	})
	if queued[0].User != user {
		t.Errorf("delete of %q", queued[0].User)
	}
	b.waiting("/delete_all_user", 1)
	b.decide(events.Outcome{Verdict: events.Done, Command: queued[0].ID, User: user})
	b.expect("delete_all_user", eventstest.Receive(t, "the answer", answered), yes("deleted"))
}

func TestDeleteUserTakesTooLong(t *testing.T) {
	t.Parallel()
	b := compared(t, func(c *config.Config) { c.TimeoutDelete = time.Second })
	b.expect("delete_all_user", b.post("/delete_all_user", object{"user_id": user}), no("deleted"))
}

func TestSweep(t *testing.T) {
	t.Parallel()
	report := events.Report{Found: []events.Leftover{{Kind: "Service", Name: "n-http", Why: "its pod is gone"}}, Total: 1, Removed: 1}
	tests := map[string]struct {
		outcome events.Outcome
		status  int
		body    string
	}{
		"done":    {events.Outcome{Verdict: events.Done, Report: &report}, 200, `{"dry_run":false,"found":[{"kind":"Service","name":"n-http","why":"its pod is gone"}],"total":1,"removed":1}` + "\n"},
		"nothing": {events.Outcome{Verdict: events.Done}, 200, `{"dry_run":false,"found":[],"total":0,"removed":0}` + "\n"},
		"failed": {
			events.Outcome{Verdict: events.Refused, Reason: events.RetriesExhausted, Message: "x"},
			500,
			`{"error":{"code":"RETRIES_EXHAUSTED","message":"x"},"removed":0}` + "\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := compared(t, twoSilos)
			answered := make(chan answer, 1)
			go func() { answered <- b.ask(http.MethodPost, "/clean_all_unused", tokenAdmin, "") }()
			var queued []events.Command
			eventstest.Eventually(t, "the sweep is queued", func() bool {
				queued = eventstest.Queued(t, b.server, events.StageSweep)
				return len(queued) == 1
			})
			if queued[0].Sweep == nil || queued[0].Sweep.DryRun {
				t.Errorf("sweep = %+v", queued[0])
			}
			tt.outcome.Command = queued[0].ID
			b.decide(tt.outcome)
			got := eventstest.Receive(t, "the answer", answered)
			if got.Status != tt.status || got.Body != tt.body {
				t.Errorf("answer = %d %s", got.Status, got.Body)
			}
		})
	}
}

func TestSweepTakesTooLong(t *testing.T) {
	t.Parallel()
	b := compared(t, twoSilos, func(c *config.Config) { c.TimeoutDelete = time.Second })
	if got := b.ask(http.MethodPost, "/clean_all_unused?dry_run=true", tokenAdmin, ""); got.Status != 504 {
		t.Errorf("answer = %+v", got)
	}
	if queued := eventstest.Queued(t, b.server, events.StageSweep); len(queued) != 1 || !queued[0].Sweep.DryRun {
		t.Errorf("queued: %+v", queued)
	}
}

// TestTokens: what get_pods shows of tokens.
func TestTokens(t *testing.T) {
	t.Parallel()
	bring := func(b *bench, keys ...string) string {
		entry := b.append(eventstest.Claim(pod, user, "c"))
		launch, launched := eventstest.Launch(entry.Generation), eventstest.Launched(entry.Generation, "uid")
		launch.TokenKeys, launched.HTTP, launched.SSHPort, launched.SSHUser = keys, true, 30022, "jovyan"
		b.append(eventstest.License(entry.Generation), launch, launched, eventstest.Observe(entry.Generation, eventstest.Ready("uid", "1")))
		return entry.Generation
	}
	keep := func(b *bench, generation string, tokens map[string]string) {
		if err := b.bus.PutTokens(t.Context(), pod, generation, tokens); err != nil {
			b.t.Fatal(err)
		}
	}
	finish := func(b *bench, generation string) {
		b.append(events.Fact{Kind: events.FactFinish, Generation: generation, At: eventstest.Time()})
	}
	tests := map[string]struct {
		happens      func(b *bench)
		wantTokens   object
		wantWarnings any
	}{
		"none": {func(b *bench) { bring(b) }, object{}, nil},
		"some": {func(b *bench) {
			g := bring(b, "one", "two")
			keep(b, g, map[string]string{"one": "1", "two": "2"})
			finish(b, g)
		}, object{"one": "1", "two": "2"}, nil},
		"some, not finished yet": {func(b *bench) { keep(b, bring(b, "one"), map[string]string{"one": "1"}) }, object{}, nil},
		"of another life": {func(b *bench) {
			keep(b, "1-1", map[string]string{"one": "1"})
			finish(b, bring(b, "one"))
		}, object{}, []any{"no tokens are kept; lost ones are copied again"}},
		"given up": {func(b *bench) {
			g := bring(b, "one")
			keep(b, g, map[string]string{})
			finish(b, g)
		}, object{}, nil},
		"being deleted": {func(b *bench) {
			g := bring(b, "one")
			keep(b, g, map[string]string{"one": "1"})
			finish(b, g)
			b.append(eventstest.Delete(g))
		}, object{}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := compared(t, func(c *config.Config) { c.IngressDomain = "pods.example.org" })
			tt.happens(b)
			if _, err := b.table.Fresh(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			got, _ := b.post("/get_pods", of(user)).Body.([]any)
			if len(got) != 1 {
				t.Fatalf("pods = %v", got)
			}
			info := got[0].(object)
			if d := cmp.Diff(any(tt.wantTokens), info["tokens"]); d != "" {
				t.Errorf("tokens (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.wantWarnings, info["warnings"]); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
			ways := object{"url": info["url"], "ssh_url": info["ssh_url"], "k8s_pod_info": info["k8s_pod_info"]}
			want := object{
				"url": "https://" + pod + ".pods.example.org", "ssh_url": "ssh://jovyan@pods.example.org:30022", "k8s_pod_info": object{"sshPort": "30022"},
			}
			if d := cmp.Diff(want, ways); d != "" {
				t.Errorf("ways in (-want +got):\n%s", d)
			}
		})
	}
}

// TestTokensUnknown: while the bucket cannot be read the list is unknown, never one that lacks a token.
func TestTokensUnknown(t *testing.T) {
	t.Parallel()
	b := compared(t)
	entry := b.append(eventstest.Claim(pod, user, "c"))
	launch := eventstest.Launch(entry.Generation)
	launch.TokenKeys = []string{"one"}
	b.append(eventstest.License(entry.Generation), launch, eventstest.Launched(entry.Generation, "uid"),
		eventstest.Observe(entry.Generation, eventstest.Ready("uid", "1")), events.Fact{Kind: events.FactFinish, Generation: entry.Generation, At: eventstest.Time()})
	if _, err := b.table.Fresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	b.server.Stop()
	if got := b.post("/get_pods", of(user)); got.Status != 503 || got.After == "" {
		t.Errorf("answer = %+v", got)
	}
	b.server.Start()
}
