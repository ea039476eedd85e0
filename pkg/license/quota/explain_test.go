package quota_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/quota"
)

// The explanation is made beside the quota; this holds them together.
func TestFindingsSayWhatTheQuotaIs(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		result, err := quota.Compute(v.input(t))
		if err != nil {
			continue
		}
		text, err := json.Marshal(result.Quota)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		found := map[string]any{}
		for _, finding := range result.Findings {
			if len(finding.Sources) == 0 {
				t.Errorf("%s: %s has no source", v.ID, finding.Field)
			}
			said, err := json.Marshal(finding.Value)
			if err != nil {
				t.Fatal(err)
			}
			found[finding.Field] = value(t, said)
		}
		// What a patch does is not repeated, and a field that is as if there were
		// no licenses needs no word.
		if list, there := fields["patch"].([]any); there {
			fields["patch"] = float64(len(list))
		}
		for field, unset := range map[string]any{"dedicated_vm": false, "gpu": false, "pay_as_you_go": nil} {
			if fields[field] == unset {
				delete(fields, field)
			}
		}
		if list, _ := fields["dedicated_disks"].([]any); len(list) == 0 {
			delete(fields, "dedicated_disks")
		}
		if diff := cmp.Diff(fields, found); diff != "" {
			t.Errorf("%s: findings (-quota +findings):\n%s", v.ID, diff)
		}
	}
}
