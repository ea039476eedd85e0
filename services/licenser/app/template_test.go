package app

import (
	"strings"
	"testing"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// TestEditedWhileTheTemplateIsBroken: a license that was edited while no pod could be computed is applied when that is possible
// again, and the project says so.
func TestEditedWhileTheTemplateIsBroken(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{
		"missing":    "",
		"not filled": strings.ReplaceAll(projectTemplate, `"containers"`, `"boxes"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := newCreator(t, p)
			p.save(t, valid(course, `{"cpu":1}`), alpha)
			d := p.claimed(t, alpha, "cmd-1")
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			recompute := func() {
				t.Helper()
				task := natsbus.Delivery{Attempt: 1, Command: events.Command{Task: &events.ProjectTask{Do: events.TaskRecompute, Project: alpha}}}
				if err := p.task(t.Context(), task); err != nil {
					t.Fatal(err)
				}
			}
			outdated := func() bool {
				t.Helper()
				found, err := p.store.Outdated(t.Context(), []string{alpha})
				if err != nil {
					t.Fatal(err)
				}
				return len(found) == 1
			}
			fault := func() string {
				t.Helper()
				return p.value(t, `SELECT error FROM berth.projects WHERE project_id = $1`, alpha)
			}
			c.set(func(c *creator) { c.template = broken })
			p.save(t, valid(course, `{"cpu":2}`))
			for range 2 {
				recompute()
				if got := fault(); !strings.HasPrefix(got, "TEMPLATE_INVALID: ") || !outdated() {
					t.Errorf("error %q, to be computed again %t", got, outdated())
				}
			}
			c.set(func(c *creator) { c.template = projectTemplate })
			recompute()
			if got := len(eventstest.Queued(t, p.server, events.StageRestart)); got != 1 {
				t.Errorf("%d restarts, want one", got)
			}
			p.save(t, valid(course, `{"cpu":1}`))
			recompute()
			if got := fault(); got != "" || outdated() {
				t.Errorf("all is well again: error %q, to be computed again %t", got, outdated())
			}
		})
	}
}

// TestHubRestartsWithoutATemplate: a hub that asks for another pod while there can be none keeps the one that it has, and is told.
func TestHubRestartsWithoutATemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.row(t, projectNo(1))
	w.start(t, projectNo(1))
	before := w.until(t, projectNo(1), events.Ready)
	eventstest.Eventually(t, "it is running", func() bool { return w.state(t, projectNo(1)) == "running" })
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	w.ask(t, projectNo(1), `{"action":"restart"}`)
	eventstest.Eventually(t, "the row says why it is not restarted", func() bool {
		return w.one(t, `SELECT state ->> 'error' FROM public.projects WHERE project_id = $1`, projectNo(1)) == "TEMPLATE_INVALID: it is no Pod" &&
			w.one(t, `SELECT action_request IS NULL FROM public.projects WHERE project_id = $1`, projectNo(1)) == "true"
	})
	if now := w.last(t, projectNo(1)); now.Generation != before.Generation || now.Event != events.Ready || w.state(t, projectNo(1)) != "running" {
		t.Errorf("its pod is %s, of generation %s, want %s; its state %s", now.Event, now.Generation, before.Generation, w.state(t, projectNo(1)))
	}
	w.mu.Lock()
	w.broken = false
	w.mu.Unlock()
	w.ask(t, projectNo(1), `{"action":"restart"}`)
	eventstest.Eventually(t, "it is restarted", func() bool {
		now := w.last(t, projectNo(1))
		return now.Generation != before.Generation && now.Event == events.Ready
	})
}
