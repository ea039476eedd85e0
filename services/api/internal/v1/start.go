package v1

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"berth/pkg/events"
)

// The limits of a start, in bytes and in number. Template, variables and configuration have to fit into
// one command.
const (
	maxStart     = 384 << 10
	maxEnv       = 256 << 10
	maxVariables = 1000
	maxConfig    = 64 << 10
	maxReference = 255
)

var (
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)
	// imagePattern is what can be an image's name, or a part of one, with registry, port and digest.
	imagePattern = regexp.MustCompile(`^[A-Za-z0-9]+(?:(?:[._-]+|[:/@])[A-Za-z0-9]+)*$`)
	// tagPattern is what both a tag and the value of a label can be: the pod has a label with it.
	tagPattern = regexp.MustCompile(`^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
)

// startBody is the body of a start. What is left out is as it was at the last start; what is there and empty is as
// the site gives it.
type startBody struct {
	Image  *string         `json:"image,omitempty" jsonschema:"the image, in the template {PROJECT_IMAGE}; empty: the site's; without it as at the last start"`
	Tag    *string         `json:"tag,omitempty" jsonschema:"its tag, in the template {PROJECT_TAG}; empty: the site's; without it as at the last start"`
	Env    variables       `json:"env,omitzero" jsonschema:"variables by name, in the template {extra_env}, 256 KiB at most; without it as at the last start"`
	Config json.RawMessage `json:"config,omitempty" jsonschema:"an object, in the template {project_config}, 64 KiB at most; as at the last start without it"`
}

// variables are variables by name. Reading them says which of them has no text that can be kept, without its value.
type variables map[string]string

// UnmarshalJSON implements [json.Unmarshaler]; its error is a [*Fault].
func (v *variables) UnmarshalJSON(text []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return invalid("env must be a JSON object: texts by the names of variables")
	}
	if raw == nil {
		return nil // A null is nothing.
	}
	*v = make(variables, len(raw))
	for name, value := range raw {
		var one *string
		if err := json.Unmarshal(value, &one); err != nil || one == nil {
			return &Fault{Reason: events.SettingsInvalid, Message: "env." + short(name) + " must be a text"}
		}
		if wrong := unstorable(value); wrong != "" {
			return &Fault{Reason: events.SettingsInvalid, Message: "env." + short(name) + " has " + wrong + ", which no variable can: leave it out"}
		}
		(*v)[name] = *one
	}
	return nil
}

// request is what the body asks for, about a project.
func (b startBody) request(project string) events.ProjectRequest {
	r := events.ProjectRequest{ID: project, Cause: events.CauseAsked}
	for _, part := range []struct {
		given *string
		into  *string
		reset string
	}{{b.Image, &r.Image, events.ResetImage}, {b.Tag, &r.Tag, events.ResetTag}} {
		switch {
		case part.given == nil:
		case *part.given == "":
			r.Reset = append(r.Reset, part.reset)
		default:
			*part.into = *part.given
		}
	}
	switch {
	case len(b.Env) > 0:
		r.Env = b.Env
	case b.Env != nil:
		r.Reset = append(r.Reset, events.ResetEnv)
	}
	if !isNull(b.Config) {
		r.Config = b.Config
	}
	return r
}

// check says what is wrong with a start, without its values.
func (b startBody) check() error {
	if err := checkReference(given(b.Image), given(b.Tag)); err != nil {
		return err
	}
	if len(b.Env) > maxVariables {
		return &Fault{Reason: events.SettingsInvalid, Message: "env has more than " + strconv.Itoa(maxVariables) + " variables"}
	}
	size := 0
	for name, value := range b.Env {
		if size += len(name) + len(value); !variablePattern.MatchString(name) {
			return &Fault{
				Reason: events.SettingsInvalid, Message: "env." + short(name) + " is no name of a variable: use letters, digits and _, at most 255, and no digit first",
			}
		}
	}
	if size > maxEnv {
		return &Fault{Reason: events.SettingsInvalid, Message: "env has " + strconv.Itoa(size) + " bytes, more than " + strconv.Itoa(maxEnv)}
	}
	if isNull(b.Config) {
		return nil
	}
	text := strings.TrimSpace(string(b.Config))
	switch wrong := unstorable(b.Config); {
	case !strings.HasPrefix(text, "{"):
		return invalid("config must be a JSON object")
	case len(text) > maxConfig:
		return invalid("config has " + strconv.Itoa(len(text)) + " bytes, more than " + strconv.Itoa(maxConfig))
	case wrong != "":
		return invalid("config has " + wrong + ", which cannot be kept: leave it out")
	}
	return nil
}

// given is a text that may be left out.
func given(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// checkReference says what is wrong with an image and a tag, which may be empty.
func checkReference(image, tag string) error {
	switch {
	case image != "" && (len(image) > maxReference || !imagePattern.MatchString(image)):
		return invalid("image is no name of an image: write it like registry.example.org/project, with at most " + strconv.Itoa(maxReference) + " characters")
	case tag != "" && !tagPattern.MatchString(tag):
		return invalid("tag must be a tag that a label can have, like v1.2: letters, digits, -, _ and ., at most 63, with a letter or digit at both ends")
	}
	return nil
}

// isNull says whether a value is missing or null.
func isNull(text json.RawMessage) bool {
	trimmed := strings.TrimSpace(string(text))
	return trimmed == "" || trimmed == "null"
}

// short quotes what a stranger has written, in part.
func short(text string) string {
	const most = 40
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.QuoteToASCII(text)
}
