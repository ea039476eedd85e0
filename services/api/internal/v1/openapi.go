package v1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

// The parts of an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html)
// that this API has.
type (
	document struct {
		OpenAPI    string                                `json:"openapi"`
		Info       info                                  `json:"info"`
		Servers    []server                              `json:"servers"`
		Security   []map[string][]string                 `json:"security"`
		Paths      map[string]map[string]operationObject `json:"paths"`
		Components components                            `json:"components"`
	}
	info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Summary     string `json:"summary"`
		Description string `json:"description"`
	}
	server struct {
		URL         string `json:"url"`
		Description string `json:"description"`
	}
	operationObject struct {
		ID          string                    `json:"operationId"` //nolint:tagliatelle // OpenAPI's word.
		Summary     string                    `json:"summary"`
		Description string                    `json:"description,omitempty"`
		Parameters  []parameterObject         `json:"parameters,omitempty"`
		Body        *bodyObject               `json:"requestBody,omitempty"` //nolint:tagliatelle // OpenAPI's word.
		Responses   map[string]responseObject `json:"responses"`
	}
	parameterObject struct {
		Name        string             `json:"name"`
		In          string             `json:"in"`
		Description string             `json:"description"`
		Required    bool               `json:"required,omitempty"`
		Style       string             `json:"style,omitempty"`
		Explode     *bool              `json:"explode,omitempty"`
		Schema      *jsonschema.Schema `json:"schema"`
		Example     any                `json:"example,omitempty"`
	}
	bodyObject struct {
		Required bool                   `json:"required"`
		Content  map[string]mediaObject `json:"content"`
	}
	responseObject struct {
		Description string                  `json:"description"`
		Headers     map[string]headerObject `json:"headers,omitempty"`
		Content     map[string]mediaObject  `json:"content,omitempty"`
	}
	headerObject struct {
		Description string             `json:"description"`
		Schema      *jsonschema.Schema `json:"schema"`
	}
	mediaObject struct {
		Schema *jsonschema.Schema `json:"schema"`
	}
	components struct {
		Schemas  map[string]*jsonschema.Schema `json:"schemas"`
		Security map[string]securityScheme     `json:"securitySchemes"` //nolint:tagliatelle // OpenAPI's word.
	}
	securityScheme struct {
		Type        string `json:"type"`
		Scheme      string `json:"scheme,omitempty"`
		Description string `json:"description"`
	}
)

// named are the types that the document describes once, by their names in it.
func named() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Pod": typeOf[Pod](), "PodList": typeOf[PodList](), "PodLicense": typeOf[PodLicense](), "PodTokens": typeOf[PodTokens](),
		"Timeline": typeOf[Timeline](), "Phase": typeOf[Phase](), "CreatePod": typeOf[createBody](), "Problem": typeOf[Problem](),
		"StreamReset": typeOf[StreamReset](), "StreamSynced": typeOf[StreamSynced](),
		"Project": typeOf[Project](), "ProjectStart": typeOf[ProjectStart](), "ProjectDetails": typeOf[ProjectDetails](),
		"ProjectRow": typeOf[wire.Project](), "StartProject": typeOf[startBody](), "LicenseStatus": typeOf[wire.LicenseStatus](),
		"License": typeOf[wire.License](), "LicenseList": typeOf[wire.LicenseList](),
		"Seat": typeOf[wire.Seat](), "SeatList": typeOf[wire.SeatList](), "Usage": typeOf[wire.Usage](), "UsageList": typeOf[wire.UsageList](),
		"PreviewRequest": typeOf[wire.PreviewRequest](), "Preview": typeOf[wire.Preview](), "PreviewFault": typeOf[wire.PreviewFault](),
		"ReplayRequest": typeOf[wire.ReplayRequest](), "Replay": typeOf[wire.Replay](), "Replayed": typeOf[wire.Replayed](), "Verdict": typeOf[wire.Verdict](),
	}
}

// openAPI is the document as it is served.
var openAPI = sync.OnceValues(func() ([]byte, error) { //nolint:gochecknoglobals // A constant.
	doc, err := describe()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(doc); err != nil {
		return nil, fmt.Errorf("marshal the OpenAPI document: %w", err)
	}
	return text.Bytes(), nil
})

// describe makes the document from the table of operations and the types.
func describe() (document, error) {
	doc := document{
		OpenAPI: "3.1.1",
		Info: info{
			Title: "Berth", Version: "1", Summary: "Pods for the users of a site",
			Description: "Make, list, follow and delete the pods of users. A caller may name the users of its own domains; all others are, to it, " +
				"users who have nothing. Failures are problem details (RFC 9457) with one of the reasons below; only a header that is too large (431), " +
				"or one that is not HTTP (400), is answered in plain text:\n\n" + reasonList() +
				"\nA pod goes through these events:\n\n" + eventList(),
		},
		Servers:  []server{{URL: "/", Description: "the service that serves this document"}},
		Security: []map[string][]string{{}, {"token": {}}, {"certificate": {}}},
		Paths:    map[string]map[string]operationObject{},
		Components: components{
			Schemas: map[string]*jsonschema.Schema{},
			Security: map[string]securityScheme{
				"token":       {Type: "http", Scheme: "bearer", Description: "The token of a silo, or of an administrator."},
				"certificate": {Type: "mutualTLS", Description: "The client certificate of a silo."},
			},
		},
	}
	for name, t := range named() {
		s, err := schemaOf(t)
		if err != nil {
			return document{}, err
		}
		doc.Components.Schemas[name] = s
	}
	for _, op := range operations() {
		if doc.Paths[op.path] == nil {
			doc.Paths[op.path] = map[string]operationObject{}
		}
		doc.Paths[op.path][strings.ToLower(op.method)] = op.object()
	}
	return doc, nil
}

func reasonList() string {
	var text strings.Builder
	for _, info := range events.Reasons() {
		fmt.Fprintf(&text, "- `%s`: %s\n", info.Reason, info.Means)
	}
	return text.String()
}

func eventList() string {
	var text strings.Builder
	for _, info := range events.Types() {
		fmt.Fprintf(&text, "- `%s`: %s\n", info.Type, info.Means)
	}
	return text.String()
}

func (op operation) object() operationObject {
	o := operationObject{ID: op.id, Summary: op.summary, Description: op.description, Responses: map[string]responseObject{}}
	for _, p := range op.parameters {
		o.Parameters = append(o.Parameters, p.object())
	}
	if op.body != nil {
		o.Body = &bodyObject{Required: !op.bare, Content: map[string]mediaObject{"application/json": {refTo(op.body)}}}
	}
	for _, s := range op.answers {
		response := responseObject{Description: s.description}
		switch {
		case s.media == eventStream:
			response.Content = map[string]mediaObject{eventStream: {&jsonschema.Schema{Type: "string"}}}
		case s.body != nil:
			response.Content = map[string]mediaObject{"application/json": {refTo(s.body)}}
		}
		if s.located || s.tagged {
			response.Headers = map[string]headerObject{}
		}
		if s.located {
			response.Headers["Location"] = headerObject{"Where it is found.", &jsonschema.Schema{Type: "string"}}
		}
		if s.tagged {
			response.Headers["ETag"] = headerObject{"The revision, for If-Match.", &jsonschema.Schema{Type: "string"}}
		}
		o.Responses[strconv.Itoa(s.status)] = response
	}
	everywhere := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	for _, status := range slices.Concat(everywhere, op.fails) {
		o.Responses[strconv.Itoa(status)] = failure(status)
	}
	return o
}

// failure describes a problem with a status.
func failure(status int) responseObject {
	r := responseObject{
		Description: http.StatusText(status) + ".", Content: map[string]mediaObject{problemType: {refTo(typeOf[Problem]())}},
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		r.Headers = map[string]headerObject{"Retry-After": {"When to ask again, in seconds.", &jsonschema.Schema{Type: "integer"}}}
	}
	return r
}

func (p parameter) object() parameterObject {
	o := parameterObject{Name: p.name, In: p.in, Description: p.description, Required: p.required, Schema: p.schema}
	if p.example != "" {
		o.Example = p.example
	}
	if p.list {
		// Values with commas between, in one parameter.
		explode := false
		o.Style, o.Explode, o.Schema = "form", &explode, &jsonschema.Schema{Type: "array", Items: p.schema}
		o.Example = strings.Split(p.example, ",")
	}
	return o
}

const schemas = "#/components/schemas/"

func refTo(t reflect.Type) *jsonschema.Schema {
	for name, known := range named() {
		if known == t {
			return &jsonschema.Schema{Ref: schemas + name}
		}
	}
	return &jsonschema.Schema{}
}

// schemaOf is the schema of a type, which refers to the other types by name.
func schemaOf(t reflect.Type) (*jsonschema.Schema, error) {
	moment := &jsonschema.Schema{Type: "string", Format: "date-time"}
	known := map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time](): moment, reflect.TypeFor[*time.Time](): moment, reflect.TypeFor[json.RawMessage](): {},
	}
	for name, other := range named() {
		if other != t {
			known[other] = &jsonschema.Schema{Ref: schemas + name}
		}
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: known})
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", t, err)
	}
	if t == typeOf[wire.License]() {
		s.Required = nil // It is also what is saved, without what is only told.
	}
	tidy(s, slices.Contains([]reflect.Type{typeOf[createBody](), typeOf[startBody](), typeOf[wire.PreviewRequest](), typeOf[wire.ReplayRequest]()}, t))
	return s, nil
}

// tidy says what encoding/json and the code do, where the schema of a Go type alone
// says something else: a list or map that is there is never null, and later versions may
// add members to answers (but a body with unknown members is refused).
func tidy(s *jsonschema.Schema, strict bool) {
	if s == nil {
		return
	}
	if len(s.Types) == 2 {
		if i := slices.Index(s.Types, "null"); i >= 0 {
			s.Type, s.Types = s.Types[1-i], nil
		}
	}
	if s.Ref != "" {
		s.Types = nil
	}
	if s.Properties != nil && !strict {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		tidy(p, strict)
	}
	tidy(s.Items, strict)
	if s.Properties == nil {
		tidy(s.AdditionalProperties, strict)
	}
}
