package diff_test

import (
	"testing"

	"berth/pkg/events"
	"berth/services/watcher/internal/diff"
)

// What the watcher decides for each event of its watch.
func BenchmarkDecide(b *testing.B) {
	for name, tc := range map[string]struct {
		record events.Record
		look   diff.Look
	}{
		"nothing there":  {record(events.Gone), look(diff.Pod{})},
		"becomes ready":  {record(events.Launched), look(pod())},
		"has vanished":   {record(events.Deleting), look(diff.Pod{}, vanished(uid))},
		"nobody knows":   {events.Record{}, look(pod())},
		"is not Berth's": {events.Record{}, look(pod(func(p *diff.Pod) { p.Ours = false }))},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				diff.Decide(tc.record, tc.look)
			}
		})
	}
}
