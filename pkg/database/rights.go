package database

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRights is returned where the role may not do what it is to do; the text says what is missing, and who can mend it.
var ErrRights = errors.New("the role lacks rights")

// denied says that the server has refused a right.
func denied(err error) bool {
	var code *pgconn.PgError
	return errors.As(err, &code) && code.Code == "42501"
}

// needed are the columns of a hub's tables without which nothing can be decided; how it has more, and which of them may be
// written, is its own affair.
const needed = `(VALUES
	('projects', 'project_id'), ('projects', 'site_license'), ('projects', 'settings'), ('projects', 'users'), ('projects', 'state'), ('projects', 'run_quota'),
	('server_settings', 'name'), ('server_settings', 'value'),
	('site_licenses', 'id'), ('site_licenses', 'title'), ('site_licenses', 'activates'), ('site_licenses', 'expires'), ('site_licenses', 'upgrades'),
	('site_licenses', 'quota'), ('site_licenses', 'run_limit')) AS needed (name, attribute)`

// absent are the needed columns that are not there, as table.column, ascending.
func absent(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return texts(ctx, conn, `SELECT name || '.' || attribute FROM `+needed+` WHERE NOT EXISTS (
			SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relname = name AND attname = attribute AND attnum > 0 AND NOT attisdropped)
		ORDER BY 1`)
}

// lacking are the statements, without their semicolons, that give the role of a connection what it needs to run a
// licenser: to read a hub's tables, and to work with Berth's.
func lacking(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return texts(ctx, conn, `WITH tables AS (
			SELECT c.oid, n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'berth' AND c.relkind IN ('r', 'p', 'v') OR n.nspname = 'public' AND c.relname IN ('projects', 'site_licenses', 'server_settings')
		)
		SELECT 'GRANT USAGE ON SCHEMA ' || nspname || ' TO ' || quote_ident(current_user) FROM pg_namespace
			WHERE nspname IN ('berth', 'public') AND NOT has_schema_privilege(oid, 'USAGE')
		UNION ALL SELECT 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA berth TO ' || quote_ident(current_user)
			WHERE EXISTS (SELECT FROM tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r (kind)
				WHERE schema = 'berth' AND (name <> 'migrations' OR kind = 'SELECT') AND NOT has_table_privilege(oid, kind))
		UNION ALL SELECT DISTINCT 'GRANT SELECT ON public.' || name || ' TO ' || quote_ident(current_user)
			FROM tables JOIN `+needed+` USING (name) JOIN pg_attribute a ON attrelid = oid AND attname = attribute AND NOT attisdropped
			WHERE schema = 'public' AND NOT has_column_privilege(oid, attnum, 'SELECT')
		ORDER BY 1 DESC`)
}

// texts are the values of a query's only column.
func texts(ctx context.Context, conn *pgx.Conn, query string) ([]string, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("look at the tables and rights: %w", err)
	}
	values, err := pgx.AppendRows([]string(nil), rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look at the tables and rights: %w", err)
	}
	return values, nil
}

// who returns the role of a connection, and the one that owns the schema berth, empty where there is none.
func who(ctx context.Context, conn *pgx.Conn) (role, owner string, err error) {
	if err := conn.QueryRow(ctx, `SELECT current_user, coalesce((SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'berth'), '')`).
		Scan(&role, &owner); err != nil {
		return "", "", fmt.Errorf("look at the roles: %w", err)
	}
	return role, owner, nil
}

// unread is the error of a role that may not even read how far the database is migrated.
func unread(ctx context.Context, conn *pgx.Conn, why error) error {
	role, _, err := who(ctx, conn)
	if err != nil {
		return err
	}
	statements, err := lacking(ctx, conn)
	if err != nil {
		return err
	}
	if len(statements) == 0 {
		return fmt.Errorf("look at the database: %w", why)
	}
	return fmt.Errorf("%w: %q may not look at the database; its owner has to run: %s", ErrRights, role, strings.Join(statements, "; "))
}

// unmigrated is the error of a role that may not migrate.
func unmigrated(ctx context.Context, conn *pgx.Conn, why error) error {
	var code *pgconn.PgError
	if !errors.As(why, &code) || !denied(why) {
		return why
	}
	role, owner, err := who(ctx, conn)
	switch {
	case err != nil:
		return err
	case owner == "" || owner == role:
		return fmt.Errorf("%w: %q may not migrate (%s): run berth migrate as the owner of the database, or have that give the right", ErrRights, role, code.Message)
	default:
		return fmt.Errorf("%w: %q may not migrate (%s): run berth migrate as %q, who owns the schema berth", ErrRights, role, code.Message, owner)
	}
}
