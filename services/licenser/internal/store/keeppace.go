package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// nextRecompute is the name of the setting that says when the next project may be computed again.
const nextRecompute = "next_recompute"

// Slots hands out times at which projects are computed again, and returns how long it is until each, in the order of the
// projects: so many a second for the whole database, whoever asks for whatever reason, and none at the same time as
// another; the first of an idle site is now. Who has a time that is still to come keeps it, so that a site which is
// edited all the time comes to an end with each of its projects.
func (s *Store) Slots(ctx context.Context, projects []string, perSecond int) ([]time.Duration, error) {
	slots := make([]time.Duration, 0, len(projects))
	err := s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// One after another: the row is locked before anything is read.
		if _, err := tx.Exec(ctx, `INSERT INTO berth.settings AS s (name, value) VALUES ($1, now()::text)
			ON CONFLICT (name) DO UPDATE SET value = greatest(s.value::timestamptz, now())::text`, nextRecompute); err != nil {
			return err
		}
		// A row that somebody has locked holds up no other: its project gets a time that is not kept.
		rows, err := tx.Query(ctx, `WITH asked AS (SELECT id, n FROM unnest($2::uuid[]) WITH ORDINALITY AS a (id, n)),
			free AS MATERIALIZED (SELECT project_id FROM berth.projects WHERE project_id = ANY($2::uuid[]) ORDER BY project_id FOR UPDATE SKIP LOCKED),
			fresh AS (SELECT a.id, s.value::timestamptz + (row_number() OVER (ORDER BY a.n) - 1) * $3::float8 * interval '1 second' AS at
				FROM asked a, berth.settings s
				WHERE s.name = $1 AND NOT EXISTS (SELECT FROM berth.projects b WHERE b.project_id = a.id AND b.recompute_at > now())),
			given AS (INSERT INTO berth.projects AS p (project_id, recompute_at) SELECT id, at FROM fresh
				WHERE id IN (SELECT project_id FROM free) OR NOT EXISTS (SELECT FROM berth.projects b WHERE b.project_id = id) ORDER BY id
				ON CONFLICT (project_id) DO UPDATE SET recompute_at = excluded.recompute_at),
			moved AS (UPDATE berth.settings SET value = (value::timestamptz + (SELECT count(*) FROM fresh) * $3::float8 * interval '1 second')::text WHERE name = $1)
			SELECT extract(epoch FROM greatest(f.at, b.recompute_at, now()) - now())::float8
			FROM asked a LEFT JOIN fresh f ON f.id = a.id LEFT JOIN berth.projects b ON b.project_id = a.id ORDER BY a.n`,
			nextRecompute, projects, 1/float64(max(perSecond, 1)))
		if err != nil {
			return err
		}
		seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
		slots = slots[:0]
		for _, s := range seconds {
			slots = append(slots, time.Duration(s*float64(time.Second)))
		}
		return err
	})
	if err == nil && len(slots) != len(projects) {
		return nil, fmt.Errorf("hand out times: %d for %d projects", len(slots), len(projects))
	}
	return slots, err
}
