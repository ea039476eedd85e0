package v1

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// Problem is how a request fails: a problem detail (RFC 9457) with the reason as
// an extension.
type Problem struct {
	Type   string `json:"type" jsonschema:"what kind of problem: the reason in the documentation of this service"`
	Title  string `json:"title" jsonschema:"what the reason means"`
	Status int    `json:"status" jsonschema:"the HTTP status"`
	Detail string `json:"detail" jsonschema:"what is wrong this time, and what to do"`
	Reason string `json:"reason" jsonschema:"the reason, for programs; one of the list in the documentation, which may grow"`
	Pod    string `json:"pod_name,omitempty" jsonschema:"the pod that was made for the request, if one was"`
}

// Fault is a failure that the caller is told about. Everything else is an inner
// fault, whose text is for the operator.
type Fault struct { //nolint:errname // A failure of whose making there is no doubt; see access.Denial.
	// Status is the HTTP status; 0 means the usual one of the reason.
	Status int
	Reason events.Reason
	// Message names the fault and the fix.
	Message string
	// Title is what the reason means here; empty for what it usually means.
	Title string
	// Pod is the pod that was made all the same, if one was.
	Pod string
	// RetryAfter is when to ask again; 0 means a second where asking again helps.
	RetryAfter time.Duration
}

// Error returns reason and message.
func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Message }

// invalid is the fault of a request that cannot be understood.
func invalid(message string) *Fault { return &Fault{Reason: events.RequestInvalid, Message: message} }

// errNoPod is the answer for what does not exist and for what is another user's:
// the two must not differ.
var errNoPod = &Fault{Reason: events.NotFound, Message: "you have no such pod"}

// faultOf is the one place where a failure becomes an answer.
func faultOf(err error) Fault {
	var denial *access.Denial
	var f *Fault
	switch {
	case errors.As(err, &denial):
		return Fault{Status: denial.Status, Reason: denial.Reason, Message: denial.Message, RetryAfter: denial.RetryAfter}
	case errors.As(err, &f):
		fault := *f
		if fault.Status == 0 {
			fault.Status = statusOf(fault.Reason)
		}
		return fault
	}
	return Fault{
		Status: http.StatusServiceUnavailable, Reason: events.Unavailable, Message: "the service cannot answer now; try again",
	}
}

// statusOf is the usual status of a reason: 4xx for what the caller, or its
// manifest, has to change; 5xx for what is not in its hands.
func statusOf(reason events.Reason) int {
	switch reason {
	case events.RequestInvalid:
		return http.StatusBadRequest
	case events.Unauthorized:
		return http.StatusUnauthorized
	case events.Forbidden, events.ManifestForbidden:
		return http.StatusForbidden
	case events.NotFound, events.ProjectUnknown:
		return http.StatusNotFound
	case events.NameExhausted, events.LicenseExhausted, events.QuotaExceeded, events.DeletedOutside, events.Deleted,
		events.Conflict, events.AlreadyRunning, events.Idle, events.GaveUp:
		return http.StatusConflict
	case events.ManifestInvalid, events.SettingsInvalid, events.PodRejected, events.PatchInvalid, events.TemplateInvalid, events.LicenseInvalid,
		events.ImagePull, events.ContainerConfig, events.Crashed, events.Completed, events.OOMKilled:
		return http.StatusUnprocessableEntity
	case events.RateLimited:
		return http.StatusTooManyRequests
	case events.ManifestUnreachable, events.StorageFailed:
		return http.StatusBadGateway
	case events.Unavailable, events.Expired:
		return http.StatusServiceUnavailable
	case events.Timeout, events.Unschedulable:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

const (
	problemType = "application/problem+json"
	// docsPath is where the reasons are explained, each at an anchor of its name.
	docsPath = "/v1/docs"
)

// writeProblem answers a failure.
func writeProblem(w http.ResponseWriter, f Fault) {
	header := w.Header()
	if wait := f.RetryAfter; wait > 0 || f.Status == http.StatusServiceUnavailable || f.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second))))
	}
	if f.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="berth"`)
	}
	write(w, f.Status, problemType, Problem{
		Type: docsPath + "#" + string(f.Reason), Title: cmp.Or(f.Title, meaning(f.Reason)), Status: f.Status, Detail: f.Message, Reason: string(f.Reason), Pod: f.Pod,
	})
}

// meaning is what a reason means, for people.
func meaning(reason events.Reason) string {
	for _, info := range events.Reasons() {
		if info.Reason == reason {
			return info.Means
		}
	}
	return string(reason)
}

func write(w http.ResponseWriter, status int, mediaType string, body any) {
	header := w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // A client that has gone away cannot be told.
	}
}
