package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lastUsedStep is how far last_used may lag behind; every write costs the hub a version of the row.
const lastUsedStep = "60 seconds"

// write carries out a decision.
func (c *check) write(ctx context.Context, d Decision) error {
	var batch pgx.Batch
	if c.req.Project != nil {
		if err := c.queueProject(&batch, d); err != nil {
			return err
		}
		c.queueInputs(&batch)
	}
	c.queueSeats(&batch, d.Seats)
	if len(d.LastUsed) > 0 && c.hub.writes["site_licenses.last_used"] {
		// In the order in which all lock, as those of two projects may overlap.
		batch.Queue(`UPDATE public.site_licenses SET last_used = now() WHERE id IN (
				SELECT id FROM public.site_licenses WHERE id = ANY($1::uuid[])
					AND (last_used IS NULL OR last_used::timestamptz < now() - $2::interval)
				ORDER BY id FOR NO KEY UPDATE)`, d.LastUsed, lastUsedStep)
	}
	return c.tx.SendBatch(ctx, &batch).Close()
}

// queueProject writes the project's row, where the hub lets us and something differs.
func (c *check) queueProject(batch *pgx.Batch, d Decision) error {
	values := []any{c.req.Project.ID}
	var sets, differs []string
	put := func(column, expression string, value json.RawMessage) {
		values = append(values, string(value))
		expression = fmt.Sprintf(expression, len(values))
		sets = append(sets, column+" = "+expression)
		differs = append(differs, column+" IS DISTINCT FROM "+expression)
	}
	if len(d.SiteLicense) > 0 && c.hub.writes["projects.site_license"] {
		changed, err := json.Marshal(d.SiteLicense)
		if err != nil {
			return fmt.Errorf("encode licenses: %w", err)
		}
		put("site_license", "coalesce(site_license, '{}') || $%d::jsonb", changed)
	}
	if set(d.RunQuota) != nil && c.hub.writes["projects.run_quota"] {
		put("run_quota", "$%d::jsonb", d.RunQuota)
	}
	if len(sets) > 0 {
		batch.Queue(`UPDATE public.projects SET `+strings.Join(sets, ", ")+` WHERE project_id = $1 AND (`+strings.Join(differs, " OR ")+`)`, values...)
	}
	return nil
}

// queueSeats gives the pod these seats and no others, and notes their use. That begins when it is written, and not when the transaction did:
// there the seats may have been another's still, for which it has waited.
func (c *check) queueSeats(batch *pgx.Batch, seats []string) {
	if seats == nil {
		seats = []string{}
	}
	pod := []any{c.req.Cluster, c.req.Pod, c.req.Generation, seats}
	var project *string
	if c.req.Project != nil {
		project = &c.req.Project.ID
	}
	holder, earlier := slices.Concat(pod, []any{c.req.User, project}), slices.Concat(pod, []any{moment(c.req.Begun)})
	batch.Queue(`DELETE FROM berth.seats WHERE cluster = $1 AND pod = $2 AND NOT license_id = ANY($3::uuid[])`, c.req.Cluster, c.req.Pod, seats)
	batch.Queue(`UPDATE berth.usage_log SET stop = `+stopped(`CASE WHEN generation <> $3 THEN $5::timestamptz END`)+`
		WHERE cluster = $1 AND pod = $2 AND stop IS NULL AND NOT (generation = $3 AND license_id = ANY($4::uuid[]))`, earlier...)
	batch.Queue(`INSERT INTO berth.seats AS s (license_id, cluster, pod, generation, user_id, project_id, granted_at)
		SELECT id, $1, $2, $3, $5, $6, clock_timestamp() FROM unnest($4::uuid[]) id
		ON CONFLICT (license_id, cluster, pod) DO UPDATE SET generation = excluded.generation, user_id = excluded.user_id,
			project_id = excluded.project_id, kept_until = NULL,
			granted_at = CASE WHEN s.generation = excluded.generation THEN s.granted_at ELSE excluded.granted_at END`, holder...)
	batch.Queue(`INSERT INTO berth.usage_log (license_id, cluster, pod, generation, user_id, project_id, start)
		SELECT id, $1, $2, $3, $5, $6, clock_timestamp() FROM unnest($4::uuid[]) id
		ON CONFLICT (cluster, pod, license_id) WHERE stop IS NULL DO NOTHING`, holder...)
}
