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

// lacking are the statements, without their semicolons, that give the role of a connection what it needs to run a
// licenser: to read a hub's tables, and to work with Berth's.
func lacking(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `WITH tables AS (
			SELECT c.oid, n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname = 'berth' OR n.nspname = 'public' AND c.relname IN ('projects', 'site_licenses', 'server_settings'))
		)
		SELECT 'GRANT USAGE ON SCHEMA berth TO ' || quote_ident(current_user) FROM pg_namespace
			WHERE nspname = 'berth' AND NOT has_schema_privilege(oid, 'USAGE')
		UNION ALL SELECT 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA berth TO ' || quote_ident(current_user)
			WHERE EXISTS (SELECT FROM tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r (kind)
				WHERE schema = 'berth' AND (name <> 'migrations' OR kind = 'SELECT') AND NOT has_table_privilege(oid, kind))
		UNION ALL SELECT 'GRANT SELECT ON public.' || name || ' TO ' || quote_ident(current_user) FROM tables
			WHERE schema = 'public' AND NOT has_any_column_privilege(oid, 'SELECT')
		ORDER BY 1 DESC`)
	if err != nil {
		return nil, fmt.Errorf("look at the role's rights: %w", err)
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look at the role's rights: %w", err)
	}
	return statements, nil
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
