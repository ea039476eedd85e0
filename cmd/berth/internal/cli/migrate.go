package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"berth/pkg/database"
)

// migrateTimeout leaves time for another migration that is under way.
const migrateTimeout = 10 * time.Minute

// migrateFlags is the command line of migrate.
type migrateFlags struct {
	url     string
	status  bool
	timeout time.Duration
}

func (a *app) migrate() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or update Berth's tables in the database",
		Long: `Bring a PostgreSQL database to the version that this program works with: Berth's
own tables in the schema berth; the tables of a project hub (projects,
site_licenses, server_settings) where there are none; triggers that tell of
changes in them. What a hub has stays as it is. What is done already is not done
again, and two at the same time wait for each other.

The role of the URL should be the one that the licenser uses. It needs the right
to create a schema in the database, and, to hear of changes at once, the right to
create triggers on a hub's tables (GRANT TRIGGER); without it Berth sees changes
at its next look, projects.catchUpInterval later at the latest.

With --status it changes nothing and says how the database is. The exit code is 0
where Berth can work with it, as the role of the URL; 1 where it is to be migrated,
lacks columns or rights, or something failed; 4 where the database does not answer.

Environment, besides that of every command:
  DATABASE_URL  for --database-url; keeps the password out of the command line`,
		Example: `  DATABASE_URL=postgres://berth@db:5432/hub berth migrate
  berth migrate --status --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A variable of a script that is not set must not migrate another database.
			if f.url == "" && cmd.Flags().Changed("database-url") {
				return usage("--database-url is empty: say which database, or leave the flag out for DATABASE_URL")
			}
			return a.runMigrate(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "database-url", "", "the database, as postgres://user:password@host:5432/name (DATABASE_URL)")
	flags.BoolVar(&f.status, "status", false, "only say how the database is")
	flags.DurationVar(&f.timeout, "timeout", migrateTimeout, "how long it may take in all")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) runMigrate(ctx context.Context, f migrateFlags) error {
	if f.url == "" {
		f.url = a.getenv("DATABASE_URL")
	}
	switch {
	case f.url == "":
		return usage("which database? Set DATABASE_URL or --database-url")
	case f.timeout <= 0:
		return usage("--timeout must be more than 0")
	}
	ctx, cancel := withTimeout(ctx, f.timeout)
	defer cancel()
	var status database.Status
	var err error
	if f.status {
		status, err = database.Check(ctx, f.url)
	} else {
		status, err = database.Migrate(ctx, f.url, func(line string) {
			if !a.quiet {
				fmt.Fprintln(a.Stderr, line)
			}
		})
	}
	if err != nil {
		return unmigrated(ctx, err)
	}
	usable := status.Usable()
	if a.json {
		a.writeJSON(a.Stdout, struct {
			Version  int64    `json:"version"`
			Wanted   int64    `json:"wanted_version"`
			Usable   bool     `json:"usable"`
			Notifies bool     `json:"notifies"`
			Lacks    []string `json:"lacks,omitempty"`
			Unfit    []string `json:"unfit,omitempty"`
			Lost     []string `json:"lost,omitempty"`
			Grants   []string `json:"grants,omitempty"`
		}{status.Version, database.Version, usable == nil, status.Notifies, status.Lacks, status.Unfit, status.Lost, status.Grants})
	} else {
		changes := "changes are told at once"
		if !status.Notifies {
			changes = "changes are not told, Berth looks for them"
		}
		fmt.Fprintf(a.Stdout, "version %d of %d; %s\n", status.Version, database.Version, changes)
	}
	// The role that migrates need not be the one that runs; what this one lacks for that has been said.
	if usable != nil && (f.status || !errors.Is(usable, database.ErrRights)) {
		return &failure{code: ExitFailed, reason: codeFailed, message: usable.Error()}
	}
	return nil
}

// unmigrated makes a failure of why a database could not be looked at or migrated.
func unmigrated(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		return &failure{code: ExitTimeout, reason: codeWaitTimeout, message: "migrate: not done in time"}
	case ctx.Err() != nil:
		return &failure{code: ExitInterrupted, reason: codeInterrupted, message: "migrate: interrupted"}
	case errors.Is(err, database.ErrURL):
		return usage("%s", err)
	case errors.Is(err, database.ErrUnreachable):
		return &failure{code: ExitUnavailable, reason: codeUnreachable, message: err.Error()}
	}
	return &failure{code: ExitFailed, reason: codeFailed, message: "migrate: " + err.Error()}
}
