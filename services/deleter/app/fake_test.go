package app

import (
	"context"
	"slices"
	"sync"

	"berth/services/deleter/internal/reap"
)

// fakeObjects is a cluster that holds services, ingresses, claims and volumes.
type fakeObjects struct {
	mu      sync.Mutex
	objects []reap.Object
	// keeps are the kinds that a finalizer keeps until settle is called.
	keeps map[string]bool
	pods  []reap.Pod
	// fault, if set, is asked before each call.
	fault func(call string) error
	// removing, if set, is told of each object for whose removal somebody asks.
	removing func(o reap.Object)
	calls    []string
}

func newFakeObjects(objects ...reap.Object) *fakeObjects {
	return &fakeObjects{objects: objects, keeps: map[string]bool{}}
}

// begin notes a call; f.mu is held.
func (f *fakeObjects) begin(call string) error {
	f.calls = append(f.calls, call)
	if f.fault != nil {
		return f.fault(call)
	}
	return nil
}

func (f *fakeObjects) Belonging(_ context.Context, pod string) ([]reap.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pick(func(o reap.Object) bool { return o.Pod == pod }), f.begin("look for what belongs to " + pod)
}

func (f *fakeObjects) Storage(_ context.Context, user, name string) ([]reap.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pick(func(o reap.Object) bool { return o.Pod == "" && o.Name == name && o.User == user }), f.begin("look for " + name)
}

func (f *fakeObjects) All(context.Context) ([]reap.Object, []reap.Pod, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pick(func(reap.Object) bool { return true }), slices.Clone(f.pods), f.begin("list")
}

func (f *fakeObjects) Remove(_ context.Context, o reap.Object) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("remove " + o.Kind + " " + o.UID); err != nil {
		return false, err
	}
	i := slices.IndexFunc(f.objects, func(x reap.Object) bool { return x.UID == o.UID && x.Kind == o.Kind })
	if i < 0 {
		return true, nil
	}
	if f.removing != nil {
		f.removing(f.objects[i])
	}
	if f.keeps[o.Kind] {
		f.objects[i].Terminating = true
		return false, nil
	}
	f.objects = slices.Delete(f.objects, i, i+1)
	return true, nil
}

// settle lets go what is terminating.
func (f *fakeObjects) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects = slices.DeleteFunc(f.objects, func(o reap.Object) bool { return o.Terminating })
}

// pick returns the objects of a kind; f.mu is held.
func (f *fakeObjects) pick(is func(reap.Object) bool) []reap.Object {
	var picked []reap.Object
	for _, o := range f.objects {
		if is(o) {
			picked = append(picked, o)
		}
	}
	return picked
}

// uids are the UIDs of what is there.
func (f *fakeObjects) uids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var uids []string
	for _, o := range f.objects {
		uids = append(uids, o.UID)
	}
	return uids
}

// asked returns the calls since it was asked last, sorted: what is done side by side
// has no order.
func (f *fakeObjects) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := slices.Sorted(slices.Values(f.calls))
	f.calls = nil
	return calls
}
