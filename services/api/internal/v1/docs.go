package v1

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/events"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle string

// docsHandlers are what explains the API, by path. They tell nothing about the
// site, so anybody may read them, who then knows how to say who they are.
func docsHandlers() (map[string]http.Handler, error) {
	text, err := openAPI()
	if err != nil {
		return nil, err
	}
	page, err := renderDocs()
	if err != nil {
		return nil, err
	}
	style := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) + "'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return map[string]http.Handler{
		"/v1/openapi.json": static("application/json", text, ""),
		docsPath:           static("text/html; charset=utf-8", page, policy),
	}, nil
}

// static answers with a text that does not change while the process lives.
func static(mediaType string, text []byte, policy string) http.Handler {
	sum := sha256.Sum256(text)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Type", mediaType)
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", tag)
		header.Set("X-Content-Type-Options", "nosniff")
		if policy != "" {
			header.Set("Content-Security-Policy", policy)
			header.Set("Referrer-Policy", "no-referrer")
		}
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(text) // A client that has gone away cannot be told.
	})
}

// docsData is what the page is made of.
type docsData struct {
	Style      template.CSS
	Info       info
	Operations []docsOperation
	Types      []docsType
	Reasons    []events.ReasonInfo
	Events     []events.TypeInfo
}

type docsOperation struct {
	Method, Path, ID, Summary, Description string
	Parameters                             []parameterObject
	Body                                   string
	Responses                              []docsResponse
}

type docsResponse struct{ Status, Description, Type string }

type docsType struct {
	Name    string
	Members []docsMember
}

type docsMember struct {
	Name, Type, Description string
	Required                bool
}

// renderDocs makes the page from the same document that programs read.
func renderDocs() ([]byte, error) {
	doc, err := describe()
	if err != nil {
		return nil, err
	}
	data := docsData{
		Style: template.CSS(docsStyle), //nolint:gosec // Ours.
		Info:  doc.Info, Reasons: events.Reasons(), Events: events.Types(),
	}
	for _, op := range operations() {
		o := doc.Paths[op.path][strings.ToLower(op.method)]
		shown := docsOperation{Method: op.method, Path: op.path, ID: op.id, Summary: op.summary, Description: op.description, Parameters: o.Parameters}
		if o.Body != nil {
			shown.Body = typeName(o.Body.Content["application/json"].Schema)
		}
		for status, r := range o.Responses {
			name := ""
			for _, media := range r.Content {
				name = typeName(media.Schema)
			}
			shown.Responses = append(shown.Responses, docsResponse{status, r.Description, name})
		}
		slices.SortFunc(shown.Responses, func(a, b docsResponse) int { return strings.Compare(a.Status, b.Status) })
		data.Operations = append(data.Operations, shown)
	}
	for name, s := range doc.Components.Schemas {
		t := docsType{Name: name}
		for _, member := range s.PropertyOrder {
			p := s.Properties[member]
			t.Members = append(t.Members, docsMember{member, typeName(p), p.Description, slices.Contains(s.Required, member)})
		}
		data.Types = append(data.Types, t)
	}
	slices.SortFunc(data.Types, func(a, b docsType) int { return strings.Compare(a.Name, b.Name) })
	page, err := template.New("docs").Funcs(template.FuncMap{"typeName": typeName, "inline": inline}).Parse(docsPage)
	if err != nil {
		return nil, fmt.Errorf("read the documentation page: %w", err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("make the documentation page: %w", err)
	}
	return out.Bytes(), nil
}

// inline marks what stands in backquotes as code.
func inline(text string) template.HTML {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		escaped := template.HTMLEscapeString(part)
		if i%2 == 1 {
			escaped = "<code>" + escaped + "</code>"
		}
		out.WriteString(escaped)
	}
	return template.HTML(out.String()) //nolint:gosec // Escaped above.
}

// typeName is a schema in a word.
func typeName(s *jsonschema.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, schemas)
	case s.Items != nil:
		return "list of " + typeName(s.Items)
	case s.AdditionalProperties != nil && s.Properties == nil:
		return "map of " + typeName(s.AdditionalProperties)
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, " | ")
	case s.Format != "":
		return s.Format
	case s.Type == "integer" && s.Minimum != nil && s.Maximum != nil:
		text := fmt.Sprintf("integer, %g to %g", *s.Minimum, *s.Maximum)
		var value any
		if json.Unmarshal(s.Default, &value) == nil {
			text += fmt.Sprintf(", %v without it", value)
		}
		return text
	}
	return s.Type
}
