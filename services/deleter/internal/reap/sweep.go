package reap

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"berth/pkg/events"
)

// Life is one life of a pod's name. An object of the old backend does not say which
// life it is of: its generation is empty.
type Life struct{ Pod, Generation string }

// Pod is a pod in the cluster, whoever's.
type Pod struct {
	Name string
	// Generation is empty for pods that Berth did not make.
	Generation string
	// Claims are the names of the claims that it mounts.
	Claims []string
}

// Scene is what a sweep has seen. The objects must have been listed before the
// pods, and the pods before the records were read: whatever belongs to a pod is made
// after the pod is in the log, and services and ingresses after the pod is in the
// cluster. A list that could not be made must not be there as an empty one.
type Scene struct {
	// Objects are all services, ingresses, claims and volumes that Berth may touch.
	Objects []Object
	Pods    []Pod
	// Storages are the storage records of all users.
	Storages []events.Storage
	// Tokens are the lives of pods whose tokens are kept.
	Tokens []Life
	// At is the time of the sweep. What is younger than MinAge is left alone.
	At     time.Time
	MinAge time.Duration
	// User, if not empty, is the only one whose things are looked at; Names are then the
	// names of all pods that the log knows as this user's.
	User  string
	Names map[string]bool
}

// StoragePlan is what to do about one user's storage, in this order. Each step is a
// change of the storage record, which refuses it when a pod has come meanwhile.
type StoragePlan struct {
	User string
	// Release are the uses of pods that are no more.
	Release []events.Use
	// Reclaim is the name of a claim that no pod uses and nobody removes; empty for
	// none.
	Reclaim string
	// Carry says that a removal has been begun that nobody carries out.
	Carry bool
}

// Plan is what a sweep removes.
type Plan struct {
	// Objects are services and ingresses.
	Objects []Object
	Storage []StoragePlan
	Tokens  []Life
	// Pending counts what is being removed already.
	Pending int
	// Found says it for people, sorted; it has what is pending, too.
	Found []events.Leftover
}

// Suspects returns the names of the pods whose newest record has to be known before
// [Sweep] can decide, sorted: those that are not in the cluster.
func Suspects(s Scene) []string {
	names, there := map[string]bool{}, newPresence(s.Pods)
	ask := func(l Life) {
		if l.Pod != "" && !there.has(l) {
			names[l.Pod] = true
		}
	}
	for _, o := range s.Objects {
		if o.Kind == KindService || o.Kind == KindIngress {
			ask(o.Life())
		}
	}
	for _, r := range s.Storages {
		for _, u := range r.Uses {
			ask(lifeOf(u))
		}
		ask(lifeOf(r.Remover))
	}
	for _, l := range s.Tokens {
		ask(l)
	}
	return slices.Sorted(maps.Keys(names))
}

// Sweep decides what no pod needs any more. records are the newest records of the
// [Suspects], by name, from the leader of a log that is complete; the zero record
// stands for none.
func Sweep(s Scene, records map[string]events.Record) Plan {
	w := sweep{Scene: s, records: records, there: newPresence(s.Pods)}
	for _, o := range s.Objects {
		if o.Kind == KindService || o.Kind == KindIngress {
			w.belonging(o)
		}
	}
	for _, user := range w.users() {
		w.storage(user)
	}
	for _, l := range s.Tokens {
		if w.mine("", l.Pod) && w.over(l) {
			w.plan.Tokens = append(w.plan.Tokens, l)
			w.found("Token", l.Pod, "its pod is gone")
		}
	}
	slices.SortFunc(w.plan.Found, func(a, b events.Leftover) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return w.plan
}

type sweep struct {
	Scene

	records map[string]events.Record
	there   presence
	plan    Plan
}

func (w *sweep) found(kind, name, why string) {
	w.plan.Found = append(w.plan.Found, events.Leftover{Kind: kind, Name: name, Why: why})
}

// belonging judges a service or an ingress.
func (w *sweep) belonging(o Object) {
	if !w.mine(o.User, o.Pod) || w.young(o.Created) || !w.over(o.Life()) {
		return
	}
	if o.Terminating {
		w.plan.Pending++
		w.found(o.Kind, o.Name, "its pod is gone; it is being removed")
		return
	}
	w.plan.Objects = append(w.plan.Objects, o)
	w.found(o.Kind, o.Name, "its pod is gone")
}

// users are those who have claims, volumes or a storage record.
func (w *sweep) users() []string {
	users := map[string]bool{}
	for _, o := range w.Objects {
		if (o.Kind == KindClaim || o.Kind == KindVolume) && w.mine(o.User, "") {
			users[o.User] = true
		}
	}
	for _, r := range w.Storages {
		if w.mine(r.User, "") {
			users[r.User] = true
		}
	}
	return slices.Sorted(maps.Keys(users))
}

// storage judges the claim and the volume of one user. The log's record of who uses
// them is the fence, so that is what is changed before anything is deleted.
func (w *sweep) storage(user string) {
	var record events.Storage
	if i := slices.IndexFunc(w.Storages, func(r events.Storage) bool { return r.User == user }); i >= 0 {
		record = w.Storages[i]
	}
	switch record.State {
	case events.StorageUsed:
		w.used(record)
	case events.StorageRemoving:
		w.removing(record)
	default:
		w.unknown(user)
	}
}

// used judges a storage that pods are said to use.
func (w *sweep) used(r events.Storage) {
	w.strays(r.User, r.Claim)
	over := slices.DeleteFunc(slices.Clone(r.Uses), func(u events.Use) bool { return !w.over(lifeOf(u)) })
	last := len(over) == len(r.Uses)
	if w.young(r.At) || last && w.there.mounted[r.Claim] || len(over) == 0 && !last {
		return
	}
	plan := StoragePlan{User: r.User, Release: over}
	for _, u := range over {
		w.found("StorageUse", u.Pod, "its pod is gone and counts as a user of "+r.Claim)
	}
	if len(r.Uses) == 0 {
		plan.Reclaim = r.Claim
	}
	if last {
		w.objectsOf(r.User, r.Claim, "no pod uses it")
	}
	w.plan.Storage = append(w.plan.Storage, plan)
}

// strays judges what a user has besides the claim that the log says is used: other
// names, which no creator takes, and of that name what cannot be used any more and is
// in the way of a new one.
func (w *sweep) strays(user, claim string) {
	for _, o := range w.Objects {
		if o.User != user || o.Kind != KindClaim && o.Kind != KindVolume || w.young(o.Created) || w.there.mounted[o.Name] || o.Terminating {
			continue
		}
		why := "the user's storage is " + claim
		if o.Name == claim {
			if !o.Useless {
				continue
			}
			why = "no pod can mount it again, and a new one cannot be made beside it"
		}
		w.plan.Objects = append(w.plan.Objects, o)
		w.found(o.Kind, o.Name, why)
	}
}

// removing judges a storage whose removal has begun. Where the pod is alive in the
// log whose delete carries it out, that is left to it.
func (w *sweep) removing(r events.Storage) {
	for _, o := range w.Objects {
		// What has another name comes when this is done.
		if o.Kind == KindClaim && o.User == r.User && o.Name != r.Claim && !w.young(o.Created) && !w.there.mounted[o.Name] {
			w.plan.Pending++
			w.found(o.Kind, o.Name, "no pod uses it")
		}
	}
	alive := !r.Remover.IsZero() && !w.over(lifeOf(r.Remover))
	if alive || w.there.mounted[r.Claim] {
		if w.User != "" {
			w.plan.Pending++ // Whoever wants everything of a user gone waits for it.
		}
		return
	}
	w.plan.Storage = append(w.plan.Storage, StoragePlan{User: r.User, Carry: true})
	w.objectsOf(r.User, r.Claim, "nobody goes on with its removal")
}

// unknown judges the claims and volumes of a user of whose storage the log says
// nothing, or that there is none.
func (w *sweep) unknown(user string) {
	names := map[string]bool{}
	for _, o := range w.Objects {
		if o.User == user && (o.Kind == KindClaim || o.Kind == KindVolume) {
			names[o.Name] = names[o.Name] || w.young(o.Created)
		}
	}
	// One at a time: a record has room for one name. The others come next.
	begun := false
	for _, name := range slices.Sorted(maps.Keys(names)) {
		switch {
		case names[name] || w.there.mounted[name]:
			continue
		case begun:
			w.plan.Pending++
		default:
			w.plan.Storage = append(w.plan.Storage, StoragePlan{User: user, Reclaim: name})
			begun = true
		}
		w.objectsOf(user, name, "no pod uses it")
	}
}

// objectsOf reports the claim and the volume of a user under a name.
func (w *sweep) objectsOf(user, name, why string) {
	for _, o := range w.Objects {
		if o.User == user && o.Name == name && (o.Kind == KindClaim || o.Kind == KindVolume) {
			w.found(o.Kind, o.Name, why)
		}
	}
}

// mine says whether something of a user, or of a pod's where the user is not known,
// is to be looked at.
func (w *sweep) mine(user, pod string) bool {
	return w.User == "" || user == w.User || user == "" && w.Names[pod]
}

func (w *sweep) young(since time.Time) bool { return w.At.Sub(since) < w.MinAge }

// over says whether a life is over: no pod of it is in the cluster, and the log does
// not know it as one that is under way.
func (w *sweep) over(l Life) bool {
	if w.there.has(l) {
		return false
	}
	r := w.records[l.Pod]
	return r.Event == "" || r.Event == events.Gone || l.Generation != "" && r.Generation != l.Generation
}

// presence is which pods are in the cluster.
type presence struct {
	generations map[string][]string // By name.
	mounted     map[string]bool     // The claims that pods mount, whoever's.
}

func newPresence(pods []Pod) presence {
	p := presence{generations: make(map[string][]string, len(pods)), mounted: map[string]bool{}}
	for _, pod := range pods {
		p.generations[pod.Name] = append(p.generations[pod.Name], pod.Generation)
		for _, claim := range pod.Claims {
			p.mounted[claim] = true
		}
	}
	return p
}

// has says whether the pod of a life is in the cluster. Where one of the two does not
// say which life it is, the name decides.
func (p presence) has(l Life) bool {
	return slices.ContainsFunc(p.generations[l.Pod], func(generation string) bool {
		return generation == l.Generation || generation == "" || l.Generation == ""
	})
}

func lifeOf(u events.Use) Life { return Life{Pod: u.Pod, Generation: u.Generation} }

// Doomed picks from the newest records of a user's pods those that a removal of the
// whole user is about: they are not gone yet, and were there when it was asked for.
// Without that a user who creates as fast as we remove would keep it up for ever.
func Doomed(records []events.Record, asked time.Time) []events.Record {
	return slices.DeleteFunc(slices.Clone(records), func(r events.Record) bool {
		begun := r.ClaimedAt
		if begun.IsZero() {
			begun = r.LaunchedAt // An adopted pod was never claimed.
		}
		return r.Event == events.Gone || begun.After(asked)
	})
}
