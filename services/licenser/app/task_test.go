package app

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// ready is a project's pod that is ready, by a start that knew of no stop.
func (p *place) ready(t *testing.T, project, command string) natsbus.Delivery {
	t.Helper()
	d := p.claimed(t, project, command)
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	uid := "uid-" + command
	p.bring(t, d, eventstest.Launch(""), eventstest.Launched("", uid), eventstest.Observe("", eventstest.Ready(uid, "9")))
	return d
}

// do carries out a task about a project.
func (p *place) do(t *testing.T, task events.ProjectTask) {
	t.Helper()
	if err := p.task(t.Context(), natsbus.Delivery{Attempt: 1, Command: events.Command{Task: &task}}); err != nil {
		t.Fatal(err)
	}
}

// TestRecomputeOfAStoppedProject: a project that is computed again while nobody has carried its stop out is stopped, and not restarted for
// what has changed; a stop that its start knew of is none.
func TestRecomputeOfAStoppedProject(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"stopped": false, "started since": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			newCreator(t, p)
			p.save(t, valid(course, `{"cpu":1}`), alpha)
			note := func() uint64 {
				t.Helper()
				stop, err := p.bus.NoteStop(t.Context(), alpha)
				if err != nil {
					t.Fatal(err)
				}
				return stop
			}
			if known {
				note()
			}
			d := p.ready(t, alpha, "cmd-1")
			want := []events.DeleteRequest(nil)
			if !known {
				want = []events.DeleteRequest{{Stop: true, StopAt: note()}}
			}
			p.save(t, valid(course, `{"cpu":2}`))
			for range 2 {
				p.do(t, events.ProjectTask{Do: events.TaskRecompute, Project: alpha})
			}
			var asked []events.DeleteRequest
			for _, c := range eventstest.Queued(t, p.server, events.StageDelete) {
				if c.Generation != d.Generation {
					t.Errorf("the delete is of %s, want %s", c.Generation, d.Generation)
				}
				asked = append(asked, *c.Delete)
			}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("deletes (-want +got):\n%s", diff)
			}
			if n := len(eventstest.Queued(t, p.server, events.StageRestart)); (n == 1) != known {
				t.Errorf("%d restarts", n)
			}
		})
	}
}

// TestStopThatWasOnlyNoted: the change of a license carries out a stop whose caller has died in the middle of it; nothing starts the
// project again.
func TestStopThatWasOnlyNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":1}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	if _, err := w.bus.NoteStop(t.Context(), projectNo(1)); err != nil {
		t.Fatal(err)
	}
	w.license(t, licenseNo(1), `{"cpu":2,"ram":2}`)
	if gone := w.until(t, projectNo(1), events.Gone); gone.Restart != nil || gone.Reason != "" {
		t.Errorf("it is gone because of %q, and followed by %+v", gone.Reason, gone.Restart)
	}
	eventstest.Eventually(t, "it is stopped, and not wanted", func() bool {
		return w.state(t, projectNo(1)) == "opened" && w.one(t, `SELECT wanted FROM berth.projects`) == "false"
	})
	if n, restarts := w.pods(projectNo(1)), w.restarts(); n != 1 || restarts != 0 {
		t.Errorf("%d pods, %d restarts", n, restarts)
	}
}

// TestIdleTask: a project that nobody uses is warned and stopped, with a place in the log; whoever uses it after the warning keeps it, and what
// became of its pod while that was decided counts.
func TestIdleTask(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		meanwhile func(*testing.T, *place, natsbus.Delivery) // Once the pod has been looked at, and before its use is.
		noted     bool                                       // A stop is in the log.
		stops     bool                                       // The pod's delete is asked for.
		held      bool                                       // It is not to be stopped any more.
	}{
		"nothing": {noted: true, stops: true},
		"used": {meanwhile: func(t *testing.T, p *place, _ natsbus.Delivery) {
			t.Helper()
			p.exec(t, `INSERT INTO berth.rows (project_id, last_activity) VALUES ($1, now())
				ON CONFLICT (project_id) DO UPDATE SET last_activity = now()`, alpha)
		}, held: true},
		"gone": {meanwhile: func(t *testing.T, p *place, d natsbus.Delivery) {
			t.Helper()
			p.end(t, d)
		}, noted: true},
		"on its way out": {meanwhile: func(t *testing.T, p *place, d natsbus.Delivery) {
			t.Helper()
			p.bring(t, d, events.Fact{Kind: events.FactDelete})
		}, noted: true},
		"another pod": {meanwhile: func(t *testing.T, p *place, d natsbus.Delivery) {
			t.Helper()
			p.end(t, d)
			p.claimed(t, alpha, "cmd-2")
		}, noted: true},
		"another record of it": {meanwhile: func(t *testing.T, p *place, d natsbus.Delivery) {
			t.Helper()
			p.bring(t, d, events.Fact{Kind: events.FactRelicense, Licenses: []events.License{{ID: course}}})
		}, noted: true, stops: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.save(t, valid(course, `{"cpu":1}`), alpha)
			d := p.ready(t, alpha, "cmd-1")
			last := func() natsbus.Entry {
				t.Helper()
				entry, err := p.bus.Last(t.Context(), d.Pod)
				if err != nil {
					t.Fatal(err)
				}
				return entry
			}
			task := events.ProjectTask{Do: events.TaskIdle, Project: alpha}
			p.do(t, task) // It was ready long ago, and is warned late.
			task.At = last().IdleStopAt
			if !task.At.After(time.Now()) {
				t.Fatalf("it is to be stopped at %s, which is over", task.At)
			}
			// What is known of the project is read when the gate is open.
			p.exec(t, `CREATE TABLE berth.gate ()`)
			p.exec(t, `ALTER TABLE berth.projects RENAME TO rows`)
			p.exec(t, `CREATE FUNCTION berth.late() RETURNS SETOF berth.rows LANGUAGE plpgsql AS $$ BEGIN
				WHILE NOT EXISTS (SELECT FROM berth.gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN QUERY TABLE berth.rows; END $$`)
			p.exec(t, `CREATE VIEW berth.projects AS SELECT (late).* FROM (SELECT berth.late() OFFSET 0) l`)
			done := make(chan error, 1)
			go func() {
				done <- p.task(t.Context(), natsbus.Delivery{Attempt: 1, Command: events.Command{Task: &task}})
			}()
			eventstest.Eventually(t, "the task is at the gate", func() bool {
				return p.value(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`) == "1"
			})
			if tt.meanwhile != nil {
				tt.meanwhile(t, p, d)
			}
			p.exec(t, `INSERT INTO berth.gate DEFAULT VALUES`)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			stop, err := p.bus.LastStop(t.Context(), alpha)
			if err != nil || (stop > 0) != tt.noted {
				t.Errorf("a stop is noted at %d, %v", stop, err)
			}
			deletes := eventstest.Queued(t, p.server, events.StageDelete)
			if !tt.stops {
				if len(deletes) > 0 {
					t.Errorf("deletes are asked for: %+v", deletes)
				}
			} else if len(deletes) != 1 || deletes[0].Generation != d.Generation || !deletes[0].Delete.Stop || deletes[0].Delete.StopAt != stop ||
				deletes[0].Delete.Reason != events.Idle || !strings.HasPrefix(deletes[0].Delete.Message, "nobody has used the project for ") {
				t.Errorf("deletes: %+v, want one of the stop at %d", deletes, stop)
			} else if entry := last(); deletes[0].After == nil || deletes[0].After.Sequence != entry.Sequence {
				t.Errorf("the delete comes after %+v, want %d", deletes[0].After, entry.Sequence)
			}
			if tt.held && !last().IdleStopAt.IsZero() {
				t.Errorf("it is used, and to be stopped at %s", last().IdleStopAt)
			}
		})
	}
}
