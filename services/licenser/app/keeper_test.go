package app

import (
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// TestKeeperFollowsTheLog: a hub sees in its row what happens, and a seat is free when its pod is gone.
func TestKeeperFollowsTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	project := projectNo(1)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.row(t, project, licenseNo(1))
	w.start(t, project)
	eventstest.Eventually(t, "the row says running", func() bool { return w.state(t, project) == "running" })
	if got := w.one(t, `SELECT count(*) FROM berth.seats WHERE project_id = $1`, project); got != "1" {
		t.Errorf("%s seats, want 1", got)
	}
	if err := w.bus.AskDelete(t.Context(), w.last(t, project), events.DeleteRequest{Stop: true}); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the row says opened, and the seat is free", func() bool {
		return w.state(t, project) == "opened" && w.one(t, `SELECT count(*) FROM berth.seats`) == "0"
	})
	if got := w.one(t, `SELECT wanted FROM berth.projects WHERE project_id = $1`, project); got != "false" {
		t.Errorf("wanted = %s after a stop", got)
	}
}

// TestChangesRestart: each change of what a project is computed from restarts it once, and only that.
func TestChangesRestart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change   string // With the project as $1 and a license as $2.
		restarts bool
	}{
		"the quota of its license":       {`UPDATE public.site_licenses SET quota = '{"cpu":2,"ram":3}' WHERE id = $2 AND $1 <> ''`, true},
		"a license is attached":          {`UPDATE public.projects SET site_license = site_license || jsonb_build_object('` + licenseNo(2) + `', '{}'::jsonb) WHERE project_id = $1::uuid AND $2 <> ''`, true},
		"its license is detached":        {`UPDATE public.projects SET site_license = site_license - $2 WHERE project_id = $1::uuid`, true},
		"its license is deleted":         {`DELETE FROM public.site_licenses WHERE id = $2::uuid AND $1 <> ''`, true},
		"its license expires":            {`UPDATE public.site_licenses SET expires = now() + interval '2 seconds' WHERE id = $2::uuid AND $1 <> ''`, true},
		"its settings":                   {`UPDATE public.projects SET settings = '{"memory":5000}' WHERE project_id = $1::uuid AND $2 <> ''`, true},
		"the upgrades of a user":         {`UPDATE public.projects SET users = '{"x":{"upgrades":{"cores":1}}}' WHERE project_id = $1::uuid AND $2 <> ''`, true},
		"the settings of the site":       {`INSERT INTO public.server_settings SELECT 'default_quotas', '{"mem":9000}' WHERE $1 <> $2`, true},
		"the title of its license":       {`UPDATE public.site_licenses SET title = 'new' WHERE id = $2::uuid AND $1 <> ''`, false},
		"a quota that comes to the same": {`UPDATE public.site_licenses SET quota = '{"cpu":1,"ram":2,"user":"academic"}' WHERE id = $2::uuid AND $1 <> ''`, false},
		"another license":                {`UPDATE public.site_licenses SET quota = '{"cpu":9}' WHERE id = '` + licenseNo(2) + `' AND $1 <> $2`, false},
		"another setting of the site":    {`INSERT INTO public.server_settings SELECT 'site_name', 'x' WHERE $1 <> $2`, false},
		"the users, without upgrades":    {`UPDATE public.projects SET users = '{"x":{"group":"owner"}}' WHERE project_id = $1::uuid AND $2 <> ''`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.licenser(t)
			w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
			w.license(t, licenseNo(2), `{"cpu":3,"ram":9}`)
			w.row(t, projectNo(1), licenseNo(1))
			w.row(t, projectNo(2)) // The probe: it is computed behind the other.
			w.start(t, projectNo(1), projectNo(2))
			eventstest.Eventually(t, "both are running", func() bool {
				return w.state(t, projectNo(1)) == "running" && w.state(t, projectNo(2)) == "running"
			})
			probe, before := w.last(t, projectNo(2)), w.last(t, projectNo(1))
			w.exec(t, strings.ReplaceAll(tt.change, "WHERE id = $2 AND", "WHERE id = $2::uuid AND"), projectNo(1), licenseNo(1))
			if tt.restarts {
				eventstest.Eventually(t, "it has another pod", func() bool {
					now := w.last(t, projectNo(1))
					return now.Generation != before.Generation && now.Event == events.Ready
				})
				if w.one(t, `SELECT digest = digest FROM berth.projects WHERE project_id = $1`, projectNo(1)) != "true" {
					t.Error("there is no digest")
				}
			}
			// A change that surely restarts, and is looked at later.
			w.exec(t, `UPDATE public.projects SET settings = '{"memory":12000}' WHERE project_id = $1`, projectNo(2))
			eventstest.Eventually(t, "the probe has another pod", func() bool {
				now := w.last(t, projectNo(2))
				return now.Generation != probe.Generation && now.Event == events.Ready
			})
			want := 1
			if tt.restarts {
				want++
			}
			// The settings of the site restart the probe, too, unless that waits to be restarted anyway.
			if got := w.restarts(); got != want && (got != want+1 || name != "the settings of the site") {
				t.Errorf("%d restarts, want %d", got, want)
			}
		})
	}
}

// TestOneKeeper: the work of a keeper whose connection is lost is taken up by another.
func TestOneKeeper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.licenser(t)
	const holders = `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database() AND l.objsubid = 1`
	holder := func() string {
		return w.one(t, strings.Replace(holders, "count(*)", "string_agg(l.pid::text, ',')", 1))
	}
	eventstest.Eventually(t, "one is the keeper", func() bool { return w.one(t, holders) == "1" })
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	for i := range 3 {
		first, generation := holder(), w.last(t, projectNo(1)).Generation
		w.exec(t, `SELECT pg_terminate_backend($1::int)`, first)
		w.exec(t, `UPDATE public.site_licenses SET quota = jsonb_build_object('cpu', 1, 'ram', $1::int)`, 5+i) // Nobody hears of it.
		eventstest.Eventually(t, "another connection has the lock, and the change is found", func() bool {
			now, entry := holder(), w.last(t, projectNo(1))
			return now != "" && now != first && entry.Generation != generation && entry.Event == events.Ready
		})
	}
	if got := w.restarts(); got != 3 {
		t.Errorf("%d restarts, want 3", got)
	}
}

// TestExpiry: a license that ends takes effect when it does, by a timer.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t, func(c *config.Projects) { c.CatchUpInterval = time.Hour })
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.license(t, licenseNo(2), `{"cpu":2,"ram":4}`)
	w.exec(t, `UPDATE public.site_licenses SET activates = now() + interval '1 day' WHERE id = $1`, licenseNo(2))
	w.row(t, projectNo(1), licenseNo(1))
	w.row(t, projectNo(2), licenseNo(2))
	w.start(t, projectNo(1), projectNo(2))
	w.exec(t, `UPDATE public.site_licenses SET expires = now() + interval '3 seconds' WHERE id = $1`, licenseNo(1))
	w.exec(t, `UPDATE public.site_licenses SET activates = now() + interval '3 seconds' WHERE id = $1`, licenseNo(2))
	for _, project := range []string{projectNo(1), projectNo(2)} {
		eventstest.Eventually(t, "it was restarted for "+project, func() bool {
			return w.one(t, `SELECT site_license -> $2 ->> 'status' FROM public.projects WHERE project_id = $1`, project,
				strings.Replace(project, "a", "b", 1)) == map[string]string{projectNo(1): "expired", projectNo(2): "active"}[project] && w.last(t, project).Event == events.Ready
		})
	}
	if got := w.restarts(); got != 2 {
		t.Errorf("%d restarts, want 2", got)
	}
}

// TestMoreSeats: when a license gets more seats, as many projects are restarted as get one.
func TestMoreSeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":2,"ram":4}`)
	w.exec(t, `UPDATE public.site_licenses SET run_limit = 1`)
	projects := make([]string, 8)
	for n := range projects {
		projects[n] = projectNo(n)
		w.row(t, projects[n], licenseNo(1))
	}
	w.start(t, projects...)
	with := func(status string) string {
		return w.one(t, `SELECT count(*) FROM public.projects WHERE site_license -> $1 ->> 'status' = $2`, licenseNo(1), status)
	}
	eventstest.Eventually(t, "one is active, the others are not", func() bool { return with("active") == "1" && with("exhausted") == "7" })
	w.exec(t, `UPDATE public.site_licenses SET run_limit = 4`)
	eventstest.Eventually(t, "four are active", func() bool { return with("active") == "4" && w.one(t, `SELECT count(*) FROM berth.seats`) == "4" })
	for _, project := range projects {
		w.until(t, project, events.Ready)
	}
	eventstest.Eventually(t, "all have been computed from the same", func() bool {
		return w.one(t, `SELECT count(DISTINCT digest) FROM berth.projects`) == "1"
	})
	if n := w.restarts(); n != 3 {
		t.Errorf("%d restarts, want 3", n)
	}
}

// TestLostLog: a project whose pod was found in the cluster, because the log had been lost, has its seats still.
func TestLostLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":2,"ram":4}`)
	w.row(t, projectNo(1), licenseNo(1))
	w.row(t, projectNo(2), licenseNo(1))
	w.start(t, projectNo(1), projectNo(2))
	eventstest.Eventually(t, "both are running", func() bool {
		return w.state(t, projectNo(1)) == "running" && w.state(t, projectNo(2)) == "running"
	})
	before := w.last(t, projectNo(1))
	eventstest.DeleteStream(t, w.server, events.LogStream)
	if err := w.bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	record := events.Record{Cluster: before.Cluster, Pod: before.Pod, User: before.User, Command: before.Command}
	found, err := w.append(t.Context(), before.Pod, events.Fact{Kind: events.FactAdopt, Record: record, Observed: events.Observed{UID: "uid"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.append(t.Context(), before.Pod, eventstest.Observe(found.Generation, eventstest.Ready("uid", "5"))); err != nil {
		t.Fatal(err)
	}
	// Both have had their seats for long.
	w.exec(t, `UPDATE berth.seats SET granted_at = now() - interval '1 hour'`)
	if got := w.one(t, `SELECT count(*) FROM berth.seats`); got != "2" {
		t.Errorf("%s seats while the log is not complete, want both", got)
	}
	eventstest.MarkComplete(t, w.bus)
	eventstest.Eventually(t, "the one that is not there has lost its seat", func() bool { return w.one(t, `SELECT count(*) FROM berth.seats`) == "1" })
	if got := w.one(t, `SELECT project_id || ' ' || generation FROM berth.seats`); got != projectNo(1)+" "+found.Generation {
		t.Errorf("the seat is %s's, want that of %s %s", got, projectNo(1), found.Generation)
	}
	eventstest.Eventually(t, "the rows say so", func() bool {
		return w.state(t, projectNo(1)) == "running" && w.state(t, projectNo(2)) == "opened"
	})
}
