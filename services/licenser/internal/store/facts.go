package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"berth/pkg/events"
)

// check is a check in its transaction.
type check struct {
	hub *hub
	tx  pgx.Tx
	req CheckRequest
	// late says that a later pod of the name has seats.
	late bool
	// digest is that of the project's inputs.
	digest string
}

// facts locks, where the mode does, and reads.
func (c *check) facts(ctx context.Context) (Facts, error) {
	var f Facts
	ids, err := c.attached(ctx, &f.Project)
	if err != nil {
		return f, err
	}
	if c.req.Licenses != nil {
		ids = slices.Clone(c.req.Licenses)
	}
	ids = rowIDs(ids)
	locked, err := c.lock(ctx, ids)
	if err != nil {
		return f, err
	}
	err = c.read(ctx, ids, locked, &f)
	return f, err
}

// rowIDs are those of the ids that rows may have, as rows have them: a hub may have written them in upper case.
func rowIDs(attached []string) []string {
	ids := make([]string, 0, len(attached))
	for _, id := range attached {
		if id = strings.ToLower(id); events.ProjectID(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// attached reads the project, where it is about one, and returns the ids of the licenses that the project or the person has.
func (c *check) attached(ctx context.Context, p *ProjectFacts) ([]string, error) {
	if c.req.Project == nil {
		rows, err := c.tx.Query(ctx, `SELECT license_id::text FROM berth.user_licenses WHERE user_id = $1`, c.req.User)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err := c.project(ctx, p); err != nil {
		return nil, err
	}
	if err := c.extras(ctx, &p.Extras); err != nil {
		return nil, err
	}
	return keys(p.SiteLicense), c.inputs(ctx)
}

// project reads the project's row, and keeps others from checking it meanwhile.
func (c *check) project(ctx context.Context, p *ProjectFacts) error {
	id := c.req.Project.ID
	query := `SELECT site_license, settings, users, state, run_quota, ` + c.hub.column("projects", "pay_as_you_go_quotas", "jsonb") +
		` FROM public.projects WHERE project_id = $1`
	if c.req.Mode != Preview {
		if c.hub.locks("projects") {
			query += ` FOR NO KEY UPDATE`
		} else if _, err := c.tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('berth project ' || $1::text, 0))`, id); err != nil {
			return err
		}
	}
	columns := make([][]byte, 6)
	scan := func() error {
		return c.tx.QueryRow(ctx, query, id).Scan(&columns[0], &columns[1], &columns[2], &columns[3], &columns[4], &columns[5])
	}
	err := scan()
	if errors.Is(err, pgx.ErrNoRows) && c.hub.owned {
		switch c.req.Mode {
		case Start:
			if _, err = c.tx.Exec(ctx, `INSERT INTO public.projects (project_id) VALUES ($1) ON CONFLICT DO NOTHING`, id); err == nil {
				err = scan()
			}
		case Preview:
			err = nil // As a start would find it.
		case Recompute:
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read project %s: %w", id, ErrNoProject)
	}
	p.SiteLicense, p.Settings, p.Users = set(columns[0]), set(columns[1]), set(columns[2])
	p.State, p.RunQuota, p.PayAsYouGo = set(columns[3]), set(columns[4]), set(columns[5])
	return err
}

// text is a text for a column; none is NULL.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// lock locks those of the licenses that have a limit, in the order in which all do, and returns them.
func (c *check) lock(ctx context.Context, ids []string) ([]string, error) {
	if c.req.Mode == Preview || len(ids) == 0 {
		return nil, nil
	}
	query := `SELECT id::text FROM public.site_licenses WHERE id = ANY($1::uuid[]) AND run_limit > 0 ORDER BY id FOR NO KEY UPDATE`
	if !c.hub.locks("site_licenses") {
		query = `SELECT id FROM (
				SELECT id::text FROM public.site_licenses WHERE id = ANY($1::uuid[]) AND run_limit > 0 ORDER BY id OFFSET 0
			) limited, LATERAL pg_advisory_xact_lock(hashtextextended('berth license ' || id, 0))`
	}
	rows, err := c.tx.Query(ctx, query, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// read reads what may have changed until the locks were had.
func (c *check) read(ctx context.Context, ids, locked []string, f *Facts) error {
	var batch pgx.Batch
	batch.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&f.Now) })
	batch.Queue(`SELECT name::text, coalesce(value::text, '') FROM public.server_settings WHERE name IN ('default_quotas', 'max_upgrades')`).
		Query(func(rows pgx.Rows) error {
			settings := map[string]string{}
			var name, value string
			_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
				settings[name] = value
				return nil
			})
			f.Site = site(settings)
			return err
		})
	batch.Queue(`SELECT generation FROM berth.seats WHERE cluster = $1 AND pod = $2`, c.req.Cluster, c.req.Pod).Query(func(rows pgx.Rows) error {
		generations, err := pgx.CollectRows(rows, pgx.RowTo[string])
		c.late = slices.ContainsFunc(generations, func(g string) bool { return after(g, c.req.Generation) })
		return err
	})
	if len(ids) > 0 {
		batch.Queue(`SELECT l.id::text, coalesce(title, ''), `+activates("activates")+`, `+expires("expires")+`, upgrades, quota, `+limit("run_limit")+`
			FROM public.site_licenses l WHERE l.id = ANY($1::uuid[]) ORDER BY l.id`, ids).Query(func(rows pgx.Rows) (err error) {
			f.Licenses, err = pgx.CollectRows(rows, license)
			return err
		})
		// Nobody asks for the seats of a license without a limit, and there may be many; but a preview may give it one.
		batch.Queue(`SELECT s.license_id::text, count(*) FROM berth.seats s LEFT JOIN public.site_licenses l ON l.id = s.license_id
			WHERE s.license_id = ANY($1::uuid[]) AND NOT (s.cluster = $2 AND s.pod = $3)
				AND (s.kept_until IS NULL OR s.kept_until > clock_timestamp()) AND ($4 OR l.run_limit > 0)
			GROUP BY 1`, ids, c.req.Cluster, c.req.Pod, c.req.Mode == Preview).Query(func(rows pgx.Rows) error {
			f.Seats = map[string]int{}
			var id string
			var count int
			_, err := pgx.ForEachRow(rows, []any{&id, &count}, func() error {
				f.Seats[id] = count
				return nil
			})
			return err
		})
	}
	if err := c.tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, l := range f.Licenses {
		if c.req.Mode != Preview && l.RunLimit != nil && *l.RunLimit > 0 && !slices.Contains(locked, l.ID) {
			return errMoved
		}
	}
	return nil
}

func license(row pgx.CollectableRow) (LicenseRow, error) {
	var l LicenseRow
	var upgrades, quota []byte
	err := row.Scan(&l.ID, &l.Title, &l.Activates, &l.Expires, &upgrades, &quota, &l.RunLimit)
	l.Upgrades, l.Quota = set(upgrades), set(quota)
	return l, err
}

// after says whether a generation is later than another one. What is no generation is not.
func after(generation, other string) bool {
	a, err := events.ParsePosition(generation)
	if err != nil {
		return false
	}
	b, err := events.ParsePosition(other)
	return err == nil && (a.Created > b.Created || a.Created == b.Created && a.Sequence > b.Sequence)
}
