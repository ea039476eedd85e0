package v1

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// failing is a guard and a backend whose every answer is an error.
type failing struct {
	admit, user, enter, err error
	caller                  access.Caller
}

func (f failing) Admit(*http.Request) (access.Caller, error) { return f.caller, f.admit }
func (f failing) User(access.Caller, string) error           { return f.user }
func (f failing) Silo(_ access.Caller, name string) (events.Silo, bool) {
	return events.Silo{Name: name, DataAddress: "10.2.0.1"}, name == "silo1"
}
func (f failing) Enter(access.Caller) (func(), error) { return func() {}, f.enter }
func (f failing) Renew(*http.Request) (access.Caller, <-chan struct{}, error) {
	return f.caller, nil, f.admit
}

func (f failing) Pod(context.Context, string, string) (Entry, error) {
	return Entry{}, f.err
}

func (f failing) Tokens(context.Context, Entry) (map[string]string, error) { return nil, f.err }
func (f failing) Create(context.Context, Create) (Entry, string, error) {
	return Entry{Record: events.Record{Pod: "p"}}, "command", f.err
}
func (f failing) AwaitReady(context.Context, Entry) (Entry, error) { return Entry{}, f.err }

// TestFailures has what becomes of errors, for the caller and for the audit.
func TestFailures(t *testing.T) {
	t.Parallel()
	silo := access.Caller{Silo: events.Silo{Name: "silo1"}}
	type want struct {
		status        int
		reason        events.Reason
		detail, after string
	}
	tests := map[string]struct {
		guard failing
		want  want
		audit events.AuditRecord
	}{
		"a stranger": {
			failing{admit: &access.Denial{Status: 401, Reason: events.Unauthorized, Message: "who are you?"}},
			want{401, events.Unauthorized, "who are you?", ""},
			events.AuditRecord{Address: "192.0.2.1", Denied: true},
		},
		"a silo from elsewhere, behind a proxy": {
			failing{admit: &access.Denial{Status: 403, Reason: events.Forbidden, Message: "not from there", Silo: "silo1", Address: netip.MustParseAddr("198.51.100.7")}},
			want{403, events.Forbidden, "not from there", ""},
			events.AuditRecord{Silo: "silo1", Address: "198.51.100.7", Denied: true},
		},
		"too much at once": {
			failing{caller: silo, enter: &access.Denial{Status: 429, Reason: events.RateLimited, Message: "too much", RetryAfter: 5e9}},
			want{429, events.RateLimited, "too much", "5"},
			events.AuditRecord{Silo: "silo1", Address: "192.0.2.1"},
		},
		"too often": {
			failing{caller: silo, user: &access.Denial{Status: 429, Reason: events.RateLimited, Message: "slow down", RetryAfter: 1500e6}},
			want{429, events.RateLimited, "slow down", "2"},
			events.AuditRecord{Silo: "silo1", Address: "192.0.2.1", User: "alice", Pod: "p"},
		},
		"another silo's user": {
			failing{caller: silo, user: &access.Denial{Status: 403, Reason: events.Forbidden, Message: "not yours", Foreign: true}},
			want{404, events.NotFound, "you have no such pod", ""},
			events.AuditRecord{Silo: "silo1", Address: "192.0.2.1", User: "alice", Pod: "p"},
		},
		"an inner fault stays inside": {
			failing{caller: silo, err: errors.New("nats://secret@10.0.0.1: no route")},
			want{503, events.Unavailable, "the service cannot answer now; try again", "1"},
			events.AuditRecord{Silo: "silo1", Address: "192.0.2.1", User: "alice", Pod: "p"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var audited []events.AuditRecord
			h := &Handler{
				Guard: tt.guard, Own: tt.guard, Makes: tt.guard, Log: zerolog.Nop(), Audit: func(r events.AuditRecord) { audited = append(audited, r) },
			}
			mux := http.NewServeMux()
			if err := h.Register(mux); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/pods/p?user_id=alice", nil))
			problem := Problem{
				Type: "/v1/docs#" + string(tt.want.reason), Title: meaning(tt.want.reason), Status: tt.want.status, Detail: tt.want.detail, Reason: string(tt.want.reason),
			}
			again := httptest.NewRecorder()
			write(again, tt.want.status, problemType, problem)
			if d := cmp.Diff(again.Body.String(), w.Body.String()); d != "" || w.Code != tt.want.status || w.Header().Get("Retry-After") != tt.want.after {
				t.Errorf("%d, Retry-After %q, problem (-want +got):\n%s", w.Code, w.Header().Get("Retry-After"), d)
			}
			tt.audit.Action, tt.audit.Status, tt.audit.Reason = "get_pod", tt.want.status, tt.want.reason
			ignored := cmpopts.IgnoreFields(events.AuditRecord{}, "Request", "Time", "Took")
			if d := cmp.Diff([]events.AuditRecord{tt.audit}, audited, ignored); d != "" || audited[0].Request != w.Header().Get("X-Request-Id") {
				t.Errorf("audit (-want +got):\n%s", d)
			}
		})
	}
}

// TestAuditOfAWait: a create that waits is noted down with its command before it waits.
func TestAuditOfAWait(t *testing.T) {
	t.Parallel()
	var audited []events.AuditRecord
	caller := failing{caller: access.Caller{Silo: events.Silo{Name: "silo1"}}}
	h := &Handler{Guard: caller, Makes: caller, Log: zerolog.Nop(), Audit: func(r events.AuditRecord) { audited = append(audited, r) }}
	mux := http.NewServeMux()
	if err := h.Register(mux); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/pods?wait=ready", "/v1/pods"} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"user_id":"alice","manifest_url":"https://example.org/n.yaml"}`))
		r.Header.Set("Content-Type", "application/json")
		mux.ServeHTTP(httptest.NewRecorder(), r)
	}
	record := func(action string, status int, pod string) events.AuditRecord {
		return events.AuditRecord{
			Silo: "silo1", Address: "192.0.2.1", Action: action, Object: "https://example.org/n.yaml", User: "alice", Pod: pod, Command: "command", Status: status,
		}
	}
	want := []events.AuditRecord{record("create_pod_begun", 0, "p"), record("create_pod", http.StatusCreated, "p"), record("create_pod", http.StatusCreated, "p")}
	if d := cmp.Diff(want, audited, cmpopts.IgnoreFields(events.AuditRecord{}, "Request", "Time", "Took")); d != "" {
		t.Fatalf("audit (-want +got):\n%s", d)
	}
	if audited[0].Request != audited[1].Request || audited[1].Request == audited[2].Request {
		t.Error("the request ids do not tell which belong together")
	}
}

// TestEveryReasonHasAStatus: none is an internal error by accident.
func TestEveryReasonHasAStatus(t *testing.T) {
	t.Parallel()
	inner := map[events.Reason]bool{ // What nobody can help who asks, or what no create ends with.
		events.RetriesExhausted: true, events.Evicted: true, events.NodeLost: true, events.StoragePending: true, events.NameOccupied: true,
		events.TokensPending: true, events.Pulling: true, events.Starting: true, events.NotReady: true,
	}
	for _, info := range events.Reasons() {
		if got := statusOf(info.Reason); (got == http.StatusInternalServerError) != inner[info.Reason] {
			t.Errorf("%s is answered with %d", info.Reason, got)
		}
	}
}
