package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
)

// The numbers of the statements.
const (
	OnePod       = 1
	OneOutcome   = 2
	NobodyWaits  = 3
	GoneIsGone   = 4
	NobodyElses  = 5
	ReasonsNamed = 6
	QuietSteady  = 7
	Progress     = 9
	TrueBooks    = 10
	LastWish     = 11
	LicensesHold = 12
)

// Statement says what the statement with that number promises.
func Statement(number int) string {
	switch number {
	case OnePod:
		return "one command makes at most one pod, and none where the client was told so"
	case OneOutcome:
		return "an accepted command comes to exactly one outcome, in the order that the contract allows"
	case NobodyWaits:
		return "a waiter gets its answer in time, and it is the right one"
	case GoneIsGone:
		return "gone means gone, nothing is left over, and nothing goes without a cause"
	case NobodyElses:
		return "a user never sees what belongs to another"
	case ReasonsNamed:
		return "a failure names its reason"
	case QuietSteady:
		return "steady state costs the API server nothing but leases"
	case Progress:
		return "whatever is killed, another carries on"
	case TrueBooks:
		return "the database says of seats, use and states what the log says, and no license has more holders than its limit"
	case LastWish:
		return "the last wish about a project holds, and a start that was answered is in the log"
	case LicensesHold:
		return "a license that was changed is in the pod of every project that runs with it"
	}
	return ""
}

// Check returns the breaches that the evidence shows, in the order of the
// statements; none if every promise was kept.
func Check(e Evidence) []Breach {
	c := newTrial(e)
	c.onePod()
	c.oneOutcome()
	c.answers()
	c.gone()
	c.causes()
	c.reasons()
	c.quiet()
	c.progress()
	c.projects()
	slices.SortStableFunc(c.breaches, func(a, b Breach) int { return cmp.Compare(a.Statement, b.Statement) })
	return c.breaches
}

// life is what the log says about one generation.
type life struct {
	generation, command, pod, user string
	entries                        []Entry
}

// trial is the evidence in the order in which it is asked for.
type trial struct {
	Evidence
	breaches []Breach
	// byPod has the records of each name in the order of the log.
	byPod map[string][]Entry
	lives map[string]*life // By generation.
	// byUser has the lives of each user's pods.
	byUser map[string][]*life
	// outcomes are by command, in the order of the log.
	outcomes map[string][]Entry
	// commands are by trace.
	commands map[string][]string
	// uids are the pods in Kubernetes by command.
	uids map[string][]string
}

func newTrial(e Evidence) *trial {
	c := &trial{
		Evidence: e, breaches: []Breach{}, byPod: map[string][]Entry{}, lives: map[string]*life{}, byUser: map[string][]*life{}, outcomes: map[string][]Entry{},
		commands: map[string][]string{}, uids: map[string][]string{},
	}
	for _, entry := range e.Log {
		switch {
		case entry.Record != nil:
			r := entry.Record
			c.byPod[r.Pod] = append(c.byPod[r.Pod], entry)
			l := c.lives[r.Generation]
			if l == nil {
				l = &life{generation: r.Generation, command: r.Command, pod: r.Pod, user: r.User}
				c.lives[r.Generation] = l
				c.byUser[r.User] = append(c.byUser[r.User], l)
				c.traced(entry.Trace, r.Command)
			}
			l.entries = append(l.entries, entry)
		case entry.Outcome != nil:
			c.outcomes[entry.Outcome.Command] = append(c.outcomes[entry.Outcome.Command], entry)
			c.traced(entry.Trace, entry.Outcome.Command)
		}
	}
	for _, p := range e.Pods {
		if !slices.Contains(c.uids[p.Command], p.UID) {
			c.uids[p.Command] = append(c.uids[p.Command], p.UID)
		}
	}
	return c
}

// traced notes that a request led to a command.
func (c *trial) traced(trace, command string) {
	if trace != "" && command != "" && !slices.Contains(c.commands[trace], command) {
		c.commands[trace] = append(c.commands[trace], command)
	}
}

func (c *trial) breach(statement int, pod string, at time.Time, format string, args ...any) {
	c.breaches = append(c.breaches, Breach{Statement: statement, Text: fmt.Sprintf(format, args...), Pod: pod, At: at})
}

// onePod: a command made at most one pod, an undecided, refused or expired one none.
func (c *trial) onePod() {
	first := map[string]PodEvent{}
	for _, p := range c.Pods {
		if _, known := first[p.Command]; !known {
			first[p.Command] = p
		}
	}
	for _, command := range slices.Sorted(maps.Keys(c.uids)) {
		p := first[command]
		if n := len(c.uids[command]); n > 1 {
			c.breach(OnePod, p.Pod, p.At, "command %s made %d pods: %s", command, n, strings.Join(c.uids[command], ", "))
		}
		if command == "" {
			c.breach(OnePod, p.Pod, p.At, "a pod of no command is in the cluster: %s", p.UID)
		} else if l := c.lives[p.Generation]; l == nil || l.command != command {
			c.breach(OnePod, p.Pod, p.At, "pod %s is of command %s and generation %s, which the log does not know", p.UID, command, p.Generation)
		}
		if last := c.lastOutcome(command); last.Verdict == events.Refused || last.Verdict == events.Expiry {
			c.breach(OnePod, p.Pod, p.At, "command %s is %s and has pod %s", command, last.Verdict, p.UID)
		}
	}
	claims := map[string][]string{}
	for _, g := range slices.Sorted(maps.Keys(c.lives)) {
		if l := c.lives[g]; l.command != "" {
			claims[l.command] = append(claims[l.command], l.pod+" "+g)
		}
	}
	for _, command := range slices.Sorted(maps.Keys(claims)) {
		pod, _, _ := strings.Cut(claims[command][0], " ")
		at := c.byPod[pod][0].At
		if len(claims[command]) > 1 {
			c.breach(OnePod, pod, at, "command %s has %d claims: %s", command, len(claims[command]), strings.Join(claims[command], ", "))
		}
		if last := c.lastOutcome(command); last.Verdict == events.Refused || last.Verdict == events.Expiry {
			c.breach(OnePod, pod, at, "command %s is %s and has claimed %s", command, last.Verdict, claims[command][0])
		}
	}
}

func (c *trial) lastOutcome(command string) events.Outcome {
	entries := c.outcomes[command]
	if len(entries) == 0 {
		return events.Outcome{}
	}
	return *entries[len(entries)-1].Outcome
}

// oneOutcome: every record and every outcome is a legal successor of the one
// before, every accepted command has a pod, and every pod came to its end.
func (c *trial) oneOutcome() {
	for _, sequence := range c.Lost {
		c.breach(OneOutcome, "", time.Time{}, "message %d was in the log and is not any more", sequence)
	}
	for _, entry := range c.Log {
		if entry.Unreadable != "" {
			c.breach(OneOutcome, "", entry.At, "message %d cannot be read: %s", entry.Sequence, entry.Unreadable)
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(c.byPod)) {
		var before events.Record
		for _, entry := range c.byPod[pod] {
			if !successor(before, *entry.Record, c.Limits.PullBackOffs) {
				c.breach(OneOutcome, pod, entry.At, "message %d: %s of %s must not follow %s of %s",
					entry.Sequence, entry.Record.Event, entry.Record.Generation, cmp.Or(before.Event, "nothing"), before.Generation)
			}
			before = *entry.Record
		}
	}
	for _, command := range slices.Sorted(maps.Keys(c.outcomes)) {
		c.decided(command)
	}
	for _, g := range slices.Sorted(maps.Keys(c.lives)) {
		l := c.lives[g]
		last := l.entries[len(l.entries)-1]
		if !slices.ContainsFunc(l.entries, func(e Entry) bool { return e.Record.Event.Outcome() }) {
			c.breach(OneOutcome, l.pod, last.At, "generation %s came to no outcome; it is %s", g, last.Record.Event)
		} else if last.Record.Event != events.Gone {
			c.breach(GoneIsGone, l.pod, last.At, "generation %s is %s at the end, not gone", g, last.Record.Event)
		}
	}
}

// decided: the outcomes of one command.
func (c *trial) decided(command string) {
	var current events.Outcome
	for _, entry := range c.outcomes[command] {
		next, changed, err := events.NextOutcome(current, *entry.Outcome)
		if err != nil || !changed {
			c.breach(OneOutcome, entry.Outcome.Pod, entry.At, "message %d: outcome %s of command %s must not follow %s",
				entry.Sequence, entry.Outcome.Verdict, command, current.Verdict)
		}
		current = next
	}
	if current.Verdict != events.Accepted {
		return
	}
	for _, l := range c.lives {
		if l.command == command && l.pod == current.Pod {
			return
		}
	}
	at := c.outcomes[command][len(c.outcomes[command])-1].At
	c.breach(OneOutcome, current.Pod, at, "command %s was accepted as %s and never claimed it", command, current.Pod)
}

// gone: what was said to be gone was not there any more, and nothing is left.
func (c *trial) gone() {
	goneAt := map[string]time.Time{}
	for g, l := range c.lives {
		if last := l.entries[len(l.entries)-1]; last.Record.Event == events.Gone {
			goneAt[g] = last.At
		}
	}
	for _, p := range c.Probes {
		if p.Found != "" && p.Found == p.Generation {
			c.breach(GoneIsGone, p.Pod, p.At, "generation %s was gone and is in the cluster", p.Generation)
		}
	}
	for _, p := range c.Pods {
		at, over := goneAt[p.Generation]
		// A creation time has no fractions.
		if over && p.Kind == Added && p.Created.After(at) {
			c.breach(GoneIsGone, p.Pod, p.At, "generation %s was gone, then pod %s was made", p.Generation, p.UID)
		}
	}
	for _, left := range []struct {
		what  string
		names []string
	}{{"pod in the cluster", c.Left.Pods}, {"belonging", c.Left.Belongings}, {"command", c.Left.Commands}, {"dead letter", c.Left.DeadLetters}} {
		for _, name := range left.names {
			pod, _, _ := strings.Cut(name, " ")
			if left.what != "pod in the cluster" {
				pod = ""
			}
			c.breach(GoneIsGone, pod, time.Time{}, "left over: %s %s", left.what, name)
		}
	}
}

// The kinds of [PodEvent].
const (
	Added   = "added"
	Changed = "changed"
	Deleted = "deleted"
)

// reasons: whatever failed says why.
func (c *trial) reasons() {
	for _, entry := range c.Log {
		switch {
		case entry.Record != nil && entry.Record.Event == events.Failed:
			c.reason(entry.Record.Pod, entry.At, "failed", entry.Record.Reason, entry.Record.Message)
		case entry.Outcome != nil && (entry.Outcome.Verdict == events.Refused || entry.Outcome.Verdict == events.Expiry):
			c.reason("", entry.At, "outcome "+string(entry.Outcome.Verdict), entry.Outcome.Reason, entry.Outcome.Message)
		}
	}
	for _, x := range c.Exchanges {
		if x.Status >= http.StatusBadRequest {
			c.reason(x.Pod, x.Ended, fmt.Sprintf("%s answered %d", x.Endpoint, x.Status), events.Reason(x.Code), x.Message)
		}
	}
}

func (c *trial) reason(pod string, at time.Time, what string, reason events.Reason, message string) {
	if !reason.Known() || message == "" {
		c.breach(ReasonsNamed, pod, at, "%s with reason %q and message %q", what, reason, message)
	}
}

// quiet: nothing is asked of the API server while nothing happens.
func (c *trial) quiet() {
	if c.Quiet == nil {
		return
	}
	for _, what := range slices.Sorted(maps.Keys(c.Quiet.Requests)) {
		if n := c.Quiet.Requests[what]; n > 0 && !strings.HasSuffix(what, " leases") {
			c.breach(QuietSteady, "", time.Time{}, "%d times %s in %s in which nothing happened", n, what, c.Quiet.For)
		}
	}
}

// progress: once nothing is broken any more, everything comes to its end.
func (c *trial) progress() {
	for _, what := range c.Moves {
		if what != "" {
			c.breach(Progress, "", time.Time{}, "the projects did not come to rest: %s", what)
		}
	}
	if !c.Settled {
		c.breach(Progress, "", time.Time{}, "things still moved %s after the last fault", c.Settling.Round(time.Second))
	} else if c.Settling > c.Limits.Settling {
		c.breach(Progress, "", time.Time{}, "it took %s after the last fault until nothing moved, not %s",
			c.Settling.Round(time.Second), c.Limits.Settling)
	}
}
