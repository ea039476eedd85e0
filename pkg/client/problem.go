package client

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Problem is why the service does not do what it was asked: a problem detail
// (RFC 9457).
type Problem struct { //nolint:errname // What RFC 9457 calls it.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Reason is the cause for programs, like NOT_FOUND or IMAGE_PULL. It is empty
	// for an answer that is not the service's own, as that of a proxy.
	Reason string `json:"reason"`
	// Pod is the pod that was made for the request, if one was.
	Pod string `json:"pod_name"`

	// RetryAfter is when the service asks to be asked again; 0 where it does not.
	RetryAfter time.Duration `json:"-"`
}

// Error returns reason and detail.
func (p *Problem) Error() string {
	if p.Reason == "" {
		return fmt.Sprintf("answered %d %s, which is no answer of Berth", p.Status, cmp.Or(http.StatusText(p.Status), "(unknown status)"))
	}
	return p.Reason + ": " + p.Detail
}

// Busy says that the service has done nothing and may be asked again later.
func (p *Problem) Busy() bool {
	return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
}

// passing says that asking again may help: the service is busy, or what stands in
// front of it has not got an answer from it.
func (p *Problem) passing() bool {
	return p.Busy() || p.Reason == "" && (p.Status == http.StatusBadGateway || p.Status == http.StatusGatewayTimeout)
}

// notFound is the reason of [NotFound].
const notFound = "NOT_FOUND"

// NotFound says that an error means: there is no such pod, or it is another's. A URL
// at which there is no such thing as a pod, or no Berth, is answered with 404, too, and is
// not meant.
func NotFound(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound && p.Reason == notFound
}

// Uncertain says that a request may have been carried out all the same: it was sent,
// and the answer to it, or to an earlier attempt of the same request, was lost.
func Uncertain(err error) bool {
	if _, repeated := errors.AsType[*repeatedError](err); repeated {
		return true
	}
	return lost(err)
}

// lost says that an attempt had no answer of the service, and may have reached it.
func lost(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		return !p.Busy() && p.passing()
	}
	return err != nil && !Unsent(err)
}

// problemOf reads the answer to a request that did not succeed.
func problemOf(response *http.Response, body []byte) *Problem {
	p := &Problem{}
	if kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); kind == "application/problem+json" {
		if json.Unmarshal(body, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = response.StatusCode
	p.RetryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
	return p
}

// retryAfter reads the header: seconds or a date
// (https://www.rfc-editor.org/rfc/rfc9110#name-retry-after), never beyond maxWait.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxWait/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(date.Sub(now), 0), maxWait)
	}
	return 0
}

// What may go wrong besides what the service tells.
var (
	// ErrNotSent is wrapped by errors of this side: no token can be read.
	ErrNotSent = errors.New("the request was not sent")
	// ErrNoAnswer is wrapped where the service was not reached, or its answer was lost.
	ErrNoAnswer = errors.New("no answer")
	// ErrForeign is wrapped where what answered is not Berth.
	ErrForeign = errors.New("the answer is not one of Berth")
	// ErrStreamEnded is wrapped where a stream has ended in good order, as when a
	// replica is stopped.
	ErrStreamEnded = errors.New("the stream has ended")
)

// Unsent says that an error means that the request has not reached the service.
func Unsent(err error) bool {
	if errors.Is(err, ErrNotSent) || stranger(err) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	// That of a proxy is the operation on the way to it.
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

// misdirected says that an error is that of a wrong URL, or of certificates: the same
// request will fail in the same way.
func misdirected(err error) bool {
	if host, ok := errors.AsType[*net.DNSError](err); ok {
		return host.IsNotFound
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	// A TLS alert: the other side does not want this one.
	return stranger(err) || ok && op.Op == "remote error"
}

// stranger says that who listens does not speak TLS, or has no certificate that this side
// trusts: it has not been told anything.
func stranger(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted || errors.Is(err, http.ErrSchemeMismatch)
}

// noAnswer is the error of a request without an answer, without its URL.
func noAnswer(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, err)
}

// foreign is the error of an answer that Berth would not give.
func foreign(err error) error { return fmt.Errorf("%w: %w", ErrForeign, err) }
