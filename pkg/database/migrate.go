package database

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	// versions is the table of the migrations that are done.
	versions = "berth.migrations"
	// lockKey is of the advisory lock that a migration holds: "berth" in ASCII.
	lockKey = 0x6265727468
	// minServer is PostgreSQL 14, as server_version_num has it.
	minServer = 140000
	// connectTimeout bounds a connection's start, where the URL does not.
	connectTimeout = 10 * time.Second
)

// ErrURL is returned for what is no URL of a database. It does not repeat it, since it may hold a password.
var ErrURL = errors.New("DATABASE_URL is no URL of a PostgreSQL: write one like postgres://user:password@host:5432/name")

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed notify.sql
var notify string

// Migrate brings the database at a URL to [Version] and returns what it is like then. It calls report with a line
// for each thing that it does, and for each that it could not do and that Berth can do without. What has been done before is not done again,
// and two at the same time wait for each other. A
// migration that fails leaves the database as it was before it.
//
// The role needs the right to create a schema in the database. To create a hub's tables it needs that right in the schema public, and to
// hear of changes at once that to create triggers on those tables; without it, Berth sees them at its next look.
// It may be the role that Berth runs as; else that one has to be given its rights, in the schema berth too. A role that lacks the right for
// something that is to be done gets [ErrRights].
func Migrate(ctx context.Context, url string, report func(string)) (Status, error) {
	config, err := parse(url)
	if err != nil {
		return Status{}, err
	}
	conn, err := connect(ctx, config)
	if err != nil {
		return Status{}, err
	}
	defer hangUp(ctx, conn)
	// The lock ends with the connection, also when this program is killed.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(lockKey)); err != nil {
		return Status{}, fmt.Errorf("wait for other migrations: %w", err)
	}
	if err := newEnough(ctx, conn); err != nil {
		return Status{}, err
	}
	before, err := Look(ctx, conn)
	if err != nil {
		return before, err
	}
	if before.Version > Version {
		return before, before.Usable()
	}
	if before.Version < Version {
		if err := up(ctx, conn, config, report); err != nil {
			return before, unmigrated(ctx, conn, err)
		}
	}
	lacks, err := absent(ctx, conn)
	if err != nil {
		return before, err
	}
	if len(lacks) > 0 {
		report("the triggers on the hub's tables stay as they are, as these lack what Berth needs: " + strings.Join(lacks, ", "))
	} else if err := listen(ctx, conn, before.Notifies, report); err != nil {
		return before, err
	}
	after, err := Look(ctx, conn)
	if err != nil {
		return after, err
	}
	if after.Version == before.Version {
		report(fmt.Sprintf("nothing to migrate: the database has version %d", after.Version))
	}
	if len(after.Grants) > 0 {
		report("this role cannot be the licenser's: for that the tables' owners have to run: " + strings.Join(after.Grants, "; "))
	}
	return after, nil
}

func parse(url string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	// An empty text is a valid one: all defaults.
	if err != nil || strings.TrimSpace(url) == "" {
		return nil, ErrURL
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.RuntimeParams["application_name"] = "berth-migrate"
	return config, nil
}

// newEnough refuses a server that cannot replace triggers.
func newEnough(ctx context.Context, conn *pgx.Conn) error {
	var number int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::integer`).Scan(&number); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	if number < minServer {
		return fmt.Errorf("the server is PostgreSQL %d: Berth needs version %d or newer", number/10000, minServer/10000)
	}
	return nil
}

// up runs the migrations that are not done yet.
func up(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, report func(string)) error {
	if _, err := conn.Exec(ctx, `DO $$ BEGIN
			IF to_regnamespace('berth') IS NULL THEN CREATE SCHEMA berth; END IF;
		END $$`); err != nil {
		return fmt.Errorf("make schema berth: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }() // What it has done is committed.
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		report(fmt.Sprintf("migrated to version %d (%s)", r.Source.Version, r.Duration.Round(time.Millisecond)))
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// listen makes the triggers, where the role may; there says that there are some.
func listen(ctx context.Context, conn *pgx.Conn, there bool, report func(string)) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, notify).ReadAll()
		return err
	})
	var code *pgconn.PgError
	switch {
	case denied(err) && there:
		report("the triggers on the hub's tables stay as they are, which only the role that has made them can renew")
		return nil
	case errors.As(err, &code) && denied(err):
		report("no triggers on the hub's tables, so changes are seen at the next look for them only: " + code.Message)
		return nil
	case err != nil:
		return fmt.Errorf("make triggers: %w", err)
	}
	return nil
}
