// Package reap decides when a create has taken too long, and when a pod that is
// being removed is gone. It is pure: time is a parameter.
package reap

import (
	"fmt"
	"time"

	"berth/pkg/events"
)

// Limits are how long a create may take.
type Limits struct {
	// Create is how long a pod may take without getting further.
	Create time.Duration
	// CreateMax is how long it may take at the most.
	CreateMax time.Duration
}

// Expiry is what is to be done when a create's timer fires.
type Expiry struct {
	// Failed says that the time is up; Message says what the pod waited for.
	Failed  bool
	Message string
	// Again is when to look again; zero for never.
	Again time.Time
}

// Expire decides what a fired create timer means. A pod that was ready, or is
// over, has nothing to fear. One that got further, whose image is being pulled,
// whose storage is being bound, or, a project's, whose licenses wait for the database, has
// more time, up to limits.CreateMax since its claim.
func Expire(r events.Record, now time.Time, limits Limits) Expiry {
	if r.Event == "" || r.Event.Over() || !r.ReadyAt.IsZero() {
		return Expiry{}
	}
	begun := r.ClaimedAt
	if begun.IsZero() {
		begun = r.LaunchedAt // An adopted pod was never claimed.
	}
	last := begun
	if r.ProgressAt.After(last) {
		last = r.ProgressAt
	}
	_, project := events.ProjectOf(r.User)
	if r.Reason == events.Pulling || r.Reason == events.StoragePending || project && r.Unlicensed() {
		last = now
	}
	end, most := last.Add(limits.Create), begun.Add(limits.CreateMax)
	if end.After(most) {
		end = most
	}
	if end.After(now) {
		return Expiry{Again: end}
	}
	return Expiry{Failed: true, Message: expired(r, now.Sub(begun))}
}

func expired(r events.Record, took time.Duration) string {
	text := fmt.Sprintf("not ready after %s; it was %s", took.Round(time.Second), r.Event)
	if r.Reason != "" {
		text += ": " + string(r.Reason)
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	// A container that crashes again and again may just be running.
	if n := r.Observed.Restarts; n > 0 {
		text += fmt.Sprintf("; restarts: %d", n)
	}
	return text
}

// Settled says whether an object of a pod that is not in the cluster will never
// appear there: its launch never began or is over. launchOver is the creator's
// word for it; without it a launch that began and was not reported counts as
// over after the time that one attempt of a launch may take.
func Settled(r events.Record, launchOver bool, now time.Time, launchWait time.Duration) bool {
	began, ended := !r.LaunchingAt.IsZero(), !r.LaunchedAt.IsZero()
	return launchOver || !began || ended || now.Sub(r.LaunchingAt) > launchWait
}
