package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"berth/pkg/events"
)

// TestAbandonedPolls: clients that go away free what they held. It does not run
// beside other tests, whose goroutines would be counted.
func TestAbandonedPolls(t *testing.T) { //nolint:paralleltest // It counts goroutines.
	const polls, user = 200, "judy@polls.org"
	p, services := whole(t, unhurried)
	services["licenser"].stop(t) // The pod stays claimed.
	pod := p.create(t, user, "notebook")
	p.reaches(t, pod, events.Claimed)
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()
	before := runtime.NumGoroutine()

	ctx, leave := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range polls {
		clients.Go(func() {
			body := fmt.Sprintf(`{"user_id":%q,"pod_name":%q}`, user, pod)
			eventually(t, "the client leaves", func() bool {
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+"/watch_create_pod", bytes.NewBufferString(body))
				if err != nil {
					t.Error(err)
					return true
				}
				request.Header.Set("Content-Type", "application/json")
				answer, err := client.Do(request)
				if err != nil {
					return true
				}
				defer answer.Body.Close()
				if answer.StatusCode != http.StatusServiceUnavailable { // That is what a busy machine says.
					t.Errorf("answered with %d", answer.StatusCode)
					return true
				}
				return false
			})
		})
	}
	eventually(t, "all polls wait", func() bool { return p.metric(t, `berth_http_long_polls{endpoint="/watch_create_pod"}`) == "200" })
	leave()
	clients.Wait()
	eventually(t, "no poll waits", func() bool { return p.metric(t, `berth_http_long_polls{endpoint="/watch_create_pod"}`) == "0" })
	const slack = 20 // Connections of the services come and go.
	eventually(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+slack })
	p.remove(t, user, pod)
	p.gone(t, user, pod)
}

// metric reads one figure of the api.
func (s *site) metric(t *testing.T, name string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := shared.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
