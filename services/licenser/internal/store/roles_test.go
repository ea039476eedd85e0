package store_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/pkg/database"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// grants are the blocks of SQL in the documentation, with the database and the roles of a test.
func grants(t *testing.T, name, migrates, runs string) []string {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/projects.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(text), "```sql\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, strings.NewReplacer("DATABASE hub", "DATABASE "+name, "berth_migrate", migrates, "berth_run", runs).Replace(block))
	}
	if len(blocks) != 2 {
		t.Fatalf("the documentation has %d blocks of SQL, want 2", len(blocks))
	}
	return blocks
}

// TestTwoRoles: with the rights that the documentation lists one role migrates a hub's database, and another one can do all
// that a licenser does there.
func TestTwoRoles(t *testing.T) {
	t.Parallel()
	admin := shared.Empty(t)
	f := &fixture{url: admin, conn: connect(t, admin)}
	sql, err := os.ReadFile("testdata/hub.sql")
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, string(sql))
	config, err := pgx.ParseConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	migrates, runs := "migrates_"+config.Database, "role_"+config.Database
	f.exec(t, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret'`, migrates))
	t.Cleanup(func() { f.exec(t, `DROP OWNED BY `+migrates+` CASCADE; DROP ROLE `+migrates) })
	url := f.role(t, `SELECT`)
	documented := grants(t, config.Database, migrates, runs)
	f.exec(t, documented[0])
	owner := strings.Replace(url, runs, migrates, 1)
	if status, err := database.Migrate(t.Context(), owner, func(string) {}); err != nil || !status.Notifies {
		t.Fatalf("migrate: %+v, %v", status, err)
	}
	own := open(t, url)
	if err := own.Ready(t.Context()); !errors.Is(err, database.ErrRights) || !strings.Contains(err.Error(), "GRANT USAGE ON SCHEMA berth TO "+runs) {
		t.Errorf("without rights Ready = %v", err)
	}
	connect(t, owner).Exec(t.Context(), documented[1]) //nolint:errcheck // What it grants is tried below.
	if err := own.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx := t.Context()
	own.conn = f.conn
	own.check(t, start(projectA, 1))
	saved := own.put(t, "10000000-0000-4000-8000-000000000009", 3)
	request := store.ActionRequest{Project: projectA, Request: []byte(`{}`)}
	_, _, err = own.Command(ctx, request, "x")
	if err := errors.Join(err,
		own.Attach(ctx, wire.Attachment{License: saved.ID, Project: projectA}), own.Attach(ctx, wire.Attachment{License: saved.ID, User: "alice"}),
		own.Detach(ctx, wire.Attachment{License: saved.ID, User: "alice"}), own.DeleteLicense(ctx, saved.ID, saved.Revision),
		own.Activity(ctx, projectA), own.Lives(ctx, projectA, time.Now(), true), own.Undo(ctx, projectA, "x"),
		own.SetState(ctx, projectA, "running", ""), own.Failed(ctx, projectA, 1, time.Now(), "x"), own.NoteFault(ctx, projectA, "x", "y"),
		own.Done(ctx, request, "x"), own.ClearRequest(ctx, request, "x"), own.ClearRequest(ctx, request, ""), own.KnowSettings(ctx, "x"),
		own.KnowLicense(ctx, store.LicenseChange{ID: licenseA, Digest: "x"}), own.KnowLicense(ctx, store.LicenseChange{ID: licenseA}),
		own.KeepSeats(ctx, cluster, "x", generation(1), time.Time{}, time.Now()), own.FreeSeats(ctx, cluster, "x", generation(1), time.Time{}),
		own.InheritSeats(ctx, cluster, "x", "alice", generation(2)), second(own.Recount(ctx, cluster, nil, 0)),
		second(own.Usage(ctx, wire.UsageQuery{ID: licenseA})), second(own.Seats(ctx, licenseA)), second(own.Inputs(ctx, projectA)),
	); err != nil {
		t.Error(err)
	}
	if _, ok := lease(t, own, cluster); !ok {
		t.Error("it cannot be a keeper")
	}
	if got := f.value(t, `SELECT state ->> 'state' FROM public.projects WHERE project_id = $1`, projectA); got != "running" {
		t.Errorf("the state is %s", got)
	}
	if status, err := database.Migrate(ctx, url, func(string) {}); err != nil || status.Usable() != nil {
		t.Errorf("migrate as the role that runs: %+v, %v", status, err)
	}
}

// TestTablesThatChange: a column or a right that is taken away under a store is named, and one that comes back is used, without a restart.
func TestTablesThatChange(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		away, back string // Of ROLE.
		want       error
		named      string
	}{
		"a column": {
			`ALTER TABLE projects RENAME users TO usersx`, `ALTER TABLE projects RENAME usersx TO users`, database.ErrColumns, "projects.users",
		},
		"the right to a table": {
			`REVOKE SELECT ON site_licenses FROM ROLE`, `GRANT SELECT ON site_licenses TO ROLE`, database.ErrRights, "GRANT SELECT ON public.site_licenses TO ",
		},
		"a column of Berth's": {
			`ALTER TABLE berth.seats RENAME kept_until TO x`, `ALTER TABLE berth.seats RENAME x TO kept_until`, database.ErrLost, "berth.seats.kept_until",
		},
		"a table": {`ALTER TABLE server_settings RENAME TO other`, `ALTER TABLE other RENAME TO server_settings`, database.ErrColumns, "server_settings.value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupHub(t)
			role := "role_" + f.conn.Config().Database
			f.check(t, start(projectA, 1))
			f.exec(t, strings.ReplaceAll(tt.away, "ROLE", role))
			var err error
			for range 2 { // The first finds out what the second says.
				err = f.Check(t.Context(), start(projectA, 2), greedy)
			}
			if !errors.Is(err, store.ErrAway) || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.named) {
				t.Errorf("Check = %v, want %v and %v with %s", err, store.ErrAway, tt.want, tt.named)
			}
			if err := f.Ready(t.Context()); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.named) {
				t.Errorf("Ready = %v, want %v with %s", err, tt.want, tt.named)
			}
			f.exec(t, strings.ReplaceAll(tt.back, "ROLE", role))
			f.check(t, start(projectA, 2))
			if err := f.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	// A right that comes later is used after the next look.
	f := setupHub(t)
	role := "role_" + f.conn.Config().Database
	f.exec(t, `REVOKE UPDATE (state) ON projects FROM `+role)
	if err := errors.Join(f.Ready(t.Context()), f.SetState(t.Context(), projectA, "running", "")); err != nil {
		t.Error(err)
	}
	f.exec(t, `GRANT UPDATE (state) ON projects TO `+role)
	if err := errors.Join(f.Ready(t.Context()), f.SetState(t.Context(), projectA, "running", "")); err != nil {
		t.Error(err)
	}
	if got := f.value(t, `SELECT state ->> 'state' FROM public.projects WHERE project_id = $1`, projectA); got != "running" {
		t.Errorf("the state is %s", got)
	}
}

// TestDrives: of the keepers of all clusters of a database one drives the projects that have no pod, and another one takes over.
func TestDrives(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first, ok := lease(t, f, "one")
	if !ok || !first.Drives() {
		t.Fatal("the first does not drive")
	}
	other, ok := lease(t, f, "two")
	if !ok || other.Drives() {
		t.Fatal("two drive")
	}
	first.Close()
	deadline := time.Now().Add(time.Minute)
	for {
		change, _, err := other.Next(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the other one does not take over: %v", err)
		}
		if change == (store.Change{Drives: true}) && other.Drives() {
			return
		}
	}
}
