package silo

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// retryAfter is what a client is told to wait before it asks again.
const retryAfter = time.Second

// Error is a failure that the caller is told about. Everything else is an
// internal error, whose text is for the operator.
type Error struct {
	// Status is the HTTP status; 0 means the usual one of the reason.
	Status  int
	Reason  events.Reason
	Message string
	// RetryAfter is when to ask again; 0 means a second where that may help at all.
	RetryAfter time.Duration
}

// Error returns reason and message.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// Fault returns an [Error] with the usual status of its reason.
func Fault(reason events.Reason, message string) error {
	return &Error{Reason: reason, Message: message}
}

// ErrNoPod is the answer for what does not exist and for what is another
// user's: the two must not differ.
var ErrNoPod = Fault(events.NotFound, "you have no such pod")

// asError is the one place where a failure becomes a status.
func asError(err error) *Error {
	if denial, ok := errors.AsType[*access.Denial](err); ok {
		return &Error{Status: denial.Status, Reason: denial.Reason, Message: denial.Message, RetryAfter: denial.RetryAfter}
	}
	fault, ok := errors.AsType[*Error](err)
	if !ok {
		fault = &Error{Reason: events.Unavailable, Message: "the service cannot answer now; try again"}
	}
	e := *fault
	if e.Status == 0 {
		e.Status = statusOf(e.Reason)
	}
	if e.Status == http.StatusServiceUnavailable && e.RetryAfter == 0 {
		e.RetryAfter = retryAfter
	}
	return &e
}

// head sets the headers that go with the failure.
func (e *Error) head(h http.Header) {
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
}

// errorBody is the member error of an answer.
type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// body returns the answer: the failure, besides what the endpoint answers otherwise at its zero value.
func (e *Error) body(zero map[string]any) map[string]any {
	body := map[string]any{"error": errorBody{Code: string(e.Reason), Message: e.Message}}
	maps.Copy(body, zero)
	return body
}

func statusOf(reason events.Reason) int {
	switch reason {
	case events.RequestInvalid:
		return http.StatusBadRequest
	case events.Unauthorized:
		return http.StatusUnauthorized
	case events.Forbidden, events.ManifestForbidden:
		return http.StatusForbidden
	case events.NotFound:
		return http.StatusNotFound
	case events.ManifestInvalid, events.SettingsInvalid, events.PodRejected, events.PatchInvalid:
		return http.StatusUnprocessableEntity
	case events.RateLimited:
		return http.StatusTooManyRequests
	case events.ManifestUnreachable:
		return http.StatusBadGateway
	case events.NameExhausted, events.LicenseExhausted, events.QuotaExceeded, events.DeletedOutside, events.Deleted:
		return http.StatusConflict
	case events.Unavailable, events.Expired:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
