package app

import (
	"net/http"
	"testing"

	"berth/pkg/events"
)

// TestV1RestartRepeated: a restart with a key that is repeated when its pod has come and another one has taken its place
// was done. Its create has had its pod, so that nothing would follow if that were restarted for it.
func TestV1RestartRepeated(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	key := map[string]string{"Idempotency-Key": "k"}
	ready := func(action string, header map[string]string) v1Reply {
		t.Helper()
		r := s.do(projectA, action+"?wait=ready", nil, header)
		if r.status != http.StatusCreated || member(r, "event") != "ready" {
			t.Fatalf("%s: %d %s", action, r.status, r.raw)
		}
		return r
	}
	ready("start", nil)
	ready("restart", key)
	now := ready("restart", nil)
	if again := s.do(projectA, "restart", nil, key); again.status != http.StatusOK || member(again, "generation") != member(now, "generation") {
		t.Errorf("the restart with the key again: %d %s", again.status, again.raw)
	}
	if got := s.do(projectA, "stop?wait=gone", nil, nil); got.status != http.StatusNoContent {
		t.Fatalf("stop: %d %s", got.status, got.raw)
	}
	if again := s.do(projectA, "restart", nil, key); again.status != http.StatusGone {
		t.Errorf("the restart with the key after a stop: %d %s", again.status, again.raw)
	}
}

// TestV1RestartRefused: who asks for a restart that cannot be done is told at once, and the pod lives on.
func TestV1RestartRefused(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	if r := s.do(projectA, "start?wait=ready", nil, nil); r.status != http.StatusCreated {
		t.Fatalf("start: %d %s", r.status, r.raw)
	}
	s.mu.Lock()
	s.refusal = events.TemplateInvalid
	s.mu.Unlock()
	for _, action := range []string{"restart", "restart?wait=ready"} {
		r := s.do(projectA, action, nil, nil)
		if r.status != http.StatusUnprocessableEntity || member(r, "reason") != string(events.TemplateInvalid) {
			t.Errorf("%s: %d %s", action, r.status, r.raw)
		}
	}
	if e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA)); err != nil || e.Event != events.Ready {
		t.Errorf("the pod is %s (%v)", e.Event, err)
	}
}
