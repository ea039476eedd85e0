package store_test

import (
	"slices"
	"strconv"
	"testing"
)

// TestPaging: pages follow the key of the table, and read no more of it than they have.
func TestPaging(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const many, limit = 20_000, 500
	f.exec(t, `INSERT INTO public.projects (project_id, state, run_quota, action_request)
		SELECT ('20000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{"state":"running"}', '{"always_running":true}', '{"action":"stop"}' FROM generate_series(1, $1::int) n`, many)
	f.exec(t, `INSERT INTO berth.projects (project_id, wanted) SELECT project_id, true FROM public.projects`)
	f.exec(t, `INSERT INTO public.site_licenses (id, activates, quota) SELECT project_id, now() + interval '1 day', '{}' FROM public.projects`)
	f.exec(t, `ANALYZE`)
	for name, page := range map[string]func(after string) ([]string, error){
		"busy":   func(after string) ([]string, error) { return f.Busy(t.Context(), after, limit) },
		"wanted": func(after string) ([]string, error) { return f.Wanted(t.Context(), after, limit) },
		"with":   func(after string) ([]string, error) { return f.ProjectsWith(t.Context(), cluster, "", after, limit) },
		"requests": func(after string) (ids []string, err error) {
			found, err := f.ActionRequests(t.Context(), nil, after, limit)
			for _, r := range found {
				ids = append(ids, r.Project)
			}
			return ids, err
		},
		"changed licenses": func(after string) (ids []string, err error) {
			found, err := f.ChangedLicenses(t.Context(), nil, after, limit)
			for _, c := range found {
				ids = append(ids, c.ID)
			}
			return ids, err
		},
		"timed licenses": func(after string) (ids []string, err error) {
			found, err := f.TimedLicenses(t.Context(), after, limit)
			for _, c := range found {
				ids = append(ids, c.ID)
			}
			return ids, err
		},
	} {
		var all []string
		for after := ""; ; after = all[len(all)-1] {
			ids, err := page(after)
			if err != nil {
				t.Fatal(name, err)
			}
			if all = append(all, ids...); len(ids) < limit {
				break
			}
		}
		if len(all) != many || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != many {
			t.Errorf("%s: %d, want %d in order", name, len(all), many)
		}
	}
	// The connections of the store tell of their reads when they are closed.
	f.Close()
	reads := func() int {
		n, err := strconv.Atoi(f.value(t, `SELECT coalesce(seq_tup_read, 0) FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname = 'projects'`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := reads(); n > 20*many {
		t.Errorf("%d rows were read one after another", n)
	}
}
