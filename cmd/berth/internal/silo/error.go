package silo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"berth/pkg/events"
)

// Error is a request that did not succeed.
type Error struct {
	// Status is the HTTP status, 0 where there was no answer.
	Status int
	// Reason and Message are the service's own words; empty where an answer had none.
	Reason  events.Reason
	Message string
	// RetryAfter is how long the service asks to wait, within bounds; 0 where it
	// does not ask.
	RetryAfter time.Duration
	// Err is what went wrong where there was no answer, or none of the service.
	Err error
}

// Error implements error. It names reason and message.
func (e *Error) Error() string {
	switch {
	case e.Reason != "" && e.Message != "":
		return string(e.Reason) + ": " + e.Message
	case e.Reason != "":
		return string(e.Reason)
	case e.Status == 0:
		return fmt.Sprintf("no answer: %v", e.Err)
	case e.Err != nil:
		return fmt.Sprintf("%s: %v", e.status(), e.Err)
	default:
		return e.status()
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) status() string {
	return fmt.Sprintf("answered %d %s", e.Status, cmp.Or(http.StatusText(e.Status), "(unknown status)"))
}

// Refused says that the service has understood the request and will not do it.
// Otherwise it could not be asked, or could not answer.
func (e *Error) Refused() bool {
	return e.Reason != "" && e.Reason != events.Unavailable && e.Reason != events.Expired &&
		e.Status != http.StatusServiceUnavailable && e.Status != http.StatusTooManyRequests
}

// Unsent says that the request has not reached the service.
func (e *Error) Unsent() bool {
	var op *net.OpError
	return e.Status == 0 && errors.As(e.Err, &op) && op.Op == "dial"
}

// busy says that the service has asked to be asked again later. It has done
// nothing then.
func (e *Error) busy() bool {
	return e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests
}

const (
	attempts = 5
	// minWait and maxWait bound what a server can ask for.
	minWait = 200 * time.Millisecond
	maxWait = 30 * time.Second
)

// Wait is how long to wait before the request is made again.
func (e *Error) Wait() time.Duration {
	return min(cmp.Or(e.RetryAfter, time.Second), maxWait)
}

// Retry calls request, again up to four times while the service is busy, after
// the time that it asks for. Before it waits it calls notice. It returns the
// last error, also when ctx ends.
func Retry(ctx context.Context, notice func(err *Error, wait time.Duration), request func() error) error {
	for attempt := 1; ; attempt++ {
		err := request()
		var e *Error
		if !errors.As(err, &e) || !e.busy() || attempt == attempts {
			return err
		}
		notice(e, e.Wait())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(e.Wait()):
		}
	}
}
