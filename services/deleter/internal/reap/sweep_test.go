package reap_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/events"
	"berth/services/deleter/internal/reap"
)

const (
	alice, bob = "alice@example.org", "bob@example.org"
	claim      = "user-storage-alice-example-org"
	hashed     = claim + "-abc"
)

// old is long before the sweeps of these tests.
func old() time.Time { return claimed().Add(-time.Hour) }

func service(change ...func(*reap.Object)) reap.Object {
	return made(reap.Object{Kind: reap.KindService, Name: "p-http", UID: "uid-s", User: alice, Pod: "p", Generation: "1-7"}, change)
}

func stored(kind string, change ...func(*reap.Object)) reap.Object {
	return made(reap.Object{Kind: kind, Name: claim, UID: "uid-" + kind, User: alice}, change)
}

func made(o reap.Object, change []func(*reap.Object)) reap.Object {
	o.Created = old()
	for _, f := range change {
		f(&o)
	}
	return o
}

func terminating(o *reap.Object) { o.Terminating = true }
func useless(o *reap.Object)     { o.Useless = true }
func young(o *reap.Object)       { o.Created = claimed().Add(-59 * time.Second) }
func unsaid(o *reap.Object)      { o.Generation, o.User = "", "" }
func named(name string) func(*reap.Object) {
	return func(o *reap.Object) { o.Name = name }
}

func used(uses ...events.Use) events.Storage {
	return events.Storage{State: events.StorageUsed, User: alice, Claim: claim, Uses: uses, At: old()}
}

func removing(remover events.Use) events.Storage {
	return events.Storage{State: events.StorageRemoving, User: alice, Claim: claim, Remover: remover, At: old()}
}

func use(pod, generation string) events.Use {
	return events.Use{Pod: pod, Generation: generation, Command: "c"}
}

func inLog(event events.Type, generation string) map[string]events.Record {
	return map[string]events.Record{"p": {Event: event, Pod: "p", Generation: generation, User: alice}}
}

func left(kind, name, why string) events.Leftover {
	return events.Leftover{Kind: kind, Name: name, Why: why}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	nothing := reap.Plan{}
	both := []reap.Object{stored(reap.KindClaim), stored(reap.KindVolume)}
	foundBoth := func(why string) []events.Leftover {
		return []events.Leftover{left(reap.KindVolume, claim, why), left(reap.KindClaim, claim, why)}
	}
	removes := reap.Plan{Objects: []reap.Object{service()}, Found: []events.Leftover{left("Service", "p-http", "its pod is gone")}}
	pod := reap.Pod{Name: "p", Generation: "1-7"}
	mounting := reap.Pod{Name: "other", Claims: []string{claim}}
	tests := map[string]struct {
		scene   reap.Scene
		records map[string]events.Record
		want    reap.Plan
	}{
		"nothing": {reap.Scene{}, nil, nothing},

		"a service with its pod":              {reap.Scene{Objects: []reap.Object{service()}, Pods: []reap.Pod{pod}}, nil, nothing},
		"a service of a pod that is gone":     {reap.Scene{Objects: []reap.Object{service()}}, inLog(events.Gone, "1-7"), removes},
		"a service of a pod never heard of":   {reap.Scene{Objects: []reap.Object{service()}}, nil, removes},
		"a service of a pod under way":        {reap.Scene{Objects: []reap.Object{service()}}, inLog(events.Launching, "1-7"), nothing},
		"a service of a pod being deleted":    {reap.Scene{Objects: []reap.Object{service()}}, inLog(events.Deleting, "1-7"), nothing},
		"a service of an earlier life":        {reap.Scene{Objects: []reap.Object{service()}}, inLog(events.Claimed, "1-9"), removes},
		"of an earlier life, with a new pod":  {reap.Scene{Objects: []reap.Object{service()}, Pods: []reap.Pod{{Name: "p", Generation: "1-9"}}}, inLog(events.Ready, "1-9"), removes},
		"a service of an old pod":             {reap.Scene{Objects: []reap.Object{service(unsaid)}, Pods: []reap.Pod{{Name: "p"}}}, nil, nothing},
		"a service of an old pod being ended": {reap.Scene{Objects: []reap.Object{service(unsaid)}}, inLog(events.Deleting, "1-9"), nothing},
		"a young service":                     {reap.Scene{Objects: []reap.Object{service(young)}}, nil, nothing},
		"a service that is going": {
			reap.Scene{Objects: []reap.Object{service(terminating)}},
			nil,
			reap.Plan{Pending: 1, Found: []events.Leftover{left("Service", "p-http", "its pod is gone; it is being removed")}},
		},

		"storage that a pod uses": {
			reap.Scene{Objects: both, Pods: []reap.Pod{pod}, Storages: []events.Storage{used(use("p", "1-7"))}}, nil, nothing,
		},
		"storage of a pod under way": {
			reap.Scene{Objects: both, Storages: []events.Storage{used(use("p", "1-7"))}}, inLog(events.Launching, "1-7"), nothing,
		},
		"storage whose last pod is gone": {
			reap.Scene{Objects: both, Storages: []events.Storage{used(use("p", "1-7"))}},
			inLog(events.Gone, "1-7"),
			reap.Plan{
				Storage: []reap.StoragePlan{{User: alice, Release: []events.Use{use("p", "1-7")}}},
				Found:   append(foundBoth("no pod uses it"), left("StorageUse", "p", "its pod is gone and counts as a user of "+claim)),
			},
		},
		"storage one of whose pods is gone": {
			reap.Scene{Objects: both, Pods: []reap.Pod{{Name: "q", Generation: "1-8", Claims: []string{claim}}}, Storages: []events.Storage{used(use("p", "1-7"), use("q", "1-8"))}},
			inLog(events.Gone, "1-7"),
			reap.Plan{
				Storage: []reap.StoragePlan{{User: alice, Release: []events.Use{use("p", "1-7")}}},
				Found:   []events.Leftover{left("StorageUse", "p", "its pod is gone and counts as a user of "+claim)},
			},
		},
		"storage whose last pod is gone, mounted by another": {
			reap.Scene{Objects: both, Pods: []reap.Pod{mounting}, Storages: []events.Storage{used(use("p", "1-7"))}}, inLog(events.Gone, "1-7"), nothing,
		},
		"storage that nobody uses": {
			reap.Scene{Objects: both, Storages: []events.Storage{used()}},
			nil,
			reap.Plan{Storage: []reap.StoragePlan{{User: alice, Release: nil, Reclaim: claim}}, Found: foundBoth("no pod uses it")},
		},
		"storage that was changed a moment ago": {
			reap.Scene{Objects: both, Storages: []events.Storage{{State: events.StorageUsed, User: alice, Claim: claim, At: claimed()}}}, nil, nothing,
		},
		"a removal under way": {
			reap.Scene{Objects: both, Storages: []events.Storage{removing(use("p", "1-7"))}}, inLog(events.Deleting, "1-7"), nothing,
		},
		"a removal under way, of the user": {
			reap.Scene{Objects: both, Storages: []events.Storage{removing(use("p", "1-7"))}, User: alice}, inLog(events.Deleting, "1-7"), reap.Plan{Pending: 1},
		},
		"a removal that nobody carries out": {
			reap.Scene{Objects: both, Storages: []events.Storage{removing(use("p", "1-7"))}},
			inLog(events.Gone, "1-7"),
			reap.Plan{Storage: []reap.StoragePlan{{User: alice, Carry: true}}, Found: foundBoth("nobody goes on with its removal")},
		},
		"a sweep's removal": {
			reap.Scene{Storages: []events.Storage{removing(events.Use{})}},
			nil,
			reap.Plan{Storage: []reap.StoragePlan{{User: alice, Carry: true}}},
		},
		"a removal under a pod": {reap.Scene{Objects: both, Pods: []reap.Pod{mounting}, Storages: []events.Storage{removing(events.Use{})}}, nil, nothing},
		"storage that the log does not know": {
			reap.Scene{Objects: both}, nil, reap.Plan{Storage: []reap.StoragePlan{{User: alice, Reclaim: claim}}, Found: foundBoth("no pod uses it")},
		},
		"a volume whose claim is gone": {
			reap.Scene{Objects: both[1:], Storages: []events.Storage{{State: events.StorageAbsent, User: alice}}},
			nil,
			reap.Plan{Storage: []reap.StoragePlan{{User: alice, Reclaim: claim}}, Found: foundBoth("no pod uses it")[:1]},
		},
		"storage that the log does not know, mounted":        {reap.Scene{Objects: both, Pods: []reap.Pod{mounting}}, nil, nothing},
		"storage that the log does not know, a young volume": {reap.Scene{Objects: []reap.Object{both[0], stored(reap.KindVolume, young)}}, nil, nothing},
		"another claim of a user while one is used": {
			reap.Scene{Objects: []reap.Object{stored(reap.KindClaim, named(hashed))}, Pods: []reap.Pod{pod}, Storages: []events.Storage{used(use("p", "1-7"))}},
			nil,
			reap.Plan{Objects: []reap.Object{stored(reap.KindClaim, named(hashed))}, Found: []events.Leftover{left("PersistentVolumeClaim", hashed, "the user's storage is "+claim)}},
		},
		"another claim of a user that a pod mounts": {
			reap.Scene{Objects: []reap.Object{stored(reap.KindClaim, named(hashed))}, Pods: []reap.Pod{pod, {Name: "x", Claims: []string{hashed}}}, Storages: []events.Storage{used(use("p", "1-7"))}}, nil, nothing,
		},
		"a volume that cannot be bound again, in the way of a new one": {
			reap.Scene{Objects: []reap.Object{stored(reap.KindVolume, useless)}, Pods: []reap.Pod{pod}, Storages: []events.Storage{used(use("p", "1-7"))}},
			nil,
			reap.Plan{Objects: []reap.Object{stored(reap.KindVolume, useless)}, Found: []events.Leftover{left("PersistentVolume", claim, "no pod can mount it again, and a new one cannot be made beside it")}},
		},
		"a volume that cannot be bound again, under a pod": {
			reap.Scene{Objects: []reap.Object{stored(reap.KindVolume, useless)}, Pods: []reap.Pod{pod, mounting}, Storages: []events.Storage{used(use("p", "1-7"))}}, nil, nothing,
		},
		"two claims of a user that nobody uses, one after other": {
			reap.Scene{Objects: []reap.Object{stored(reap.KindClaim, named(hashed)), both[0]}},
			nil,
			reap.Plan{Storage: []reap.StoragePlan{{User: alice, Reclaim: claim}}, Found: []events.Leftover{left(reap.KindClaim, claim, "no pod uses it"), left(reap.KindClaim, hashed, "no pod uses it")}, Pending: 1},
		},

		"tokens of a pod":                {reap.Scene{Tokens: []reap.Life{{Pod: "p", Generation: "1-7"}}, Pods: []reap.Pod{pod}}, nil, nothing},
		"tokens of a pod being deleted":  {reap.Scene{Tokens: []reap.Life{{Pod: "p", Generation: "1-7"}}}, inLog(events.Deleting, "1-7"), nothing},
		"tokens of a pod that is gone":   {reap.Scene{Tokens: []reap.Life{{Pod: "p", Generation: "1-7"}}}, inLog(events.Gone, "1-7"), reap.Plan{Tokens: []reap.Life{{Pod: "p", Generation: "1-7"}}, Found: []events.Leftover{left("Token", "p", "its pod is gone")}}},
		"a user, and another's service":  {reap.Scene{Objects: []reap.Object{service()}, User: bob}, nil, nothing},
		"a user, and another's claim":    {reap.Scene{Objects: both, User: bob}, nil, nothing},
		"a user, and another's tokens":   {reap.Scene{Tokens: []reap.Life{{Pod: "p", Generation: "1-7"}}, User: bob, Names: map[string]bool{"q": true}}, nil, nothing},
		"a user, and an old service":     {reap.Scene{Objects: []reap.Object{service(unsaid)}, User: alice, Names: map[string]bool{"p": true}}, nil, reap.Plan{Objects: []reap.Object{service(unsaid)}, Found: removes.Found}},
		"a user, and somebody's service": {reap.Scene{Objects: []reap.Object{service(unsaid)}, User: alice}, nil, nothing},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.scene.At, tt.scene.MinAge = claimed(), time.Minute
			if d := cmp.Diff(tt.want, reap.Sweep(tt.scene, tt.records), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("Sweep (-want +got):\n%s", d)
			}
			for pod := range tt.records {
				suspects := reap.Suspects(tt.scene)
				if there := len(tt.scene.Pods) > 0; !there && !cmp.Equal([]string{pod}, suspects) {
					t.Errorf("Suspects = %v, want %s, of which the sweep has to know", suspects, pod)
				}
			}
		})
	}
}

func TestBelonging(t *testing.T) {
	t.Parallel()
	r := events.Record{Pod: "p", User: alice, Generation: "1-7", Objects: []events.Object{{Kind: "Service", Name: "p-ssh", UID: "uid-old"}}}
	mine, adopted := service(), service(unsaid, func(o *reap.Object) { o.UID, o.Name = "uid-old", "p-ssh" })
	found := []reap.Object{
		mine, adopted,
		service(func(o *reap.Object) { o.Generation = "1-9" }),
		service(unsaid),
		{Kind: reap.KindIngress, Name: "p-ingress", UID: "uid-old"},
	}
	if d := cmp.Diff([]reap.Object{mine, adopted}, reap.Belonging(r, found)); d != "" {
		t.Errorf("Belonging (-want +got):\n%s", d)
	}
	want := []reap.Object{{Kind: "Service", Name: "p-ssh", UID: "uid-old", User: alice, Pod: "p", Generation: "1-7"}}
	if d := cmp.Diff(want, reap.Reported(r)); d != "" {
		t.Errorf("Reported (-want +got):\n%s", d)
	}
}

func TestDoomed(t *testing.T) {
	t.Parallel()
	before := record(events.Ready, func(r *events.Record) { r.Pod = "before" })
	adopted := events.Record{Event: events.Launched, Pod: "adopted", LaunchedAt: claimed()}
	later := record(events.Claimed, func(r *events.Record) { r.Pod, r.ClaimedAt = "later", claimed().Add(time.Minute) })
	records := []events.Record{before, record(events.Gone), later, adopted}
	got := reap.Doomed(records, claimed().Add(time.Second))
	if d := cmp.Diff([]events.Record{before, adopted}, got, cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
		t.Errorf("Doomed (-want +got):\n%s", d)
	}
}
