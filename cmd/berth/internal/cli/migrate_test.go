package cli

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"berth/pkg/database/local"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	server, err := local.Start(t.Context(), local.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	statement := func(sql string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), sql)
		if err := errors.Join(err, conn.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	statement(`CREATE ROLE poor LOGIN PASSWORD 'hidden'`)
	at.User = url.UserPassword("poor", "hidden")
	poor := at.String()
	const away = "postgres://somebody:hidden@127.0.0.1:1/berth"
	// One after the other.
	for _, tt := range []struct {
		url        string
		args       []string
		wantCode   int
		wantStdout string
		wantStderr string // Its beginning.
	}{
		{server.URL, []string{"--status"}, ExitFailed, "version 0 of 4; changes are not told, Berth looks for them\n", "berth: the database is not migrated: run berth migrate"},
		{server.URL, nil, ExitOK, "version 4 of 4; changes are told at once\n", "migrated to version 1"},
		{server.URL, nil, ExitOK, "version 4 of 4; changes are told at once\n", "nothing to migrate"},
		{server.URL, []string{"--quiet"}, ExitOK, "version 4 of 4; changes are told at once\n", ""},
		{server.URL, []string{"--status", "--json"}, ExitOK, `{"version":4,"wanted_version":4,"usable":true,"notifies":true}` + "\n", ""},
		{"", nil, ExitUsage, "", "berth: which database?"},
		{"mysql://somebody:hidden@db/x", nil, ExitUsage, "", "berth: DATABASE_URL is no URL of a PostgreSQL"},
		{away, nil, ExitUnavailable, "", "berth: the database cannot be reached"},
		{away, []string{"--database-url", server.URL, "--status"}, ExitOK, "version 4 of 4; changes are told at once\n", ""},
		{server.URL, []string{"--database-url", "", "--status"}, ExitUsage, "", "berth: --database-url is empty"},
		{poor, []string{"--status"}, ExitFailed, "version 4 of 4; changes are told at once\n", "berth: the role lacks rights: it cannot be the licenser's until the tables' owners have run: GRANT SELECT ON public.projects TO poor\n"},
		{poor, nil, ExitOK, "version 4 of 4; changes are told at once\n", "the triggers on the hub's tables stay as they are"},
		{away, []string{"--timeout", "0s"}, ExitUsage, "", "berth: --timeout must be more than 0"},
	} {
		if tt.url == poor { // All but one right.
			statement(`GRANT USAGE ON SCHEMA berth TO poor; GRANT ALL ON ALL TABLES IN SCHEMA berth TO poor; GRANT SELECT ON public.site_licenses, public.server_settings TO poor`)
		}
		var out, errs strings.Builder
		code := Run(t.Context(), Process{
			Args: append([]string{"migrate"}, tt.args...), Environ: []string{"DATABASE_URL=" + tt.url}, Stdout: &out, Stderr: &errs,
		})
		if code != tt.wantCode || !strings.HasPrefix(errs.String(), tt.wantStderr) || tt.wantStderr == "" && errs.Len() > 0 {
			t.Errorf("%q: code %d, stderr %q, want %d and %q", tt.args, code, &errs, tt.wantCode, tt.wantStderr)
		}
		if d := cmp.Diff(tt.wantStdout, out.String()); d != "" {
			t.Errorf("%q: stdout (-want +got):\n%s", tt.args, d)
		}
		if strings.Contains(out.String()+errs.String(), "hidden") {
			t.Errorf("%q: the password is told", tt.args)
		}
	}
}
