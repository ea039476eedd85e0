package events

import "slices"

// Type is what happened to a pod. The last one in the log is its state.
type Type string

// The types, in the order of a pod's life.
const (
	// Claimed means that the name is taken for a command.
	Claimed Type = "claimed"
	// Licensed means that the licenses have been checked and applied.
	Licensed Type = "licensed"
	// Launching means that the creator is about to call Kubernetes; it fences
	// the launch against a delete.
	Launching Type = "launching"
	// Launched means that the pod and what belongs to it exist.
	Launched Type = "launched"
	// Waiting means that the pod does not run yet; the reason says why.
	Waiting Type = "waiting"
	// Running means that the containers run and the pod is not ready yet.
	Running Type = "running"
	// Ready is what a create waits for.
	Ready Type = "ready"
	// Unready means that the pod was ready and is not.
	Unready Type = "unready"
	// Ended means that the pod was ready and its containers have ended.
	Ended Type = "ended"
	// Failed means that the create failed; a delete follows.
	Failed Type = "failed"
	// Deleting means that the pod is being removed; there is no way back.
	Deleting Type = "deleting"
	// Gone means that nothing of this generation exists in Kubernetes any more.
	Gone Type = "gone"
)

// TypeInfo describes a type for people.
type TypeInfo struct {
	Type     Type
	Appended string // Which service appends it.
	Means    string // What it says about the pod.
}

// Types is the registry of all types, in the order of a pod's life. The
// reference in docs/events.md is made from it.
func Types() []TypeInfo {
	return []TypeInfo{
		{Claimed, "creator", "the name is taken for a command"},
		{Licensed, "licenser", "licenses have been checked and applied"},
		{Launching, "creator", "the creator is about to call Kubernetes"},
		{Launched, "creator, or the watcher for a pod that it found", "the pod and what belongs to it exist"},
		{Waiting, "watcher; creator while the launch waits for something, licenser while the licenses do", "the pod does not run yet; the reason says why"},
		{Running, "watcher", "the containers run, the pod is not ready yet"},
		{Ready, "watcher", "the pod can be used; what a create waits for"},
		{Unready, "watcher", "the pod was ready and is not"},
		{Ended, "watcher", "the pod was ready and its containers have ended"},
		{Failed, "whoever finds out", "the create failed; a delete follows"},
		{Deleting, "deleter, or the watcher for a delete from outside", "the pod is being removed; no way back"},
		{Gone, "deleter", "nothing of this generation exists in Kubernetes any more"},
	}
}

// Known says whether this version of Berth knows the type.
func (t Type) Known() bool {
	return slices.ContainsFunc(Types(), func(i TypeInfo) bool { return i.Type == t })
}

// Over says that the create failed or the pod is being removed or gone: nothing
// may be made for it any more.
func (t Type) Over() bool { return t == Failed || t == Deleting || t == Gone }

// Outcome says that a create has come to its end with this record: ready,
// failed or gone.
func (t Type) Outcome() bool { return t == Ready || t == Failed || t == Gone }
