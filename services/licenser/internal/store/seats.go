package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// FreeSeats takes the seats of a pod that is gone, also those that were kept for it when it had none yet, and ends their use. A
// later pod of the name keeps its own. gone is when it was gone, by which it may be billed: whoever finds that may come late. Zero is for now.
func (s *Store) FreeSeats(ctx context.Context, cluster, pod, generation string, gone time.Time) error {
	return s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT generation FROM berth.seats WHERE cluster = $1 AND pod = $2 AND kept_until IS NOT NULL`, cluster, pod)
		if err != nil {
			return err
		}
		kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		kept = slices.DeleteFunc(kept, func(g string) bool { return !after(generation, g) })
		return leave(ctx, tx, cluster, pod, generation, gone, `DELETE FROM berth.seats WHERE cluster = $1 AND pod = $2
			AND (generation = $3 OR kept_until IS NOT NULL AND generation = ANY($4))`, kept)
	})
}

// KeepSeats keeps the seats of a pod that is gone for the next one of its name, until a time, and ends their use as [Store.FreeSeats]
// does. Nobody else gets them before; after it they are free.
func (s *Store) KeepSeats(ctx context.Context, cluster, pod, generation string, gone, until time.Time) error {
	return s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return leave(ctx, tx, cluster, pod, generation, gone,
			`UPDATE berth.seats SET kept_until = $4 WHERE cluster = $1 AND pod = $2 AND generation = $3`, until)
	})
}

// stopped is when a use ended that ended at a time, NULL for now: not before it began, and never later than now, so that it is over
// before the seat, which is free when this transaction is done, begins to be used again.
func stopped(at string) string { return `greatest(start, least(now(), ` + at + `))` }

// moment is a time for a column; none is NULL.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// leave ends the use of the seats of a pod that was gone at a time. seats says what becomes of them.
func leave(ctx context.Context, tx pgx.Tx, cluster, pod, generation string, gone time.Time, seats string, more ...any) error {
	values := []any{cluster, pod, generation}
	if _, err := tx.Exec(ctx, seats, slices.Concat(values, more)...); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE berth.usage_log SET stop = `+stopped(`$4::timestamptz`)+` WHERE cluster = $1 AND pod = $2 AND generation = $3 AND stop IS NULL`,
		cluster, pod, generation, moment(gone))
	return err
}

// Life is a pod's of which the log knows: its generation, and when it began, before which every earlier one of its name was gone; zero for
// unknown.
type Life struct {
	Generation string
	Begun      time.Time
}

// Recount frees the seats of a cluster whose pod does not live with the generation that has them, ends the use of
// them, and returns how many there were. live has the life of each pod that lives. Seats granted within grace are left, as live
// may be older; so are those that are kept still. The use by a pod that another of its name has followed ended when that began; of one that the
// log does not know any more nobody can say when it was gone, and its use ends now.
func (s *Store) Recount(ctx context.Context, cluster string, live map[string]Life, grace time.Duration) (freed int, err error) {
	pods, generations, begun := make([]string, 0, len(live)), make([]string, 0, len(live)), make([]*time.Time, 0, len(live))
	for pod, life := range live {
		pods, generations, begun = append(pods, pod), append(generations, life.Generation), append(begun, moment(life.Begun))
	}
	err = s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM berth.seats s WHERE cluster = $1
			AND CASE WHEN kept_until IS NOT NULL THEN kept_until <= now() ELSE granted_at < now() - make_interval(secs => $4) END
			AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS l (pod, generation)
				WHERE l.pod = s.pod AND l.generation = s.generation AND s.kept_until IS NULL)`, cluster, pods, generations, grace.Seconds())
		if err != nil {
			return err
		}
		freed = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, `UPDATE berth.usage_log u SET stop = `+stopped(`(
				SELECT l.begun FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS l (pod, generation, begun)
				WHERE l.pod = u.pod AND l.generation <> u.generation)`)+`
			WHERE cluster = $1 AND stop IS NULL
			AND NOT EXISTS (SELECT FROM berth.seats s WHERE s.license_id = u.license_id AND s.cluster = u.cluster AND s.pod = u.pod
				AND s.generation = u.generation AND s.kept_until IS NULL)`, cluster, pods, generations, begun)
		return err
	})
	return freed, err
}

// Forget removes uses of licenses by a cluster's pods from the usage log that ended so long ago, those first that ended
// first, at most limit, and returns how many it has removed.
func (s *Store) Forget(ctx context.Context, cluster string, age time.Duration, limit int) (removed int, err error) {
	err = s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM berth.usage_log WHERE id IN (
				SELECT id FROM berth.usage_log WHERE cluster = $1 AND stop < now() - make_interval(secs => $2) ORDER BY stop LIMIT $3)`,
			cluster, age.Seconds(), limit)
		removed = int(tag.RowsAffected())
		return err
	})
	return removed, err
}
