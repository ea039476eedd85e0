package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/watcher/internal/diff"
)

// reconciler holds what the cluster shows against the log, one name at a time.
// It is safe for concurrent use, also for one name: the log's compare-and-set
// decides.
type reconciler struct {
	bus      *natsbus.Bus
	table    *natsbus.Table
	cluster  *cluster
	storages *storages
	log      zerolog.Logger
	backOffs int
	// timeoutCreate is how long a pod may take without getting further.
	timeoutCreate time.Duration
	// exists asks the API server for a pod; see package watch.
	exists func(ctx context.Context, name, uid string) (bool, error)
	// belongings asks for what belongs to a pod.
	belongings func(ctx context.Context, name string, pod diff.Pod) (diff.Belongings, error)
	committed  func(after natsbus.Entry)
	later      func(name string, after time.Duration)
	// adopted is told of each pod that was taken in, deletedOutside of each claim that
	// somebody deleted under its pods.
	adopted        func(after natsbus.Entry)
	deletedOutside func()
}

// reconcile looks at one name. complete and missing are [diff.Look]'s.
func (r *reconciler) reconcile(ctx context.Context, name string, complete, missing bool) error {
	entry, known := r.table.Pod(name)
	pod, vanished := r.cluster.Look(name)
	vanished, err := r.confirm(ctx, entry, pod, vanished)
	if err != nil {
		return err
	}
	look := diff.Look{
		Name: name, Pod: pod, Vanished: vanished, Missing: missing && pod.UID == "", Complete: complete,
		Cluster: r.bus.Cluster(), At: time.Now().UTC(), PullBackOffLimit: r.backOffs,
	}
	action := diff.Decide(entry.Record, look)
	// Before anything is adopted or removed, the leader is asked. There is no need to
	// for the news that the very object is gone which the log knows to be deleted.
	removes := action.Delete != nil && !action.Delete.EndOf(entry.Record)
	if unsure := !known || removes || complete; unsure && (action.Fact != nil || action.Delete != nil) {
		if entry, err = r.bus.Last(ctx, name); err != nil {
			return err
		}
		action = diff.Decide(entry.Record, look)
	}
	if action.Later > 0 {
		r.later(name, action.Later)
		return nil
	}
	if action.Fact != nil && action.Fact.Kind == events.FactAdopt && pod.Command != "" {
		had, err := r.bus.Claimed(ctx, name, pod.Command)
		if err != nil {
			return err
		}
		if had {
			action = diff.Stray(look)
		}
	}
	adopts := action.Fact != nil && action.Fact.Kind == events.FactAdopt
	if adopts {
		// What the old backend makes for a pod it makes after the pod.
		if wait := settled - time.Since(pod.Created); !complete && pod.Generation == "" && wait > 0 {
			r.later(name, wait)
			return nil
		}
		if look.Belongings, err = r.belongings(ctx, name, pod); err != nil {
			return err
		}
		action = diff.Decide(entry.Record, look)
	}
	if err := r.carryOut(ctx, name, entry, look, action); err != nil || !adopts && !complete {
		return err
	}
	return r.limit(ctx, name)
}

// confirm returns the UID of the pod that went if it is gone for certain. One
// that was not being terminated may have lost the label that the watch selects
// by; then it runs on, and nothing is said about it.
func (r *reconciler) confirm(ctx context.Context, entry natsbus.Entry, pod diff.Pod, vanished string) (string, error) {
	matters := entry.Event != "" && entry.Event != events.Gone && (entry.Observed.UID == vanished || entry.Observed.UID == "")
	if vanished == "" || pod.UID != "" || !matters || r.cluster.Certain(entry.Pod, vanished) {
		return vanished, nil
	}
	exists, err := r.exists(ctx, entry.Pod, vanished)
	if err != nil || !exists {
		return vanished, err
	}
	r.log.Warn().Str("pod_name", entry.Pod).Str("uid", vanished).
		Msg("A pod has lost its label podName; it is out of sight until it has it again")
	return "", nil
}

// limit sees to it that a launched pod does not wait to be ready for ever: its
// create timer may have been lost with the log, and an adopted one has none.
func (r *reconciler) limit(ctx context.Context, name string) error {
	entry, known := r.table.Pod(name)
	if known && !entry.ReadyAt.IsZero() {
		return nil
	}
	entry, err := r.bus.Last(ctx, name)
	if err != nil || entry.LaunchedAt.IsZero() || !entry.ReadyAt.IsZero() || entry.Event.Over() {
		return err
	}
	return r.bus.ArmTimer(ctx, entry.Record, events.TimerCreate, entry.ProgressAt.Add(r.timeoutCreate))
}

func (r *reconciler) carryOut(ctx context.Context, name string, entry natsbus.Entry, look diff.Look, action diff.Action) error {
	if action.Fact != nil {
		after, became, err := r.tell(ctx, name, entry, look, *action.Fact)
		if err != nil || became == nothingNew {
			return err
		}
		entry = after
		if (after.Event == events.Failed || after.Event == events.Deleting) && action.Delete == nil && became == appended {
			action.Delete = &events.DeleteRequest{}
		}
	}
	if action.Delete == nil {
		return nil
	}
	if action.Delete.Found != "" {
		r.log.Warn().Str("pod_name", name).Str("uid", action.Delete.Found).Msg("Removing a pod whose life is over in the log")
		entry.Record = events.Record{
			Cluster: r.bus.Cluster(), Pod: name, User: look.Pod.User, Command: look.Pod.Command, Generation: action.Generation,
		}
	}
	return r.bus.AskDelete(ctx, entry, *action.Delete)
}

// effect is what became of a fact.
type effect int

const (
	nothingNew effect = iota // There is nothing more to do.
	heldBefore               // The log knew it; somebody may have died before the next step.
	appended
)

// tell appends a fact, and has the tokens copied of a pod that is ready but for them.
func (r *reconciler) tell(ctx context.Context, name string, entry natsbus.Entry, look diff.Look, fact events.Fact) (natsbus.Entry, effect, error) {
	if fact.Kind == events.FactObserve {
		if _, changed, err := events.Next(entry.Record, fact); err == nil && !changed {
			// Most of what a watch says is nothing new.
			return entry, nothingNew, r.finish(ctx, entry, look.Complete)
		}
	}
	before := entry.Record
	after, changed, err := r.bus.AppendAfter(ctx, entry, name, fact)
	switch {
	case errors.Is(err, events.ErrGeneration), errors.Is(err, events.ErrOver), errors.Is(err, events.ErrOrder):
		return after, nothingNew, nil // The log has moved on; its next record brings us back here.
	case err != nil:
		return after, nothingNew, err
	}
	if changed {
		r.committed(after)
	}
	if fact.Kind == events.FactAdopt {
		if after.LaunchedAt.IsZero() {
			return after, nothingNew, fmt.Errorf("adopt %s: %w", name, events.ErrOrder)
		}
		r.adopted(after)
	}
	if err := r.finish(ctx, after, look.Complete || !diff.Pending(before)); err != nil {
		return after, nothingNew, err
	}
	if changed {
		return after, appended, nil
	}
	return after, heldBefore, nil
}

// finish has the tokens of a pod copied that is ready but for them. unasked says that
// nobody may have been told.
func (r *reconciler) finish(ctx context.Context, entry natsbus.Entry, unasked bool) error {
	if !unasked || !diff.Pending(entry.Record) {
		return nil
	}
	return r.bus.AskFinish(ctx, entry, "")
}
