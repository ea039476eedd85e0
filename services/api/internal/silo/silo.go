// Package silo answers the HTTP requests of silos: it reads and checks what
// comes in and writes what goes out, as the old clients expect it. What the
// requests mean is its backend's business.
package silo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"berth/pkg/events"
	"berth/pkg/service"
)

// The limits of a request that a stranger chooses.
const (
	maxBody     = 256 << 10
	maxUserID   = 190
	maxURL      = 2048
	maxSettings = 1000
	// retryAfter is what a client is told to wait before it asks again.
	retryAfter = time.Second
)

// CreateRequest is what /create_pod asks for.
type CreateRequest struct {
	ManifestURL string
	User        string
	// Settings are variables by container and name.
	Settings map[string]map[string]string
	// Caller is the address that the request came from.
	Caller netip.Addr
}

// Lists tells which pods there are.
type Lists interface {
	// Pods returns what is shown of a user's pods, sorted by name.
	Pods(ctx context.Context, user string) ([]PodInfo, error)
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

// Handler answers the silo endpoints. It is safe for concurrent use.
type Handler struct {
	Lists   Lists
	Creates Creates
	Deletes Deletes
	Log     zerolog.Logger
	// Traces, if set, makes a span of each request.
	Traces trace.TracerProvider
	// Observe, if set, is told of each answer.
	Observe func(endpoint string, status int, took time.Duration)
	// Waiting, if set, is told of each long poll that begins (+1) and ends (-1).
	Waiting func(endpoint string, change float64)
}

// Register adds the endpoints to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	h.add(mux, "/get_pods", h.getPods)
	h.add(mux, "/create_pod", h.createPod)
	h.add(mux, "/watch_create_pod", h.watchCreatePod)
	h.add(mux, "/delete_pod", h.deletePod)
	h.add(mux, "/watch_delete_pod", h.watchDeletePod)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNotFound
		message := "there is no such endpoint; see the README for those that there are"
		if h.known(r.URL.Path) {
			w.Header().Set("Allow", http.MethodPost)
			status, message = http.StatusMethodNotAllowed, "this endpoint takes POST"
		}
		write(w, status, map[string]any{"error": errorBody{Code: string(events.RequestInvalid), Message: message}})
	})
}

func (h *Handler) known(path string) bool {
	switch path {
	case "/get_pods", "/create_pod", "/watch_create_pod", "/delete_pod", "/watch_delete_pod":
		return true
	}
	return false
}

// endpoint answers one request: a status and a body.
type endpoint func(w http.ResponseWriter, r *http.Request) (status int, body any)

func (h *Handler) add(mux *http.ServeMux, path string, serve endpoint) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		ctx := service.ExtractTrace(r.Context(), r.Header.Get)
		if h.Traces != nil {
			var span trace.Span
			ctx, span = h.Traces.Tracer("berth/services/api").Start(ctx, "POST "+path, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
		}
		status, body := serve(w, r.WithContext(ctx))
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
		}
		write(w, status, body)
		if h.Observe != nil {
			h.Observe(path, status, time.Since(begun))
		}
		h.Log.Debug().Str("endpoint", path).Int("status", status).Dur("took_ms", time.Since(begun)).Msg("Answered")
	})
}

type podRequest struct {
	User     string                       `json:"user_id"`
	Pod      string                       `json:"pod_name"`
	URL      string                       `json:"yaml_url"`
	Settings map[string]map[string]string `json:"settings"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (h *Handler) getPods(w http.ResponseWriter, r *http.Request) (int, any) {
	var req podRequest
	if err := h.read(w, r, &req); err != nil {
		return h.failed(r, err, map[string]any{})
	}
	pods, err := h.Lists.Pods(r.Context(), req.User)
	if err != nil {
		return h.failed(r, err, map[string]any{})
	}
	if pods == nil {
		pods = []PodInfo{}
	}
	return http.StatusOK, pods
}

func (h *Handler) createPod(w http.ResponseWriter, r *http.Request) (int, any) {
	var req podRequest
	err := h.read(w, r, &req)
	if err == nil {
		err = req.checkCreate()
	}
	name := ""
	if err == nil {
		name, err = h.Creates.Create(r.Context(), CreateRequest{
			ManifestURL: req.URL, User: req.User, Settings: req.Settings, Caller: caller(r),
		})
	}
	if err != nil {
		return h.failed(r, err, map[string]any{"pod_name": ""})
	}
	return http.StatusOK, map[string]any{"pod_name": name}
}

func (h *Handler) watchCreatePod(w http.ResponseWriter, r *http.Request) (int, any) {
	return h.watch(w, r, "ready", h.Creates.AwaitReady)
}

func (h *Handler) watchDeletePod(w http.ResponseWriter, r *http.Request) (int, any) {
	return h.watch(w, r, "deleted", h.Deletes.AwaitGone)
}

func (h *Handler) watch(w http.ResponseWriter, r *http.Request, field string, await func(context.Context, string, string) (bool, error)) (int, any) {
	var req podRequest
	if err := h.read(w, r, &req); err != nil {
		return h.failed(r, err, map[string]any{field: false})
	}
	// The server's own limits are for requests that do not wait. Without a read
	// deadline it still notices when the client goes away.
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		h.Log.Debug().Err(err).Msg("Cannot lift the time limits of a long poll")
	}
	if h.Waiting != nil {
		h.Waiting(r.URL.Path, 1)
		defer h.Waiting(r.URL.Path, -1)
	}
	result, err := await(r.Context(), req.User, req.Pod)
	if limitErr := control.SetWriteDeadline(time.Now().Add(writeLimit)); limitErr != nil {
		h.Log.Debug().Err(limitErr).Msg("Cannot limit the time of an answer")
	}
	if err != nil {
		return h.failed(r, err, map[string]any{field: false})
	}
	return http.StatusOK, map[string]any{field: result}
}

// writeLimit is how long a client may take to read an answer.
const writeLimit = 30 * time.Second

func (h *Handler) deletePod(w http.ResponseWriter, r *http.Request) (int, any) {
	var req podRequest
	err := h.read(w, r, &req)
	if err == nil {
		err = h.Deletes.Delete(r.Context(), req.User, req.Pod)
	}
	if err != nil {
		return h.failed(r, err, map[string]any{"requested": false})
	}
	return http.StatusOK, map[string]any{"requested": true}
}

// userID is what a user id must match.
var userID = regexp.MustCompile(`^[a-z0-9][-a-z0-9._]*[@]?[-a-z0-9._]*[a-z0-9]$`)

// read takes a request's body in and checks what all endpoints have in common.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, req *podRequest) error {
	if addr := caller(r); !addr.IsLoopback() {
		return Fault(events.Forbidden, "only callers on this machine are served; no silo is known at your address")
	}
	if !localHost(r.Host) {
		return Fault(events.Forbidden, "the Host header must be localhost or an address: a name could be any web page's")
	}
	// A browser sends this type to another site only after asking, so that a web
	// page cannot act as a silo on the machine that it is shown on.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &Error{Status: http.StatusUnsupportedMediaType, Reason: events.RequestInvalid, Message: "Content-Type must be application/json"}
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := decoder.Decode(req); err != nil {
		return bodyFault(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Fault(events.RequestInvalid, "the body has more than one JSON value")
	}
	if len(req.User) > maxUserID || !userID.MatchString(req.User) {
		return Fault(events.RequestInvalid, "user_id must match "+userID.String()+" and have at most "+strconv.Itoa(maxUserID)+" characters")
	}
	return nil
}

func bodyFault(err error) error {
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &large):
		return &Error{Status: http.StatusRequestEntityTooLarge, Reason: events.RequestInvalid, Message: "the body is larger than " + strconv.Itoa(maxBody) + " bytes"}
	case errors.As(err, &kind) && kind.Field == "":
		return Fault(events.RequestInvalid, "the body must be a JSON object")
	case errors.As(err, &kind):
		return Fault(events.RequestInvalid, kind.Field+" must not be a JSON "+kind.Value)
	case errors.Is(err, io.EOF):
		return Fault(events.RequestInvalid, "the body is empty; it must be a JSON object")
	default:
		return Fault(events.RequestInvalid, "the body is not JSON: "+err.Error())
	}
}

func (r *podRequest) checkCreate() error {
	switch {
	case r.URL == "":
		return Fault(events.RequestInvalid, "yaml_url is missing")
	case len(r.URL) > maxURL:
		return Fault(events.RequestInvalid, "yaml_url is longer than "+strconv.Itoa(maxURL)+" bytes")
	}
	count := 0
	for _, variables := range r.Settings {
		count += len(variables)
	}
	if count > maxSettings || len(r.Settings) > maxSettings {
		return Fault(events.SettingsInvalid, "settings has more than "+strconv.Itoa(maxSettings)+" variables")
	}
	return nil
}

// localHost says whether a Host header is localhost or an address. A web page
// whose own name is made to point to this machine sends that name (DNS rebinding).
func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// caller is the address that a request came from.
func caller(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// failed answers a failure with the field at its zero value and the error.
func (h *Handler) failed(r *http.Request, err error, body map[string]any) (int, any) {
	e := asError(err)
	if e.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.Log.Warn().Err(err).Str("endpoint", r.URL.Path).Int("status", e.Status).Msg("Request failed")
	}
	body["error"] = errorBody{Code: string(e.Reason), Message: e.Message}
	return e.Status, body
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // A client that has gone away cannot be told.
}
