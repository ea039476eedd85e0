package manifest

import "fmt"

// Reason codes of Error, spelled as in the event contract.
const (
	ReasonForbidden   = "MANIFEST_FORBIDDEN"
	ReasonUnreachable = "MANIFEST_UNREACHABLE"
	ReasonInvalid     = "MANIFEST_INVALID"
)

// Error says why there is no manifest.
type Error struct {
	// Reason is one of the Reason constants.
	Reason string
	// Message is for people. It names the address without its query, which may hold
	// a token.
	Message string
}

func (e *Error) Error() string { return e.Message }

func fault(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
