package natsbus

import (
	"iter"
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
)

// view is what a table knows of one life of the stream.
type view struct {
	// life grows whenever the table begins from nothing.
	life     uint64
	created  int64  // When the stream was made, in Unix nanoseconds; 0 for unknown.
	loaded   bool   // The snapshot is in.
	complete bool   // The log has been compared with the cluster.
	newest   uint64 // The reader has taken in everything up to this sequence.

	pods      map[string]Entry
	byUser    index
	byCommand index
	byAddress index
}

// index finds the names of pods by something else.
type index map[string]map[string]struct{}

func (x index) add(key, pod string) {
	if key == "" {
		return
	}
	if x[key] == nil {
		x[key] = map[string]struct{}{}
	}
	x[key][pod] = struct{}{}
}

func (x index) remove(key, pod string) {
	delete(x[key], pod)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

func newView(life uint64, created int64) view {
	return view{life: life, created: created, pods: map[string]Entry{}, byUser: index{}, byCommand: index{}, byAddress: index{}}
}

// entries returns the records of the named pods but those that are gone, by name.
func (v *view) entries(names iter.Seq[string]) []Entry {
	var out []Entry
	for name := range names {
		if e := v.pods[name]; e.Event != events.Gone {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Pod, b.Pod) })
	return out
}

// put returns false for a record that is not newer than the one it has.
func (v *view) put(e Entry) bool {
	old, had := v.pods[e.Pod]
	if had && old.Sequence >= e.Sequence {
		return false
	}
	if had {
		v.drop(old)
	}
	v.pods[e.Pod] = e
	v.byUser.add(e.User, e.Pod)
	v.byCommand.add(e.Command, e.Pod)
	for _, ip := range e.Observed.IPs {
		v.byAddress.add(ip, e.Pod)
	}
	return true
}

func (v *view) drop(e Entry) {
	delete(v.pods, e.Pod)
	v.byUser.remove(e.User, e.Pod)
	v.byCommand.remove(e.Command, e.Pod)
	for _, ip := range e.Observed.IPs {
		v.byAddress.remove(ip, e.Pod)
	}
}

// forgetGone drops the records of pods that have been gone for a while.
func (v *view) forgetGone(now time.Time) {
	for _, e := range v.pods {
		if e.Event == events.Gone && now.Sub(e.Time) > goneKept {
			v.drop(e)
		}
	}
}
