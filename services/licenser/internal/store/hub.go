package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/pkg/database"
)

// hub is what the hub's tables are like. A hub may be older than this text, or give few rights.
type hub struct {
	// owned says that Berth has made the tables, and makes the rows of projects.
	owned bool
	// has are the columns that can be read, as table.column; writes those of them that can be written.
	has, writes map[string]bool
}

// tables are the hub's tables as they were when they were last looked at: by [Store.Ready], or here, where they have turned out to be
// others since. What is wrong with them an operator can mend while the program waits: it is [ErrAway].
func (s *Store) tables(ctx context.Context) (*hub, error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if h := s.hub.Load(); h != nil {
		return h, nil
	}
	h, err := s.look(ctx)
	switch {
	case err == nil:
		s.hub.Store(h)
		return h, nil
	case ctx.Err() == nil && !errors.Is(err, ErrAway):
		err = fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil, fmt.Errorf("look at the tables: %w", err)
}

// look looks whether the database is one that this program works with, and what the hub's tables are like.
func (s *Store) look(ctx context.Context) (*hub, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	conn, err := s.keeping.Acquire(ctx)
	if err != nil {
		return nil, away(ctx, err)
	}
	defer conn.Release()
	status, err := database.Look(ctx, conn.Conn())
	if err != nil {
		return nil, away(ctx, err)
	}
	if err := status.Usable(); err != nil {
		return nil, err
	}
	h := &hub{has: map[string]bool{}, writes: map[string]bool{}}
	if err := conn.QueryRow(ctx, `SELECT value = 'true' FROM berth.settings WHERE name = 'owns_tables'`).Scan(&h.owned); err != nil {
		return nil, away(ctx, err)
	}
	rows, err := conn.Query(ctx, `SELECT c.relname || '.' || a.attname, has_column_privilege(c.oid, a.attnum, 'UPDATE')
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('projects', 'server_settings', 'site_licenses')
			AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT')
			AND CASE -- What Berth can do without is as good as not there where it cannot be read as what it should be.
				WHEN a.attname IN ('created', 'last_edited', 'last_used') THEN t.typcategory IN ('D', 'S') AND t.typname NOT IN ('time', 'timetz')
				WHEN a.attname = 'managers' THEN t.typcategory = 'A'
				WHEN a.attname = 'pay_as_you_go_quotas' THEN t.typcategory = 'S' OR t.typname IN ('json', 'jsonb')
				ELSE true END`)
	if err != nil {
		return nil, away(ctx, err)
	}
	var name string
	var write bool
	_, err = pgx.ForEachRow(rows, []any{&name, &write}, func() error {
		h.has[name], h.writes[name] = true, write
		return nil
	})
	return h, away(ctx, err)
}

// watching sees by the answers of the server that the hub's tables, or the rights in them, are not what they were. It is safe for
// concurrent use.
type watching struct{ store *Store }

var (
	_ pgx.QueryTracer = watching{}
	_ pgx.BatchTracer = watching{}
)

func (w watching) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (w watching) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	w.saw(data.Err)
}

func (w watching) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (w watching) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	w.saw(data.Err)
}

func (w watching) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	w.saw(data.Err)
}

// saw has the tables looked at again after a refusal that speaks of them: no such column, no such table, no right.
func (w watching) saw(err error) {
	code, ok := errors.AsType[*pgconn.PgError](err)
	if ok && (code.Code == "42703" || code.Code == "42P01" || code.Code == "42501") {
		w.store.hub.Store(nil)
	}
}

// column is an expression for a column that may not be there: then it is NULL. So is a time that no program knows.
func (h *hub) column(table, name, kind string) string {
	if !h.has[table+"."+name] {
		return "NULL::" + kind
	}
	if kind == "timestamptz" {
		return instant("public." + table + "." + name)
	}
	return "public." + table + "." + name + "::" + kind
}

// plain is the list of an array's elements, those that are not NULL; an array of arrays is one of all of theirs.
func plain(array string) string {
	return `CASE WHEN ` + array + ` IS NOT NULL THEN ARRAY(SELECT e FROM unnest(` + array + `) e WHERE e IS NOT NULL) END`
}

// limit is the number in a column as one of 32 bits; more is as good as that.
func limit(column string) string {
	return `CASE WHEN ` + column + ` IS NOT NULL THEN least(greatest(` + column + `, -2147483648), 2147483647)::bigint END`
}

// locks says whether rows of a table can be locked, for which a right to update any column of it is needed.
func (h *hub) locks(table string) bool {
	for name, write := range h.writes {
		if write && strings.HasPrefix(name, table+".") {
			return true
		}
	}
	return false
}

// set is a JSON value of a column; NULL and null are the same.
func set(value []byte) json.RawMessage {
	if value == nil || string(value) == "null" {
		return nil
	}
	return value
}

// argument is a JSON value for a column; none is NULL.
func argument(value json.RawMessage) *string {
	if set(value) == nil {
		return nil
	}
	text := string(value)
	return &text
}

// site reads the settings of the site from their rows.
func site(rows map[string]string) Site {
	object := func(name string) json.RawMessage {
		text, ok := rows[name]
		if !ok {
			return nil
		}
		encoded, err := json.Marshal(text)
		if err != nil {
			return nil // Text always marshals.
		}
		return encoded
	}
	return Site{DefaultQuotas: object("default_quotas"), MaxUpgrades: object("max_upgrades")}
}

// keys are the keys of a JSON object, ascending; none for another value.
func keys(value json.RawMessage) []string {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
