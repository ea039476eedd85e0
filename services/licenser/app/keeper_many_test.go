package app

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// TestManyShareALicense: 500 projects share a license that is edited while the licensers die one after the other: each is
// restarted once, at the site's pace, and none is forgotten. An edit that changes nothing restarts none.
func TestManyShareALicense(t *testing.T) {
	t.Parallel()
	const (
		many, others = 500, 20
		perSecond    = 50
	)
	w := newWorld(t)
	pace := func(c *config.Projects) { c.RestartsPerSecond = perSecond }
	dying := w.licenser(t, pace)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.license(t, licenseNo(2), `{"cpu":1,"ram":2}`)
	generations := map[string]string{}
	projects := make([]string, 0, many+others)
	for n := range many + others {
		project := projectNo(n)
		projects = append(projects, project)
		license := licenseNo(1)
		if n >= many {
			license = licenseNo(2)
		}
		w.row(t, project, license)
		if err := w.bus.AskStart(t.Context(), "start-"+strconv.Itoa(n), events.ProjectRequest{ID: project}); err != nil {
			t.Fatal(err)
		}
	}
	for _, project := range projects {
		generations[project] = w.until(t, project, events.Ready).Generation
	}

	w.license(t, licenseNo(1), `{"cpu":1,"ram":2,"user":"business"}`) // Comes to the same.
	// The computing takes a while; when all have been computed from it, none is outdated.
	reaches(t, "computed again", many, func() int {
		n, err := strconv.Atoi(w.one(t, `SELECT count(*) FROM public.projects p JOIN berth.projects b USING (project_id)
			WHERE p.site_license -> $1 -> 'quota' ->> 'user' = 'business'`, licenseNo(1)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	})
	if n := w.restarts(); n != 0 {
		t.Fatalf("%d restarts by an edit that changes nothing", n)
	}

	edited := time.Now()
	w.license(t, licenseNo(1), `{"cpu":2,"ram":4}`)
	for _, enough := range []int{60, 150, 300} {
		reaches(t, "restarted", enough, w.restarts)
		if err := dying.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		dying = w.licenser(t, pace)
	}
	reaches(t, "restarted", many, w.restarts)
	for n, project := range projects {
		entry := w.until(t, project, events.Ready)
		if restarted := entry.Generation != generations[project]; restarted != (n < many) {
			t.Errorf("project %d: restarted = %t", n, restarted)
		}
	}
	for n, project := range projects {
		want := 1
		if n < many {
			want = 2
		}
		if lives := w.pods(project); lives != want {
			t.Errorf("project %d has had %d pods, want %d", n, lives, want)
		}
	}
	if got := w.one(t, `SELECT count(*) FROM berth.seats`); got != strconv.Itoa(many+others) {
		t.Errorf("%s seats, want one for each", got)
	}
	w.paced(t, edited, perSecond)
}

// reaches waits until a count has come to what it should, for as long as it comes on: on a busy machine all of it takes long.
func reaches(t *testing.T, what string, want int, count func() int) {
	t.Helper()
	for now := count(); now < want; {
		before, looked := now, time.Now()
		eventstest.Eventually(t, strconv.Itoa(want)+" are "+what+", after "+strconv.Itoa(before), func() bool {
			if time.Since(looked) < 100*time.Millisecond {
				return false // To count takes its time, too.
			}
			now, looked = count(), time.Now()
			return now >= min(before+10, want)
		})
	}
}

// TestLostTimers: timers that are lost with their stream are set again.
func TestLostTimers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.licenser(t)
	w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
	w.exec(t, `UPDATE public.site_licenses SET expires = now() + interval '1 day'`)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	armed := func() bool {
		subjects := eventstest.QueueSubjects(t, w.server)
		return slices.Contains(subjects, events.TimerSubject(eventstest.Cluster, "license-"+licenseNo(1), events.TimerExpires)) &&
			slices.Contains(subjects, events.TimerSubject(eventstest.Cluster, "project-"+projectNo(1), events.TimerIdle))
	}
	eventstest.Eventually(t, "the timers are set", armed)
	eventstest.DeleteStream(t, w.server, events.CommandStream)
	if err := w.bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "they are set again", armed)
}
