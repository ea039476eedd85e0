package events

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// StorageState says what becomes of a user's storage claim and volume.
type StorageState string

// The states.
const (
	// StorageUsed means that pods use it, or are about to: it must stay.
	StorageUsed StorageState = "used"
	// StorageRemoving means that claim and volume are being removed: whoever wants
	// to use them waits.
	StorageRemoving StorageState = "removing"
	// StorageAbsent means that neither exists.
	StorageAbsent StorageState = "absent"
)

// Storage is who uses the claim and the volume of a user. It is a counted
// reference that is changed by compare-and-set: the claim stays as long as a pod
// is in it, and is removed with the last one. The zero Storage means that there
// is no record.
type Storage struct {
	State   StorageState `json:"state"`
	Cluster string       `json:"cluster"`
	User    string       `json:"user_id"`
	// Claim is the name of the claim and of its volume.
	Claim string `json:"claim,omitempty"`
	// Uses are the pods that use it, in the order in which they came.
	Uses []Use `json:"uses,omitempty"`
	// Remover is the life of a pod whose delete carries the removal out; zero
	// where a sweep does.
	Remover Use       `json:"remover,omitzero"`
	At      time.Time `json:"at"`
}

// Use is one life of a pod that uses the storage. It has what a delete of the pod
// needs.
type Use struct {
	Pod        string `json:"pod_name"`
	Generation string `json:"generation"`
	Command    string `json:"command_id,omitempty"`
}

// IsZero says that no life of a pod is meant; encoding/json asks.
func (u Use) IsZero() bool { return u == Use{} }

// UseOf returns the use of a pod's life.
func UseOf(r Record) Use { return Use{Pod: r.Pod, Generation: r.Generation, Command: r.Command} }

// same says that two uses are of one life of a pod.
func (u Use) same(v Use) bool { return u.Pod == v.Pod && u.Generation == v.Generation }

// StorageKind says what a [StorageFact] is about.
type StorageKind string

// The kinds of facts about storage.
const (
	// StorageUse adds a pod, before anything of it is made in Kubernetes.
	StorageUse StorageKind = "use"
	// StorageMove takes another name for the claim: the one in the record is that
	// of another user's.
	StorageMove StorageKind = "move"
	// StorageRelease takes a pod out whose objects are gone; with the last one the
	// removal begins.
	StorageRelease StorageKind = "release"
	// StorageReclaim begins the removal of a claim that no pod uses and that nobody
	// removes.
	StorageReclaim StorageKind = "reclaim"
	// StorageGone ends a removal: claim and volume are not in the cluster.
	StorageGone StorageKind = "gone"
	// StorageAdopt is a claim found in the cluster that the log does not know, with
	// the pods that use it.
	StorageAdopt StorageKind = "adopt"
)

// StorageFact is something that a service wants the log to say about a user's
// storage.
type StorageFact struct {
	Kind          StorageKind
	Cluster, User string
	At            time.Time
	// Use is the life of a pod: for use and release; for gone and reclaim it is
	// the remover, zero for a sweep.
	Use Use
	// Claim is the name to use: for use, move, reclaim and adopt. A use of a storage that has
	// a name already leaves it.
	Claim string
	// From is the name that was found to be another user's: for move.
	From string
	// Uses are the pods that were found: for adopt.
	Uses []Use
}

// ErrRemoving is returned for a use of a storage that is being removed: wait and
// try again.
var ErrRemoving = errors.New("the user's storage is being removed")

// NextStorage says what may follow what in a user's storage record, as [Next]
// does for pods. It is idempotent, pure and safe for concurrent use; before is not
// modified.
//
// Whoever uses or moves has to look at the claim's name in the record that holds
// afterwards. It returns [ErrRemoving] for a use while claim and volume are being
// removed, and [ErrOrder] for what cannot follow.
func NextStorage(before Storage, fact StorageFact) (Storage, bool, error) {
	next := before
	next.Cluster, next.User, next.At = fact.Cluster, fact.User, fact.At.UTC()
	next.Uses = slices.Clone(before.Uses)
	has := slices.ContainsFunc(before.Uses, fact.Use.same)
	switch fact.Kind {
	case StorageUse:
		switch {
		case before.State == StorageRemoving:
			return before, false, ErrRemoving
		case before.State == StorageUsed && has:
			return before, false, nil
		case before.State != StorageUsed:
			next.Claim, next.Uses = fact.Claim, nil
		}
		next.State, next.Remover, next.Uses = StorageUsed, Use{}, append(next.Uses, fact.Use)
		return next, true, nil
	case StorageMove:
		if before.State != StorageUsed || before.Claim != fact.From {
			return before, false, nil // Somebody was faster.
		}
		next.Claim = fact.Claim
		return next, next.Claim != before.Claim, nil
	case StorageRelease:
		if before.State != StorageUsed || !has {
			return before, false, nil
		}
		next.Uses = slices.DeleteFunc(next.Uses, fact.Use.same)
		if len(next.Uses) == 0 {
			next.State, next.Uses, next.Remover = StorageRemoving, nil, fact.Use
		}
		return next, true, nil
	case StorageReclaim:
		switch {
		case before.State == StorageUsed && len(before.Uses) > 0:
			return before, false, fmt.Errorf("%s of storage that %d pods use: %w", fact.Kind, len(before.Uses), ErrOrder)
		case before.State == StorageRemoving && before.Claim == fact.Claim:
			return before, false, nil
		}
		next.State, next.Claim, next.Uses, next.Remover = StorageRemoving, fact.Claim, nil, fact.Use
		return next, true, nil
	case StorageGone:
		switch before.State {
		case StorageAbsent, "":
			return before, false, nil
		case StorageUsed:
			return before, false, fmt.Errorf("%s of storage that is used: %w", fact.Kind, ErrOrder)
		case StorageRemoving:
			if !before.Remover.same(fact.Use) {
				return before, false, nil // The end of an earlier removal, told late.
			}
		}
		next.State, next.Claim, next.Uses, next.Remover = StorageAbsent, "", nil, Use{}
		return next, true, nil
	case StorageAdopt:
		return adoptStorage(before, next, fact)
	default:
		return before, false, fmt.Errorf("storage fact %q: %w", fact.Kind, ErrOrder)
	}
}

// adoptStorage takes in a claim that the cluster has, or pods that use it and are
// not in the record.
func adoptStorage(before, next Storage, fact StorageFact) (Storage, bool, error) {
	switch before.State {
	case StorageRemoving:
		return before, false, ErrRemoving
	case StorageAbsent, "":
		next.State, next.Claim, next.Remover = StorageUsed, fact.Claim, Use{}
		next.Uses = slices.Clone(fact.Uses)
		return next, true, nil
	case StorageUsed:
	}
	for _, u := range fact.Uses {
		if !slices.ContainsFunc(next.Uses, u.same) {
			next.Uses = append(next.Uses, u)
		}
	}
	return next, len(next.Uses) != len(before.Uses), nil
}

// Removes says whether the delete of a pod's life carries out the removal of the
// storage.
func (s Storage) Removes(r Record) bool {
	return s.State == StorageRemoving && s.Remover.same(UseOf(r))
}

func (s StorageState) known() bool {
	return s == StorageUsed || s == StorageRemoving || s == StorageAbsent
}

// check refuses a record without what every reader needs.
func (s Storage) check() error {
	if s.Cluster == "" || s.User == "" || (s.Claim == "" && s.State != StorageAbsent) {
		return fmt.Errorf("storage record without cluster, user_id or claim: %w", ErrMalformed)
	}
	if n := len(StorageSubject(s.Cluster, s.User)); n > MaxSubject {
		return fmt.Errorf("subject of %d bytes, limit %d: %w", n, MaxSubject, ErrTooLarge)
	}
	return nil
}
