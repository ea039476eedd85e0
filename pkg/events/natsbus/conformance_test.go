package natsbus_test

import (
	"testing"

	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestConformanceOneServer(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	eventstest.Conformance(t, connectTo(server), eventstest.Rounds{Claims: 60, Outcomes: 1000})
}

func TestConformanceThreeServers(t *testing.T) {
	t.Parallel()
	servers := eventstest.NewServers(t)
	eventstest.Conformance(t, connectTo(servers), eventstest.Rounds{Claims: 40, Outcomes: 100})
}

func connectTo(site eventstest.Site) eventstest.Connect {
	return func(tb testing.TB, cluster, service string) *natsbus.Bus {
		tb.Helper()
		return eventstest.NewBus(tb, site, service, eventstest.InCluster(cluster))
	}
}
