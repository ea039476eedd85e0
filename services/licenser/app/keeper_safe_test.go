package app

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
)

// TestStopOvertakesAStart: a stop is the last word also about a start that no creator has come to, or that one has taken a
// moment ago, whoever asks for either.
func TestStopOvertakesAStart(t *testing.T) {
	t.Parallel()
	hub := func(action string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { t.Helper(); w.ask(t, projectNo(1), `{"action":"`+action+`"}`) }
	}
	start := func(t *testing.T, w *world) {
		t.Helper()
		stop, err := w.bus.LastStop(t.Context(), projectNo(1))
		if err == nil {
			err = w.bus.AskStart(t.Context(), natsbus.NewID(), events.ProjectRequest{ID: projectNo(1), Cause: events.CauseAsked, LastStop: &stop})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop := func(t *testing.T, w *world) { t.Helper(); w.stop(t, projectNo(1)) }
	tests := map[string]struct {
		start, stop func(*testing.T, *world)
		accepted    bool // The start was accepted before the stop.
		dies        bool // The keeper dies in between.
	}{
		"queued, hub and hub":                  {start: hub("start"), stop: hub("stop")},
		"queued, hub and hub, another keeper":  {start: hub("start"), stop: hub("stop"), dies: true},
		"queued, hub and HTTP":                 {start: hub("restart"), stop: stop},
		"queued, hub and HTTP, another keeper": {start: hub("start"), stop: stop, dies: true},
		"queued, HTTP and hub":                 {start: start, stop: hub("stop")},
		"queued, HTTP and HTTP":                {start: start, stop: stop},
		"accepted, hub and hub":                {start: hub("start"), stop: hub("stop"), accepted: true},
		"accepted, hub and HTTP":               {start: hub("start"), stop: stop, accepted: true},
		"accepted, HTTP and hub":               {start: start, stop: hub("stop"), accepted: true},
		"accepted, HTTP and HTTP":              {start: start, stop: stop, accepted: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			reached, release := w.hold(tt.accepted)
			a := w.licenser(t)
			w.row(t, projectNo(1))
			tt.start(t, w)
			eventstest.Receive(t, "a create", reached)
			if tt.dies {
				if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
					t.Fatal(err)
				}
				w.licenser(t)
			}
			tt.stop(t, w)
			release()
			want, pods := events.Type(""), 0
			if tt.accepted {
				want, pods = events.Gone, 1
			}
			w.until(t, projectNo(1), want)
			// Another start is carried out, which shows that the creator is past the first one, too.
			tt.start(t, w)
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

// hold has creates wait before they are looked at, or, where accepted, before their pod is claimed. reached has a value for
// each that waits; release lets all go on.
func (w *world) hold(accepted bool) (reached <-chan struct{}, release func()) {
	arrived, gate := make(chan struct{}, 9), make(chan struct{})
	wait := func(ctx context.Context) error {
		arrived <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if accepted {
		w.accepted = wait
	} else {
		w.created = wait
	}
	return arrived, func() { close(gate) }
}

// TestStopOfARequestInTheRow: a hub's request that no keeper has come to is older than a stop that is asked for now, too.
func TestStopOfARequestInTheRow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		request string
		cleared bool
	}{
		"a start":                {`{"action":"start"}`, true},
		"a restart":              {`{"action":"restart","time":1}`, true},
		"a stop":                 {`{"action":"stop"}`, true},
		"one that is finished":   {`{"action":"start","finished":true}`, false},
		"one that cannot be one": {`{"action":"dance"}`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.exec(t, `INSERT INTO public.projects (project_id, action_request) VALUES ($1, $2)`, projectNo(1), tt.request)
			if _, err := p.stopProject(t.Context(), wire.ProjectRef{ID: projectNo(1)}); err != nil {
				t.Fatal(err)
			}
			if left := p.value(t, `SELECT action_request::text FROM public.projects`); (left == "") != tt.cleared {
				t.Errorf("the request is %q, cleared is to be %t", left, tt.cleared)
			}
			noted, err := p.bus.LastStop(t.Context(), projectNo(1))
			if err != nil || (noted > 0) != (name == "a stop") {
				t.Errorf("a stop noted at %d, %v", noted, err)
			}
		})
	}
}

// TestStopThatCannotBeCleared is carried out once: it ends nothing that is started after it.
func TestStopThatCannotBeCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.row(t, projectNo(1))
	w.start(t, projectNo(1))
	w.exec(t, `CREATE FUNCTION public.keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'hub says no'; END $$`)
	w.exec(t, `CREATE TRIGGER keeps BEFORE UPDATE ON public.projects FOR EACH ROW
		WHEN (OLD.action_request IS NOT NULL AND NEW.action_request IS NULL) EXECUTE FUNCTION public.keeps()`)
	w.exec(t, `UPDATE public.projects SET action_request = '{"action":"stop"}' WHERE project_id = $1`, projectNo(1))
	w.until(t, projectNo(1), events.Gone)
	eventstest.Eventually(t, "the stop is known to be done", func() bool {
		return strings.HasSuffix(w.one(t, `SELECT value FROM berth.settings WHERE name = $1`, "action_request "+projectNo(1)), " done")
	})
	if err := w.bus.AskStart(t.Context(), "later", events.ProjectRequest{ID: projectNo(1), Cause: events.CauseAsked}); err != nil {
		t.Fatal(err)
	}
	w.until(t, projectNo(1), events.Ready)
	now := w.last(t, projectNo(1))
	w.exec(t, `DROP TRIGGER keeps ON public.projects`)
	eventstest.Eventually(t, "the request is cleared", func() bool {
		return w.one(t, `SELECT action_request FROM public.projects WHERE project_id = $1`, projectNo(1)) == ""
	})
	if after := w.last(t, projectNo(1)); after.Generation != now.Generation || after.Event != events.Ready {
		t.Errorf("the pod that was started later is %s of %s, want ready of %s", after.Event, after.Generation, now.Generation)
	}
}

// TestStopWhileItComesBack: one stop is enough for a project that is to run always, also in the moment in which it is
// started again.
func TestStopWhileItComesBack(t *testing.T) {
	t.Parallel()
	for name, accepted := range map[string]bool{"queued": false, "accepted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.licenser(t)
			w.license(t, licenseNo(1), always)
			w.row(t, projectNo(1), licenseNo(1))
			w.start(t, projectNo(1))
			reached, release := w.hold(accepted)
			w.end(t, projectNo(1))
			w.until(t, projectNo(1), events.Gone)
			eventstest.Eventually(t, "it waits for its next start", func() bool {
				return w.one(t, `SELECT retry_at IS NOT NULL FROM berth.projects WHERE project_id = $1`, projectNo(1)) == "true"
			})
			eventstest.Receive(t, "the create that brings it back", reached)
			w.stop(t, projectNo(1))
			release()
			eventstest.Eventually(t, "all is done", func() bool {
				return w.last(t, projectNo(1)).Event == events.Gone && w.one(t, `SELECT wanted FROM berth.projects WHERE project_id = $1`, projectNo(1)) == "false" &&
					len(eventstest.Queued(t, w.server, events.StageCreate))+len(eventstest.Queued(t, w.server, events.StageDelete)) == 0
			})
			if got := w.last(t, projectNo(1)); !got.LaunchedAt.IsZero() && accepted {
				t.Errorf("it was launched: %+v", got.Record)
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
	edited := time.Now()
	w.exec(t, `UPDATE public.site_licenses SET quota = '{"cpu":2,"ram":4}'`)
	reaches(t, "restarted", licenses*each, w.restarts)
	w.paced(t, edited, perSecond)
}

// paced fails the test if any restart has come before its turn, of so many a second since a time. Late ones may come at once.
func (w *world) paced(t *testing.T, since time.Time, perSecond int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.begins, time.Time.Compare)
	for i, begun := range w.begins {
		// The broker's timers, and the clocks of log and database, are not that exact.
		if turn := time.Duration(i) * time.Second / time.Duration(perSecond); begun.Sub(since) < turn-time.Second {
			t.Fatalf("restart %d of %d came %s after the edit, want %s", i, len(w.begins), begun.Sub(since), turn)
		}
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
	w.row(t, projectNo(1))
	// The hub asks as soon as the keeper is at it, and what is known when that has been done is kept.
	w.exec(t, `CREATE TABLE public.known (n bigint)`)
	w.exec(t, `CREATE FUNCTION public.asks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NOT EXISTS (SELECT FROM public.known) THEN
			INSERT INTO public.known VALUES (NULL);
			UPDATE public.projects SET action_request = '{"action":"start"}';
		END IF;
		RETURN NULL; END $$`)
	w.exec(t, `CREATE FUNCTION public.cleared() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE public.known SET n = (SELECT count(*) FROM berth.known_licenses);
		RETURN NULL; END $$`)
	w.exec(t, `CREATE TRIGGER asks AFTER INSERT ON berth.known_licenses FOR EACH ROW EXECUTE FUNCTION public.asks()`)
	w.exec(t, `CREATE TRIGGER cleared AFTER UPDATE ON public.projects FOR EACH ROW
		WHEN (OLD.action_request IS NOT NULL AND NEW.action_request IS NULL) EXECUTE FUNCTION public.cleared()`)
	w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
	eventstest.Eventually(t, "the keeper has begun", func() bool {
		return w.one(t, `SELECT count(*) FROM berth.settings WHERE name = 'settings_digest'`) == "1"
	})
	w.exec(t, `INSERT INTO public.site_licenses (id, title, activates, quota) SELECT gen_random_uuid(), 'L', now(), '{"cpu":1}' FROM generate_series(1, $1::int)`, many)
	eventstest.Eventually(t, "all licenses are known, and the request is done", func() bool {
		return w.one(t, `SELECT count(*) FROM berth.known_licenses`) == strconv.Itoa(many) && w.one(t, `SELECT n FROM public.known`) != ""
	})
	if n := w.one(t, `SELECT n FROM public.known`); n == strconv.Itoa(many) {
		t.Errorf("the request was done after all %s licenses", n)
	}
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

// TestForgetUsage: the keeper removes old uses where the site says so, also more than fit into one part, and not all at once.
func TestForgetUsage(t *testing.T) {
	t.Parallel()
	const many = forgetParts*page + 1
	for name, tt := range map[string]struct {
		days int
		left []string // After each look.
	}{"for ever": {0, []string{"10002"}}, "a week": {7, []string{"2", "1", "1"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, func(c *config.Config) { c.Projects.UsageLogDays = tt.days })
			p.exec(t, `INSERT INTO berth.usage_log (license_id, cluster, pod, generation, user_id, start, stop)
				SELECT $1, $2, 'p', '1-1', 'u', now() - interval '60 days', now() - CASE WHEN n > 0 THEN interval '30 days' ELSE interval '1 hour' END
				FROM generate_series(0, $3::int) n`, licenseNo(1), eventstest.Cluster, many)
			k := newKeeper(p.licenser, func() bool { return true })
			for look, left := range tt.left {
				if err := k.forgetUsage(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := p.value(t, `SELECT count(*)::text FROM berth.usage_log`); got != left {
					t.Errorf("look %d leaves %s uses, want %s", look, got, left)
				}
			}
		})
	}
}
