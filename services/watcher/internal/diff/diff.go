// Package diff decides what a look at the cluster means for the log: it holds a
// pod, or its absence, against the pod's newest record. It is pure. Here is
// found why a pod is said to wait, to have failed, or to be deleted; the reasons
// themselves come from package kube, what follows from them from events.Next.
package diff

import (
	"time"

	"berth/pkg/events"
	"berth/pkg/kube"
)

// Pod is what the cluster shows under a name. The zero Pod means nothing.
type Pod struct {
	kube.State
	// User, Command, Generation and Silo are what the pod's annotations say.
	User, Command, Generation, Silo string
	// Ours is false for pods that Berth must not touch.
	Ours bool
	// Storage is the claim of its user's storage that the pod mounts, TokenKeys what is
	// copied out of it, SSHUser whom to log in as. They are what an adoption needs.
	Storage   string
	TokenKeys []string
	SSHUser   string
	Created   time.Time
}

// Look is one look at a name.
type Look struct {
	// Name is the pod's name.
	Name string
	// Pod is what is there now.
	Pod Pod
	// Vanished is the UID of the newest pod of this name that was seen to go;
	// empty for none.
	Vanished string
	// Missing says that it is certain that no pod of this name was there at a time
	// when the record was already Launched.
	Missing bool
	// Belongings are the services and the ingress of the pod; only an adoption asks.
	Belongings Belongings
	// Complete says that this look is part of a comparison of the whole cluster
	// with the log: what was left undone by a crash is asked for again.
	Complete bool
	// Cluster is the cluster's name in the log.
	Cluster string
	// At is the time of the look.
	At time.Time
	// PullBackOffLimit is the how-manieth back-off of a pull fails a create.
	PullBackOffLimit int
}

// Action is what has to be done. Where Fact is set it is appended first; the
// delete is asked for when the fact made the pod Failed or Deleting, and always
// when Delete is set.
type Action struct {
	// Later asks for another look after this time; nothing else is set then.
	Later  time.Duration
	Fact   *events.Fact
	Delete *events.DeleteRequest
	// Generation is whose delete is asked for.
	Generation string
}

// Decide holds a look against the newest record of the name; the zero record
// stands for none.
func Decide(record events.Record, look Look) Action {
	switch {
	case look.Pod.UID == "":
		return absent(record, look)
	case !look.Pod.Ours:
		return Action{}
	case record.Event == "":
		return adopt(look)
	case record.Event == events.Gone:
		return afterGone(record, look)
	case record.Generation != look.Pod.Generation && look.Pod.Generation != "":
		return stray(look, look.Pod.Generation) // Its life is over; the name has another one.
	case record.Observed.UID != "" && record.Observed.UID != look.Pod.UID:
		return replaced(record, look)
	case record.Event.Over():
		return leaving(record, look)
	default:
		observed := Observed(look.Pod.State)
		if wait := patience - look.At.Sub(record.LaunchedAt); wait > 0 && starting(record, observed) {
			return Action{Later: wait}
		}
		fact := events.Fact{
			Kind: events.FactObserve, Generation: record.Generation, At: look.At,
			Observed: observed, PullBackOffLimit: look.PullBackOffLimit,
		}
		return Action{Fact: &fact, Generation: record.Generation}
	}
}

// patience is how long a launched pod may be starting before the log says so.
// Most are ready by then, and the steps in between are no news to anybody.
const patience = 500 * time.Millisecond

// starting says that a pod is on its usual way to being ready for the first time.
func starting(record events.Record, o events.Observed) bool {
	return record.Event == events.Launched && o.Reason == events.Starting &&
		!o.Ready && !o.Ended && !o.Hopeless && !o.Terminating
}

// absent decides for a name under which the cluster shows nothing.
func absent(record events.Record, look Look) Action {
	switch {
	case record.Event == "" || record.Event == events.Gone:
		return Action{}
	case record.Event.Over():
		if look.Vanished != "" && (look.Vanished == record.Observed.UID || record.Observed.UID == "") {
			return Action{Generation: record.Generation, Delete: &events.DeleteRequest{Vanished: look.Vanished}}
		}
		if look.Missing {
			return Action{Generation: record.Generation, Delete: &events.DeleteRequest{Vanished: record.Observed.UID}}
		}
		return leaving(record, look)
	case record.LaunchedAt.IsZero():
		return Action{} // Not made yet.
	case look.Vanished == record.Observed.UID && look.Vanished != "":
		return outside(record, look, look.Vanished)
	case look.Missing:
		return outside(record, look, "")
	}
	return Action{}
}

// replaced decides for a pod that carries the record's generation or none, but
// is another object than the one that was launched: that one is no more.
func replaced(record events.Record, look Look) Action {
	if record.Event.Over() {
		return Action{Generation: record.Generation, Delete: &events.DeleteRequest{Vanished: record.Observed.UID}}
	}
	return outside(record, look, record.Observed.UID)
}

// outside says that somebody else than Berth deleted the pod.
func outside(record events.Record, look Look, uid string) Action {
	fact := events.Fact{
		Kind: events.FactDelete, Generation: record.Generation, At: look.At,
		Reason: events.DeletedOutside, Message: "the pod was deleted in Kubernetes",
	}
	return Action{Fact: &fact, Generation: record.Generation, Delete: &events.DeleteRequest{Vanished: uid}}
}

// leaving decides for a pod that is failed or being deleted: whoever is at it
// goes on, and a comparison asks again, in case nobody is.
func leaving(record events.Record, look Look) Action {
	if !look.Complete {
		return Action{}
	}
	return Action{Generation: record.Generation, Delete: &events.DeleteRequest{}}
}

// afterGone decides for a pod under a name that the log knows as gone. Its own
// pod must not come back; another one is taken in.
func afterGone(record events.Record, look Look) Action {
	own := record.Observed.UID == look.Pod.UID || record.Generation == look.Pod.Generation ||
		record.Command != "" && record.Command == look.Pod.Command
	if own {
		return stray(look, record.Generation)
	}
	return adopt(look)
}

// stray asks for the removal of an object whose life is over.
func stray(look Look, generation string) Action {
	if look.Pod.Deleting {
		return Action{}
	}
	return Action{Generation: generation, Delete: &events.DeleteRequest{Found: look.Pod.UID}}
}

// Stray is what to do with a pod that Decide wanted to adopt, when its command
// turns out to have had its life already.
func Stray(look Look) Action { return stray(look, look.Pod.Generation) }

// adopt takes in a pod that the log does not know: the log was lost, or the pod
// was made by the backend that was here before.
func adopt(look Look) Action {
	fact := events.Fact{
		Kind: events.FactAdopt, At: look.At, Observed: Observed(look.Pod.State),
		Record: events.Record{
			Cluster: look.Cluster, Pod: look.Name, User: look.Pod.User, Generation: look.Pod.Generation, Command: look.Pod.Command,
			Silo: look.Pod.Silo, Container: look.Pod.ContainerName, Image: look.Pod.ContainerImage,
			Storage: look.Pod.Storage, TokenKeys: look.Pod.TokenKeys,
			Objects: look.Belongings.Objects, HTTP: look.Belongings.HTTP, SSHPort: look.Belongings.SSHPort,
		},
	}
	if look.Belongings.SSHPort != 0 {
		fact.Record.SSHUser = look.Pod.SSHUser
	}
	// No create is under way for a pod that has been ready or has ended: it must not
	// fail, nor go, because its log was lost or another backend made it.
	established := look.Pod.WasReady || look.Pod.Ended
	if established {
		fact.Record.ReadyAt = look.At
	}
	// Its users have had it, so it does not become unready because its tokens are to be
	// read again.
	if (look.Pod.Ready || established) && len(look.Pod.TokenKeys) > 0 {
		fact.Record.TokensAt = look.At
	}
	return Action{Fact: &fact}
}

// Observed translates what package kube saw into the words of the log.
func Observed(s kube.State) events.Observed {
	o := events.Observed{
		UID: s.UID, ResourceVersion: s.ResourceVersion, Phase: s.Phase,
		Ready: s.Ready, Ended: s.Ended, Hopeless: s.Hopeless, Terminating: s.Deleting,
		Reason: events.Reason(s.Waiting.Reason), Message: s.Waiting.Message,
		BackOff: s.BackOff, Progress: s.Progress, Restarts: s.Restarts,
		Node: s.NodeName, NodeIP: s.HostIP, IPs: s.IPs, HostNetwork: s.HostNetwork, StartTime: s.StartTime,
	}
	if s.Ended {
		o.Reason, o.Message = events.Reason(s.End.Reason), s.End.Message
	}
	return o
}
