package licensing

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"berth/pkg/events"
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
)

// Validate says what is wrong with a license that is to be saved; whether its patch can be applied is
// seen with [Decide]. The error is a [*Fault] that names the field and how to mend it.
func Validate(l wire.License) error {
	if err := quotaFault(l); err != nil {
		return err
	}
	wrong := ""
	switch {
	case !events.ProjectID(l.ID):
		wrong = fmt.Sprintf("id %.60q is no UUID in lower case: write it like 0f7c3c9e-5a55-4c3b-8b1e-1c2d3e4f5a6b", l.ID)
	case utf8.RuneCountInString(l.Title) > maxTitleLetters:
		wrong = fmt.Sprintf("title has more than %d letters: put the rest into description", maxTitleLetters)
	case len(l.Description) > maxDescription:
		wrong = fmt.Sprintf("description has more than %d bytes: shorten it", maxDescription)
	case strings.ContainsRune(l.Title+l.Description+strings.Join(l.Managers, ""), 0):
		wrong = "title, description or managers has the character NUL: take it out"
	case l.Activates != nil && l.Expires != nil && !l.Activates.Before(*l.Expires):
		wrong = "expires is not after activates: the license would never be valid"
	case l.RunLimit != nil && (*l.RunLimit < 0 || *l.RunLimit > math.MaxInt32):
		wrong = fmt.Sprintf("run_limit is not within 0 and %d: write 0, or leave it out, for no limit", math.MaxInt32)
	case len(l.Managers) > maxManagers:
		wrong = fmt.Sprintf("managers has more than %d ids", maxManagers)
	}
	for i, manager := range l.Managers {
		if manager == "" || len(manager) > maxManager {
			wrong = fmt.Sprintf("managers[%d] is empty or has more than %d bytes", i, maxManager)
		}
	}
	if wrong != "" {
		return &Fault{events.LicenseInvalid, "license " + naming(l) + ": " + wrong}
	}
	return nil
}

// quotaFault checks what the license gives.
func quotaFault(l wire.License) error {
	invalid := func(reason events.Reason, wrong string) error {
		return &Fault{reason, "license " + naming(l) + ": " + wrong}
	}
	if len(l.Quota) > maxQuota || len(l.Upgrades) > maxQuota {
		return invalid(events.LicenseInvalid, fmt.Sprintf("quota or upgrades has more than %d bytes", maxQuota))
	}
	if hasNUL(l.Quota) || hasNUL(l.Upgrades) {
		return invalid(events.LicenseInvalid, "quota or upgrades has the character NUL: take it out")
	}
	if patch, ok := Patch(l); ok {
		if len(patch) > maxPatch {
			return invalid(events.PatchInvalid, fmt.Sprintf("patch: it has more than %d bytes", maxPatch))
		}
		if _, err := quota.LoadPatch(patch); err != nil {
			return invalid(events.PatchInvalid, loadFault(patch, err))
		}
	}
	if err := quota.CheckLicense(l.Quota, l.Upgrades); err != nil {
		return invalid(events.LicenseInvalid, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
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
