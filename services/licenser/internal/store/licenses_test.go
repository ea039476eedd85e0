package store_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

func TestLicenses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	expires, limit := time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)), 5
	asked := wire.License{
		ID: licenseA, Title: "One", Description: "First", Expires: &expires, Upgrades: json.RawMessage(`{"cores": 1}`),
		RunLimit: &limit, Managers: []string{"a"},
	}
	if _, err := f.PutLicense(ctx, asked, "some revision"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("change of a license that is not there = %v, want %v", err, store.ErrConflict)
	}
	saved, err := f.PutLicense(ctx, asked, store.NoRevision)
	if err != nil {
		t.Fatal(err)
	}
	instants := cmp.Comparer(time.Time.Equal) // In any zone.
	if d := cmp.Diff(asked, saved, cmpopts.IgnoreFields(wire.License{}, "Created", "Revision"), instants); d != "" {
		t.Errorf("saved (-want +got):\n%s", d)
	}
	if saved.Revision == "" || saved.Created == nil || time.Since(*saved.Created).Abs() > time.Minute {
		t.Errorf("revision %q, created %v", saved.Revision, saved.Created)
	}
	other := asked
	other.ID = licenseB
	if _, err := f.PutLicense(ctx, other, store.AnyRevision); !errors.Is(err, store.ErrConflict) {
		t.Errorf("save over any revision of none = %v, want %v", err, store.ErrConflict)
	}
	if _, err := f.PutLicense(ctx, asked, store.NoRevision); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second new one = %v, want %v", err, store.ErrConflict)
	}
	asked.Title, asked.Expires, asked.RunLimit = "Uno", nil, nil
	changed, err := f.PutLicense(ctx, asked, saved.Revision)
	if err != nil || changed.Revision == saved.Revision || changed.Title != "Uno" || changed.Expires != nil || changed.RunLimit != nil {
		t.Fatalf("changed: %+v, %v", changed, err)
	}
	if _, err := f.PutLicense(ctx, asked, saved.Revision); !errors.Is(err, store.ErrConflict) {
		t.Errorf("change of an older revision = %v, want %v", err, store.ErrConflict)
	}
	if again, err := f.PutLicense(ctx, asked, store.AnyRevision); err != nil || again.Revision != changed.Revision {
		t.Errorf("save over any revision: %+v, %v", again, err)
	}
	// The use of a license is no change of it.
	f.attach(t, projectA, licenseA)
	f.check(t, start(projectA, 1))
	used, err := f.License(ctx, licenseA)
	if err != nil || used.Revision != changed.Revision || used.LastUsed == nil || used.SeatsUsed != 1 {
		t.Errorf("used: %+v, %v", used, err)
	}

	f.put(t, licenseB, 1)
	f.put(t, licenseC, 1)
	page, next, err := f.Licenses(ctx, "", 2)
	if err != nil || len(page) != 2 || next != licenseB {
		t.Fatalf("page: %+v, %q, %v", page, next, err)
	}
	if page, next, err = f.Licenses(ctx, next, 0); err != nil || len(page) != 1 || page[0].ID != licenseC || next != "" {
		t.Errorf("last page: %+v, %q, %v", page, next, err)
	}
	if err := f.DeleteLicense(ctx, licenseA, "another"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete of another revision = %v, want %v", err, store.ErrConflict)
	}
	if err := f.DeleteLicense(ctx, licenseA, ""); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"delete": f.DeleteLicense(ctx, licenseA, ""),
		"attach": f.Attach(ctx, wire.Attachment{License: licenseA, Project: projectB}),
		"read":   second(f.License(ctx, licenseA)),
		"seats":  second(f.Store.Seats(ctx, licenseA)),
		"no id":  second(f.License(ctx, "'; --")),
	} {
		if !errors.Is(err, store.ErrNoLicense) {
			t.Errorf("%s = %v, want %v", name, err, store.ErrNoLicense)
		}
	}
	for name, err := range map[string]error{
		"id":    second(f.PutLicense(ctx, wire.License{ID: "ABC"}, "")),
		"text":  second(f.PutLicense(ctx, wire.License{ID: licenseA, Title: "\x00"}, "")),
		"after": func() error { _, _, err := f.Licenses(ctx, "x", 1); return err }(),
		"both":  f.Attach(ctx, wire.Attachment{License: licenseB, Project: projectB, User: "u"}),
		"none":  f.Detach(ctx, wire.Attachment{License: licenseB}),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s = %v, want %v", name, err, store.ErrInvalid)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestProject(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if _, err := f.Project(ctx, projectA); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("project = %v, want %v", err, store.ErrNoProject)
	}
	if err := f.Activity(ctx, projectA); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("activity = %v, want %v", err, store.ErrNoProject)
	}
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	f.exec(t, `UPDATE projects SET state = '{"state": "running", "State": "opened"}', last_edited = '2026-01-01', site_license = site_license || '{"x": 5, "y": {"Status": "active"}}',
		run_quota = '{"idle_timeout": 1800.5, "always_running": true, "patch": [{"op": "add", "value": "secret"}]}'`)
	f.exec(t, `INSERT INTO berth.projects (project_id, error, failures, retry_at) VALUES ($1, 'why', 3, '2027-01-01')`, projectA)
	edited, retry := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	want := wire.Project{
		ID: projectA, State: "running", Error: "why", Licenses: []wire.LicenseStatus{{ID: licenseA, Title: "License 1"}, {ID: "x"}, {ID: "y"}},
		RunQuota: json.RawMessage(`{"always_running":true,"idle_timeout":1800.5}`), LastActivity: &edited, IdleTimeout: 1800.5,
		AlwaysRunning: true, Failures: 3, RetryAt: &retry,
	}
	got, err := f.Project(ctx, projectA)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); d != "" {
		t.Errorf("project (-want +got):\n%s", d)
	}
	if err := f.Activity(ctx, projectA); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Project(ctx, projectA); err != nil || time.Since(*got.LastActivity).Abs() > time.Minute {
		t.Errorf("after activity: %+v, %v", got, err)
	}
	// Attaching what is attached keeps its status.
	f.check(t, start(projectA, 1))
	f.attach(t, projectA, licenseA)
	if got, err = f.Project(ctx, projectA); err != nil || got.Licenses[0].Status != "active" {
		t.Errorf("after a second attachment: %+v, %v", got, err)
	}
	if err := f.Detach(ctx, wire.Attachment{License: licenseA, Project: projectA}); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Project(ctx, projectA); err != nil || len(got.Licenses) != 2 {
		t.Errorf("after the detachment: %+v, %v", got, err)
	}
	if err := f.Detach(ctx, wire.Attachment{License: licenseA, Project: events.ProjectUser(projectA)}); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("detach = %v, want %v", err, store.ErrNoProject)
	}
}
