package eventstest

import (
	"encoding/json"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// Time is when everything in the builders happens.
func Time() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// Record is a record after an event, with what every record has. It can be
// changed.
func Record(event events.Type, change ...func(*events.Record)) events.Record {
	r := events.Record{
		Event: event, Cluster: Cluster, Pod: "jupyter-alice", User: "alice@dtu.dk", Generation: "1767323045000000000-1",
		Command: "018fb3e0-0000-7000-8000-000000000001", Silo: "silo1", Manifest: "https://example.org/jupyter.yaml",
		Container: "jupyter", Image: "example.org/jupyter:1", ClaimedAt: Time(),
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

// Claim is the claim of a pod's name for a user by a command.
func Claim(pod, user, command string) events.Fact {
	return events.Fact{Kind: events.FactClaim, At: Time(), Record: events.Record{
		Cluster: Cluster, Pod: pod, User: user, Command: command, Silo: "silo1",
		Manifest: "https://example.org/jupyter.yaml", Container: "jupyter", Image: "example.org/jupyter:1",
	}}
}

// License is the licenser's decision that no license is needed.
func License(generation string) events.Fact {
	return events.Fact{Kind: events.FactLicense, Generation: generation, At: Time(), Licenses: []events.License{}}
}

// Launch is the creator's intention to make the pod.
func Launch(generation string) events.Fact {
	return events.Fact{Kind: events.FactLaunch, Generation: generation, At: Time()}
}

// Launched is the creator's success.
func Launched(generation, uid string) events.Fact {
	return events.Fact{Kind: events.FactLaunched, Generation: generation, At: Time(), UID: uid}
}

// Observe is what the cluster says.
func Observe(generation string, observed events.Observed) events.Fact {
	return events.Fact{Kind: events.FactObserve, Generation: generation, At: Time(), Observed: observed}
}

// Fail is the failure of a create.
func Fail(generation string, reason events.Reason, message string) events.Fact {
	return events.Fact{Kind: events.FactFail, Generation: generation, At: Time(), Reason: reason, Message: message}
}

// Delete is a user's delete.
func Delete(generation string) events.Fact {
	return events.Fact{Kind: events.FactDelete, Generation: generation, At: Time()}
}

// Gone is the end of a delete.
func Gone(generation string) events.Fact {
	return events.Fact{Kind: events.FactGone, Generation: generation, At: Time()}
}

// Pending is a pod whose image is being pulled.
func Pending(uid, resourceVersion string) events.Observed {
	return events.Observed{UID: uid, ResourceVersion: resourceVersion, Phase: "Pending", Reason: events.Pulling, Progress: 2, Node: "node-1"}
}

// Running is a pod whose containers run and are not ready yet.
func Running(uid, resourceVersion string) events.Observed {
	o := Ready(uid, resourceVersion)
	o.Ready, o.Progress = false, 3
	return o
}

// Ready is a pod that can be used.
func Ready(uid, resourceVersion string) events.Observed {
	return events.Observed{
		UID: uid, ResourceVersion: resourceVersion, Phase: "Running", Ready: true, Progress: 4,
		Node: "node-1", NodeIP: "192.0.2.1", IPs: []string{"10.0.0.1"}, StartTime: Time(),
	}
}

// Ended is a pod whose containers have ended by themselves.
func Ended(uid, resourceVersion string) events.Observed {
	return events.Observed{UID: uid, ResourceVersion: resourceVersion, Phase: "Succeeded", Ended: true, Reason: events.Completed, Progress: 4}
}

// Life is what happens to a pod from its claim to its end, in order. The facts
// after the claim are of one generation and one UID.
func Life(pod, user, command, generation, uid string) []events.Fact {
	return []events.Fact{
		Claim(pod, user, command),
		License(generation),
		Launch(generation),
		Launched(generation, uid),
		Observe(generation, Pending(uid, "101")),
		Observe(generation, Running(uid, "102")),
		Observe(generation, Ready(uid, "103")),
		Observe(generation, Ended(uid, "104")),
		Delete(generation),
		Gone(generation),
	}
}

// Bring takes a pod that does not exist through its life up to an event, and
// returns its last entry.
func Bring(tb testing.TB, bus *natsbus.Bus, pod, user string, last events.Type) natsbus.Entry {
	tb.Helper()
	var entry natsbus.Entry
	for _, fact := range Life(pod, user, "cmd-"+pod, "", "uid-"+pod) {
		fact.Record.Cluster = bus.Cluster()
		fact.Generation = entry.Generation
		var err error
		if entry, _, err = bus.AppendAfter(tb.Context(), entry, pod, fact); err != nil {
			tb.Fatalf("append %s to %s: %v", fact.Kind, pod, err)
		}
		if entry.Event == last {
			return entry
		}
	}
	tb.Fatalf("no pod comes to %q on the straight way", last)
	return entry
}

// CreateCommand asks for a pod.
func CreateCommand(id, user string) events.Command {
	return events.Command{
		Stage: events.StageCreate, ID: id, Cluster: Cluster, User: user,
		Create: &events.CreateRequest{
			ManifestURL: "https://example.org/jupyter.yaml",
			Settings:    map[string]map[string]string{"jupyter": {"WORKDIR": "work"}},
			Silo:        events.Silo{Name: "silo1", DataAddress: "10.2.0.1", HostName: "silo1.example.org"},
			Deadline:    Time().Add(30 * time.Second),
		},
	}
}

// LicenseCommand asks for the licenses of a pod.
func LicenseCommand(id, user, pod, generation string) events.Command {
	return events.Command{
		Stage: events.StageLicense, ID: id, Cluster: Cluster, User: user, Pod: pod, Generation: generation,
		Rendered: json.RawMessage(`{"apiVersion":"v1","kind":"Pod"}`),
	}
}

// LaunchCommand asks for the objects of a pod.
func LaunchCommand(id, user, pod, generation string) events.Command {
	c := LicenseCommand(id, user, pod, generation)
	c.Stage = events.StageLaunch
	return c
}

// DeleteCommand asks for the end of a pod.
func DeleteCommand(id, user, pod, generation string) events.Command {
	return events.Command{
		Stage: events.StageDelete, ID: id, Cluster: Cluster, User: user, Pod: pod, Generation: generation,
		Delete: &events.DeleteRequest{},
	}
}
