package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// hub is what the hub's tables are like. A hub may be older than this text, or give few rights.
type hub struct {
	// owned says that Berth has made the tables, and makes the rows of projects.
	owned bool
	// has are the columns that can be read, as table.column; writes those that can be written.
	has, writes map[string]bool
}

// needed are the columns without which nothing can be decided.
func needed() []string {
	return []string{
		"projects.project_id", "projects.site_license", "projects.settings", "projects.users", "projects.state", "projects.run_quota",
		"server_settings.name", "server_settings.value",
		"site_licenses.id", "site_licenses.title", "site_licenses.activates", "site_licenses.expires", "site_licenses.upgrades",
		"site_licenses.quota", "site_licenses.run_limit",
	}
}

// tables looks at the hub's tables, once for each store.
func (s *Store) tables(ctx context.Context) (*hub, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hub != nil {
		return s.hub, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	h, err := look(ctx, s.keeping)
	if err != nil {
		return nil, fmt.Errorf("look at the tables: %w", away(ctx, err))
	}
	s.hub = h
	return h, nil
}

func look(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (*hub, error) {
	h := &hub{has: map[string]bool{}, writes: map[string]bool{}}
	if err := db.QueryRow(ctx, `SELECT value = 'true' FROM berth.settings WHERE name = 'owns_tables'`).Scan(&h.owned); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, `SELECT c.relname || '.' || a.attname, has_column_privilege(c.oid, a.attnum, 'UPDATE')
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('projects', 'server_settings', 'site_licenses')
			AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT')`)
	if err != nil {
		return nil, err
	}
	var name string
	var write bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &write}, func() error {
		h.has[name], h.writes[name] = true, write
		return nil
	}); err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range needed() {
		if !h.has[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		// An operator can mend that while the program waits.
		return nil, fmt.Errorf("%w: it has no column, or gives no right to read it: %s", ErrAway, strings.Join(missing, ", "))
	}
	return h, nil
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
