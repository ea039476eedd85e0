package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/wire"
)

// TestUpperCase: a hub that attaches a license with its id in upper case has attached that license, once.
func TestUpperCase(t *testing.T) {
	t.Parallel()
	const license = "abcdef00-0000-4000-8000-000000000001"
	f := setup(t)
	ctx := t.Context()
	f.put(t, license, 1)
	upper := strings.ToUpper(license)
	f.exec(t, `INSERT INTO public.projects (project_id, site_license) VALUES ($1, jsonb_build_object($2::text, '{}'::jsonb)),
		($3, jsonb_build_object($2::text, '{}'::jsonb, $4::text, '{}'::jsonb))`, projectA, upper, projectB, license)
	for _, project := range []string{projectA, projectB} {
		facts := f.check(t, start(project, 1))
		if len(facts.Licenses) != 1 || facts.Licenses[0].ID != license {
			t.Errorf("the licenses of %s: %+v", project, facts.Licenses)
		}
	}
	if got := seatCount(t, f, license); got != "1" {
		t.Errorf("%s seats, want 1", got)
	}
	f.exec(t, `UPDATE berth.projects SET wanted = true`)
	f.exec(t, `INSERT INTO berth.projects (project_id, wanted) SELECT project_id, true FROM public.projects ON CONFLICT DO NOTHING`)
	with, err := f.ProjectsWith(ctx, cluster, license, "", 10)
	if d := cmp.Diff([]string{projectA, projectB}, with); d != "" || err != nil {
		t.Errorf("projects with it (-want +got):\n%s%v", d, err)
	}
	list, err := f.Attached(ctx, wire.AttachedQuery{ID: license})
	if err != nil || len(list.Attached) != 2 {
		t.Errorf("attached: %+v, %v", list.Attached, err)
	}
	p, err := f.Project(ctx, projectA)
	if err != nil || slices.ContainsFunc(p.Licenses, func(l wire.LicenseStatus) bool { return l.Title == "" }) {
		t.Errorf("the project's licenses: %+v, %v", p.Licenses, err)
	}
	if err := f.Detach(ctx, wire.Attachment{License: license, Project: projectB}); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Project(ctx, projectB); err != nil || len(p.Licenses) != 0 {
		t.Errorf("the licenses that are left: %+v, %v", p.Licenses, err)
	}
}
