package app

import (
	"context"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// TestStrangersPod: a person's pod under a project's name is none of the project's: nobody stops it or starts it again for the
// project, and the project has no pod.
func TestStrangersPod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.row(t, projectNo(2))
	w.exec(t, `UPDATE public.projects SET state = '{"state":"running"}' WHERE project_id = $1`, projectNo(1))
	pod := events.ProjectPod(projectNo(1))
	entry, err := w.append(t.Context(), pod, events.Fact{Kind: events.FactClaim, Record: events.Record{
		Cluster: eventstest.Cluster, Pod: pod, User: user, Command: "theirs",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, fact := range []events.Fact{
		{Kind: events.FactLicense, Generation: entry.Generation},
		eventstest.Launch(entry.Generation),
		eventstest.Launched(entry.Generation, "uid"), eventstest.Observe(entry.Generation, eventstest.Ready("uid", "5")),
	} {
		if _, err := w.append(t.Context(), pod, fact); err != nil {
			t.Fatal(err)
		}
	}
	for _, request := range []string{`{"action":"stop"}`, `{"action":"restart"}`, `{"action":"start"}`, `{"action":"stop","again":true}`} {
		w.ask(t, projectNo(1), request)
	}
	for _, task := range []events.ProjectTask{
		{Do: events.TaskRecompute, Project: projectNo(1)}, {Do: events.TaskIdle, Project: projectNo(1)}, {Do: events.TaskLicense, License: licenseNo(1)},
	} {
		if err := w.bus.AskTask(t.Context(), task, natsbus.NewID()); err != nil {
			t.Fatal(err)
		}
	}
	w.license(t, licenseNo(1), `{"cpu":2,"ram":4}`)
	w.start(t, projectNo(2))
	eventstest.Eventually(t, "the project has no pod", func() bool { return w.state(t, projectNo(1)) == "opened" })
	eventstest.Eventually(t, "all that was asked for is done", func() bool {
		for _, stage := range []events.Stage{events.StageProject, events.StageDelete, events.StageRestart} {
			if len(eventstest.Queued(t, w.server, stage)) > 0 {
				return false
			}
		}
		return true
	})
	if now := w.last(t, projectNo(1)); now.Event != events.Ready || now.Generation != entry.Generation || w.restarts() != 0 {
		t.Errorf("their pod is %s, after %d restarts", now.Event, w.restarts())
	}
	eventstest.Eventually(t, "the licenser is ready", func() bool { return a.Health.Ready(t.Context()) == nil })
}

// TestHinderedRequest: a request that cannot be done yet holds up no other one, and is done in the end.
func TestHinderedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.row(t, projectNo(1))
	w.row(t, projectNo(2))
	// Somebody holds on to what the first one's stop has to write.
	w.exec(t, `INSERT INTO berth.projects (project_id, wanted) VALUES ($1, true)`, projectNo(1))
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM berth.projects WHERE project_id = $1 FOR UPDATE`, projectNo(1)); err != nil {
		t.Fatal(err)
	}
	w.exec(t, `UPDATE public.projects SET action_request = '{"action":"stop"}' WHERE project_id = $1`, projectNo(1))
	for range 2 {
		w.ask(t, projectNo(2), `{"action":"start"}`)
		w.until(t, projectNo(2), events.Ready)
		w.ask(t, projectNo(2), `{"action":"stop"}`)
		w.until(t, projectNo(2), events.Gone)
	}
	if w.one(t, `SELECT action_request FROM public.projects WHERE project_id = $1`, projectNo(1)) == "" {
		t.Fatal("the request is cleared that cannot be done")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "it is stopped in the end", func() bool {
		return w.one(t, `SELECT action_request IS NULL AND NOT wanted FROM public.projects JOIN berth.projects USING (project_id) WHERE project_id = $1`,
			projectNo(1)) == "true"
	})
}

// TestAnotherClusterDrives: a keeper of another cluster drives the projects of the database, and this one leaves those alone
// that it has no pod of, until that one is no more.
func TestAnotherClusterDrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, err := w.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_lock($1, 0)`, int32(0x62727468)); err != nil {
		t.Fatal(err)
	}
	w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = 100 * time.Millisecond })
	w.license(t, licenseNo(1), always)
	for n := range 3 {
		w.row(t, projectNo(n), licenseNo(1))
	}
	w.exec(t, `UPDATE public.projects SET state = '{"state":"running"}', run_quota = '{"always_running":true}'`)
	w.exec(t, `INSERT INTO berth.projects (project_id, wanted) VALUES ($1, true)`, projectNo(1))
	w.exec(t, `UPDATE public.projects SET action_request = '{"action":"start"}' WHERE project_id = $1`, projectNo(2))
	w.start(t, projectNo(0)) // Its own.
	_, release := w.hold(false)
	w.end(t, projectNo(0))
	eventstest.Eventually(t, "its own project is kept", func() bool {
		return w.one(t, `SELECT retry_at FROM berth.projects WHERE project_id = $1`, projectNo(0)) != ""
	})
	if w.state(t, projectNo(1)) != "running" || w.pods(projectNo(2)) != 0 ||
		w.one(t, `SELECT failures FROM berth.projects WHERE project_id = $1`, projectNo(1)) != "0" {
		t.Errorf("a project of the other cluster is %s, one was started %d times", w.state(t, projectNo(1)), w.pods(projectNo(2)))
	}
	release()
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
	w.until(t, projectNo(2), events.Ready)
	eventstest.Eventually(t, "the state is mended", func() bool { return w.state(t, projectNo(1)) == "opened" })
}
