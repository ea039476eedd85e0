package silo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"berth/pkg/events"
	"berth/pkg/license/jsontext"
	"berth/services/api/internal/access"
)

// The limits of a request that a stranger chooses.
const (
	maxBody     = 256 << 10
	maxPod      = 253
	maxURL      = 2048
	maxSettings = 1000
)

// podRequest is the body of the requests about pods of a user.
type podRequest struct {
	User     string                       `json:"user_id"`
	Pod      string                       `json:"pod_name"`
	URL      string                       `json:"yaml_url"`
	Settings map[string]map[string]string `json:"settings"`
}

// read takes a request's body in and checks what all requests about a user have in common. With an
// error, foreign says that the user is none of the caller's: all else about the request is in order then.
func (h *Handler) read(q *query, check func(podRequest) error) (body podRequest, foreign bool, err error) {
	if !access.IsJSON(q.r) {
		return body, false, errType
	}
	if err := decode(q, &body); err != nil {
		return body, false, err
	}
	if !access.IsUser(body.User) {
		return body, false, Fault(events.RequestInvalid, "user_id must match "+access.UserForm+" and have at most "+strconv.Itoa(access.MaxUser)+" characters")
	}
	q.record.User = body.User
	// A longer name is nobody's.
	q.record.Pod = body.Pod[:min(len(body.Pod), maxPod)]
	if check != nil {
		if err := check(body); err != nil {
			return body, false, err
		}
	}
	if err := h.Guard.User(q.caller, body.User); err != nil {
		denial, denied := errors.AsType[*access.Denial](err)
		return body, denied && denial.Foreign, err
	}
	return body, false, nil
}

var errType = &Error{Status: http.StatusUnsupportedMediaType, Reason: events.RequestInvalid, Message: "Content-Type must be application/json"}

// decode reads the body of a request, one JSON value of bounded size. Members that
// nobody knows are ignored, as the old backend did.
func decode(q *query, into any) error {
	return decodeFrom(q, into, false)
}

// decodeStrictly is decode for a request that must not be misunderstood.
func decodeStrictly(q *query, into any) error {
	return decodeFrom(q, into, true)
}

func decodeFrom(q *query, into any, strictly bool) error {
	text, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	if err != nil {
		return bodyFault(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if strictly {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(into); err != nil {
		return bodyFault(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Fault(events.RequestInvalid, "the body has more than one JSON value")
	}
	if string(bytes.TrimSpace(text)) == "null" { // It decodes into anything, and changes nothing.
		return errNoObject
	}
	if wrong := jsontext.Broken(text); wrong != "" {
		return Fault(events.RequestInvalid, "the body has "+wrong+": leave it out")
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
		return errNoObject
	case errors.As(err, &kind):
		return Fault(events.RequestInvalid, kind.Field+" must not be a JSON "+kind.Value)
	case errors.Is(err, io.EOF):
		return errEmpty
	default:
		return Fault(events.RequestInvalid, "the body is not JSON: "+err.Error())
	}
}

var (
	errEmpty    = Fault(events.RequestInvalid, "the body is empty; it must be a JSON object")
	errNoObject = Fault(events.RequestInvalid, "the body must be a JSON object")
)

func checkCreate(r podRequest) error {
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

// maxAddress is longer than any text of an address.
const maxAddress = 64

// address reads the query of /get_podip_owner.
func address(r *http.Request) (netip.Addr, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	given := query["ip"]
	if err != nil || len(given) != 1 {
		return netip.Addr{}, Fault(events.RequestInvalid, "ip must be given once: ?ip=ADDRESS")
	}
	parsed, err := netip.ParseAddr(given[0])
	if err != nil || len(given[0]) > maxAddress || parsed.Zone() != "" {
		return netip.Addr{}, Fault(events.RequestInvalid, "ip must be an IP address")
	}
	return parsed.Unmap(), nil
}

// dryRun reads what /clean_all_unused is asked for: by the query or by a body, which may be empty.
func dryRun(q *query) (bool, error) {
	query, err := url.ParseQuery(q.r.URL.RawQuery)
	if err != nil {
		return false, Fault(events.RequestInvalid, "the query cannot be read; write ?dry_run=true")
	}
	wanted := false
	for name, given := range query {
		// What is misunderstood here removes things, so a slip is refused.
		if name != "dry_run" || len(given) != 1 {
			return false, Fault(events.RequestInvalid, "the query may have dry_run alone, once")
		}
		if wanted = given[0] == ""; wanted {
			continue // ?dry_run
		}
		if wanted, err = strconv.ParseBool(given[0]); err != nil {
			return false, Fault(events.RequestInvalid, "dry_run must be true or false")
		}
	}
	var body struct {
		DryRun *bool `json:"dry_run"`
	}
	switch err := decodeStrictly(q, &body); {
	case errors.Is(err, errEmpty):
	case err != nil:
		return false, err
	case !access.IsJSON(q.r):
		return false, errType
	case body.DryRun != nil:
		wanted = wanted || *body.DryRun
	}
	return wanted, nil
}
