package offline

import (
	"encoding/json"
	"fmt"

	"berth/pkg/license/internal/rawjson"
)

// misnaming is a member that nothing reads, and that somebody may well write for one that is read: the
// calculation, the database and the cases of the other command have such names.
type misnaming struct {
	name string
	// meant is the member that is read; form is what it has to be, where that may be another thing.
	meant, form string
}

const (
	pairs  = ", a list of [id, value]"
	values = ", an object of values by their ids"
)

// The members that are likely to be meant for others.
var (
	misnamedForQuota = []misnaming{ //nolint:gochecknoglobals // A constant.
		{"site_licenses", "site_licenses_list", pairs},
		{"site_license", "site_licenses_list", pairs},
		{"site_license_list", "site_licenses_list", ""},
		{"licenses", "site_licenses_list", pairs},
		{"server_settings", "site_settings", ""},
		{"pay_as_you_go_quotas", "pay_as_you_go", ", an object with a quota"},
	}
	misnamedForCheck = []misnaming{ //nolint:gochecknoglobals // A constant.
		{"site_licenses", "licenses", ", a list of rows"},
		{"server_settings", "site_settings", ""},
		{"pay_as_you_go", "paygo_active", ", true or false"},
	}
	// misplacedForCheck stand beside the project instead of in it.
	misplacedForCheck = []misnaming{ //nolint:gochecknoglobals // A constant.
		{"settings", "settings", ""},
		{"users", "users", ""},
		{"site_license", "site_license_list", pairs},
		{"site_license_list", "site_license_list", ""},
		{"site_licenses_list", "site_license_list", ""},
	}
	misnamedInProject = []misnaming{ //nolint:gochecknoglobals // A constant.
		{"site_license", "site_license_list", pairs},
		{"site_licenses", "site_license_list", pairs},
		{"site_licenses_list", "site_license_list", ""},
	}
	misnamedInOther = []misnaming{ //nolint:gochecknoglobals // A constant.
		{"site_licenses", "site_license", values},
		{"site_license_list", "site_license", values},
		{"site_licenses_list", "site_license", values},
	}
)

// refuseMisnamed refuses a member of given that is set, where what is meant is absent from the members of the
// object in, which the message calls by its name with a dot, or by none. Other members are nobody's business:
// a case may have more than is read.
func refuseMisnamed(names []misnaming, given map[string]json.RawMessage, in string, there map[string]json.RawMessage) error {
	for _, wrong := range names {
		if _, present := there[wrong.meant]; !present && rawjson.Of(given[wrong.name]) != rawjson.Unset {
			return fmt.Errorf("%s is not read: write it as %s%s%s", wrong.name, in, wrong.meant, wrong.form)
		}
	}
	return nil
}
