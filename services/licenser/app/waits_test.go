package app

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"berth/pkg/database"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
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
		"a table of Berth's is missing": {
			broken: `ALTER TABLE berth.seats RENAME TO seatsx`, mend: `ALTER TABLE berth.seatsx RENAME TO seats`,
			says: `the tables of the schema berth lack columns that berth migrate has made: berth.seats.cluster, berth.seats.generation, `,
		},
		"it is not migrated": {
			broken: `DELETE FROM berth.migrations WHERE version_id > 1; ALTER TABLE berth.seats RENAME TO seatsx`,
			mend:   `ALTER TABLE berth.seatsx RENAME TO seats; INSERT INTO berth.migrations (version_id, is_applied) VALUES (` + strconv.Itoa(database.Version) + `, true)`,
			says:   `the database is not migrated: run berth migrate (it has version 1, this program needs ` + strconv.Itoa(database.Version) + `)`,
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
			attempt := func() natsbus.Entry {
				t.Helper()
				if err := p.license(t.Context(), d); err == nil {
					t.Fatal("it was licensed")
				}
				d.Attempt++
				entry, err := p.bus.Last(t.Context(), d.Pod)
				if err != nil {
					t.Fatal(err)
				}
				return entry
			}
			try := func() {
				t.Helper()
				if entry := attempt(); entry.Event != events.Claimed || entry.Message != "" {
					t.Errorf("after the first attempt it is %s %q", entry.Event, entry.Message)
				}
				// There is little time for it in each attempt.
				var entry natsbus.Entry
				eventstest.Eventually(t, "the log says what it waits for", func() bool {
					entry = attempt()
					return entry.Event == events.Waiting
				})
				for said := log.Len(); ; {
					if !entry.Unlicensed() || !strings.HasPrefix(entry.Message, "the licenses cannot be looked at yet: "+tt.says) || strings.Contains(entry.Message, "\n") {
						t.Errorf("attempt %d: %s %s %q", d.Attempt-1, entry.Event, entry.Reason, entry.Message)
					}
					if log.Len() != said {
						t.Errorf("it is said again:\n%s", log.String())
					}
					if d.Attempt > 4 {
						break
					}
					entry = attempt()
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
			if !strings.Contains(log.String(), "A start waits for the database") {
				t.Errorf("the log of the service does not say it:\n%s", log.String())
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
