package audit

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// maxManifest bounds the URL of a manifest in a record, in bytes.
const maxManifest = 2048

// Manifest returns the URL of a manifest as a record has it: without user, query and fragment, which may be secret.
// What is no URL, or too long for one, is said to be so.
func Manifest(text string) string {
	if len(text) > maxManifest {
		return "(longer than " + strconv.Itoa(maxManifest) + " bytes)"
	}
	u, err := url.Parse(text)
	if err != nil {
		return "(no URL)"
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u.String()
}

// Who fills in who sent a request: the caller, or, where the guard did not let it in, what the denial knows.
func Who(record *events.AuditRecord, r *http.Request, c access.Caller, denial error) {
	record.Silo, record.Admin = c.Silo.Name, c.Admin
	address := c.Address
	if d, ok := errors.AsType[*access.Denial](denial); ok {
		record.Silo, record.Denied, address = d.Silo, d.Reason != events.RateLimited, d.Address
	}
	if address.IsValid() {
		record.Address = address.String()
	} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		record.Address = host
	}
}
