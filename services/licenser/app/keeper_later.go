package app

import (
	"context"
	"time"

	"berth/services/licenser/internal/store"
)

// later are things that could not be done, by name: how often that was tried in vain, and when it is tried again. They hold up
// nothing else.
type later map[string]struct {
	failures int
	at       time.Time
}

// due says whether a thing may be tried.
func (l later) due(name string, now time.Time) bool { return !now.Before(l[name].at) }

// failed puts a thing off, for longer each time.
func (l later) failed(name string, now time.Time) {
	thing := l[name]
	thing.at = now.Add(min(repair<<min(thing.failures, 10), longRepair))
	thing.failures++
	l[name] = thing
}

// hinder puts off what could not be done about a pod, and tells why. It returns the error where everything else would have it, too.
func (k *keeper) hinder(ctx context.Context, pod string, err error) error {
	if err == nil {
		return nil
	}
	if err = k.putOff(ctx, pod, err); err != nil {
		return err
	}
	return k.settle(ctx) // The failure may have taken its time.
}

// putOff is hinder where no time has passed.
func (k *keeper) putOff(ctx context.Context, pod string, err error) error {
	if away(err) || ctx.Err() != nil {
		return err
	}
	line := k.log.Warn().Err(err).Str("pod_name", pod)
	if entry, _ := k.table.Pod(pod); entry.Event != "" {
		if project, ok := projectOf(entry.Record); ok {
			line = line.Str("project_id", project)
		}
	}
	line.Msg("What has become of a pod has to be noted later")
	k.late.failed(pod, time.Now())
	return nil
}

// retry has another look at what has been put off and whose time has come.
func (k *keeper) retry(now time.Time) {
	for project := range k.hindered {
		if k.hindered.due(project, now) {
			k.changes.put(store.Change{Project: project})
		}
	}
	for pod := range k.late {
		if k.late.due(pod, now) {
			k.records.put(pod)
		}
	}
}
