package database

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Version is that of the tables which this program works with: the number of the newest migration.
const Version = 4

// Status is what a database is like.
type Status struct {
	// Version is the number of the last migration that was done, 0 for none.
	Version int64
	// Notifies says that the database tells of changes in a hub's tables at once.
	Notifies bool
	// Lacks are the columns without which Berth can decide nothing and that a hub's tables do not have, as table.column, ascending.
	Lacks []string
	// Unfit says of columns of a hub's tables with which Berth cannot work what type each is of, and what would do, in the order of their names.
	Unfit []string
	// Lost are the columns that the migrations up to Version have made and that are not there any more, as berth.table.column, ascending.
	// Nothing is said of a version that is not this program's.
	Lost []string
	// Grants are the statements, without their semicolons, that give the role of the connection what it needs to run a licenser.
	Grants []string
}

var (
	// ErrNotMigrated is returned for a database that lacks migrations.
	ErrNotMigrated = errors.New("the database is not migrated: run berth migrate")
	// ErrUnreachable is returned where no connection can be had; the text says why.
	ErrUnreachable = errors.New("the database cannot be reached")
	// ErrNewer is returned for a database that a later Berth has migrated.
	ErrNewer = errors.New("a newer Berth has migrated the database: run that one")
	// ErrColumns is returned for tables that are not those of a hub; the text names the columns that they lack.
	ErrColumns = errors.New("the hub's tables lack columns that Berth needs")
	// ErrTypes is returned for tables of a hub with columns of other types than those that Berth reads; the text names them.
	ErrTypes = errors.New("the hub's tables have columns of types that Berth cannot work with")
	// ErrLost is returned for tables of the schema berth that somebody has changed; the text names the columns that they lack.
	ErrLost = errors.New("the tables of the schema berth lack columns that berth migrate has made")
)

// Usable returns nil where this program works with such a database, as the role that has looked at it, else [ErrNotMigrated], [ErrNewer],
// [ErrLost], [ErrColumns], [ErrTypes] or [ErrRights].
func (s Status) Usable() error {
	switch {
	case s.Version < Version:
		return fmt.Errorf("%w (it has version %d, this program needs %d)", ErrNotMigrated, s.Version, Version)
	case s.Version > Version:
		return fmt.Errorf("%w (it has version %d, this program knows %d)", ErrNewer, s.Version, Version)
	case len(s.Lost) > 0:
		return fmt.Errorf("%w: %s: name them so again, or bring the schema back from a backup", ErrLost, strings.Join(s.Lost, ", "))
	case len(s.Lacks) > 0:
		return fmt.Errorf("%w: add %s, or name them so again", ErrColumns, strings.Join(s.Lacks, ", "))
	case len(s.Unfit) > 0:
		return fmt.Errorf("%w: %s: change their types", ErrTypes, strings.Join(s.Unfit, ", "))
	case len(s.Grants) > 0:
		return fmt.Errorf("%w: it cannot be the licenser's until the tables' owners have run: %s", ErrRights, strings.Join(s.Grants, "; "))
	}
	return nil
}

// Check returns what the database at a URL is like. It changes nothing.
func Check(ctx context.Context, url string) (Status, error) {
	config, err := parse(url)
	if err != nil {
		return Status{}, err
	}
	conn, err := connect(ctx, config)
	if err != nil {
		return Status{}, err
	}
	defer hangUp(ctx, conn)
	return Look(ctx, conn)
}

// connect says in one line why it cannot.
func connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(strings.Fields(err.Error()), " "))
	}
	return conn, nil
}

// hangUp closes a connection that has nothing under way, so that there is nothing to be lost.
func hangUp(ctx context.Context, conn *pgx.Conn) { _ = conn.Close(context.WithoutCancel(ctx)) }

// Look is [Check] over a connection that is open. For a role that may not read what it needs it fails with [ErrRights].
func Look(ctx context.Context, conn *pgx.Conn) (Status, error) {
	var s Status
	var migrated bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL,
		(SELECT count(*) = 3 FROM (
			SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
				AND tgname IN ('berth_license_content', 'berth_project_content', 'berth_settings_content')
				AND tgrelid IN (to_regclass('public.site_licenses'), to_regclass('public.projects'), to_regclass('public.server_settings'))
		) t)`, versions).Scan(&migrated, &s.Notifies); denied(err) {
		return s, unread(ctx, conn, err)
	} else if err != nil {
		return s, fmt.Errorf("look at the database: %w", err)
	}
	if !migrated {
		return s, nil
	}
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versions+` WHERE is_applied`).Scan(&s.Version); denied(err) {
		return s, unread(ctx, conn, err)
	} else if err != nil {
		return s, fmt.Errorf("look at the migrations: %w", err)
	}
	var err error
	if s.Lacks, err = absent(ctx, conn); err != nil {
		return s, err
	}
	if s.Unfit, err = unfit(ctx, conn); err != nil {
		return s, err
	}
	if s.Version == Version {
		if s.Lost, err = lost(ctx, conn); err != nil {
			return s, err
		}
	}
	s.Grants, err = lacking(ctx, conn)
	return s, err
}
