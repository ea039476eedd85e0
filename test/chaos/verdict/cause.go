package verdict

import (
	"maps"
	"slices"

	"berth/pkg/events"
)

// causes: a pod that was made goes because its user asked, or its create failed.
// Nobody deletes pods in Kubernetes in a run, so that the log may not say so. That of a
// project goes for more reasons: see [trial.projectCause].
func (c *trial) causes() {
	for _, generation := range slices.Sorted(maps.Keys(c.lives)) {
		l := c.lives[generation]
		at := slices.IndexFunc(l.entries, func(e Entry) bool { return e.Record.Event == events.Deleting })
		if at < 0 || l.entries[at].Record.LaunchingAt.IsZero() {
			continue // It did not go, or there was nothing: a claim that was taken back.
		}
		deleting := l.entries[at]
		_, project := events.ProjectOf(l.user)
		switch {
		case at > 0 && l.entries[at-1].Record.Event == events.Failed:
			continue
		case project && c.projectCause(l, at), !project && c.wasAsked(l, deleting):
			continue
		}
		c.breach(GoneIsGone, l.pod, deleting.At, "%s (%s) was deleted, and nobody asked for it; reason in the log: %q",
			l.pod, generation, deleting.Record.Reason)
	}
}

// wasAsked says whether the user of a life asked for its end, whatever became of
// the request: it was under way at some time between the begin and the end.
func (c *trial) wasAsked(l *life, deleting Entry) bool {
	return slices.ContainsFunc(c.Exchanges, func(x Exchange) bool {
		return x.Endpoint == Delete && x.Pod == l.pod && x.User == l.user &&
			!x.Begun.After(deleting.At) && !x.Ended.Before(l.entries[0].At)
	})
}
