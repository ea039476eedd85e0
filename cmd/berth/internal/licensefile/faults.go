package licensefile

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"berth/pkg/client"
	"berth/pkg/license/quota"
)

const noLimit = "run_limit must be a whole number; 0 is for no limit"

// Faults says what the service would say to quota, upgrades and run_limit, with the lines. saved is the license as it
// is, nil for one that is new: what it has, hubs may have written, and it is not for those to mend who edit something
// else.
func (f File) Faults(saved *client.SiteLicense) []Fault {
	if saved == nil {
		saved = &client.SiteLicense{}
	}
	l := f.License
	var faults []Fault
	for _, err := range parts(quota.CheckLicense(broughtIn(l.Quota, saved.Quota), broughtIn(l.Upgrades, saved.Upgrades))) {
		at := f.Line
		if field, ok := errors.AsType[*quota.FieldError](err); ok {
			at = f.places.line(field.Field, at)
		}
		faults = append(faults, Fault{f.Name, at, err.Error()})
	}
	if n := l.RunLimit; n != nil && *n < 0 && (saved.RunLimit == nil || *saved.RunLimit != *n) {
		faults = append(faults, Fault{f.Name, f.places.line("run_limit", f.Line), noLimit})
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return faults
}

// parts are the errors that one joins.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// broughtIn is what of a value the one before does not have: the members that are new or other ones, where both are
// objects, or nothing where both are the same.
func broughtIn(now, before json.RawMessage) json.RawMessage {
	members, old := membersOf(now), membersOf(before)
	switch {
	case same(now, before):
		return nil
	case members == nil || old == nil:
		return now
	}
	for name, value := range members {
		if had, ok := old[name]; ok && same(value, had) {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return now // What was read can always be written.
	}
	return text
}
