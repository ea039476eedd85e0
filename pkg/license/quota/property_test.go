package quota_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license/quota"
)

// Licenses of one group add up whatever their order; patches are joined in it, and
// of several gpus the last one counts.
func TestOrderOfEqualLicenses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var licenses []quota.License
		var memory, cores float64
		for i := range rapid.IntRange(1, 6).Draw(t, "licenses") {
			ram, cpu := rapid.IntRange(0, 3).Draw(t, "ram"), rapid.IntRange(0, 1).Draw(t, "cpu")
			memory, cores = memory+1000*float64(ram), cores+float64(cpu)
			boost := i > 0 && rapid.Bool().Draw(t, "boost")
			licenses = append(licenses, license(strconv.Itoa(i), fmt.Sprintf(
				`{"quota":{"ram":%d,"cpu":%d,"member":true,"boost":%v,"gpu":{"num":%d},"patch":"[{\"op\":\"remove\",\"path\":\"/%d\"}]"}}`,
				ram, cpu, boost, i, i)))
		}
		licenses = rapid.Permutation(licenses).Draw(t, "order")
		result, err := quota.Compute(quota.Input{Licenses: licenses})
		if err != nil {
			t.Fatal(err)
		}

		want := quota.Quota{
			Network: true, MemberHost: true, DiskQuota: 3000, IdleTimeout: 1800,
			MemoryLimit: min(max(1000, memory), 16000), MemoryRequest: 300,
			CPULimit: min(max(1, cores), 3), CPURequest: 0.05,
			GPU: raw(`{"num":` + licenses[len(licenses)-1].ID + `}`),
		}
		for _, l := range licenses {
			want.Patch = append(want.Patch, quota.Operation{License: l.ID, Raw: raw(`{"op":"remove","path":"/` + l.ID + `"}`)})
		}
		if diff := cmp.Diff(want, result.Quota); diff != "" {
			t.Errorf("quota (-want +got):\n%s", diff)
		}
		if len(result.Reasons) > 0 {
			t.Errorf("reasons %v, want none", result.Reasons)
		}
	})
}

// anyValue draws JSON that has something to do with quotas, and much that has not.
func anyValue() *rapid.Generator[any] {
	names := rapid.SampledFrom([]string{
		"quota", "status", "upgrades", "cores", "memory", "cpu_shares", "disk_quota", "network", "always_running", "member_host",
		"cpu", "ram", "dedicated_ram", "member", "idle_timeout", "boost", "dedicated_vm", "machine", "dedicated_disk", "gpu", "patch",
		"ext_rw", "default_quotas", "max_upgrades", "mem", "mem_oc", "disableInternet", "x",
	})
	scalar := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Float64(), func(f float64) any { return f }), rapid.Map(rapid.IntRange(-3, 9), func(i int) any { return i }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.SampledFrom([]any{"onprem", "n2-standard-2", "expired", "active", "short", "day", "1e999", " 12x", "[]", `[{"op":"add","path":1}]`}),
	)
	object := func(value *rapid.Generator[any]) *rapid.Generator[any] {
		return rapid.Map(rapid.MapOfN(names, value, 0, 8), func(m map[string]any) any { return m })
	}
	list := rapid.Map(rapid.SliceOfN(scalar, 0, 3), func(l []any) any { return l })
	return rapid.OneOf(scalar, list, object(rapid.OneOf(scalar, list, object(rapid.OneOf(scalar, object(scalar))))))
}

// Whatever comes in, nothing panics, the input stays as it is, the result is JSON,
// and the explanation says the same as the quota.
func TestAnyInput(t *testing.T) {
	t.Parallel()
	value := rapid.Map(anyValue(), func(v any) json.RawMessage {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	})
	rapid.Check(t, func(t *rapid.T) {
		in := quota.Input{
			Settings: value.Draw(t, "settings"), Users: value.Draw(t, "users"),
			Site: value.Draw(t, "site"), PayAsYouGo: value.Draw(t, "purchase"),
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "licenses") {
			in.Licenses = append(in.Licenses, quota.License{ID: strconv.Itoa(i), Value: value.Draw(t, "license")})
		}
		before := clone(in)
		result, err := quota.Compute(in)
		if diff := cmp.Diff(before, in); diff != "" {
			t.Fatalf("input (-before +after):\n%s", diff)
		}
		if err != nil {
			return
		}
		text, err := json.Marshal(result.Quota)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		for _, finding := range result.Findings {
			switch said := finding.Value.(type) {
			case float64, bool:
				if fields[finding.Field] != said {
					t.Errorf("%s: the finding says %v, the quota %v", finding.Field, said, fields[finding.Field])
				}
			}
		}
	})
}

func clone(in quota.Input) quota.Input {
	in.Settings, in.Users = bytes.Clone(in.Settings), bytes.Clone(in.Users)
	in.Site, in.PayAsYouGo = bytes.Clone(in.Site), bytes.Clone(in.PayAsYouGo)
	in.Licenses = slices.Clone(in.Licenses)
	for i := range in.Licenses {
		in.Licenses[i].Value = bytes.Clone(in.Licenses[i].Value)
	}
	return in
}

func FuzzCompute(f *testing.F) {
	for i, v := range vectors(f) {
		if i%40 == 0 && len(v.List) > 0 {
			f.Add([]byte(v.Settings), []byte(v.Users), []byte(v.Site), []byte(v.Purchase), []byte(v.input(f).Licenses[0].Value))
		}
	}
	f.Fuzz(func(t *testing.T, settings, users, site, purchase, value []byte) {
		result, err := quota.Compute(quota.Input{
			Settings: settings, Users: users, Site: site, PayAsYouGo: purchase,
			Licenses: []quota.License{{ID: "a", Value: value}, {ID: "b", Value: value}},
		})
		if err != nil {
			return
		}
		if _, err := json.Marshal(result.Quota); err != nil {
			t.Error(err)
		}
	})
}

func FuzzCheckLicense(f *testing.F) {
	f.Add([]byte(`{"cpu":1,"gpu":{"num":1},"patch":"[{\"op\":\"add\",\"path\":\"/a\"}]"}`), []byte(`{"cores":1}`))
	f.Fuzz(func(t *testing.T, columns, upgrades []byte) {
		if quota.CheckLicense(columns, upgrades) != nil || len(bytes.TrimSpace(columns)) == 0 {
			return
		}
		// What was saved can be used: only blank JSON and machines beside disks are left.
		value := append(append([]byte(`{"quota":`), columns...), '}')
		result, err := quota.Compute(quota.Input{Licenses: []quota.License{{ID: "a", Value: value}}})
		if err != nil || len(result.BadPatches) > 0 {
			t.Errorf("saved %s: error %v, bad patches %v", columns, err, result.BadPatches)
		}
	})
}

func BenchmarkCompute(b *testing.B) {
	var inputs []quota.Input
	for _, v := range vectors(b) {
		inputs = append(inputs, v.input(b))
	}
	for name, compute := range map[string]func(quota.Input) error{
		"explained": func(in quota.Input) error {
			_, err := quota.Compute(in)
			return err
		},
		"lean": func(in quota.Input) error {
			project, err := quota.NewProject(in)
			if err != nil {
				return err
			}
			grants := make([]quota.Grant, len(in.Licenses))
			for i, l := range in.Licenses {
				if grants[i], err = quota.Read(l); err != nil {
					return err
				}
			}
			_, err = project.Compute(grants)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_ = compute(inputs[i%len(inputs)])
			}
		})
	}
}
