package events

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Kind says what a [Fact] is about.
type Kind string

// The kinds of facts.
const (
	// FactClaim takes a name for a command.
	FactClaim Kind = "claim"
	// FactAdopt is a pod found in the cluster that the log does not know.
	FactAdopt Kind = "adopt"
	// FactLicense is the licenser's decision to go on.
	FactLicense Kind = "license"
	// FactRelicense is the licenser's: other licenses give a pod what it has.
	FactRelicense Kind = "relicense"
	// FactIdle is the licenser's: a project will be stopped, or not any more.
	FactIdle Kind = "idle"
	// FactLaunch is the creator's intention to call Kubernetes.
	FactLaunch Kind = "launch"
	// FactWait is the creator's, or the licenser's before the pod is licensed: something that the stage needs is not there yet.
	FactWait Kind = "wait"
	// FactLaunched is the creator's success.
	FactLaunched Kind = "launched"
	// FactObserve is what the cluster says about a launched pod.
	FactObserve Kind = "observe"
	// FactFinish is the creator's: the tokens are copied or given up.
	FactFinish Kind = "finish"
	// FactFail is the end of a create, before the pod was ready.
	FactFail Kind = "fail"
	// FactDelete is the beginning of the end, whatever went before.
	FactDelete Kind = "delete"
	// FactGone is the end.
	FactGone Kind = "gone"
)

// Fact is something that a service wants the log to say about a pod.
type Fact struct {
	Kind Kind
	// Generation is the pod's, in all kinds but a claim and an adoption.
	Generation string
	// At is when it happened.
	At time.Time
	// Reason and Message go into the record: for wait, fail and delete.
	Reason  Reason
	Message string
	// Record is what a claim or an adoption begins with.
	Record Record
	// Licenses is the licenser's decision, for license and relicense; Licensing says how,
	// and Container and Image are what the pod has now, empty where that did not change.
	Licenses  []License
	Licensing *Licensing
	Container string
	Image     string
	// IdleStopAt is when a project will be stopped, zero for not: for idle.
	IdleStopAt time.Time
	// Restart says that another pod follows, Stop that none does but one that somebody has
	// asked for who knew of the stop at StopAt: for delete.
	Restart *Restart
	Stop    bool
	StopAt  uint64
	// Storage is the claim that the pod uses, for launch and launched; TokenKeys is what
	// is copied out of it, for launch.
	Storage   string
	TokenKeys []string
	// UID is the pod's in the cluster: for launched, like all that belongs to it.
	UID     string
	Objects []Object
	HTTP    bool
	SSHPort int
	SSHUser string
	// Warnings are added to the record's: for launch and finish.
	Warnings []string
	// Observed is what the cluster says: for observe and adopt.
	Observed Observed
	// PullBackOffLimit is the how-manieth back-off of an image pull fails a
	// create: for observe.
	PullBackOffLimit int
}

// The errors of [Next].
var (
	// ErrTaken is returned for a claim or an adoption of a name that another pod has.
	ErrTaken = errors.New("the name is taken")
	// ErrGeneration is returned for a fact about another pod of the same name.
	ErrGeneration = errors.New("the fact is about another generation")
	// ErrOver is returned for a fact about a pod that has failed, is being
	// removed, or is gone: nothing may be made for it any more.
	ErrOver = errors.New("the pod is on its way out")
	// ErrOrder is returned for a fact that cannot follow yet.
	ErrOrder = errors.New("the fact cannot follow the pod's state")
)

// Next says what may follow what: it returns the record after a fact, and
// whether it differs from the record before. It is idempotent (the same fact
// again changes nothing) and never goes backwards. With an error, or where
// nothing changed, the record before is returned.
//
// "Nothing changed" is not "nothing to do": a stage that is redelivered
// publishes its next stage again.
//
// Next is pure and safe for concurrent use. before is not modified.
func Next(before Record, fact Fact) (Record, bool, error) {
	after, changed, err := next(before, fact)
	if changed && fact.Kind != FactLicense {
		after.Licensing = nil // It is in the log once.
	}
	return after, changed, err
}

func next(before Record, fact Fact) (Record, bool, error) {
	fact.Message = clip(fact.Message)
	fact.Observed.Message = clip(fact.Observed.Message)
	fact.At, fact.Observed.StartTime = fact.At.UTC(), fact.Observed.StartTime.UTC()
	if fact.Kind == FactClaim || fact.Kind == FactAdopt {
		return begin(before, fact)
	}
	if before.Event == "" {
		return before, false, fmt.Errorf("%s without a record: %w", fact.Kind, ErrOrder)
	}
	if fact.Generation == "" || fact.Generation != before.Generation {
		return before, false, fmt.Errorf("%s of %q, not %q: %w", fact.Kind, fact.Generation, before.Generation, ErrGeneration)
	}
	if before.Event.Over() && fact.Kind != FactDelete && fact.Kind != FactGone {
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOver)
	}
	switch fact.Kind {
	case FactDelete:
		return remove(before, fact)
	case FactGone:
		return gone(before, fact)
	case FactLicense:
		return license(before, fact)
	case FactRelicense, FactIdle:
		return amend(before, fact)
	case FactLaunch:
		return launch(before, fact)
	case FactWait:
		return wait(before, fact)
	case FactLaunched:
		return launched(before, fact)
	case FactObserve:
		return observe(before, fact)
	case FactFinish:
		return finish(before, fact)
	case FactFail:
		return fail(before, fact)
	default:
		return before, false, fmt.Errorf("fact %q: %w", fact.Kind, ErrOrder)
	}
}

func begin(before Record, fact Fact) (Record, bool, error) {
	if before.Event != "" && before.Command != "" && before.Command == fact.Record.Command && before.User == fact.Record.User {
		if before.Event == Gone {
			return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, Gone, ErrOver)
		}
		return before, false, nil
	}
	// A pod that Berth did not make has no command; its UID says that it is the same.
	if uid := fact.Observed.UID; fact.Kind == FactAdopt && before.Event != "" && uid != "" && uid == before.Observed.UID {
		if before.Event == Gone {
			return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, Gone, ErrOver)
		}
		return before, false, nil
	}
	if before.Event != "" && before.Event != Gone {
		return before, false, fmt.Errorf("%s by command %s: %w", before.Event, before.Command, ErrTaken)
	}
	r := fact.Record
	r.Reason, r.Message = "", ""
	if fact.Kind == FactClaim {
		r.Event, r.Generation, r.ClaimedAt = Claimed, "", fact.At
		return r, true, nil
	}
	r.Event, r.LaunchedAt, r.ProgressAt = Launched, fact.At, fact.At
	r.Observed = Observed{UID: fact.Observed.UID}
	return r, true, nil
}

func license(before Record, fact Fact) (Record, bool, error) {
	if !before.Unlicensed() {
		return before, false, nil
	}
	r := before
	r.Event, r.Licenses = Licensed, fact.Licenses
	r.Reason, r.Message = "", ""
	if r.Licenses == nil {
		r.Licenses = []License{}
	}
	r.Licensing = fact.Licensing
	r.Container, r.Image = cmp.Or(fact.Container, r.Container), cmp.Or(fact.Image, r.Image)
	return r, true, nil
}

// amend notes something about a pod that leaves it where it is in its life.
func amend(before Record, fact Fact) (Record, bool, error) {
	if before.Unlicensed() {
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOrder)
	}
	r := before
	if fact.Kind == FactIdle {
		r.IdleStopAt = fact.IdleStopAt.UTC()
		return r, !r.IdleStopAt.Equal(before.IdleStopAt), nil
	}
	r.Licenses = fact.Licenses
	if r.Licenses == nil {
		r.Licenses = []License{}
	}
	return r, !slices.Equal(r.Licenses, before.Licenses), nil
}

func launch(before Record, fact Fact) (Record, bool, error) {
	switch {
	case before.Unlicensed():
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOrder)
	case before.Event == Licensed, before.Event == Waiting && before.LaunchedAt.IsZero():
		r := before
		r.Event, r.LaunchingAt = Launching, fact.At
		r.Storage, r.TokenKeys = fact.Storage, fact.TokenKeys
		if before.LaunchingAt.IsZero() {
			r.Warnings = append(slices.Clone(before.Warnings), fact.Warnings...)
		}
		// Another try to get a name that somebody else's object has, storage that is
		// not bound, or an API server that fails, is no progress, and still waits for the same.
		if before.Reason != NameOccupied && before.Reason != StoragePending && before.Reason != Unavailable {
			r.ProgressAt = fact.At
			r.Reason, r.Message = "", ""
		}
		return r, true, nil
	case before.Event == Launching && fact.At.Sub(before.LaunchingAt) >= relaunch:
		// Another attempt: whoever deletes the pod must know that it is under way.
		r := before
		r.LaunchingAt = fact.At
		return r, true, nil
	default:
		return before, false, nil
	}
}

// relaunch is after how long another attempt to launch is a fact of its own. It
// is well below the time after which a launch counts as over.
const relaunch = 10 * time.Second

func wait(before Record, fact Fact) (Record, bool, error) {
	switch {
	case !before.LaunchedAt.IsZero(), before.Event == Waiting && before.Reason == fact.Reason && before.Message == fact.Message:
		return before, false, nil
	}
	r := before
	r.Event, r.Reason, r.Message = Waiting, fact.Reason, fact.Message
	return r, true, nil
}

func launched(before Record, fact Fact) (Record, bool, error) {
	switch {
	case !before.LaunchedAt.IsZero():
		return before, false, nil
	case before.LaunchingAt.IsZero():
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOrder)
	}
	r := before
	r.Event, r.LaunchedAt, r.ProgressAt = Launched, fact.At, fact.At
	r.Reason, r.Message = "", ""
	r.Observed.UID = fact.UID
	if fact.Storage != "" {
		r.Storage = fact.Storage // Another name than at the launch, where that was another user's.
	}
	r.Objects, r.HTTP, r.SSHPort, r.SSHUser = fact.Objects, fact.HTTP, fact.SSHPort, fact.SSHUser
	return r, true, nil
}

// finish notes that the tokens are copied or given up. It is the last thing that
// a pod needs which the cluster calls ready.
func finish(before Record, fact Fact) (Record, bool, error) {
	switch {
	case before.LaunchedAt.IsZero():
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOrder)
	case !before.TokensAt.IsZero():
		return before, false, nil
	}
	r := before
	r.TokensAt = fact.At
	r.Warnings = append(slices.Clone(before.Warnings), fact.Warnings...)
	if r.Observed.Ready && before.ReadyAt.IsZero() && before.Event != Ended {
		r.Event, r.Reason, r.Message, r.ReadyAt = Ready, "", "", fact.At
	}
	return r, true, nil
}

func fail(before Record, fact Fact) (Record, bool, error) {
	if !before.ReadyAt.IsZero() {
		return before, false, fmt.Errorf("%s after the pod was ready: %w", fact.Kind, ErrOrder)
	}
	r := before
	r.Event, r.Reason, r.Message = Failed, fact.Reason, fact.Message
	return r, true, nil
}

func remove(before Record, fact Fact) (Record, bool, error) {
	switch before.Event {
	case Deleting:
		r := before
		r.Restart = followed(before, fact)
		return r, r.Restart != before.Restart, nil
	case Gone:
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOver)
	default:
		r := before
		r.Event, r.DeletingAt, r.IdleStopAt = Deleting, fact.At, time.Time{}
		r.Restart = followed(before, fact)
		// What made the create fail stays the reason.
		if before.Event != Failed {
			r.Reason, r.Message = fact.Reason, fact.Message
		}
		return r, true, nil
	}
}

// followed says what follows a delete: of several wishes for another pod the first
// holds that no stop has come after, and a wish for none ends those that were made before it.
func followed(before Record, fact Fact) *Restart {
	switch wish := before.Restart; {
	case fact.Stop && !wish.Knows(fact.StopAt):
		return nil
	case fact.Stop:
		return wish
	case fact.Restart.After(wish):
		return fact.Restart
	case wish != nil:
		return wish
	case before.Event == Deleting && fact.Restart != nil && fact.Restart.Cause == CauseLicenses:
		return nil // Somebody stopped it; nobody has asked for another.
	}
	return fact.Restart
}

func gone(before Record, fact Fact) (Record, bool, error) {
	switch before.Event {
	case Gone:
		return before, false, nil
	case Deleting:
		r := before
		r.Event = Gone
		return r, true, nil
	default:
		return before, false, fmt.Errorf("%s after %s: %w", fact.Kind, before.Event, ErrOrder)
	}
}

// observe merges what the cluster says into a launched pod's record.
func observe(before Record, fact Fact) (Record, bool, error) {
	now := fact.Observed
	switch {
	case before.LaunchedAt.IsZero():
		// The creator's append comes first; it makes the watcher look again.
		return before, false, nil
	case before.Observed.UID != "" && now.UID != before.Observed.UID:
		return before, false, fmt.Errorf("%s of uid %s, not %s: %w", fact.Kind, now.UID, before.Observed.UID, ErrGeneration)
	case older(now.ResourceVersion, before.Observed.ResourceVersion), silent(now) && before.ReadyAt.IsZero():
		return before, false, nil
	}
	r := before
	now.extra = before.Observed.extra
	now.PullBackOffs = before.Observed.PullBackOffs
	if now.BackOff && !before.Observed.BackOff {
		now.PullBackOffs++
	}
	now.Progress = max(now.Progress, before.Observed.Progress)
	if now.Progress > before.Observed.Progress {
		r.ProgressAt = fact.At
	}
	r.Observed = now
	r.Event, r.Reason, r.Message = conclude(before, now, fact.PullBackOffLimit)
	if r.Event == Ready && r.ReadyAt.IsZero() {
		r.ReadyAt = fact.At
	}
	if r.Event == Deleting {
		r.DeletingAt = fact.At
	}
	same := r.Event == before.Event && r.Reason == before.Reason && r.Message == before.Message && now.same(before.Observed)
	if same {
		return before, false, nil
	}
	return r, true, nil
}

// silent says that nobody has said anything about a new pod yet.
func silent(o Observed) bool {
	return !o.Ready && !o.Ended && !o.Hopeless && !o.Terminating && o.Phase != "Running" && o.Reason == ""
}

// conclude says what an observation makes of a launched pod that is not over.
func conclude(before Record, now Observed, pullBackOffLimit int) (Type, Reason, string) {
	wasReady := !before.ReadyAt.IsZero()
	switch {
	case now.Terminating:
		return Deleting, DeletedOutside, "the pod was deleted in Kubernetes"
	case before.Event == Ended:
		return Ended, before.Reason, before.Message
	case now.Ended && wasReady:
		return Ended, now.Reason, now.Message
	case now.Ended, now.Hopeless && !wasReady, now.PullBackOffs >= pullBackOffLimit && pullBackOffLimit > 0 && now.BackOff && !wasReady:
		return Failed, now.Reason, now.Message
	case now.Ready && before.NeedsTokens():
		return Running, TokensPending, "waiting for the tokens that are copied out of the pod"
	case now.Ready:
		return Ready, "", ""
	case wasReady:
		return Unready, now.Reason, now.Message
	case now.Phase == "Running":
		return Running, now.Reason, now.Message
	default:
		return Waiting, now.Reason, now.Message
	}
}

// older says that resource version a comes before b. Both are decimal numbers
// (Kubernetes documents them as comparable since v1.35,
// https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions);
// where one is not, it is not held to be older.
func older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errA == nil && errB == nil && x < y
}
