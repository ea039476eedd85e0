package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
)

const (
	// longWait is the age of a command that is worth a look, tooLong that of one
	// that something keeps from being done: a client's create expires before.
	longWait = 10 * time.Second
	tooLong  = time.Minute
	// crowd is a queue that takes its stage seconds.
	crowd = 500
	// deletingTooLong is far more than a delete takes with its default time limit
	// (timeoutDelete, 90 s), makingTooLong than a create (timeoutCreateMax, 15 min).
	deletingTooLong = 5 * time.Minute
	makingTooLong   = 20 * time.Minute
	// named is how many names are written out.
	named = 3
)

func (d *diagnosis) stage(s Stage) {
	check := "stage " + string(s.Stage)
	service := owner(s.Stage)
	if s.Fault != "" {
		d.unseen(check, s.Fault)
		return
	}
	if s.Missing {
		severity, text := Problem, fmt.Sprintf("no %s has ever run for cluster %s", service, d.Cluster)
		if s.Queued > 0 {
			text += ", and " + count(s.Queued, "command") + " wait for one"
		}
		d.found(severity, check, text, "There is no consumer of its commands; nobody carries them out.",
			"Start the "+service+"; it makes the consumer and does what has waited.")
		return
	}
	age := time.Duration(0)
	if !s.Oldest.IsZero() {
		age = d.At.Sub(s.Oldest)
	}
	text := fmt.Sprintf("%d waiting, %d under way", s.Pending, s.Working)
	if s.Redelivered > 0 {
		text += fmt.Sprintf(", %d of them again", s.Redelivered)
	}
	if s.Queued > 0 && age > 0 {
		text += ", the oldest asked for " + span(age.Seconds()) + " ago"
	}
	const paused, log = "somebody has paused the consumer", "See the log of the "
	// Commands that are under way may have taken all the requests.
	idle := s.Pulling == 0 && (s.Working == 0 || d.At.Sub(s.Delivered) > longWait)
	switch {
	case s.Leaderless:
		d.found(Problem, check, text+"; its consumer has no leader", "No command is handed out.",
			"Bring back the NATS servers that keep "+events.CommandStream+".")
	case s.Paused:
		d.found(Problem, check, text+"; "+paused, "No command is handed out.",
			"Resume it: nats consumer resume "+events.CommandStream+" NAME.")
	case idle:
		d.found(Problem, check, text+"; nobody takes them", "No "+service+" of cluster "+d.Cluster+" is connected.",
			"Start the "+service+"; if it runs, see in its log whether it reaches NATS. What waits is done then.")
	case age > tooLong:
		d.found(Problem, check, text, "Something keeps a command from being done; it is tried again until it is given up after about five minutes.",
			log+service+" for the command's id and the reason.")
	case s.Pending > crowd || age > longWait:
		d.found(Notice, check, text, "The "+service+" is behind, or waits for something.",
			"Look again in a minute; if it does not get less, run more replicas of the "+service+", or see what slows it (its log, the API server).")
	default:
		d.ok(check, text+", "+count(s.Pulling, "request")+" for more")
	}
}

func (d *diagnosis) commands() {
	c := d.NATS.Commands
	if c.Fault != "" {
		d.unseen("timers", c.Fault)
		return
	}
	d.timers()
	for _, stage := range slices.Sorted(maps.Keys(c.Foreign)) {
		d.found(Notice, "stage "+stage, count(c.Foreign[stage], "command")+" of a stage that this version does not know",
			"Another version of Berth has asked for them; without its services nobody carries them out.",
			"Finish the upgrade, or use the berth of that version.")
	}
}

// timers judges whether what hangs will be ended.
func (d *diagnosis) timers() {
	const check = "timers"
	c, p := d.NATS.Commands, d.NATS.Pods
	text := fmt.Sprintf("%d for creates, %d for deletes", c.Timers[events.TimerCreate], c.Timers[events.TimerDelete])
	var bare []string
	for _, r := range p.Records {
		kind := events.TimerCreate
		if r.Event == events.Deleting {
			kind = events.TimerDelete
		}
		if d.At.Sub(r.At) > settled && (r.making() || r.Event == events.Deleting) && p.Armed != nil && !p.Armed[kind][r.Timer] {
			bare = append(bare, r.Pod)
		}
	}
	if len(bare) > 0 {
		d.found(Problem, check, text+"; none for "+names(bare), "Nothing ends what hangs there, and its user waits.",
			"Delete these pods (berth pods delete NAME --user USER); a restart of the watcher arms the missing timers of those that were launched.")
		return
	}
	d.ok(check, text)
}

// making says that a pod is on its way to ready.
func (r Record) making() bool {
	return r.Event != "" && !r.Event.Over() && !r.WasReady && r.Event != events.Ready && r.Event != events.Ended
}

// projects finds starts of projects that no licenser has looked at.
func (d *diagnosis) projects() {
	var waiting []string
	why := ""
	for _, r := range d.NATS.Pods.Records {
		if _, project := events.ProjectOf(r.User); project && r.Unlicensed && d.At.Sub(r.Claimed) > longWait {
			waiting = append(waiting, r.Pod)
			why = cmp.Or(why, r.Message)
		}
	}
	if len(waiting) > 0 {
		text := "starts of projects wait: " + names(waiting)
		if why != "" {
			text += " (" + why + ")"
		}
		d.found(Problem, "projects", text,
			"Their licenses have not been looked at; without that there is no pod.", licenserRemedy)
	}
}

func (d *diagnosis) pods() {
	const check = "pods"
	p := d.NATS.Pods
	switch {
	case p.Fault != "":
		d.unseen(check, p.Fault)
		return
	case !p.Looked:
		return
	}
	var states []string
	total := 0
	for _, info := range events.Types() {
		if n := p.States[info.Type]; n > 0 {
			total += n
			states = append(states, fmt.Sprintf("%d %s", n, info.Type))
		}
	}
	text := strings.TrimSuffix(count(total, "pod")+": "+strings.Join(states, ", "), ": ")
	var making, deleting []string
	for _, r := range p.Records {
		switch {
		case r.making() && d.At.Sub(latest(r.Claimed, r.Progress)) > makingTooLong:
			making = append(making, r.Pod+reason(r))
		case r.Event == events.Deleting && d.At.Sub(r.Deleting) > deletingTooLong,
			r.Event == events.Failed && d.At.Sub(r.At) > deletingTooLong: // Its delete was asked for then.
			deleting = append(deleting, r.Pod)
		}
	}
	if len(deleting) == 0 && len(making) == 0 && p.Unreadable == 0 {
		d.ok(check, text)
		return
	}
	if len(deleting) > 0 {
		d.found(Problem, check, fmt.Sprintf("%s; being deleted for more than %s: %s", text, span(deletingTooLong.Seconds()), names(deleting)),
			"Something of them does not go away: a finalizer, or a node that is gone.",
			"kubectl describe pod NAME says what; see the deleter's log for the rest.")
	}
	if len(making) > 0 {
		d.found(Problem, check, fmt.Sprintf("%s; not ready and no further for more than %s: %s", text, span(makingTooLong.Seconds()), names(making)),
			"Their create timers should have ended them.", "See the timers and the stage delete above.")
	}
	if p.Unreadable > 0 {
		d.found(Notice, check, fmt.Sprintf("%s; %s with records that this version cannot read", text, count(p.Unreadable, "pod")),
			"A newer version of Berth has written them.", "Use the berth of that version.")
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func reason(r Record) string {
	if r.Reason == "" {
		return ""
	}
	return " (" + string(r.Reason) + ")"
}

// names writes the first of some names and how many more there are.
func names(all []string) string {
	all = slices.Sorted(slices.Values(all))
	if len(all) <= named {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:named], ", "), len(all)-named)
}
