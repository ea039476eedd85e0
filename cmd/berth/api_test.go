package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/pkg/events"
)

// fakeAPI plays the service. What becomes of a pod is the base name of its
// manifest's URL, which is also its name.
type fakeAPI struct {
	tb testing.TB

	mu   sync.Mutex
	pods map[string]*fakePod
	// changed is closed, and made anew, whenever something happens.
	changed chan struct{}
	place   int // The last place in the log.
	busy    int
	// licenses are those of the site, by id.
	licenses map[string]map[string]any
	watch    chan struct{} // Is closed when somebody waits.
	closed   bool
}

type fakePod struct {
	user, plan, generation string
	past                   []fakeRecord
	// next is what happens when somebody follows the pod.
	next []string
}

// fakeRecord is a record of the log: an event, its reason and message.
type fakeRecord struct {
	place                  int
	event, reason, message string
	at                     time.Time
}

const failedPull = "failed IMAGE_PULL no such image:\n\x1b[31mjupyter"

// plans are what happens to a pod at its create, and when somebody follows it.
func plans(plan string) (first, next []string) {
	first = []string{"claimed", "waiting PULLING"}
	switch plan {
	case "fails":
		return first, []string{failedPull}
	case "waits", "waits-too", "waits-for-bob":
		return []string{"claimed", "waiting UNSCHEDULABLE 0/3 nodes are available"}, nil
	case "life":
		return []string{"claimed"}, []string{"licensed", "launching", "launched", "waiting PULLING", "running", "ready"}
	case "crashes":
		return []string{"claimed"}, []string{"licensed", "launching", "launched", "running", "failed CRASHED jupyter ended with 1", "deleting", "gone"}
	default:
		return first, []string{"ready"}
	}
}

func newFakeAPI(tb testing.TB) (*fakeAPI, string) {
	tb.Helper()
	f := &fakeAPI{tb: tb, pods: map[string]*fakePod{}, watch: make(chan struct{}), changed: make(chan struct{})}
	// A pod that was found: its generation is no place in the log.
	f.pods["old"] = &fakePod{user: "alice@example.org", plan: "ready", generation: "uid-old"}
	f.append(f.pods["old"], "ready")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/pods", f.create)
	mux.HandleFunc("GET /v1/pods", f.list)
	mux.HandleFunc("GET /v1/pods/{name}", f.get)
	mux.HandleFunc("DELETE /v1/pods/{name}", f.delete)
	mux.HandleFunc("GET /v1/pods/{name}/events", f.follow)
	mux.HandleFunc("GET /v1/pods/{name}/timeline", f.timeline)
	mux.HandleFunc("GET /v1/pods/{name}/tokens", f.tokens)
	mux.HandleFunc("GET /v1/events", f.followAll)
	f.administration(mux)
	for _, name := range []string{"livez", "readyz"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	}
	server := httptest.NewServer(mux)
	tb.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return f, server.URL
}

// append lets something happen; f.mu is held.
func (f *fakeAPI) append(p *fakePod, happens ...string) {
	for _, text := range happens {
		f.place++
		parts := append(strings.SplitN(text, " ", 3), "", "")
		p.past = append(p.past, fakeRecord{f.place, parts[0], parts[1], parts[2], time.Now()})
		if p.generation == "" {
			p.generation = "1-" + strconv.Itoa(f.place)
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// show is a pod after one of its records.
func (p *fakePod) show(name string, r fakeRecord) map[string]any {
	pod := map[string]any{
		"name": name, "user_id": p.user, "generation": p.generation, "event": r.event, "reason": r.reason, "message": r.message, "image": "jupyter:1",
		"created_at": p.past[0].at, "updated_at": r.at, "position": "1-" + strconv.Itoa(r.place),
	}
	if r.event == "ready" {
		pod["addresses"], pod["started_at"] = []string{"10.0.0.1"}, time.Now().Add(-2*time.Hour-3*time.Minute-4*time.Second)
	}
	return pod
}

func (p *fakePod) last() fakeRecord { return p.past[len(p.past)-1] }

func (f *fakeAPI) refuse(w http.ResponseWriter, status int, reason events.Reason, message string) {
	w.Header().Set("Retry-After", "0")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	f.answer(w, map[string]any{"type": "/v1/docs#" + string(reason), "title": "t", "status": status, "detail": message, "reason": reason})
}

func (f *fakeAPI) answer(w io.Writer, body any) {
	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.tb.Logf("the client has gone: %v", err)
	}
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request) {
	var req struct {
		User     string                       `json:"user_id"`
		URL      string                       `json:"manifest_url"`
		Settings map[string]map[string]string `json:"settings"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.Header.Get("Idempotency-Key") == "" {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, fmt.Sprint("no create: ", err))
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // So that a client that goes away is noticed.
	plan := strings.TrimSuffix(path.Base(req.URL), ".yaml")
	f.mu.Lock()
	f.busy++
	busy := f.busy
	f.mu.Unlock()
	switch value := req.Settings["notebook"]["TOKEN"]; {
	case value != "" && value != "a=b,c d":
		f.refuse(w, http.StatusUnprocessableEntity, events.SettingsInvalid, "not what was meant")
	case plan == "token" && r.Header.Get("Authorization") != "Bearer token-of-the-silo":
		f.refuse(w, http.StatusUnauthorized, events.Unauthorized, "who are you?")
	case plan == "invalid":
		f.refuse(w, http.StatusUnprocessableEntity, events.ManifestInvalid, "line 3: no containers")
	case plan == "forbidden":
		f.refuse(w, http.StatusForbidden, events.Forbidden, "nothing for you")
	case plan == "away":
		f.refuse(w, http.StatusServiceUnavailable, events.Unavailable, "the log is read")
	case plan == "busy" && busy < 3:
		f.refuse(w, http.StatusTooManyRequests, events.RateLimited, "slow down")
	case plan == "hangs":
		f.seen()
		<-r.Context().Done()
	default:
		f.mu.Lock()
		defer f.mu.Unlock()
		p := &fakePod{user: req.User, plan: plan}
		first, next := plans(plan)
		f.append(p, first...)
		p.next = next
		f.pods[plan] = p
		w.WriteHeader(http.StatusCreated)
		f.answer(w, p.show(plan, p.last()))
	}
}

// own returns a pod of the user who is asked for, nil for none; f.mu is held.
func (f *fakeAPI) own(w http.ResponseWriter, r *http.Request, gone bool) *fakePod {
	p := f.pods[r.PathValue("name")]
	if p == nil || p.user != r.URL.Query().Get("user_id") || !gone && p.last().event == "gone" {
		f.refuse(w, http.StatusNotFound, events.NotFound, "you have no such pod")
		return nil
	}
	return p
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pods := []any{}
	user := r.URL.Query().Get("user_id")
	for name, p := range f.pods {
		if last := p.last(); (user == "" || p.user == user) && last.event != "gone" {
			pods = append(pods, p.show(name, last))
		}
	}
	f.answer(w, map[string]any{"pods": pods})
}

func (f *fakeAPI) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.own(w, r, false); p != nil {
		f.answer(w, p.show(r.PathValue("name"), p.last()))
	}
}

func (f *fakeAPI) delete(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.own(w, r, false); p != nil {
		f.append(p, "deleting")
		if p.next = nil; p.plan != "stays" {
			p.next = []string{"gone"}
		}
		w.WriteHeader(http.StatusAccepted)
		f.answer(w, p.show(r.PathValue("name"), p.last()))
	}
}

func (f *fakeAPI) tokens(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own(w, r, false) != nil {
		f.answer(w, map[string]any{"tokens": map[string]string{"key": "its secret", "a": "b"}})
	}
}

func (f *fakeAPI) timeline(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.own(w, r, true)
	if p == nil {
		return
	}
	var phases []any
	for _, past := range p.past {
		phases = append(phases, map[string]any{
			"event": past.event, "reason": past.reason, "message": past.message, "by": "watcher", "started_at": past.at, "duration_seconds": 1.5,
			"position": "1-" + strconv.Itoa(past.place),
		})
	}
	f.answer(w, map[string]any{"name": r.PathValue("name"), "user_id": p.user, "generation": p.generation, "phases": phases, "total_seconds": 3})
}

func (f *fakeAPI) follow(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	p := f.own(w, r, false)
	f.mu.Unlock()
	if p != nil {
		f.stream(w, r, r.PathValue("name"), p)
	}
}

// followAll follows the pod old, which is enough for a test.
func (f *fakeAPI) followAll(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	p := f.pods["old"]
	f.mu.Unlock()
	f.stream(w, r, "old", p)
}

// stream tells what happened to a pod after Last-Event-ID, then what happens.
func (f *fakeAPI) stream(w http.ResponseWriter, r *http.Request, name string, p *fakePod) {
	_, text, _ := strings.Cut(r.Header.Get("Last-Event-ID"), "-")
	after, _ := strconv.Atoi(text)
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "retry: 50\n\n")
	for begun := false; ; begun = true {
		f.mu.Lock()
		past, changed := slices.Clone(p.past), f.changed
		if after == 0 {
			past = past[len(past)-1:]
		}
		for _, happened := range past {
			if happened.place <= after {
				continue
			}
			after = happened.place
			data, err := json.Marshal(p.show(name, happened))
			if err != nil {
				f.tb.Error(err)
			}
			_, _ = fmt.Fprintf(w, "event: pod\nid: 1-%d\ndata: %s\n\n", after, data)
		}
		f.mu.Unlock()
		if !begun {
			_, _ = fmt.Fprintf(w, "event: synced\nid: 1-%d\ndata: {}\n\n", after)
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		f.seen()
		f.mu.Lock()
		if len(p.next) > 0 {
			happens := p.next[0]
			p.next = p.next[1:]
			f.append(p, happens)
		}
		f.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// seen says that something is waited for.
func (f *fakeAPI) seen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.watch)
	}
}
