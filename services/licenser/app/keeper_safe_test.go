package app

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
)

// TestStopOvertakesAStart: a stop is the last word also about a start that no creator has come to, or that one has taken a
// moment ago, whoever asks for it.
func TestStopOvertakesAStart(t *testing.T) {
	t.Parallel()
	hub := func(t *testing.T, w *world) { w.ask(t, projectNo(1), `{"action":"stop"}`) }
	direct := func(t *testing.T, w *world) {
		t.Helper()
		if err := w.bus.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodStop, wire.ProjectRef{ID: projectNo(1)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		stop    func(*testing.T, *world)
		decided bool // The start was accepted before the stop.
		dies    bool // The keeper dies in between.
	}{
		"queued, the hub":                 {stop: hub},
		"queued, the hub, another keeper": {stop: hub, dies: true},
		"queued, over HTTP":               {stop: direct},
		"accepted, the hub":               {stop: hub, decided: true},
		"accepted, over HTTP":             {stop: direct, decided: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			reached, gate := make(chan struct{}, 9), make(chan struct{})
			hold := func(ctx context.Context) error {
				reached <- struct{}{}
				select {
				case <-gate:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			w.mu.Lock()
			if tt.decided {
				w.accepted = hold
			} else {
				w.created = hold
			}
			w.mu.Unlock()
			a := w.licenser(t)
			w.row(t, projectNo(1))
			w.ask(t, projectNo(1), `{"action":"start"}`)
			eventstest.Receive(t, "a create", reached)
			if tt.dies {
				if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
					t.Fatal(err)
				}
				w.licenser(t)
			}
			if tt.decided {
				time.AfterFunc(time.Second, func() { close(gate) })
			}
			tt.stop(t, w)
			if !tt.decided {
				close(gate)
			}
			want, pods := events.Type(""), 0
			if tt.decided {
				want, pods = events.Gone, 1
			}
			w.until(t, projectNo(1), want)
			// Another start shows that the creator is past the first one.
			w.ask(t, projectNo(1), `{"action":"start"}`)
			w.until(t, projectNo(1), events.Ready)
			if got := w.pods(projectNo(1)); got != pods+1 {
				t.Errorf("%d pods, want %d", got, pods+1)
			}
			eventstest.Eventually(t, "nothing is waited for", func() bool {
				return w.one(t, `SELECT asked FROM berth.projects WHERE project_id = $1`, projectNo(1)) == "" && w.state(t, projectNo(1)) == "running"
			})
			if got := w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)); got != "" {
				t.Errorf("the row's error is %q", got)
			}
		})
	}
}

// TestOnePaceForAll: the restarts that several changes bring about at once share the site's pace.
func TestOnePaceForAll(t *testing.T) {
	t.Parallel()
	const licenses, each, perSecond = 4, 5, 5
	w := newWorld(t)
	w.licenser(t, func(c *config.Projects) { c.RestartsPerSecond = perSecond })
	var projects []string
	for n := range licenses {
		w.license(t, licenseNo(n), `{"cpu":1,"ram":2}`)
		for i := range each {
			project := projectNo(n*each + i)
			w.row(t, project, licenseNo(n))
			projects = append(projects, project)
		}
	}
	w.start(t, projects...)
	w.exec(t, `UPDATE public.site_licenses SET quota = '{"cpu":2,"ram":4}'`)
	eventstest.Eventually(t, "all are restarted", func() bool { return w.restarts() == licenses*each })
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.begins, time.Time.Compare)
	if d := w.begins[len(w.begins)-1].Sub(w.begins[0]); d < (licenses*each-1)*time.Second/perSecond-time.Second {
		t.Errorf("%d restarts within %s, want %d a second", len(w.begins), d, perSecond)
	}
}

// TestOddRowsDisableNothing: what a stranger has written into a row is in the way of nothing else.
func TestOddRowsDisableNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.license(t, licenseNo(2), `{"cpu":1,"ram":2}`)
	w.exec(t, `UPDATE public.site_licenses SET activates = '-infinity', expires = 'infinity', last_used = 'infinity'`)
	w.row(t, projectNo(1), licenseNo(1))
	w.row(t, projectNo(2), licenseNo(2))
	w.exec(t, `UPDATE public.projects SET last_edited = 'infinity'`)
	w.licenser(t)
	w.start(t, projectNo(1), projectNo(2))
	before := w.last(t, projectNo(2))
	// Its pod says something that the database cannot keep.
	entry := w.last(t, projectNo(1))
	ended := eventstest.Ended(entry.Observed.UID, "99")
	ended.Message = "boom\x00"
	if _, err := w.append(t.Context(), entry.Pod, eventstest.Observe(entry.Generation, ended)); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the row says why, and the seat is free", func() bool {
		return w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)) == "COMPLETED: boom" &&
			w.one(t, `SELECT count(*) FROM berth.seats WHERE project_id = $1`, projectNo(1)) == "0"
	})
	w.license(t, licenseNo(2), `{"cpu":2,"ram":4}`)
	eventstest.Eventually(t, "the other is restarted", func() bool {
		now := w.last(t, projectNo(2))
		return now.Generation != before.Generation && now.Event == events.Ready
	})
}

// TestSeatsBeforeTheRow: a seat is free although the project's row cannot be written.
func TestSeatsBeforeTheRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, statement := range []string{`SELECT FROM public.projects FOR UPDATE`, `SELECT FROM berth.projects FOR UPDATE`} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.bus.AskDelete(t.Context(), w.last(t, projectNo(1)), events.DeleteRequest{Stop: true}); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the seat is free", func() bool { return w.one(t, `SELECT count(*) FROM berth.seats`) == "0" })
}

// TestGoneWhileComputed: a pod that goes while its licenses are looked at leaves no seat behind.
func TestGoneWhileComputed(t *testing.T) {
	t.Parallel()
	for name, quota := range map[string]string{"comes to the same": `{"cpu":1,"ram":2}`, "has to be restarted": `{"cpu":9,"ram":9}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
			w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
			w.license(t, licenseNo(2), quota)
			w.exec(t, `UPDATE public.site_licenses SET run_limit = 5 WHERE id = $1`, licenseNo(2))
			w.row(t, projectNo(1), licenseNo(1))
			w.start(t, projectNo(1))
			eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
			tx, err := w.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := tx.Exec(t.Context(), `SELECT FROM public.site_licenses WHERE id = $1 FOR UPDATE`, licenseNo(2)); err != nil {
				t.Fatal(err)
			}
			// The task locks what has a limit, and waits for it.
			w.exec(t, `UPDATE public.projects SET site_license = site_license || jsonb_build_object($2::text, '{}'::jsonb) WHERE project_id = $1`, projectNo(1), licenseNo(2))
			eventstest.Eventually(t, "it waits", func() bool {
				return w.one(t, `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND a.datname = current_database()`) != "0"
			})
			gone := w.last(t, projectNo(1))
			if err := w.bus.AskDelete(t.Context(), gone, events.DeleteRequest{Stop: true}); err != nil {
				t.Fatal(err)
			}
			w.until(t, projectNo(1), events.Gone)
			eventstest.Eventually(t, "its seats are free", func() bool { return w.one(t, `SELECT count(*) FROM berth.seats`) == "0" })
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventstest.Eventually(t, "the task is done", func() bool { return len(eventstest.Queued(t, w.server, events.StageProject)) == 0 })
			if got := w.one(t, `SELECT count(*) FROM berth.seats WHERE kept_until IS NULL`); got != "0" {
				t.Errorf("%s seats of a pod that is gone", got)
			}
		})
	}
}

// TestStatesBothWays: a row that does not know that its project runs is mended.
func TestStatesBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.row(t, projectNo(1))
	w.start(t, projectNo(1))
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	w.exec(t, `UPDATE public.projects SET state = '{"state":"opened"}'`)
	eventstest.Eventually(t, "it is running again", func() bool { return w.state(t, projectNo(1)) == "running" })
}

// TestBulkEdit: a hub that asks for something does not wait until thousands of changed licenses have been looked at.
func TestBulkEdit(t *testing.T) {
	t.Parallel()
	const many = 2000
	w := newWorld(t)
	w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
	w.row(t, projectNo(1))
	eventstest.Eventually(t, "the keeper has begun", func() bool {
		return w.one(t, `SELECT count(*) FROM berth.settings WHERE name = 'settings_digest'`) == "1"
	})
	w.exec(t, `INSERT INTO public.site_licenses (id, title, activates, quota) SELECT gen_random_uuid(), 'L', now(), '{"cpu":1}' FROM generate_series(1, $1::int)`, many)
	known := func() int {
		n, err := strconv.Atoi(w.one(t, `SELECT count(*) FROM berth.known_licenses`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventstest.Eventually(t, "the keeper is at it", func() bool { return known() > 0 })
	w.ask(t, projectNo(1), `{"action":"start"}`)
	if n := known(); n >= many {
		t.Errorf("the request was done after all %d licenses", n)
	}
	eventstest.Eventually(t, "all licenses are known", func() bool { return known() == many })
}

// TestProgress: a keeper that is at one thing for too long is found, and one that rests is not.
func TestProgress(t *testing.T) {
	t.Parallel()
	var p progress
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p.beat()
	p.rest()
	if err := p.watch(ctx, time.Nanosecond, time.Millisecond); err != nil {
		t.Errorf("of one that rests: %v", err)
	}
	p.beat()
	if err := p.watch(t.Context(), time.Nanosecond, time.Millisecond); !errors.Is(err, errStuck) {
		t.Errorf("of one that is stuck: %v, want %v", err, errStuck)
	}
}
