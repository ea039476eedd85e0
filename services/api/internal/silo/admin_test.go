package silo_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
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

// TestCleanAllUnused: for administrators alone, who may also just look. (The old backend asked nobody who
// they are.)
func TestCleanAllUnused(t *testing.T) {
	t.Parallel()
	left := events.Report{Found: []events.Leftover{{Kind: "Service", Name: "n-http", Why: "its pod is gone"}}, Total: 1, Removed: 1}
	found := object{"dry_run": false, "total": 1.0, "removed": 1.0, "found": []any{object{"kind": "Service", "name": "n-http", "why": "its pod is gone"}}}
	nothing := object{"dry_run": false, "total": 0.0, "removed": 0.0, "found": []any{}}
	tests := map[string]struct {
		token, query, kind, body string
		backend                  backend
		status                   int
		want                     object
		code                     events.Reason
		asked                    []string
	}{
		"no token":         {status: 401, code: events.Unauthorized},
		"another's token":  {token: "Bearer guessed", status: 401, code: events.Unauthorized},
		"no bearer":        {token: "Basic " + adminToken, status: 401, code: events.Unauthorized},
		"an empty body":    {token: "*", backend: backend{report: left}, status: 200, want: found, asked: []string{"sweep, dry run false"}},
		"nothing is found": {token: "*", status: 200, want: nothing, asked: []string{"sweep, dry run false"}},
		"an empty object":  {token: "*", kind: "application/json", body: "{}", status: 200, want: nothing, asked: []string{"sweep, dry run false"}},
		"dry by body":      {token: "*", kind: "application/json", body: `{"dry_run":true}`, status: 200, want: nothing, asked: []string{"sweep, dry run true"}},
		"dry by its name":  {token: "*", query: "?dry_run", status: 200, want: nothing, asked: []string{"sweep, dry run true"}},
		"a slip in it":     {token: "*", query: "?dry-run=1", status: 400, code: events.RequestInvalid},
		"a broken query":   {token: "*", query: "?dry_run=1;x", status: 400, code: events.RequestInvalid},
		"dry by query":     {token: "*", query: "?dry_run=true", status: 200, want: nothing, asked: []string{"sweep, dry run true"}},
		"dry by either":    {token: "*", query: "?dry_run=1", kind: "application/json", body: `{"dry_run":false}`, status: 200, want: nothing, asked: []string{"sweep, dry run true"}},
		"a body of what":   {token: "*", body: `{"dry_run":true}`, status: 415, code: events.RequestInvalid},
		"no JSON":          {token: "*", kind: "application/json", body: "dry", status: 400, code: events.RequestInvalid},
		"maybe":            {token: "*", query: "?dry_run=maybe", status: 400, code: events.RequestInvalid},
		"null":             {token: "*", kind: "application/json", body: `null`, status: 400, code: events.RequestInvalid},
		"a slip":           {token: "*", kind: "application/json", body: `{"dryrun":true}`, status: 400, code: events.RequestInvalid},
		"a number":         {token: "*", kind: "application/json", body: `{"dry_run":1}`, status: 400, code: events.RequestInvalid},
		"it fails":         {token: "*", backend: backend{err: errors.New("x")}, status: 503, code: events.Unavailable, asked: []string{"sweep, dry run false"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(t, "/clean_all_unused"+tt.query, tt.body)
			r.Header.Del("Content-Type")
			if tt.kind != "" {
				r.Header.Set("Content-Type", tt.kind)
			}
			switch tt.token {
			case "":
			case "*":
				r.Header.Set("Authorization", "Bearer "+adminToken)
			default:
				r.Header.Set("Authorization", tt.token)
			}
			w, got := answer(t, &tt.backend, r)
			if w.Code != tt.status {
				t.Errorf("status = %d, want %d", w.Code, tt.status)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (tt.status == 401) {
				t.Errorf("WWW-Authenticate = %q", w.Header().Get("WWW-Authenticate"))
			}
			if tt.code == "" {
				if d := cmp.Diff(any(tt.want), got); d != "" {
					t.Errorf("answer (-want +got):\n%s", d)
				}
			} else if fault, _ := got.(object)["error"].(object); fault["code"] != string(tt.code) || got.(object)["removed"] != 0.0 {
				t.Errorf("answer = %v, want %s", got, tt.code)
			}
			if d := cmp.Diff(tt.asked, tt.backend.asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}

// TestNoAdministrator: where the site has none, nobody is one.
func TestNoAdministrator(t *testing.T) {
	t.Parallel()
	b := &backend{}
	h := &silo.Handler{Guard: access.New(config.Default(), time.Now), Lists: b, Creates: b, Deletes: b, Cleans: b, Log: zerolog.Nop()}
	m := http.NewServeMux()
	h.Register(m)
	for token, want := range map[string]int{"": 401, "Bearer " + adminToken: 403, "Bearer x": 403} {
		r := request(t, "/clean_all_unused", "")
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != want || len(b.asked) > 0 {
			t.Errorf("token %q: status %d, want %d; asked %v", token, w.Code, want, b.asked)
		}
	}
}

func TestGetPodIPOwner(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		query   string
		backend backend
		status  int
		want    string
		code    events.Reason
		asked   []string
	}{
		"somebody's":   {query: "?ip=10.0.0.7", backend: backend{name: "alice@example.org"}, status: 200, want: "alice@example.org", asked: []string{"owner of 10.0.0.7"}},
		"nobody's":     {query: "?ip=10.0.0.7", status: 200, asked: []string{"owner of 10.0.0.7"}},
		"IPv6":         {query: "?ip=FD00:0::7", backend: backend{name: "alice"}, status: 200, want: "alice", asked: []string{"owner of fd00::7"}},
		"mapped":       {query: "?ip=::ffff:10.0.0.7", backend: backend{name: "alice"}, status: 200, want: "alice", asked: []string{"owner of 10.0.0.7"}},
		"none":         {status: 400, code: events.RequestInvalid},
		"empty":        {query: "?ip=", status: 400, code: events.RequestInvalid},
		"two":          {query: "?ip=10.0.0.7&ip=10.0.0.8", status: 400, code: events.RequestInvalid},
		"a name":       {query: "?ip=localhost", status: 400, code: events.RequestInvalid},
		"with a port":  {query: "?ip=10.0.0.7:80", status: 400, code: events.RequestInvalid},
		"with a zone":  {query: "?ip=fe80::1%25eth0", status: 400, code: events.RequestInvalid},
		"leading zero": {query: "?ip=010.0.0.7", status: 400, code: events.RequestInvalid},
		"endless":      {query: "?ip=" + strings.Repeat("1", 5000), status: 400, code: events.RequestInvalid},
		"unknown":      {query: "?ip=10.0.0.7", backend: backend{err: silo.Fault(events.Unavailable, "x"), name: "alice"}, status: 503, code: events.Unavailable, asked: []string{"owner of 10.0.0.7"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(t, "/get_podip_owner"+tt.query, "")
			r.Method = http.MethodGet
			r.Header.Del("Content-Type")
			w := httptest.NewRecorder()
			mux(&tt.backend).ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("status = %d, want %d", w.Code, tt.status)
			}
			if tt.code == "" {
				if w.Body.String() != tt.want || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("answer = %q of %q, want %q", w.Body, w.Header().Get("Content-Type"), tt.want)
				}
			} else {
				var got object
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got["error"].(object)["code"] != string(tt.code) {
					t.Errorf("answer = %q, %v; want %s", w.Body, err, tt.code)
				}
			}
			if d := cmp.Diff(tt.asked, tt.backend.asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}

// TestAudit: one record of each request that has been answered.
func TestAudit(t *testing.T) {
	t.Parallel()
	var records []events.AuditRecord
	b := &backend{name: "n-alice", yes: true}
	h := &silo.Handler{
		Guard: access.New(site(), time.Now), Lists: b, Creates: b, Deletes: b, Cleans: b, Log: zerolog.Nop(),
		Audit: func(r events.AuditRecord) { records = append(records, r) },
	}
	m := http.NewServeMux()
	h.Register(m)
	ids := map[string]bool{}
	ask := func(change func(*http.Request), path, body string) {
		r := request(t, path, body)
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if last := records[len(records)-1]; last.Request != id || ids[id] || last.Time.IsZero() || last.Took < 0 {
			t.Errorf("record = %+v, answered with X-Request-Id %q", last, id)
		}
		ids[id] = true
	}
	ask(nil, "/create_pod", `{"user_id":"alice","yaml_url":"https://example.org/n.yaml?token=hidden","settings":{"main":{"A":"hidden"}}}`)
	ask(nil, "/watch_create_pod", `{"user_id":"alice","pod_name":"n-alice"}`)
	ask(nil, "/get_pods", `{"user_id":"ALICE"}`)
	ask(func(r *http.Request) { r.RemoteAddr = "192.0.2.1:7" }, "/get_pods", `{"user_id":"alice"}`)
	admin := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+adminToken) }
	b.report.Removed = 3
	ask(admin, "/clean_all_unused", "")
	b.report.Removed = 0
	ask(admin, "/clean_all_unused?dry_run=true", "")
	ask(func(r *http.Request) { r.Method = http.MethodGet }, "/get_podip_owner?ip=10.0.7.7", "")
	ask(nil, "/delete_pod", `{"user_id":"alice","pod_name":"`+strings.Repeat("n", 5000)+`"}`)

	for i := range records {
		records[i].Request, records[i].Time, records[i].Took = "", time.Time{}, 0
	}
	own := func(r events.AuditRecord) events.AuditRecord {
		r.Silo, r.Address = access.Loopback, "127.0.0.1"
		return r
	}
	want := []events.AuditRecord{
		own(events.AuditRecord{Action: "create_pod", Object: "https://example.org/n.yaml", User: "alice", Pod: "n-alice", Status: 200}),
		own(events.AuditRecord{Action: "watch_create_pod", User: "alice", Pod: "n-alice", Status: 200}),
		own(events.AuditRecord{Action: "get_pods", Status: 400, Reason: events.RequestInvalid}),
		{Action: "get_pods", Address: "192.0.2.1", Denied: true, Status: 403, Reason: events.Forbidden},
		own(events.AuditRecord{Action: "clean_all_unused", Admin: true, Removed: 3, Status: 200}),
		own(events.AuditRecord{Action: "clean_all_unused", Admin: true, DryRun: true, Status: 200}),
		own(events.AuditRecord{Action: "get_podip_owner", Object: "10.0.7.7", User: "n-alice", Status: 200}),
		own(events.AuditRecord{Action: "delete_pod", User: "alice", Pod: strings.Repeat("n", 253), Status: 200}),
	}
	if d := cmp.Diff(want, records); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

// FuzzBody feeds bodies to every endpoint: no panic, an answer of bounded size, and the backend is asked
// only about users whose ids are valid.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"user_id":"alice@example.org","pod_name":"n","yaml_url":"https://example.org/n.yaml"}`, `{"user_id":"a.>"}`, `[[[[`, `{"settings":{"a":{"b":1}}}`,
		"null", `{"user_id":"alice"} {}`, "\xff", `{"USER_ID":"alice"}`, `{"dry_run":true}`, strings.Repeat("[", 20000),
	} {
		f.Add("/get_pods", seed)
		f.Add("/create_pod", seed)
		f.Add("/clean_all_unused", seed)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if _, known := endpoints()[path]; !known && path != "/clean_all_unused" {
			return
		}
		r := request(t, path, body)
		r.Header.Set("Authorization", "Bearer "+adminToken)
		b := &backend{name: "n"}
		w := httptest.NewRecorder()
		mux(b).ServeHTTP(w, r)
		if w.Code == http.StatusOK && len(b.asked) != 1 || w.Body.Len() > 4*len(body)+1000 {
			t.Errorf("status %d, %d bytes, asked %v", w.Code, w.Body.Len(), b.asked)
		}
	})
}
