package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/pkg/events"
)

// The oldest NATS server that has message schedules, which the timers are.
const (
	minMajor = 2
	minMinor = 12
)

const (
	// slowRTT is a round trip, in seconds, over which the five or so that a create
	// takes are felt.
	slowRTT = 0.05
	// peerLag is how many operations a replica may be behind.
	peerLag = 1000
	// peerSilent is how long, in seconds, a replica may say nothing.
	peerSilent = 10
	// watchQuiet is the age of a watch, in seconds, at which the watcher opens it
	// again; the API server says something about once a minute.
	watchQuiet = 90
)

func (d *diagnosis) nats() {
	const check = "nats"
	n := d.NATS
	switch {
	case !n.Asked:
		d.found(Skipped, check, "not looked at", "", "Set NATS_URL or --nats-url to look at the log, the queues and the watcher.")
		return
	case n.Fault != "":
		d.found(Problem, check, "cannot connect to "+n.Servers+": "+n.Fault,
			"Without NATS nothing is made or deleted, and the api answers 503.", natsRemedy(n.Fault))
		return
	}
	d.server(check)
	if len(n.Denied) > 0 {
		d.found(Notice, "nats rights", "this user may not: "+strings.Join(n.Denied, ", "),
			"What needs these rights could not be looked at.", "Connect as the user operator, nats://operator:PASSWORD@HOST:PORT.")
	}
	if n.JetStream != "" {
		d.found(Problem, "jetstream", n.JetStream,
			"The log and the queue are JetStream streams; no service can work.",
			"Enable JetStream (jetstream {} in the server's configuration, and for the account) and give it a store_dir on a disk that lasts.")
		return
	}
	d.clock("nats clock", "The NATS server's clock", n.Skew)
	for _, s := range n.Streams {
		d.stream(s)
	}
	if d.streamThere(events.LogStream) {
		d.mark()
	}
	d.watcher()
	if d.streamThere(events.CommandStream) {
		for _, s := range n.Stages {
			d.stage(s)
		}
		d.commands()
	}
	if d.streamThere(events.DeadLetterStream) {
		d.deadLetters()
	}
	d.pods()
	d.projects()
}

func natsRemedy(fault string) string {
	if strings.Contains(fault, "credentials") {
		return "Put the operator's name and password into NATS_URL: nats://operator:PASSWORD@HOST:PORT."
	}
	return "Start the NATS server, or set NATS_URL or --nats-url to where it listens."
}

func (d *diagnosis) server(check string) {
	n := d.NATS
	text := fmt.Sprintf("%s, version %s, round trip %s", n.Servers, n.Version, milliseconds(n.RTT))
	switch {
	case tooOld(n.Version):
		d.found(Problem, check, text,
			fmt.Sprintf("Servers before %d.%d have no message schedules: no create or delete that hangs would ever end.", minMajor, minMinor),
			fmt.Sprintf("Upgrade the NATS server to %d.%d or newer.", minMajor, minMinor))
	case n.RTT > slowRTT:
		d.found(Notice, check, text, "Each step of a create waits for a few round trips.",
			"From a machine far away this is as it should be; else look at the network, and at the server's load and disk.")
	default:
		d.ok(check, text)
	}
}

// tooOld says that a server has no message schedules. A version that cannot be
// read is given the benefit of the doubt.
func tooOld(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err == nil && err2 == nil && (major < minMajor || major == minMajor && minor < minMinor)
}

func (d *diagnosis) streamThere(name string) bool {
	return slices.ContainsFunc(d.NATS.Streams, func(s Stream) bool { return s.Name == name && !s.Missing && s.Fault == "" })
}

func (d *diagnosis) stream(s Stream) {
	check := "stream " + s.Name
	text := fmt.Sprintf("%s, %s, %s", count(s.Messages, "message"), size(s.Bytes), count(s.Replicas, "replica"))
	switch {
	case s.Missing:
		d.found(Problem, check, "does not exist", "Services make the streams that are missing when they start, and when they notice.",
			"Start the services, with credentials that may make streams; if it was there before, the log is rebuilt from the cluster.")
		return
	case s.Fault != "":
		d.unseen(check, s.Fault)
		return
	case s.Clustered && s.Leader == "":
		d.found(Problem, check, "has no leader", "Nothing can be written to it, nor read.",
			"Bring back the NATS servers that keep it: more than half of them must be up.")
		return
	case s.Lost > 0:
		d.found(Problem, check, fmt.Sprintf("%s; the server has lost %s", text, count(s.Lost, "message")),
			"Facts about pods, or commands, are gone from the server's disk.",
			"Look at the server's log and disk; restart the watcher, which compares the log with the cluster.")
	case len(s.Faults) > 0:
		d.found(Problem, check, "is not configured as it must be: "+strings.Join(s.Faults, "; "),
			"Berth's promises rest on this configuration; with another, facts or commands are lost or read too late.",
			"Restart the watcher, which brings streams up to date. If its log says that the server refuses, "+
				"stop all services, remove the stream, and start them: the log is rebuilt from the cluster.")
	default:
		d.ok(check, text)
	}
	for _, p := range s.Peers {
		d.peer(check, p)
	}
}

func (d *diagnosis) peer(check string, p Peer) {
	switch {
	case p.Offline:
		d.found(Problem, check, "the replica on "+p.Name+" is offline", "With one more lost the stream may stand still.",
			"Bring the NATS server "+p.Name+" back.")
	case p.Lag > peerLag || !p.Current && p.Active > peerSilent:
		d.found(Notice, check, fmt.Sprintf("the replica on %s is %d operations behind, last heard of %s ago", p.Name, p.Lag, span(p.Active)),
			"It catches up by itself, or its server or disk is too slow.", "Look again in a minute; then at the NATS server "+p.Name+".")
	}
}

func (d *diagnosis) mark() {
	const check = "log complete"
	m := d.NATS.Mark
	const why = "Until the watcher has compared the log with the cluster, every answer of the api is 503, and nothing is removed."
	const do = "See the watcher; its log says why a comparison fails."
	switch {
	case m.Fault != "":
		d.unseen(check, m.Fault)
	case !m.There:
		d.found(Problem, check, "the log has never been compared with the cluster "+d.Cluster, why,
			"Start the watcher of this cluster, or set BERTH_CLUSTER or --cluster to the right one. "+do)
	case !m.Current:
		d.found(Problem, check, "the log was made anew and has not been compared with the cluster since", why, do)
	default:
		d.ok(check, fmt.Sprintf("compared with the cluster %s ago, %s", d.since(m.At), count(m.Pods, "pod")))
	}
}

func (d *diagnosis) watcher() {
	const check = "watcher"
	w := d.NATS.Watcher
	if w.Fault != "" {
		d.unseen(check, w.Fault)
		return
	}
	if len(w.Beats) == 0 {
		d.found(Problem, check, "no heartbeat within "+span(w.Listened),
			"Nobody watches the cluster: no pod becomes ready in the log, and no delete comes to its end.",
			"Start the watcher of cluster "+d.Cluster+"; if it runs, its log says why it does not lead: "+
				"it must reach the API server, and hold the lease berth-watcher-"+d.Cluster+".")
		return
	}
	if len(w.Beats) > 1 {
		names := make([]string, 0, len(w.Beats))
		for _, b := range w.Beats {
			names = append(names, b.Instance)
		}
		d.found(Problem, check, fmt.Sprintf("%d watchers lead at once: %s", len(names), strings.Join(names, ", ")),
			"Two replicas hold different leases, or two installations share a log and a cluster's name.",
			"Give every installation its own cluster name (key cluster of the configuration), and all replicas of one the same namespace.")
	}
	for _, b := range w.Beats {
		text := b.Instance + " leads"
		if !b.LeadingSince.IsZero() && !b.Time.IsZero() {
			text += " for " + span(b.Time.Sub(b.LeadingSince).Seconds())
		}
		text += fmt.Sprintf(", heard of the API server %s ago", span(b.WatchAge))
		if b.WatchAge > watchQuiet {
			d.found(Problem, check, text, "What happens in the cluster is not seen.",
				"Look at the network between the watcher and the API server, and at the watcher's log; it opens its watches again by itself.")
		} else if len(w.Beats) == 1 {
			d.ok(check, text)
		}
		d.clock("watcher clock", "The clock of "+b.Instance, b.Skew)
	}
}

func (d *diagnosis) deadLetters() {
	const check = "dead letters"
	l := d.NATS.DeadLetters
	switch {
	case l.Fault != "":
		d.unseen(check, l.Fault)
		return
	case l.Count == 0:
		d.ok(check, "none")
		return
	}
	severity := Notice
	var shown []string
	for _, letter := range l.Newest {
		// Others are refusals: of Kubernetes, or of a user's request.
		if letter.Reason == events.RetriesExhausted || letter.Reason == events.RequestInvalid {
			severity = Problem
		}
		shown = append(shown, fmt.Sprintf("%s ago %s of %s: %s", d.since(letter.At), cmp.Or(string(letter.Stage), "a command"),
			cmp.Or(letter.Pod, letter.ID, "no pod"), strings.TrimSuffix(string(letter.Reason)+": "+letter.Cause, ": ")))
	}
	text := fmt.Sprintf("%d of the last week", l.Count)
	if len(shown) > 0 {
		text += "; newest: " + strings.Join(shown, "; ")
	}
	why, do := "These commands could not be done; their users have been told why.", "Nothing, if the reasons are the users' own faults."
	if severity == Problem {
		why = "Commands were given up after all their attempts, or were malformed."
		do = "Mend what the cause names. What was given up is not tried again: ask for the pod, or its delete, once more."
	}
	d.found(severity, check, text, why, do)
}

// size writes bytes as people read them.
func size(bytes uint64) string {
	const step = 1024
	value, units := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for value >= step && unit < len(units)-1 {
		value /= step
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// count writes how many there are of a thing: 1 pod, 2 pods.
func count[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// settled is how old a fact must be for others to have followed it, in any case
// where nothing hangs.
const settled = 10 * time.Second
