package verdict

import (
	"net/http"
	"slices"
	"time"

	"berth/pkg/events"
)

// blur is how exact times are: a message has the server's, an answer the
// client's, of one clock.
const blur = 20 * time.Millisecond

// states returns the records of a name that were the newest at some moment from
// one time to another; the zero record means that there was none yet.
func (c *trial) states(pod string, from, to time.Time) []events.Record {
	states := []events.Record{{}}
	for _, entry := range c.byPod[pod] {
		if entry.At.After(to.Add(blur)) {
			break
		}
		if !entry.At.After(from.Add(-blur)) {
			states = states[:0] // It was over before the time began.
		}
		states = append(states, *entry.Record)
	}
	return states
}

// ever says whether any state was so.
func ever(states []events.Record, so func(events.Record) bool) bool {
	return slices.ContainsFunc(states, so)
}

// answers: every request was answered in time, and the answer was true.
func (c *trial) answers() {
	for _, x := range c.Exchanges {
		if x.Abandoned {
			continue
		}
		limit := c.Limits.Request
		switch x.Endpoint {
		case WatchCreate:
			limit = c.Limits.WatchCreate
		case WatchDelete:
			limit = c.Limits.WatchDelete
		case HubStart, HubStop, HubRestart:
			limit = c.Limits.Hub
		case StartProject, RestartProject:
			if x.Ready { // The pod before has to go first.
				limit = c.Limits.WatchCreate + c.Limits.WatchDelete
			}
		}
		if took := x.Ended.Sub(x.Begun); x.Left || took > limit {
			c.breach(NobodyWaits, x.Pod, x.Begun, "%s of %s at %s took %s, more than %s",
				x.Endpoint, x.User, x.Replica, took.Round(time.Millisecond), limit)
		}
		switch x.Endpoint {
		case Create:
			c.created(x)
		case GetPods:
			c.listed(x)
		case WatchCreate:
			c.watchedCreate(x)
		case Delete:
			c.deleted(x)
		case WatchDelete:
			c.watchedDelete(x)
		case StartProject, RestartProject:
			c.started(x)
		}
	}
}

// created: a name is one that the command has claimed; where nothing was to be
// made, nothing was.
func (c *trial) created(x Exchange) {
	commands := c.commands[x.Trace]
	if len(commands) > 1 {
		c.breach(OnePod, x.Pod, x.Begun, "one request of %s became %d commands: %v", x.User, len(commands), commands)
	}
	var claim *life
	for _, l := range c.lives {
		for _, command := range commands {
			if l.command == command {
				claim = l
			}
		}
	}
	switch {
	case x.Status == http.StatusOK:
		if claim == nil || claim.pod != x.Pod || claim.entries[0].At.After(x.Ended.Add(blur)) {
			c.breach(NobodyWaits, x.Pod, x.Ended, "create_pod of %s named %s, which its command had not claimed", x.User, x.Pod)
		} else if claim.user != x.User {
			c.breach(NobodyElses, x.Pod, x.Ended, "create_pod of %s named a pod of %s", x.User, claim.user)
		}
	case x.Status == http.StatusServiceUnavailable && claim != nil:
		c.breach(OnePod, claim.pod, x.Ended, "create_pod of %s was answered 503 (%s: %s), and a pod was made", x.User, x.Code, x.Message)
	case x.Status >= http.StatusBadRequest && x.Status != http.StatusGatewayTimeout && claim != nil:
		over := ever(c.states(claim.pod, x.Ended, x.Ended), func(r events.Record) bool { return r.Generation != claim.generation || r.Event.Over() })
		if !over {
			c.breach(OnePod, claim.pod, x.Ended, "create_pod of %s was answered %d (%s), and the pod lived on", x.User, x.Status, x.Code)
		}
	}
}

// listed: nobody is shown what is another's, and everybody what is his.
func (c *trial) listed(x Exchange) {
	if x.Status != http.StatusOK {
		return
	}
	for _, p := range x.Pods {
		l := c.lives[p.Generation]
		if p.Owner != x.User || l != nil && l.user != x.User {
			c.breach(NobodyElses, p.Pod, x.Ended, "get_pods of %s shows a pod of %s", x.User, p.Owner)
		} else if l == nil || l.pod != p.Pod {
			c.breach(NobodyElses, p.Pod, x.Ended, "get_pods of %s shows generation %s, which the log does not know", x.User, p.Generation)
		}
	}
	for _, l := range c.byUser[x.User] {
		first, last := l.entries[0], l.entries[len(l.entries)-1]
		there := first.At.Before(x.Begun.Add(-c.Limits.Stale)) && (last.Record.Event != events.Gone || last.At.After(x.Ended))
		if there && !slices.ContainsFunc(x.Pods, func(p Listed) bool { return p.Generation == l.generation }) {
			c.breach(NobodyWaits, l.pod, x.Ended, "get_pods of %s at %s does not show %s", x.User, x.Replica, l.pod)
		}
	}
}

func (c *trial) watchedCreate(x Exchange) {
	if x.Status != http.StatusOK {
		return
	}
	states := c.states(x.Pod, x.Begun, x.Ended)
	own := func(r events.Record) bool { return r.Event != "" && r.User == x.User }
	ready := func(r events.Record) bool { return r.Event == events.Ready || r.Event == events.Unready }
	switch {
	case x.Yes && !ever(states, own):
		c.breach(NobodyElses, x.Pod, x.Ended, "watch_create_pod of %s, whose pod it is not, was answered true", x.User)
	case x.Yes && !ever(states, func(r events.Record) bool { return own(r) && ready(r) }):
		c.breach(NobodyWaits, x.Pod, x.Ended, "watch_create_pod of %s at %s was answered true, and the pod was not ready", x.User, x.Replica)
	case !x.Yes && !ever(states, func(r events.Record) bool { return !own(r) || r.Event.Over() || r.Event == events.Ended }):
		c.breach(NobodyWaits, x.Pod, x.Ended, "watch_create_pod of %s at %s was answered false, and the pod was neither failed nor removed", x.User, x.Replica)
	}
}

// away says that a user has no such pod.
func away(user string) func(events.Record) bool {
	return func(r events.Record) bool { return r.Event == "" || r.User != user || r.Event == events.Gone }
}

func (c *trial) deleted(x Exchange) {
	states := c.states(x.Pod, x.Begun, x.Ended)
	switch {
	case x.Status == http.StatusOK && x.Yes:
		if !ever(states, func(r events.Record) bool {
			return r.User == x.User && (r.Event == events.Deleting || r.Event == events.Gone)
		}) {
			c.breach(NobodyWaits, x.Pod, x.Ended, "delete_pod of %s at %s was answered true, and nobody was deleting the pod", x.User, x.Replica)
		}
	case x.Status == http.StatusNotFound:
		if !ever(states, away(x.User)) {
			c.breach(NobodyWaits, x.Pod, x.Ended, "delete_pod of %s at %s was answered 404, and the pod was there", x.User, x.Replica)
		}
	}
}

func (c *trial) watchedDelete(x Exchange) {
	if x.Status != http.StatusOK {
		return
	}
	states := c.states(x.Pod, x.Begun, x.Ended)
	// Where another generation came meanwhile, the one that was watched is gone.
	switch {
	case x.Yes && !ever(states, away(x.User)):
		c.breach(NobodyWaits, x.Pod, x.Ended, "watch_delete_pod of %s at %s was answered true, and the pod was not gone", x.User, x.Replica)
	case !x.Yes && x.Ended.Sub(x.Begun) < c.Limits.TimeoutDelete && !ever(states, func(r events.Record) bool {
		return r.Event != "" && r.User == x.User && !r.Event.Over()
	}):
		c.breach(NobodyWaits, x.Pod, x.Ended, "watch_delete_pod of %s at %s was answered false, and the pod was being deleted or gone", x.User, x.Replica)
	}
}
