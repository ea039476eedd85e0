package natsbus_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// One fact appended by a writer that knows the record before it.
func BenchmarkAppendAfter(b *testing.B) {
	bus := eventstest.NewBus(b, eventstest.NewServer(b), "watcher")
	e := eventstest.Bring(b, bus, "p", "u", events.Launched)
	b.ResetTimer()
	for i := range b.N {
		o := eventstest.Pending("uid-p", "1")
		o.ResourceVersion, o.Message = strconv.Itoa(i+1), strconv.Itoa(i)
		var err error
		if e, _, err = bus.AppendAfter(b.Context(), e, "p", eventstest.Observe(e.Generation, o)); err != nil {
			b.Fatal(err)
		}
	}
}

// A pod's whole life: ten facts, the first by a writer that knows nothing.
func BenchmarkLife(b *testing.B) {
	for name, site := range map[string]eventstest.Site{"one server": eventstest.NewServer(b), "three servers": eventstest.NewServers(b)} {
		b.Run(name, func(b *testing.B) {
			bus := eventstest.NewBus(b, site, "creator")
			i := 0
			for b.Loop() {
				i++
				eventstest.Bring(b, bus, fmt.Sprintf("pod-%d-%s", i, natsbus.NewID()), "u", events.Gone)
			}
		})
	}
}

// A table reads 5,900 subjects, three of each pod.
func BenchmarkSnapshot(b *testing.B) {
	server := eventstest.NewServer(b)
	bus := eventstest.NewBus(b, server, "api")
	eventstest.MarkComplete(b, bus)
	const pods = 5900 / 3
	fill(b, rawJetStream(b, server), pods, events.Claimed, events.Launched, events.Ready)
	for b.Loop() {
		told := 0
		done := make(chan struct{})
		table := bus.NewTable(false, func(natsbus.Entry) {
			if told++; told == pods {
				close(done)
			}
		})
		stop := eventstest.Go(b, table.Run)
		eventstest.Receive(b, "the table is loaded", done)
		stop()
	}
}

// A command from its publisher to its handler.
func BenchmarkCommand(b *testing.B) {
	server := eventstest.NewServer(b)
	bus := eventstest.NewBus(b, server, "creator")
	done := make(chan struct{}, 1)
	consume(b, bus, natsbus.Stage{Handler: func(context.Context, natsbus.Delivery) error { done <- struct{}{}; return nil }})
	i := 0
	for b.Loop() {
		i++
		publish(b, bus, fmt.Sprint(i, natsbus.NewID()))
		eventstest.Receive(b, "the command is done", done)
	}
}
