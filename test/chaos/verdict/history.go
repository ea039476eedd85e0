package verdict

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/pkg/events"
)

// line is a moment of a history.
type line struct {
	at   time.Time
	text string
}

// around is how long before and after a pod's life its history goes.
const around = 3 * time.Second

// History tells, for people, everything that was seen of a breach's pod in the
// lives that were near it, with the faults meanwhile, in the order of time.
func History(e Evidence, b Breach) string {
	if b.Pod == "" {
		return ""
	}
	from, to := near(e, b)
	traces := map[string]bool{}
	var lines []line
	add := func(at time.Time, format string, args ...any) {
		if !at.Before(from) && !at.After(to) {
			lines = append(lines, line{at, fmt.Sprintf(format, args...)})
		}
	}
	for _, entry := range e.Log {
		switch {
		case entry.Record != nil && entry.Record.Pod == b.Pod:
			r := entry.Record
			traces[entry.Trace] = true
			add(entry.At, "log   %d %s, generation %s, command %s, %s %s; uid %s at %s; by %s", entry.Sequence, r.Event, r.Generation, r.Command,
				r.Reason, r.Message, r.Observed.UID, r.Observed.ResourceVersion, entry.Source)
		case entry.Outcome != nil && entry.Outcome.Pod == b.Pod:
			traces[entry.Trace] = true
			add(entry.At, "log   %d outcome %s of command %s, %s %s; by %s", entry.Sequence, entry.Outcome.Verdict, entry.Outcome.Command,
				entry.Outcome.Reason, entry.Outcome.Message, entry.Source)
		}
	}
	for _, p := range e.Pods {
		if p.Pod == b.Pod {
			add(p.At, "kube  %s, uid %s, generation %s, command %s: %s", p.Kind, p.UID, p.Generation, p.Command, p.State)
		}
	}
	for _, p := range e.Probes {
		if p.Pod == b.Pod {
			add(p.At, "look  after gone of %s: found %q", p.Generation, p.Found)
		}
	}
	delete(traces, "")
	for _, x := range e.Exchanges {
		listed := slices.ContainsFunc(x.Pods, func(l Listed) bool { return l.Pod == b.Pod })
		changes := x.License != "" && events.IsProjectPod(b.Pod)
		if x.Pod != b.Pod && !traces[x.Trace] && !listed && !changes {
			continue
		}
		add(x.Begun, "ask   %s of %s at %s %s%s", x.Endpoint, x.User, x.Replica, x.Manifest, x.License)
		add(x.Ended, "told  %s of %s at %s, asked at %s: %s", x.Endpoint, x.User, x.Replica, clock(x.Begun), answer(x))
	}
	for _, f := range e.Faults {
		add(f.Begun, "fault %d %s of %s begins", f.Number, f.Kind, f.Target)
		add(f.Ended, "fault %d %s of %s is over", f.Number, f.Kind, f.Target)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&text, "  %s  %s\n", clock(l.at), l.text)
	}
	return text.String()
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func answer(x Exchange) string {
	switch {
	case x.Abandoned:
		return "the client went away"
	case x.Left:
		return "the client gave up"
	case x.Status == 0:
		return "connection lost: " + x.Message
	case x.Code != "":
		return fmt.Sprintf("%d %s: %s", x.Status, x.Code, x.Message)
	case x.Endpoint == Create:
		return fmt.Sprintf("%d %s", x.Status, x.Pod)
	case x.Endpoint == GetPods:
		return fmt.Sprintf("%d %d pods", x.Status, len(x.Pods))
	case !x.asks():
		return fmt.Sprintf("%d %s", x.Status, x.Generation)
	}
	return fmt.Sprintf("%d %t", x.Status, x.Yes)
}

// asks says whether the answer is yes or no.
func (x Exchange) asks() bool {
	return x.Endpoint == WatchCreate || x.Endpoint == Delete || x.Endpoint == WatchDelete
}

// near is the time of the lives of a breach's name that are near it: the one in
// which it happened, and what touches it. Without a time it is all of them.
func near(e Evidence, b Breach) (from, to time.Time) {
	type span struct{ from, to time.Time }
	var spans []span
	index := map[string]int{}
	for _, entry := range e.Log {
		if entry.Record == nil || entry.Record.Pod != b.Pod {
			continue
		}
		i, known := index[entry.Record.Generation]
		if !known {
			i = len(spans)
			index[entry.Record.Generation] = i
			spans = append(spans, span{from: entry.At})
		}
		spans[i].to = entry.At
	}
	if b.At.IsZero() && len(spans) > 0 {
		return spans[len(spans)-1].from.Add(-around), spans[len(spans)-1].to.Add(time.Hour)
	}
	from, to = b.At.Add(-around), b.At.Add(around)
	for _, s := range spans {
		if s.from.After(b.At.Add(around)) || s.to.Before(b.At.Add(-around)) {
			continue
		}
		if f := s.from.Add(-around); f.Before(from) {
			from = f
		}
		if t := s.to.Add(around); t.After(to) {
			to = t
		}
	}
	return from, to
}

// Answer says in a word or two what came of a request.
func Answer(x Exchange) string {
	switch {
	case x.Abandoned:
		return "abandoned"
	case x.Left:
		return "given up"
	case x.Status == 0:
		return "lost"
	case x.Code != "":
		return fmt.Sprintf("%d %s", x.Status, x.Code)
	case !x.asks():
		return strconv.Itoa(x.Status)
	}
	return fmt.Sprintf("%d %t", x.Status, x.Yes)
}
