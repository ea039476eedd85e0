package v1

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

func (h *Handler) createLicense(x *exchange) (answer, error) {
	if err := admin(x); err != nil {
		return answer{}, err
	}
	key, err := keyOf(x.r.Header)
	if err != nil {
		return answer{}, err
	}
	var l wire.License
	if err := readLimited(x.w, x.r, maxLicense, &l); err != nil {
		return answer{}, err
	}
	if l.ID = strings.ToLower(l.ID); l.ID != "" && !events.ProjectID(l.ID) {
		return answer{}, invalid("id must be a UUID, like " + exampleID + ", or missing: then the service makes one")
	}
	if key != "" && x.params["dry_run"] != "true" {
		return h.createOnce(x, l, key)
	}
	return h.makeLicense(x, l)
}

// createOnce is createLicense for a key: what an earlier request with it has made is the answer.
func (h *Handler) createOnce(x *exchange, l wire.License, key string) (answer, error) {
	sum, err := hashOf(l)
	if err != nil {
		return answer{}, err
	}
	mine := Reservation{Body: sum, Command: cmp.Or(l.ID, newID())}
	given := l.ID != "" // Else nobody but this key makes a license of the id.
	if given {
		mine.Request = x.record.Request
	}
	held, err := h.Once.Reserve(x.r.Context(), x.caller, key, mine)
	if err != nil {
		return answer{}, err
	}
	l.ID = held.Command
	if held.Made {
		return h.showMade(x, l.ID)
	}
	// Whether another request with the key may have made it, of which nobody knows how it ended. An older version of this service
	// names no request, and is answered as it answered: where the client has chosen the id, the license may be another's.
	other := !given || held.Request != "" && !held.First && !held.Refused
	a, err := h.makeLicense(x, l)
	if given && held.First && err != nil && faultOf(err).Reason != events.Unavailable {
		h.note(x, l.ID, "An Idempotency-Key whose license could not be made may be answered with another's of that id", func(ctx context.Context) error {
			noted, err := h.Once.Refused(ctx, held.Reservation)
			other = err == nil && !noted
			return err
		})
	}
	if err != nil && other && faultOf(err).Reason == events.Conflict {
		a, err = h.showMade(x, l.ID)
	}
	if err != nil {
		return answer{}, err
	}
	h.note(x, l.ID, "An Idempotency-Key whose license is deleted within the hour makes it again", func(ctx context.Context) error {
		return h.Once.Made(ctx, x.caller, key, held.Reservation)
	})
	return a, nil
}

// note keeps what has become of a key, also for a client that has gone away. A failure harms nobody now; why says whom it may harm.
func (h *Handler) note(x *exchange, license, why string, keep func(context.Context) error) {
	if err := keep(context.WithoutCancel(x.r.Context())); err != nil {
		h.Log.Warn().Err(err).Str("license_id", license).Msg(why)
	}
}

// showMade is the answer with a license that an earlier request has made, as it is now.
func (h *Handler) showMade(x *exchange, id string) (answer, error) {
	x.object = id
	var there wire.License
	err := h.Asks.Ask(x.r.Context(), wire.MethodLicense, wire.LicenseRef{ID: id}, &there)
	switch {
	case err != nil && faultOf(err).Reason == events.NotFound:
		return answer{}, errLicenseGone
	case err != nil:
		return answer{}, err
	}
	return madeLicense(x, there), nil
}

// errLicenseGone is the answer to a key whose license has come and gone.
var errLicenseGone = &Fault{
	Status: http.StatusGone, Reason: events.NotFound,
	Message: "the license that was made for this request is gone; use another Idempotency-Key for a new one",
}

// makeLicense saves a license that must be new. One without an id gets a random one.
func (h *Handler) makeLicense(x *exchange, l wire.License) (answer, error) {
	l.ID = cmp.Or(l.ID, newID())
	x.object = l.ID
	saved, err := h.saveLicense(x, wire.PutLicense{License: l, Revision: noRevision})
	switch f := faultOf(err); {
	case err != nil && f.Status == http.StatusPreconditionFailed:
		f.Status, f.Message = http.StatusConflict, "there is a license "+l.ID+" already: change it with PUT, or leave id out"
		return answer{}, &f
	case err != nil:
		return answer{}, err
	case x.params["dry_run"] == "true":
		return answer{status: http.StatusOK, body: saved}, nil
	}
	return madeLicense(x, saved), nil
}

// madeLicense is the answer with a license that a request has made.
func madeLicense(x *exchange, l wire.License) answer {
	setRevision(x, l)
	return answer{status: http.StatusCreated, body: l, location: "/v1/licenses/" + l.ID}
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never fails.
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
