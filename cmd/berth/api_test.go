package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// fakeAPI plays the service. What becomes of a pod is the base name of its
// manifest's URL; without one, it is that of the name of the pod.
type fakeAPI struct {
	tb  testing.TB
	bus *natsbus.Bus

	mu     sync.Mutex
	pods   map[string]*fakePod
	busy   int
	watch  chan struct{} // Is closed when a long poll comes.
	closed bool
}

type fakePod struct {
	user, plan string
	looked     int // How often it was listed.
	deleting   int // How often it was listed since its delete; 0 is before that.
}

type podRequest struct {
	User     string                       `json:"user_id"`
	Pod      string                       `json:"pod_name"`
	URL      string                       `json:"yaml_url"`
	Settings map[string]map[string]string `json:"settings"`
}

func newFakeAPI(tb testing.TB, bus *natsbus.Bus) (*fakeAPI, string) {
	tb.Helper()
	f := &fakeAPI{tb: tb, bus: bus, pods: map[string]*fakePod{}, watch: make(chan struct{})}
	// A pod that is there from the start.
	f.pods["old"] = &fakePod{user: "alice@example.org", plan: "ready", looked: 3}
	server := httptest.NewServer(f)
	tb.Cleanup(server.Close)
	return f, server.URL
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		f.health(w, r)
		return
	}
	var req podRequest
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, "no POST of JSON")
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, err.Error())
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // So that a client that goes away is noticed.
	switch r.URL.Path {
	case "/get_pods":
		f.list(w, req)
	case "/create_pod":
		f.create(w, r, req)
	case "/watch_create_pod":
		f.await(w, r, "ready", func(p *fakePod) (over, yes bool) { return p != nil && p.looked > 1, p != nil && p.plan != "fails" }, req)
	case "/delete_pod":
		f.delete(w, req)
	case "/watch_delete_pod":
		f.await(w, r, "deleted", func(p *fakePod) (over, yes bool) { return p == nil || p.deleting > 2, p == nil || p.plan != "stays" }, req)
	default:
		http.NotFound(w, r)
	}
}

// health answers what everybody may ask.
func (f *fakeAPI) health(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez", "/readyz":
		_, _ = io.WriteString(w, "ok\n")
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeAPI) refuse(w http.ResponseWriter, status int, reason events.Reason, message string) {
	w.Header().Set("Retry-After", "0")
	w.WriteHeader(status)
	f.answer(w, map[string]any{"error": map[string]any{"code": reason, "message": message}})
}

func (f *fakeAPI) answer(w io.Writer, body any) {
	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.tb.Logf("the client has gone: %v", err)
	}
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request, req podRequest) {
	plan := strings.TrimSuffix(path.Base(req.URL), ".yaml")
	if value := req.Settings["notebook"]["TOKEN"]; value != "" && value != "a=b,c d" {
		plan = "wrong-settings"
	}
	f.mu.Lock()
	f.busy++
	busy := f.busy
	f.mu.Unlock()
	switch plan {
	case "invalid":
		f.refuse(w, http.StatusUnprocessableEntity, events.ManifestInvalid, "line 3: no containers")
	case "wrong-settings":
		f.refuse(w, http.StatusUnprocessableEntity, events.SettingsInvalid, "not what was meant")
	case "forbidden":
		f.refuse(w, http.StatusForbidden, events.Forbidden, "nothing for you")
	case "away":
		f.refuse(w, http.StatusServiceUnavailable, events.Unavailable, "the log is read")
	case "busy":
		if busy < 3 {
			f.refuse(w, http.StatusTooManyRequests, events.Unavailable, "slow down")
			return
		}
		f.made(w, req, plan)
	case "hangs":
		f.seen()
		<-r.Context().Done()
	default:
		f.made(w, req, plan)
	}
}

// made answers with the name of a new pod. Those called logged tell their life
// in the log alone.
func (f *fakeAPI) made(w http.ResponseWriter, req podRequest, plan string) {
	f.mu.Lock()
	f.pods[plan] = &fakePod{user: req.User, plan: plan}
	f.mu.Unlock()
	if strings.HasPrefix(plan, "logged") {
		eventstest.Bring(f.tb, f.bus, plan, req.User, events.Running)
	}
	f.answer(w, map[string]string{"pod_name": plan})
}

func (f *fakeAPI) list(w http.ResponseWriter, req podRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pods := []map[string]string{}
	for name, p := range f.pods {
		if p.user != req.User || strings.HasPrefix(p.plan, "logged") {
			continue
		}
		p.looked++
		info := map[string]string{"pod_name": name, "image_name": "jupyter:1", "status": "Creating", "age": "0:0:0"}
		switch {
		case p.deleting > 0:
			p.deleting++
			info["event"], info["status"] = "deleting", "Deleting"
			if p.deleting > 2 && p.plan != "stays" {
				delete(f.pods, name)
			}
		case p.plan == "waits":
			info["event"], info["reason"], info["message"] = "waiting", "UNSCHEDULABLE", "0/3 nodes are available"
		case p.looked == 1:
			info["event"], info["reason"] = "waiting", "PULLING"
		case p.plan == "fails":
			info["event"], info["reason"], info["message"] = "failed", "IMAGE_PULL", "no such image:\n\x1b[31mjupyter"
		default:
			info["event"], info["status"], info["age"], info["pod_ip"] = "ready", "Running:2026-01-02T03:04:05Z", "2:3:4", "10.0.0.1"
		}
		pods = append(pods, info)
	}
	f.answer(w, pods)
}

func (f *fakeAPI) delete(w http.ResponseWriter, req podRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pods[req.Pod]
	if p == nil || p.user != req.User {
		f.refuse(w, http.StatusNotFound, events.NotFound, "there is no such pod, or it is not yours")
		return
	}
	p.deleting = 1
	f.answer(w, map[string]bool{"requested": true})
}

// await answers a long poll when the pod has come so far, by being listed.
func (f *fakeAPI) await(w http.ResponseWriter, r *http.Request, field string, judge func(*fakePod) (over, yes bool), req podRequest) {
	f.seen()
	if strings.HasPrefix(req.Pod, "logged") {
		f.finish(r.Context(), field, req)
		<-r.Context().Done()
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		p := f.pods[req.Pod]
		if p != nil && p.user != req.User {
			p = nil
		}
		over, yes := judge(p)
		over = over && (p == nil || p.plan != "waits")
		if p != nil && field == "deleted" && p.deleting == 0 {
			over, yes = true, false
		}
		f.mu.Unlock()
		if over {
			f.answer(w, map[string]bool{field: yes})
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// finish lets the log tell what a logged pod is waited for.
func (f *fakeAPI) finish(ctx context.Context, field string, req podRequest) {
	ctx = context.WithoutCancel(ctx) // The client goes when it has seen the end in the log.
	last, err := f.bus.Last(ctx, req.Pod)
	if err != nil {
		f.tb.Errorf("read the log: %v", err)
		return
	}
	facts := []events.Fact{eventstest.Observe(last.Generation, eventstest.Ready(last.Observed.UID, "900"))}
	switch {
	case field == "deleted":
		facts = []events.Fact{eventstest.Delete(last.Generation), eventstest.Gone(last.Generation)}
	case req.Pod == "logged-fails":
		facts = []events.Fact{eventstest.Fail(last.Generation, events.Crashed, "jupyter ended with 1")}
	}
	for _, fact := range facts {
		if _, _, err := f.bus.Append(ctx, req.Pod, fact); err != nil {
			f.tb.Errorf("append: %v", err)
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
