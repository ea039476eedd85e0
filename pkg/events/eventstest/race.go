package eventstest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// race calls f for each of n writers at once and waits for all.
func race(n int, f func(i int)) {
	gate := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-gate
			f(i)
		})
	}
	close(gate)
	running.Wait()
}

const writers = 8

func raceClaims(t *testing.T, connect func(string) *natsbus.Bus, rounds int) {
	buses := make([]*natsbus.Bus, writers)
	for i := range buses {
		buses[i] = connect("creator-" + strconv.Itoa(i))
	}
	const pod = "contended"
	for round := range rounds {
		entries, won, errs := make([]natsbus.Entry, writers), make([]bool, writers), make([]error, writers)
		race(writers, func(i int) {
			f := Claim(pod, fmt.Sprintf("user-%d", i), fmt.Sprintf("cmd-%d-%d", round, i))
			f.Record.Cluster = buses[i].Cluster()
			entries[i], won[i], errs[i] = buses[i].Append(t.Context(), pod, f)
		})
		winner := slices.Index(won, true)
		if winner < 0 || slices.Contains(won[winner+1:], true) {
			t.Fatalf("round %d: winners %v, errors %v, want one", round, won, errs)
		}
		for i := range writers {
			if i != winner && !errors.Is(errs[i], events.ErrTaken) || i == winner && errs[i] != nil {
				t.Fatalf("round %d: writer %d has error %v", round, i, errs[i])
			}
			if entries[i].EventID != entries[winner].EventID || entries[i].Generation != entries[winner].Generation {
				t.Fatalf("round %d: writer %d was told of %+v, the winner of %+v", round, i, entries[i], entries[winner])
			}
		}
		end(t, buses[winner], entries[winner])
	}
}

// end deletes a pod and says that it is gone.
func end(t *testing.T, bus *natsbus.Bus, e natsbus.Entry) {
	t.Helper()
	for _, f := range []events.Fact{Delete(e.Generation), Gone(e.Generation)} {
		next, changed, err := bus.AppendAfter(t.Context(), e, e.Pod, f)
		if err != nil || !changed {
			t.Fatalf("%s: changed %t, error %v", f.Kind, changed, err)
		}
		e = next
	}
}

// raceFacts lets writers append all facts of a life, each in its order, until
// none is left. Every event stands in the log once.
func raceFacts(t *testing.T, connect func(string) *natsbus.Bus) {
	const pod = "busy"
	race(writers, func(i int) {
		bus := connect("creator-" + strconv.Itoa(i))
		generation := ""
		for _, f := range Life(pod, "alice@dtu.dk", "cmd", "", "uid") {
			f.Generation, f.Record.Cluster = generation, bus.Cluster()
			e, _, err := bus.Append(t.Context(), pod, f)
			if err != nil && !errors.Is(err, events.ErrOver) {
				t.Errorf("append %s: %v", f.Kind, err)
				return
			}
			generation = e.Generation
		}
	})
	all, err := connect("api").History(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	var got []events.Type
	for _, e := range all {
		got = append(got, e.Event)
	}
	want := []events.Type{
		events.Claimed, events.Licensed, events.Launching, events.Launched, events.Waiting, events.Running,
		events.Ready, events.Ended, events.Deleting, events.Gone,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func raceOutcomes(t *testing.T, connect func(string) *natsbus.Bus, rounds int) {
	api, creator := connect("api"), connect("creator")
	won := map[events.Verdict]int{}
	for round := range rounds {
		id := "cmd-" + strconv.Itoa(round)
		proposed := []events.Outcome{
			{Verdict: events.Expiry, Command: id, Reason: events.Expired},
			{Verdict: events.Accepted, Command: id, User: "alice@dtu.dk", Pod: "jupyter-alice"},
		}
		held, errs := make([]events.Outcome, 2), make([]error, 2)
		race(2, func(i int) { held[i], errs[i] = []*natsbus.Bus{api, creator}[i].Decide(t.Context(), proposed[i]) })
		if held[0] != held[1] || (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), events.ErrDecided) {
			t.Fatalf("round %d: the api holds %v, error %v; the creator %v, error %v", round, held[0], errs[0], held[1], errs[1])
		}
		if o, err := api.Outcome(t.Context(), id); err != nil || o != held[0] {
			t.Fatalf("round %d: the log has %v, error %v, want %v", round, o, err, held[0])
		}
		won[held[0].Verdict]++
	}
	t.Logf("of %d commands %d were accepted and %d expired", rounds, won[events.Accepted], won[events.Expiry])
}
