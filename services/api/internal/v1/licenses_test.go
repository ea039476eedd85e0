package v1

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/api/internal/access"
)

// asked answers questions with a fault, and keeps the last one.
type asked struct {
	method string
	params any
	err    error
}

func (a *asked) Ask(_ context.Context, method string, params, _ any) error {
	a.method, a.params = method, params
	return a.err
}

// TestLicenseRequests has what an administrator's request asks the licenser, and what becomes of its faults.
func TestLicenseRequests(t *testing.T) {
	t.Parallel()
	const id, path = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "/v1/licenses/aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	actor := cmpopts.IgnoreFields(wire.PutLicense{}, "Actor")
	put := func(revision string, dry bool) wire.PutLicense {
		return wire.PutLicense{License: wire.License{ID: id, Title: "T"}, Revision: revision, DryRun: dry}
	}
	tests := map[string]struct {
		method, path, body string
		header             [2]string
		fault              events.Reason
		status             int
		params             any
	}{
		"save":                            {"PUT", path, `{"title":"T"}`, [2]string{}, "", 200, put("", false)},
		"try":                             {"PUT", path + "?dry_run=true", `{"title":"T"}`, [2]string{}, "", 200, put("", true)},
		"in upper case":                   {"PUT", strings.Replace(path, id, strings.ToUpper(id), 1), `{"title":"T"}`, [2]string{}, "", 200, put("", false)},
		"save over a revision":            {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `"r1"`}, "", 200, put("r1", false)},
		"save a new one":                  {"PUT", path, `{"title":"T"}`, [2]string{"If-None-Match", "*"}, "", 200, put("none", false)},
		"save over another revision":      {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `"r1"`}, events.Conflict, 412, put("r1", false)},
		"no word of what was saved":       {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `"r1"`}, events.Unavailable, 504, put("r1", false)},
		"no word, but the same may be":    {"PUT", path, `{"title":"T"}`, [2]string{}, events.Unavailable, 503, put("", false)},
		"a patch that does not fit":       {"PUT", path, `{"title":"T"}`, [2]string{}, events.PatchInvalid, 422, put("", false)},
		"a bare revision":                 {"PUT", path, `{}`, [2]string{"If-Match", `r1`}, "", 400, nil},
		"any revision":                    {"PUT", path, `{}`, [2]string{"If-Match", `*`}, "", 400, nil},
		"none of a revision":              {"PUT", path, `{}`, [2]string{"If-None-Match", `"r1"`}, "", 400, nil},
		"another id":                      {"PUT", path, `{"id":"bbbbbbbb-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}`, [2]string{}, "", 400, nil},
		"an unknown member":               {"PUT", path, `{"titel":"T"}`, [2]string{}, "", 400, nil},
		"no license":                      {"GET", path, "", [2]string{}, events.NotFound, 404, wire.LicenseRef{ID: id}},
		"no id":                           {"GET", "/v1/licenses/x", "", [2]string{}, "", 400, nil},
		"a page":                          {"GET", "/v1/licenses?limit=7&page_token=" + id, "", [2]string{}, "", 200, wire.ListLicenses{After: id, Limit: 7}},
		"no page":                         {"GET", "/v1/licenses?page_token=x", "", [2]string{}, "", 400, nil},
		"a user who is none":              {"PUT", path + "/users/Alice", "", [2]string{}, "", 400, nil},
		"a project as a user":             {"PUT", path + "/users/project:" + id, "", [2]string{}, "", 400, nil},
		"a preview of nobody":             {"POST", "/v1/preview", `{}`, [2]string{}, "", 400, nil},
		"a preview of two":                {"POST", "/v1/preview", `{"project_id":"` + id + `","user_id":"alice"}`, [2]string{}, "", 400, nil},
		"a preview without a manifest":    {"POST", "/v1/preview", `{"user_id":"alice"}`, [2]string{}, "", 400, nil},
		"a preview with a bad license":    {"POST", "/v1/preview", `{"project_id":"` + id + `","licenses":[{"id":"x"}]}`, [2]string{}, "", 400, nil},
		"a preview with a template 7":     {"POST", "/v1/preview", `{"project_id":"` + id + `","template":7}`, [2]string{}, "", 400, nil},
		"a preview of an unknown project": {"POST", "/v1/preview", `{"project_id":"` + id + `"}`, [2]string{}, events.ProjectUnknown, 404, wire.PreviewRequest{Project: id}},
		"a replay of nothing":             {"POST", "/v1/replay", `{"since":"2026-01-02T03:04:05Z"}`, [2]string{}, "", 400, nil},
		"a replay since when":             {"POST", "/v1/replay", `{"template":{}}`, [2]string{}, "", 400, nil},
		"usage since when":                {"GET", path + "/usage?since=yesterday", "", [2]string{}, "", 400, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			licenser := &asked{}
			if tt.fault != "" {
				licenser.err = &Fault{Reason: tt.fault, Message: "why"}
			}
			var audited events.AuditRecord
			guard := failing{caller: access.Caller{Admin: true}}
			h := &Handler{Guard: guard, Asks: licenser, Log: zerolog.Nop(), Audit: func(r events.AuditRecord) { audited = r }}
			mux := http.NewServeMux()
			if err := h.Register(mux); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if tt.header[0] != "" {
				r.Header.Set(tt.header[0], tt.header[1])
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if d := cmp.Diff(tt.params, licenser.params, actor); d != "" || w.Code != tt.status {
				t.Errorf("%d %s, question (-want +got):\n%s", w.Code, w.Body, d)
			}
			if strings.HasPrefix(tt.path, path) && audited.Object != id || audited.Status != tt.status || audited.DryRun != strings.Contains(tt.path, "dry_run") {
				t.Errorf("audit %+v", audited)
			}
		})
	}
}

// TestLicensesAreForAdministrators: nobody else gets further, whatever is asked.
func TestLicensesAreForAdministrators(t *testing.T) {
	t.Parallel()
	licenser := &asked{}
	h := &Handler{Guard: failing{caller: access.Caller{Projects: true}}, Asks: licenser, Log: zerolog.Nop()}
	mux := http.NewServeMux()
	if err := h.Register(mux); err != nil {
		t.Fatal(err)
	}
	for _, op := range licenseOperations() {
		for token, status := range map[string]int{"": http.StatusUnauthorized, "Bearer other": http.StatusForbidden} {
			path := strings.NewReplacer("{id}", exampleID, "{project}", exampleID, "{user}", "alice").Replace(op.path)
			r := httptest.NewRequest(op.method, path, strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", token)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != status || licenser.method != "" {
				t.Errorf("%s %s with %q: %d, asked %q", op.method, path, token, w.Code, licenser.method)
			}
		}
	}
}

// FuzzStart: whatever the body of a start is, it is refused as the caller's fault, or within the limits.
func FuzzStart(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"env":{"A":"1"}}`, `{"env":{"":""}}`, `{"config":{}}`, `{"config":null}`, `{"image":"a b"}`, `{"env":{"A":"\u0000"}}`, `{"config":"{"}`, `[]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/projects/x/start", strings.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		var body startBody
		err := readLimited(httptest.NewRecorder(), r, maxStart, &body)
		if err == nil {
			err = body.check()
		}
		if err != nil {
			if status := faultOf(err).Status; status < 400 || status > 499 {
				t.Errorf("%q is answered with %d: %v", text, status, err)
			}
			return
		}
		for name := range body.Env {
			if !variablePattern.MatchString(name) {
				t.Errorf("%q was taken with the variable %q", text, name)
			}
		}
		if len(body.Config) > 0 && !strings.HasPrefix(strings.TrimSpace(string(body.Config)), "{") {
			t.Errorf("%q was taken with the config %s", text, body.Config)
		}
	})
}
