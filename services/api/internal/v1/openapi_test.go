package v1

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

var update = flag.Bool("update", false, "write docs/openapi/v1.json anew")

// TestOpenAPIIsCommitted holds the document in docs/ against what the code makes.
func TestOpenAPIIsCommitted(t *testing.T) {
	t.Parallel()
	got, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "..", "..", "docs", "openapi", "v1.json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/openapi/v1.json is not what the code makes; go test ./services/api/internal/v1 -update (-want +got):\n%s", d)
	}
}

// TestOpenAPIHoldsTogether checks what the specification asks of a document and a
// schema alone cannot say.
func TestOpenAPIHoldsTogether(t *testing.T) {
	t.Parallel()
	doc, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	text, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllSubmatch(text, -1) {
		name, ok := strings.CutPrefix(string(ref[1]), schemas)
		if !ok || doc.Components.Schemas[name] == nil {
			t.Errorf("%s refers to nothing", ref[1])
		}
	}
	ids := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if ids[op.ID] {
				t.Errorf("%s %s: operationId %s is there twice", method, path, op.ID)
			}
			ids[op.ID] = true
			for _, p := range op.Parameters {
				if inURL := strings.Contains(path, "{"+p.Name+"}"); inURL != (p.In == "path") || inURL && !p.Required {
					t.Errorf("%s %s: parameter %s is in %q, required %v", method, path, p.Name, p.In, p.Required)
				}
				example(t, op.ID+" "+p.Name, p)
			}
			if strings.Contains(path, "{name}") && op.Responses["404"].Content == nil {
				t.Errorf("%s %s does not say 404", method, path)
			}
		}
	}
	for name, s := range doc.Components.Schemas {
		for member, p := range s.Properties {
			if p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s has no description", name, member)
			}
			if len(p.Types) > 0 {
				t.Errorf("%s.%s may be one of %v", name, member, p.Types)
			}
		}
	}
}

// example holds the example of a parameter against its schema.
func example(t *testing.T, what string, p parameterObject) {
	t.Helper()
	if p.Example == nil {
		return
	}
	resolved, err := p.Schema.Resolve(nil)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	value := p.Example
	if list, ok := value.([]string); ok {
		items := make([]any, len(list))
		for i, v := range list {
			items[i] = v
		}
		value = items
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%s: the example is wrong: %v", what, err)
	}
}

// TestSchemasFitTheTypes: what the code writes, full and empty, is what the
// document says.
func TestSchemasFitTheTypes(t *testing.T) {
	t.Parallel()
	doc, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	full := fullEntry()
	timeline, _ := timelineOf([]Step{{Entry: full, Source: "berth/watcher/x"}}, "", 1, full.Time)
	tests := map[string]struct {
		schema string
		value  any
	}{
		"a full pod":         {"Pod", podOf(full, "pods.example.org")},
		"a bare pod":         {"Pod", podOf(Entry{Record: events.Record{Event: events.Claimed, Pod: "p", User: "u"}}, "")},
		"no pods":            {"PodList", PodList{Pods: []Pod{}}},
		"pods":               {"PodList", PodList{Pods: []Pod{podOf(full, "")}, Next: "x"}},
		"tokens":             {"PodTokens", PodTokens{Tokens: map[string]string{"k": "v"}}},
		"a timeline":         {"Timeline", timeline},
		"a bare project":     {"Project", projectOf(exampleID, Entry{}, Entry{}, ProjectDetails{Unavailable: "x"}, "")},
		"a full project":     {"Project", projectOf(exampleID, full, licensedEntry(), ProjectDetails{Project: &wire.Project{Licenses: []wire.LicenseStatus{}}}, "")},
		"a start":            {"StartProject", startBody{Env: map[string]string{"A": "1"}, Config: json.RawMessage(`{}`)}},
		"a license":          {"License", wire.License{ID: exampleID, Activates: new(noon), RunLimit: new(1), Quota: json.RawMessage(`{"cpu":1}`)}},
		"a bare license":     {"License", wire.License{}},
		"a preview":          {"Preview", wire.Preview{Licenses: []wire.LicenseStatus{}, Fault: &wire.PreviewFault{}, Verdict: &wire.Verdict{}}},
		"a replay":           {"Replay", wire.Replay{Different: []wire.Replayed{{Pod: "p", Diff: json.RawMessage(`[]`)}}}},
		"a problem":          {"Problem", Problem{Type: "x", Title: "x", Status: 404, Detail: "x", Reason: "NOT_FOUND"}},
		"a body":             {"CreatePod", createBody{User: "u1", ManifestURL: "x", Settings: map[string]map[string]string{"c": {"A": "1"}}}},
		"a body, no setting": {"CreatePod", createBody{User: "u1", ManifestURL: "x"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(tt.value)
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(text, &value); err != nil {
				t.Fatal(err)
			}
			if err := resolve(t, doc, tt.schema).Validate(value); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		})
	}
}

// licensedEntry is a record that says how a pod was licensed.
func licensedEntry() Entry {
	e := fullEntry()
	e.Event = events.Licensed
	e.Licensing = &events.Licensing{Quota: json.RawMessage(`{}`), Explanation: json.RawMessage(`{"steps":[]}`), PodDigest: "sum"}
	return e
}

// resolve returns a schema of the document with those that it refers to.
func resolve(t *testing.T, doc document, name string) *jsonschema.Resolved {
	t.Helper()
	text, err := json.Marshal(map[string]any{"$ref": schemas + name, "$defs": doc.Components.Schemas})
	if err != nil {
		t.Fatal(err)
	}
	var root jsonschema.Schema
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte(schemas), []byte("#/$defs/")), &root); err != nil {
		t.Fatal(err)
	}
	resolved, err := root.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// TestDocs: the page needs nothing from elsewhere, and explains every operation,
// type and reason.
func TestDocs(t *testing.T) {
	t.Parallel()
	handlers, err := docsHandlers()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handlers[docsPath].ServeHTTP(w, httptest.NewRequest(http.MethodGet, docsPath, nil))
	page := w.Body.String()
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "http") {
		t.Errorf("policy %q", policy)
	}
	if strings.Contains(page, "://") && regexp.MustCompile(`(src|href)="[a-z]+://`).MatchString(page) {
		t.Error("the page loads something from elsewhere")
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") {
		t.Error("the page has a script, or something that the template refused")
	}
	anchors := map[string]bool{}
	for _, id := range regexp.MustCompile(`id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		anchors[id[1]] = true
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !anchors[link[1]] {
			t.Errorf("a link leads to #%s, which is nowhere", link[1])
		}
	}
	for _, op := range operations() {
		if !anchors[op.id] {
			t.Errorf("%s is not explained", op.id)
		}
	}
	for _, info := range events.Reasons() {
		if !anchors[string(info.Reason)] {
			t.Errorf("%s is not explained, although problems link to it", info.Reason)
		}
	}
	again := httptest.NewRequest(http.MethodGet, docsPath, nil)
	again.Header.Set("If-None-Match", w.Header().Get("ETag"))
	w = httptest.NewRecorder()
	if handlers[docsPath].ServeHTTP(w, again); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("asked again: %d, %d bytes", w.Code, w.Body.Len())
	}
}
