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

// needed are the columns of a hub's tables without which nothing can be decided, with the types that work, none for any; how it has more,
// and which of them may be written, is its own affair.
const needed = `(VALUES
	('projects', 'project_id', '{uuid}'), ('projects', 'site_license', '{jsonb}'), ('projects', 'settings', '{jsonb,json,text,varchar}'),
	('projects', 'users', '{jsonb}'), ('projects', 'state', '{jsonb}'), ('projects', 'run_quota', '{jsonb}'),
	('server_settings', 'name', '{text,varchar,bpchar,name,citext}'), ('server_settings', 'value', '{}'),
	('site_licenses', 'id', '{uuid}'), ('site_licenses', 'title', '{text,varchar,bpchar,name,citext}'),
	('site_licenses', 'activates', '{timestamp,timestamptz,date}'), ('site_licenses', 'expires', '{timestamp,timestamptz,date}'),
	('site_licenses', 'upgrades', '{jsonb,json}'), ('site_licenses', 'quota', '{jsonb,json}'),
	('site_licenses', 'run_limit', '{int4,int8,int2,numeric}')) AS needed (name, attribute, kinds)`

// optional are those that a hub may do without, but that have to be of these types where it has them.
const optional = `(VALUES ('projects', 'action_request', '{jsonb}')) AS optional (name, attribute, kinds)`

// made are the columns that the migrations make in the schema berth, all of which are needed.
const made = `(VALUES
	('known_licenses', '{license_id,digest}'), ('settings', '{name,value}'), ('user_licenses', '{user_id,license_id}'),
	('projects', '{project_id,image,tag,env,config,wanted,last_activity,started_at,failures,retry_at,error,digest,before,asked,recompute_at}'),
	('seats', '{license_id,cluster,pod,generation,user_id,project_id,granted_at,kept_until}'),
	('usage_log', '{id,license_id,cluster,pod,generation,user_id,project_id,start,stop}')) AS made (name, attributes)`

// absent are the needed columns that a hub's tables do not have, as table.column, ascending.
func absent(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return texts(ctx, conn, `SELECT name || '.' || attribute FROM `+needed+` WHERE NOT `+there("public")+` ORDER BY 1`)
}

// lost are the columns that Berth has made and that are not there any more, as berth.table.column, ascending.
func lost(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return texts(ctx, conn, `SELECT 'berth.' || name || '.' || attribute FROM `+made+`, unnest(attributes::text[]) attribute
		WHERE NOT `+there("berth")+` ORDER BY 1`)
}

// unfit says of a hub's columns with which Berth cannot work, in the order of their names, what type each is of and what would do. That of a
// domain is the one that it is made of.
func unfit(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return texts(ctx, conn, `WITH RECURSIVE used AS (SELECT name, attribute, kinds FROM `+needed+` UNION ALL SELECT name, attribute, kinds FROM `+optional+`),
		found (name, attribute, kinds, said, kind) AS (
			SELECT name, attribute, kinds::text[], format_type(atttypid, NULL), atttypid FROM used JOIN pg_class c ON relname = name
				JOIN pg_namespace n ON n.oid = relnamespace AND nspname = 'public'
				JOIN pg_attribute a ON attrelid = c.oid AND attname = attribute AND attnum > 0 AND NOT attisdropped
			UNION ALL SELECT name, attribute, kinds, said, typbasetype FROM found JOIN pg_type t ON t.oid = kind AND typtype = 'd'
		)
		SELECT name || '.' || attribute || ' is ' || said || ' and has to be ' || array_to_string(kinds, ' or ')
		FROM found JOIN pg_type t ON t.oid = kind AND typtype <> 'd' WHERE kinds <> '{}' AND typname <> ALL(kinds) ORDER BY 1`)
}

// there is the condition that a table name of a schema has a column attribute.
func there(schema string) string {
	return `EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = '` + schema + `' AND c.relname = name AND attname = attribute AND attnum > 0 AND NOT attisdropped)`
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
