package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/services/licenser/internal/store"
)

// TestUsageEnds: a use ends when the pod was gone, however late that is found, by whatever finds it.
func TestUsageEnds(t *testing.T) {
	t.Parallel()
	pod, next := events.ProjectPod(projectA), start(projectA, 2)
	// Each ends the use that has begun an hour ago.
	ends := map[string]func(ctx context.Context, f *fixture, gone time.Time) error{
		"seats freed": func(ctx context.Context, f *fixture, gone time.Time) error {
			return f.FreeSeats(ctx, cluster, pod, generation(1), gone)
		},
		"seats kept": func(ctx context.Context, f *fixture, gone time.Time) error {
			return f.KeepSeats(ctx, cluster, pod, generation(1), gone, time.Now().Add(time.Hour))
		},
		"the next pod is licensed": func(ctx context.Context, f *fixture, gone time.Time) error {
			req := next
			req.Begun = gone
			return f.Check(ctx, req, greedy)
		},
		"the next pod is counted": func(ctx context.Context, f *fixture, gone time.Time) error {
			_, err := f.Recount(ctx, cluster, map[string]store.Life{pod: {Generation: generation(2), Begun: gone}}, 0)
			return err
		},
	}
	tests := map[string]struct {
		gone string // A time of the database, NULL for one that nobody knows.
		want string // A condition on the use; $2 is that time, $3 when it was looked for.
	}{
		"a while ago":       {`now() - interval '20 seconds'`, `stop = $2::timestamptz`},
		"nobody knows when": {`NULL`, `$2::timestamptz IS NULL AND stop BETWEEN $3 AND now()`},
		"before it began":   {`now() - interval '2 hours'`, `stop = start AND $2::timestamptz < start`},
		"by a clock ahead":  {`now() + interval '1 hour'`, `$2::timestamptz > now() AND stop BETWEEN $3 AND now()`},
	}
	for how, end := range ends {
		for when, tt := range tests {
			t.Run(how+", gone "+when, func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				f.put(t, licenseA, 1)
				f.attach(t, projectA, licenseA)
				f.check(t, start(projectA, 1))
				f.exec(t, `UPDATE berth.usage_log SET start = start - interval '1 hour'`)
				f.exec(t, `UPDATE berth.seats SET granted_at = granted_at - interval '1 hour'`)
				var known *time.Time
				var looked time.Time
				if err := f.conn.QueryRow(t.Context(), `SELECT (`+tt.gone+`)::timestamptz, clock_timestamp()`).Scan(&known, &looked); err != nil {
					t.Fatal(err)
				}
				gone := time.Time{}
				if known != nil {
					gone = *known
				}
				if err := end(t.Context(), f, gone); err != nil {
					t.Fatal(err)
				}
				if got := f.value(t, `SELECT `+tt.want+` AND $3::timestamptz IS NOT NULL FROM berth.usage_log WHERE generation = $1`, generation(1), known, looked); got != "true" {
					t.Errorf("not %s: %s", tt.want, f.value(t, `SELECT start || ' to ' || stop || ', now ' || now() FROM berth.usage_log WHERE generation = $1`, generation(1)))
				}
				if got := f.value(t, `SELECT count(*) FROM berth.usage_log a JOIN berth.usage_log b ON a.id < b.id AND (a.stop IS NULL OR b.start < a.stop)`); got != "0" {
					t.Errorf("%s uses of one seat overlap", got)
				}
			})
		}
	}
}

// TestUsageBeginsWithTheSeat: who has waited for the last seat has not used it while another did.
func TestUsageBeginsWithTheSeat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	f.attach(t, projectB, licenseA)
	f.check(t, start(projectA, 1))
	tx, err := f.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM public.site_licenses FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		ctx := context.WithoutCancel(t.Context())
		err := f.Check(ctx, start(projectB, 1), greedy)
		for again := 0; errors.Is(err, store.ErrLocked) && again < 64; again++ {
			err = f.Check(ctx, start(projectB, 1), greedy)
		}
		done <- err
	}()
	eventstest.Eventually(t, "the other start waits", func() bool {
		waits := false
		err := tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database())`).Scan(&waits)
		return err == nil && waits
	})
	if err := f.FreeSeats(t.Context(), cluster, events.ProjectPod(projectA), generation(1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	const query = `SELECT b.start >= a.stop AND s.granted_at >= a.stop FROM berth.usage_log a, berth.usage_log b JOIN berth.seats s USING (pod)
		WHERE a.project_id = $1 AND b.project_id = $2`
	if got := f.value(t, query, projectA, projectB); got != "true" {
		t.Errorf("the second use began before the first ended: %s", f.value(t, `SELECT string_agg(project_id || ' ' || start || ' to ' || coalesce(stop::text, ''), ', ') FROM berth.usage_log`))
	}
}
