// Package silo answers the HTTP requests of silos: it reads and checks what
// comes in and writes what goes out, as the old clients expect it. What the
// requests mean is its backend's business, and who may ask for what the guard's.
package silo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"berth/pkg/events"
	"berth/pkg/service"
	"berth/services/api/internal/access"
	"berth/services/api/internal/audit"
)

// CreateRequest is what /create_pod asks for.
type CreateRequest struct {
	ManifestURL string
	User        string
	// Settings are variables by container and name.
	Settings map[string]map[string]string
	// Silo is the server that asks.
	Silo events.Silo
}

// Lists tells which pods there are.
type Lists interface {
	// Pods returns what is shown of a user's pods, sorted by name.
	Pods(ctx context.Context, user string) ([]PodInfo, error)
	// Owner returns the user whose pod has an address, "" for nobody's, after some seconds if there is none
	// at first. A user for whom mayName is false counts as nobody.
	Owner(ctx context.Context, address netip.Addr, mayName func(user string) bool) (user string, err error)
}

// Creates makes pods. Its errors carry their reason; see [Error].
type Creates interface {
	// Create returns the name of the pod that is being made.
	Create(ctx context.Context, r CreateRequest) (pod string, err error)
	// AwaitReady waits until the pod is ready, or never will be.
	AwaitReady(ctx context.Context, user, pod string) (bool, error)
}

// Deletes removes pods.
type Deletes interface {
	// Delete returns when it is certain that the pod will go.
	Delete(ctx context.Context, user, pod string) error
	// AwaitGone waits until the pod is gone, or nobody deletes it.
	AwaitGone(ctx context.Context, user, pod string) (bool, error)
}

// Cleans removes what there is in all.
type Cleans interface {
	// DeleteUser removes everything of a user. It returns true when all is gone, false when that takes too long.
	DeleteUser(ctx context.Context, user string) (bool, error)
	// Sweep looks for what outlived its pod, and removes it unless dryRun is set.
	Sweep(ctx context.Context, dryRun bool) (events.Report, error)
}

// Guard says who calls and what they may ask for. Its errors are *[access.Denial].
type Guard interface {
	Admit(r *http.Request) (access.Caller, error)
	Enter(c access.Caller) (leave func(), err error)
	User(c access.Caller, user string) error
}

// Handler answers the silo endpoints. It is safe for concurrent use.
type Handler struct {
	Guard   Guard
	Lists   Lists
	Creates Creates
	Deletes Deletes
	Cleans  Cleans
	Log     zerolog.Logger
	// Audit, if set, gets a record of each request that has been answered. It must not block.
	Audit func(events.AuditRecord)
	// Traces, if set, makes a span of each request.
	Traces trace.TracerProvider
	// Observe, if set, is told of each answer.
	Observe func(endpoint string, status int, took time.Duration)
	// Waiting, if set, is told of each long poll that begins (+1) and ends (-1).
	Waiting func(endpoint string, change float64)
}

// routes are the endpoints by their paths.
func (h *Handler) routes() map[string]route {
	return map[string]route{
		"/get_pods":         {http.MethodPost, nil, h.getPods},
		"/create_pod":       {http.MethodPost, map[string]any{"pod_name": ""}, h.createPod},
		"/watch_create_pod": {http.MethodPost, map[string]any{"ready": false}, h.watchCreatePod},
		"/delete_pod":       {http.MethodPost, map[string]any{"requested": false}, h.deletePod},
		"/watch_delete_pod": {http.MethodPost, map[string]any{"deleted": false}, h.watchDeletePod},
		"/delete_all_user":  {http.MethodPost, map[string]any{"deleted": false}, h.deleteAllUser},
		"/clean_all_unused": {http.MethodPost, map[string]any{"removed": 0}, h.cleanAllUnused},
		"/get_podip_owner":  {http.MethodGet, nil, h.getPodIPOwner},
	}
}

// route is an endpoint.
type route struct {
	method string
	// zero is the field of its answer at its zero value, for failures.
	zero map[string]any
	// serve returns the body of the answer: JSON, or a [plain] text.
	serve func(q *query) (any, error)
}

// Register adds the endpoints to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	routes := h.routes()
	for path, r := range routes {
		mux.HandleFunc(r.method+" "+path, func(w http.ResponseWriter, request *http.Request) { h.answer(w, request, path, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		status, message := http.StatusNotFound, "there is no such endpoint; see the README for those that there are"
		if known, ok := routes[r.URL.Path]; ok {
			w.Header().Set("Allow", known.method)
			status, message = http.StatusMethodNotAllowed, "this endpoint takes "+known.method
		}
		write(w, status, map[string]any{"error": errorBody{Code: string(events.RequestInvalid), Message: message}})
	})
}

// query is a request on its way to its answer.
type query struct {
	w    http.ResponseWriter
	r    *http.Request
	path string
	// caller is who asks, once that is known.
	caller access.Caller
	// denial is why the guard has not let the caller in, nil if it has.
	denial error
	// record is what the audit gets to know, filled in as it turns out.
	record events.AuditRecord
}

// answer admits, answers and notes one request.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, path string, route route) {
	begun := time.Now()
	ctx := service.ExtractTrace(r.Context(), r.Header.Get)
	if h.Traces != nil {
		var span trace.Span
		ctx, span = h.Traces.Tracer("berth/services/api").Start(ctx, route.method+" "+path, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
	}
	ctx, note := audit.WithNote(ctx)
	q := &query{w: w, r: r.WithContext(ctx), path: path, record: events.AuditRecord{
		Request: rand.Text(), Time: begun.UTC(), Action: strings.TrimPrefix(path, "/"), Status: http.StatusOK,
	}}
	record := &q.record
	w.Header().Set("X-Request-Id", record.Request)
	body, err := h.serve(q, route)
	if err != nil {
		fault := asError(err)
		fault.head(w.Header())
		record.Status, record.Reason = fault.Status, fault.Reason
		if fault.Status >= http.StatusInternalServerError && ctx.Err() == nil {
			h.Log.Warn().Err(err).Str("endpoint", path).Str("request_id", record.Request).Int("status", fault.Status).Msg("Request failed")
		}
		body = fault.body(route.zero)
	}
	write(w, record.Status, body)

	took := time.Since(begun)
	if h.Observe != nil {
		h.Observe(path, record.Status, took)
	}
	if h.Audit != nil {
		audit.Who(record, r, q.caller, q.denial)
		record.Command, record.Took = note.Command(), took.Seconds()
		h.Audit(*record)
	}
	h.Log.Debug().Str("endpoint", path).Str("request_id", record.Request).Int("status", record.Status).Dur("took_ms", took).Msg("Answered")
}

// serve answers a request whose caller may call.
func (h *Handler) serve(q *query, route route) (any, error) {
	caller, err := h.Guard.Admit(q.r)
	if err != nil {
		q.denial = err
		denial, ok := errors.AsType[*access.Denial](err)
		if (!ok || denial.Reason != events.RateLimited) && q.r.ProtoMajor == 1 {
			// A stranger's connection is not kept. In HTTP/2 that takes the whole connection down, with the answer on it.
			q.w.Header().Set("Connection", "close")
		}
		return nil, err
	}
	q.caller = caller
	leave, err := h.Guard.Enter(caller)
	if err != nil {
		return nil, err
	}
	defer leave()
	q.r = q.r.WithContext(access.With(q.r.Context(), caller))
	return route.serve(q)
}

// plain is an answer that is no JSON.
type plain string

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if text, isText := body.(plain); isText {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text)) // A client that has gone away cannot be told.
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // As above.
}
