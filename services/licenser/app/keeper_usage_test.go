package app

import (
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestUsageWhileNobodyLooked: what a pod is billed ends with the pod, also where no licenser was there to see it: it was stopped, or is
// another one by now.
func TestUsageWhileNobodyLooked(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"stopped": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.licenser(t)
			project := projectNo(1)
			w.license(t, licenseNo(1), `{"cpu":1,"ram":2}`)
			w.row(t, project, licenseNo(1))
			w.start(t, project)
			before := w.last(t, project)
			if err := first.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := events.Gone
			if again {
				if err := w.bus.AskRestart(t.Context(), before, events.Restart{Command: "again", Cause: events.CauseAsked}); err != nil {
					t.Fatal(err)
				}
				ended = events.Claimed
			} else if err := w.bus.AskDelete(t.Context(), before, events.DeleteRequest{Stop: true}); err != nil {
				t.Fatal(err)
			}
			end := w.until(t, project, ended)
			away := time.Now().Add(2 * time.Second)
			eventstest.Eventually(t, "nobody has looked for a while", func() bool { return time.Now().After(away) })
			w.licenser(t)
			eventstest.Eventually(t, "the use has ended", func() bool {
				return w.one(t, `SELECT count(*) FROM berth.usage_log WHERE stop IS NOT NULL`) == "1"
			})
			if got := w.one(t, `SELECT stop <= $1::timestamptz + interval '1 millisecond' AND stop > start FROM berth.usage_log WHERE generation = $2`, end.Time, before.Generation); got != "true" {
				t.Errorf("it was over at %s, and the log of uses says %s", end.Time, w.one(t, `SELECT string_agg(stop::text, ', ') FROM berth.usage_log`))
			}
		})
	}
}
