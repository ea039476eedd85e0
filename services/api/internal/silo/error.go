package silo

import (
	"errors"
	"net/http"

	"berth/pkg/events"
)

// Error is a failure that the caller is told about. Everything else is an
// internal error, whose text is for the operator.
type Error struct {
	// Status is the HTTP status; 0 means the usual one of the reason.
	Status  int
	Reason  events.Reason
	Message string
}

// Error returns reason and message.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// Fault returns an [Error] with the usual status of its reason.
func Fault(reason events.Reason, message string) error {
	return &Error{Reason: reason, Message: message}
}

// asError is the one place where a failure becomes a status.
func asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{
			Status: http.StatusServiceUnavailable, Reason: events.Unavailable, Message: "the service cannot answer now; try again",
		}
	}
	if e.Status != 0 {
		return e
	}
	return &Error{Status: statusOf(e.Reason), Reason: e.Reason, Message: e.Message}
}

func statusOf(reason events.Reason) int {
	switch reason {
	case events.RequestInvalid:
		return http.StatusBadRequest
	case events.Forbidden, events.ManifestForbidden:
		return http.StatusForbidden
	case events.NotFound:
		return http.StatusNotFound
	case events.ManifestInvalid, events.SettingsInvalid, events.PodRejected, events.PatchInvalid:
		return http.StatusUnprocessableEntity
	case events.ManifestUnreachable:
		return http.StatusBadGateway
	case events.NameExhausted, events.LicenseExhausted, events.QuotaExceeded, events.DeletedOutside:
		return http.StatusConflict
	case events.Unavailable, events.Expired:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
