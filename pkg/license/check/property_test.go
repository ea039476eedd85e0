package check_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license/check"
	"berth/pkg/license/quota"
)

// What is decided does not depend on the order in which rows and stored values come.
func TestOrderOfInputs(t *testing.T) {
	t.Parallel()
	quotas := rapid.SampledFrom([]string{
		``, `{"cpu":1,"ram":2}`, `{"cpu":2,"ram":2,"member":true}`, `{"ram":4,"idle_timeout":"day"}`, `{"always_running":true}`,
		`{"ram":3,"boost":true}`, `{"ram":3,"member":true,"boost":true}`, `{"ext_rw":true}`, `{"patch":"[{\"op\":\"remove\",\"path\":\"/a\"}]"}`,
		`{"gpu":{"num":1}}`, `{"dedicated_disk":{"size_gb":1}}`, `{"dedicated_vm":{"machine":"onprem"}}`,
		`{"dedicated_vm":{"machine":"n2-standard-2"}}`, `{"idle_timeout":"always_running"}`, `{"patch":"["}`,
	})
	rapid.Check(t, func(t *rapid.T) {
		in := check.Input{Now: now, SiteLicense: []quota.License{}, PayAsYouGo: rapid.Bool().Draw(t, "purchase")}
		for i := range rapid.IntRange(1, 6).Draw(t, "licenses") {
			id := fmt.Sprintf("%d0000000-0000-4000-8000-000000000000", i)
			in.SiteLicense = append(in.SiteLicense, attached(id)...)
			if rapid.Bool().Draw(t, "row") {
				in.Rows = append(in.Rows, license(id, quotas.Draw(t, "quota"), limit(rapid.Int64Range(0, 2).Draw(t, "limit"))))
			}
		}
		in.SeatsOfOthers = func(id string) int { return int(id[0]) % 3 }
		want, err := check.Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		before := in
		shuffled := in
		shuffled.Rows = rapid.Permutation(in.Rows).Draw(t, "rows")
		shuffled.SiteLicense = rapid.Permutation(in.SiteLicense).Draw(t, "stored")
		got, err := check.Decide(shuffled)
		if err != nil {
			t.Fatal(err)
		}
		want.BadPatches, got.BadPatches = nil, nil // Their errors are not comparable.
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("result (-as stored +shuffled):\n%s", diff)
		}
		if diff := cmp.Diff(before.SiteLicense, in.SiteLicense); diff != "" {
			t.Errorf("input (-before +after):\n%s", diff)
		}

		// Once stored, the same decision changes nothing.
		again := in
		again.SiteLicense = want.SiteLicense
		settled, err := check.Decide(again)
		if err != nil {
			t.Fatal(err)
		}
		if settled.Changed {
			t.Errorf("changed again:\n%s", cmp.Diff(want.SiteLicense, settled.SiteLicense))
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	in := check.Input{Now: now, SiteLicense: attached(first, second, third), Rows: []check.Row{
		license(first, `{"cpu":1,"ram":2,"idle_timeout":"day"}`, limit(10)),
		license(second, `{"ext_rw":true,"patch":"[{\"op\":\"remove\",\"path\":\"/a\"}]"}`),
		license(third, `{"cpu":2,"ram":2,"member":true,"boost":true}`),
	}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := check.Decide(in); err != nil {
			b.Fatal(err)
		}
	}
}
