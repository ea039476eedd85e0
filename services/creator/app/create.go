package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/pkg/service/config"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/render"
)

// manifests fetches manifests; see package manifest.
type manifests interface {
	Fetch(ctx context.Context, url string) ([]byte, error)
}

// creator carries out the create, launch and finish stages.
type creator struct {
	bus       *natsbus.Bus
	config    config.Config
	manifests manifests
	pods      pods
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
		return natsbus.Again(250*time.Millisecond, err) // Missing means unknown: no claim.
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
	case events.Refused, events.Expiry, events.Done: // The last is no create's.
		return nil
	case events.Accepted: // An earlier attempt got further.
	case "":
		if late(d, created) {
			return c.decide(ctx, d, events.Outcome{
				Verdict: events.Expiry, Reason: events.Expired, Message: "the command came too late; nothing has been made",
			})
		}
	}
	parsed, err := c.manifest(ctx, d)
	if errors.Is(err, manifest.ErrBusy) {
		return natsbus.Again(busyDelay(d.Attempt), err) // The place is for those whose servers answer.
	}
	if err != nil {
		return c.refuse(ctx, d, outcome, err)
	}
	return c.claim(ctx, d, outcome, parsed)
}

// createPlaces is how many creates are under way at once. They wait for servers of
// manifests, of which none may have more than a few; see package manifest.
const createPlaces = 128

// The delays of a create whose manifest's server is busy. Within its attempts it outlives
// every deadline that a create may have, which is what ends it.
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

// manifest fetches and checks what the pod is made from.
func (c *creator) manifest(ctx context.Context, d natsbus.Delivery) (*corev1.Pod, error) {
	text, err := c.manifests.Fetch(ctx, d.Create.ManifestURL)
	if err != nil {
		return nil, err
	}
	return render.Parse(text)
}

// render makes the pod of a name.
func (c *creator) render(d natsbus.Delivery, parsed *corev1.Pod, name string) (*corev1.Pod, []string, error) {
	return render.Pod(parsed, render.Request{
		Name: name, User: d.User, Namespace: c.config.Namespace, Command: d.ID, Silo: d.Create.Silo.Name,
		SiloAddress: d.Create.Silo.DataAddress, SiloHostName: d.Create.Silo.HostName, Settings: d.Create.Settings,
		DefaultRestartPolicy: corev1.RestartPolicy(c.config.DefaultRestartPolicy),
		LocalRegistryURL:     c.config.LocalRegistryURL, LocalRegistrySecret: c.config.LocalRegistrySecret,
		Site: c.site(),
	})
}

// refuse ends a command whose manifest or settings are at fault, before there is
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

// claimRounds bounds how often an attempt begins anew because another attempt
// of the same command was faster.
const claimRounds = 8

// claim takes the first name that is free and hands the pod on to be licensed.
//
// The command's outcome names the pod: each attempt, of which a redelivery can
// make several at a time, changes it only from what it has read, then claims
// that very name, and goes on only if the outcome still names it.
func (c *creator) claim(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, parsed *corev1.Pod) error {
	var free *candidate
	for range claimRounds {
		// The first attempt of a command has nobody to look out for.
		careful := d.Attempt > 1 || outcome.Verdict != ""
		if outcome.Verdict == events.Accepted {
			done, err := c.takeNamed(ctx, d, outcome, parsed, free)
			if done || err != nil {
				return err
			}
		}
		var err error
		outcome, free, err = c.nameAnother(ctx, d, outcome, parsed, careful)
		if err != nil || outcome.Verdict != events.Accepted {
			return err // Refused here or by another attempt, or expired.
		}
	}
	return natsbus.Again(time.Second, errors.New("other attempts of this create were faster"))
}

// candidate is a name that was found free, and the pod that is rendered for it.
type candidate struct {
	entry    natsbus.Entry
	pod      *corev1.Pod
	warnings []string
}

// takeNamed claims the name that the outcome holds, or goes on with the claim
// that is there. free, if not nil, is what this attempt found of the name that
// it made the outcome hold. done is false when the name is another pod's.
func (c *creator) takeNamed(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, parsed *corev1.Pod, free *candidate) (done bool, err error) {
	name := outcome.Pod
	if free == nil || free.pod.Name != name {
		if free, done, err = c.look(ctx, d, outcome, parsed); free == nil {
			return done, err
		}
	}
	entry, pod := free.entry, free.pod
	entry, _, err = c.bus.AppendAfter(ctx, entry, name, claimOf(d, pod, free.warnings))
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
	case now.Verdict == events.Accepted && now.Pod == name:
		return true, c.handOn(ctx, d, entry, pod)
	}
	return true, c.withdraw(ctx, entry)
}

// look reads what stands under the name that the outcome holds. It returns no
// candidate when this attempt has nothing to do there any more (done), or the
// name is another pod's.
func (c *creator) look(ctx context.Context, d natsbus.Delivery, outcome events.Outcome, parsed *corev1.Pod) (free *candidate, done bool, err error) {
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
	pod, warnings, err := c.render(d, parsed, outcome.Pod)
	if err != nil {
		return nil, true, c.refuse(ctx, d, outcome, err)
	}
	return &candidate{entry, pod, warnings}, false, nil
}

// nameAnother makes the outcome name the first name that is free and was never
// this command's, or refuse the command when its user has as many pods as there
// are names. It returns the outcome that holds, which another attempt may have
// written, and what it found.
func (c *creator) nameAnother(
	ctx context.Context, d natsbus.Delivery, outcome events.Outcome, parsed *corev1.Pod, careful bool,
) (holds events.Outcome, free *candidate, err error) {
	// It says nothing about others, whose ids may make the same names.
	next := events.Outcome{Command: d.ID, User: d.User, Verdict: events.Refused, Reason: events.NameExhausted}
	next.Message = fmt.Sprintf("the user has %d pods of this manifest (%s and so on), and can have no more; delete one first",
		names, kube.Name(parsed.Name, d.User, 0))
	var entry natsbus.Entry
	name, err := firstName(parsed.Name, d.User, func(name string) (has holder, err error) {
		entry, has, err = c.holderOf(ctx, d, name, careful)
		return has, err
	})
	if err != nil {
		return events.Outcome{}, nil, err
	}
	if name != "" {
		// Faults of the settings show before anything is accepted.
		pod, warnings, err := c.render(d, parsed, name)
		if err != nil {
			return events.Outcome{}, nil, c.refuse(ctx, d, outcome, err)
		}
		free = &candidate{entry, pod, warnings}
		next = events.Outcome{Command: d.ID, User: d.User, Verdict: events.Accepted, Pod: name}
	}
	holds, err = c.bus.Correct(ctx, outcome, next)
	if errors.Is(err, events.ErrDecided) {
		err = nil
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

// claimOf is the first record of a pod.
func claimOf(d natsbus.Delivery, pod *corev1.Pod, warnings []string) events.Fact {
	first := pod.Spec.Containers[0]
	return events.Fact{Kind: events.FactClaim, At: time.Now().UTC(), Record: events.Record{
		Cluster: d.Cluster, Pod: pod.Name, User: d.User, Command: d.ID, Silo: d.Create.Silo.Name,
		Manifest: d.Create.Manifest(), Container: first.Name, Image: first.Image, Warnings: warnings,
	}}
}

// handOn arms the create timer and publishes the next stage. It is repeated
// when the command is redelivered, so that a crash in between strands nothing.
func (c *creator) handOn(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, pod *corev1.Pod) error {
	rendered, err := json.Marshal(pod)
	if err != nil {
		return fmt.Errorf("marshal pod: %w", err)
	}
	// The timer comes first: once the next stage has the pod, an attempt that is made
	// again leaves it alone, and nobody would arm it any more.
	if err := c.bus.ArmTimer(ctx, entry.Record, events.TimerCreate, entry.ClaimedAt.Add(c.config.TimeoutCreate)); err != nil {
		return err
	}
	return c.bus.Publish(ctx, events.Command{
		Stage: events.StageLicense, ID: d.ID, Cluster: d.Cluster, User: d.User, Pod: entry.Pod, Generation: entry.Generation,
		Traceparent: d.Traceparent, After: entry.Known(), Rendered: rendered,
	}, strconv.FormatUint(entry.Sequence, 10))
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
