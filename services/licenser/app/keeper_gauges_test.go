package app

import (
	"strings"
	"testing"

	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// gauge is the value of a metric of a licenser, of all its labels together.
func gauge(t *testing.T, a *App, name string) (value float64) {
	t.Helper()
	families, err := a.Health.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			value += metric.GetGauge().GetValue()
		}
	}
	return value
}

// TestUnreadableSettings: a setting of the site that counts as nothing because it cannot be read is told, until it is mended.
func TestUnreadableSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `INSERT INTO public.server_settings VALUES ('default_quotas', '{"mem":'), ('max_upgrades', '{"memory":16000}'), ('other', '{')`)
	a := w.licenser(t)
	const name = "berth_site_setting_unreadable"
	eventstest.Eventually(t, "one cannot be read", func() bool { return gauge(t, a, name) == 1 })
	w.exec(t, `UPDATE public.server_settings SET value = ']' WHERE name = 'max_upgrades'`)
	eventstest.Eventually(t, "two cannot be read", func() bool { return gauge(t, a, name) == 2 })
	w.exec(t, `DELETE FROM public.server_settings`)
	eventstest.Eventually(t, "all is well", func() bool { return gauge(t, a, name) == 0 })
}

// TestGivenUpIsCounted: a project that is given up is in a metric, until somebody starts it again.
func TestGivenUpIsCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.licenser(t, func(c *config.Projects) { c.AlwaysRunningFailures = 1 })
	w.license(t, licenseNo(1), always)
	w.row(t, projectNo(1), licenseNo(1))
	w.start(t, projectNo(1))
	w.end(t, projectNo(1))
	eventstest.Eventually(t, "it is given up", func() bool {
		return strings.HasPrefix(w.one(t, `SELECT error FROM berth.projects`), "GAVE_UP: ")
	})
	eventstest.Eventually(t, "it is counted", func() bool { return gauge(t, a, "berth_projects_given_up") == 1 })
	w.ask(t, projectNo(1), `{"action":"start"}`)
	eventstest.Eventually(t, "it is counted no more", func() bool { return gauge(t, a, "berth_projects_given_up") == 0 })
}
