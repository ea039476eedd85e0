package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"berth/pkg/events"
)

// unknownProject is one that the database does not know.
const unknownProject = "99999999-9999-4999-8999-999999999999"

// administration plays the endpoints of projects and licenses.
func (f *fakeAPI) administration(mux *http.ServeMux) {
	f.licenses = map[string]map[string]any{}
	mux.HandleFunc("POST /v1/projects/{id}/{action}", f.projectAction)
	mux.HandleFunc("GET /v1/projects/{id}", f.getProject)
	mux.HandleFunc("GET /v1/licenses", f.listLicenses)
	mux.HandleFunc("GET /v1/licenses/{id}", f.getLicense)
	mux.HandleFunc("PUT /v1/licenses/{id}", f.putLicense)
	mux.HandleFunc("DELETE /v1/licenses/{id}", f.deleteLicense)
	mux.HandleFunc("GET /v1/licenses/{id}/{what}", f.uses)
	mux.HandleFunc("PUT /v1/licenses/{id}/{kind}/{to}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("DELETE /v1/licenses/{id}/{kind}/{to}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/preview", f.preview)
	mux.HandleFunc("POST /v1/replay", f.replay)
}

func (f *fakeAPI) projectAction(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	name := events.ProjectPod(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pods[name]
	switch action := r.PathValue("action"); {
	case id == unknownProject:
		f.refuse(w, http.StatusNotFound, events.ProjectUnknown, "the database has no project "+id)
	case action == "activity":
		w.WriteHeader(http.StatusNoContent)
	case action == "stop" && (p == nil || p.last().event == "gone"):
		w.WriteHeader(http.StatusNoContent)
	case action == "stop":
		f.append(p, "deleting")
		p.next = []string{"gone"}
		w.WriteHeader(http.StatusAccepted)
		f.answer(w, p.show(name, p.last()))
	default:
		p = &fakePod{user: events.ProjectUser(id), plan: "ready"}
		f.append(p, "claimed", "ready")
		f.pods[name] = p
		w.WriteHeader(http.StatusCreated)
		f.answer(w, p.show(name, p.last()))
	}
}

func (f *fakeAPI) getProject(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id == unknownProject {
		f.refuse(w, http.StatusNotFound, events.ProjectUnknown, "the database has no project "+id)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	licenses := []any{map[string]any{"id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "title": "Course", "status": "exhausted", "reason": "exhausted"}}
	shown := map[string]any{"project_id": id, "database": map[string]any{"project": map[string]any{
		"project_id": id, "state": "opened", "licenses": licenses, "idle_timeout_seconds": 1800,
	}}}
	if p := f.pods[events.ProjectPod(id)]; p != nil {
		shown["event"], shown["licenses"] = p.last().event, licenses
		if p.last().event != "gone" {
			shown["pod"] = p.show(events.ProjectPod(id), p.last())
		}
		shown["last_start"] = map[string]any{"generation": p.generation, "at": "2026-01-02T03:04:05Z", "explanation": explanation()}
	}
	f.answer(w, shown)
}

// explanation has one of each kind.
func explanation() any {
	return map[string]any{
		"steps": []any{
			map[string]any{"op": "add", "path": "/spec/containers/0/env/0/value", "value": "s3cret", "kind": "placeholder", "rule": "{extra_env}"},
			map[string]any{"op": "add", "path": "/metadata/labels/course", "value": "physics", "kind": "license", "license": "aaaaaaaa", "operation": 0, "note": "appended"},
		},
		"quota": []any{map[string]any{
			"field": "memory_limit", "value": 16000, "capped": "max_upgrades.memory 16000",
			"sources": []any{map[string]any{"kind": "site_default", "amount": 1000}, map[string]any{"kind": "license", "license": "aaaaaaaa", "amount": 20000}},
		}},
		"ignored": []any{map[string]any{"license": "bbbbbbbb", "field": "gpu", "why": "another license has one"}},
	}
}

func (f *fakeAPI) listLicenses(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id := range f.licenses {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := []any{}
	for _, id := range ids {
		all = append(all, f.licenses[id])
	}
	f.answer(w, map[string]any{"licenses": all})
}

// license returns a license that is asked for, nil for none; f.mu is held.
func (f *fakeAPI) license(w http.ResponseWriter, r *http.Request) map[string]any {
	l := f.licenses[r.PathValue("id")]
	if l == nil {
		f.refuse(w, http.StatusNotFound, events.NotFound, "there is no such license")
	}
	return l
}

func (f *fakeAPI) getLicense(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.license(w, r); l != nil {
		f.answer(w, l)
	}
}

func (f *fakeAPI) putLicense(w http.ResponseWriter, r *http.Request) {
	var l map[string]any
	if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.licenses[r.PathValue("id")]
	match := r.Header.Get("If-Match")
	if match != "" && (old == nil || match != strconv.Quote(old["revision"].(string))) || old != nil && r.Header.Get("If-None-Match") == "*" {
		f.refuse(w, http.StatusPreconditionFailed, events.Conflict, "somebody else has changed it")
		return
	}
	if l["title"] == "refused" {
		f.refuse(w, http.StatusUnprocessableEntity, events.PatchInvalid, "operation 0, path /x: no such member")
		return
	}
	if l["title"] == "Hub" { // A hub writes what it likes.
		l["quota"], l["upgrades"], l["run_limit"] = map[string]any{"cpu": "2", "zzz": 1, "patch": "[", "ram": 4}, []string{"x"}, -5
	}
	f.place++
	l["revision"], l["seats_used"] = "r"+strconv.Itoa(f.place), 1
	if text, ok := l["activates"].(string); ok { // A database keeps microseconds.
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			l["activates"] = at.Truncate(time.Microsecond)
		}
	}
	if r.URL.Query().Get("dry_run") == "" {
		f.licenses[r.PathValue("id")] = l
	}
	var warnings []string
	if l["activates"] == nil {
		warnings = append(warnings, "the license is never valid: it has no activates")
	}
	if l["title"] == "Courses" {
		warnings = append(warnings, "as things are, no pod with it would be started")
	}
	if warnings != nil {
		l = maps.Clone(l)
		l["warnings"] = warnings
	}
	f.answer(w, l)
}

func (f *fakeAPI) deleteLicense(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.license(w, r) != nil {
		delete(f.licenses, r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	}
}

// uses answers for seats, usage and attachments.
func (f *fakeAPI) uses(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("id"); id[0] == '0' || id[0] == 'b' { // Nobody has ever used it, or has it.
		f.answer(w, map[string]any{"attachments": []any{}, "projects": 0, "users": 0, "total": 0, "seats": []any{}, "usage": []any{}})
		return
	}
	use := map[string]any{
		"license_id": r.PathValue("id"), "user_id": "project:p", "project_id": "11111111-1111-4111-8111-111111111111", "pod_name": "project-1",
		"generation": "1-1", "since": "2026-01-02T03:04:05Z", "start": "2026-01-02T03:04:05Z",
	}
	has := []any{
		map[string]any{"project_id": "11111111-1111-4111-8111-111111111111", "status": "exhausted", "reason": "exhausted"},
		map[string]any{"user_id": "alice@example.org"},
	}
	f.answer(w, map[string]any{"attachments": has, "projects": 1, "users": 1, "run_limit": 2, "total": 1, "seats": []any{use}, "usage": []any{use}})
}

func (f *fakeAPI) preview(w http.ResponseWriter, r *http.Request) {
	var q map[string]any
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, err.Error())
		return
	}
	if q["silo"] != nil && q["silo"] != "silo1" {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, "silo is none of this site")
		return
	}
	p := map[string]any{
		"licenses": []any{map[string]any{"id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "title": "Course", "status": "active"}},
		"pod":      map[string]any{"spec": map[string]any{"env": "s3cret"}},
		"diff": []any{
			map[string]any{"op": "add", "path": "/metadata/labels/course", "value": "physics"},
			map[string]any{"op": "replace", "path": "/spec/containers/0/env/0/value", "value": "s3cret"},
		},
		"explanation": explanation(), "verdict": map[string]any{"accepted": true, "warnings": []string{"deprecated"}},
	}
	if q["change"] != nil {
		p["verdict"] = map[string]any{"accepted": false, "reason": "Forbidden", "message": "no such service account"}
	}
	if licenses, given := q["licenses"].([]any); given && len(licenses) == 0 && q["no_dry_run"] == nil { // A doctor asks without.
		p = map[string]any{"licenses": []any{}, "fault": map[string]any{"reason": "TEMPLATE_INVALID", "message": "there is no template"}}
	}
	f.answer(w, p)
}

func (f *fakeAPI) replay(w http.ResponseWriter, r *http.Request) {
	var q map[string]any
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		f.refuse(w, http.StatusBadRequest, events.RequestInvalid, err.Error())
		return
	}
	one := map[string]any{
		"project_id": "11111111-1111-4111-8111-111111111111", "pod_name": "project-1", "started_at": "2026-01-02T03:04:05Z",
		"diff": []any{map[string]any{"op": "add", "path": "/metadata/labels/course", "value": "physics"}},
	}
	concerned := 2
	if change, _ := q["change"].(map[string]any); change["title"] == "refused" {
		concerned = 0
	}
	if q["after"] == nil {
		f.answer(w, map[string]any{"looked": 50, "concerned": concerned, "different": []any{one}, "next": "2"})
		return
	}
	if q["template"] != nil {
		one["fault"] = map[string]any{"reason": "TEMPLATE_INVALID", "message": "no containers"}
	}
	mended := map[string]any{
		"project_id": "22222222-2222-4222-8222-222222222222", "pod_name": "project-2", "started_at": "2026-01-02T03:04:05Z",
		"today": map[string]any{"reason": "PATCH_INVALID", "message": "license \"Course\" (a): operation 0"},
	}
	f.answer(w, map[string]any{"looked": 3, "concerned": concerned, "different": []any{one, mended}})
}
