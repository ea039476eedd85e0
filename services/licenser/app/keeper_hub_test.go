package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
)

// deaf takes away what tells of changes in the hub's tables, as where the role may not make triggers.
func (w *world) deaf(t *testing.T) {
	t.Helper()
	for table, triggers := range map[string][]string{
		"projects": {"berth_project_row", "berth_project_content"}, "site_licenses": {"berth_license_row", "berth_license_content"},
		"server_settings": {"berth_settings_row", "berth_settings_content"},
	} {
		for _, trigger := range triggers {
			w.exec(t, `DROP TRIGGER `+trigger+` ON public.`+table)
		}
	}
}

// ask writes an action request, and waits until it is cleared.
func (w *world) ask(t *testing.T, project, request string) {
	t.Helper()
	w.exec(t, `UPDATE public.projects SET action_request = $2::jsonb WHERE project_id = $1`, project, request)
	eventstest.Eventually(t, "the request is cleared: "+request, func() bool {
		return w.one(t, `SELECT action_request FROM public.projects WHERE project_id = $1`, project) == ""
	})
}

// TestHub: a hub drives a project by writing into its row alone, told of or not.
func TestHub(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"with triggers": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			catchUp := time.Hour
			if deaf {
				w.deaf(t)
				catchUp = time.Second
			}
			w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = catchUp })
			project := projectNo(1)
			w.row(t, project)
			eventstest.Eventually(t, "the keeper has begun", func() bool {
				return w.one(t, `SELECT count(*) FROM berth.settings WHERE name = 'settings_digest'`) == "1"
			})
			running := func() string {
				entry := w.until(t, project, events.Ready)
				eventstest.Eventually(t, "the row says running", func() bool { return w.state(t, project) == "running" })
				return entry.Generation
			}

			w.ask(t, project, `{"action":"start"}`)
			first := running()
			w.ask(t, project, `{"action":"start"}`) // It runs already.
			w.ask(t, project, `{"action":"restart"}`)
			eventstest.Eventually(t, "another pod is made", func() bool { return w.last(t, project).Generation != first })
			second := running()
			w.ask(t, project, `{"action":"stop"}`)
			w.until(t, project, events.Gone)
			eventstest.Eventually(t, "the row says opened", func() bool { return w.state(t, project) == "opened" })
			w.ask(t, project, `{"action":"stop"}`) // It is stopped already.
			w.ask(t, project, `{"action":"start"}`)
			third := running()
			w.ask(t, project, `{"action":"stop"}`)
			w.until(t, project, events.Gone)
			w.ask(t, project, `{"action":"restart"}`) // It does not run: a start.
			fourth := running()
			if first == second || second == third || third == fourth {
				t.Errorf("generations %s, %s, %s, %s", first, second, third, fourth)
			}
			w.ask(t, project, `{"action":"dance"}`)
			if got := w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, project); !strings.Contains(got, "write start, stop or restart") {
				t.Errorf("the row's error is %q", got)
			}
			w.exec(t, `UPDATE public.projects SET action_request = '{"action":"stop","finished":"2026-01-02"}' WHERE project_id = $1`, project)
			if got := w.restarts(); got != 1 {
				t.Errorf("%d restarts, want 1", got)
			}
			if got := w.one(t, `SELECT count(*) FROM berth.settings WHERE name LIKE 'action_request%'`); got != "0" {
				t.Errorf("%s notes of requests are left", got)
			}
		})
	}
}

// TestHubStartsAfterAStop: what a hub asks for after a stop that nobody has carried out yet is not lost, nor taken back by that
// stop.
func TestHubStartsAfterAStop(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"start", "restart"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.licenser(t)
			project := projectNo(1)
			w.row(t, project)
			w.ask(t, project, `{"action":"start"}`)
			first := w.until(t, project, events.Ready)
			back := make(chan struct{})
			w.mu.Lock()
			w.away = back
			w.mu.Unlock()
			w.ask(t, project, `{"action":"stop"}`)
			w.ask(t, project, `{"action":"`+action+`"}`)
			eventstest.Eventually(t, "another pod is to follow", func() bool { return w.last(t, project).Restart != nil })
			close(back)
			eventstest.Eventually(t, "another pod is there", func() bool {
				now := w.last(t, project)
				return now.Generation != first.Generation && now.Event == events.Ready
			})
			w.ask(t, project, `{"action":"stop"}`)
			w.until(t, project, events.Gone)
		})
	}
}

// TestHubIsToldOfARefusal: a start that a hub has asked for leaves nothing in the log when it is refused.
func TestHubIsToldOfARefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refuse = events.TemplateInvalid
	w.licenser(t)
	w.row(t, projectNo(1))
	w.ask(t, projectNo(1), `{"action":"start","time":"2026-01-02T03:04:05Z"}`)
	eventstest.Eventually(t, "the row says why it does not run", func() bool {
		return w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)) == "TEMPLATE_INVALID: no"
	})
}

// TestHubReadsARefusal: what was wrong with a request is in the row of a project that runs, also under another keeper, until one is done.
func TestHubReadsARefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.licenser(t)
	project := projectNo(1)
	w.row(t, project)
	w.start(t, project)
	row := func() string {
		return w.one(t, `SELECT (state ->> 'state') || ': ' || coalesce(state ->> 'error', '') FROM public.projects WHERE project_id = $1`, project)
	}
	eventstest.Eventually(t, "it is running", func() bool { return row() == "running: " })

	w.ask(t, project, `{"action":"dance"}`)
	const refused = `running: action_request: the action "dance" is unknown: write start, stop or restart`
	if got := row(); got != refused {
		t.Errorf("the row has %q", got)
	}
	written := w.one(t, `SELECT xmin FROM public.projects`)
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(t, `DELETE FROM berth.settings WHERE name = 'settings_digest'`)
	w.row(t, projectNo(2))
	w.licenser(t)
	w.ask(t, projectNo(2), `{"action":"start"}`) // Another keeper is at work.
	eventstest.Eventually(t, "it has looked at all", func() bool {
		return w.one(t, `SELECT count(*) FROM berth.settings WHERE name = 'settings_digest'`) == "1"
	})
	w.until(t, projectNo(2), events.Ready)
	eventstest.Eventually(t, "the other one runs", func() bool { return w.state(t, projectNo(2)) == "running" })
	if got := w.one(t, `SELECT xmin FROM public.projects WHERE project_id = $1`, project); got != written {
		t.Errorf("the row was written again, and has %q", row())
	}

	w.ask(t, project, `{"action":"start"}`) // It runs already.
	if got := row(); got != "running: " {
		t.Errorf("after a request that is done the row has %q", got)
	}
	if got := w.pods(project); got != 1 {
		t.Errorf("%d pods, want 1", got)
	}

	// A template that is mended.
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	w.ask(t, project, `{"action":"restart"}`)
	if got := row(); got != "running: TEMPLATE_INVALID: it is no Pod" {
		t.Errorf("the row has %q", got)
	}
	w.mu.Lock()
	w.broken = false
	w.mu.Unlock()
	w.ask(t, project, `{"action":"start"}`)
	if got := row(); got != "running: " {
		t.Errorf("after the template was mended the row has %q", got)
	}

	// A hub that brings an old row back.
	w.exec(t, `UPDATE public.projects SET state = '{"state":"running","error":"old","time":"2020-01-02T03:04:05.678Z"}' WHERE project_id = $1`, project)
	eventstest.Eventually(t, "the old error is gone", func() bool { return row() == "running: " })
}

const always = `{"cpu":1,"ram":1,"always_running":true}`

// end has a project's pod end by itself.
func (w *world) end(t *testing.T, project string) {
	t.Helper()
	entry := w.until(t, project, events.Ready)
	if _, err := w.append(t.Context(), entry.Pod, eventstest.Observe(entry.Generation, eventstest.Ended(entry.Observed.UID, "99"))); err != nil {
		t.Fatal(err)
	}
}

// TestAlwaysRunning: a project that is to run always comes back when its pod ends, and only then; one that is not to is
// removed.
func TestAlwaysRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1), licenseNo(1))
	w.row(t, projectNo(2))
	w.start(t, projectNo(1), projectNo(2))
	first := w.last(t, projectNo(1)).Generation
	_, release := w.hold(false) // It comes back only when all that is said until then has been read.
	ended := w.one(t, `SELECT clock_timestamp()`)
	w.end(t, projectNo(1))
	w.end(t, projectNo(2))
	eventstest.Eventually(t, "it says why it does not run", func() bool {
		return strings.HasPrefix(w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)), "COMPLETED")
	})
	if got := w.one(t, `SELECT failures FROM berth.projects WHERE project_id = $1 AND retry_at >= $2::timestamptz + interval '10 seconds'`, projectNo(1), ended); got != "1" {
		t.Errorf("failures = %q, want 1", got)
	}
	release()
	eventstest.Eventually(t, "it is back", func() bool {
		now := w.last(t, projectNo(1))
		return now.Generation != first && now.Event == events.Ready
	})
	if got := w.until(t, projectNo(2), events.Gone); got.Reason != events.Completed {
		t.Errorf("the other one is gone because of %s, want %s", got.Reason, events.Completed)
	}
	// A stop is one.
	if err := w.bus.AskDelete(t.Context(), w.last(t, projectNo(1)), events.DeleteRequest{Stop: true}); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "it is not wanted", func() bool {
		return w.one(t, `SELECT wanted OR retry_at IS NOT NULL FROM berth.projects WHERE project_id = $1`, projectNo(1)) == "false"
	})
}

// TestStopBetweenTwoPods: a project that waits for its next start can be stopped, though it has no pod.
func TestStopBetweenTwoPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	w.exec(t, `UPDATE berth.projects SET failures = 7`) // So that the next start is far away.
	w.end(t, projectNo(1))
	waits := func() string {
		return w.one(t, `SELECT wanted AND retry_at IS NOT NULL FROM berth.projects WHERE project_id = $1`, projectNo(1))
	}
	eventstest.Eventually(t, "it waits for its next start", func() bool { return waits() == "true" })
	w.until(t, projectNo(1), events.Gone)
	timer := events.TimerSubject(eventstest.Cluster, "project-"+projectNo(1), events.TimerStart)
	eventstest.Eventually(t, "the timer of its next start is set", func() bool { return slices.Contains(eventstest.QueueSubjects(t, w.server), timer) })
	eventstest.Eventually(t, "a licenser answers", func() bool {
		return w.bus.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodStop, wire.ProjectRef{ID: projectNo(1)}, nil) == nil
	})
	if waits() != "false" {
		t.Error("it is still to be started")
	}
	// The timer fires for nothing.
	if err := w.bus.AskTask(t.Context(), events.ProjectTask{
		Do: events.TaskStart, Project: projectNo(1), Cause: events.CauseAlwaysRunning, At: time.Now().Add(time.Hour),
	}, "timer"); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "all is done", func() bool {
		return len(eventstest.Queued(t, w.server, events.StageProject))+len(eventstest.Queued(t, w.server, events.StageCreate)) == 0
	})
	if n := w.pods(projectNo(1)); n != 1 {
		t.Errorf("%d pods, want 1", n)
	}
}

// TestGiveUp: a project that fails again and again is given up, and says so; whoever starts it again begins anew.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t, func(c *config.Projects) { c.AlwaysRunningFailures = 2 })
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	w.mu.Lock()
	w.fails = true
	w.mu.Unlock()
	w.end(t, projectNo(1))
	eventstest.Eventually(t, "it is given up", func() bool {
		return strings.HasPrefix(w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)), "GAVE_UP: ")
	})
	const query = `SELECT failures || ' ' || wanted || ' ' || (retry_at IS NULL) FROM berth.projects WHERE project_id = $1`
	if got := w.one(t, query, projectNo(1)); got != "2 false true" {
		t.Errorf("failures, wanted, no retry: %s", got)
	}
	if got := w.one(t, `SELECT error FROM berth.projects WHERE project_id = $1`, projectNo(1)); !strings.Contains(got, "IMAGE_PULL: no such image") {
		t.Errorf("error = %s", got)
	}
	w.mu.Lock()
	w.fails = false
	w.mu.Unlock()
	w.until(t, projectNo(1), events.Gone)
	w.ask(t, projectNo(1), `{"action":"start"}`)
	w.until(t, projectNo(1), events.Ready)
	eventstest.Eventually(t, "it begins anew", func() bool { return w.one(t, query, projectNo(1)) == "0 true true" })
	eventstest.Eventually(t, "the row has no error", func() bool {
		return w.one(t, `SELECT coalesce(state ->> 'error', '') FROM public.projects WHERE project_id = $1`, projectNo(1)) == ""
	})
}

// TestIdle: a project that nobody uses is warned and stopped, each in its time; one that is to run always is not.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.exec(t, `INSERT INTO public.server_settings VALUES ('default_quotas', '{"idle_timeout":4}')`)
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1))
	w.row(t, projectNo(2), licenseNo(1))
	w.start(t, projectNo(2))
	// It may be over before anybody sees that it is ready.
	if err := w.bus.AskStart(t.Context(), "start", events.ProjectRequest{ID: projectNo(1), Cause: events.CauseAsked}); err != nil {
		t.Fatal(err)
	}
	gone := w.until(t, projectNo(1), events.Gone)
	if gone.Reason != events.Idle || gone.Message == "" {
		t.Errorf("it is gone because of %s (%s)", gone.Reason, gone.Message)
	}
	history, err := w.bus.History(t.Context(), gone.Pod)
	if err != nil {
		t.Fatal(err)
	}
	warned := time.Time{}
	for _, entry := range history {
		if !entry.IdleStopAt.IsZero() {
			warned = entry.IdleStopAt
		}
	}
	// A timer of the broker may be early by less than a second.
	if warned.Before(gone.ReadyAt.Add(4*time.Second)) || gone.DeletingAt.Before(warned.Add(-time.Second)) {
		t.Errorf("ready at %s, it was to be stopped at %s, and was at %s", gone.ReadyAt, warned, gone.DeletingAt)
	}
	if got := w.last(t, projectNo(2)); got.Event != events.Ready || !got.IdleStopAt.IsZero() {
		t.Errorf("the one that is to run always is %s, and will be stopped at %s", got.Event, got.IdleStopAt)
	}
}

// TestBrokenLicense: a license that cannot be used leaves alone what runs.
func TestBrokenLicense(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	patch, err := json.Marshal(map[string]any{"cpu": 1, "ram": 2, "patch": `[{"op":"test","path":"/kind","value":"Node"}]`})
	if err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	w.license(t, licenseNo(1), string(patch))
	eventstest.Eventually(t, "the project says why", func() bool {
		return strings.HasPrefix(w.one(t, `SELECT error FROM berth.projects WHERE project_id = $1`, projectNo(1)), "PATCH_INVALID: ")
	})
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	eventstest.Eventually(t, "all is well again", func() bool {
		return w.one(t, `SELECT error FROM berth.projects WHERE project_id = $1`, projectNo(1)) == ""
	})
	if n := w.restarts(); n != 0 {
		t.Errorf("%d restarts, want none", n)
	}
}
