package verdict

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
)

const active = "active"

// seats: a license has a seat for each pod that is active on it by the log, and none for another one.
func (c *trial) seats(b account) {
	held := map[Seat]bool{}
	for _, s := range b.Seats {
		if s.Kept {
			c.kept(b, s)
			continue
		}
		held[s] = true
	}
	for _, r := range b.newest {
		if r.Event == events.Gone {
			continue
		}
		for _, l := range r.Licenses {
			s := Seat{License: l.ID, Pod: r.Pod, Generation: r.Generation}
			if l.Status == active && !held[s] {
				c.breach(TrueBooks, r.Pod, b.At, "license %s is active on generation %s, which has no seat", l.ID, r.Generation)
			}
			if l.Status == active {
				delete(held, s)
			}
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(held), compareSeats) {
		c.breach(TrueBooks, s.Pod, b.At, "generation %s has a seat of license %s, which is not active on it", s.Generation, s.License)
	}
}

// kept: a seat is only kept where another pod follows.
func (c *trial) kept(b account, s Seat) {
	for _, r := range b.newest {
		if r.Pod == s.Pod && r.Event == events.Gone && r.Restart != nil && !c.never(r.Restart.Command) {
			return
		}
	}
	c.breach(TrueBooks, s.Pod, b.At, "a seat of license %s is kept for generation %s, which nothing follows", s.License, s.Generation)
}

func compareSeats(a, b Seat) int {
	return cmp.Or(strings.Compare(a.Pod, b.Pod), strings.Compare(a.License, b.License), strings.Compare(a.Generation, b.Generation))
}

// uses: a license is in use by whoever has a seat of it, and by nobody else.
func (c *trial) uses(b account) {
	open := map[Seat]int{}
	for _, u := range b.Uses {
		open[u]++
	}
	for _, s := range b.Seats {
		if !s.Kept {
			open[s]--
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(open), compareSeats) {
		switch n := open[s]; {
		case n > 0:
			c.breach(TrueBooks, s.Pod, b.At, "the usage log has license %s in use by generation %s, which has no seat of it", s.License, s.Generation)
		case n < 0:
			c.breach(TrueBooks, s.Pod, b.At, "the usage log does not have license %s in use by generation %s, which has a seat of it", s.License, s.Generation)
		}
	}
}

// state: a project's row has the state that belongs to the newest record, and nothing is asked for that nobody takes.
func (c *trial) state(b account, row ProjectRow, r events.Record) {
	want := "starting"
	switch {
	case r.Event == events.Ready, r.Event == events.Unready:
		want = "running"
	case r.Event == events.Ended, r.Event == events.Failed, r.Event == events.Deleting:
		want = "stopping"
	case r.Event == "", r.Event == events.Gone && (r.Restart == nil || c.never(r.Restart.Command)):
		want = "opened"
	}
	if got := cmp.Or(row.State, "opened"); got != want {
		c.breach(TrueBooks, events.ProjectPod(row.ID), b.At, "the project's row says %s, and its newest record is %s", got, cmp.Or(r.Event, "none"))
	}
	if row.Request != "" {
		c.breach(Progress, events.ProjectPod(row.ID), b.At, "nobody takes what the project's row asks for: %s", row.Request)
	}
}

// never says that nothing will be made of a command.
func (c *trial) never(command string) bool {
	v := c.lastOutcome(command).Verdict
	return v == events.Refused || v == events.Expiry
}

// wish: what was wished for last is so. A project that was started is ready, or is not with a reason.
func (c *trial) wish(b account, row ProjectRow, r events.Record) {
	pod := events.ProjectPod(row.ID)
	last := Exchange{}
	for _, x := range c.Exchanges {
		if x.Pod == pod && x.wishes() && !x.Begun.Before(last.Begun) && x.Begun.Before(b.At) {
			last = x
		}
	}
	there := slices.ContainsFunc(b.Pods, func(p ProjectPod) bool { return p.Project == row.ID })
	runs := r.Event == events.Ready && there
	reason := row.Error != "" || !row.RetryAt.IsZero()
	switch {
	case last.Status < http.StatusOK || last.Status >= http.StatusBadRequest: // None, or nobody knows.
	case last.stops() && (there || r.Event != "" && r.Event != events.Gone):
		c.breach(LastWish, pod, b.At, "%s was the last wish, and the project's pod is %s", last.Endpoint, r.Event)
	case last.stops() && !row.RetryAt.IsZero():
		c.breach(LastWish, pod, b.At, "%s was the last wish, and the project is to be started at %s", last.Endpoint, clock(row.RetryAt))
	case !last.stops() && !runs && !reason:
		c.breach(LastWish, pod, b.At, "%s was the last wish, and the project's pod is %s, for no reason", last.Endpoint, cmp.Or(r.Event, "nowhere"))
	case !last.stops() && !runs && row.AlwaysRunning && row.RetryAt.IsZero() && !strings.Contains(row.Error, string(events.GaveUp)):
		c.breach(LastWish, pod, b.At, "the project is to run always, and neither runs nor is to be started again: %s", row.Error)
	}
}

// wishes says whether it is about whether a project runs.
func (x Exchange) wishes() bool {
	switch x.Endpoint {
	case StartProject, RestartProject, HubStart, HubRestart:
		return true
	}
	return x.stops()
}

func (x Exchange) stops() bool { return x.Endpoint == StopProject || x.Endpoint == HubStop }

// licensed: a project that runs has the licenses that are attached to it, and of each that counts the newest edition.
func (c *trial) licensed(b account, row ProjectRow, r events.Record) {
	at := slices.IndexFunc(b.Pods, func(p ProjectPod) bool { return p.Pod == r.Pod && p.Generation == r.Generation })
	if r.Event != events.Ready || at < 0 {
		return
	}
	status := map[string]string{}
	for _, l := range r.Licenses {
		status[l.ID] = l.Status
		if _, attached := row.Licenses[l.ID]; !attached {
			c.breach(LicensesHold, r.Pod, b.At, "license %s is %s on the pod, and not attached any more", l.ID, l.Status)
		}
	}
	for _, l := range b.Licenses {
		stored, attached := row.Licenses[l.ID]
		if attached && stored != status[l.ID] {
			c.breach(TrueBooks, r.Pod, b.At, "license %s is %q in the project's row, and %q in the log", l.ID, stored, status[l.ID])
		}
		full := attached && l.Limit > 0 && status[l.ID] == "exhausted"
		label, has := b.Pods[at].Labels[l.Label]
		switch counts := attached && l.Valid && !full; {
		case counts && status[l.ID] != active:
			c.breach(LicensesHold, r.Pod, b.At, "license %s is valid and attached, and %q on the pod", l.ID, status[l.ID])
		case counts && label != l.Edition:
			c.breach(LicensesHold, r.Pod, b.At, "the pod has edition %q of license %s, whose newest is %s", label, l.ID, l.Edition)
		case !counts && has:
			c.breach(LicensesHold, r.Pod, b.At, "the pod has edition %q of license %s, which does not count", label, l.ID)
		}
	}
}

// started: a start that was answered is in the log, and where it was waited for, its pod was ready.
func (c *trial) started(x Exchange) {
	if x.Status < http.StatusOK || x.Status >= http.StatusBadRequest {
		return
	}
	l := c.lives[x.Generation]
	switch {
	case l == nil || l.entries[0].At.After(x.Ended.Add(blur)):
		c.breach(LastWish, x.Pod, x.Ended, "%s was answered %d with generation %s, which was not in the log", x.Endpoint, x.Status, x.Generation)
	case l.pod != x.Pod:
		c.breach(NobodyElses, x.Pod, x.Ended, "%s was answered with a pod of %s", x.Endpoint, l.user)
	case x.Status == http.StatusAccepted && !c.followed(l, x.Ended):
		c.breach(LastWish, x.Pod, x.Ended, "%s was answered 202, and nothing was to follow generation %s", x.Endpoint, x.Generation)
	case x.Ready && !slices.ContainsFunc(l.entries, func(e Entry) bool { return e.Record.Event == events.Ready && !e.At.After(x.Ended.Add(blur)) }):
		c.breach(NobodyWaits, x.Pod, x.Ended, "%s was answered when generation %s was not ready yet", x.Endpoint, x.Generation)
	}
}

// followed says whether another pod was to follow a life by then, or it is the one that has followed.
func (c *trial) followed(l *life, by time.Time) bool {
	return slices.ContainsFunc(c.byPod[l.pod], func(e Entry) bool {
		wish := e.Record.Restart
		return wish != nil && (e.Record.Generation == l.generation || wish.Command == l.command) && !e.At.After(by.Add(blur))
	})
}

// projectCause says whether there was a reason for a project's pod to be deleted: it had died, somebody wished for its end or for
// another one, or a license had been changed.
func (c *trial) projectCause(l *life, deleting int) bool {
	e := l.entries[deleting]
	if deleting > 0 && l.entries[deleting-1].Record.Event == events.Ended {
		return true
	}
	relicensed := e.Record.Restart != nil && e.Record.Restart.Cause == events.CauseLicenses
	return slices.ContainsFunc(c.Exchanges, func(x Exchange) bool {
		switch {
		case x.Begun.After(e.At):
			return false
		case relicensed:
			return x.License != ""
		}
		ends := x.stops() || x.Endpoint == RestartProject || x.Endpoint == HubRestart
		return ends && x.Pod == l.pod && e.At.Sub(x.Ended) < lingering && !x.Ended.Before(l.entries[0].At)
	})
}

// lingering is how long after a wish was taken its command may be delivered.
const lingering = time.Minute
