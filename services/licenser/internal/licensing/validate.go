package licensing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"berth/pkg/events"
	"berth/pkg/license"
	"berth/pkg/license/quota"
	"berth/pkg/license/wire"
)

// The bounds of a license that is saved, in bytes where nothing else is said.
const (
	maxTitleLetters = 256
	maxDescription  = 64 << 10
	maxQuota        = 128 << 10
	maxPatch        = 64 << 10
	maxManagers     = 1000
	maxManager      = 256
	// maxYear is the last year in which a license may begin or end, as the database keeps it.
	maxYear = 9998
)

// Validate says what is wrong with a license that is to be saved; whether its patch can be applied is
// seen with [Decide]. saved is the license as it is, nil for a new one: what hubs have saved in it and an edit leaves alone
// is not refused. The error is a [*Fault] that names the field and how to mend it.
func Validate(l wire.License, saved *wire.License) error {
	if saved == nil {
		saved = &wire.License{}
	}
	if err := quotaFault(l, *saved); err != nil {
		return err
	}
	if wrong := fieldFault(l, *saved); wrong != "" {
		return &Fault{events.LicenseInvalid, "license " + naming(l) + ": " + wrong}
	}
	return nil
}

// fieldFault checks what is neither quota nor upgrades.
func fieldFault(l, saved wire.License) string {
	times := !sameTime(l.Activates, saved.Activates) || !sameTime(l.Expires, saved.Expires)
	switch {
	case !events.ProjectID(l.ID):
		return fmt.Sprintf("id %.60q is no UUID in lower case: write it like 0f7c3c9e-5a55-4c3b-8b1e-1c2d3e4f5a6b", l.ID)
	case l.Title != saved.Title && utf8.RuneCountInString(l.Title) > maxTitleLetters:
		return fmt.Sprintf("title has more than %d letters: put the rest into description", maxTitleLetters)
	case l.Description != saved.Description && len(l.Description) > maxDescription:
		return fmt.Sprintf("description has more than %d bytes: shorten it", maxDescription)
	case strings.ContainsRune(l.Title+l.Description+strings.Join(l.Managers, ""), 0):
		return "title, description or managers has the character NUL: take it out"
	case outOfYears(l.Activates):
		return fmt.Sprintf("activates is in the year %d: write one from 1 to %d", l.Activates.UTC().Year(), maxYear)
	case outOfYears(l.Expires):
		return fmt.Sprintf("expires is in the year %d: write one from 1 to %d, or leave it out for never", l.Expires.UTC().Year(), maxYear)
	case times && l.Activates != nil && l.Expires != nil && !l.Activates.Before(*l.Expires):
		return "expires is not after activates: the license would never be valid"
	case l.RunLimit != nil && (*l.RunLimit < 0 || *l.RunLimit > math.MaxInt32) && (saved.RunLimit == nil || *saved.RunLimit != *l.RunLimit):
		return fmt.Sprintf("run_limit is not within 0 and %d: write 0, or leave it out, for no limit", math.MaxInt32)
	case len(l.Managers) > maxManagers && len(l.Managers) > len(saved.Managers):
		return fmt.Sprintf("managers has more than %d ids", maxManagers)
	}
	for i, manager := range l.Managers {
		if (manager == "" || len(manager) > maxManager) && !slices.Contains(saved.Managers, manager) {
			return fmt.Sprintf("managers[%d] is empty or has more than %d bytes", i, maxManager)
		}
	}
	return ""
}

// outOfYears says that a time cannot be kept; what is saved can be.
func outOfYears(t *time.Time) bool {
	return t != nil && (t.UTC().Year() < 1 || t.UTC().Year() > maxYear)
}

// NeverValid says why a license can never be valid, whenever it is looked at, as a warning; empty where it can.
func NeverValid(l wire.License) string {
	switch {
	case l.Activates == nil:
		return "the license is never valid: it has no activates"
	case l.Expires != nil && !l.Activates.Before(*l.Expires):
		return "the license is never valid: expires is not after activates"
	}
	return ""
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

// quotaFault checks what the license gives.
func quotaFault(l, saved wire.License) error {
	if SameContent(l, saved) {
		return nil
	}
	invalid := func(reason events.Reason, wrong string) error {
		return &Fault{reason, "license " + naming(l) + ": " + wrong}
	}
	if len(l.Quota) > maxQuota || len(l.Upgrades) > maxQuota {
		return invalid(events.LicenseInvalid, fmt.Sprintf("quota or upgrades has more than %d bytes", maxQuota))
	}
	if hasNUL(l.Quota) || hasNUL(l.Upgrades) {
		return invalid(events.LicenseInvalid, "quota or upgrades has the character NUL: take it out")
	}
	before, _ := Patch(saved)
	if patch, ok := Patch(l); ok && patch != before {
		if len(patch) > maxPatch {
			return invalid(events.PatchInvalid, fmt.Sprintf("patch: it has more than %d bytes", maxPatch))
		}
		if _, err := quota.LoadPatch(patch); err != nil {
			return invalid(events.PatchInvalid, loadFault(patch, err))
		}
	}
	if err := broughtIn(quota.CheckLicense(l.Quota, l.Upgrades), l, saved); err != nil {
		return invalid(events.LicenseInvalid, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// PatchFault says that a license's patch makes a pod that cannot be used.
func PatchFault(l wire.License, wrong string) error {
	return &Fault{events.PatchInvalid, "license " + naming(l) + ": patch: " + wrong}
}

// SameContent says that two licenses give the same: a license is not examined again for another title, time or limit.
func SameContent(l, saved wire.License) bool {
	return sameJSON(l.Quota, saved.Quota) && sameJSON(l.Upgrades, saved.Upgrades)
}

// broughtIn leaves out the faults of members that are saved so already.
func broughtIn(err error, l, saved wire.License) error {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var faults []error
	for _, fault := range all.Unwrap() {
		if field, ok := errors.AsType[*quota.FieldError](fault); ok {
			column, path, _ := strings.Cut(field.Field, ".")
			now, before := members(l.Quota), members(saved.Quota)
			if column == "upgrades" {
				now, before = members(l.Upgrades), members(saved.Upgrades)
			}
			if savedSo(path, now, before) {
				continue
			}
		}
		faults = append(faults, fault)
	}
	return errors.Join(faults...)
}

// members are those of an object, none for anything else.
func members(object json.RawMessage) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	return all
}

// savedSo says that the member that a path is in is as it is saved. Its own name may have dots.
func savedSo(path string, now, saved map[string]json.RawMessage) bool {
	found := false
	for name, value := range now {
		if path != name && !strings.HasPrefix(path, name+".") {
			continue
		}
		if saved[name] == nil || !sameJSON(value, saved[name]) {
			return false
		}
		found = true
	}
	return found
}

// sameJSON says that two documents say the same; none is the same as null.
func sameJSON(a, b json.RawMessage) bool {
	one := func(text json.RawMessage) string {
		if len(text) == 0 {
			return "null"
		}
		canonical, err := license.Canonical(text)
		if err != nil {
			return string(text)
		}
		return string(canonical)
	}
	return one(a) == one(b)
}

// Patch returns the text of a license's patch; ok is false where there is none.
func Patch(l wire.License) (text string, ok bool) { return patchOf(l.Quota) }

func patchOf(gives json.RawMessage) (text string, ok bool) {
	var members struct {
		Patch any `json:"patch"`
	}
	if json.Unmarshal(gives, &members) != nil {
		return "", false
	}
	text, ok = members.Patch.(string)
	return text, ok && strings.TrimSpace(text) != ""
}

func naming(l wire.License) string {
	if l.Title == "" {
		return fmt.Sprintf("%.40s", l.ID)
	}
	return fmt.Sprintf("%q (%.40s)", clip(l.Title), l.ID)
}
