// Package v1 answers the HTTP API of people and programs below /v1: pods as
// resources, their tokens and timelines, and streams of what happens to them.
//
// Each endpoint is an operation of one table (operations.go), from which both the
// mux and the OpenAPI document are made: what is declared there about parameters is
// what is checked. Every failure is a problem detail (RFC 9457) with one of the log's
// reasons. A user whom the caller may not name is answered like one who has nothing.
package v1

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"berth/pkg/events"
	"berth/pkg/service"
	"berth/services/api/internal/access"
	"berth/services/api/internal/audit"
)

// Admits says who calls; see [access.Guard].
type Admits interface {
	Admit(r *http.Request) (access.Caller, error)
	Enter(c access.Caller) (leave func(), err error)
	Renew(r *http.Request) (c access.Caller, changed <-chan struct{}, err error)
}

// Guard says who calls, and whom they may speak for; see [access.Guard].
type Guard interface {
	Admits
	User(c access.Caller, user string) error
	Silo(c access.Caller, name string) (silo events.Silo, known bool)
}

// State is what the log says now. Its errors are [*Fault] where the caller is to
// know; while the truth is not known they are so with the reason UNAVAILABLE.
type State interface {
	// Ready returns nil while the state can be trusted.
	Ready() error
	// Epoch is the one that the hub is told of now.
	Epoch() Epoch
	// Pods returns the records of a user's pods, or of all where user is empty, but
	// of those that are gone, by name. Nothing is missing that anybody was told before.
	Pods(ctx context.Context, user string) ([]Entry, error)
}

// Own is what belongs to one pod of a user. For a pod that does not exist, is gone,
// or is another's, the error is the same.
type Own interface {
	// Pod returns the newest record as the log's leader has it.
	Pod(ctx context.Context, user, name string) (Entry, error)
	// Tokens returns the tokens that were copied out of a pod, by key.
	Tokens(ctx context.Context, e Entry) (map[string]string, error)
}

// Past is what the log still has of what was before.
type Past interface {
	// History returns the records of a pod name and a user, of whatever life, in order.
	History(ctx context.Context, user, name string) ([]Step, error)
	// After returns the records of a scope after a position that are wanted, in order, limit
	// at the most. A nil wants is for all.
	After(ctx context.Context, after events.Position, scope Scope, limit int, wants func(events.Record) bool) ([]Step, error)
	// RecordAt returns when the record at a position was appended, and whether the
	// log has it.
	RecordAt(ctx context.Context, p events.Position) (appended time.Time, there bool, err error)
}

// Create asks for a pod.
type Create struct {
	Caller      access.Caller
	User        string
	ManifestURL string
	// Settings are variables by container and name.
	Settings map[string]map[string]string
	// Key is the Idempotency-Key, empty for none; Body is the hash of the body.
	Key, Body string
}

// Makes makes pods.
type Makes interface {
	// Create returns the newest record of the pod that is being made, and the id of
	// the command that makes it, that also with an error.
	Create(ctx context.Context, c Create) (e Entry, command string, err error)
	// AwaitReady waits until that pod is ready, and returns its record then; a pod
	// that never will be is a fault with its reason.
	AwaitReady(ctx context.Context, e Entry) (Entry, error)
}

// Once keeps for an hour which license a key of a caller stands for; see key.go.
type Once interface {
	// Reserve has the key stand for a license, unless it stands for one, and returns what it stands for. Another body than
	// the first one's is a fault. Of a license whose id the client has chosen it waits a little for the end of the first request,
	// and goes on without.
	Reserve(ctx context.Context, c access.Caller, key string, mine Reservation) (Held, error)
	// Made notes that what the key stands for has been made, for an hour from now.
	Made(ctx context.Context, c access.Caller, key string, held Reservation) error
	// Refused notes that the first request for a license whose id the client has chosen has made nothing. It is false where
	// another has gone on without its end, which may have made it: then nothing is noted.
	Refused(ctx context.Context, held Reservation) (bool, error)
}

// Held is what the key of a license stands for.
type Held struct {
	Reservation
	// First says that no other request had the key before, Made that the license has been made, Refused that the first
	// request has made nothing for sure; of the others nobody knows.
	First, Made, Refused bool
}

// Removes removes pods.
type Removes interface {
	// Delete returns when it is certain that the pod will go, with its record then;
	// the zero Entry where it is gone already.
	Delete(ctx context.Context, user, name string) (Entry, error)
	// AwaitGone waits until the pod is gone; false means that it takes too long.
	AwaitGone(ctx context.Context, user, name string) (bool, error)
}

// Handler answers the requests below /v1. It is safe for concurrent use.
type Handler struct {
	Guard   Guard
	State   State
	Own     Own
	Past    Past
	Makes   Makes
	Once    Once
	Removes Removes
	// Projects starts and stops projects, and Asks asks about licenses.
	Projects Projects
	Asks     Asks
	// Hub is told of every record.
	Hub *Hub
	// Draining ends when the replica begins to stop.
	Draining context.Context //nolint:containedctx // It is the replica's life, not a request's.
	// IngressDomain is the domain below which pods have their host names, or empty.
	IngressDomain string
	// Retention is how far the log goes back.
	Retention time.Duration
	// Kept is how many records of one pod, user and event the log keeps; 0 means all.
	Kept int
	Log  zerolog.Logger
	// Traces, if set, makes a span of each request.
	Traces trace.TracerProvider
	// Observe, if set, is told of each answer.
	Observe func(endpoint string, status int, took time.Duration)
	// Waiting, if set, is told of each wait and stream that begins (+1) and ends (-1).
	Waiting func(endpoint string, change float64)
	// Audit, if set, gets a record of each request that has been answered, and one before it, whose
	// action ends with _begun and whose status is 0, of one that may take long: should the replica
	// die meanwhile, it is the only one. It must not block.
	Audit func(events.AuditRecord)

	// Heartbeat, WriteLimit, ReplayLimit and those below take the places of the usual ones in tests.
	Heartbeat, WriteLimit, ReplayLimit time.Duration
	MaxStreams, MaxUserStreams         int

	mu      sync.Mutex
	streams map[whose]int      // How many are open.
	places  map[string]*places // Where streams read, by silo.
}

func (h *Handler) heartbeat() time.Duration  { return cmp.Or(h.Heartbeat, heartbeat) }
func (h *Handler) writeLimit() time.Duration { return cmp.Or(h.WriteLimit, writeLimit) }
func (h *Handler) maxStreams() int           { return cmp.Or(h.MaxStreams, maxStreams) }

func (h *Handler) maxUserStreams() int { return cmp.Or(h.MaxUserStreams, maxUserStreams) }

func (h *Handler) replayLimit() time.Duration {
	return cmp.Or(h.ReplayLimit, replayLimit)
}

// places are a silo's for reading what its streams begin with: each is taken by one of
// them, so that none of another silo waits for it.
type places struct{ replays, snapshots chan struct{} }

// placesOf returns the places of a silo, of which the site has few.
func (h *Handler) placesOf(silo string) *places {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.places == nil {
		h.places = map[string]*places{}
	}
	p := h.places[silo]
	if p == nil {
		p = &places{replays: make(chan struct{}, maxReplays), snapshots: make(chan struct{}, maxSnapshots)}
		h.places[silo] = p
	}
	return p
}

// take waits for a place, which is free again when the function returned is called.
func take(ctx context.Context, places chan struct{}) (free func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Register adds the endpoints to a mux.
func (h *Handler) Register(mux *http.ServeMux) error {
	methods := map[string][]string{}
	for _, op := range operations() {
		methods[op.path] = append(methods[op.path], op.method)
		mux.HandleFunc(op.method+" "+op.path, func(w http.ResponseWriter, r *http.Request) { h.serve(op, w, r) })
	}
	docs, err := docsHandlers()
	if err != nil {
		return err
	}
	for path, handler := range docs {
		methods[path] = append(methods[path], http.MethodGet)
		mux.Handle("GET "+path, handler)
	}
	for path, known := range methods {
		if slices.Contains(known, http.MethodGet) {
			known = append(known, http.MethodHead)
		}
		slices.Sort(known)
		allow := strings.Join(known, ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", allow)
			writeProblem(w, Fault{Status: http.StatusMethodNotAllowed, Reason: events.RequestInvalid, Message: "this resource takes " + allow})
		})
	}
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, Fault{
			Status: http.StatusNotFound, Reason: events.RequestInvalid, Message: "there is no such resource; " + docsPath + " shows those that there are",
		})
	})
	return nil
}

// exchange is one request on its way to its answer.
type exchange struct {
	op     operation
	w      http.ResponseWriter
	r      *http.Request
	caller access.Caller
	params map[string]string

	// denial is why the guard has not let the caller in, nil if it has.
	denial error
	// record is what the audit is told, with what follows.
	record                       events.AuditRecord
	user, pod, command, manifest string
	// object is the license that it is about.
	object string
}

// answer is what a request is answered with. The zero answer has been sent already.
type answer struct {
	status   int
	body     any
	location string
}

// serve answers one request, and notes it down.
func (h *Handler) serve(op operation, w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	ctx := service.ExtractTrace(r.Context(), r.Header.Get)
	if h.Traces != nil {
		var span trace.Span
		ctx, span = h.Traces.Tracer("berth/services/api").Start(ctx, op.method+" "+op.path, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
	}
	record := events.AuditRecord{Request: rand.Text(), Time: begun.UTC(), Action: op.action(), Status: http.StatusOK}
	w.Header().Set("X-Request-Id", record.Request)
	x := &exchange{op: op, w: w, r: r.WithContext(ctx), record: record}
	a, err := h.carryOut(x)
	switch {
	case err != nil:
		f := faultOf(err)
		record.Status, record.Reason = f.Status, f.Reason
		if f.Reason == events.NotFound && x.object != "" {
			f.Title = "there is no such license"
		}
		if f.Status >= http.StatusInternalServerError && ctx.Err() == nil {
			h.Log.Warn().Err(err).Str("endpoint", op.id).Str("request_id", record.Request).Int("status", f.Status).Msg("Request failed")
		}
		writeProblem(w, f)
	case a.status != 0:
		record.Status = a.status
		if a.location != "" {
			w.Header().Set("Location", a.location)
		}
		write(w, a.status, "application/json", a.body)
	}
	took := time.Since(begun)
	if h.Observe != nil {
		h.Observe(op.path, record.Status, took)
	}
	record.Took, record.DryRun = took.Seconds(), x.record.DryRun
	h.audit(x, record)
	h.Log.Debug().Str("endpoint", op.id).Str("request_id", record.Request).Int("status", record.Status).Dur("took_ms", took).Msg("Answered")
}

// audit tells the audit of a request, as far as it has got.
func (h *Handler) audit(x *exchange, record events.AuditRecord) {
	if h.Audit == nil {
		return
	}
	audit.Who(&record, x.r, x.caller, x.denial)
	record.User, record.Pod, record.Command, record.Object = x.user, x.pod, x.command, x.object
	if x.manifest != "" {
		record.Object = audit.Manifest(x.manifest)
	}
	h.Audit(record)
}

// begins tells the audit of a request whose answer may take long, or has no end.
func (h *Handler) begins(x *exchange) {
	record := x.record
	record.Action += "_begun"
	record.Status = 0
	h.audit(x, record)
}

// action is what the audit calls the operation: create_pod for createPod.
func (op operation) action() string {
	var name strings.Builder
	for _, c := range op.id {
		if unicode.IsUpper(c) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(c))
	}
	return name.String()
}

// carryOut checks who asks for what, then does it.
func (h *Handler) carryOut(x *exchange) (answer, error) {
	caller, err := h.Guard.Admit(x.r)
	if err != nil {
		x.denial = err
		denial, ok := errors.AsType[*access.Denial](err)
		if (!ok || denial.Reason != events.RateLimited) && x.r.ProtoMajor == 1 {
			// A stranger's connection is not kept. In HTTP/2 that takes the whole connection down, with the answer on it.
			x.w.Header().Set("Connection", "close")
		}
		return answer{}, err
	}
	x.caller = caller
	leave, err := h.Guard.Enter(caller)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	x.r = x.r.WithContext(access.With(x.r.Context(), caller))
	if x.params, err = x.op.parse(x.r); err != nil {
		return answer{}, err
	}
	x.user, x.pod = x.params["user_id"], x.params["name"]
	return x.op.serve(h, x)
}

// foreign asks whether the caller may name a user, and returns true where the user
// is none of the caller's: then the answer is that for one who has nothing.
func (h *Handler) foreign(x *exchange, user string) (bool, error) {
	err := h.Guard.User(x.caller, user)
	if err == nil {
		return false, nil
	}
	if denial, ok := errors.AsType[*access.Denial](err); ok && denial.Foreign {
		return true, nil
	}
	return false, err
}

// wait lifts the time limits of a request that waits, until the function returned
// is called.
func (h *Handler) wait(x *exchange) (done func()) {
	control := http.NewResponseController(x.w)
	// Without a read deadline the server still notices when the client goes away.
	for _, err := range []error{control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})} {
		if err != nil {
			h.Log.Debug().Err(err).Msg("Cannot lift the time limits of a wait")
		}
	}
	if h.Waiting != nil {
		h.Waiting(x.op.path, 1)
	}
	return func() {
		if h.Waiting != nil {
			h.Waiting(x.op.path, -1)
		}
		if err := control.SetWriteDeadline(time.Now().Add(h.writeLimit())); err != nil {
			h.Log.Debug().Err(err).Msg("Cannot limit the time of an answer")
		}
	}
}
