package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// licenseContent is a digest of what a license gives and to how many, from when until when.
const licenseContent = `md5(jsonb_build_array(md5(l.quota::text), md5(l.upgrades::text), l.run_limit,
	l.activates::timestamptz, l.expires::timestamptz)::text)`

// inputsDigest is a digest of all that the quota of a project depends on, but for the seats and the project's own values: the
// settings of the site and of the project, the upgrades of its users, its licenses, and whether their time has come. It
// goes over rows p of public.projects.
const inputsDigest = `md5(jsonb_build_array(
	(SELECT jsonb_object_agg(name, value) FROM public.server_settings WHERE name IN ('default_quotas', 'max_upgrades')),
	p.settings,
	(SELECT jsonb_object_agg(u.key, u.value -> 'upgrades')
		FROM jsonb_each(CASE jsonb_typeof(p.users) WHEN 'object' THEN p.users ELSE '{}' END) u
		WHERE jsonb_typeof(u.value -> 'upgrades') <> 'null'),
	(SELECT jsonb_object_agg(k, jsonb_build_array(CASE WHEN l.id IS NOT NULL THEN ` + licenseContent + ` END,
			l.activates::timestamptz <= now(), l.expires::timestamptz <= now()))
		FROM jsonb_object_keys(CASE jsonb_typeof(p.site_license) WHEN 'object' THEN p.site_license ELSE '{}' END) k
		LEFT JOIN public.site_licenses l
			ON l.id = CASE WHEN k ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN k::uuid END)
	)::text)`

// inputs is the digest of what a check begins with. It is asked for before anything else is read, so that what
// changes meanwhile is found later.
func (c *check) inputs(ctx context.Context) error {
	if c.req.Project == nil || c.req.Mode == Preview {
		return nil
	}
	err := c.tx.QueryRow(ctx, `SELECT coalesce((SELECT `+inputsDigest+` FROM public.projects p WHERE project_id = $1), '')`, c.req.Project.ID).Scan(&c.digest)
	if err != nil {
		return fmt.Errorf("digest the inputs: %w", err)
	}
	return nil
}

// queueInputs notes what the project was computed from.
func (c *check) queueInputs(batch *pgx.Batch) {
	batch.Queue(`UPDATE berth.projects SET digest = $2 WHERE project_id = $1 AND digest IS DISTINCT FROM $2`, c.req.Project.ID, c.digest)
}

// reserve gives the pod seats for the next pod of its name, so that no others are restarted for the same ones. Whoever
// frees those of the pod frees them, too.
func (c *check) reserve(ctx context.Context, licenses []string) error {
	if len(licenses) == 0 || c.req.Project == nil {
		return nil
	}
	_, err := c.tx.Exec(ctx, `INSERT INTO berth.seats (license_id, cluster, pod, generation, user_id, project_id, granted_at)
		SELECT id, $1, $2, $3, $4, $5, now() FROM unnest($6::uuid[]) id ON CONFLICT DO NOTHING`,
		c.req.Cluster, c.req.Pod, c.req.Generation, c.req.User, c.req.Project.ID, licenses)
	if err != nil {
		return fmt.Errorf("reserve seats: %w", err)
	}
	return nil
}

// Outdated is a project whose inputs are others than those that it was last computed from.
type Outdated struct {
	Project string
	// Inputs is the digest of what they are now, Known that of what it was computed from.
	Inputs, Known string
}

// Outdated returns those of the projects whose inputs are others than those that they were last computed from,
// ascending.
func (s *Store) Outdated(ctx context.Context, projects []string) ([]Outdated, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, `SELECT id, inputs, coalesce(known, '') FROM (
			SELECT p.project_id::text AS id, b.digest AS known, `+inputsDigest+` AS inputs
			FROM public.projects p LEFT JOIN berth.projects b USING (project_id) WHERE p.project_id = ANY($1::uuid[])
		) o WHERE known IS DISTINCT FROM inputs ORDER BY o.id`, projects)
	if err != nil {
		return nil, away(ctx, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Outdated])
	return found, away(ctx, err)
}

// Inputs is the digest of the inputs of a project now, empty for none.
func (s *Store) Inputs(ctx context.Context, project string) (digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.keeping.QueryRow(ctx, `SELECT coalesce((SELECT `+inputsDigest+` FROM public.projects p WHERE project_id = $1), '')`, project).Scan(&digest)
	return digest, away(ctx, err)
}

// NoteFault notes why a project cannot be computed from the inputs that have a digest, so that it keeps what it runs with; an
// empty fault means that it can. Where something says already why the project does not run, its pod has ended meanwhile, and that stays.
func (s *Store) NoteFault(ctx context.Context, project, digest, fault string) error {
	return s.exec(ctx, `INSERT INTO berth.projects AS b (project_id, digest, error) VALUES ($1, $2, $3)
		ON CONFLICT (project_id) DO UPDATE SET digest = $2, error = CASE
			WHEN b.started_at IS NOT NULL AND (NOT b.wanted OR b.retry_at IS NOT NULL) THEN coalesce(b.error, $3) ELSE $3 END
		WHERE b.digest IS DISTINCT FROM $2 OR b.error IS DISTINCT FROM $3`, project, digest, text(bounded(fault)))
}

func (s *Store) exec(ctx context.Context, statement string, values ...any) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	_, err := s.keeping.Exec(ctx, statement, values...)
	return wrong(away(ctx, err))
}

func (s *Store) texts(ctx context.Context, query string, values ...any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, query, values...)
	if err != nil {
		return nil, away(ctx, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return found, away(ctx, err)
}
