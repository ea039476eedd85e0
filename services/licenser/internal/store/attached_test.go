package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// TestAttached: projects and then users, page by page, whatever a hub has written beside the license.
func TestAttached(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `INSERT INTO public.projects (project_id, site_license) VALUES
		($1, jsonb_build_object($3::text, '{"status":"exhausted","reason":"exhausted","quota":{"cpu":1}}'::jsonb)),
		($2, jsonb_build_object($3::text, 7, $4::text, '{}'::jsonb)), ('c0000000-0000-4000-8000-000000000000', '["x"]'),
		('d0000000-0000-4000-8000-000000000000', jsonb_build_object($3::text, jsonb_build_object('status', repeat('x', 1000)))),
		('d0000000-0000-4000-8000-000000000001', jsonb_build_object($4::text, '{}'::jsonb))`,
		projectA, projectB, licenseA, licenseB)
	f.exec(t, `INSERT INTO berth.user_licenses VALUES ('bob', $1), ('alice@example.org', $1), ('carol', $2)`, licenseA, licenseB)
	var all []wire.Attached
	for after, pages := "", 0; ; pages++ {
		list, err := f.Attached(t.Context(), wire.AttachedQuery{ID: licenseA, After: after, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if first := pages == 0; (list.Projects != nil) != first || (list.Users != nil) != first || first && (*list.Projects != 3 || *list.Users != 2) {
			t.Errorf("page %d counts %v projects and %v users", pages, list.Projects, list.Users)
		}
		all = append(all, list.Attached...)
		if after = list.Next; after == "" {
			break
		}
	}
	long := make([]byte, 64)
	for i := range long {
		long[i] = 'x'
	}
	want := []wire.Attached{
		{Project: projectA, Status: "exhausted", Reason: "exhausted"},
		{Project: projectB},
		{Project: "d0000000-0000-4000-8000-000000000000", Status: string(long)},
		{User: "alice@example.org"},
		{User: "bob"},
	}
	if d := cmp.Diff(want, all); d != "" {
		t.Errorf("attached (-want +got):\n%s", d)
	}
	if list, err := f.Attached(t.Context(), wire.AttachedQuery{ID: licenseA, Limit: 3}); err != nil || len(list.Attached) != 3 || list.Next != want[2].Project {
		t.Errorf("the page of all projects: %+v, %v; more follow", list, err)
	}
	for _, q := range []wire.AttachedQuery{{ID: licenseA, After: "x"}, {ID: "x"}} {
		if _, err := f.Attached(t.Context(), q); !errors.Is(err, store.ErrInvalid) && !errors.Is(err, store.ErrNoLicense) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := f.Attached(t.Context(), wire.AttachedQuery{ID: licenseC}); !errors.Is(err, store.ErrNoLicense) {
		t.Errorf("of none: %v", err)
	}
	f.exec(t, `INSERT INTO public.site_licenses (id) VALUES ($1)`, licenseC)
	if list, err := f.Attached(t.Context(), wire.AttachedQuery{ID: licenseC}); err != nil || len(list.Attached) != 0 || *list.Projects != 0 {
		t.Errorf("of one that nobody has: %+v, %v", list, err)
	}
}
