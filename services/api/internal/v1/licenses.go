package v1

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/api/internal/access"
)

const (
	// maxLicense and maxPreview are how large a license, and a request with licenses and a
	// template, may be, in bytes.
	maxLicense = 256 << 10
	maxPreview = 768 << 10
	// maxPast is how far back a replay may go when it begins; it may go on for an hour.
	maxPast = 90 * 24 * time.Hour
	// maxSet is how many licenses a preview may be asked for with.
	maxSet = 200
	// noRevision stands for: there must be no such license yet; anyRevision for: there must be one.
	noRevision  = "none"
	anyRevision = "any"
)

// admin refuses whoever is no administrator: licenses and previews are of the whole site.
func admin(x *exchange) error {
	switch {
	case x.caller.Admin:
		return nil
	case x.r.Header.Get("Authorization") == "":
		return &Fault{Reason: events.Unauthorized, Message: "this is for administrators: Authorization: Bearer TOKEN, where the token is that of adminTokenHash"}
	default:
		return &Fault{Reason: events.Forbidden, Message: "this is for administrators; your token is another's"}
	}
}

// actor is who asks, for the log of who carries it out.
func actor(x *exchange) string {
	text := "administrator at " + x.caller.Address.String() + ", request " + x.record.Request
	if x.caller.Silo.Name != "" {
		text += ", silo " + x.caller.Silo.Name
	}
	return text
}

// licenseID returns the license that an administrator's request is about.
func licenseID(x *exchange) (string, error) {
	if err := admin(x); err != nil {
		return "", err
	}
	id, err := idOf(x, "id")
	x.object = id
	return id, err
}

func (h *Handler) listLicenses(x *exchange) (answer, error) {
	if err := admin(x); err != nil {
		return answer{}, err
	}
	q := wire.ListLicenses{After: strings.ToLower(x.params["page_token"]), Limit: limitOf(x.params)}
	if q.After != "" && !events.ProjectID(q.After) {
		return answer{}, errPageToken
	}
	var list wire.LicenseList
	if err := h.Asks.Ask(x.r.Context(), wire.MethodLicenses, q, &list); err != nil {
		return answer{}, err
	}
	if list.Licenses == nil {
		list.Licenses = []wire.License{}
	}
	return answer{status: http.StatusOK, body: list}, nil
}

var errPageToken = invalid("page_token is not one that this service has given: use next of the page before as it is")

// limitOf is the limit of a page, which has been checked.
func limitOf(params map[string]string) int {
	if n, err := strconv.Atoi(params["limit"]); err == nil {
		return n
	}
	return defaultPage
}

func (h *Handler) getLicense(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	var l wire.License
	if err := h.Asks.Ask(x.r.Context(), wire.MethodLicense, wire.LicenseRef{ID: id}, &l); err != nil {
		return answer{}, err
	}
	setRevision(x, l)
	return answer{status: http.StatusOK, body: l}, nil
}

func setRevision(x *exchange, l wire.License) {
	if l.Revision != "" {
		x.w.Header().Set("ETag", strconv.QuoteToASCII(l.Revision))
	}
}

func (h *Handler) putLicense(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	var put wire.PutLicense
	if put.Revision, err = revisionOf(x.r.Header); err != nil {
		return answer{}, err
	}
	if err := readLimited(x.w, x.r, maxLicense, &put.License); err != nil {
		return answer{}, err
	}
	if given := strings.ToLower(put.License.ID); given != "" && given != id {
		return answer{}, invalid("id is that of another license than the URL: leave it out")
	}
	put.License.ID = id
	saved, err := h.saveLicense(x, put)
	if err != nil {
		return answer{}, err
	}
	if !x.record.DryRun {
		setRevision(x, saved)
	}
	return answer{status: http.StatusOK, body: saved}, nil
}

// revisionOf reads what a save is conditional on, empty for nothing.
func revisionOf(header http.Header) (string, error) {
	match, none := header.Values("If-Match"), header.Values("If-None-Match")
	switch {
	case len(match)+len(none) == 0:
		return "", nil
	case len(match)+len(none) > 1:
		return "", invalid("send one of If-Match and If-None-Match, once")
	case len(none) == 1 && none[0] == "*":
		return noRevision, nil
	case len(none) == 1:
		return "", invalid("If-None-Match must be *: the license must be new")
	case match[0] == "*":
		return anyRevision, nil
	}
	const most = 128
	text := match[0]
	if len(text) < 3 || len(text) > most || text[0] != '"' || text[len(text)-1] != '"' || strings.ContainsAny(text[1:len(text)-1], `"\`) {
		return "", invalid(`If-Match must be the ETag of the license as it was read, like "d41d8cd9", or * for any`)
	}
	return text[1 : len(text)-1], nil
}

// saveLicense saves a license, or tries to with dry_run, and returns it as it is then.
func (h *Handler) saveLicense(x *exchange, put wire.PutLicense) (saved wire.License, err error) {
	if err := checkStorable(put.License); err != nil {
		return saved, err
	}
	put.Actor, put.DryRun = actor(x), x.params["dry_run"] == "true"
	x.record.DryRun = put.DryRun
	if err := h.Asks.Ask(x.r.Context(), wire.MethodPut, put, &saved); err != nil {
		f := faultOf(err)
		switch {
		case f.Reason == events.Conflict && put.Revision != "":
			f.Status, f.Message = http.StatusPreconditionFailed, unmet(put.Revision, put.License.ID)
		case f.Reason == events.Unavailable && put.Revision != "" && put.Revision != anyRevision && !put.DryRun:
			// The same again would be refused where it was saved; so it is no 503, which promises that nothing was done.
			f.Status = http.StatusGatewayTimeout
			f.Message += "; it is not known whether the license was saved: look before you ask again"
		default:
			return saved, err
		}
		return saved, &f
	}
	return saved, nil
}

// unmet says which condition of a request about a license is not met, and what to do.
func unmet(revision, id string) string {
	switch revision {
	case noRevision:
		return "there is a license " + id + " already: send its ETag as If-Match to change it"
	case anyRevision:
		return "there is no license " + id + ", and If-Match: * changes one that is there: leave it out to make the license"
	}
	return "the license " + id + " is not as it was when it had the ETag of If-Match, or is gone: read it again, and send the ETag that it has then"
}

// checkStorable refuses what of a license no database can keep.
func checkStorable(l wire.License) error {
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"quota", l.Quota}, {"upgrades", l.Upgrades}} {
		if wrong := unstorable(part.text); wrong != "" {
			return invalid(part.name + " has " + wrong + ", which cannot be kept: leave it out")
		}
	}
	return nil
}

func (h *Handler) deleteLicense(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	ref := wire.LicenseRef{ID: id, Actor: actor(x)}
	if ref.Revision, err = revisionOf(x.r.Header); err != nil {
		return answer{}, err
	}
	switch ref.Revision {
	case noRevision:
		return answer{}, invalid("If-None-Match is for saving a license: send If-Match, or neither")
	case anyRevision:
		ref.Revision = "" // It is looked for anyway.
	}
	if err := h.Asks.Ask(x.r.Context(), wire.MethodDelete, ref, nil); err != nil {
		f := faultOf(err)
		if f.Reason == events.Conflict && ref.Revision != "" {
			f.Status, f.Message = http.StatusPreconditionFailed, unmet(ref.Revision, id)
			return answer{}, &f
		}
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func (h *Handler) listSeats(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	var list wire.SeatList
	if err := h.Asks.Ask(x.r.Context(), wire.MethodSeats, wire.LicenseRef{ID: id}, &list); err != nil {
		return answer{}, err
	}
	if list.Seats == nil {
		list.Seats = []wire.Seat{}
	}
	return answer{status: http.StatusOK, body: list}, nil
}

func (h *Handler) listUsage(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	q := wire.UsageQuery{ID: id, After: x.params["page_token"], Limit: limitOf(x.params)}
	if text := x.params["since"]; text != "" {
		if q.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return answer{}, invalid("since must be a time, like 2026-01-02T15:04:05Z")
		}
	}
	var list wire.UsageList
	if err := h.Asks.Ask(x.r.Context(), wire.MethodUsage, q, &list); err != nil {
		return answer{}, err
	}
	if list.Usage == nil {
		list.Usage = []wire.Usage{}
	}
	return answer{status: http.StatusOK, body: list}, nil
}

func (h *Handler) listAttachments(x *exchange) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	q := wire.AttachedQuery{ID: id, After: x.params["page_token"], Limit: limitOf(x.params)}
	var list wire.AttachedList
	if err := h.Asks.Ask(x.r.Context(), wire.MethodAttached, q, &list); err != nil {
		return answer{}, err
	}
	if list.Attached == nil {
		list.Attached = []wire.Attached{}
	}
	return answer{status: http.StatusOK, body: list}, nil
}

func (h *Handler) attachProject(x *exchange) (answer, error) { return h.attach(x, wire.MethodAttach) }

func (h *Handler) detachProject(x *exchange) (answer, error) { return h.attach(x, wire.MethodDetach) }

func (h *Handler) attachUser(x *exchange) (answer, error) { return h.attach(x, wire.MethodAttach) }

func (h *Handler) detachUser(x *exchange) (answer, error) { return h.attach(x, wire.MethodDetach) }

// attach has a project, or a user's pods, use a license, or not any more.
func (h *Handler) attach(x *exchange, method string) (answer, error) {
	id, err := licenseID(x)
	if err != nil {
		return answer{}, err
	}
	a := wire.Attachment{License: id, Actor: actor(x)}
	if text, ok := x.params["user"]; ok {
		if !access.IsUser(text) {
			return answer{}, invalid("user must be a user id, like alice@example.org")
		}
		a.User, x.user = text, text
	} else {
		if a.Project, err = idOf(x, "project"); err != nil {
			return answer{}, err
		}
		x.user = events.ProjectUser(a.Project)
	}
	if err := h.Asks.Ask(x.r.Context(), method, a, nil); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func (h *Handler) preview(x *exchange) (answer, error) {
	if err := admin(x); err != nil {
		return answer{}, err
	}
	var q wire.PreviewQuestion
	if err := readLimited(x.w, x.r, maxPreview, &q.PreviewRequest); err != nil {
		return answer{}, err
	}
	if err := checkPreview(&q.PreviewRequest); err != nil {
		return answer{}, err
	}
	if q.User != "" {
		silo, known := h.Guard.Silo(x.caller, cmp.Or(q.Silo, x.caller.Silo.Name))
		if !known && q.Silo != "" {
			return answer{}, invalid("silo " + short(q.Silo) + " is none of this site: write it as in silos[].name, or leave it out")
		}
		q.For = wire.Silo(silo)
	}
	x.manifest, x.user = q.ManifestURL, q.User
	if q.Project != "" {
		x.user = events.ProjectUser(q.Project)
	}
	var p wire.Preview
	if err := h.askLong(x, wire.MethodPreview, q, &p); err != nil {
		return answer{}, err
	}
	if p.Licenses == nil {
		p.Licenses = []wire.LicenseStatus{}
	}
	return answer{status: http.StatusOK, body: p}, nil
}

// checkPreview refuses what cannot be a preview, and writes ids in lower case.
func checkPreview(q *wire.PreviewRequest) error {
	q.Project = strings.ToLower(q.Project)
	switch {
	case (q.Project == "") == (q.User == ""):
		return invalid("set one of project_id and user_id")
	case q.Project != "" && !events.ProjectID(q.Project):
		return invalid("project_id must be a UUID, like " + exampleID)
	case q.Project != "" && (q.ManifestURL != "" || len(q.Settings) > 0 || q.Silo != ""):
		return invalid("manifest_url, settings and silo are for the pod of a user; leave them out")
	case q.User != "" && !access.IsUser(q.User):
		return invalid("user_id must be a user id, like alice@example.org")
	case q.User != "" && q.ManifestURL == "":
		return invalid("manifest_url is missing")
	case len(q.ManifestURL) > maxURL:
		return invalid("manifest_url is longer than " + strconv.Itoa(maxURL) + " bytes")
	case q.User != "" && (q.Image != "" || q.Tag != "" || len(q.Template) > 0):
		return invalid("image, tag and template are for the pod of a project; leave them out")
	case len(q.Licenses) > maxSet:
		return invalid("licenses has more than " + strconv.Itoa(maxSet) + " licenses")
	}
	if err := checkReference(q.Image, q.Tag); err != nil {
		return err
	}
	for i := range q.Licenses {
		if err := checkID(&q.Licenses[i], "licenses["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return checkChange(q.Change, q.Template)
}

// checkID refuses a license without a usable id.
func checkID(l *wire.License, where string) error {
	if l.ID = strings.ToLower(l.ID); !events.ProjectID(l.ID) {
		return invalid(where + ".id must be a UUID, like " + exampleID)
	}
	return nil
}

func checkChange(change *wire.License, template json.RawMessage) error {
	if text := strings.TrimSpace(string(template)); text != "" && !strings.HasPrefix(text, "{") {
		return invalid("template must be a JSON object: a Pod")
	}
	if change == nil {
		return nil
	}
	return checkID(change, "change")
}

func (h *Handler) replay(x *exchange) (answer, error) {
	if err := admin(x); err != nil {
		return answer{}, err
	}
	var q wire.ReplayRequest
	if err := readLimited(x.w, x.r, maxPreview, &q); err != nil {
		return answer{}, err
	}
	switch {
	case q.Since.IsZero():
		return answer{}, invalid("since is missing: a time, like 2026-01-02T15:04:05Z")
	case time.Since(q.Since) > maxPast+time.Hour:
		return answer{}, invalid("since is more than " + strconv.Itoa(int(maxPast/(24*time.Hour))) + " days ago, which is the most: write a later time")
	case q.Change == nil && len(q.Template) == 0:
		return answer{}, invalid("set change or template: what is to be different")
	}
	if err := checkChange(q.Change, q.Template); err != nil {
		return answer{}, err
	}
	if q.Change != nil {
		x.object = q.Change.ID
	}
	var part wire.Replay
	if err := h.askLong(x, wire.MethodReplay, q, &part); err != nil {
		return answer{}, err
	}
	if part.Different == nil {
		part.Different = []wire.Replayed{}
	}
	return answer{status: http.StatusOK, body: part}, nil
}

// askLong asks for what may take as long as a question may.
func (h *Handler) askLong(x *exchange, method string, params, result any) error {
	defer h.wait(x)()
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.draining(), func() { cancel(errStopping) })()
	err := h.Asks.Ask(ctx, method, params, result)
	if context.Cause(ctx) == errStopping { //nolint:errorlint // It is the very cause.
		return errStopping
	}
	return err
}

var errStopping = &Fault{Reason: events.Unavailable, Message: "this replica is stopping; ask again"}

// draining ends when the replica begins to stop; never where nobody says so.
func (h *Handler) draining() context.Context {
	if h.Draining == nil {
		return context.Background()
	}
	return h.Draining
}
