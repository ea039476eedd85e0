package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"berth/pkg/database"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// dump is every value of the hub's tables, by table, row and column.
func dump(t *testing.T, f *fixture) map[string]string {
	t.Helper()
	rows, err := f.conn.Query(t.Context(), `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, table := range append(tables, "berth.seats", "berth.projects", "berth.usage_log") {
		var key, column, value string
		rows, err := f.conn.Query(t.Context(), fmt.Sprintf(`SELECT coalesce(j->>'id', j->>'project_id', j->>'name', j->>'account_id', j->>'license_id'), k, v::text
			FROM (SELECT to_jsonb(x) AS j FROM %s x) rows, LATERAL jsonb_each(j) e(k, v)`, table))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.ForEachRow(rows, []any{&key, &column, &value}, func() error {
			values[table+" "+key+" "+column] = value
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// TestHub serves a hub's database and holds every value in it against those from before.
func TestHub(t *testing.T) {
	t.Parallel()
	f := setupHub(t)
	ctx := t.Context()
	before := dump(t, f)
	if err := f.Ready(ctx); err != nil {
		t.Error(err)
	}
	f.check(t, start(projectA, 1))
	f.check(t, start(projectB, 1))
	f.check(t, start(project(3), 1))
	f.check(t, start(project(4), 1))
	recompute := start(projectA, 1)
	recompute.Mode = store.Recompute
	f.check(t, recompute)
	if err := f.Check(ctx, start(project(5), 1), greedy); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("start of a project that the hub does not have = %v, want %v", err, store.ErrNoProject)
	}
	if err := f.Activity(ctx, projectA); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Licenses(ctx, "", 0); err != nil {
		t.Error(err)
	}
	for n := 1; n <= 4; n++ {
		if _, err := f.Project(ctx, project(n)); err != nil {
			t.Error(err)
		}
	}
	got := map[string]string{}
	for key, value := range dump(t, f) {
		if strings.HasPrefix(key, "berth.") || before[key] == value {
			continue
		}
		if strings.HasSuffix(key, " last_used") {
			value = "a time"
		}
		got[key] = value
	}
	quota := `{"cpu_limit": 1}`
	want := map[string]string{
		"projects " + projectA + " run_quota":    quota,
		"projects " + projectB + " run_quota":    quota,
		"projects " + project(3) + " run_quota":  quota,
		"projects " + project(4) + " run_quota":  quota,
		"projects " + projectB + " site_license": `{"` + licenseA + `": {"status": "active"}}`,
		"projects " + projectA + " site_license": `{"NOT-A-UUID": {"kept": [1, 2.50, "x"]}, "` + licenseA + `": {"status": "active"}, "` +
			licenseB + `": {"status": "active"}, "` + licenseC + `": {"status": "active"}}`,
		"site_licenses " + licenseA + " last_used": "a time",
		"site_licenses " + licenseB + " last_used": "a time",
		"site_licenses " + licenseC + " last_used": "a time",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changed in the hub's tables (-want +got):\n%s", d)
	}

	// What an administrator changes leaves alone what Berth does not know of.
	before = dump(t, f)
	old, err := f.License(ctx, licenseA)
	if err != nil {
		t.Fatal(err)
	}
	old.Title = "Renamed"
	if _, err := f.PutLicense(ctx, old, old.Revision); err != nil {
		t.Fatal(err)
	}
	after := dump(t, f)
	before["site_licenses "+licenseA+" title"] = `"Renamed"`
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("a change of a title (-want +got):\n%s", d)
	}
}

// TestLastUsed: the hub's row is not written for each start.
func TestLastUsed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 0)
	f.attach(t, projectA, licenseA)
	for ago, wantsWrite := range map[time.Duration]bool{30 * time.Second: false, 90 * time.Second: true} {
		f.exec(t, `UPDATE site_licenses SET last_used = (now() AT TIME ZONE 'UTC') - $1::interval`, ago)
		version := f.value(t, `SELECT xmin FROM site_licenses`)
		f.check(t, start(projectA, 1))
		if wrote := f.value(t, `SELECT xmin FROM site_licenses`) != version; wrote != wantsWrite {
			t.Errorf("last used %s ago: written %t, want %t", ago, wrote, wantsWrite)
		}
	}
	// Nor the project's where nothing changes.
	version := f.value(t, `SELECT xmin FROM projects`)
	f.check(t, start(projectA, 2))
	if got := f.value(t, `SELECT xmin FROM projects`); got != version {
		t.Error("the project's row was written though nothing has changed")
	}
}

// TestSmallHub: a hub without the columns that came late, and a role that may only read.
func TestSmallHub(t *testing.T) {
	t.Parallel()
	admin := shared.Empty(t)
	f := &fixture{url: admin, conn: connect(t, admin)}
	f.exec(t, `CREATE TABLE projects (project_id uuid PRIMARY KEY, site_license jsonb, settings jsonb, users jsonb, state jsonb, run_quota jsonb);
		CREATE TABLE site_licenses (id uuid PRIMARY KEY, title text, activates timestamptz, expires timestamptz, upgrades jsonb, quota jsonb, run_limit integer);
		CREATE TABLE server_settings (name varchar(100), value varchar(1000));
		INSERT INTO site_licenses VALUES ('`+licenseA+`', 'A', '2026-01-01 01:00+01', NULL, NULL, '{}', 1);
		INSERT INTO projects VALUES ('`+projectA+`', '{"`+licenseA+`": {}}'), ('`+projectB+`', '{"`+licenseA+`": {}}')`)
	url := f.role(t, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO %[1]s;
		DO $$ BEGIN EXECUTE 'GRANT CREATE ON DATABASE ' || current_database() || ' TO %[1]s'; END $$`)
	if _, err := database.Migrate(t.Context(), url, func(string) {}); err != nil {
		t.Fatal(err)
	}
	own := open(t, url)
	facts := own.check(t, start(projectA, 1))
	if want := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); len(facts.Licenses) != 1 || !facts.Licenses[0].Activates.Equal(want) {
		t.Errorf("facts: %+v", facts)
	}
	if got := own.check(t, start(projectB, 1)).Seats[licenseA]; got != 1 {
		t.Errorf("%d seats of others, want 1", got)
	}
	p, err := own.Project(t.Context(), projectA)
	if err != nil || p.LastActivity != nil {
		t.Errorf("project: %+v, %v", p, err)
	}
	if l, err := own.License(t.Context(), licenseA); err != nil || l.Created != nil || l.LastUsed != nil {
		t.Errorf("license: %+v, %v", l, err)
	}
	if got := f.value(t, `SELECT count(*) FROM projects WHERE run_quota IS NOT NULL`); got != "0" {
		t.Errorf("%s projects were written by a role that may not", got)
	}
	if err := own.Attach(t.Context(), wire.Attachment{License: licenseA, Project: projectA}); err == nil || errors.Is(err, store.ErrAway) {
		t.Errorf("attach without the right to = %v, want an error that does not pass", err)
	}
}
