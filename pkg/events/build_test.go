package events_test

import (
	"flag"
	"testing"
	"time"

	"berth/pkg/events"
)

// update writes the golden files instead of comparing with them.
func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files")
	flag.Uint64("seed", 0, "repeat the random tests of this seed")
	m.Run()
}

const (
	cluster    = "main"
	pod        = "jupyter-alice"
	user       = "alice@dtu.dk"
	command    = "0195e3a0-0000-7000-8000-000000000001"
	generation = "1767323045000000000-1"
	uid        = "5d0c9a6e-0001"
	project    = "09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11"
)

// at is some time of the tests, in seconds after their beginning.
func at(seconds int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5+seconds, 0, time.UTC)
}

func claim() events.Fact {
	return events.Fact{Kind: events.FactClaim, At: at(0), Record: events.Record{
		Cluster: cluster, Pod: pod, User: user, Command: command, Silo: "silo1",
		Manifest: "https://example.org/jupyter.yaml", Container: "jupyter", Image: "example.org/jupyter:1",
		Warnings: []string{"the label app is set by Berth"},
	}}
}

// fact is a fact about the pod of these tests.
func fact(kind events.Kind, change ...func(*events.Fact)) events.Fact {
	f := events.Fact{Kind: kind, Generation: generation, At: at(1)}
	for _, c := range change {
		c(&f)
	}
	return f
}

func observe(o events.Observed) events.Fact {
	o.UID = uid
	return fact(events.FactObserve, func(f *events.Fact) { f.Observed, f.PullBackOffLimit = o, 3 })
}

// Observations, in the order of their resource versions.
func pulling() events.Fact {
	return observe(events.Observed{ResourceVersion: "101", Phase: "Pending", Reason: events.Pulling, Message: "pulling example.org/jupyter:1", Progress: 2, Node: "node-1"})
}

func running() events.Fact {
	return observe(events.Observed{ResourceVersion: "102", Phase: "Running", Reason: events.NotReady, Progress: 3, Node: "node-1"})
}

func ready() events.Fact {
	return observe(events.Observed{
		ResourceVersion: "103", Phase: "Running", Ready: true, Progress: 4, Node: "node-1", NodeIP: "192.0.2.1",
		IPs: []string{"10.0.0.7", "fd00::7"}, StartTime: at(2),
	})
}

func unready() events.Fact {
	return observe(events.Observed{ResourceVersion: "104", Phase: "Running", Reason: events.NotReady, Progress: 3, Node: "node-1"})
}

func ended() events.Fact {
	return observe(events.Observed{ResourceVersion: "105", Phase: "Failed", Ended: true, Reason: events.OOMKilled, Message: "container jupyter: OOMKilled, exit code 137", Progress: 4})
}

func hopeless() events.Fact {
	return observe(events.Observed{ResourceVersion: "106", Phase: "Pending", Hopeless: true, Reason: events.ImagePull, Message: "invalid image name"})
}

func terminating() events.Fact {
	return observe(events.Observed{ResourceVersion: "107", Phase: "Running", Terminating: true})
}

func license() events.Fact {
	return fact(events.FactLicense, func(f *events.Fact) {
		f.Licenses = []events.License{{ID: "9f1c", Status: "ACTIVE"}, {ID: "77aa", Status: "EXPIRED", Reason: "valid until 2025-12-31"}}
	})
}

func launch() events.Fact { return fact(events.FactLaunch) }

func wait() events.Fact {
	return fact(events.FactWait, func(f *events.Fact) { f.Reason, f.Message = events.StoragePending, "the claim is not bound yet" })
}

func launched() events.Fact {
	return fact(events.FactLaunched, func(f *events.Fact) { f.UID = uid })
}

func fail() events.Fact {
	return fact(events.FactFail, func(f *events.Fact) { f.Reason, f.Message = events.Timeout, "not ready after 90s; last: PULLING" })
}

func remove() events.Fact { return fact(events.FactDelete) }

func gone() events.Fact { return fact(events.FactGone) }

// after returns the record after facts that all change it. Where a claim gets
// its generation from the log, it gets the one of these tests.
func after(tb testing.TB, facts ...events.Fact) events.Record {
	tb.Helper()
	var r events.Record
	for i, f := range facts {
		next, changed, err := events.Next(r, f)
		if err != nil || !changed {
			tb.Fatalf("fact %d, %s after %q: changed %t, error %v", i, f.Kind, r.Event, changed, err)
		}
		if next.Generation == "" {
			next.Generation = generation
		}
		r = next
	}
	return r
}

// withTokens is a launch of a pod that everything belongs to which there is.
func withTokens() events.Fact {
	return fact(events.FactLaunch, func(f *events.Fact) {
		f.Storage, f.TokenKeys = "user-storage-alice-dtu-dk", []string{"jupyter.token", "late"}
	})
}

// finish is the end of the copying of tokens, one of which never appeared.
func finish() events.Fact {
	return fact(events.FactFinish, func(f *events.Fact) { f.At, f.Warnings = at(4), []string{"token late did not appear"} })
}
