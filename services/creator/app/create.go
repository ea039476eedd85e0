package app

import (
	"context"
	"errors"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/render"
	"berth/services/creator/internal/template"
)

// creator carries out the create, launch, finish and restart stages, and answers
// questions about pods as they would be made.
type creator struct {
	bus       *natsbus.Bus
	config    config.Config
	manifests manifests
	templates templates
	pods      pods
	trials    trials
	storages  storages
	files     files
	claims    *claims
	hunts     hunts
	// boundPatience and tokenPatience are those of the constants, but in tests.
	boundPatience, tokenPatience time.Duration
	// draining, where it is not nil, is closed when the service begins to stop.
	draining <-chan struct{}
}

// create renders a pod and claims a name for it. Whatever is redelivered, one
// command claims at most one pod: its outcome and the history of the name that
// the outcome holds are read first.
func (c *creator) create(ctx context.Context, d natsbus.Delivery) error {
	created, err := c.bus.Complete(ctx)
	if err != nil {
		return natsbus.Again(busyDelay(d.Attempt), err) // Missing means unknown: no claim.
	}
	var outcome events.Outcome
	if d.Attempt > 1 {
		// A first attempt may take the command to be undecided: its own outcome is
		// appended on that condition.
		if outcome, err = c.bus.Outcome(ctx, d.ID); err != nil {
			return err
		}
	}
	switch outcome.Verdict {
	case events.Refused, events.Expiry, events.Done, events.Stopped: // The last two are no create's.
		return nil
	case events.Accepted: // An earlier attempt got further.
	case "":
		if late(d, created) {
			return c.decide(ctx, d, events.Outcome{
				Verdict: events.Expiry, Reason: events.Expired, Message: "the command came too late; nothing has been made",
			})
		}
	}
	p, err := c.plan(ctx, d)
	if errors.Is(err, manifest.ErrBusy) || errors.Is(err, template.ErrUnknown) {
		return natsbus.Again(busyDelay(d.Attempt), err) // The place is for those whose servers answer.
	}
	if err != nil {
		return c.refuse(ctx, d, outcome, err)
	}
	return c.claim(ctx, d, outcome, p)
}

// createAckWait is after how long the create of a process that has died is another
// replica's: well before a client that waits for its outcome gives up. createTime is how
// long an attempt may take that is under way.
const (
	createAckWait = 4 * time.Second
	createTime    = 15 * time.Second
)

// createAttempts, about a second each, outlive the deadline of every create: that of a project
// which nobody waits for is half an hour.
const createAttempts = 2000

// createPlaces is how many creates are under way at once. They wait for servers of
// manifests, of which none may have more than a few; see package manifest.
const createPlaces = 128

// The delays of a create that cannot be decided yet, since its manifest's server is busy for
// one. Its deadline is what ends it.
const (
	firstBusyDelay = 250 * time.Millisecond
	mostBusyDelay  = time.Second
)

// busyDelay is the delay after a try, counted from 1.
func busyDelay(attempt uint64) time.Duration { return growing(firstBusyDelay, mostBusyDelay, attempt) }

// growing is a delay that doubles with each attempt, counted from 1, up to most.
func growing(first, most time.Duration, attempt uint64) time.Duration {
	return min(first<<min(max(attempt, 1)-1, 10), most)
}

// late says whether a create that nobody has decided is past its deadline, or
// older than the log: then its outcome may have been lost with the log.
func late(d natsbus.Delivery, logCreated time.Time) bool {
	return time.Now().After(d.Create.Deadline) || d.Queued.Before(logCreated)
}

// refuse ends a command whose manifest, template or settings are at fault, before there is
// a pod. Faults of our own are tried again.
func (c *creator) refuse(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, err error) error {
	reason := reasonOf(err)
	if reason == "" {
		return err
	}
	if outcome.Verdict != events.Accepted {
		return c.decide(ctx, d, events.Outcome{Verdict: events.Refused, Reason: reason, Message: err.Error()})
	}
	// An earlier attempt got further: the pod that it claimed, if it did, fails.
	entry, lastErr := c.bus.Last(ctx, outcome.Pod)
	if lastErr != nil {
		return lastErr
	}
	if entry.Command == d.ID && entry.Event == events.Claimed {
		return c.bus.Fail(ctx, outcome.Pod, entry.Generation, reason, err.Error(), events.DeleteRequest{})
	}
	if entry.Command == d.ID {
		return nil
	}
	return c.decide(ctx, d, events.Outcome{Verdict: events.Refused, Reason: reason, Message: err.Error()})
}

// reasonOf returns the reason of a fault that is the request's own, else nothing.
func reasonOf(err error) events.Reason {
	if e := (*render.Error)(nil); errors.As(err, &e) {
		return events.Reason(e.Reason)
	}
	if e := (*manifest.Error)(nil); errors.As(err, &e) {
		return events.Reason(e.Reason)
	}
	if e := (*template.Error)(nil); errors.As(err, &e) {
		return events.TemplateInvalid
	}
	return ""
}

// decide appends the command's outcome; somebody else's that came first is obeyed.
func (c *creator) decide(ctx context.Context, d natsbus.Delivery, outcome events.Outcome) error {
	outcome.Command, outcome.User = d.ID, d.User
	if _, err := c.bus.Decide(ctx, outcome); err != nil && !errors.Is(err, events.ErrDecided) {
		return err
	}
	return nil
}

// claimRounds bounds how often an attempt begins anew because somebody else was faster: more often than
// a manifest has names, so that a crowd which makes pods of one at once is through with one attempt each.
const claimRounds = 16

// claimPause is the time before the next attempt then.
const claimPause = 100 * time.Millisecond

// claim takes the first name that is free and hands the pod on to be licensed.
//
// The command's outcome names the pod: each attempt, of which a redelivery can
// make several at a time, changes it only from what it has read, then claims
// that very name, and goes on only if the outcome still names it.
func (c *creator) claim(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, p plan) error {
	var free *candidate
	for range claimRounds {
		// The first attempt of a command has nobody to look out for.
		careful := d.Attempt > 1 || outcome.Verdict != ""
		if outcome.Verdict == events.Accepted {
			done, err := c.takeNamed(ctx, d, outcome, p, free)
			if done || err != nil {
				return err
			}
		}
		var err error
		outcome, free, err = c.nameAnother(ctx, d, outcome, p, careful)
		if err != nil || outcome.Verdict != events.Accepted {
			return err // Refused here or by another attempt, or expired.
		}
	}
	return natsbus.Again(claimPause, errors.New("others were faster each time"))
}

// candidate is a name that was found free, and the pod that was drafted for it.
type candidate struct {
	entry natsbus.Entry
	draft draft
}

// takeNamed claims the name that the outcome holds, or goes on with the claim
// that is there. free, if not nil, is what this attempt found of the name that
// it made the outcome hold. done is false when the name is another pod's.
func (c *creator) takeNamed(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, p plan, free *candidate) (done bool, err error) {
	name := outcome.Pod
	if free == nil || free.draft.pod != name {
		if free, done, err = c.look(ctx, d, outcome, p); free == nil {
			return done, err
		}
	}
	entry, _, err := c.bus.AppendAfter(ctx, free.entry, name, free.draft.claim(d))
	switch {
	case errors.Is(err, events.ErrTaken):
		return false, nil
	case errors.Is(err, events.ErrOver):
		return true, nil
	case err != nil:
		return false, err
	}
	now, err := c.bus.Outcome(ctx, d.ID)
	switch {
	case err != nil:
		return false, err
	case now.Verdict != events.Accepted || now.Pod != name:
		return true, c.withdraw(ctx, entry)
	}
	if project := d.Create.Project; project != nil {
		// A stop reads the log after it was noted, so that one that has not seen the claim is seen here.
		if off, err := c.calledOff(ctx, project.ID, project.LastStop); err != nil {
			return false, err
		} else if off > 0 {
			return true, c.bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true, StopAt: off, Message: stoppedBefore})
		}
	}
	return true, c.handOn(ctx, d, entry, free.draft)
}

// look reads what stands under the name that the outcome holds. It returns no
// candidate when this attempt has nothing to do there any more (done), or the
// name is another pod's.
func (c *creator) look(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, p plan) (free *candidate, done bool, err error) {
	entry, err := c.bus.Last(ctx, outcome.Pod)
	if err != nil {
		return nil, false, err
	}
	ours := entry.Event != "" && entry.Command == d.ID
	if !ours {
		// Its pod may have come and gone.
		if had, err := c.bus.Claimed(ctx, outcome.Pod, d.ID); err != nil || had {
			return nil, had, err
		}
		if entry.Event != "" && entry.Event != events.Gone {
			return nil, false, nil
		}
	}
	if ours && entry.Event != events.Claimed {
		return nil, true, nil // The next stage has it, or its life is over.
	}
	made, err := p.draft(outcome.Pod)
	if err != nil {
		return nil, true, c.refuse(ctx, d, outcome, err)
	}
	return &candidate{entry, made}, false, nil
}

// nameAnother makes the outcome name the first name that is free for the plan and was
// never this command's, or refuse the command where there is none. It returns the
// outcome that holds, which another attempt may have written, and what it found.
func (c *creator) nameAnother(
	ctx context.Context, d natsbus.Delivery, outcome events.Outcome, p plan, careful bool,
) (holds events.Outcome, free *candidate, err error) {
	next, entry, err := p.pick(ctx, careful)
	if err != nil {
		return events.Outcome{}, nil, err
	}
	next.Command, next.User = d.ID, d.User
	if next.Verdict == events.Accepted {
		// Faults of the settings show before anything is accepted.
		made, err := p.draft(next.Pod)
		if err != nil {
			return events.Outcome{}, nil, c.refuse(ctx, d, outcome, err)
		}
		free = &candidate{entry, made}
	}
	holds, err = c.bus.Correct(ctx, outcome, next)
	if errors.Is(err, events.ErrDecided) {
		// Another attempt was faster, or the command has had its pod: what is free has to be looked at with that in mind.
		free, err = nil, nil
	}
	return holds, free, err
}

// holderOf returns the newest record of a name, and who has it. For a careful
// command, somebody else has what it once claimed.
func (c *creator) holderOf(ctx context.Context, d natsbus.Delivery, name string, careful bool) (entry natsbus.Entry, has holder, err error) {
	entry, err = c.bus.Last(ctx, name)
	switch {
	case err != nil:
		return entry, another, err
	case entry.Event != "" && entry.Event != events.Gone && entry.User == d.User:
		return entry, same, nil
	case entry.Event != "" && entry.Event != events.Gone:
		return entry, another, nil
	case !careful:
		return entry, nobody, nil
	}
	if had, err := c.bus.Claimed(ctx, name, d.ID); err != nil || had {
		return entry, another, err
	}
	return entry, nobody, nil
}

// withdraw ends a claim that the outcome does not name (any more). Nothing was
// made for it.
func (c *creator) withdraw(ctx context.Context, entry natsbus.Entry) error {
	for _, kind := range []events.Kind{events.FactDelete, events.FactGone} {
		_, _, err := c.bus.Append(ctx, entry.Pod, events.Fact{Kind: kind, Generation: entry.Generation, At: time.Now().UTC()})
		if err != nil && !errors.Is(err, events.ErrOver) && !errors.Is(err, events.ErrGeneration) {
			return err
		}
	}
	return nil
}

// handOn arms the create timer and publishes the next stage. It is repeated
// when the command is redelivered, so that a crash in between strands nothing.
func (c *creator) handOn(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, made draft) error {
	// The timer comes first: once the next stage has the pod, an attempt that is made
	// again leaves it alone, and nobody would arm it any more.
	if err := c.bus.ArmTimer(ctx, entry.Record, events.TimerCreate, entry.ClaimedAt.Add(c.config.TimeoutCreate)); err != nil {
		return err
	}
	err := c.bus.Publish(ctx, events.Command{
		Stage: events.StageLicense, ID: d.ID, Cluster: d.Cluster, User: d.User, Pod: entry.Pod, Generation: entry.Generation,
		Traceparent: d.Traceparent, After: entry.Known(), Rendered: made.rendered,
		Project: d.Create.Project, Labels: made.labels, Annotations: made.annotations,
	}, strconv.FormatUint(entry.Sequence, 10))
	if errors.Is(err, events.ErrTooLarge) {
		return natsbus.Permanent(events.RequestInvalid, err)
	}
	return err
}

// failCreate makes it known that a create could not be done.
func (c *creator) failCreate(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	outcome, err := c.bus.Outcome(ctx, d.ID)
	if err != nil {
		return err
	}
	if outcome.Verdict == events.Accepted {
		entry, err := c.bus.Last(ctx, outcome.Pod)
		if err != nil {
			return err
		}
		if entry.Command == d.ID {
			return c.bus.Fail(ctx, outcome.Pod, entry.Generation, reason, message, events.DeleteRequest{})
		}
	}
	return c.decide(ctx, d, events.Outcome{Verdict: events.Refused, Reason: reason, Message: message})
}
