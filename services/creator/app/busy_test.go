package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/manifest"
)

// TestCreateInACrowd: a host that hangs, asked for many manifests by many creates,
// keeps nothing from a create whose manifest another host has.
func TestCreateInACrowd(t *testing.T) {
	t.Parallel()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
	t.Cleanup(healthy.Close)
	fetcher, err := manifest.New(manifest.Options{Allow: `http://127\.0\.0\.1:\d+/.*`, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fetcher.Close)
	b := newBench(t)
	b.creator.manifests = fetcher
	const creates = 200
	for i := range creates + 1 {
		d := command(fmt.Sprintf("c%d", i), func(d *natsbus.Delivery) {
			// Half of them share an address.
			d.Create.ManifestURL = fmt.Sprintf("%s/a.yaml?x=%d", hanging.URL, i%(creates/2))
			if i == creates {
				d.Create.ManifestURL = healthy.URL + "/a.yaml"
			}
		})
		if err := b.bus.Publish(t.Context(), d.Command, "1"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.bus.Consume(ctx, natsbus.Stage{
			Stage: events.StageCreate, Handler: b.create, Fail: b.failCreate, Concurrency: createPlaces,
			AckWait: 2 * time.Minute, // The end of an attempt is not to make the place.
		})
	}()
	last := fmt.Sprintf("c%d", creates)
	eventstest.Eventually(t, "the create from the healthy host is accepted", func() bool { return b.outcome(t, last)[0] == string(events.Accepted) })
	for _, id := range []string{"c0", "c1", fmt.Sprintf("c%d", creates-1)} {
		if got := b.outcome(t, id); got[0] != "" {
			t.Errorf("outcome of %s = %v; its manifest is still waited for", id, got)
		}
	}
	stop()
	fetcher.Close()
	if err := eventstest.Receive(t, "the end of the stage", done); err != nil {
		t.Error(err)
	}
}
