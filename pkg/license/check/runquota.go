package check

import (
	"encoding/json"

	"berth/pkg/license/quota"
)

// RunQuota computes the quota with which a project runs, from what is stored after
// the check. Where a purchase runs it is computed from the settings and the purchase
// alone, without users and licenses. It explains and fails as [quota.Compute] does.
func RunQuota(in Input, siteLicense []quota.License, purchase json.RawMessage) (quota.Result, error) {
	from := quota.Input{Settings: in.Settings, Site: in.Site}
	if in.PayAsYouGo {
		from.PayAsYouGo = purchase
	} else {
		from.Users, from.Licenses = in.Users, siteLicense
	}
	return quota.Compute(from)
}
