package events_test

import (
	"os"
	"path/filepath"
	"testing"

	"berth/pkg/events"
)

func BenchmarkMarshal(b *testing.B) {
	e := wireEvents(b)["ready"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	wire, err := os.ReadFile(filepath.Join("testdata", "events", "ready.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		if _, err := events.Parse(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseCommand(b *testing.B) {
	wire, err := os.ReadFile(filepath.Join("testdata", "commands", "create.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		if _, err := events.ParseCommand(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	before, observed := states(b)["launched"], ready()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := events.Next(before, observed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPodSubject(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := events.ParsePodSubject(events.PodSubject(cluster, pod, user, events.Ready)); err != nil {
			b.Fatal(err)
		}
	}
}
