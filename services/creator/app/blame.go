package app

import (
	"errors"
	"fmt"
	"strings"

	"berth/pkg/events"
)

// How much of a refusal of a pod that licenses have changed is told, so that the licenses
// are told in any case: bytes of the refusal, and how many licenses.
const (
	maxRefusal = 1200
	maxBlamed  = 4
)

// blame says with the refusal of a pod which licenses have changed that by their patches.
// Without one it is the refusal alone.
func blame(refusal error, licenses []events.License) error {
	var patched []string
	more := 0
	for _, l := range licenses {
		switch {
		case !l.Patched:
		case len(patched) == maxBlamed:
			more++
		default:
			patched = append(patched, fmt.Sprintf("license %.80q (%.36s)", l.Title, l.ID))
		}
	}
	if len(patched) == 0 {
		return refusal
	}
	text := refusal.Error()
	if len(text) > maxRefusal {
		text = strings.ToValidUTF8(text[:maxRefusal], "") + "…"
	}
	names := strings.Join(patched, ", ")
	if more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return errors.New(text + " (the pod was changed by the patch of " + names + ")")
}
