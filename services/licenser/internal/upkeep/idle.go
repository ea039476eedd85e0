package upkeep

import "time"

// Use is what there is to know about the use of a project that is ready.
type Use struct {
	Now time.Time
	// LastActivity is when anybody last used it; Since is from when on it has been ready. The later of the
	// two counts: a project that has just been started is in use.
	LastActivity, Since time.Time
	// Timeout is how long it may be idle, 0 for ever; Warning is how long before its stop it is warned.
	Timeout, Warning time.Duration
	// StopAt is the stop that its users have been warned of, zero for none.
	StopAt time.Time
}

// Idleness is what follows from it.
type Idleness struct {
	// Stop means that it is to be stopped now.
	Stop bool
	// StopAt is the stop that its users are to be warned of, zero for none.
	StopAt time.Time
	// Look is when to look again, zero for never.
	Look time.Time
}

// Idle decides whether a project is to be warned or stopped. Nothing is stopped without a warning the
// whole time before: where that is late, so is the stop. The warning is never longer than half the timeout.
//
// A project is stopped at the earliest one timeout after it has become ready. Hubs stop none
// within ten minutes after its start, for the sake of those whose last edit is from long ago; here the start counts
// as activity, so that a shorter timeout is what its administrator wants.
func Idle(u Use) Idleness {
	if u.Timeout <= 0 {
		return Idleness{}
	}
	last := u.LastActivity
	if last.Before(u.Since) {
		last = u.Since
	}
	warning := min(u.Warning, u.Timeout/2)
	end := last.Add(u.Timeout)
	switch {
	case u.Now.Before(end.Add(-warning)):
		return Idleness{Look: end.Add(-warning)}
	case u.StopAt.IsZero(), u.StopAt.Before(end.Add(-time.Second)):
		// Not warned yet, or warned before somebody used it again.
		stop := end
		if late := u.Now.Add(warning); late.After(stop) {
			stop = late
		}
		return Idleness{StopAt: stop, Look: stop}
	case u.Now.Before(u.StopAt):
		return Idleness{StopAt: u.StopAt, Look: u.StopAt}
	}
	return Idleness{Stop: true, StopAt: u.StopAt}
}
