package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// TestClient takes a pod through its life over /v1, as the Go client has it, on two
// replicas of the api, one of which dies while its stream is followed.
func TestClient(t *testing.T) {
	t.Parallel()
	const user, other = "client@example.org", "client-other@example.org"
	p, started := whole(t)
	first := p.URL
	p.replica(t, "api")
	second := p.URL
	p.compared(t)
	at := func(url string) *client.Client {
		c, err := client.New(url, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	one, two := at(first), at(second)

	// A stream on the replica that stays, and one that goes on there.
	seen := func(url, after string) (stop func(until string) (kinds []string, last string)) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var kinds []string
		last := after
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e, err := range at(url).Events(ctx, client.Stream{User: user, After: after}) {
				if err != nil {
					return
				}
				mu.Lock()
				if e.Kind == client.PodChanged {
					kinds = append(kinds, e.Pod.Event)
				}
				if e.Position != "" {
					last = e.Position
				}
				mu.Unlock()
			}
		}()
		return func(until string) ([]string, string) {
			eventually(t, "the stream tells that the pod is "+until, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Contains(kinds, until)
			})
			cancel()
			<-done
			return kinds, last
		}
	}
	stop := seen(first, "")
	create := client.Create{User: user, ManifestURL: p.ManifestsURL + "/sites/token.yaml", Key: "the-same", WaitReady: true}
	pod, err := one.CreatePod(t.Context(), create)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := two.CreatePod(t.Context(), create); err != nil || again.Name != pod.Name || again.Generation != pod.Generation {
		t.Errorf("the same key on another replica: %s of %s, %v; want %s of %s", again.Name, again.Generation, err, pod.Name, pod.Generation)
	}
	eventually(t, "the pod's token has been copied", func() bool {
		tokens, err := two.Tokens(t.Context(), user, pod.Name)
		return err == nil && tokens[mine("e2e-one.token")] == "one"
	})
	_, position := stop("ready")
	started["api"].kill(t)
	stop = seen(second, position)

	var page client.Page
	if page, err = two.ListPods(t.Context(), client.Query{User: user}); err != nil || len(page.Pods) != 1 || page.Pods[0].Name != pod.Name {
		t.Errorf("list: %v, %v", page.Pods, err)
	}
	var problem *client.Problem
	_, foreign := two.Pod(t.Context(), other, pod.Name)
	_, missing := two.Pod(t.Context(), other, "no-such-pod")
	if !errors.As(foreign, &problem) || problem.Status != http.StatusNotFound || foreign.Error() != missing.Error() {
		t.Errorf("foreign: %v; missing: %v", foreign, missing)
	}
	if err := two.DeletePod(t.Context(), user, pod.Name, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is gone", func() bool {
		_, err := two.Pod(t.Context(), user, pod.Name)
		return client.NotFound(err)
	})
	events, _ := stop("deleting")
	if diff := cmp.Diff([]string{"deleting"}, events[:1]); diff != "" {
		t.Errorf("the stream that goes on begins with (-want +got):\n%s", diff)
	}
	timeline, err := two.Timeline(t.Context(), user, pod.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	var by []string
	for _, phase := range timeline.Phases {
		if len(by) == 0 || by[len(by)-1] != phase.By {
			by = append(by, phase.By)
		}
	}
	for _, service := range []string{"creator", "licenser", "watcher", "deleter"} {
		if !slices.ContainsFunc(by, func(b string) bool { return strings.Contains(b, service) }) {
			t.Errorf("the timeline does not say what the %s did: %v", service, by)
		}
	}
	p.nothing(t, user)
}
