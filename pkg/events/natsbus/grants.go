package natsbus

import (
	"fmt"

	"berth/pkg/events"
)

// Operator is the user of people and their tools: it reads the log, and asks
// how the streams and their consumers are.
const Operator = "operator"

// Grant is what the NATS user of one service may do, in the notation of a
// server's permissions. What is not listed is denied.
type Grant struct {
	// User is the name of the service, which is the name of its user, too.
	User string
	// Publish and Subscribe are the subjects that the user may publish or subscribe to.
	Publish, Subscribe []string
}

// InboxPrefix is what the subjects begin with on which a user gets its answers.
// Each has its own, so that none can read what another is told.
func InboxPrefix(user string) string { return "_INBOX_" + user }

// Grants returns what each service and the [Operator] need in one cluster, and
// no more. Two limits of JetStream remain: who may purge a stream may purge all
// of it (the deleter), and who may set timers may send what a timer can (a
// delete); see docs/adr/0008-nats-users.md.
func Grants(cluster string) []Grant {
	c := cluster
	grants := []Grant{
		{User: "api", Publish: flat(
			asks(c, events.StageCreate, events.StageDelete, events.StageDeleteUser, events.StageSweep, events.StageRestart),
			one(events.OutcomeFilter(c), events.AuditFilter(c), events.ConfirmSubject(c), events.LicenseSubject(c)),
			reads(events.LogStream),
			one(streamAPI("MSG.GET", events.TokenStream)),
		), Subscribe: one(events.HeartbeatSubject(c))},
		{User: "creator", Publish: flat(
			asks(c, events.StageLicense, events.StageDelete, events.StageSweep, events.StageCreate), timers(c),
			one(events.OutcomeFilter(c), events.StorageFilter(c), events.TokenFilter(c), streamAPI("MSG.GET", events.TokenStream)),
			appends(c, events.Claimed, events.Launching, events.Launched, events.Waiting, events.Running, events.Ready, events.Unready,
				events.Failed, events.Deleting, events.Gone),
			carriesOut(c, events.StageCreate, events.StageLaunch, events.StageFinish, events.StageRestart), rescues(c),
			one(streamAPI("MSG.GET", events.TokenStream)),
			one(InboxPrefix("licenser")+".>"), // Its answers about templates.
		), Subscribe: one(events.BoundSubject(c), events.RenderSubject(c))},
		{User: "licenser", Publish: flat(
			asks(c, events.StageLaunch, events.StageDelete, events.StageCreate, events.StageRestart, events.StageProject),
			// What it amends stays where it is in its life.
			appends(c, events.Licensed, events.Launching, events.Launched, events.Waiting, events.Running, events.Ready, events.Unready,
				events.Ended, events.Failed),
			carriesOut(c, events.StageLicense, events.StageProject), timers(c), reads(events.LogStream),
			one(events.RenderSubject(c), events.OutcomeFilter(c)), // It takes back starts of projects that were stopped.
			one(InboxPrefix("api")+".>"),                          // Its answers about licenses and projects.
		), Subscribe: one(events.LicenseSubject(c))},
		{User: "deleter", Publish: flat(
			timers(c), appends(c, events.Failed, events.Deleting, events.Gone),
			carriesOut(c, events.StageDelete, events.StageDeleteUser, events.StageSweep),
			asks(c, events.StageDelete, events.StageSweep, events.StageCreate),
			one(events.OutcomeFilter(c), events.StorageFilter(c)),
			one(streamAPI("PURGE", events.CommandStream), streamAPI("PURGE", events.LogStream), streamAPI("PURGE", events.TokenStream)),
		)},
		{User: upgrader, Publish: flat(
			asks(c, events.StageDelete, events.StageFinish), timers(c),
			appends(c, events.Launched, events.Waiting, events.Running, events.Ready, events.Unready, events.Ended, events.Failed, events.Deleting),
			one(events.MarkSubject(c), events.StorageFilter(c), events.HeartbeatSubject(c), events.BoundSubject(c)),
			one(InboxPrefix("api")+".>"), // Its answers about addresses.
			reads(events.LogStream), eachStream("UPDATE"),
		), Subscribe: one(events.ConfirmSubject(c))},
	}
	for i := range grants {
		g := &grants[i]
		g.Publish = flat(g.Publish, eachStream("INFO"), eachStream("CREATE"), one(streamAPI("MSG.GET", events.LogStream)))
		g.Subscribe = flat(g.Subscribe, one(InboxPrefix(g.User)+".>"))
	}
	return append(grants, Grant{
		User: Operator,
		Publish: flat(
			one("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"), eachStream("INFO"),
			one(streamAPI("MSG.GET", events.LogStream), streamAPI("MSG.GET", events.DeadLetterStream)), reads(events.LogStream), reads(events.AuditStream),
			one("$JS.API.CONSUMER.NAMES.*", "$JS.API.CONSUMER.LIST.*", "$JS.API.CONSUMER.INFO.*.*"),
		),
		// Common tools use the prefix that nats.go has by default.
		Subscribe: flat(one(InboxPrefix(Operator)+".>", "_INBOX.>", events.HeartbeatSubject(c)), events.LogSubjects(), events.DeadLetterSubjects()),
	})
}

// upgrader is the service that brings streams up to date which another version
// has made; the others find them as they are.
const upgrader = "watcher"

func one(subjects ...string) []string { return subjects }

func flat(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// asks is to publish commands for stages.
func asks(cluster string, stages ...events.Stage) []string {
	var subjects []string
	for _, s := range stages {
		subjects = append(subjects, events.CommandFilter(cluster, s))
	}
	return subjects
}

// appends is to append events to the log of any pod.
func appends(cluster string, types ...events.Type) []string {
	var subjects []string
	for _, t := range types {
		subjects = append(subjects, events.EventFilter(cluster, t))
	}
	return subjects
}

func timers(cluster string) []string { return one(events.TimersFilter(cluster)) }

// reads is to read a stream with a consumer of one's own.
func reads(stream string) []string {
	return one("$JS.API.CONSUMER.CREATE."+stream+".>", "$JS.API.CONSUMER.MSG.NEXT."+stream+".*")
}

// carriesOut is to consume the commands of stages with their durable consumers,
// and to bury those that cannot be done.
func carriesOut(cluster string, stages ...events.Stage) []string {
	var subjects []string
	for _, s := range stages {
		consumer := events.CommandStream + "." + ConsumerName(cluster, s)
		subjects = append(subjects,
			"$JS.API.CONSUMER.CREATE."+consumer+"."+events.CommandFilter(cluster, s),
			"$JS.API.CONSUMER.MSG.NEXT."+consumer, "$JS.API.CONSUMER.INFO."+consumer, "$JS.ACK."+consumer+".>",
			events.DeadLetterFilter(cluster, s),
		)
	}
	return subjects
}

// rescues is what [Bus.Rescue] needs.
func rescues(cluster string) []string {
	subjects := one(streamAPI("MSG.GET", events.CommandStream), streamAPI("MSG.DELETE", events.CommandStream))
	for _, s := range events.Stages() {
		subjects = append(subjects,
			fmt.Sprintf("$JS.API.CONSUMER.INFO.%s.%s", events.CommandStream, ConsumerName(cluster, s)), events.CommandFilter(cluster, s))
	}
	return subjects
}

func eachStream(verb string) []string {
	return one(streamAPI(verb, events.LogStream), streamAPI(verb, events.CommandStream), streamAPI(verb, events.DeadLetterStream),
		streamAPI(verb, events.AuditStream), streamAPI(verb, events.TokenStream))
}

// streamAPI is the subject of a request about a stream, as
// https://docs.nats.io/reference/reference-protocols/nats_api_reference lists them.
func streamAPI(verb, stream string) string { return "$JS.API.STREAM." + verb + "." + stream }
