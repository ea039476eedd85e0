// Package track waits for a pod to be ready or gone. It looks at the log where
// there is one, else asks the service again and again, and has the service's
// own word for the end.
package track

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/silo"
	"berth/pkg/events"
)

// API is the service. Its errors are [*silo.Error].
type API interface {
	Pod(ctx context.Context, user, name string) (silo.Pod, bool, error)
	WatchCreate(ctx context.Context, user, name string) (bool, error)
	WatchDelete(ctx context.Context, user, name string) (bool, error)
}

// Log tells a pod's life: emit is called with what has happened so far, then
// with what happens, until ctx ends or the log cannot be read.
type Log interface {
	Follow(ctx context.Context, emit func([]events.Event)) error
}

// Goal is what to wait for.
type Goal int

// The goals.
const (
	Ready Goal = iota
	Gone
)

// Tracker waits for one pod.
type Tracker struct {
	API API
	// Log is nil where there is none.
	Log       Log
	User, Pod string
	Goal      Goal
	// Fresh says that the pod has been asked for just now, so that the service
	// may not know it yet.
	Fresh bool
	// OnChange is called with what became known, several changes at once where
	// they happened before. OnNotice is called with what a person should know
	// about the waiting itself. Both are called from any goroutine.
	OnChange func([]progress.Change)
	OnNotice func(text string)
}

// Result is how the waiting ended.
type Result struct {
	// Reached says that the pod has come to its goal.
	Reached bool
	// Last is what is known of the pod; its zero value means nothing.
	Last progress.Change
}

const (
	// pollEvery is how often the service is asked where there is no log.
	pollEvery = 500 * time.Millisecond
	// settle is how long the log has to say the same as the service's answer, with
	// its reasons and times.
	settle = 500 * time.Millisecond
	// askEvery is the time between two questions about the end that were answered
	// with neither yes nor no.
	askEvery = 500 * time.Millisecond
	// grace is how long a pod that was asked for just now may be unknown.
	grace = 3 * time.Second
	// patience is how long the service may be away.
	patience = 30 * time.Second
)

// news is what the goroutines of a Tracker find out: changes, an answer of the
// service, or an error that ends the waiting.
type news struct {
	changes  []progress.Change
	answered bool
	yes      bool
	err      error
}

// Wait returns when the pod has reached its goal, or never will. It returns the
// cause of ctx when that ends before, and a [*silo.Error] when the service
// refuses to answer, or has been away for half a minute and there is no log.
// The result is then what was known last. Wait is called once.
func (t *Tracker) Wait(ctx context.Context) (Result, error) {
	began := time.Now()
	found := make(chan news)
	work, cancel := context.WithCancel(ctx)
	send := func(n news) {
		select {
		case found <- n:
		case <-work.Done():
		}
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { t.observe(work, send) })
	group.Go(func() { t.ask(work, send) })

	var result Result
	for {
		select {
		case <-ctx.Done():
			return result, context.Cause(ctx)
		case n := <-found:
			switch {
			case n.err != nil:
				return result, n.err
			case n.answered && n.yes:
				t.reach(&result)
				return result, nil
			case n.answered:
				if t.denied(ctx, &result, time.Since(began) < grace && t.Fresh) {
					return result, nil
				}
			default:
				t.OnChange(n.changes)
				result.Last = n.changes[len(n.changes)-1]
				if over, reached := t.judge(result.Last.Event); over {
					result.Reached = reached
					return result, nil
				}
			}
		}
	}
}

// judge says whether an event ends the waiting, and whether well.
func (t *Tracker) judge(event events.Type) (over, reached bool) {
	if t.Goal == Gone {
		return event == events.Gone, true
	}
	switch event {
	case events.Ready:
		return true, true
	case events.Failed, events.Ended, events.Deleting, events.Gone:
		return true, false
	default:
		return false, false
	}
}

// reach takes the service's word that the goal is reached.
func (t *Tracker) reach(result *Result) {
	event := events.Ready
	if t.Goal == Gone {
		event = events.Gone
	}
	result.Reached = true
	result.Last = progress.Change{Event: event, At: time.Now()}
	t.OnChange([]progress.Change{result.Last})
}

// denied finds out why the service's answer was no, and returns whether that is
// the end. A pod that is still being made (the service had to answer before it
// knew) is asked about again.
func (t *Tracker) denied(ctx context.Context, result *Result, fresh bool) bool {
	pod, there, err := t.API.Pod(ctx, t.User, t.Pod)
	if err != nil {
		return false // The next question finds out more.
	}
	if there {
		c := pod.Change(time.Now())
		t.OnChange([]progress.Change{c})
		result.Last = c
		over, reached := t.judge(c.Event)
		result.Reached = reached && over
		return over || t.Goal == Gone
	}
	if t.Goal == Gone || fresh {
		return false
	}
	// What made it fail is the reason why it is gone.
	c := progress.Change{Event: events.Gone, Reason: result.Last.Reason, Message: result.Last.Message, At: time.Now()}
	t.OnChange([]progress.Change{c})
	result.Last = c
	return true
}

// observe sends what happens to the pod.
func (t *Tracker) observe(ctx context.Context, send func(news)) {
	if t.Log != nil {
		err := t.Log.Follow(ctx, func(happened []events.Event) {
			changes := make([]progress.Change, 0, len(happened))
			for _, e := range happened {
				changes = append(changes, progress.Change{
					Event: e.Record.Event, Reason: e.Record.Reason, Message: e.Record.Message, At: e.Time,
				})
			}
			send(news{changes: changes})
		})
		if ctx.Err() != nil {
			return
		}
		t.OnNotice(fmt.Sprintf("cannot follow the log (%v); asking the service instead", err))
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		// Failures are found, and told, by ask.
		if pod, there, err := t.API.Pod(ctx, t.User, t.Pod); err == nil && there {
			send(news{changes: []progress.Change{pod.Change(time.Now())}})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask sends what the service says about the end.
func (t *Tracker) ask(ctx context.Context, send func(news)) {
	watch := t.API.WatchCreate
	if t.Goal == Gone {
		watch = t.API.WatchDelete
	}
	var away time.Time // Since when the service has not answered.
	for {
		asked := time.Now()
		yes, err := watch(ctx, t.User, t.Pod)
		if ctx.Err() != nil {
			return
		}
		var failure *silo.Error
		pause := askEvery
		switch {
		case err == nil:
			away = time.Time{}
			if t.Log != nil && !sleep(ctx, settle) {
				return
			}
			send(news{answered: true, yes: yes})
		case !errors.As(err, &failure), failure.Refused():
			send(news{err: err})
			return
		default:
			// A long question that broke off says that the service was there until then.
			if away.IsZero() || time.Since(asked) > patience {
				away = time.Now()
				t.OnNotice(fmt.Sprintf("the service is not available (%v); trying again", err))
			}
			if t.Log == nil && time.Since(away) > patience {
				send(news{err: err})
				return
			}
			pause = failure.Wait()
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep waits for d, or less if ctx ends first; then it returns false.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
