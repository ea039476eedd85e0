package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
	"berth/pkg/events"
)

// wait is a command that asks for something about one pod and waits for it.
type wait struct {
	*app

	api     *client.Client
	display *display
	user    string
	// pod is the name, known the pod as it was when the waiting began.
	pod   string
	known client.Pod
	goal  track.Goal
	began time.Time
}

// outcome is what a command that waits writes as JSON.
type outcome struct {
	Pod      string        `json:"pod_name"`
	User     string        `json:"user_id"`
	Event    events.Type   `json:"event"`
	Reason   events.Reason `json:"reason,omitempty"`
	Message  string        `json:"message,omitempty"`
	Duration float64       `json:"duration_seconds"`
	Phases   []phase       `json:"phases,omitempty"`
}

type phase struct {
	Event    events.Type   `json:"event"`
	Reason   events.Reason `json:"reason,omitempty"`
	Duration float64       `json:"duration_seconds"`
}

// withTimeout bounds a command.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := func() { cancel(errClosed) }
	if timeout <= 0 {
		return ctx, over
	}
	limited, stop := context.WithTimeoutCause(ctx, timeout, errTimeout)
	return limited, func() { over(); stop() }
}

// patience is how long the service may be away while something is waited for.
const patience = 30 * time.Second

// run waits and tells how it ended.
func (w *wait) run(ctx context.Context) error {
	following, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var away atomic.Int64 // Since when nothing has been heard, in Unix nanoseconds; 0 for not at all.
	w.onRetry(func(err error, _ time.Duration) {
		now := time.Now()
		switch since := away.Load(); {
		case since == 0:
			away.Store(now.UnixNano())
			if !errors.Is(err, client.ErrStreamEnded) {
				w.display.notice(fmt.Sprintf("the service is not available (%v); trying again", err))
			}
		case now.Sub(time.Unix(0, since)) > patience:
			cancel(err)
		}
	})
	t := track.Tracker{API: w.api, Pod: w.known, Goal: w.goal, OnChange: w.show, OnSign: func() { away.Store(0) }}
	stop := w.display.start()
	result, err := t.Wait(following)
	stop()
	w.onRetry(nil)
	took := time.Since(w.began)
	if w.json {
		w.writeJSON(w.Stdout, w.outcome(result, took))
	}
	if err != nil || !result.Reached {
		return w.failure(ctx, result, took, err)
	}
	if !w.quiet && !w.json {
		text := fmt.Sprintf("%s is %s after %s", w.pod, result.Last.Event, progress.Duration(took))
		if summary := w.display.summary(); summary != "" {
			text += " (" + summary + ")"
		}
		fmt.Fprintln(w.Stderr, text)
	}
	return nil
}

// show leaves out what was before a delete while one is waited for.
func (w *wait) show(changes []progress.Change) {
	if w.goal == track.Gone {
		for len(changes) > 0 && changes[0].Event != events.Deleting && changes[0].Event != events.Gone {
			changes = changes[1:]
		}
	}
	w.display.show(changes)
}

func (w *wait) outcome(result track.Result, took time.Duration) outcome {
	o := outcome{
		Pod: w.pod, User: w.user, Event: result.Last.Event, Reason: result.Last.Reason, Message: result.Last.Message,
		Duration: seconds(took),
	}
	for _, s := range w.display.seen().Done() {
		o.Phases = append(o.Phases, phase{Event: s.Event, Reason: s.Reason, Duration: seconds(s.Took)})
	}
	return o
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// failure says why the goal was not reached.
func (w *wait) failure(ctx context.Context, result track.Result, took time.Duration, err error) *failure {
	last := result.Last
	cause := progress.Cause(last.Reason, last.Message)
	f := &failure{code: ExitFailed, reason: string(last.Reason), pod: w.pod}
	goesOn, again := "goes on being made", w.again("pods watch "+w.pod)
	if w.goal == track.Gone {
		goesOn, again = "goes on being deleted", w.again("pods watch --delete "+w.pod)
	}
	state := ""
	if last.Event != "" {
		state = " (" + strings.TrimSuffix(string(last.Event)+": "+cause, ": ") + ")"
	}
	interrupted := ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout)
	switch {
	case interrupted:
		f.code, f.reason = ExitInterrupted, codeInterrupted
		f.message = fmt.Sprintf("interrupted: %s%s %s", w.pod, state, goesOn)
		f.hint = again
	case ctx.Err() != nil:
		f.code, f.reason = ExitTimeout, codeWaitTimeout
		f.message = fmt.Sprintf("%s is not %s after %s%s; it %s", w.pod, goalName(w.goal), progress.Duration(took), state, goesOn)
		f.hint = again
	case err != nil:
		f = failed(ctx, "wait for "+w.pod, err)
		f.pod = w.pod
		f.hint = again
	case w.goal == track.Gone:
		f.message = fmt.Sprintf("%s is %s, and nobody deletes it", w.pod, last.Event)
		f.hint = w.again("pods delete " + w.pod)
	default:
		f.message = strings.TrimSuffix(fmt.Sprintf("%s %s after %s: %s", w.pod, ending(last.Event), progress.Duration(took), cause), ": ")
	}
	if f.reason == "" {
		f.reason = codeFailed
	}
	return f
}

func goalName(goal track.Goal) events.Type {
	if goal == track.Gone {
		return events.Gone
	}
	return events.Ready
}

// ending is what became of a pod that is not ready.
func ending(event events.Type) string {
	switch event {
	case events.Deleting:
		return "is being deleted"
	case events.Gone:
		return "is gone"
	default:
		return string(event)
	}
}

// again is a command that goes on with this one: with its flags, where they do
// not come from the environment.
func (a *app) again(command string) string {
	text := "berth " + command
	if a.user != a.getenv("BERTH_USER") {
		text += " --user " + quote(a.user)
	}
	if u, err := url.Parse(a.url); err == nil && a.url != a.getenv("BERTH_URL") && a.url != defaultURL {
		text += " --url " + quote(u.Redacted())
	}
	return text
}

// quote makes a word for a shell.
func quote(word string) string {
	if matches(`[-A-Za-z0-9@:/._]+`, word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
