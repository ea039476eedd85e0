package database_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"berth/pkg/database"
	"berth/pkg/database/dbtest"
)

var shared dbtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// role makes a role without rights for one test, and returns its name and the URL with it.
func role(t *testing.T, admin *pgx.Conn) (name, with string) {
	t.Helper()
	config := admin.Config()
	name = "role_" + config.Database
	exec(t, admin, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret'; GRANT CREATE ON DATABASE %s TO %s`, name, config.Database, name))
	t.Cleanup(func() { exec(t, admin, fmt.Sprintf(`DROP OWNED BY %s CASCADE; DROP ROLE %s`, name, name)) })
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(name, "secret"), Path: config.Database,
		Host: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))),
	}
	return name, address.String()
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := shared.Empty(t)
	if status, err := database.Check(t.Context(), url); err != nil || status.Version != 0 || !errors.Is(status.Usable(), database.ErrNotMigrated) {
		t.Errorf("before: %+v, %v, %v", status, err, status.Usable())
	}
	// Several at once, as replicas of a job.
	var wg sync.WaitGroup
	var mu sync.Mutex
	var lines []string
	for range 4 {
		wg.Go(func() {
			if _, err := database.Migrate(t.Context(), url, func(line string) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := database.Status{Version: database.Version, Notifies: true}
	status, err := database.Check(t.Context(), url)
	if d := cmp.Diff(want, status); d != "" || err != nil || status.Usable() != nil {
		t.Errorf("after (-want +got):\n%s%v, %v", d, err, status.Usable())
	}
	if text := strings.Join(lines, "\n"); strings.Count(text, "migrated to") != database.Version || strings.Count(text, "nothing to migrate") != 3 {
		t.Errorf("reports:\n%s", text)
	}
	conn := connect(t, url)
	var owned string
	if err := conn.QueryRow(t.Context(), `SELECT value FROM berth.settings WHERE name = 'owns_tables'`).Scan(&owned); err != nil || owned != "true" {
		t.Errorf("owns_tables is %q, %v", owned, err)
	}
	// A later Berth was here.
	exec(t, conn, `INSERT INTO berth.migrations (version_id, is_applied) VALUES (1000, true)`)
	if _, err := database.Migrate(t.Context(), url, func(string) {}); !errors.Is(err, database.ErrNewer) {
		t.Errorf("migrate = %v, want %v", err, database.ErrNewer)
	}
}

// TestHub: a hub's tables stay as they are, and a role that may make no triggers is told so.
func TestHub(t *testing.T) {
	t.Parallel()
	conn := connect(t, shared.Empty(t))
	exec(t, conn, `CREATE TABLE projects (project_id uuid PRIMARY KEY, site_license jsonb, settings jsonb, users jsonb, state jsonb, run_quota jsonb);
		CREATE TABLE site_licenses (id uuid PRIMARY KEY, title text, activates timestamp, expires timestamp, upgrades jsonb, quota jsonb, run_limit integer);
		CREATE TABLE server_settings (name text, value text)`)
	name, url := role(t, conn)
	exec(t, conn, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO `+name)
	var lines []string
	status, err := database.Migrate(t.Context(), url, func(line string) { lines = append(lines, line) })
	if err != nil || status.Usable() != nil || status.Notifies {
		t.Fatalf("migrate: %+v, %v", status, err)
	}
	if len(lines) != database.Version+1 || !strings.HasPrefix(lines[database.Version], "no triggers on the hub's tables") {
		t.Errorf("reports: %q", lines)
	}
	var owned string
	if err := conn.QueryRow(t.Context(), `SELECT value FROM berth.settings WHERE name = 'owns_tables'`).Scan(&owned); err != nil || owned != "false" {
		t.Errorf("owns_tables is %q, %v", owned, err)
	}
	// The right to make them, and the column that was missing, come later.
	exec(t, conn, `GRANT TRIGGER ON ALL TABLES IN SCHEMA public TO `+name+`; ALTER TABLE projects ADD action_request jsonb`)
	for range 2 {
		lines = nil
		status, err := database.Migrate(t.Context(), url, func(line string) { lines = append(lines, line) })
		if err != nil || !status.Notifies || len(lines) != 1 {
			t.Errorf("migrate: %+v, %v, reports %q", status, err, lines)
		}
	}
}

// TestTwoRoles: one role migrates, another one runs. The second is told what it lacks, and who has to do what it may not.
func TestTwoRoles(t *testing.T) {
	t.Parallel()
	conn := connect(t, shared.Migrated(t))
	name, url := role(t, conn)
	_, err := database.Check(t.Context(), url)
	if !errors.Is(err, database.ErrRights) {
		t.Fatalf("check = %v, want %v", err, database.ErrRights)
	}
	_, statements, _ := strings.Cut(err.Error(), "has to run: ")
	if strings.Count(statements, "GRANT ") != 5 {
		t.Errorf("it says %q", err)
	}
	exec(t, conn, statements)
	var lines []string
	report := func(line string) { lines = append(lines, line) }
	status, err := database.Migrate(t.Context(), url, report)
	if err != nil || status.Usable() != nil {
		t.Errorf("migrate: %+v, %v", status, err)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], "stay as they are") || !strings.HasPrefix(lines[1], "nothing to migrate") {
		t.Errorf("reports: %q", lines)
	}
	exec(t, conn, `DELETE FROM berth.migrations WHERE version_id > 1`)
	if _, err := database.Migrate(t.Context(), url, report); !errors.Is(err, database.ErrRights) || !strings.Contains(err.Error(), `"postgres", who owns the schema`) {
		t.Errorf("migrate = %v, want %v with the owner", err, database.ErrRights)
	}
	// A right that a hub's tables lose later is named again, as is that of one column.
	exec(t, conn, `INSERT INTO berth.migrations (version_id, is_applied) SELECT v, true FROM generate_series(2, $1) v`, database.Version)
	exec(t, conn, `REVOKE SELECT ON public.projects FROM `+name+`; GRANT SELECT (project_id) ON public.projects TO `+name)
	status, err = database.Check(t.Context(), url)
	if err != nil || !errors.Is(status.Usable(), database.ErrRights) || !strings.Contains(status.Usable().Error(), "GRANT SELECT ON public.projects TO "+name) {
		t.Errorf("check = %+v, %v; usable = %v, want %v", status, err, status.Usable(), database.ErrRights)
	}
	// A role that may migrate and no more is told so, too.
	other := connect(t, shared.Empty(t))
	name, url = role(t, other)
	exec(t, other, `REVOKE CREATE ON DATABASE `+other.Config().Database+` FROM `+name)
	if _, err := database.Migrate(t.Context(), url, report); !errors.Is(err, database.ErrRights) || !strings.Contains(err.Error(), "owner of the database") {
		t.Errorf("migrate = %v, want %v", err, database.ErrRights)
	}
}

// TestColumns: a hub's tables without what Berth needs are named, also to who has just migrated.
func TestColumns(t *testing.T) {
	t.Parallel()
	url := shared.Migrated(t)
	exec(t, connect(t, url), `ALTER TABLE projects RENAME users TO usersx; ALTER TABLE site_licenses RENAME quota TO quotas`)
	var lines []string
	migrated, err := database.Migrate(t.Context(), url, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	status, err := database.Check(t.Context(), url)
	if d := cmp.Diff(migrated, status); d != "" || err != nil {
		t.Errorf("check (-migrate +check):\n%s%v", d, err)
	}
	const want = "projects.users, site_licenses.quota"
	if usable := status.Usable(); !errors.Is(usable, database.ErrColumns) || !strings.Contains(usable.Error(), want) {
		t.Errorf("usable = %v, want %v with %s", usable, database.ErrColumns, want)
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, want) {
		t.Errorf("reports: %s", text)
	}
}

// TestLost: a column that berth migrate has made, any of them, is named when it is gone, and that it is a migration away is not said.
func TestLost(t *testing.T) {
	t.Parallel()
	const columns = `SELECT relname || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
		WHERE relnamespace = 'berth'::regnamespace AND relkind = 'r' AND relname <> 'migrations' AND attnum > 0 AND NOT attisdropped ORDER BY 1`
	url := shared.Migrated(t)
	conn := connect(t, url)
	rows, err := conn.Query(t.Context(), columns)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, column := range all {
		table, name, _ := strings.Cut(column, ".")
		exec(t, conn, fmt.Sprintf(`ALTER TABLE berth.%s RENAME COLUMN %s TO away_%d`, pgx.Identifier{table}.Sanitize(), pgx.Identifier{name}.Sanitize(), i))
		all[i] = "berth." + column
	}
	status, err := database.Check(t.Context(), url)
	if d := cmp.Diff(all, status.Lost); d != "" || err != nil {
		t.Errorf("lost (-want +got):\n%s%v", d, err)
	}
	if usable := status.Usable(); !errors.Is(usable, database.ErrLost) || !strings.Contains(usable.Error(), "berth.known_licenses.digest, ") {
		t.Errorf("usable = %v, want %v with the columns", usable, database.ErrLost)
	}
}

// TestNotifications: a change that matters is told, to the id; what Berth writes itself is not. The hub's own role, which has no rights in the schema
// berth, makes the changes.
func TestNotifications(t *testing.T) {
	t.Parallel()
	const id = "20000000-0000-4000-8000-000000000001"
	tests := map[string]struct {
		change string
		want   []string
	}{
		"license inserted":          {`INSERT INTO site_licenses (id) VALUES ('10000000-0000-4000-8000-000000000001')`, []string{"berth_license 10000000-0000-4000-8000-000000000001"}},
		"license deleted":           {`DELETE FROM site_licenses`, []string{"berth_license " + id}},
		"license activated":         {`UPDATE site_licenses SET activates = now()`, []string{"berth_license " + id}},
		"license with an end":       {`UPDATE site_licenses SET expires = now()`, []string{"berth_license " + id}},
		"license with a limit":      {`UPDATE site_licenses SET run_limit = 1`, []string{"berth_license " + id}},
		"license with a quota":      {`UPDATE site_licenses SET quota = '{"cpu": 1}'`, []string{"berth_license " + id}},
		"license with upgrades":     {`UPDATE site_licenses SET upgrades = '{"cores": 1}'`, []string{"berth_license " + id}},
		"license used and renamed":  {`UPDATE site_licenses SET last_used = now(), title = 'x'`, nil},
		"license as it was":         {`UPDATE site_licenses SET quota = quota, run_limit = run_limit`, nil},
		"project inserted":          {`INSERT INTO projects (project_id) VALUES ('30000000-0000-4000-8000-000000000001')`, nil},
		"project asked for":         {`INSERT INTO projects (project_id, action_request) VALUES ('30000000-0000-4000-8000-000000000001', '{}')`, []string{"berth_project 30000000-0000-4000-8000-000000000001"}},
		"license attached":          {`UPDATE projects SET site_license = site_license || '{"b": {}}'`, []string{"berth_project " + id}},
		"license detached":          {`UPDATE projects SET site_license = NULL`, []string{"berth_project " + id}},
		"license exchanged":         {`UPDATE projects SET site_license = '{"b": {}}'`, []string{"berth_project " + id}},
		"values of licenses":        {`UPDATE projects SET site_license = '{"a": {"status": "active"}}', state = '{}', run_quota = '{}'`, nil},
		"licenses of another form":  {`UPDATE projects SET site_license = '[1]', users = '5'`, []string{"berth_project " + id}},
		"settings":                  {`UPDATE projects SET settings = '{"cores": 1}'`, []string{"berth_project " + id}},
		"upgrades of a user":        {`UPDATE projects SET users = '{"u": {"group": "owner", "upgrades": {"cores": 1}}}'`, []string{"berth_project " + id}},
		"group of a user":           {`UPDATE projects SET users = '{"u": {"group": "collaborator"}, "v": null, "w": 5}'`, nil},
		"title and edit":            {`UPDATE projects SET title = 'x', last_edited = now()`, nil},
		"action asked for":          {`UPDATE projects SET action_request = '{"action": "stop"}'`, []string{"berth_project " + id}},
		"action cleared":            {`UPDATE projects SET action_request = '{"action": "x"}'; UPDATE projects SET action_request = NULL`, []string{"berth_project " + id}},
		"all licenses at once":      {`TRUNCATE site_licenses`, []string{"berth_license " + id}},
		"all settings at once":      {`TRUNCATE server_settings`, []string{"berth_settings default_quotas"}},
		"a setting renamed":         {`UPDATE server_settings SET name = 'x'`, []string{"berth_settings default_quotas"}},
		"a setting as it was":       {`UPDATE server_settings SET value = value`, nil},
		"a setting removed":         {`DELETE FROM server_settings`, []string{"berth_settings default_quotas"}},
		"default quotas":            {`UPDATE server_settings SET value = '{}' WHERE name = 'default_quotas'`, []string{"berth_settings default_quotas"}},
		"maxima":                    {`INSERT INTO server_settings VALUES ('max_upgrades', '{}')`, []string{"berth_settings max_upgrades"}},
		"setting of something else": {`INSERT INTO server_settings VALUES ('other', '{}')`, nil},
		"two projects":              {`INSERT INTO projects (project_id) VALUES ('30000000-0000-4000-8000-000000000001'); UPDATE projects SET settings = '{}'`, []string{"berth_project " + id, "berth_project 30000000-0000-4000-8000-000000000001"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, shared.Migrated(t))
			hub, url := role(t, conn)
			exec(t, conn, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+hub+`;
				INSERT INTO site_licenses (id) VALUES ('`+id+`'); INSERT INTO server_settings VALUES ('default_quotas', '');
				INSERT INTO projects (project_id, site_license, users) VALUES ('`+id+`', '{"a": {}}', '{"u": {"group": "owner"}}')`)
			exec(t, conn, `LISTEN berth_license; LISTEN berth_project; LISTEN berth_settings; LISTEN done`)
			exec(t, connect(t, url), tt.change+`; NOTIFY done`)
			if d := cmp.Diff(tt.want, told(t, conn)); d != "" {
				t.Errorf("notifications (-want +got):\n%s", d)
			}
		})
	}
}

// told are the notifications that a connection gets until one on the channel done.
func told(t *testing.T, conn *pgx.Conn) (all []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel == "done" {
			return all
		}
		all = append(all, n.Channel+" "+n.Payload)
	}
}

// TestURL: no error repeats a password.
func TestURL(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		url  string
		want error
	}{
		"nothing":        {"", database.ErrURL},
		"no URL":         {"postgres://user:hidden@[::1", database.ErrURL},
		"another scheme": {"mysql://user:hidden@db/berth", database.ErrURL},
		"nobody there":   {"postgres://user:hidden@127.0.0.1:1/berth", database.ErrUnreachable},
		"wrong password": {strings.Replace(shared.Empty(t), "//postgres:", "//postgres:hidden", 1), database.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, err := range map[string]error{
				"check":   second(database.Check(t.Context(), tt.url)),
				"migrate": second(database.Migrate(t.Context(), tt.url, func(string) {})),
			} {
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("%s = %v, want %v without the password", what, err, tt.want)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }
