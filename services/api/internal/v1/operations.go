package v1

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// operation is one endpoint: how it is described, what it takes, and what does it.
type operation struct {
	method, path, id, summary, description string

	parameters []parameter
	// body is the type of the request's body, nil for none; bare says that it may be left out.
	body reflect.Type
	bare bool
	// answers are the ways in which it succeeds; every operation may also fail.
	answers []success
	// fails are the statuses of its own failures, besides those of all operations.
	fails []int
	serve func(h *Handler, x *exchange) (answer, error)
}

// success is one way in which an operation succeeds.
type success struct {
	status      int
	description string
	// body is the type of the answer's body, nil for none; media is its type.
	body  reflect.Type
	media string
	// located says that the answer has a Location, tagged that it has an ETag.
	located, tagged bool
}

// parameter is one that an operation takes. Its schema is what is published and
// what is checked. One in the path is not checked: a name that cannot be is that of no pod.
type parameter struct {
	name, in, description string
	required              bool
	// list means several values with commas between.
	list    bool
	schema  *jsonschema.Schema
	example string
}

// The parameters.
func inPath() parameter {
	return parameter{
		name: "name", in: "path", required: true, description: "The name of the pod.", example: "notebook-alice-example-org",
		schema: &jsonschema.Schema{Type: "string", MaxLength: new(maxPodName)},
	}
}

func userParameter(required bool, description string) parameter {
	return parameter{
		name: "user_id", in: "query", required: required, description: description, example: "alice@example.org",
		schema: &jsonschema.Schema{Type: "string", Pattern: access.OwnerForm, MaxLength: new(access.MaxUser)},
	}
}

func waitParameter(goal, description string) parameter {
	return parameter{name: "wait", in: "query", description: description, schema: &jsonschema.Schema{Type: "string", Enum: []any{goal}}}
}

func eventParameter() parameter {
	values := make([]any, 0, len(events.Types()))
	for _, info := range events.Types() {
		values = append(values, string(info.Type))
	}
	return parameter{
		name: "event", in: "query", list: true, example: "ready,unready", description: "Only pods whose newest event is one of these, with commas between.",
		schema: &jsonschema.Schema{Type: "string", Enum: values},
	}
}

func text(most int) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", MinLength: new(1), MaxLength: &most}
}

func keyParameter() parameter {
	return parameter{
		name: "Idempotency-Key", in: "header", example: "8e03978e-40d5-43e8-bc93-6894a57f9324", schema: text(maxKey + 2),
		description: "Makes the request safe to repeat: the same key of the same user, with the same body, within an hour, yields the same pod, on any replica. " +
			"With another body, or for another action, it is refused. Where nothing came of the request before, the next one tries again.",
	}
}

func lastEventParameter() parameter {
	return parameter{
		name: "Last-Event-ID", in: "header", example: "1767323045000000000-1767323045000001", schema: text(64),
		description: "The id of the last event that came: the stream goes on after it. Browsers and pkg/client send it by themselves.",
	}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// operations is the table of all endpoints.
func operations() []operation {
	return slices.Concat(podOperations(), projectOperations(), licenseOperations())
}

func podOperations() []operation {
	const whose = "Whose pod it is. A pod of another user is one that does not exist."
	streamed := success{
		status: http.StatusOK, media: eventStream, body: typeOf[Pod](),
		description: "A stream of server-sent events. `pod` has a pod as its data, `synced` says that everything up to its id has been sent, " +
			"once what is now has been and again from time to time, and `reset` that the stream cannot go on after Last-Event-ID: " +
			"forget what you know, what is now follows. A comment comes every 15 seconds where nothing else does. " +
			"When the stream ends, connect again with the last id.",
	}
	return []operation{
		{
			method: http.MethodPost, path: "/v1/pods", id: "createPod", summary: "Make a pod",
			description: "Answers when the pod has a name and is launched, or is on its way; with `wait=ready` when it is ready. " +
				"A create that fails is answered with its reason.",
			parameters: []parameter{
				keyParameter(), waitParameter("ready", "Wait until the pod is ready, for as long as the site lets a create take."),
			},
			body: typeOf[createBody](),
			answers: []success{{
				status: http.StatusCreated, body: typeOf[Pod](), located: true, description: "The pod that has been made, or is being made.",
			}},
			fails: []int{
				http.StatusForbidden, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
				http.StatusUnprocessableEntity, http.StatusBadGateway, http.StatusGatewayTimeout,
			},
			serve: (*Handler).createPod,
		},
		{
			method: http.MethodGet, path: "/v1/pods", id: "listPods", summary: "List pods",
			description: "Lists the pods of a user, or of all users that the caller may name, by name. What is gone is left out.",
			parameters: []parameter{
				userParameter(false, "Only the pods of this user."), eventParameter(),
				{name: "ready", in: "query", description: "Only pods that are ready, or only those that are not.", schema: &jsonschema.Schema{Type: "boolean"}},
				limitParameter("How many pods a page has at the most."),
				{name: "page_token", in: "query", description: "The next_page_token of the page before.", schema: text(maxPageToken)},
			},
			answers: []success{{status: http.StatusOK, body: typeOf[PodList](), description: "A page of pods."}},
			serve:   (*Handler).listPods,
		},
		{
			method: http.MethodGet, path: "/v1/pods/{name}", id: "getPod", summary: "Look at a pod",
			parameters: []parameter{inPath(), userParameter(true, whose)},
			answers:    []success{{status: http.StatusOK, body: typeOf[Pod](), description: "The pod."}},
			fails:      []int{http.StatusNotFound},
			serve:      (*Handler).getPod,
		},
		{
			method: http.MethodDelete, path: "/v1/pods/{name}", id: "deletePod", summary: "Delete a pod",
			description: "Answers when it is certain that the pod will go; with `wait=gone` when nothing of it is left. " +
				"A pod that is being deleted already may be deleted again.",
			parameters: []parameter{
				inPath(), userParameter(true, whose), waitParameter("gone", "Wait until the pod is gone, for as long as the site lets a delete take."),
			},
			answers: []success{
				{status: http.StatusAccepted, body: typeOf[Pod](), located: true, description: "The pod is being deleted."},
				{status: http.StatusNoContent, description: "The pod is gone."},
			},
			fails: []int{http.StatusNotFound, http.StatusGatewayTimeout},
			serve: (*Handler).deletePod,
		},
		{
			method: http.MethodGet, path: "/v1/pods/{name}/tokens", id: "getPodTokens", summary: "Read the tokens of a pod",
			description: "The files that the manifest asks to be copied out of the pod. They are secrets, and nowhere else.",
			parameters:  []parameter{inPath(), userParameter(true, whose)},
			answers:     []success{{status: http.StatusOK, body: typeOf[PodTokens](), description: "The tokens, by key."}},
			fails:       []int{http.StatusNotFound},
			serve:       (*Handler).getTokens,
		},
		{
			method: http.MethodGet, path: "/v1/pods/{name}/timeline", id: "getPodTimeline", summary: "What happened to a pod",
			description: "The phases of a pod, with how long each took, why, and which service said so; also of a pod that failed or is gone, " +
				"for as long as the log keeps it. Of a pod that is ready and unready many times the oldest phases are forgotten first: it is then incomplete.",
			parameters: []parameter{
				inPath(), userParameter(true, whose),
				{name: "generation", in: "query", description: "Which pod of that name; the newest of the user without it.", schema: text(64)},
			},
			answers: []success{{status: http.StatusOK, body: typeOf[Timeline](), description: "The timeline."}},
			fails:   []int{http.StatusNotFound},
			serve:   (*Handler).getTimeline,
		},
		{
			method: http.MethodGet, path: "/v1/pods/{name}/events", id: "followPod", summary: "Follow a pod",
			description: "What happens to the pods of this name and user, beginning with what is now, or after Last-Event-ID. " +
				"A pod that is gone is told of where its end comes after Last-Event-ID.",
			parameters: []parameter{inPath(), userParameter(true, whose), lastEventParameter()},
			answers:    []success{streamed},
			fails:      []int{http.StatusNotFound},
			serve:      (*Handler).podEvents,
		},
		{
			method: http.MethodGet, path: "/v1/events", id: "followPods", summary: "Follow all pods",
			description: "What happens to the pods of a user, or of all users that the caller may name, beginning with what is now, or after Last-Event-ID.",
			parameters:  []parameter{userParameter(false, "Only the pods of this user."), lastEventParameter()},
			answers:     []success{streamed},
			serve:       (*Handler).allEvents,
		},
	}
}

// parse takes the parameters of a request in, as the operation declares them.
func (op operation) parse(r *http.Request) (map[string]string, error) {
	values := map[string]string{}
	// What cannot be read must not be left out: it may be what narrows the answer.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query of the URL cannot be read: it must be name=value, with & between and everything else escaped")
	}
	for _, p := range op.parameters {
		switch p.in {
		case "path":
			values[p.name] = r.PathValue(p.name)
			continue
		case "header":
			continue // Each has its own form.
		}
		given := query[p.name]
		delete(query, p.name)
		switch {
		case len(given) > 1:
			return nil, invalid(p.name + " is given " + strconv.Itoa(len(given)) + " times; give it once")
		case len(given) == 0 && p.required:
			return nil, invalid(p.name + " is missing; add ?" + p.name + "=… to the URL")
		case len(given) == 0:
			continue
		}
		parts := given
		if p.list {
			if parts = strings.Split(given[0], ","); len(parts) > len(p.schema.Enum) {
				return nil, invalid(p.name + " names a value twice")
			}
		}
		for _, part := range parts {
			if problem := p.check(part); problem != "" {
				return nil, invalid(p.name + " must be " + problem)
			}
		}
		values[p.name] = given[0]
	}
	if unknown := slices.Sorted(func(yield func(string) bool) {
		for name := range query {
			if !yield(name) {
				return
			}
		}
	}); len(unknown) > 0 {
		return nil, invalid(fmt.Sprintf("there is no parameter %.40q; there are %s", unknown[0], op.queryNames()))
	}
	return values, nil
}

func (op operation) queryNames() string {
	var names []string
	for _, p := range op.parameters {
		if p.in == "query" {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ", ")
}

// check holds a value against the parameter's schema, and returns what it must be,
// or nothing.
func (p parameter) check(value string) string {
	s := p.schema
	switch {
	case !utf8.ValidString(value):
		return "UTF-8"
	case s.Type == "boolean":
		if value != "true" && value != "false" {
			return "true or false"
		}
	case s.Type == "integer":
		n, err := strconv.Atoi(value)
		if err != nil || float64(n) < *s.Minimum || float64(n) > *s.Maximum {
			return fmt.Sprintf("a whole number from %d to %d", int(*s.Minimum), int(*s.Maximum))
		}
	case len(s.Enum) > 0:
		if !slices.Contains(s.Enum, any(value)) {
			known := make([]string, len(s.Enum))
			for i, v := range s.Enum {
				known[i] = fmt.Sprint(v)
			}
			if len(known) == 1 {
				return known[0] + ", or missing"
			}
			return "one of " + strings.Join(known, ", ")
		}
	case s.MaxLength != nil && len(value) > *s.MaxLength:
		return "at most " + strconv.Itoa(*s.MaxLength) + " characters"
	case s.MinLength != nil && len(value) < *s.MinLength:
		return "not empty, or missing"
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(value):
		return "text that matches " + s.Pattern
	}
	return ""
}
