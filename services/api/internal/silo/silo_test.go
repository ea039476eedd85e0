package silo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/service/config"
	"berth/services/api/internal/access"
	"berth/services/api/internal/silo"
)

// backend notes what it is asked, and answers what it was given.
type backend struct {
	asked  []string
	pods   []silo.PodInfo
	name   string
	yes    bool
	report events.Report
	err    error
}

func (b *backend) Owner(_ context.Context, address netip.Addr, mayName func(string) bool) (string, error) {
	b.asked = append(b.asked, "owner of "+address.String())
	if !mayName(b.name) {
		return "", b.err
	}
	return b.name, b.err
}

func (b *backend) DeleteUser(_ context.Context, user string) (bool, error) {
	b.asked = append(b.asked, "delete "+user)
	return b.yes, b.err
}

func (b *backend) Sweep(_ context.Context, dryRun bool) (events.Report, error) {
	b.asked = append(b.asked, fmt.Sprintf("sweep, dry run %t", dryRun))
	return b.report, b.err
}

func (b *backend) Pods(_ context.Context, user string) ([]silo.PodInfo, error) {
	b.asked = append(b.asked, "pods of "+user)
	return b.pods, b.err
}

func (b *backend) Create(_ context.Context, r silo.CreateRequest) (string, error) {
	b.asked = append(b.asked, fmt.Sprintf("create %s for %s with %v from %s", r.ManifestURL, r.User, r.Settings, r.Silo.DataAddress))
	return b.name, b.err
}

func (b *backend) AwaitReady(_ context.Context, user, pod string) (bool, error) {
	b.asked = append(b.asked, "await ready of "+pod+" of "+user)
	return b.yes, b.err
}

func (b *backend) Delete(_ context.Context, user, pod string) error {
	b.asked = append(b.asked, "delete "+pod+" of "+user)
	return b.err
}

func (b *backend) AwaitGone(_ context.Context, user, pod string) (bool, error) {
	b.asked = append(b.asked, "await gone of "+pod+" of "+user)
	return b.yes, b.err
}

// adminToken is that of the administrators.
const adminToken = "a-token-of-administrators"

// site has no silos: callers on this machine are one.
func site() config.Config {
	c := config.Default()
	c.AdminTokenHash = config.Sum([]byte(adminToken))
	return c
}

func mux(b *backend) *http.ServeMux {
	m := http.NewServeMux()
	h := &silo.Handler{Guard: access.New(site(), time.Now), Lists: b, Creates: b, Deletes: b, Cleans: b, Log: zerolog.Nop()}
	h.Register(m)
	return m
}

// request is a POST of a JSON body from a silo on this machine.
func request(t *testing.T, path, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:4711", "localhost:8080"
	r.Header.Set("Content-Type", "application/json")
	return r
}

// answer serves one request.
func answer(t *testing.T, b *backend, r *http.Request) (*httptest.ResponseRecorder, any) {
	t.Helper()
	w := httptest.NewRecorder()
	mux(b).ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q; an answer about a pod must not be kept", got)
	}
	var body any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("answer %q is not JSON: %v", w.Body, err)
	}
	return w, body
}

type object = map[string]any

// endpoints are those about a user with their field at its zero value.
func endpoints() map[string]object {
	return map[string]object{
		"/get_pods": {}, "/create_pod": {"pod_name": ""}, "/watch_create_pod": {"ready": false},
		"/delete_pod": {"requested": false}, "/watch_delete_pod": {"deleted": false}, "/delete_all_user": {"deleted": false},
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const alice = `{"user_id":"alice@example.org","pod_name":"notebook-alice"}`
	const all = `{"user_id":"alice@example.org","yaml_url":"https://example.org/n.yaml","settings":{"main":{"A":"1"}}}`
	tests := map[string]struct {
		path, body string
		backend    backend
		want       any
		wantAsked  string
	}{
		"lists pods": {
			"/get_pods", alice,
			backend{pods: []silo.PodInfo{{Name: "notebook-alice", Tokens: map[string]string{}}}},
			[]any{object{
				"pod_name": "notebook-alice", "container_name": "", "image_name": "", "pod_ip": "", "node_ip": "", "owner": "", "age": "",
				"status": "", "url": "", "ssh_url": "", "tokens": object{}, "k8s_pod_info": nil, "event": "", "generation": "",
			}},
			"pods of alice@example.org",
		},
		"lists none": {"/get_pods", alice, backend{}, []any{}, "pods of alice@example.org"},
		"creates":    {"/create_pod", all, backend{name: "n-alice"}, object{"pod_name": "n-alice"}, "create https://example.org/n.yaml for alice@example.org with map[main:map[A:1]] from 127.0.0.1"},
		"creates without settings": {
			"/create_pod", `{"user_id":"alice","yaml_url":"https://example.org/n.yaml"}`,
			backend{name: "n-alice"},
			object{"pod_name": "n-alice"},
			"create https://example.org/n.yaml for alice with map[] from 127.0.0.1",
		},
		"says ready":        {"/watch_create_pod", alice, backend{yes: true}, object{"ready": true}, "await ready of notebook-alice of alice@example.org"},
		"says not ready":    {"/watch_create_pod", alice, backend{}, object{"ready": false}, "await ready of notebook-alice of alice@example.org"},
		"deletes":           {"/delete_pod", alice, backend{}, object{"requested": true}, "delete notebook-alice of alice@example.org"},
		"says gone":         {"/watch_delete_pod", alice, backend{yes: true}, object{"deleted": true}, "await gone of notebook-alice of alice@example.org"},
		"says not gone":     {"/watch_delete_pod", alice, backend{}, object{"deleted": false}, "await gone of notebook-alice of alice@example.org"},
		"deletes a user":    {"/delete_all_user", alice, backend{yes: true}, object{"deleted": true}, "delete alice@example.org"},
		"a user takes long": {"/delete_all_user", alice, backend{}, object{"deleted": false}, "delete alice@example.org"},
		"ignores members that it does not know": {
			"/delete_pod", `{"user_id":"alice","pod_name":"n","remote_ip":"10.0.0.1"}`, backend{}, object{"requested": true}, "delete n of alice",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, got := answer(t, &tt.backend, request(t, tt.path, tt.body))
			if w.Code != http.StatusOK {
				t.Errorf("status = %d", w.Code)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("answer (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]string{tt.wantAsked}, tt.backend.asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}

// TestEveryReasonHasAStatus sees to it that each failure is answered with the
// field at its zero value, and none as an internal error by accident.
func TestEveryReasonHasAStatus(t *testing.T) {
	t.Parallel()
	want := map[events.Reason]int{
		events.RequestInvalid: 400, events.Unauthorized: 401, events.RateLimited: 429, events.Forbidden: 403, events.ManifestForbidden: 403, events.NotFound: 404,
		events.ManifestInvalid: 422, events.SettingsInvalid: 422, events.PodRejected: 422, events.PatchInvalid: 422,
		events.ManifestUnreachable: 502, events.NameExhausted: 409, events.LicenseExhausted: 409, events.QuotaExceeded: 409,
		events.DeletedOutside: 409, events.Deleted: 409, events.Unavailable: 503, events.Expired: 503,
	}
	for path, zero := range endpoints() {
		for _, info := range events.Reasons() {
			status, known := want[info.Reason]
			if !known {
				status = 500
			}
			b := &backend{err: fmt.Errorf("ask the log: %w", silo.Fault(info.Reason, "because")), name: "n", yes: true}
			w, got := answer(t, b, request(t, path, `{"user_id":"alice","pod_name":"n","yaml_url":"https://example.org/n.yaml"}`))
			if w.Code != status {
				t.Errorf("%s: %s is answered with %d, want %d", path, info.Reason, w.Code, status)
			}
			if after := w.Header().Get("Retry-After"); (after != "") != (status == 503) {
				t.Errorf("%s: %s has Retry-After %q", path, info.Reason, after)
			}
			wantBody := object{"error": object{"code": string(info.Reason), "message": "because"}}
			maps.Copy(wantBody, zero)
			if d := cmp.Diff(wantBody, got); d != "" {
				t.Errorf("%s: answer (-want +got):\n%s", path, d)
			}
		}
	}
}

// TestInnerFaultsStayInside: what nobody has worded for a client is for the operator.
func TestInnerFaultsStayInside(t *testing.T) {
	t.Parallel()
	w, got := answer(t, &backend{err: errors.New("nats://secret@10.0.0.1: no route")}, request(t, "/delete_pod", `{"user_id":"alice","pod_name":"n"}`))
	want := object{"requested": false, "error": object{"code": "UNAVAILABLE", "message": "the service cannot answer now; try again"}}
	if d := cmp.Diff(want, got); d != "" || w.Code != 503 {
		t.Errorf("status %d, answer (-want +got):\n%s", w.Code, d)
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	const good = `{"user_id":"alice@example.org","pod_name":"n","yaml_url":"https://example.org/n.yaml"}`
	body := func(text string) func(*http.Request) string { return func(*http.Request) string { return text } }
	tests := map[string]struct {
		change  func(r *http.Request) string // Returns another body, or nothing.
		only    string                       // The endpoint, where it is one alone.
		status  int
		code    events.Reason
		message string
	}{
		"from elsewhere": {func(r *http.Request) string { r.RemoteAddr = "192.0.2.1:4711"; return "" }, "", 403, events.Forbidden, "only callers on this machine"},
		"from nowhere":   {func(r *http.Request) string { r.RemoteAddr = "@"; return "" }, "", 403, events.Forbidden, "only callers on this machine"},
		"a proxied stranger": {func(r *http.Request) string {
			r.RemoteAddr = "192.0.2.1:1"
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			return ""
		}, "", 403, events.Forbidden, ""},
		"no type":             {func(r *http.Request) string { r.Header.Del("Content-Type"); return "" }, "", 415, events.RequestInvalid, "application/json"},
		"a form":              {func(r *http.Request) string { r.Header.Set("Content-Type", "text/plain"); return "" }, "", 415, events.RequestInvalid, "application/json"},
		"an empty body":       {body(" "), "", 400, events.RequestInvalid, "the body is empty"},
		"no JSON":             {body(`{"user_id":`), "", 400, events.RequestInvalid, "the body is not JSON"},
		"an array":            {body(`[1]`), "", 400, events.RequestInvalid, "the body must be a JSON object"},
		"a number for a user": {body(`{"user_id":7}`), "", 400, events.RequestInvalid, "user_id must not be a JSON number"},
		"two values":          {body(good + good), "", 400, events.RequestInvalid, "more than one JSON value"},
		"something behind":    {body(good + "x"), "", 400, events.RequestInvalid, "more than one JSON value"},
		"too large":           {body(`{"user_id":"` + strings.Repeat("a", 256<<10) + `"}`), "", 413, events.RequestInvalid, "larger than 262144 bytes"},
		"no user":             {body(`{"pod_name":"n"}`), "", 400, events.RequestInvalid, "user_id must match"},
		"null":                {body(`null`), "", 400, events.RequestInvalid, "must be a JSON object"},
		"half a character":    {body(`{"user_id":"alice","settings":{"c":{"A":"\ud800"}}}`), "", 400, events.RequestInvalid, "half a character"},
		"a byte":              {body("{\"user_id\":\"alice\",\"settings\":{\"c\":{\"A\":\"\xff\"}}}"), "", 400, events.RequestInvalid, "not UTF-8"},
		"no URL":              {body(`{"user_id":"alice"}`), "/create_pod", 400, events.RequestInvalid, "yaml_url is missing"},
		"a long URL": {
			body(`{"user_id":"alice","yaml_url":"https://example.org/` + strings.Repeat("a", 2048) + `"}`), "/create_pod", 400, events.RequestInvalid, "longer than 2048 bytes",
		},
		"settings of a wrong shape": {
			body(`{"user_id":"alice","yaml_url":"https://example.org/n.yaml","settings":{"main":["A"]}}`), "/create_pod", 400, events.RequestInvalid, "settings",
		},
		"too many settings": {
			body(`{"user_id":"alice","yaml_url":"https://example.org/n.yaml","settings":{"main":` + manySettings(1001) + `}}`), "/create_pod", 422, events.SettingsInvalid, "more than 1000 variables",
		},
	}
	for name, tt := range tests {
		for path, zero := range endpoints() {
			if tt.only != "" && tt.only != path {
				continue
			}
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				r := request(t, path, good)
				if text := tt.change(r); text != "" {
					remote, header := r.RemoteAddr, r.Header
					r = request(t, path, text)
					r.RemoteAddr, r.Header = remote, header
				}
				b := &backend{name: "n", yes: true}
				w, got := answer(t, b, r)
				if w.Code != tt.status {
					t.Errorf("status = %d, want %d", w.Code, tt.status)
				}
				if len(b.asked) > 0 {
					t.Errorf("the backend was asked: %v", b.asked)
				}
				fault, ok := got.(object)["error"].(object)
				if !ok {
					t.Fatalf("answer %v has no error", got)
				}
				if message, _ := fault["message"].(string); fault["code"] != string(tt.code) || !strings.Contains(message, tt.message) {
					t.Errorf("error = %v, want %s: …%s…", fault, tt.code, tt.message)
				}
				delete(got.(object), "error")
				if d := cmp.Diff(zero, got); d != "" {
					t.Errorf("the rest of the answer (-want +got):\n%s", d)
				}
			})
		}
	}
}

func manySettings(n int) string {
	variables := make(map[string]string, n)
	for i := range n {
		variables[fmt.Sprintf("V%d", i)] = ""
	}
	text, err := json.Marshal(variables)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestUserIDs(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"alice@example.org": true, "a1": true, "a-b.c_d@x.y": true, "alice": true, "0.9": true, "a@b": true, strings.Repeat("a", 190): true,
		"": false, "a": false, "@example.org": false, "alice@": false, "a@b@c": false, "Alice@example.org": false, "-a": false, "a-": false,
		"a b": false, "a/b": false, "a>b": false, "a*": false, "alice@example.org\n": false, "a\u00e9b": false, "a%b": false,
		"project:0": false, strings.Repeat("a", 191): false,
	}
	for user, valid := range tests {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(object{"user_id": user})
			if err != nil {
				t.Fatal(err)
			}
			want := http.StatusBadRequest
			if valid {
				want = http.StatusOK
			}
			if w, _ := answer(t, &backend{}, request(t, "/get_pods", string(text))); w.Code != want {
				t.Errorf("status = %d, want %d", w.Code, want)
			}
		})
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	for path := range endpoints() {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			r := request(t, path, `{"user_id":"alice"}`)
			r.Method = method
			w := httptest.NewRecorder()
			mux(&backend{}).ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: status %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
	}
	for _, path := range []string{"/", "/get_pods/", "/getpods", "/create_pod/x"} {
		w, got := answer(t, &backend{}, request(t, path, "{}"))
		if fault, ok := got.(object)["error"].(object); w.Code != http.StatusNotFound || !ok || fault["code"] != "REQUEST_INVALID" {
			t.Errorf("%s: status %d, answer %v", path, w.Code, got)
		}
	}
}

func TestCallers(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{"127.0.0.1:1": "127.0.0.1", "[::1]:1": "::1", "[::ffff:127.0.0.2]:1": "127.0.0.2"} {
		r := request(t, "/create_pod", `{"user_id":"alice","yaml_url":"https://example.org/n.yaml"}`)
		r.RemoteAddr = remote
		b := &backend{}
		answer(t, b, r)
		if len(b.asked) != 1 || !strings.HasSuffix(b.asked[0], " from "+want) {
			t.Errorf("%s: asked %v, want from %s", remote, b.asked, want)
		}
	}
}

// TestMeasures: each answer is observed once, and what waits is counted while it waits.
func TestMeasures(t *testing.T) {
	t.Parallel()
	var observed []string
	waiting, most := 0.0, 0.0
	b := &backend{yes: true}
	h := &silo.Handler{
		Guard: access.New(site(), time.Now), Lists: b, Creates: b, Deletes: b, Cleans: b, Log: zerolog.Nop(),
		Observe: func(endpoint string, status int, _ time.Duration) {
			observed = append(observed, fmt.Sprint(endpoint, " ", status))
		},
		Waiting: func(_ string, change float64) { waiting += change; most = max(most, waiting) },
	}
	m := http.NewServeMux()
	h.Register(m)
	for _, path := range []string{"/watch_create_pod", "/watch_delete_pod", "/get_pods"} {
		m.ServeHTTP(httptest.NewRecorder(), request(t, path, `{"user_id":"alice","pod_name":"n"}`))
		m.ServeHTTP(httptest.NewRecorder(), request(t, path, `{`))
	}
	want := []string{
		"/watch_create_pod 200", "/watch_create_pod 400", "/watch_delete_pod 200", "/watch_delete_pod 400", "/get_pods 200", "/get_pods 400",
	}
	if d := cmp.Diff(want, observed); d != "" {
		t.Errorf("observed (-want +got):\n%s", d)
	}
	if waiting != 0 || most != 1 {
		t.Errorf("%g waiting at the end, %g at the most; want 0 and 1", waiting, most)
	}
}
