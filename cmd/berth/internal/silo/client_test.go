package silo_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/silo"
	"berth/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is what a server was asked.
type request struct {
	Line, Type, Agent, Body string
}

// serve starts a service that answers everything alike, and returns a client of
// it and what it was asked last.
func serve(t *testing.T, status int, header map[string]string, body string) (*silo.Client, *request) {
	t.Helper()
	var asked request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		asked = request{r.Method + " " + r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("User-Agent"), string(data)}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return client(t, server.URL+"/berth"), &asked
}

func client(t *testing.T, base string) *silo.Client {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	c := silo.New(u, "berth/test")
	t.Cleanup(c.Close)
	return c
}

func TestRequests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer     string
		call       func(context.Context, *silo.Client) (any, error)
		want       any
		line, body string
	}{
		"create": {
			answer: `{"pod_name":"notebook-alice"}`,
			call: func(ctx context.Context, c *silo.Client) (any, error) {
				return c.Create(ctx, "alice@example.org", "https://example.org/n.yaml", map[string]map[string]string{"n": {"A": "1"}})
			},
			want: "notebook-alice", line: "POST /berth/create_pod",
			body: `{"settings":{"n":{"A":"1"}},"user_id":"alice@example.org","yaml_url":"https://example.org/n.yaml"}`,
		},
		"create without settings": {
			answer: `{"pod_name":"notebook-alice"}`,
			call: func(ctx context.Context, c *silo.Client) (any, error) {
				return c.Create(ctx, "alice", "https://example.org/n.yaml", nil)
			},
			want: "notebook-alice", line: "POST /berth/create_pod",
			body: `{"settings":{},"user_id":"alice","yaml_url":"https://example.org/n.yaml"}`,
		},
		"watch create": {
			answer: `{"ready":true}`,
			call:   func(ctx context.Context, c *silo.Client) (any, error) { return c.WatchCreate(ctx, "alice", "n") },
			want:   true, line: "POST /berth/watch_create_pod", body: `{"pod_name":"n","user_id":"alice"}`,
		},
		"delete": {
			answer: `{"requested":true}`,
			call:   func(ctx context.Context, c *silo.Client) (any, error) { return nil, c.Delete(ctx, "alice", "n") },
			line:   "POST /berth/delete_pod", body: `{"pod_name":"n","user_id":"alice"}`,
		},
		"watch delete": {
			answer: `{"deleted":false}`,
			call:   func(ctx context.Context, c *silo.Client) (any, error) { return c.WatchDelete(ctx, "alice", "n") },
			want:   false, line: "POST /berth/watch_delete_pod", body: `{"pod_name":"n","user_id":"alice"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, asked := serve(t, http.StatusOK, nil, tt.answer)
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatalf("call: %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			want := request{tt.line, "application/json", "berth/test", tt.body}
			if diff := cmp.Diff(want, *asked); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPods(t *testing.T) {
	t.Parallel()
	const answer = `[{"pod_name":"n","image_name":"i","pod_ip":"10.0.0.1","age":"0:0:11","status":"Creating","event":"waiting",` +
		`"reason":"PULLING","message":"m","new":1},{"pod_name":"o","status":"Running:2026-01-02T03:04:05Z"}]`
	c, _ := serve(t, http.StatusOK, nil, answer)
	pods, raw, err := c.Pods(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	want := []silo.Pod{
		{Name: "n", Image: "i", IP: "10.0.0.1", Age: "0:0:11", Status: "Creating", Event: events.Waiting, Reason: events.Pulling, Message: "m"},
		{Name: "o", Status: "Running:2026-01-02T03:04:05Z"},
	}
	if diff := cmp.Diff(want, pods); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(answer, string(raw)); diff != "" {
		t.Errorf("raw (-want +got):\n%s", diff)
	}
	now := time.Now()
	if diff := cmp.Diff(progress.Change{Event: events.Waiting, Reason: events.Pulling, Message: "m", At: now}, pods[0].Change(now)); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	if got := pods[1].State(); got != events.Running {
		t.Errorf("state %q, want that of the status", got)
	}
	if _, there, err := c.Pod(t.Context(), "alice", "o"); !there || err != nil {
		t.Errorf("pod o: %v, %v", there, err)
	}
	if _, there, err := c.Pod(t.Context(), "alice", "p"); there || err != nil {
		t.Errorf("pod p: %v, %v", there, err)
	}
}

func TestNullIsNoPods(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, http.StatusOK, nil, "null")
	pods, raw, err := c.Pods(t.Context(), "alice")
	if err != nil || len(pods) != 0 || string(raw) != "[]" {
		t.Errorf("pods %v, raw %s, error %v", pods, raw, err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status  int
		header  map[string]string
		body    string
		want    silo.Error
		refused bool
		text    string
	}{
		"refused": {
			status: 404, body: `{"requested":false,"error":{"code":"NOT_FOUND","message":"there is no such pod"}}`,
			want:    silo.Error{Status: 404, Reason: events.NotFound, Message: "there is no such pod"},
			refused: true, text: "NOT_FOUND: there is no such pod",
		},
		"unavailable": {
			status: 503, header: map[string]string{"Retry-After": "7"},
			body: `{"error":{"code":"UNAVAILABLE","message":"the log is read"}}`,
			want: silo.Error{Status: 503, Reason: events.Unavailable, Message: "the log is read", RetryAfter: 7 * time.Second},
			text: "UNAVAILABLE: the log is read",
		},
		"waits at most half a minute": {
			status: 503, header: map[string]string{"Retry-After": "999999999999"},
			want: silo.Error{Status: 503, RetryAfter: 30 * time.Second}, text: "answered 503 Service Unavailable",
		},
		"too many requests": {
			status: 429, header: map[string]string{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
			body: `{"error":{"code":"FORBIDDEN","message":"slow down"}}`,
			want: silo.Error{Status: 429, Reason: events.Forbidden, Message: "slow down"}, text: "FORBIDDEN: slow down",
		},
		"another server": {
			status: 404, body: "<html>",
			want: silo.Error{Status: 404}, text: "answered 404 Not Found: which is no answer of Berth",
		},
		"redirected": {
			status: 302, header: map[string]string{"Location": "/login"},
			want: silo.Error{Status: 302}, text: "answered 302 Found: which is no answer of Berth",
		},
		"an answer of another server": {
			status: 200, body: "hello",
			want: silo.Error{Status: 200}, text: "answered 200 OK: which is no answer of Berth: invalid character 'h' looking for beginning of value",
		},
		"not requested": {
			status: 200, body: "{}",
			want: silo.Error{Status: 200}, text: "answered 200 OK: requested is not true in the answer",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := serve(t, tt.status, tt.header, tt.body)
			var got *silo.Error
			if err := c.Delete(t.Context(), "alice", "n"); !errors.As(err, &got) {
				t.Fatalf("error %v, want a *silo.Error", err)
			}
			if text := got.Error(); text != tt.text {
				t.Errorf("text %q, want %q", text, tt.text)
			}
			if got.Refused() != tt.refused {
				t.Errorf("refused %v, want %v", got.Refused(), tt.refused)
			}
			got.Err = nil
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateWantsAName(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, http.StatusOK, nil, `{"pod_name":""}`)
	if name, err := c.Create(t.Context(), "alice", "https://example.org", nil); err == nil {
		t.Errorf("created %q without an error", name)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	address := strings.TrimPrefix(server.URL, "http://")
	server.Close()
	c := client(t, "http://someone:secret@"+address)
	_, err := c.Create(t.Context(), "alice", "https://example.org", map[string]map[string]string{"c": {"TOKEN": "hidden"}})
	var e *silo.Error
	if !errors.As(err, &e) || e.Status != 0 || e.Refused() || !e.Unsent() {
		t.Fatalf("error %#v, want one that says that nothing was sent", err)
	}
	if text := err.Error() + c.URL(); strings.Contains(text, "secret") || strings.Contains(text, "hidden") {
		t.Errorf("%q tells a secret", text)
	}
}

func TestClientThatGoesAway(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	go func() {
		<-asked
		cancel(cause)
	}()
	_, err := client(t, server.URL).WatchCreate(ctx, "alice", "n")
	var e *silo.Error
	if !errors.Is(err, cause) || !errors.As(err, &e) || e.Unsent() {
		t.Errorf("error %v, want the cause", err)
	}
	<-gone
}

func TestRetry(t *testing.T) {
	t.Parallel()
	busy := &silo.Error{Status: 503, RetryAfter: 2 * time.Second}
	refused := &silo.Error{Status: 404, Reason: events.NotFound}
	tests := map[string]struct {
		answers []error
		want    error
		waits   []time.Duration
	}{
		"at once":         {answers: []error{nil}},
		"the third time":  {answers: []error{busy, &silo.Error{Status: 429}, nil}, waits: []time.Duration{2 * time.Second, time.Second}},
		"refused":         {answers: []error{refused}, want: refused},
		"refused later":   {answers: []error{busy, refused}, want: refused, waits: []time.Duration{2 * time.Second}},
		"another fault":   {answers: []error{io.EOF}, want: io.EOF},
		"nobody answered": {answers: []error{&silo.Error{Err: io.EOF}}, want: io.EOF},
		"busy for ever": {
			answers: []error{busy, busy, busy, busy, busy}, want: busy,
			waits: []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var waits []time.Duration
				var sum time.Duration
				calls := 0
				err := silo.Retry(t.Context(), func(_ *silo.Error, wait time.Duration) {
					waits = append(waits, wait)
					sum += wait
				}, func() error {
					calls++
					return tt.answers[calls-1]
				})
				if !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if calls != len(tt.answers) || time.Since(began) != sum {
					t.Errorf("%d calls in %s, want %d in %s", calls, time.Since(began), len(tt.answers), sum)
				}
				if diff := cmp.Diff(tt.waits, waits); diff != "" {
					t.Errorf("waits (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		busy := &silo.Error{Status: 503, RetryAfter: 2 * time.Second}
		began := time.Now()
		err := silo.Retry(ctx, func(*silo.Error, time.Duration) {}, func() error { return busy })
		if !errors.Is(err, busy) || time.Since(began) != 3*time.Second {
			t.Errorf("error %v after %s, want the last one after 3s", err, time.Since(began))
		}
	})
}
