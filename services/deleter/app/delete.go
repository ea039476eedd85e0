package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// launchAttempt is how long after `launching` an object may still appear: the
// creator gives up an attempt before this.
const launchAttempt = 30 * time.Second

// vanishDelay is the pause before it is asked again whether a pod has vanished
// that was deleted during its launch.
const vanishDelay = 500 * time.Millisecond

// pods removes pods from the cluster; see package cluster.
type pods interface {
	Find(ctx context.Context, name, generation string) (uid string, err error)
	Exists(ctx context.Context, name, uid string) (bool, error)
	Delete(ctx context.Context, name, uid string) (vanished bool, err error)
}

// belongings removes what belongs to pods and users; see package cluster.
type belongings interface {
	Belonging(ctx context.Context, pod string) ([]reap.Object, error)
	Storage(ctx context.Context, user, name string) ([]reap.Object, error)
	Remove(ctx context.Context, o reap.Object) (vanished bool, err error)
}

// deleter carries out the delete stage.
type deleter struct {
	bus           *natsbus.Bus
	pods          pods
	objects       belongings
	limits        reap.Limits
	timeoutDelete time.Duration
	launchAttempt time.Duration
}

// handle brings one pod nearer to its end. It is called again, by the watcher
// when an object has vanished and by the delete timer, until the pod is gone.
func (d *deleter) handle(ctx context.Context, c natsbus.Delivery) error {
	request := *c.Delete
	entry := c.Newest()
	if !usable(entry, request) || c.Attempt > 1 {
		var err error
		if entry, err = d.bus.Last(ctx, c.Pod); err != nil {
			return err
		}
	}
	if entry.Event == "" || entry.Event == events.Gone || entry.Generation != c.Generation {
		return d.over(ctx, c, entry)
	}
	if request.Found != "" && !entry.Event.Over() {
		return nil // The sender took a pod for a stray that the log knows as alive.
	}
	if request.Timer == events.TimerCreate {
		over, err := d.expire(ctx, entry)
		if err != nil || !over {
			return err
		}
	}
	begun := entry.Event == events.Deleting // After which nothing comes but the end.
	entry, err := d.begin(ctx, c, entry)
	switch {
	case errors.Is(err, events.ErrGeneration), errors.Is(err, events.ErrOver): // Gone since it was read.
		return d.over(ctx, c, entry)
	case err != nil:
		return err
	}
	// The timer drives a delete on that is stuck, however many processes die. News
	// of a delete that is under way finds it armed.
	if request.Vanished == "" && !request.LaunchOver {
		if err := d.bus.ArmTimer(ctx, entry.Record, events.TimerDelete, time.Now().Add(d.timeoutDelete)); err != nil {
			return err
		}
	}
	// The news that the pod is gone is about the services, which go next.
	alone, err := d.storageAlone(ctx, entry, begun && !request.EndOf(entry.Record))
	if err != nil {
		return err
	}
	if alone {
		return d.finish(ctx, entry)
	}
	vanished, err := d.remove(ctx, entry, request)
	if err != nil {
		return err
	}
	if !vanished {
		// What vanishes is reported without the creator's word that its launch is
		// over, so the command that has it stays until then.
		if request.LaunchOver && !reap.Settled(entry.Record, false, time.Now(), d.launchAttempt) {
			return natsbus.Again(vanishDelay, errors.New("the pod is still being terminated"))
		}
		return nil
	}
	if !reap.Settled(entry.Record, request.LaunchOver, time.Now(), d.launchAttempt) {
		return natsbus.Again(time.Second, errors.New("a launch may still be under way"))
	}
	if err := d.removeBelongings(ctx, entry, c.Attempt); err != nil {
		return err
	}
	return d.finish(ctx, entry)
}

// begin notes that a pod is being deleted, and why, and that no other one is to follow it
// where that was asked for. The errors are those of [natsbus.Bus.AppendAfter].
func (d *deleter) begin(ctx context.Context, c natsbus.Delivery, entry natsbus.Entry) (natsbus.Entry, error) {
	if entry.Event == events.Deleting && (!c.Delete.Stop || entry.Restart == nil || entry.Restart.Knows(c.Delete.StopAt)) {
		return entry, nil
	}
	entry, _, err := d.bus.AppendAfter(ctx, entry, c.Pod, events.Fact{
		Kind: events.FactDelete, Generation: c.Generation, At: time.Now().UTC(),
		Reason: c.Delete.Reason, Message: c.Delete.Message, Stop: c.Delete.Stop, StopAt: c.Delete.StopAt,
	})
	return entry, err
}

// over does what is left to do about a pod that is gone: whoever noted that may have died
// before it asked for the pod that follows, and an object may have been left behind.
func (d *deleter) over(ctx context.Context, c natsbus.Delivery, entry natsbus.Entry) error {
	if entry.Event == events.Gone && entry.Generation == c.Generation {
		if err := d.follow(ctx, entry.Record, c.Delete.Stop && !entry.Restart.Knows(c.Delete.StopAt)); err != nil {
			return err
		}
	}
	return d.removeStray(ctx, c, *c.Delete)
}

// usable says whether what the sender of a command knew will do instead of what
// the log says. It does where the next thing is an append, which fails if it is
// not the newest. That a pod is being deleted it may say only with the news that
// its object is gone, and of a pod to which nothing else belongs: then, too, nothing
// is done but an append.
func usable(entry natsbus.Entry, request events.DeleteRequest) bool {
	switch {
	case entry.Event == "" || request.Timer != "" || request.Found != "":
		return false
	case entry.Event == events.Deleting:
		bare := len(entry.Objects) == 0 && entry.Storage == "" && len(entry.TokenKeys) == 0
		return bare && !entry.LaunchedAt.IsZero() && request.EndOf(entry.Record)
	}
	return true
}

// expire carries out what a fired create timer means. It returns true when the
// pod has to go.
func (d *deleter) expire(ctx context.Context, entry natsbus.Entry) (bool, error) {
	expiry := reap.Expire(entry.Record, time.Now(), d.limits)
	switch {
	case !expiry.Again.IsZero():
		return false, d.bus.ArmTimer(ctx, entry.Record, events.TimerCreate, expiry.Again)
	case !expiry.Failed:
		// A redelivered timer whose first delivery failed the pod goes on from there.
		return entry.Event == events.Failed || entry.Event == events.Deleting, nil
	}
	after, _, err := d.bus.AppendAfter(ctx, entry, entry.Pod, events.Fact{
		Kind: events.FactFail, Generation: entry.Generation, At: time.Now().UTC(),
		Reason: events.Timeout, Message: expiry.Message,
	})
	switch {
	case errors.Is(err, events.ErrOrder):
		return false, nil // Ready at the last moment.
	case errors.Is(err, events.ErrOver):
		return after.Event != events.Gone, nil
	}
	return err == nil, err
}

// remove deletes the pod's objects and says whether they have all vanished.
func (d *deleter) remove(ctx context.Context, entry natsbus.Entry, request events.DeleteRequest) (bool, error) {
	uid := entry.Observed.UID
	// Where the log has no UID, what vanished may have been an earlier pod of the name.
	if uid != "" && uid == request.Vanished {
		return true, nil
	}
	if uid == "" {
		var err error
		if uid, err = d.pods.Find(ctx, entry.Pod, entry.Generation); err != nil {
			return false, err
		}
		if uid == "" {
			return true, nil
		}
	}
	return d.pods.Delete(ctx, entry.Pod, uid)
}

// finish removes what outlives a pod's objects, appends gone, last of all, and asks for
// the pod that is to follow. It
// returns nil, too, while claim and volume are being removed: the watcher says when
// they are no more, and the delete timer asks again.
func (d *deleter) finish(ctx context.Context, entry natsbus.Entry) error {
	released, err := d.releaseStorage(ctx, entry)
	if err != nil || !released {
		return err
	}
	if len(entry.TokenKeys) > 0 {
		if err := d.bus.DropTokens(ctx, entry.Pod, entry.Generation); err != nil {
			return err
		}
	}
	gone, _, err := d.bus.AppendAfter(ctx, entry, entry.Pod, events.Fact{
		Kind: events.FactGone, Generation: entry.Generation, At: time.Now().UTC(),
	})
	switch {
	case err == nil:
		// The wish for another pod may have come after entry was read.
		if err := d.follow(ctx, gone.Record, false); err != nil {
			return err
		}
	case !errors.Is(err, events.ErrGeneration):
		return err
	}
	// A timer that is left behind by a crash fires, finds the pod gone, and asks for the one
	// that follows.
	return d.bus.DisarmTimers(ctx, entry.Record)
}

// follow asks for the pod that is to follow one that is gone, if any; stop means that
// none is, unless it has been accepted already.
func (d *deleter) follow(ctx context.Context, gone events.Record, stop bool) error {
	if gone.Restart == nil || !stop {
		return d.bus.AskFollowUp(ctx, gone)
	}
	_, err := d.bus.Correct(ctx, events.Outcome{}, events.Outcome{
		Verdict: events.Refused, Command: gone.Restart.Command, User: gone.User,
		Reason: events.Deleted, Message: "the project was stopped before its next pod was made",
	})
	if errors.Is(err, events.ErrDecided) {
		return nil
	}
	return err
}

// removeStray deletes an object in the cluster whose pod the log knows as gone.
func (d *deleter) removeStray(ctx context.Context, c natsbus.Delivery, request events.DeleteRequest) error {
	if request.Found == "" {
		return nil
	}
	if _, err := d.pods.Delete(ctx, c.Pod, request.Found); err != nil {
		return fmt.Errorf("remove a stray: %w", err)
	}
	return nil
}

// fail makes it known that a delete cannot be done now. The delete timer tries
// again; there is no record to write, since a delete never ends in a failure.
func (d *deleter) fail(ctx context.Context, c natsbus.Delivery, _ events.Reason, _ string) error {
	entry, err := d.bus.Last(ctx, c.Pod)
	if err != nil {
		return err
	}
	if entry.Generation != c.Generation || !entry.Event.Over() || entry.Event == events.Gone {
		return nil
	}
	return d.bus.ArmTimer(ctx, entry.Record, events.TimerDelete, time.Now().Add(d.timeoutDelete))
}
