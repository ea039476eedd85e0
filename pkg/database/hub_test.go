package database_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"berth/pkg/database"
)

// TestOwnTables: a hub may change its tables as if Berth were not there, also where an earlier Berth has made triggers that name columns, and what is
// changed in them afterwards by a connection from before is told as far as it can be.
func TestOwnTables(t *testing.T) {
	t.Parallel()
	const id = "10000000-0000-4000-8000-000000000001"
	const before = `CREATE OR REPLACE TRIGGER berth_license_content AFTER UPDATE ON public.site_licenses FOR EACH ROW WHEN (
			(OLD.activates, OLD.expires, OLD.upgrades, OLD.quota, OLD.run_limit) IS DISTINCT FROM (NEW.activates, NEW.expires, NEW.upgrades, NEW.quota, NEW.run_limit))
			EXECUTE FUNCTION berth.notify_license();
		CREATE OR REPLACE TRIGGER berth_project_content AFTER UPDATE ON public.projects FOR EACH ROW WHEN (OLD.site_license IS DISTINCT FROM NEW.site_license
			OR OLD.settings IS DISTINCT FROM NEW.settings OR OLD.users IS DISTINCT FROM NEW.users OR OLD.action_request IS DISTINCT FROM NEW.action_request)
			EXECUTE FUNCTION berth.notify_project();
		CREATE OR REPLACE TRIGGER berth_settings_content AFTER UPDATE ON public.server_settings FOR EACH ROW WHEN ((OLD.name, OLD.value) IS DISTINCT FROM (NEW.name, NEW.value))
			EXECUTE FUNCTION berth.notify_settings()`
	const insert = `ALTER TABLE site_licenses ADD extra text; ALTER TABLE projects ADD extra text; ALTER TABLE server_settings ADD extra text;
		INSERT INTO site_licenses (id) VALUES ('` + id + `'); INSERT INTO projects (project_id) VALUES ('` + id + `');
		INSERT INTO server_settings VALUES ('default_quotas')`
	const touch = `UPDATE site_licenses SET extra = 'x'; UPDATE projects SET extra = 'x'; UPDATE server_settings SET extra = 'x'`
	for name, change := range map[string]string{
		"type": `ALTER TABLE public.%s ALTER %s TYPE text`,
		"name": `ALTER TABLE public.%s RENAME %[2]s TO %[2]s_2`,
		"drop": `ALTER TABLE public.%s DROP COLUMN %s`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := shared.Migrated(t)
			conn := connect(t, url)
			exec(t, conn, before)
			if status, err := database.Migrate(t.Context(), url, func(string) {}); err != nil || !status.Notifies {
				t.Fatalf("migrate: %+v, %v", status, err)
			}
			rows, err := conn.Query(t.Context(), `SELECT relname, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
				WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 ORDER BY 1, 2`)
			if err != nil {
				t.Fatal(err)
			}
			columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Column string }])
			if err != nil || len(columns) < 20 {
				t.Fatalf("columns: %q, %v", columns, err)
			}
			exec(t, conn, `DROP INDEX projects_site_license_idx`)
			exec(t, conn, insert)
			exec(t, conn, touch)
			for _, c := range columns {
				exec(t, conn, fmt.Sprintf(change, c.Table, c.Column))
				exec(t, conn, touch)
			}
		})
	}
	conn := connect(t, shared.Migrated(t))
	exec(t, conn, insert)
	exec(t, conn, touch)
	exec(t, conn, `LISTEN berth_license; LISTEN berth_project; LISTEN done`)
	exec(t, conn, `ALTER TABLE site_licenses ALTER run_limit TYPE bigint; ALTER TABLE projects ALTER settings TYPE json`)
	exec(t, conn, `UPDATE site_licenses SET run_limit = 5; UPDATE projects SET settings = '{"cores": 1}'`)
	exec(t, conn, `UPDATE projects SET state = '{}'; ALTER TABLE projects DROP COLUMN users`)
	exec(t, conn, `UPDATE projects SET action_request = '{}'; NOTIFY done`)
	if d := cmp.Diff([]string{"berth_license " + id, "berth_project " + id, "berth_project " + id}, told(t, conn)); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	// Without Berth everything is as it was.
	exec(t, conn, `DROP SCHEMA berth CASCADE; `+touch)
	var left int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d triggers are left, %v", left, err)
	}
}

// TestBulkUpdate: what tells of a hub's change of very many rows keeps no memory for each of them until the hub commits.
func TestBulkUpdate(t *testing.T) {
	t.Parallel()
	const rows, most = 10_000, 40 << 20
	conn := connect(t, shared.Migrated(t))
	exec(t, conn, fmt.Sprintf(`INSERT INTO site_licenses (id) SELECT gen_random_uuid() FROM generate_series(1, %d);
		INSERT INTO projects (project_id) SELECT gen_random_uuid() FROM generate_series(1, %[1]d)`, rows))
	exec(t, conn, `BEGIN; UPDATE site_licenses SET run_limit = 5; UPDATE projects SET settings = '{"cores": 1}'`)
	var used int64
	if err := conn.QueryRow(t.Context(), `SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts`).Scan(&used); err != nil {
		t.Fatal(err)
	}
	if used > most {
		t.Errorf("%d rows of two tables keep %d bytes, want at most %d", rows, used, most)
	}
	exec(t, conn, `COMMIT`)
}

// TestTypes: a column of a type that Berth cannot work with is named, with that type and those that do; others are taken.
func TestTypes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change string
		want   []string
	}{
		"all that differ": {
			`ALTER TABLE projects ALTER state TYPE text, ALTER users TYPE json USING NULL, ALTER project_id TYPE text, ALTER action_request TYPE text;
				ALTER TABLE site_licenses ALTER quota TYPE text, ALTER run_limit TYPE text, ALTER expires TYPE text, ALTER title TYPE jsonb USING NULL`,
			[]string{
				"projects.action_request is text and has to be jsonb", "projects.project_id is text and has to be uuid",
				"projects.state is text and has to be jsonb", "projects.users is json and has to be jsonb",
				"site_licenses.expires is text and has to be timestamp or timestamptz or date", "site_licenses.quota is text and has to be jsonb or json",
				"site_licenses.run_limit is text and has to be int4 or int8 or int2 or numeric",
				"site_licenses.title is jsonb and has to be text or varchar or bpchar or name or citext",
			},
		},
		"others that work": {
			`CREATE DOMAIN document AS jsonb; CREATE DOMAIN request AS document;
				ALTER TABLE projects ALTER state TYPE document, ALTER settings TYPE json, ALTER action_request TYPE request;
				ALTER TABLE site_licenses ALTER quota TYPE json, ALTER run_limit TYPE bigint, ALTER expires TYPE timestamptz, ALTER activates TYPE date, ALTER title TYPE varchar(9);
				ALTER TABLE server_settings ALTER name TYPE varchar, ALTER value TYPE jsonb USING NULL`,
			nil,
		},
		"a domain": {
			`CREATE DOMAIN words AS text; ALTER TABLE projects ALTER state TYPE words`,
			[]string{"projects.state is words and has to be jsonb"},
		},
		"without what can be missing": {`ALTER TABLE projects DROP COLUMN action_request`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := shared.Migrated(t)
			exec(t, connect(t, url), tt.change)
			migrated, err := database.Migrate(t.Context(), url, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			status, err := database.Check(t.Context(), url)
			if d := cmp.Diff(migrated, status); d != "" || err != nil {
				t.Errorf("check (-migrate +check):\n%s%v", d, err)
			}
			if d := cmp.Diff(tt.want, status.Unfit); d != "" {
				t.Errorf("unfit (-want +got):\n%s", d)
			}
			usable := status.Usable()
			if want := strings.Join(tt.want, ", "); errors.Is(usable, database.ErrTypes) != (tt.want != nil) || tt.want != nil && !strings.Contains(usable.Error(), want) {
				t.Errorf("usable = %v, want %v with %s", usable, database.ErrTypes, want)
			}
		})
	}
}
