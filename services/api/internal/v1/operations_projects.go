package v1

import (
	"net/http"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/license/wire"
	"berth/services/api/internal/access"
)

// exampleID is a UUID as they are written.
const exampleID = "8e03978e-40d5-43e8-bc93-6894a57f9324"

// idParameter is a UUID in the path. It is taken in any case.
func idParameter(name, description string) parameter {
	return parameter{
		name: name, in: "path", required: true, description: description, example: exampleID,
		schema: &jsonschema.Schema{Type: "string", Format: "uuid"},
	}
}

func limitParameter(description string) parameter {
	return parameter{name: "limit", in: "query", description: description, schema: &jsonschema.Schema{
		Type: "integer", Minimum: new(1.0), Maximum: new(float64(maxPage)), Default: []byte(strconv.Itoa(defaultPage)),
	}}
}

func repeatParameter(description string) parameter {
	return parameter{name: "Idempotency-Key", in: "header", example: exampleID, schema: text(maxKey + 2), description: description}
}

func pageParameter() parameter {
	return parameter{name: "page_token", in: "query", description: "The next of the page before.", schema: text(maxPageToken)}
}

func dryRunParameter() parameter {
	return parameter{name: "dry_run", in: "query", description: "Check, and save nothing.", schema: &jsonschema.Schema{Type: "boolean"}}
}

func projectOperations() []operation {
	const (
		who      = "For administrators, and for silos that may manage projects. "
		whichOne = "The id of the project."
	)
	made := []int{
		http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusUnprocessableEntity, http.StatusBadGateway, http.StatusGatewayTimeout,
	}
	ready := waitParameter("ready", "Wait until the pod is ready, for as long as the site lets a create take; one that is deleted first, until the next one is.")
	pod := typeOf[Pod]()
	return []operation{
		{
			method: http.MethodPost, path: "/v1/projects/{id}/start", id: "startProject", summary: "Start a project",
			description: who + "Answers when the pod of the project is on its way; with `wait=ready` when it is ready. A project that runs is left alone. " +
				"One that is being stopped is started when it has stopped; that it cannot be with another image, tag, env or config (409).",
			parameters: []parameter{idParameter("id", whichOne), repeatParameter("Makes the request safe to repeat within an hour."), ready},
			body:       typeOf[startBody](), bare: true,
			answers: []success{
				{status: http.StatusCreated, body: pod, located: true, description: "The pod that has been made, or is being made."},
				{status: http.StatusOK, body: pod, located: true, description: "The pod that was there."},
				{status: http.StatusAccepted, body: pod, located: true, description: "The pod that is being deleted; another one follows."},
			},
			fails: append([]int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}, made...),
			serve: (*Handler).startProject,
		},
		{
			method: http.MethodPost, path: "/v1/projects/{id}/restart", id: "restartProject", summary: "Restart a project",
			description: who + "Answers when it is certain that the pod will go and another one follows; with `wait=ready` when that is ready. " +
				"A project that does not run is started.",
			parameters: []parameter{
				idParameter("id", whichOne), repeatParameter("Makes the request safe to repeat within an hour: the project is restarted once."), ready,
			},
			answers: []success{
				{status: http.StatusAccepted, body: pod, located: true, description: "The pod that is being deleted; another one follows."},
				{status: http.StatusCreated, body: pod, located: true, description: "The pod that has been made, or is being made."},
				{status: http.StatusOK, body: pod, located: true, description: "The pod that this request has led to before."},
			},
			fails: made,
			serve: (*Handler).restartProject,
		},
		{
			method: http.MethodPost, path: "/v1/projects/{id}/stop", id: "stopProject", summary: "Stop a project",
			description: who + "Answers when it is certain that its pod will go, and that none follows of what was asked for before, by whomever; " +
				"with `wait=gone` when nothing of it is left.",
			parameters: []parameter{
				idParameter("id", whichOne), waitParameter("gone", "Wait until the pod is gone, for as long as the site lets a delete take."),
			},
			answers: []success{
				{status: http.StatusAccepted, body: pod, located: true, description: "The pod is being deleted."},
				{status: http.StatusNoContent, description: "The project does not run."},
			},
			fails: []int{http.StatusGatewayTimeout},
			serve: (*Handler).stopProject,
		},
		{
			method: http.MethodGet, path: "/v1/projects/{id}", id: "getProject", summary: "Look at a project",
			description: who + "Its pod, what became of its licenses, how its pod was made, and what the database knows of it.",
			parameters:  []parameter{idParameter("id", whichOne)},
			answers:     []success{{status: http.StatusOK, body: typeOf[Project](), description: "The project."}},
			fails:       []int{http.StatusNotFound},
			serve:       (*Handler).getProject,
		},
		{
			method: http.MethodPost, path: "/v1/projects/{id}/activity", id: "projectActivity", summary: "Say that a project is used",
			description: who + "Its idle timeout begins anew.",
			parameters:  []parameter{idParameter("id", whichOne)},
			answers:     []success{{status: http.StatusNoContent, description: "It is noted."}},
			fails:       []int{http.StatusNotFound},
			serve:       (*Handler).projectActivity,
		},
	}
}

func licenseOperations() []operation {
	const who = "For administrators. "
	license, whichOne := typeOf[wire.License](), idParameter("id", "The id of the license.")
	project := idParameter("project", "The id of the project.")
	user := parameter{
		name: "user", in: "path", required: true, description: "The id of the user.", example: "alice@example.org",
		schema: &jsonschema.Schema{Type: "string", Pattern: access.UserForm, MaxLength: new(access.MaxUser)},
	}
	done := []success{{status: http.StatusNoContent, description: "It is so."}}
	missing := []int{http.StatusNotFound}
	saving := []int{
		http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusGatewayTimeout,
	}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/licenses", id: "listLicenses", summary: "List licenses", description: who + "By id.",
			parameters: []parameter{limitParameter("How many licenses a page has at the most."), pageParameter()},
			answers:    []success{{status: http.StatusOK, body: typeOf[wire.LicenseList](), description: "A page of licenses."}},
			serve:      (*Handler).listLicenses,
		},
		{
			method: http.MethodPost, path: "/v1/licenses", id: "createLicense", summary: "Make a license",
			description: who + "It is checked, and its patch is applied to the template as a trial. Without an id the service makes one.",
			parameters: []parameter{
				repeatParameter("Makes the request safe to repeat: the same key with the same body, within an hour, yields the same license, on any replica. " +
					"With another body it is refused."),
				dryRunParameter(),
			},
			body: license,
			answers: []success{
				{status: http.StatusCreated, body: license, located: true, tagged: true, description: "The license that has been made."},
				{status: http.StatusOK, body: license, description: "The license that would be made, with `dry_run`."},
			},
			fails: append([]int{http.StatusGone}, saving...),
			serve: (*Handler).createLicense,
		},
		{
			method: http.MethodGet, path: "/v1/licenses/{id}", id: "getLicense", summary: "Look at a license", description: who,
			parameters: []parameter{whichOne},
			answers:    []success{{status: http.StatusOK, body: license, tagged: true, description: "The license."}},
			fails:      missing,
			serve:      (*Handler).getLicense,
		},
		{
			method: http.MethodPut, path: "/v1/licenses/{id}", id: "putLicense", summary: "Save a license",
			description: who + "It takes the place of the one that has the id, if there is one. It is checked, and its patch is applied to the template as a trial. " +
				"Projects whose result changes are restarted, some at a time.",
			parameters: []parameter{
				whichOne, dryRunParameter(),
				{
					name: "If-Match", in: "header", schema: text(128), example: `"d41d8cd9"`,
					description: "Save only if the license still has this ETag; * is for any, so that no license is made.",
				},
				{name: "If-None-Match", in: "header", description: "With *: save only if there is no license of this id.", schema: text(128), example: "*"},
			},
			body:    license,
			answers: []success{{status: http.StatusOK, body: license, tagged: true, description: "The license as it is now, or would be with `dry_run`."}},
			fails:   append([]int{http.StatusPreconditionFailed, http.StatusNotFound}, saving...),
			serve:   (*Handler).putLicense,
		},
		{
			method: http.MethodDelete, path: "/v1/licenses/{id}", id: "deleteLicense", summary: "Delete a license",
			description: who + "Projects that use it are restarted without it, some at a time.",
			parameters: []parameter{
				whichOne, {name: "If-Match", in: "header", description: "Delete only if the license still has this ETag.", schema: text(128), example: `"d41d8cd9"`},
			},
			answers: done, fails: []int{http.StatusNotFound, http.StatusPreconditionFailed}, serve: (*Handler).deleteLicense,
		},
		{
			method: http.MethodGet, path: "/v1/licenses/{id}/seats", id: "listSeats", summary: "Who uses a license now", description: who,
			parameters: []parameter{whichOne},
			answers:    []success{{status: http.StatusOK, body: typeOf[wire.SeatList](), description: "The seats."}},
			fails:      missing,
			serve:      (*Handler).listSeats,
		},
		{
			method: http.MethodGet, path: "/v1/licenses/{id}/usage", id: "listUsage", summary: "Who has used a license", description: who + "The newest first.",
			parameters: []parameter{
				whichOne, limitParameter("How many uses a page has at the most."), pageParameter(),
				{name: "since", in: "query", description: "Leave out what ended before.", example: "2026-01-02T15:04:05Z", schema: text(40)},
			},
			answers: []success{{status: http.StatusOK, body: typeOf[wire.UsageList](), description: "A page of uses."}},
			fails:   missing,
			serve:   (*Handler).listUsage,
		},
		{
			method: http.MethodGet, path: "/v1/licenses/{id}/attachments", id: "listAttachments", summary: "What a license is attached to",
			description: who + "Projects by id, then users. One that was deleted may be attached still.",
			parameters:  []parameter{whichOne, limitParameter("How many of them a page has at the most."), pageParameter()},
			answers:     []success{{status: http.StatusOK, body: typeOf[wire.AttachedList](), description: "A page of projects and users."}},
			serve:       (*Handler).listAttachments,
		},
		{
			method: http.MethodPut, path: "/v1/licenses/{id}/projects/{project}", id: "attachProject", summary: "Have a project use a license", description: who,
			parameters: []parameter{whichOne, project}, answers: done, fails: missing, serve: (*Handler).attachProject,
		},
		{
			method: http.MethodDelete, path: "/v1/licenses/{id}/projects/{project}", id: "detachProject", summary: "Have a project not use a license", description: who,
			parameters: []parameter{whichOne, project}, answers: done, fails: missing, serve: (*Handler).detachProject,
		},
		{
			method: http.MethodPut, path: "/v1/licenses/{id}/users/{user}", id: "attachUser", summary: "Have a user's pods use a license", description: who,
			parameters: []parameter{whichOne, user}, answers: done, fails: missing, serve: (*Handler).attachUser,
		},
		{
			method: http.MethodDelete, path: "/v1/licenses/{id}/users/{user}", id: "detachUser", summary: "Have a user's pods not use a license", description: who,
			parameters: []parameter{whichOne, user}, answers: done, fails: missing, serve: (*Handler).detachUser,
		},
		{
			method: http.MethodPost, path: "/v1/preview", id: "preview", summary: "Which pod would be made",
			description: who + "The pod of a project or user as a start would make it now, with the licenses that it has or others, with what set what, " +
				"and what the API server says to it. The pod of a user is one for the silo that asks, or for the one named `silo`. " +
				"Nothing is made or changed.",
			body: typeOf[wire.PreviewRequest](), answers: []success{{status: http.StatusOK, body: typeOf[wire.Preview](), description: "The pod."}},
			fails: append([]int{http.StatusNotFound, http.StatusForbidden, http.StatusBadGateway}, saving...),
			serve: (*Handler).preview,
		},
		{
			method: http.MethodPost, path: "/v1/replay", id: "replay", summary: "What a change would do to past starts",
			description: who + "Runs the starts of projects since a time again, with a license or template as it is and as it would be, " +
				"and tells those that differ or fail. It answers a part at a time.",
			body: typeOf[wire.ReplayRequest](), answers: []success{{status: http.StatusOK, body: typeOf[wire.Replay](), description: "A part of the starts."}},
			fails: append([]int{http.StatusNotFound}, saving...),
			serve: (*Handler).replay,
		},
	}
}
