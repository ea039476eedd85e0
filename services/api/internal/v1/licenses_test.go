package v1

import (
	"context"
	"encoding/json"
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
	actor := cmp.Options{cmpopts.IgnoreFields(wire.PutLicense{}, "Actor"), cmpopts.IgnoreFields(wire.LicenseRef{}, "Actor")}
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
		"any revision":                    {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `*`}, "", 200, put("any", false)},
		"any revision of none":            {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `*`}, events.Conflict, 412, put("any", false)},
		"any revision, and no word":       {"PUT", path, `{"title":"T"}`, [2]string{"If-Match", `*`}, events.Unavailable, 503, put("any", false)},
		"null":                            {"PUT", path, `null`, [2]string{}, "", 400, nil},
		"a title with half a character":   {"PUT", path, `{"title":"a\ud800b"}`, [2]string{}, "", 400, nil},
		"a title with a byte":             {"PUT", path, "{\"title\":\"a\xffb\"}", [2]string{}, "", 400, nil},
		"a manager with a NUL":            {"PUT", path, `{"managers":["\u0000"]}`, [2]string{}, "", 400, nil},
		"a preview of null":               {"POST", "/v1/preview", `null`, [2]string{}, "", 400, nil},
		"a replay of null":                {"POST", "/v1/replay", `null`, [2]string{}, "", 400, nil},
		"none of a revision":              {"PUT", path, `{}`, [2]string{"If-None-Match", `"r1"`}, "", 400, nil},
		"another id":                      {"PUT", path, `{"id":"bbbbbbbb-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}`, [2]string{}, "", 400, nil},
		"an unknown member":               {"PUT", path, `{"titel":"T"}`, [2]string{}, "", 400, nil},
		"a title with a NUL":              {"PUT", path, `{"title":"T\u0000"}`, [2]string{}, "", 400, nil},
		"a quota with a NUL":              {"PUT", path, `{"quota":{"patch":"\u0000"}}`, [2]string{}, "", 400, nil},
		"upgrades without an end":         {"PUT", path, `{"upgrades":{"memory":1e200000}}`, [2]string{}, "", 400, nil},
		"no license":                      {"GET", path, "", [2]string{}, events.NotFound, 404, wire.LicenseRef{ID: id}},
		"delete":                          {"DELETE", path, "", [2]string{}, "", 204, wire.LicenseRef{ID: id}},
		"delete a revision":               {"DELETE", path, "", [2]string{"If-Match", `"r1"`}, "", 204, wire.LicenseRef{ID: id, Revision: "r1"}},
		"delete another revision":         {"DELETE", path, "", [2]string{"If-Match", `"r1"`}, events.Conflict, 412, wire.LicenseRef{ID: id, Revision: "r1"}},
		"delete any revision":             {"DELETE", path, "", [2]string{"If-Match", `*`}, "", 204, wire.LicenseRef{ID: id}},
		"delete a new one":                {"DELETE", path, "", [2]string{"If-None-Match", "*"}, "", 400, nil},
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
		"a preview of an unknown project": {"POST", "/v1/preview", `{"project_id":"` + id + `"}`, [2]string{}, events.ProjectUnknown, 404, wire.PreviewQuestion{PreviewRequest: wire.PreviewRequest{Project: id}}},
		"a preview for a silo": {
			"POST", "/v1/preview", `{"user_id":"alice","manifest_url":"u","silo":"silo1"}`, [2]string{}, "", 200, wire.PreviewQuestion{
				PreviewRequest: wire.PreviewRequest{User: "alice", ManifestURL: "u", Silo: "silo1"}, For: wire.Silo{Name: "silo1", DataAddress: "10.2.0.1"},
			},
		},
		"a preview for any silo":          {"POST", "/v1/preview", `{"user_id":"alice","manifest_url":"u","silo":"silo9"}`, [2]string{}, "", 400, nil},
		"a preview that gives an address": {"POST", "/v1/preview", `{"user_id":"alice","manifest_url":"u","for":{"name":"x"}}`, [2]string{}, "", 400, nil},
		"a project's preview for a silo":  {"POST", "/v1/preview", `{"project_id":"` + id + `","silo":"silo1"}`, [2]string{}, "", 400, nil},
		"a preview with a bad tag":        {"POST", "/v1/preview", `{"project_id":"` + id + `","tag":"-x"}`, [2]string{}, "", 400, nil},
		"a replay of nothing":             {"POST", "/v1/replay", `{"since":"2026-01-02T03:04:05Z"}`, [2]string{}, "", 400, nil},
		"a replay since long ago":         {"POST", "/v1/replay", `{"since":"2006-01-02T03:04:05Z","template":{}}`, [2]string{}, "", 400, nil},
		"a replay since when":             {"POST", "/v1/replay", `{"template":{}}`, [2]string{}, "", 400, nil},
		"what has it":                     {"GET", path + "/attachments?limit=7&page_token=user:alice", "", [2]string{}, "", 200, wire.AttachedQuery{ID: id, After: "user:alice", Limit: 7}},
		"what has it, of no page":         {"GET", path + "/attachments?page_token=x", "", [2]string{}, events.RequestInvalid, 400, wire.AttachedQuery{ID: id, After: "x", Limit: 100}},
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

// TestFaultsOfBodies: what is wrong with a body is named, with its form.
func TestFaultsOfBodies(t *testing.T) {
	t.Parallel()
	const id = `"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"`
	tests := map[string]struct {
		into any
		body string
		says string
	}{
		"a time":               {&wire.License{}, `{"title":"T","activates":"tomorrow"}`, "activates must be a time, like 2026"},
		"a time as a number":   {&wire.License{}, `{"expires":7}`, "expires must be a time"},
		"the second time":      {&wire.License{}, `{"activates":"2026-01-02T03:04:05Z","expires":"2026-01-02"}`, "expires must be a time"},
		"a time deep down":     {&wire.PreviewRequest{}, `{"licenses":[{"id":` + id + `},{"expires":"x"}]}`, "licenses[1].expires must be a time"},
		"a time behind a time": {&wire.ReplayRequest{}, `{"since":"2026-01-02T03:04:05Z","change":{"activates":""}}`, "change.activates must be a time"},
		"no JSON":              {&wire.License{}, `{"activates":`, "not JSON"},
		"nothing":              {&wire.License{}, ``, "the body is empty"},
		"null":                 {&wire.License{}, " null\n", "the body must be a JSON object"},
		"a start that is null": {&startBody{}, `null`, "the body must be a JSON object"},
		"a text":               {&wire.License{}, `"x"`, "the body must be a JSON object"},
		"a title":              {&wire.License{}, `{"title":"\ud800"}`, "title has half a character"},
		"a byte of a title":    {&wire.License{}, "{\"title\":\"\xff\"}", "title has a byte that is not UTF-8"},
		"a manager":            {&wire.License{}, `{"managers":["\u0000"]}`, "managers has a NUL"},
		"a setting":            {&createBody{}, `{"user_id":"a","settings":{"c":{"A":"\udc00"}}}`, "settings has half a character"},
		"too much":             {&wire.License{}, `{"title":"` + strings.Repeat("x", maxLicense) + `"}`, "262144 bytes"},
		"a variable's type":    {&startBody{}, `{"env":{"A":1}}`, `env."A" must be a text`},
		"variables as a list":  {&startBody{}, `{"env":[]}`, "env must be a JSON object"},
		"a variable's NUL":     {&startBody{}, `{"env":{"A":"x\u0000"}}`, `env."A" has a NUL`},
		"half a character":     {&startBody{}, `{"env":{"A":"\ud83dx"}}`, `env."A" has half a character`},
		"a name's case":        {&wire.License{}, `{"activates":null,"Activates":null}`, `the body has the member "Activates": write it activates`},
		"a name twice":         {&wire.License{}, `{"run_limit":5,"title":"T","run_limit":0}`, `the body has the member "run_limit" twice`},
		"a name twice, hidden": {&wire.License{}, `{"run_limit":5,"\u0072un_limit":0}`, `the body has the member "run_limit" twice`},
		"an unknown name":      {&createBody{}, `{"users":"a"}`, `the body has the member "users", which is none of user_id, manifest_url, settings`},
		"a case deep down":     {&wire.PreviewRequest{}, `{"licenses":[{},{"Quota":{}}]}`, `licenses[1] has the member "Quota": write it quota`},
		"unknown deep down":    {&wire.ReplayRequest{}, `{"change":{"quotas":{}}}`, `change has the member "quotas", which is none of id, title`},
		"a container twice":    {&createBody{}, `{"settings":{"c":{},"c":{}}}`, `settings has the member "c" twice`},
		"a setting twice":      {&createBody{}, `{"settings":{"c":{"A":"1","A":"2"}}}`, `settings."c" has the member "A" twice`},
		"a variable twice":     {&startBody{}, `{"env":{"A":"1","a":"2","A":"3"}}`, `env has the member "A" twice`},
		"the other half":       {&startBody{}, `{"env":{"A":"\udc00"}}`, `env."A" has half a character`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			err := readLimited(httptest.NewRecorder(), r, maxLicense, tt.into)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "Time.Unmarshal") {
				t.Errorf("%v; it must say %q", err, tt.says)
			}
		})
	}
}

// TestFreeBodies: what is anybody's is taken as it stands, whatever its names are.
func TestFreeBodies(t *testing.T) {
	t.Parallel()
	const free = `{"A":1,"a":{"b":[{"A":1,"A":2}]},"a":null}`
	var (
		start   startBody
		license wire.License
		preview wire.PreviewRequest
	)
	for body, into := range map[string]any{
		`{"env":{"A":"1","a":"2"},"config":` + free + `}`:                                                &start,
		` {"quota":` + free + `,"upgrades":` + free + `,"managers":["A","A"]} `:                          &license,
		`{"template":` + free + `,"licenses":[{"quota":` + free + `}],"settings":{"c":{"A":"","a":""}}}`: &preview,
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if err := readLimited(httptest.NewRecorder(), r, maxLicense, into); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	for what, got := range map[string]json.RawMessage{
		"config": start.Config, "quota": license.Quota, "upgrades": license.Upgrades, "template": preview.Template, "a quota in a list": preview.Licenses[0].Quota,
	} {
		if string(got) != free {
			t.Errorf("%s is %s", what, got)
		}
	}
}

// TestUnmetConditions: a 412 says which condition it is, and what to do.
func TestUnmetConditions(t *testing.T) {
	t.Parallel()
	const path = "/v1/licenses/" + exampleID
	for name, tt := range map[string]struct {
		method, header, value, says string
	}{
		"a new one":  {http.MethodPut, "If-None-Match", "*", "there is a license " + exampleID + " already"},
		"any":        {http.MethodPut, "If-Match", "*", "there is no license " + exampleID},
		"a revision": {http.MethodPut, "If-Match", `"r1"`, "read it again"},
		"a delete":   {http.MethodDelete, "If-Match", `"r1"`, "read it again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &Handler{
				Guard: failing{caller: access.Caller{Admin: true}}, Asks: &asked{err: &Fault{Reason: events.Conflict, Message: "why"}}, Log: zerolog.Nop(),
			}
			mux := http.NewServeMux()
			if err := h.Register(mux); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tt.method, path, strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(tt.header, tt.value)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != http.StatusPreconditionFailed || !strings.Contains(w.Body.String(), tt.says) || strings.Contains(w.Body.String(), "why") {
				t.Errorf("%d %s; it must say %q", w.Code, w.Body, tt.says)
			}
		})
	}
}

// TestStartRequest: what is left out of a start differs from what is there and empty.
func TestStartRequest(t *testing.T) {
	t.Parallel()
	const id = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	asked := func(change func(*events.ProjectRequest)) events.ProjectRequest {
		r := events.ProjectRequest{ID: id, Cause: events.CauseAsked}
		change(&r)
		return r
	}
	plain := asked(func(*events.ProjectRequest) {})
	tests := map[string]struct {
		body string
		want events.ProjectRequest
		says string
	}{
		"nothing": {`{}`, plain, ""},
		"nulls":   {`{"image":null,"tag":null,"env":null,"config":null}`, plain, ""},
		"all": {
			`{"image":"r.example.org:5000/a/b@sha256:0f","tag":"v1.2_3","env":{"A":"\ud83d\ude00"},"config":{"a":[1e3]}}`,
			asked(func(r *events.ProjectRequest) {
				r.Image, r.Tag, r.Env, r.Config = "r.example.org:5000/a/b@sha256:0f", "v1.2_3", map[string]string{"A": "😀"}, json.RawMessage(`{"a":[1e3]}`)
			}), "",
		},
		"all empty": {
			`{"image":"","tag":"","env":{},"config":{}}`,
			asked(func(r *events.ProjectRequest) {
				r.Reset, r.Config = []string{"image", "tag", "env"}, json.RawMessage(`{}`)
			}), "",
		},
		"a tag that no label can have":   {`{"tag":"_x"}`, plain, "tag must be"},
		"a long tag":                     {`{"tag":"` + strings.Repeat("x", 64) + `"}`, plain, "tag must be"},
		"an image with a space":          {`{"image":"a b"}`, plain, "image is no name"},
		"an image with a placeholder":    {`{"image":"{x}"}`, plain, "image is no name"},
		"an option as an image":          {`{"image":"--privileged"}`, plain, "image is no name"},
		"a config with a NUL":            {`{"config":{"a":"\u0000"}}`, plain, "config has a NUL"},
		"a config with half a character": {`{"config":{"a\ud800":1}}`, plain, "config has half a character"},
		"a backslash before u0000":       {`{"config":{"a":"\\u0000"}}`, asked(func(r *events.ProjectRequest) { r.Config = json.RawMessage(`{"a":"\\u0000"}`) }), ""},
		"a huge number":                  {`{"config":{"a":[1e200000]}}`, plain, "config has the number"},
		"a tiny number":                  {`{"config":{"a":1E-20000}}`, plain, "config has the number"},
		"a long number":                  {`{"config":{"a":1` + strings.Repeat("0", 500) + `}}`, plain, "config has the number"},
		"config as text":                 {`{"config":"{}"}`, plain, "config must be"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var body startBody
			if err := json.Unmarshal([]byte(tt.body), &body); err != nil {
				t.Fatal(err)
			}
			err := body.check()
			switch {
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("check = %v; it must say %q", err, tt.says)
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says == "":
				if d := cmp.Diff(tt.want, body.request(id)); d != "" {
					t.Errorf("request (-want +got):\n%s", d)
				}
			}
		})
	}
}

// TestHashOfAStart: a request that is repeated with something else is another one, also where that is empty.
func TestHashOfAStart(t *testing.T) {
	t.Parallel()
	sums := map[string]string{}
	for _, text := range []string{`{}`, `{"image":""}`, `{"tag":""}`, `{"env":{}}`, `{"config":{}}`} {
		var body startBody
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		sum, err := hashOf(body)
		if err != nil || sums[sum] != "" {
			t.Errorf("%s is the same as %s, %v", text, sums[sum], err)
		}
		sums[sum] = text
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
		if !isNull(body.Config) && !strings.HasPrefix(strings.TrimSpace(string(body.Config)), "{") {
			t.Errorf("%q was taken with the config %s", text, body.Config)
		}
	})
}
