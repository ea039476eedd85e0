package events_test

import (
	"fmt"
	"os"
	"time"

	"berth/pkg/events"
)

func ExamplePodSubject() {
	fmt.Println(events.PodSubject("main", "jupyter-alice", "alice@dtu.dk", events.Ready))
	fmt.Println(events.PodSubject("main", "lab", "project:3f0c > *", events.Gone))
	// Output:
	// pods.main.jupyter-alice.alice@dtu%2Edk.ready
	// pods.main.lab.project%3A3f0c%20%3E%20%2A.gone
}

func ExampleNext() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	claim := events.Fact{Kind: events.FactClaim, At: now, Record: events.Record{
		Cluster: "main", Pod: "jupyter-alice", User: "alice@dtu.dk", Command: "c-1",
	}}
	record, changed, err := events.Next(events.Record{}, claim)
	fmt.Println(record.Event, changed, err)

	// The log gives the pod its generation, the place of its first record.
	record.Generation = events.At(now, 17).String()

	record, changed, err = events.Next(record, claim)
	fmt.Println(record.Event, changed, err)

	launch := events.Fact{Kind: events.FactLaunch, Generation: record.Generation, At: now}
	record, changed, err = events.Next(record, launch)
	fmt.Println(record.Event, changed, err)

	record, changed, err = events.Next(record, events.Fact{Kind: events.FactDelete, Generation: record.Generation, At: now})
	fmt.Println(record.Event, changed, err)

	record, changed, err = events.Next(record, launch)
	fmt.Println(record.Event, changed, err)
	// Output:
	// claimed true <nil>
	// claimed false <nil>
	// claimed false launch after claimed: the fact cannot follow the pod's state
	// deleting true <nil>
	// deleting false launch after deleting: the pod is on its way out
}

func ExampleParse() {
	message, err := os.ReadFile("testdata/events/ended.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := events.Parse(message)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.CloudEventType(), "from", e.Source)
	fmt.Println(e.Record.Pod, "of", e.Record.User, "has", e.Record.Event)
	fmt.Println(e.Record.Reason, "-", e.Record.Message)
	// Output:
	// berth.pod.ended.v1 from berth/watcher/watcher-0
	// jupyter-alice of alice@dtu.dk has ended
	// OOM_KILLED - container jupyter: OOMKilled, exit code 137
}
