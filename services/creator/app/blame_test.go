package app

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/cluster"
)

func TestBlame(t *testing.T) {
	t.Parallel()
	patched := func(title, id string) events.License {
		return events.License{ID: id, Title: title, Status: "active", Patched: true}
	}
	gpu := func(title, id string) events.License {
		return events.License{ID: id, Title: title, Status: "active", Machine: true}
	}
	tests := map[string]struct {
		refusal  string
		licenses []events.License
		want     string
	}{
		"none":         {"no", nil, "no"},
		"none patches": {"no", []events.License{{ID: "1", Title: "T", Status: "active"}}, "no"},
		"one":          {"no", []events.License{{ID: "0"}, patched("T", "1")}, `no (the pod was changed by the patch of license "T" (1))`},
		"no title":     {"no", []events.License{patched("", "1")}, `no (the pod was changed by the patch of license 1)`},
		"two":          {"no", []events.License{patched("T", "1"), patched("U", "2")}, `no (the pod was changed by the patch of license "T" (1), license "U" (2))`},
		"a gpu":        {"no", []events.License{{ID: "0"}, gpu("T", "1")}, `no (the pod was changed by the gpu or machine of license "T" (1))`},
		"a gpu, patches": {
			"no",
			[]events.License{patched("T", "1"), gpu("U", "2")},
			`no (the pod was changed by the patch, gpu or machine of license "T" (1), license "U" (2))`,
		},
		"many": {
			"no",
			[]events.License{patched("A", "1"), patched("B", "2"), patched("C", "3"), patched("D", "4"), patched("E", "5"), patched("F", "6")},
			`no (the pod was changed by the patch of license "A" (1), license "B" (2), license "C" (3), license "D" (4) and 2 more)`,
		},
	}
	for name, tt := range tests {
		if got := blame(errors.New(tt.refusal), tt.licenses).Error(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	long := blame(errors.New(strings.Repeat("é", 5000)), []events.License{patched(strings.Repeat("é", 5000), strings.Repeat("1", 500))}).Error()
	if !utf8.ValidString(long) || len(long) > 2000 || !strings.HasSuffix(long, "))") {
		t.Errorf("%d bytes that end in %q", len(long), long[len(long)-20:])
	}
}

// TestLaunchBlames: the failure of a pod that licenses have changed names them.
func TestLaunchBlames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	entry := b.appendsTo(t, name, eventstest.Claim(name, user, "c1"))
	entry = b.appendsTo(t, name, events.Fact{Kind: events.FactLicense, Generation: entry.Generation, Licenses: []events.License{
		{ID: "0190f3e0-0000-7000-8000-000000000002", Title: "GPU", Status: "active", Patched: true},
	}})
	c := eventstest.LaunchCommand("c1", user, name, entry.Generation)
	c.Rendered = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `"}}`)
	if err := b.bus.Publish(t.Context(), c, "1"); err != nil {
		t.Fatal(err)
	}
	b.pods.err = &cluster.RejectedError{Reason: string(events.PodRejected), Message: `serviceaccount "x" not found`}
	eventstest.Go(t, b.consumesLaunches)
	eventstest.Eventually(t, "the pod fails", func() bool { return b.last(t, name).Event == events.Failed })
	want := `serviceaccount "x" not found (the pod was changed by the patch of license "GPU" (0190f3e0-0000-7000-8000-000000000002))`
	if got := b.last(t, name); got.Reason != events.PodRejected || got.Message != want {
		t.Errorf("%s: %s, want %s", got.Reason, got.Message, want)
	}
}

func (b *bench) consumesLaunches(ctx context.Context) error {
	return b.bus.Consume(ctx, natsbus.Stage{Stage: events.StageLaunch, Handler: b.launch, Fail: b.failLaunch, Attempts: launchAttempts})
}

// TestLaunchOfAnotherName makes nothing.
func TestLaunchOfAnotherName(t *testing.T) {
	t.Parallel()
	b, d := launching(t, events.Licensed)
	d.Rendered = []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"another"}}`)
	if err := b.launch(t.Context(), d); err == nil || !strings.Contains(err.Error(), `"another"`) || len(b.pods.made) > 0 {
		t.Errorf("launch = %v, and %d pods", err, len(b.pods.made))
	}
}

// TestDiscreet: what the API server quotes of a pod's variables is not told.
func TestDiscreet(t *testing.T) {
	t.Parallel()
	pod := json.RawMessage(`{"metadata":{"name":"p","labels":{"leak":"c2VjcmV0LXZhbHVl"}},
		"spec":{"containers":[{"name":"project","image":"x","env":[{"name":"EXTRA","value":"c2VjcmV0LXZhbHVl"}]}]}}`)
	for text, want := range map[string]string{
		`Pod "p" is invalid: metadata.labels: Invalid value: "c2VjcmV0LXZhbHVl": too long`: `Pod "p" is invalid: metadata.labels: Invalid value: "(withheld)": too long`,
		`serviceaccount "no-such-account" not found`:                                       `serviceaccount "no-such-account" not found`,
		`the value c2VjcmV0LXZhbHVl is bad`:                                                `the message of the API server has values of the pod that may be secret, and is not repeated`,
	} {
		if got := discreet(pod, errors.New(text)).Error(); got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", text, got, want)
		}
	}
}
