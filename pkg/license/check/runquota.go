package check

import (
	"encoding/json"
	"slices"
	"strings"

	"berth/pkg/license/quota"
)

// RunQuota computes the quota with which a project runs, from what is stored after
// the check. Where a purchase runs it is computed from the settings and the purchase
// alone, without users and licenses. It explains and fails as [quota.Compute] does;
// the rows of in say what licenses that are not used would give.
func RunQuota(in Input, siteLicense []quota.License, purchase json.RawMessage) (quota.Result, error) {
	from := quota.Input{Settings: in.Settings, Site: in.Site}
	if in.PayAsYouGo {
		from.PayAsYouGo = purchase
		result, err := quota.Compute(from)
		for _, license := range siteLicense {
			result.Ignored = append(result.Ignored, quota.Ignored{License: license.ID, Why: "a purchase runs: licenses are not used"})
		}
		return result, err
	}
	rows := byID(in.Rows)
	from.Users, from.Licenses = in.Users, slices.Clone(siteLicense)
	for i := range from.Licenses {
		license := &from.Licenses[i]
		if known, exists := rows[strings.ToLower(license.ID)]; exists {
			if row, err := read(*known); err == nil {
				license.Unused = row.candidate()
			}
		}
	}
	return quota.Compute(from)
}
