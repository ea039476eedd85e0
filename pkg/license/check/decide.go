package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/quota"
)

// Statuses of a license in a project.
const (
	Active      = "active"      // gives something, and holds a seat
	Ineffective = "ineffective" // gives nothing beyond the others
	Exhausted   = "exhausted"   // all seats are taken
	Future      = "future"      // not yet activated
	Expired     = "expired"     // over, or gone
)

// MaxLicenses is how many licenses a project may have: each is tried beside all
// that were examined before it.
const MaxLicenses = 1000

// valid is the status of a license that may be used.
const valid = "valid"

// Row is a license as administrators keep it.
type Row struct {
	ID string
	// Activates and Expires bound its life: usable from the one on and before the
	// other. Without Activates it is never usable, without Expires for ever.
	Activates, Expires *time.Time
	// Upgrades is an old-style license, Quota a new-style one; objects or unset.
	Upgrades, Quota json.RawMessage
	// RunLimit is the number of seats, nil or 0 for any number, none if negative.
	RunLimit *int64
}

// Input is one start.
type Input struct {
	Now time.Time
	// Rows are the licenses that exist of those in SiteLicense; others do not matter.
	Rows []Row
	// Settings and Users are the project's, Site the site's; see [quota.Input].
	Settings, Users, Site json.RawMessage
	// SiteLicense is what the project has: license ids and the values stored under
	// them, in any order. [Licenses] reads it. nil if it has none; then nothing is decided.
	SiteLicense []quota.License
	// SeatsOfOthers returns how many seats of a license other projects hold: those
	// that start or run and have it as [Active]. It is only asked for licenses with
	// a limit. nil means that none are held.
	SeatsOfOthers func(license string) int
	// PayAsYouGo says that a purchase runs for the project.
	PayAsYouGo bool
}

// Status is what was decided of one license.
type Status struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Result is what was decided.
type Result struct {
	// Written are the new values, in the order of Order. Where Changed, they are to
	// be stored under their ids, each in place of the whole old value.
	Written []quota.License
	Changed bool
	// SiteLicense is all that the project has afterwards, in stored order.
	SiteLicense []quota.License
	// Order is the order in which the licenses were examined; those without a row
	// come last, as nothing depends on them.
	Order []string
	// Active are the licenses that need a seat, if theirs are limited, LastUsed
	// those whose last use is now; both ascending, in lower case as the rows have them.
	Active, LastUsed []string
	// Statuses are those of Written, ascending by id.
	Statuses []Status
	// BadPatches are those of licenses that may be used and whose patch does not
	// load. A start has to fail for them.
	BadPatches []quota.BadPatch
}

// Decide examines the licenses of a project one after the other: first dedicated
// machines, then disks, then by hosting type and idle class, then boosts. One that
// may be used and changes the quota that those before it give is active. A decision
// is never revisited: an active license stays active even if a later one displaces
// its group.
//
// It fails as [quota.Compute] does: for a dedicated machine that is unknown
// ([quota.ErrUnknownMachine]) and for values of a wrong type ([quota.ErrInvalid]), and
// so it does for more than [MaxLicenses]. It is safe for concurrent use if
// SeatsOfOthers is.
func Decide(in Input) (Result, error) {
	if len(in.SiteLicense) > MaxLicenses {
		fix := fmt.Sprintf("has %d licenses: take some away, %d are allowed", len(in.SiteLicense), MaxLicenses)
		return Result{}, &quota.FieldError{Field: "site_license", Fix: fix}
	}
	stored := inStoredOrder(in.SiteLicense)
	return decide(in, stored, inExaminationOrder(stored, in.Rows))
}

// decide examines the rows in their order.
func decide(in Input, stored []quota.License, rows []*row) (Result, error) {
	project, err := quota.NewProject(quota.Input{Settings: in.Settings, Users: in.Users, Site: in.Site})
	if err != nil {
		return Result{}, err
	}
	e := examination{in: in, project: project}
	for _, row := range rows {
		if err := e.examine(row); err != nil {
			return Result{}, err
		}
		e.used = append(e.used, row.ID)
	}
	return e.result(stored), nil
}

// examination is a start under way.
type examination struct {
	in      Input
	project *quota.Project
	// grants are what the licenses examined so far give, written what becomes of them.
	grants   []quota.Grant
	written  []quota.License
	statuses []Status
	bad      []quota.BadPatch
	// active and used are the ids of the rows that are in use, and that were examined.
	active, used []string
}

// examine decides on the next license.
func (e *examination) examine(row *row) error {
	switch status := e.standing(row); {
	case status == Ineffective:
		return e.empty(row, status)
	case status != valid:
		e.write(row.key, Status{Status: status, Reason: status})
		return nil
	case row.broken != nil:
		return row.broken
	}
	license := quota.License{ID: row.key, Value: row.candidate()}
	grant, err := quota.Read(license)
	if err != nil {
		return err
	}
	without, err := e.project.Compute(e.grants)
	if err != nil {
		return err
	}
	with, err := e.project.Compute(append(slices.Clip(e.grants), grant))
	if err != nil {
		return err
	}
	for _, bad := range with.BadPatches {
		// With a purchase no license's patch is used.
		if bad.License == row.key && !e.in.PayAsYouGo {
			e.bad = append(e.bad, bad)
		}
	}
	if !without.Quota.Equal(with.Quota) {
		e.grants = append(e.grants, grant)
		e.written = append(e.written, license)
		e.statuses = append(e.statuses, Status{ID: row.key, Status: Active})
		e.active = append(e.active, row.ID)
		return nil
	}
	return e.empty(row, with.Reasons[row.key])
}

// empty writes a license as ineffective. It gives nothing, but a boost of the last group
// may stand on it.
func (e *examination) empty(row *row, reason string) error {
	grant, err := quota.Read(e.write(row.key, Status{Status: Ineffective, Reason: reason}))
	if err != nil {
		return err
	}
	e.grants = append(e.grants, grant)
	return nil
}

// write keeps the value of a license that is not used.
func (e *examination) write(id string, status Status) quota.License {
	value := `{"status":"` + status.Status + `"`
	if status.Reason != "" {
		value += `,"reason":"` + status.Reason + `"`
	}
	license := quota.License{ID: id, Value: json.RawMessage(value + "}")}
	status.ID = id
	e.written = append(e.written, license)
	e.statuses = append(e.statuses, status)
	return license
}

// standing returns the status of a license before its effect is known. The first
// rule that holds counts: so one that expires now is expired, and one that expired
// before it activated, too.
func (e *examination) standing(row *row) string {
	switch now := e.in.Now; {
	case row.Expires != nil && !row.Expires.After(now):
		return Expired
	case row.Activates == nil || row.Activates.After(now):
		return Future
	case e.full(row):
		return Exhausted
	case e.in.PayAsYouGo && !row.besidePurchase:
		return Ineffective
	default:
		return valid
	}
}

// full reports whether others hold all seats.
func (e *examination) full(row *row) bool {
	if row.RunLimit == nil || *row.RunLimit == 0 || e.in.SeatsOfOthers == nil {
		return false
	}
	return int64(e.in.SeatsOfOthers(row.ID)) >= *row.RunLimit
}

// result puts together what was decided of the rows, and what becomes of the rest.
func (e *examination) result(stored []quota.License) Result {
	result := Result{BadPatches: e.bad, Active: e.active, LastUsed: e.used}
	examined := make(map[string]quota.License, len(stored))
	for _, license := range e.written {
		examined[license.ID] = license
	}
	// A value without a row would keep what it once gave.
	for _, license := range stored {
		if _, there := examined[license.ID]; !there {
			examined[license.ID] = e.write(license.ID, Status{Status: Expired, Reason: Expired})
		}
	}
	result.Written, result.Statuses = e.written, slices.Clone(e.statuses)
	for _, license := range e.written {
		result.Order = append(result.Order, license.ID)
	}
	slices.Sort(result.Active)
	slices.Sort(result.LastUsed)
	slices.SortFunc(result.Statuses, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	if stored != nil {
		result.SiteLicense = make([]quota.License, len(stored))
	}
	for i, license := range stored {
		result.SiteLicense[i] = examined[license.ID]
		result.Changed = result.Changed || !rawjson.Equal(license.Value, examined[license.ID].Value)
	}
	return result
}
