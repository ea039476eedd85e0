package app

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/api/internal/access"
	"berth/services/api/internal/silo"
	"berth/services/api/internal/v1"
)

// resources answers the requests below /v1 from the log. It is safe for concurrent use.
type resources struct{ b *backend }

var (
	_ v1.State   = resources{}
	_ v1.Own     = resources{}
	_ v1.Past    = resources{}
	_ v1.Makes   = resources{}
	_ v1.Once    = resources{}
	_ v1.Removes = resources{}
)

// newV1 returns the handler of /v1. The caller fills in what it measures, and sees
// to it that the hub is told of each record of the table; see tellV1.
func newV1(b *backend, guard v1.Guard, hub *v1.Hub) *v1.Handler {
	r := resources{b}
	return &v1.Handler{
		Guard: guard, State: r, Own: r, Past: r, Makes: r, Once: r, Removes: r, Projects: r, Asks: r, Hub: hub,
		Draining: b.draining, IngressDomain: b.config.IngressDomain, Retention: b.config.LogRetention, Kept: natsbus.KeptRecords,
	}
}

// tellV1 hands a record of the table on to the streams of /v1. It is called within
// the table's onChange.
func tellV1(hub *v1.Hub, table *natsbus.Table, e natsbus.Entry) {
	epoch := table.Epoch()
	hub.Tell(v1.Epoch(epoch), entryIn(epoch.Created, e))
}

// entryIn is an entry of a log of an age.
func entryIn(created int64, e natsbus.Entry) v1.Entry {
	return v1.Entry{Record: e.Record, Position: events.Position{Created: created, Sequence: e.Sequence}, Time: e.Time}
}

func (r resources) entry(e natsbus.Entry) v1.Entry { return entryIn(r.b.table.Created(), e) }

// told makes a fault of /v1 out of the backend's.
func told(err error) error {
	var e *silo.Error
	switch {
	case errors.As(err, &e):
		return &v1.Fault{Status: e.Status, Reason: e.Reason, Message: e.Message}
	case errors.Is(err, natsbus.ErrUnavailable), errors.Is(err, errDraining), errors.Is(err, errTimeout):
		return &v1.Fault{Reason: events.Unavailable, Message: err.Error()}
	}
	return err
}

// Ready implements [v1.State].
func (r resources) Ready() error { return told(r.b.table.Ready()) }

// Epoch implements [v1.State].
func (r resources) Epoch() v1.Epoch { return v1.Epoch(r.b.table.Epoch()) }

// Pods implements [v1.State].
func (r resources) Pods(ctx context.Context, user string) ([]v1.Entry, error) {
	read := r.b.table.FreshPods
	if user != "" {
		read = func(ctx context.Context) ([]natsbus.Entry, error) { return r.b.table.FreshUser(ctx, user) }
	}
	entries, err := read(ctx)
	if err != nil {
		return nil, told(err)
	}
	created := r.b.table.Created()
	pods := make([]v1.Entry, len(entries))
	for i, e := range entries {
		pods[i] = entryIn(created, e)
	}
	return pods, nil
}

// Pod implements [v1.Own].
func (r resources) Pod(ctx context.Context, user, name string) (v1.Entry, error) {
	e, err := r.b.own(ctx, user, name)
	if err == nil && e.Event == events.Gone {
		err = silo.ErrNoPod
	}
	if err != nil {
		return v1.Entry{}, told(err)
	}
	return r.entry(e), nil
}

// Tokens implements [v1.Own].
func (r resources) Tokens(ctx context.Context, e v1.Entry) (map[string]string, error) {
	if len(e.TokenKeys) == 0 || e.Event.Over() {
		return nil, nil
	}
	tokens, known, err := r.b.bus.Tokens(ctx, e.Pod, e.Generation)
	switch {
	case err != nil:
		return nil, told(err)
	case !known:
		// They are being copied for the first time, or again after the bucket was lost.
		return nil, &v1.Fault{
			Reason: events.Unavailable, Message: "the tokens are still to be copied out of the pod; ask again", RetryAfter: tokenPause,
		}
	}
	return tokens, nil
}

// tokenPause is when to ask again for tokens that are being copied.
const tokenPause = 2 * time.Second

// maxHistory is how many records of a name and user a timeline is made of at the
// most: more than the log keeps.
const maxHistory = 1024

// History implements [v1.Past].
func (r resources) History(ctx context.Context, user, name string) ([]v1.Step, error) {
	if err := r.b.table.Ready(); err != nil {
		return nil, told(err)
	}
	return r.after(ctx, events.Position{Created: r.b.table.Created()}, natsbus.Scope{Pod: name, User: user}, maxHistory, nil)
}

// After implements [v1.Past].
func (r resources) After(ctx context.Context, after events.Position, scope v1.Scope, limit int, wants func(events.Record) bool) ([]v1.Step, error) {
	return r.after(ctx, after, natsbus.Scope(scope), limit, wants)
}

func (r resources) after(ctx context.Context, after events.Position, scope natsbus.Scope, limit int, wants func(events.Record) bool) ([]v1.Step, error) {
	found, err := r.b.bus.After(ctx, after, scope, limit, wants)
	if err != nil {
		return nil, told(err)
	}
	steps := make([]v1.Step, len(found))
	for i, s := range found {
		steps[i] = v1.Step{Entry: entryIn(after.Created, s.Entry), Source: s.Source}
	}
	return steps, nil
}

// RecordAt implements [v1.Past].
func (r resources) RecordAt(ctx context.Context, p events.Position) (time.Time, bool, error) {
	appended, there, err := r.b.bus.RecordAt(ctx, p)
	return appended, there, told(err)
}

// Create implements [v1.Makes].
func (r resources) Create(ctx context.Context, c v1.Create) (v1.Entry, string, error) {
	if err := r.b.table.Ready(); err != nil {
		return v1.Entry{}, "", told(err)
	}
	command := r.b.command(ctx, silo.CreateRequest{ManifestURL: c.ManifestURL, User: c.User, Settings: c.Settings, Silo: c.Caller.Silo})
	var decided events.Outcome
	if c.Key != "" {
		var err error
		if command.ID, decided, err = r.attempt(ctx, c, command.ID, ""); err != nil {
			return v1.Entry{}, command.ID, told(err)
		}
	}
	name, err := r.b.launch(ctx, command, c.Key != "", decided)
	if err != nil {
		return v1.Entry{Record: events.Record{Pod: name}}, command.ID, told(err)
	}
	e, err := r.b.table.Fresh(ctx, name)
	switch {
	case err != nil:
		return v1.Entry{Record: events.Record{Pod: name}}, command.ID, told(err)
	case e.Command != command.ID, e.Event == events.Gone:
		return v1.Entry{}, command.ID, errPodGone
	}
	return r.entry(e), command.ID, nil
}

// errPodGone is the answer to a key whose pod has come and gone.
var errPodGone = &v1.Fault{
	Status: http.StatusGone, Reason: events.NotFound,
	Message: "the pod that was made for this request is gone; use another Idempotency-Key for a new one",
}

// attempt returns the id of the command that a key stands for, and what is known of
// its outcome. proposed is the id for a key that nobody has used within the hour. A refusal is tried again, but for one for the reason
// done, where that is not empty: then what was asked for has been done by somebody else.
func (r resources) attempt(ctx context.Context, c v1.Create, proposed string, done events.Reason) (id string, decided events.Outcome, err error) {
	mine := v1.Reservation{Body: c.Body, Command: proposed}
	first, isMine, err := r.reserve(ctx, v1.KeyID(c.Caller.Silo.Name, c.User, c.Key), c.User, mine)
	if err != nil || isMine {
		return first.Command, events.Outcome{}, err
	}
	for n := range v1.Attempts {
		id = first.Attempt(n)
		if decided, err = r.b.bus.Outcome(ctx, id); err != nil {
			return "", events.Outcome{}, err
		}
		// Of what expired or was refused nothing is made, whatever is delivered again.
		if decided.Verdict == "" || decided.Verdict == events.Accepted || done != "" && decided.Reason == done {
			return id, decided, nil
		}
	}
	return id, decided, nil
}

// reserve has a key stand for what a request proposes, and returns what it stands for: that, or what an earlier
// request with the same body has proposed. isMine says that it is that, which an earlier one may have proposed, too.
func (r resources) reserve(ctx context.Context, key, user string, proposed v1.Reservation) (holds v1.Reservation, isMine bool, err error) {
	stands, err := r.b.bus.Decide(ctx, events.Outcome{Verdict: events.Done, Command: key, User: user, Message: proposed.String()})
	if err == nil {
		return proposed, true, nil
	}
	if !errors.Is(err, events.ErrDecided) {
		return v1.Reservation{}, false, err
	}
	first, err := heldFor(stands.Message, proposed)
	return first, false, err
}

// heldFor reads what a key stands for, for a request with a body.
func heldFor(text string, proposed v1.Reservation) (v1.Reservation, error) {
	first, ok := v1.ParseReservation(text)
	switch {
	case !ok:
		return v1.Reservation{}, &v1.Fault{
			Reason: events.RequestInvalid, Message: "another version of this service has used this Idempotency-Key; use another",
		}
	case first.Body != proposed.Body:
		return v1.Reservation{}, &v1.Fault{
			Status: http.StatusUnprocessableEntity, Reason: events.RequestInvalid,
			Message: "this Idempotency-Key has been used for another request within the last hour; use another key",
		}
	}
	return first, nil
}

// madeOf is the id of the record that says that what a key stands for has been made, endOf that of the one which says how the
// request ended that made a reservation; see [resources.end].
func madeOf(key string) string         { return key + "-made" }
func endOf(held v1.Reservation) string { return "key-end-" + held.Request }

// Reserve implements [v1.Once].
func (r resources) Reserve(ctx context.Context, c access.Caller, key string, mine v1.Reservation) (v1.Held, error) {
	id := v1.KeyID(c.Silo.Name, "", key)
	// Before the reservation, which it may outlive: that was made for the first attempt.
	made, err := r.b.bus.Outcome(ctx, madeOf(id))
	if err != nil {
		return v1.Held{}, told(err)
	}
	if made.Message != "" {
		held, err := heldFor(made.Message, mine)
		return v1.Held{Reservation: held, Made: true}, err
	}
	held, first, err := r.reserve(ctx, id, "", mine)
	if err != nil || first || held.Request == "" {
		// A replica of an older version names no request, and says that a license was made, but not which.
		return v1.Held{Reservation: held, First: first, Made: made.Verdict != ""}, told(err)
	}
	return r.ended(ctx, id, held)
}

// firstLook is how often it is looked whether a request has ended that may be under way.
const firstLook = 100 * time.Millisecond

// ended returns how the request ended that made a reservation. It may be under way, so it is waited for a little; then it is
// written that another has gone on.
func (r resources) ended(ctx context.Context, key string, held v1.Reservation) (v1.Held, error) {
	waiting, cancel := r.b.waiting(ctx, r.b.waits.first)
	defer cancel()
	look := time.NewTicker(firstLook)
	defer look.Stop()
	for {
		made, err := r.b.bus.Outcome(ctx, madeOf(key))
		if err != nil || made.Verdict != "" {
			return v1.Held{Reservation: held, Made: true}, told(err)
		}
		end, err := r.b.bus.Outcome(ctx, endOf(held))
		if err != nil || end.Verdict != "" {
			return v1.Held{Reservation: held, Refused: end.Verdict == events.Refused}, told(err)
		}
		select {
		case <-look.C:
		case <-waiting.Done():
			if cause := context.Cause(waiting); !errors.Is(cause, errTimeout) {
				return v1.Held{}, told(cause)
			}
			end, err := r.end(ctx, held, events.Done)
			return v1.Held{Reservation: held, Refused: end == events.Refused}, err
		}
	}
}

// end has a verdict stand for the end of the request that made a reservation, unless one stands for it, and returns what stands:
// [events.Refused], which only that request says, where it has made nothing and no other has gone on with the key before; or
// [events.Done], where one has.
func (r resources) end(ctx context.Context, held v1.Reservation, proposed events.Verdict) (events.Verdict, error) {
	stands, err := r.b.bus.Decide(ctx, events.Outcome{Verdict: proposed, Command: endOf(held), Message: held.String()})
	if errors.Is(err, events.ErrDecided) {
		err = nil
	}
	return stands.Verdict, told(err)
}

// Made implements [v1.Once].
func (r resources) Made(ctx context.Context, c access.Caller, key string, held v1.Reservation) error {
	_, err := r.b.bus.Decide(ctx, events.Outcome{Verdict: events.Done, Command: madeOf(v1.KeyID(c.Silo.Name, "", key)), Message: held.String()})
	if errors.Is(err, events.ErrDecided) {
		return nil // By a request at the same time.
	}
	return told(err)
}

// Refused implements [v1.Once].
func (r resources) Refused(ctx context.Context, held v1.Reservation) (bool, error) {
	end, err := r.end(ctx, held, events.Refused)
	return end == events.Refused, err
}

// AwaitReady implements [v1.Makes].
func (r resources) AwaitReady(ctx context.Context, e v1.Entry) (v1.Entry, error) {
	b := r.b
	// The create timer ends a create long before this; it is for the case that
	// every deleter is away.
	waiting, cancel := b.waiting(ctx, b.config.TimeoutCreateMax+time.Minute)
	defer cancel()
	found, err := b.table.Await(waiting, e.Pod, func(n natsbus.Entry) bool {
		return n.Generation != e.Generation || !n.ReadyAt.IsZero() || n.Event.Over() || n.Event == events.Ended
	})
	switch {
	case err != nil:
		return v1.Entry{}, told(err)
	case found.Generation == e.Generation && !found.ReadyAt.IsZero() && !found.Event.Over() && found.Event != events.Ended:
		return r.entry(found), nil
	case found.Generation != e.Generation:
		return v1.Entry{}, &v1.Fault{Reason: events.Deleted, Message: "the pod was deleted while it was being made"}
	}
	return v1.Entry{}, &v1.Fault{
		Reason: cmp.Or(found.Reason, events.Deleted), Message: cmp.Or(found.Message, "the pod was deleted while it was being made"),
	}
}

// Delete implements [v1.Removes].
func (r resources) Delete(ctx context.Context, user, name string) (v1.Entry, error) {
	if err := r.b.Delete(ctx, user, name); err != nil {
		return v1.Entry{}, told(err)
	}
	e, err := r.b.own(ctx, user, name)
	switch {
	case errors.Is(err, silo.ErrNoPod):
		return v1.Entry{}, nil // It is gone, and another has the name.
	case err != nil:
		return v1.Entry{}, told(err)
	}
	return r.entry(e), nil
}

// AwaitGone implements [v1.Removes].
func (r resources) AwaitGone(ctx context.Context, user, name string) (bool, error) {
	gone, err := r.b.AwaitGone(ctx, user, name)
	return gone, told(err)
}
