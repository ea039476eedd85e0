package quota_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"berth/pkg/license/quota"
)

// A field is told as capped where a higher maximum of it makes it another one, and
// nowhere else.
func TestCapped(t *testing.T) {
	t.Parallel()
	keys := map[string]string{
		"disk_quota": "disk_quota", "memory_limit": "memory", "memory_request": "memory_request", "cpu_limit": "cores",
		"cpu_request": "cpu_shares", "idle_timeout": "mintime", "network": "network", "member_host": "member_host",
		"always_running": "always_running", "privileged": "privileged",
	}
	amount := rapid.SampledFrom([]any{0, 1, 0.5, 2, 200, 900, 3000, 9000, 40000, -100})
	upgrades := rapid.MapOfN(rapid.SampledFrom([]string{
		"disk_quota", "memory", "memory_request", "cores", "cpu_shares", "mintime", "network", "member_host", "always_running", "privileged",
	}), amount, 0, 6)
	v2 := rapid.MapOfN(rapid.SampledFrom([]string{"cpu", "dedicated_cpu", "ram", "dedicated_ram", "disk"}), rapid.SampledFrom([]any{0, 1, 0.5, 3, 9, 40}), 0, 5)
	defaults := rapid.MapOfN(rapid.SampledFrom([]string{"mem", "mem_oc", "cpu", "cpu_oc", "disk_quota", "idle_timeout"}), rapid.SampledFrom([]any{0, 1, 2, 5, 700, 4000, 30000}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		text := func(v any) json.RawMessage {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		settings, maxima := upgrades.Draw(t, "settings"), upgrades.Draw(t, "maxima")
		if rapid.Bool().Draw(t, "offline") {
			settings["disableInternet"] = true
		}
		in := quota.Input{Settings: text(settings), Users: text(map[string]any{"u": map[string]any{"upgrades": upgrades.Draw(t, "user")}})}
		if rapid.Bool().Draw(t, "purchase") {
			in.PayAsYouGo = text(map[string]any{"quota": upgrades.Draw(t, "bought")})
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "licenses") {
			var value any = upgrades.Draw(t, "old")
			if rapid.Bool().Draw(t, "new") {
				given := v2.Draw(t, "quota")
				given["always_running"] = rapid.Bool().Draw(t, "always")
				value = map[string]any{"quota": given}
			}
			in.Licenses = append(in.Licenses, quota.License{ID: strconv.Itoa(i), Value: text(value)})
		}
		site := map[string]any{"default_quotas": defaults.Draw(t, "defaults"), "max_upgrades": maxima}
		in.Site = text(site)
		values := func(in quota.Input) (map[string]any, []quota.Finding) {
			result, err := quota.Compute(in)
			if err != nil {
				t.Fatal(err)
			}
			fields := map[string]any{}
			for _, finding := range result.Findings {
				fields[finding.Field] = finding.Value
			}
			return fields, result.Findings
		}
		now, findings := values(in)
		for _, finding := range findings {
			key, capable := keys[finding.Field]
			if !capable {
				continue
			}
			higher := maps.Clone(maxima)
			higher[key] = 1e280
			site["max_upgrades"] = higher
			in.Site = text(site)
			then, _ := values(in)
			if changes := then[finding.Field] != now[finding.Field]; changes != (finding.Capped != "") {
				t.Errorf("%s is %v, with a higher maximum %v, and capped says %q", finding.Field, now[finding.Field], then[finding.Field], finding.Capped)
			}
		}
	})
}
