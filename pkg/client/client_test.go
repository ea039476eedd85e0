package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// service answers requests in the process, one after the other.
type service func(r *http.Request) (*http.Response, error)

func (s service) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

// reply is an answer of a service.
func reply(status int, header map[string]string, body string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	if status >= 400 {
		h.Set("Content-Type", "application/problem+json")
	}
	for name, value := range header {
		h.Set(name, value)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func newClient(tb testing.TB, s service, change ...func(*client.Options)) *client.Client {
	tb.Helper()
	opts := client.Options{RoundTripper: s, UserAgent: "test/1"}
	for _, f := range change {
		f(&opts)
	}
	c, err := client.New("https://berth.example.org/prefix", opts)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

const (
	user    = "alice@example.org"
	missing = `{"type":"/v1/docs#NOT_FOUND","title":"t","status":404,"detail":"you have no such pod","reason":"NOT_FOUND"}`
	// elsewhere is the answer at a URL where Berth has nothing.
	elsewhere = `{"type":"x","title":"t","status":404,"detail":"there is no such resource","reason":"REQUEST_INVALID"}`
	busy      = `{"type":"x","title":"t","status":503,"detail":"the log is read","reason":"UNAVAILABLE"}`
)

// TestRequests has what each method asks, and what it makes of the answer.
func TestRequests(t *testing.T) {
	t.Parallel()
	yes, ready := true, 2.5
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const pod = `{"name":"p","user_id":"alice@example.org","generation":"1-7","event":"ready","created_at":"2026-01-02T03:04:05Z",` +
		`"updated_at":"2026-01-02T03:04:05Z","position":"1-9","later":"members are ignored"}`
	aPod := client.Pod{Name: "p", User: user, Generation: "1-7", Event: "ready", CreatedAt: at, UpdatedAt: at, Position: "1-9"}
	tests := map[string]struct {
		call   func(context.Context, *client.Client) (any, error)
		asked  string
		body   string
		key    string
		status int
		answer string
		want   any
	}{
		"create": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreatePod(ctx, client.Create{User: user, ManifestURL: "https://example.org/n.yaml", Key: "k", Settings: map[string]map[string]string{"n": {"A": "1"}}})
			},
			asked: "POST /prefix/v1/pods?", body: `{"user_id":"alice@example.org","manifest_url":"https://example.org/n.yaml","settings":{"n":{"A":"1"}}}`, key: "k",
			status: 201, answer: pod, want: aPod,
		},
		"create and wait": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreatePod(ctx, client.Create{User: user, ManifestURL: "u", Key: "k", WaitReady: true})
			},
			asked: "POST /prefix/v1/pods?wait=ready", body: `{"user_id":"alice@example.org","manifest_url":"u"}`, key: "k", status: 201, answer: pod, want: aPod,
		},
		"get": {
			call:  func(ctx context.Context, c *client.Client) (any, error) { return c.Pod(ctx, user, "p") },
			asked: "GET /prefix/v1/pods/p?user_id=alice%40example.org", status: 200, answer: pod, want: aPod,
		},
		"get a strange name": {
			call:  func(ctx context.Context, c *client.Client) (any, error) { return c.Pod(ctx, user, "../events?x#y") },
			asked: "GET /prefix/v1/pods/..%2Fevents%3Fx%23y?user_id=alice%40example.org", status: 200, answer: pod, want: aPod,
		},
		"list": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.ListPods(ctx, client.Query{User: user, Events: []string{"ready", "unready"}, Ready: &yes, Limit: 7, After: "t"})
			},
			asked:  "GET /prefix/v1/pods?event=ready%2Cunready&limit=7&page_token=t&ready=true&user_id=alice%40example.org",
			status: 200, answer: `{"pods":[` + pod + `],"next_page_token":"n"}`, want: client.Page{Pods: []client.Pod{aPod}, Next: "n"},
		},
		"list all": {
			call:  func(ctx context.Context, c *client.Client) (any, error) { return c.ListPods(ctx, client.Query{}) },
			asked: "GET /prefix/v1/pods?", status: 200, answer: `{"pods":[]}`, want: client.Page{Pods: []client.Pod{}},
		},
		"delete": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.DeletePod(ctx, user, "p", false)
			},
			asked: "DELETE /prefix/v1/pods/p?user_id=alice%40example.org", status: 202, answer: pod,
		},
		"delete and wait": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.DeletePod(ctx, user, "p", true)
			},
			asked: "DELETE /prefix/v1/pods/p?user_id=alice%40example.org&wait=gone", status: 204,
		},
		"tokens": {
			call:  func(ctx context.Context, c *client.Client) (any, error) { return c.Tokens(ctx, user, "p") },
			asked: "GET /prefix/v1/pods/p/tokens?user_id=alice%40example.org", status: 200, answer: `{"tokens":{"k":"v"}}`, want: map[string]string{"k": "v"},
		},
		"timeline": {
			call:  func(ctx context.Context, c *client.Client) (any, error) { return c.Timeline(ctx, user, "p", "1-7") },
			asked: "GET /prefix/v1/pods/p/timeline?generation=1-7&user_id=alice%40example.org", status: 200,
			answer: `{"name":"p","user_id":"alice@example.org","generation":"1-7","ready_after_seconds":2.5,"total_seconds":3,` +
				`"phases":[{"event":"claimed","by":"creator","started_at":"2026-01-02T03:04:05Z","duration_seconds":3,"position":"1-7"}]}`,
			want: client.Timeline{
				Name: "p", User: user, Generation: "1-7", ReadyAfter: &ready, Total: 3,
				Phases: []client.Phase{{Event: "claimed", By: "creator", Started: at, Duration: 3, Position: "1-7"}},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, func(r *http.Request) (*http.Response, error) {
				body := ""
				if r.Body != nil {
					text, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					body = string(text)
				}
				asked := r.Method + " " + r.URL.EscapedPath() + "?" + r.URL.RawQuery
				if r.Method == "" {
					asked = "GET" + asked
				}
				if d := cmp.Diff([]string{tt.asked, tt.body, tt.key, "test/1", "Bearer secret"}, []string{
					asked, body, r.Header.Get("Idempotency-Key"), r.Header.Get("User-Agent"), r.Header.Get("Authorization"),
				}); d != "" {
					t.Errorf("request (-want +got):\n%s", d)
				}
				return reply(tt.status, nil, tt.answer), nil
			}, func(o *client.Options) { o.Token = client.Token("secret") })
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("answer (-want +got):\n%s", d)
			}
		})
	}
}

// TestRetries has when a request is made again, after which time, and what comes of it.
func TestRetries(t *testing.T) {
	t.Parallel()
	lost := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	type answers []any // A status, with or without Retry-After, or an error.
	tests := map[string]struct {
		answers  answers
		call     func(context.Context, *client.Client) error
		attempts int
		least    time.Duration
		most     time.Duration
		want     string // The error's text.
	}{
		"the first is fine":        {answers{200}, get, 1, 0, 0, ""},
		"busy, then fine":          {answers{"503 after 7", 200}, get, 2, 7 * time.Second, 9 * time.Second, ""},
		"too often, then fine":     {answers{"429 after 2", 200}, get, 2, 2 * time.Second, 3 * time.Second, ""},
		"busy without a time":      {answers{503, 503, 200}, get, 3, 600 * time.Millisecond, 800 * time.Millisecond, ""},
		"asks for much too long":   {answers{"503 after 99999", 200}, get, 2, 30 * time.Second, 38 * time.Second, ""},
		"always busy":              {answers{503, 503, 503, 503, 503, 200}, get, 5, 3 * time.Second, 4 * time.Second, "UNAVAILABLE: the log is read"},
		"lost, then fine":          {answers{lost, 200}, get, 2, 200 * time.Millisecond, 300 * time.Millisecond, ""},
		"not found":                {answers{404}, get, 1, 0, 0, "NOT_FOUND: you have no such pod"},
		"a proxy alone":            {answers{502, 200}, get, 2, 200 * time.Millisecond, 300 * time.Millisecond, ""},
		"a proxy for good":         {answers{502, 502, 502, 502, 502, 200}, get, 5, 3 * time.Second, 4 * time.Second, "answered 502 Bad Gateway, which is no answer of Berth"},
		"a delete behind a proxy":  {answers{502, 404}, remove, 2, 0, time.Second, ""},
		"a delete, wrong URL":      {answers{lost, 405}, remove, 2, 0, time.Second, "REQUEST_INVALID: there is no such resource"},
		"a create is repeated":     {answers{"503 after 1", lost, 201}, create, 3, time.Second, 3 * time.Second, ""},
		"a delete":                 {answers{"503 after 1", 202}, remove, 2, time.Second, 2 * time.Second, ""},
		"a delete that was done":   {answers{lost, 404}, remove, 2, 0, time.Second, ""},
		"a delete of nothing":      {answers{404}, remove, 1, 0, 0, "NOT_FOUND: you have no such pod"},
		"a delete after a refusal": {answers{"503 after 1", 404}, remove, 2, time.Second, 2 * time.Second, "NOT_FOUND: you have no such pod"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, attempts := time.Now(), 0
				keys := map[string]bool{}
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					keys[r.Header.Get("Idempotency-Key")] = true
					attempts++
					switch a := tt.answers[attempts-1].(type) {
					case error:
						return nil, a
					case string:
						status, after, _ := strings.Cut(a, " after ")
						code, err := strconv.Atoi(status)
						return reply(code, map[string]string{"Retry-After": after}, strings.ReplaceAll(busy, "503", status)), err
					case int:
						switch a {
						case 404:
							return reply(a, nil, missing), nil
						case 405:
							return reply(404, nil, elsewhere), nil
						case 502:
							return reply(a, map[string]string{"Content-Type": "text/html"}, "<html>"), nil
						case 503:
							return reply(a, nil, busy), nil
						}
						return reply(a, nil, `{"name":"p"}`), nil
					}
					return nil, errors.New("no such answer")
				})
				err := tt.call(t.Context(), c)
				text := ""
				if err != nil {
					text = err.Error()
				}
				if text != tt.want || attempts != tt.attempts {
					t.Errorf("%d attempts, error %q; want %d, %q", attempts, text, tt.attempts, tt.want)
				}
				if took := time.Since(began); took < tt.least || took > tt.most {
					t.Errorf("took %s, want %s to %s", took, tt.least, tt.most)
				}
				if len(keys) != 1 {
					t.Errorf("%d keys for one create", len(keys))
				}
			})
		})
	}
}

func get(ctx context.Context, c *client.Client) error { _, err := c.Pod(ctx, user, "p"); return err }

func create(ctx context.Context, c *client.Client) error {
	_, err := c.CreatePod(ctx, client.Create{User: user, ManifestURL: "u"})
	return err
}

func remove(ctx context.Context, c *client.Client) error { return c.DeletePod(ctx, user, "p", false) }

func TestProblems(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(*http.Request) (*http.Response, error) {
		return reply(422, nil, `{"type":"/v1/docs#IMAGE_PULL","title":"t","status":422,"detail":"no such image","reason":"IMAGE_PULL","pod_name":"p"}`), nil
	})
	err := create(t.Context(), c)
	var p *client.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem", err)
	}
	want := client.Problem{Type: "/v1/docs#IMAGE_PULL", Title: "t", Status: 422, Detail: "no such image", Reason: "IMAGE_PULL", Pod: "p"}
	if d := cmp.Diff(want, *p); d != "" {
		t.Errorf("problem (-want +got):\n%s", d)
	}
	if client.NotFound(err) || p.Busy() {
		t.Error("it is taken for something else")
	}
}

// TestKindsOfErrors: what is said of each.
func TestKindsOfErrors(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	lost := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	html := map[string]string{"Content-Type": "text/html"}
	type answer func() (*http.Response, error)
	fails := func(err error) answer { return func() (*http.Response, error) { return nil, err } }
	says := func(status int, header map[string]string, body string) answer {
		return func() (*http.Response, error) { return reply(status, header, body), nil }
	}
	tests := map[string]struct {
		answers             []answer
		notFound, uncertain bool
	}{
		"no such pod":          {[]answer{says(404, nil, missing)}, true, false},
		"no such resource":     {[]answer{says(404, nil, elsewhere)}, false, false},
		"another's 404":        {[]answer{says(404, html, "")}, false, false},
		"nobody there":         {[]answer{fails(refused)}, false, false},
		"busy":                 {[]answer{says(503, nil, busy), says(503, nil, busy)}, false, false},
		"a proxy in between":   {[]answer{says(502, html, ""), says(504, html, "")}, false, true},
		"lost":                 {[]answer{fails(lost), fails(lost)}, false, true},
		"lost, then busy":      {[]answer{fails(lost), says(503, nil, busy)}, false, true},
		"lost, then gone away": {[]answer{fails(lost), fails(refused)}, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c := newClient(t, func(*http.Request) (*http.Response, error) { n++; return tt.answers[n-1]() }, func(o *client.Options) { o.Attempts, o.Patience = 2, -1 })
				err := create(t.Context(), c)
				if n != len(tt.answers) || client.NotFound(err) != tt.notFound || client.Uncertain(err) != tt.uncertain {
					t.Errorf("%d attempts, %v: not found %v, uncertain %v", n, err, client.NotFound(err), client.Uncertain(err))
				}
			})
		})
	}
}

func TestPodsTurnsPages(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(r *http.Request) (*http.Response, error) {
		switch r.URL.Query().Get("page_token") {
		case "":
			return reply(200, nil, `{"pods":[{"name":"a"},{"name":"b"}],"next_page_token":"2"}`), nil
		case "2":
			return reply(200, nil, `{"pods":[{"name":"c"}],"next_page_token":"3"}`), nil
		}
		return reply(404, nil, missing), nil
	})
	var got []string
	for pod, err := range c.Pods(t.Context(), client.Query{}) {
		if err != nil {
			got = append(got, err.Error())
			break
		}
		got = append(got, pod.Name)
	}
	if d := cmp.Diff([]string{"a", "b", "c", "NOT_FOUND: you have no such pod"}, got); d != "" {
		t.Errorf("pods (-want +got):\n%s", d)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "berth.example.org", "ftp://berth", "http://", "http://a:b@berth?x=1", "http://berth?x=1", "http://berth#x", "http://[::1"} {
		if _, err := client.New(base, client.Options{}); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%q: %v", base, err)
		}
	}
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	token := client.TokenFile(path)
	if _, err := token(); err == nil {
		t.Error("no file is no error")
	}
	for text, want := range map[string]string{"one\n": "one", " two ": "two", "": "", "two words": "", strings.Repeat("x", 5000): ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := token()
		if got != want || (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "words") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
	// Without its token nothing is sent, and nothing is tried again.
	c := newClient(t, func(*http.Request) (*http.Response, error) { return nil, errors.New("it was sent") }, func(o *client.Options) {
		o.Token = client.TokenFile(path + ".missing")
	})
	if err := get(t.Context(), c); err == nil || !strings.Contains(err.Error(), "read token") {
		t.Errorf("error %v", err)
	}
}

// TestCertificates: the client shows its certificate, and trusts whom it is told to.
func TestCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"name":"%d certificates"}`, len(r.TLS.PeerCertificates))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusted.Certificates = server.TLS.Certificates
	c, err := client.New(server.URL, client.Options{TLS: trusted, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if pod, err := c.Pod(t.Context(), user, "p"); err != nil || pod.Name != "1 certificates" {
		t.Errorf("%+v, %v", pod, err)
	}
	stranger, err := client.New(server.URL, client.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	if _, err := stranger.Pod(t.Context(), user, "p"); err == nil {
		t.Error("a server that nobody vouches for was trusted")
	}
}

// TestEvents: a stream that breaks, in whatever way, goes on where it was.
func TestEvents(t *testing.T) {
	t.Parallel()
	pod := func(id, name string) string {
		return "event: pod\nid: " + id + "\ndata: {\"name\":\"" + name + "\"}\n\n"
	}
	stream := func(text string) *http.Response {
		return reply(200, map[string]string{"Content-Type": "text/event-stream"}, text)
	}
	type step struct {
		after  string // What the client asks to go on after.
		answer func(ctx context.Context) (*http.Response, error)
	}
	ok := func(after, text string) step {
		return step{after, func(context.Context) (*http.Response, error) { return stream(text), nil }}
	}
	end := step{"*", func(context.Context) (*http.Response, error) { return reply(404, nil, missing), nil }}
	tests := map[string]struct {
		steps []step
		want  []string
	}{
		"it ends, and goes on": {
			[]step{ok("0-1", "retry: 100\n\n"+pod("1-1", "a")+": still here\n\n"+pod("1-2", "b")), ok("1-2", pod("1-3", "c")), end},
			[]string{"pod a", "pod b", "pod c", "NOT_FOUND: you have no such pod"},
		},
		"an event is cut in half": {
			[]step{ok("0-1", pod("1-1", "a")+"event: pod\nid: 1-2\ndata: {\"na"), ok("1-1", pod("1-2", "b")), end},
			[]string{"pod a", "pod b", "NOT_FOUND: you have no such pod"},
		},
		"the service is busy": {
			[]step{{"0-1", func(context.Context) (*http.Response, error) {
				return reply(503, map[string]string{"Retry-After": "3"}, busy), nil
			}}, ok("0-1", pod("1-1", "a")), end},
			[]string{"pod a", "NOT_FOUND: you have no such pod"},
		},
		"the service is away": {
			[]step{{"0-1", func(context.Context) (*http.Response, error) { return nil, errors.New("refused") }}, {"0-1", func(context.Context) (*http.Response, error) {
				return reply(502, map[string]string{"Content-Type": "text/html"}, "<html>"), nil
			}}, ok("0-1", pod("1-1", "a")), end},
			[]string{"pod a", "NOT_FOUND: you have no such pod"},
		},
		"it falls silent": {
			[]step{{"0-1", func(ctx context.Context) (*http.Response, error) {
				r, w := io.Pipe()
				go func() { _, _ = io.WriteString(w, pod("1-1", "a")) }()
				context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
				response := stream("")
				response.Body = r
				return response, nil
			}}, ok("1-1", pod("1-2", "b")), end},
			[]string{"pod a", "pod b", "NOT_FOUND: you have no such pod"},
		},
		"a reset, and nothing after it": {
			[]step{ok("0-1", "event: reset\ndata: {\"reason\":\"wiped\"}\n\n"), ok("", pod("2-1", "a")+"event: synced\nid: 2-2\ndata: {}\n\n"), ok("2-2", ""), end},
			[]string{"reset wiped", "pod a", "synced", "NOT_FOUND: you have no such pod"},
		},
		"a wrong URL": {
			[]step{{"0-1", func(context.Context) (*http.Response, error) {
				return reply(404, map[string]string{"Content-Type": "text/html"}, ""), nil
			}}},
			[]string{"answered 404 Not Found, which is no answer of Berth"},
		},
		"a site of another": {
			[]step{{"0-1", func(context.Context) (*http.Response, error) {
				return reply(200, map[string]string{"Content-Type": "text/html"}, "<html>"), nil
			}}},
			[]string{"the answer is not one of Berth: it is no stream of events"},
		},
		"what is in front of it is changed": {
			[]step{ok("0-1", pod("1-1", "a")), {"1-1", func(context.Context) (*http.Response, error) {
				return reply(404, map[string]string{"Content-Type": "text/html"}, ""), nil
			}}, ok("1-1", pod("1-2", "b")), end},
			[]string{"pod a", "pod b", "NOT_FOUND: you have no such pod"},
		},
		"a kind that is not known": {
			[]step{ok("0-1", "event: news\nid: 1-1\ndata: x\n\n"+pod("1-2", "b")), end},
			[]string{"pod b", "NOT_FOUND: you have no such pod"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					s := tt.steps[min(n, len(tt.steps)-1)]
					n++
					if after := r.Header.Get("Last-Event-ID"); s.after != "*" && after != s.after {
						t.Errorf("connection %d goes on after %q, want %q", n, after, s.after)
					}
					if want := "/prefix/v1/pods/p/events"; r.URL.Path != want || r.URL.Query().Get("user_id") != user {
						t.Errorf("asked for %s", r.URL)
					}
					return s.answer(r.Context())
				})
				var got []string
				for e, err := range c.Events(t.Context(), client.Stream{User: user, Pod: "p", After: "0-1"}) {
					if err != nil {
						got = append(got, err.Error())
						continue
					}
					got = append(got, strings.TrimSpace(string(e.Kind)+" "+e.Pod.Name+e.Why))
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestEventsEnd: who stops to listen, or whose context ends, leaves nothing behind.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: pod\nid: 1-1\ndata: {}\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for e, err := range c.Events(t.Context(), client.Stream{}) {
		if err != nil || e.Position != "1-1" {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var kinds []string
	for e, err := range c.Events(ctx, client.Stream{}) {
		if err != nil {
			kinds = append(kinds, err.Error())
			continue
		}
		kinds = append(kinds, string(e.Kind))
		cancel(why)
	}
	if !slices.Equal(kinds, []string{"pod", "enough"}) {
		t.Errorf("events %v", kinds)
	}
}

func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		"", "event: pod\nid: 1-1\ndata: {\"name\":\"a\"}\n\n", "event: reset\n\n", ":\n\n\n", "data\n\n", "id\nevent\n\n", "retry: -1\n\n", "event: pod\ndata: {\n\n",
		"event: pod\r\nid: 1-1\r\ndata: {}\r\n\r\n", "\xff: x\n\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			if n++; n > 1 {
				return reply(404, nil, missing), nil
			}
			return reply(200, map[string]string{"Content-Type": "text/event-stream"}, text), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		for e, err := range c.Events(ctx, client.Stream{}) {
			if err == nil && e.Kind != client.PodChanged && e.Kind != client.Reset && e.Kind != client.Synced {
				t.Errorf("an event of kind %q", e.Kind)
			}
		}
	})
}
