package app

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// twoFaced sends requests to one replica or the other.
type twoFaced struct {
	s    *v1Site
	n    int
	base http.RoundTripper
}

func (f *twoFaced) RoundTrip(r *http.Request) (*http.Response, error) {
	f.n++
	r = r.Clone(r.Context())
	r.URL.Host = f.s.apis[f.n%len(f.s.apis)].Addr()
	return f.base.RoundTrip(r)
}

// TestV1ByItsClient: what pkg/client makes of the answers of two replicas.
func TestV1ByItsClient(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 2, v1TwoSilos)
	s.creator()
	c, err := client.New("http://127.0.0.1", client.Options{Token: client.Token(v1TokenA), RoundTripper: &twoFaced{s: s, base: s.client.Transport}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	create := client.Create{User: user, ManifestURL: "https://example.org/good.yaml", Key: "k", WaitReady: true}
	made, err := c.CreatePod(ctx, create)
	if err != nil || made.Event != "ready" || made.User != user || made.ReadyAt.IsZero() || len(made.Addresses) == 0 {
		t.Fatalf("create: %+v, %v", made, err)
	}
	again, err := c.CreatePod(ctx, create)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made, again); d != "" {
		t.Errorf("the same create (-first +second):\n%s", d)
	}
	shown, err := c.Pod(ctx, user, made.Name)
	if d := cmp.Diff(made, shown); d != "" || err != nil {
		t.Errorf("get: %v (-made +shown):\n%s", err, d)
	}
	page, err := c.ListPods(ctx, client.Query{User: user, Events: []string{"ready"}})
	if d := cmp.Diff(client.Page{Pods: []client.Pod{made}}, page); d != "" || err != nil {
		t.Errorf("list: %v (-want +got):\n%s", err, d)
	}
	tokens, err := c.Tokens(ctx, user, made.Name)
	if err != nil || len(tokens) != 0 {
		t.Errorf("tokens: %v, %v", tokens, err)
	}
	timeline, err := c.Timeline(ctx, user, made.Name, "")
	if err != nil || len(timeline.Phases) != 7 || timeline.Phases[6].Event != "ready" || timeline.ReadyAfter == nil {
		t.Errorf("timeline: %+v, %v", timeline, err)
	}
	if _, err := c.Pod(ctx, "carol@example.net", made.Name); !client.NotFound(err) {
		t.Errorf("another's pod: %v", err)
	}
	_, err = c.CreatePod(ctx, client.Create{User: user, ManifestURL: "https://example.org/fails.yaml", WaitReady: true})
	var problem *client.Problem
	if !errors.As(err, &problem) || problem.Reason != "IMAGE_PULL" || problem.Pod == "" {
		t.Errorf("a create that fails: %v", err)
	}

	var told []string
	deleted := false
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for e, err := range c.Events(ctx, client.Stream{User: user, Pod: made.Name}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case client.Synced: // It may come again.
			if len(told) == 1 && !deleted {
				deleted = true
				s.append(made.Name, eventstest.Delete(made.Generation), eventstest.Gone(made.Generation))
			}
		case client.PodChanged:
			told = append(told, e.Pod.Event)
		case client.Reset:
			t.Errorf("reset: %s", e.Why)
		}
		if e.Pod.Event == string(events.Gone) {
			break
		}
	}
	if d := cmp.Diff([]string{"ready", "deleting", "gone"}, told); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if _, err := c.Timeline(ctx, user, made.Name, made.Generation); err != nil {
		t.Errorf("the timeline of a pod that is gone: %v", err)
	}
}
