package app

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"berth/pkg/events"
)

// TestAStartSaysWhatItWaitsFor: from the second try on the log says why licenses cannot be looked at, once for each cause, and the
// start goes on when that is over.
func TestAStartSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		broken, mend string
		locked       bool
		says         string
	}{
		"its row is locked": {locked: true, says: "the project's row, or a license's, is locked by somebody else"},
		"a column is missing": {
			broken: `ALTER TABLE public.projects RENAME users TO usersx`, mend: `ALTER TABLE public.projects RENAME usersx TO users`,
			says: "the hub's tables lack columns that Berth needs: add projects.users",
		},
		"a trigger refuses": {
			broken: `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION E'not\ntoday'; END $$; CREATE TRIGGER no BEFORE UPDATE ON public.projects FOR EACH ROW EXECUTE FUNCTION no()`,
			mend:   `DROP TRIGGER no ON public.projects`, says: "the hub's database refuses: not today (SQLSTATE P0001)",
		},
		"it is not migrated": {
			broken: `ALTER TABLE berth.seats RENAME TO seatsx`, mend: `ALTER TABLE berth.seatsx RENAME TO seats`,
			says: `the hub's database refuses: relation "berth.seats" does not exist (SQLSTATE 42P01)`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			var log bytes.Buffer
			p.log = zerolog.New(&log)
			p.save(t, valid(course, `{"cpu":1}`), alpha)
			p.exec(t, `INSERT INTO public.projects (project_id) VALUES ($1) ON CONFLICT DO NOTHING`, alpha)
			d := p.claimed(t, alpha, "cmd-1")
			try := func() {
				t.Helper()
				for range 3 {
					err := p.license(t.Context(), d)
					if err == nil {
						t.Fatal("it was licensed")
					}
					entry, lastErr := p.bus.Last(t.Context(), d.Pod)
					if lastErr != nil {
						t.Fatal(lastErr)
					}
					want, message := events.Claimed, ""
					if d.Attempt > 1 {
						want, message = events.Waiting, "the licenses cannot be looked at yet: "+tt.says
					}
					if entry.Event != want || !entry.Unlicensed() || !strings.HasPrefix(entry.Message, message) || strings.Contains(entry.Message, "\n") {
						t.Errorf("attempt %d (%v): %s %s %q", d.Attempt, err, entry.Event, entry.Reason, entry.Message)
					}
					d.Attempt++
				}
			}
			if tt.locked {
				p.connected(t, func(conn *pgx.Conn) error {
					return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
						_, err := tx.Exec(t.Context(), `SELECT FROM public.projects WHERE project_id = $1 FOR UPDATE`, alpha)
						try()
						return err
					})
				})
			} else {
				p.exec(t, tt.broken)
				try()
				p.exec(t, tt.mend)
			}
			if n := strings.Count(log.String(), "A start waits for the database"); n != 1 {
				t.Errorf("the log says it %d times, want once:\n%s", n, log.String())
			}
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			entry, err := p.bus.Last(t.Context(), d.Pod)
			if err != nil || entry.Event != events.Licensed || entry.Reason != "" || entry.Message != "" || len(p.launches(t)) != 1 {
				t.Errorf("%s %s %q (%v), %d launches", entry.Event, entry.Reason, entry.Message, err, len(p.launches(t)))
			}
		})
	}
}
