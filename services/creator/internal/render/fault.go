package render

import (
	"fmt"
	"strings"
)

// Reason codes of Error, spelled as in the event contract.
const (
	ReasonManifestInvalid = "MANIFEST_INVALID"
	ReasonSettingsInvalid = "SETTINGS_INVALID"
	ReasonStorageFailed   = "STORAGE_FAILED"
)

// maxFaults is how many faults one error lists, maxMessage how many bytes it has.
const (
	maxFaults  = 10
	maxMessage = 4 << 10
)

// Error says that a manifest or the settings for it cannot be used at this site.
// Asking again with the same input gives the same error.
type Error struct {
	// Reason is one of the Reason constants.
	Reason string
	// Message names every fault, where it is and what is wrong, up to a limit. It
	// never quotes the value of a variable.
	Message string
}

func (e *Error) Error() string { return e.Message }

// faults collects what is wrong, so that all of it is said at once.
type faults []string

func (f *faults) addf(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

// err is nil without faults.
func (f *faults) err(reason string) error {
	list := *f
	if len(list) == 0 {
		return nil
	}

	message := strings.Join(list[:min(len(list), maxFaults)], "; ")
	if more := len(list) - maxFaults; more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}

	if len(message) > maxMessage {
		message = message[:maxMessage] + "…"
	}

	return &Error{Reason: reason, Message: strings.ToValidUTF8(message, "?")}
}
