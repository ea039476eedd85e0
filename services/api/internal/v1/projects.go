package v1

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/api/internal/access"
)

// Project is a project as people and programs see it: what the log says of its pod, and what the
// database knows of it.
type Project struct {
	ID       string         `json:"project_id" jsonschema:"the id of the project"`
	Event    string         `json:"event,omitempty" jsonschema:"the newest thing that happened to its pod; missing where the log knows of none"`
	Reason   string         `json:"reason,omitempty" jsonschema:"why the pod waits, failed, ended or was deleted"`
	Message  string         `json:"message,omitempty" jsonschema:"the reason in words"`
	IdleStop *time.Time     `json:"idle_stop_at,omitempty" jsonschema:"when it will be stopped unless somebody uses it; missing while that is not near"`
	Licenses []PodLicense   `json:"licenses,omitempty" jsonschema:"what became of each license when the pod was made, or last"`
	Pod      *Pod           `json:"pod,omitempty" jsonschema:"its pod; missing where it has none"`
	Start    *ProjectStart  `json:"last_start,omitempty" jsonschema:"how its pod was made last"`
	Database ProjectDetails `json:"database" jsonschema:"what the database knows of it"`
}

// ProjectStart is how a project's pod was made.
type ProjectStart struct {
	Generation  string          `json:"generation" jsonschema:"which pod of its name"`
	At          time.Time       `json:"at" jsonschema:"when the licenses were applied"`
	Quota       json.RawMessage `json:"quota,omitempty" jsonschema:"what was computed, an object, without patches"`
	Explanation json.RawMessage `json:"explanation,omitempty" jsonschema:"what set each field that differs from the template, without values of variables"`
	Settings    string          `json:"settings_digest,omitempty" jsonschema:"the SHA-256 sum of the settings"`
	Template    string          `json:"template_digest,omitempty" jsonschema:"the SHA-256 sum of the template"`
	Made        string          `json:"pod_digest,omitempty" jsonschema:"the SHA-256 sum of the pod"`
}

// ProjectDetails is what the database knows of a project, or why that cannot be told.
type ProjectDetails struct {
	Unavailable string        `json:"unavailable,omitempty" jsonschema:"why the database cannot be asked now; the rest is missing then"`
	Project     *wire.Project `json:"project,omitempty" jsonschema:"the project; missing where the database does not know it"`
}

// StartProject asks for the pod of a project.
type StartProject struct {
	Caller  access.Caller
	Request events.ProjectRequest
	// Again says that a pod that runs is to be replaced.
	Again bool
	// Key is the Idempotency-Key, empty for none; Body is the hash of what is asked for.
	Key, Body string
}

// Started is what a start has led to.
type Started struct {
	// Entry is the pod's newest record.
	Entry Entry
	// Created says that the pod was made for the request, Following that it is deleted and
	// another one follows. With neither it was there.
	Created, Following bool
	// Command is the id of the command that the request led to.
	Command string
}

// Projects starts and stops projects.
type Projects interface {
	// Start starts a project; a failed one names pod and command as far as they are known.
	Start(ctx context.Context, s StartProject) (Started, error)
	// AwaitStart waits until the pod that a start has led to is ready, and returns its record then;
	// one that never will be is a fault with its reason.
	AwaitStart(ctx context.Context, s Started) (Entry, error)
	// Project returns the newest record of a project's pod, the zero Entry for none, and the one with
	// which it was licensed last.
	Project(ctx context.Context, id string) (newest, licensed Entry, err error)
}

// Asks asks the licensers, which know the database. A fault that they tell is a [*Fault].
type Asks interface {
	Ask(ctx context.Context, method string, params, result any) error
}

// detailsTime is how long the database's part of a project is waited for.
const detailsTime = 5 * time.Second

// projectID returns the project of a request, whose caller may manage it.
func (h *Handler) projectID(x *exchange) (string, error) {
	if !x.caller.Projects {
		return "", &Fault{
			Reason: events.Forbidden, Message: "only administrators, and silos with projects: true in the site's configuration, may manage projects",
		}
	}
	id, err := idOf(x, "id")
	if err != nil {
		return "", err
	}
	x.user, x.pod = events.ProjectUser(id), events.ProjectPod(id)
	return id, h.Guard.User(x.caller, x.user)
}

// idOf returns the UUID that a parameter is, in lower case.
func idOf(x *exchange, parameter string) (string, error) {
	id := strings.ToLower(x.params[parameter])
	if !events.ProjectID(id) {
		return "", invalid(parameter + " must be a UUID, like " + exampleID)
	}
	return id, nil
}

func (h *Handler) startProject(x *exchange) (answer, error) {
	id, err := h.projectID(x)
	if err != nil {
		return answer{}, err
	}
	var body startBody
	if x.r.ContentLength != 0 {
		if err := readLimited(x.w, x.r, maxStart, &body); err != nil {
			return answer{}, err
		}
	}
	if err := body.check(); err != nil {
		return answer{}, err
	}
	sum, err := hashOf(body)
	if err != nil {
		return answer{}, err
	}
	return h.bringUp(x, StartProject{Caller: x.caller, Body: sum, Request: body.request(id)})
}

func (h *Handler) restartProject(x *exchange) (answer, error) {
	id, err := h.projectID(x)
	if err != nil {
		return answer{}, err
	}
	sum, err := hashOf("restart")
	if err != nil {
		return answer{}, err
	}
	return h.bringUp(x, StartProject{
		Caller: x.caller, Body: sum, Again: true, Request: events.ProjectRequest{ID: id, Cause: events.CauseAsked},
	})
}

// bringUp starts or restarts, and waits if it is asked to.
func (h *Handler) bringUp(x *exchange, s StartProject) (answer, error) {
	var err error
	if s.Key, err = keyOf(x.r.Header); err != nil {
		return answer{}, err
	}
	defer h.wait(x)()
	started, err := h.Projects.Start(x.r.Context(), s)
	x.command = started.Command
	if err != nil {
		return answer{}, ofPod(err, started.Entry.Pod)
	}
	e, status := started.Entry, http.StatusOK
	switch {
	case started.Created:
		status = http.StatusCreated
	case started.Following:
		status = http.StatusAccepted
	}
	if x.params["wait"] == "ready" {
		h.begins(x)
		if e, err = h.Projects.AwaitStart(x.r.Context(), started); err != nil {
			return answer{}, ofPod(err, x.pod)
		}
		if started.Following {
			status = http.StatusCreated
		}
	}
	return answer{status: status, body: podOf(e, h.IngressDomain), location: podPath(e)}, nil
}

// tellTime is how long a stop waits for the licenser to hear of it.
const tellTime = 2 * time.Second

func (h *Handler) stopProject(x *exchange) (answer, error) {
	id, err := h.projectID(x)
	if err != nil {
		return answer{}, err
	}
	// A project that is to run always, and waits for its next start, has no pod that could
	// tell. The log tells of a pod that is there, also while the database is away.
	ctx, cancel := context.WithTimeout(x.r.Context(), tellTime)
	defer cancel()
	told := h.Asks.Ask(ctx, wire.MethodStop, wire.ProjectRef{ID: id}, nil)
	a, err := h.removePod(x)
	if f, ok := errors.AsType[*Fault](err); ok && f.Reason == events.NotFound {
		return answer{status: http.StatusNoContent}, told
	}
	return a, err
}

func (h *Handler) projectActivity(x *exchange) (answer, error) {
	id, err := h.projectID(x)
	if err != nil {
		return answer{}, err
	}
	if err := h.Asks.Ask(x.r.Context(), wire.MethodActivity, wire.ProjectRef{ID: id}, nil); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func (h *Handler) getProject(x *exchange) (answer, error) {
	id, err := h.projectID(x)
	if err != nil {
		return answer{}, err
	}
	newest, licensed, err := h.Projects.Project(x.r.Context(), id)
	if err != nil {
		return answer{}, err
	}
	details, err := h.details(x.r.Context(), id)
	if err != nil && newest.Event == "" {
		return answer{}, err
	}
	if err != nil {
		f := faultOf(err)
		if details.Unavailable = f.Message; f.Reason == events.ProjectUnknown || f.Reason == events.NotFound {
			details.Unavailable = ""
		}
	}
	return answer{status: http.StatusOK, body: projectOf(id, newest, licensed, details, h.IngressDomain)}, nil
}

// details asks for what the database knows of a project.
func (h *Handler) details(ctx context.Context, id string) (ProjectDetails, error) {
	ctx, cancel := context.WithTimeout(ctx, detailsTime)
	defer cancel()
	var known wire.Project
	if err := h.Asks.Ask(ctx, wire.MethodProject, wire.ProjectRef{ID: id}, &known); err != nil {
		return ProjectDetails{}, err
	}
	if known.Licenses == nil {
		known.Licenses = []wire.LicenseStatus{}
	}
	return ProjectDetails{Project: &known}, nil
}

// projectOf is what is shown of a project.
func projectOf(id string, newest, licensed Entry, details ProjectDetails, domain string) Project {
	p := Project{
		ID: id, Event: string(newest.Event), Reason: string(newest.Reason), Message: newest.Message, IdleStop: timeOf(newest.IdleStopAt), Database: details,
	}
	if newest.Event == "" {
		return p
	}
	shown := podOf(newest, domain)
	p.Licenses = shown.Licenses
	if newest.Event != events.Gone {
		p.Pod = &shown
	}
	if how := licensed.Licensing; how != nil {
		p.Start = &ProjectStart{
			Generation: licensed.Generation, At: licensed.Time.UTC(), Quota: how.Quota, Explanation: how.Explanation,
			Settings: how.SettingsDigest, Template: how.TemplateDigest, Made: how.PodDigest,
		}
	}
	return p
}
