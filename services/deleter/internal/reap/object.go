package reap

import (
	"slices"
	"time"

	"berth/pkg/events"
)

// The kinds of objects in a cluster that Berth removes besides pods. They are
// Kubernetes' own words, and those of [events.Object].
const (
	KindService = "Service"
	KindIngress = "Ingress"
	KindClaim   = "PersistentVolumeClaim"
	KindVolume  = "PersistentVolume"
)

// Object is an object in the cluster that belongs to a user's pod or storage. Of
// anything else there is no Object.
type Object struct {
	Kind, Name, UID string
	// User is whose it is; empty where the object does not say it, which services and
	// ingresses of the old backend do not.
	User string
	// Pod and Generation say which life of a pod a service or an ingress was made
	// for; Generation is empty for those of the old backend.
	Pod, Generation string
	Created         time.Time
	// Terminating means that somebody has asked for its deletion already.
	Terminating bool
	// Useless means that no pod can ever mount it again: a claim that has lost its
	// volume, or a volume whose claim was deleted.
	Useless bool
}

// Life returns the life of a pod that the object was made for.
func (o Object) Life() Life { return Life{Pod: o.Pod, Generation: o.Generation} }

// Belonging picks from the services and ingresses that have the names of a pod's
// those of one life of it: by the UIDs that the log has, or by the generation.
func Belonging(r events.Record, found []Object) []Object {
	return slices.DeleteFunc(slices.Clone(found), func(o Object) bool {
		known := slices.ContainsFunc(r.Objects, func(k events.Object) bool { return k.UID == o.UID && k.Kind == o.Kind })
		return !known && (o.Generation == "" || o.Generation != r.Generation)
	})
}

// Reported returns the services and ingresses of a pod as its record has them.
func Reported(r events.Record) []Object {
	objects := make([]Object, 0, len(r.Objects))
	for _, o := range r.Objects {
		objects = append(objects, Object{Kind: o.Kind, Name: o.Name, UID: o.UID, User: r.User, Pod: r.Pod, Generation: r.Generation})
	}
	return objects
}
