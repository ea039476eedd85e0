package access

import (
	"mime"
	"net/http"
	"regexp"
)

// What every endpoint asks of a user id, and of a request with a body.
const (
	// UserForm is the expression that a user id must match, in the notation of both
	// RE2 and ECMA 262.
	UserForm = `^[a-z0-9][-a-z0-9._]*[@]?[-a-z0-9._]*[a-z0-9]$`
	// OwnerForm is [UserForm], or the id under which the log has the pod of a project.
	OwnerForm = `^([a-z0-9][-a-z0-9._]*[@]?[-a-z0-9._]*[a-z0-9]|project:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`
	// MaxUser is how long a user id may be, in bytes.
	MaxUser = 190
)

var userForm = regexp.MustCompile(UserForm)

// IsUser says whether a text can be a user id.
func IsUser(id string) bool { return len(id) <= MaxUser && userForm.MatchString(id) }

// IsJSON says whether a request calls its body JSON. A browser sends this type to
// another site only after asking, so that a web page cannot act as a silo on the
// machine that it is shown on.
func IsJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}
