package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"berth/pkg/events"
	"berth/pkg/license"
)

// How much of a refusal of a pod that licenses have changed is told, so that the licenses
// are told in any case: bytes of the refusal, and how many licenses.
const (
	maxRefusal = 1200
	maxBlamed  = 4
)

// blame says with the refusal of a pod which licenses have changed that by what they write into it as
// they please: patches, gpu and dedicated_vm. Without one it is the refusal alone.
func blame(refusal error, licenses []events.License) error {
	var blamed []string
	more, patched, machine := 0, false, false
	for _, l := range licenses {
		if !l.Patched && !l.Machine {
			continue
		}
		patched, machine = patched || l.Patched, machine || l.Machine
		switch {
		case len(blamed) == maxBlamed:
			more++
		case l.Title == "":
			blamed = append(blamed, fmt.Sprintf("license %.36s", l.ID))
		default:
			blamed = append(blamed, fmt.Sprintf("license %.80q (%.36s)", l.Title, l.ID))
		}
	}
	what := "patch, gpu or machine"
	switch {
	case len(blamed) == 0:
		return refusal
	case !machine:
		what = "patch"
	case !patched:
		what = "gpu or machine"
	}
	text := refusal.Error()
	if len(text) > maxRefusal {
		text = strings.ToValidUTF8(text[:maxRefusal], "") + "…"
	}
	names := strings.Join(blamed, ", ")
	if more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return errors.New(text + " (the pod was changed by the " + what + " of " + names + ")")
}

// quoted is a value that the API server quotes.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// discreet is the refusal of a pod without values of it that may be secret: the API server
// quotes what it does not take, and what is refused goes into the log.
func discreet(rendered json.RawMessage, refusal error) error {
	text := refusal.Error()
	if !license.Reveals(rendered, text) {
		return refusal
	}
	text = quoted.ReplaceAllStringFunc(text, func(value string) string {
		if license.Reveals(rendered, value) {
			return `"(withheld)"`
		}
		return value
	})
	if license.Reveals(rendered, text) {
		return errors.New("the message of the API server has values of the pod that may be secret, and is not repeated")
	}
	return errors.New(text)
}
