package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// The limits of what a stranger chooses.
const (
	maxBody     = 256 << 10
	maxPodName  = 253
	maxURL      = 2048
	maxSettings = 1000
	maxPage     = 500
	defaultPage = 100
)

// podForm is the form of a pod's name.
const podForm = `^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`

var podPattern = regexp.MustCompile(podForm)

// podName says whether a text can be the name of a pod.
func podName(text string) bool { return len(text) <= maxPodName && podPattern.MatchString(text) }

// createBody is the body of a create.
type createBody struct {
	User        string                       `json:"user_id" jsonschema:"whose pod it will be, like alice@example.org"`
	ManifestURL string                       `json:"manifest_url" jsonschema:"the URL of the manifest: one v1 Pod; the site says which URLs are allowed"`
	Settings    map[string]map[string]string `json:"settings,omitempty" jsonschema:"variables by container and name"`
}

// PodList is a page of pods.
type PodList struct {
	Pods []Pod  `json:"pods" jsonschema:"the pods of the page, by name"`
	Next string `json:"next_page_token,omitempty" jsonschema:"the page_token of the next page; missing on the last one"`
}

// PodTokens are the tokens of a pod.
type PodTokens struct {
	Tokens map[string]string `json:"tokens" jsonschema:"the content of each file that the manifest asks to be copied, by key, without those that never appeared"`
}

func (h *Handler) createPod(x *exchange) (answer, error) {
	var body createBody
	err := readBody(x.w, x.r, &body)
	x.manifest = body.ManifestURL
	if err == nil {
		err = body.check()
	}
	if err != nil {
		return answer{}, err
	}
	x.user = body.User
	key, err := keyOf(x.r.Header)
	if err != nil {
		return answer{}, err
	}
	// Not even a user who has nothing may be given a pod.
	if err := h.Guard.User(x.caller, body.User); err != nil {
		return answer{}, err
	}
	hash, err := body.hash()
	if err != nil {
		return answer{}, err
	}
	if x.params["wait"] != "" {
		defer h.wait(x)()
	}
	var e Entry
	e, x.command, err = h.Makes.Create(x.r.Context(), Create{
		Caller: x.caller, User: body.User, ManifestURL: body.ManifestURL, Settings: body.Settings, Key: key, Body: hash,
	})
	x.pod = e.Pod
	if err == nil && x.params["wait"] == "ready" {
		h.begins(x)
		e, err = h.Makes.AwaitReady(x.r.Context(), e)
	}
	if err != nil {
		return answer{}, ofPod(err, x.pod)
	}
	return answer{status: http.StatusCreated, body: podOf(e, h.IngressDomain), location: podPath(e)}, nil
}

// ofPod adds the pod to a fault that says why it is not ready.
func ofPod(err error, pod string) error {
	f := faultOf(err)
	if pod == "" || !errors.As(err, new(*Fault)) {
		return err
	}
	f.Pod = pod
	return &f
}

// podPath is where a pod is found.
func podPath(e Entry) string {
	return "/v1/pods/" + url.PathEscape(e.Pod) + "?user_id=" + url.QueryEscape(e.User)
}

// nameable returns errNoPod for a pod that the caller can have no part in, and a
// denial.
func (h *Handler) nameable(x *exchange) error {
	foreign, err := h.foreign(x, x.user)
	switch {
	case err != nil:
		return err
	case foreign, !podName(x.pod):
		return errNoPod
	}
	return nil
}

// ours returns the pod that a request is about, as the log's leader has it.
func (h *Handler) ours(x *exchange) (Entry, error) {
	if err := h.nameable(x); err != nil {
		return Entry{}, err
	}
	return h.Own.Pod(x.r.Context(), x.user, x.pod)
}

func (h *Handler) getPod(x *exchange) (answer, error) {
	e, err := h.ours(x)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: podOf(e, h.IngressDomain)}, nil
}

func (h *Handler) getTokens(x *exchange) (answer, error) {
	e, err := h.ours(x)
	if err != nil {
		return answer{}, err
	}
	tokens, err := h.Own.Tokens(x.r.Context(), e)
	if err != nil {
		return answer{}, err
	}
	if tokens == nil {
		tokens = map[string]string{}
	}
	return answer{status: http.StatusOK, body: PodTokens{Tokens: tokens}}, nil
}

func (h *Handler) listPods(x *exchange) (answer, error) {
	after := ""
	if token := x.params["page_token"]; token != "" {
		var err error
		if after, err = parsePageToken(token); err != nil {
			return answer{}, err
		}
	}
	foreign := false
	if x.user != "" {
		var err error
		if foreign, err = h.foreign(x, x.user); err != nil {
			return answer{}, err
		}
	}
	var entries []Entry
	if !foreign {
		var err error
		if entries, err = h.State.Pods(x.r.Context(), x.user); err != nil {
			return answer{}, err
		}
	}
	cut, next := page(entries, after, limitOf(x.params), filterOf(x.params, x.caller))
	list := PodList{Pods: make([]Pod, len(cut)), Next: next}
	for i, e := range cut {
		list.Pods[i] = podOf(e, h.IngressDomain)
	}
	return answer{status: http.StatusOK, body: list}, nil
}

// filterOf is what a list's parameters ask for, of what the caller may see.
func filterOf(params map[string]string, caller access.Caller) func(Entry) bool {
	types := map[string]bool{}
	if text := params["event"]; text != "" {
		for t := range strings.SplitSeq(text, ",") {
			types[t] = true
		}
	}
	ready := params["ready"]
	return func(e Entry) bool {
		return caller.MayName(e.User) && (len(types) == 0 || types[string(e.Event)]) &&
			(ready == "" || (ready == "true") == (e.Event == events.Ready))
	}
}

func (h *Handler) deletePod(x *exchange) (answer, error) {
	if err := h.nameable(x); err != nil {
		return answer{}, err
	}
	return h.removePod(x)
}

// removePod deletes the pod that a request is about, which is the caller's.
func (h *Handler) removePod(x *exchange) (answer, error) {
	ctx := x.r.Context()
	if x.params["wait"] == "" {
		e, err := h.Removes.Delete(ctx, x.user, x.pod)
		switch {
		case err != nil:
			return answer{}, err
		case e.Event == "", e.Event == events.Gone:
			return answer{status: http.StatusNoContent}, nil
		}
		return answer{status: http.StatusAccepted, body: podOf(e, h.IngressDomain), location: podPath(e)}, nil
	}
	defer h.wait(x)()
	if _, err := h.Removes.Delete(ctx, x.user, x.pod); err != nil {
		return answer{}, err
	}
	h.begins(x)
	gone, err := h.Removes.AwaitGone(ctx, x.user, x.pod)
	switch {
	case err != nil:
		return answer{}, ofPod(err, x.pod)
	case !gone:
		return answer{}, &Fault{Reason: events.Timeout, Message: "the pod is being deleted and is not gone yet; ask for it again, or follow its events", Pod: x.pod}
	}
	return answer{status: http.StatusNoContent}, nil
}

func (h *Handler) getTimeline(x *exchange) (answer, error) {
	if err := h.nameable(x); err != nil {
		return answer{}, err
	}
	steps, err := h.Past.History(x.r.Context(), x.user, x.pod)
	if err != nil {
		return answer{}, err
	}
	t, ok := timelineOf(steps, x.params["generation"], h.Kept, time.Now())
	if !ok {
		return answer{}, errNoPod
	}
	return answer{status: http.StatusOK, body: t}, nil
}

func (h *Handler) podEvents(x *exchange) (answer, error) {
	if err := h.nameable(x); err != nil {
		return answer{}, err
	}
	_, err := h.Own.Pod(x.r.Context(), x.user, x.pod)
	if f, ok := errors.AsType[*Fault](err); ok && f.Reason == events.NotFound {
		err = h.missedEnd(x, f)
	}
	if err != nil {
		return answer{}, err
	}
	return h.follow(x, Scope{Pod: x.pod, User: x.user}, false)
}

// missedEnd returns nil where something has happened to a pod that is not there any more
// after the position that the client has got to: its end, which it is to be told. Else it
// returns the fault that says that the pod is not there.
func (h *Handler) missedEnd(x *exchange, missing *Fault) error {
	after, err := lastEventID(x.r.Header)
	if err != nil || after.Created == 0 || after.Created != h.State.Epoch().Created {
		return missing
	}
	steps, err := h.Past.After(x.r.Context(), after, Scope{Pod: x.pod, User: x.user}, 1, nil)
	if err == nil && len(steps) == 0 {
		return missing
	}
	return err
}

func (h *Handler) allEvents(x *exchange) (answer, error) {
	foreign := false
	if x.user != "" {
		var err error
		if foreign, err = h.foreign(x, x.user); err != nil {
			return answer{}, err
		}
	}
	return h.follow(x, Scope{User: x.user}, foreign)
}

func (h *Handler) follow(x *exchange, scope Scope, foreign bool) (answer, error) {
	if x.r.Method == http.MethodHead {
		x.w.Header().Set("Content-Type", eventStream)
		x.w.Header().Set("Cache-Control", "no-store")
		x.w.WriteHeader(http.StatusOK)
		return answer{}, nil
	}
	return answer{}, h.streamEvents(x, scope, foreign)
}

// readBody takes the JSON body of a request in, whose members must be as [checkNames] wants them.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	return readLimited(w, r, maxBody, into)
}

// readLimited is readBody for a body of at most so many bytes. into is a pointer to a struct.
// Every text in it can be kept as it is.
func readLimited(w http.ResponseWriter, r *http.Request, most int64, into any) error {
	if !access.IsJSON(r) {
		return &Fault{Status: http.StatusUnsupportedMediaType, Reason: events.RequestInvalid, Message: "Content-Type must be application/json"}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return bodyFault(err, into, text)
	}
	if err := checkNames(reflect.TypeOf(into).Elem(), text, ""); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(into); err != nil {
		return bodyFault(err, into, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body has more than one JSON value")
	}
	if isNull(text) { // It decodes into anything, and changes nothing.
		return invalid("the body must be a JSON object")
	}
	return checkTexts(text)
}

func bodyFault(err error, into any, text []byte) error {
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	var told *Fault
	switch {
	case errors.As(err, &told): // A part of the body has said it itself.
		return told
	case errors.As(err, &large):
		return &Fault{
			Status: http.StatusRequestEntityTooLarge, Reason: events.RequestInvalid, Message: "the body is larger than " + strconv.FormatInt(large.Limit, 10) + " bytes",
		}
	case errors.As(err, &kind) && kind.Field == "":
		return invalid("the body must be a JSON object")
	case errors.As(err, &kind):
		return invalid(kind.Field + " must not be a JSON " + kind.Value)
	case errors.Is(err, io.EOF):
		return invalid("the body is empty; it must be a JSON object")
	}
	if where := badTime(reflect.TypeOf(into), text, ""); where != "" {
		return invalid(where + " must be a time, like 2026-01-02T15:04:05Z")
	}
	return invalid("the body is not JSON: " + err.Error())
}

// badTime returns the path of the first value that is to be a time and cannot be read as one, in a text of which a
// value of a type is to be made; empty for none. encoding/json does not say.
func badTime(t reflect.Type, text json.RawMessage, path string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		var at time.Time
		if json.Unmarshal(text, &at) != nil {
			return path
		}
	case t.Kind() == reflect.Struct:
		var members map[string]json.RawMessage
		_ = json.NewDecoder(bytes.NewReader(text)).Decode(&members) // What is no object has no time.
		for field := range t.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if value, there := members[name]; there {
				if where := badTime(field.Type, value, strings.TrimPrefix(path+"."+name, ".")); where != "" {
					return where
				}
			}
		}
	case t.Kind() == reflect.Slice:
		var items []json.RawMessage
		_ = json.Unmarshal(text, &items)
		for i, item := range items {
			if where := badTime(t.Elem(), item, path+"["+strconv.Itoa(i)+"]"); where != "" {
				return where
			}
		}
	}
	return ""
}

func (b createBody) check() error {
	switch {
	case !access.IsUser(b.User):
		return invalid("user_id must match " + access.UserForm + " and have at most " + strconv.Itoa(access.MaxUser) + " characters")
	case b.ManifestURL == "":
		return invalid("manifest_url is missing")
	case len(b.ManifestURL) > maxURL:
		return invalid("manifest_url is longer than " + strconv.Itoa(maxURL) + " bytes")
	}
	count := 0
	for _, variables := range b.Settings {
		count += len(variables)
	}
	if count > maxSettings || len(b.Settings) > maxSettings {
		return &Fault{Reason: events.SettingsInvalid, Message: "settings has more than " + strconv.Itoa(maxSettings) + " variables"}
	}
	return nil
}
