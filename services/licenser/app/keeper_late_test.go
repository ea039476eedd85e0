package app

import (
	"context"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// TestOneRowHoldsUpNothing: a project whose row cannot be written, for a while or ever, holds up neither seats nor other projects.
func TestOneRowHoldsUpNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *world){
		"locked": func(t *testing.T, w *world) {
			t.Helper()
			tx, err := w.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
			if _, err := tx.Exec(t.Context(), `SELECT FROM public.projects WHERE project_id = $1 FOR UPDATE`, projectNo(1)); err != nil {
				t.Fatal(err)
			}
		},
		"refused": func(t *testing.T, w *world) { t.Helper(); w.trigger(t, projectNo(1), `RAISE 'not this one'`) },
		"slow": func(t *testing.T, w *world) {
			t.Helper()
			w.trigger(t, projectNo(1), `PERFORM pg_sleep(60); RETURN NEW`)
		},
	}
	for name, hinder := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
			w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
			w.exec(t, `UPDATE public.site_licenses SET run_limit = 1`)
			w.row(t, projectNo(1))
			w.row(t, projectNo(2), licenseNo(1))
			w.row(t, projectNo(3))
			w.start(t, projectNo(1), projectNo(2))
			eventstest.Eventually(t, "both are running", func() bool {
				return w.state(t, projectNo(1)) == "running" && w.state(t, projectNo(2)) == "running"
			})
			hinder(t, w)
			w.stop(t, projectNo(1))
			w.until(t, projectNo(1), events.Gone)
			w.stop(t, projectNo(2))
			eventstest.Eventually(t, "the seat is free", func() bool { return w.one(t, `SELECT count(*) FROM berth.seats`) == "0" })
			// Each of the keeper's passes would wait for the first one until that is given up, and each round here takes several. A round
			// that is slow for another reason is followed by one that is not.
			quick := false
			for round := 0; !quick && round < 20; round++ {
				begun := time.Now()
				w.ask(t, projectNo(3), `{"action":"start"}`)
				eventstest.Eventually(t, "the third is running", func() bool { return w.state(t, projectNo(3)) == "running" })
				w.ask(t, projectNo(3), `{"action":"stop"}`)
				eventstest.Eventually(t, "the third is stopped", func() bool { return w.state(t, projectNo(3)) == "opened" })
				quick = round > 2 && time.Since(begun) < 4*time.Second
			}
			if !quick {
				t.Error("no round was quick: what cannot be written holds up the rest")
			}
			if got := w.state(t, projectNo(1)); got != "running" {
				t.Errorf("the row that cannot be written says %s", got)
			}
			eventstest.Eventually(t, "it is counted as late", func() bool { return gauge(t, a, "berth_keeper_late") == 1 })
			if name != "locked" {
				w.exec(t, `DROP TRIGGER refuse ON public.projects`)
				eventstest.Eventually(t, "the first is noted in the end", func() bool { return w.state(t, projectNo(1)) == "opened" })
			}
		})
	}
}

// TestRevivalThatIsRefused: a start by which a project was to come back, and that was refused, counts as a failure and says why, without a look
// at everything; the project is tried again.
func TestRevivalThatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	w.mu.Lock()
	w.refuse = events.TemplateInvalid
	w.mu.Unlock()
	w.end(t, projectNo(1))
	eventstest.Eventually(t, "it has failed again, and says why", func() bool {
		return w.one(t, `SELECT wanted AND failures > 1 AND retry_at > started_at AND error = 'TEMPLATE_INVALID: no' FROM berth.projects`) == "true" &&
			w.one(t, `SELECT (state ->> 'state') || ' ' || (state ->> 'error') FROM public.projects`) == "opened TEMPLATE_INVALID: no"
	})
}

// trigger has the hub's database do this whenever the state of a project is written.
func (w *world) trigger(t *testing.T, project, does string) {
	t.Helper()
	w.exec(t, `CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+does+`; END $$`)
	w.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE OF state ON public.projects FOR EACH ROW
		WHEN (OLD.project_id = '`+project+`') EXECUTE FUNCTION public.refuse()`)
}

// TestRestartThatIsRefused: when no pod follows one that was removed for it, the project says why at once, its seat is free, and it can be
// started again; one that is to run always is, by itself.
func TestRestartThatIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		quota, noted string
		dies         bool // The keeper dies before the start is refused.
	}{
		"any":                       {`{"cpu":1,"ram":2}`, "false 0 false", false},
		"any, and another keeper":   {`{"cpu":1,"ram":2}`, "false 0 false", true},
		"one that is to run always": {always, "true 1 true", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
			w.license(t, licenseNo(1), tt.quota)
			w.row(t, projectNo(1), licenseNo(1))
			w.start(t, projectNo(1))
			eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
			reached, release := w.hold(false)
			w.mu.Lock()
			w.refuse = events.TemplateInvalid
			w.mu.Unlock()
			w.ask(t, projectNo(1), `{"action":"restart"}`)
			eventstest.Receive(t, "the create that follows", reached)
			eventstest.Eventually(t, "it waits for its next pod", func() bool { return w.state(t, projectNo(1)) == "starting" })
			if tt.dies {
				if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			_, releaseNext := w.hold(false) // By itself it is not started again before all has been looked at.
			release()
			if tt.dies {
				w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
			}
			const why = "TEMPLATE_INVALID: no"
			eventstest.Eventually(t, "the row and the project say why, and the seat is free", func() bool {
				return w.state(t, projectNo(1)) == "opened" && w.one(t, `SELECT count(*) FROM berth.seats`) == "0" &&
					w.one(t, `SELECT state ->> 'error' FROM public.projects`) == why && w.one(t, `SELECT error FROM berth.projects`) == why
			})
			if got := w.one(t, `SELECT wanted || ' ' || failures || ' ' || (retry_at IS NOT NULL) FROM berth.projects`); got != tt.noted {
				t.Errorf("wanted, failures, retry: %s, want %s", got, tt.noted)
			}
			w.mu.Lock()
			w.refuse = ""
			w.mu.Unlock()
			releaseNext()
			if tt.quota != always {
				w.ask(t, projectNo(1), `{"action":"start"}`)
			}
			w.until(t, projectNo(1), events.Ready)
			eventstest.Eventually(t, "nothing is wrong any more", func() bool {
				return w.state(t, projectNo(1)) == "running" && w.one(t, `SELECT coalesce(state ->> 'error', '') FROM public.projects`) == "" &&
					w.one(t, `SELECT coalesce(error, '') FROM berth.projects`) == ""
			})
		})
	}
}
