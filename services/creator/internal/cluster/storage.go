package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
	"berth/services/creator/internal/render"
)

var (
	// ErrForeign is returned when a claim or a volume of the name is another user's,
	// another namespace's, or not Berth's at all. Another name has to be used.
	ErrForeign = errors.New("the name of the user's storage is taken")
	// ErrUnsettled is returned when a claim or a volume is the user's and cannot be
	// used: it is on its way out. It has to be waited for.
	ErrUnsettled = errors.New("the user's storage is not as it must be")
	// ErrUseless comes with ErrUnsettled for what nobody removes by itself: a claim
	// that has lost its volume, a volume whose claim was deleted.
	ErrUseless = errors.New("it cannot be used again")
)

// Claim is a user's claim as it stands.
type Claim struct {
	UID string
	// Bound says that a pod can use it. A pod that is made before waits for the
	// scheduler much longer.
	Bound bool
}

// Storage makes a user's volume and claim, or finds those that are there. It returns
// [ErrForeign], [ErrUnsettled], a [*RejectedError] for what the API server refuses,
// or an error that may pass.
//
// The claim is looked for first: where it is there and bound, nothing else is asked.
// And a volume is never made for a claim that is another user's, since it would then
// be bound to that.
func (c *Cluster) Storage(ctx context.Context, s render.Storage) (Claim, error) {
	claim, err := c.Claim(ctx, s)
	missing := apierrors.IsNotFound(err)
	if err == nil && claim.Bound || err != nil && !missing {
		return claim, err
	}
	if err := c.volume(ctx, s, !missing); err != nil || !missing {
		return claim, err
	}
	made, existed, err := provide(ctx, creator[*corev1.PersistentVolumeClaim](c.client.CoreV1().PersistentVolumeClaims(c.namespace)),
		s.Claim(), "claim", "claim "+s.Name, render.ReasonStorageFailed)
	switch {
	case errors.Is(err, ErrOccupied):
		return Claim{}, fmt.Errorf("%w: claim %s went away meanwhile", ErrUnsettled, s.Name)
	case err != nil:
		return Claim{}, err
	case existed:
		return judgeClaim(made, s)
	}
	return Claim{UID: string(made.UID), Bound: made.Status.Phase == corev1.ClaimBound}, nil
}

// volume makes a user's volume, or finds it; expected says that it is likely there.
func (c *Cluster) volume(ctx context.Context, s render.Storage, expected bool) error {
	volumes := c.client.CoreV1().PersistentVolumes()
	if expected {
		found, err := volumes.Get(ctx, s.Name, metav1.GetOptions{})
		switch {
		case err == nil:
			return judgeVolume(found, s)
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("get volume: %w", err)
		}
	}
	found, existed, err := provide(ctx, creator[*corev1.PersistentVolume](volumes), s.Volume(), "volume", "volume "+s.Name, render.ReasonStorageFailed)
	switch {
	case errors.Is(err, ErrOccupied):
		return fmt.Errorf("%w: volume %s went away meanwhile", ErrUnsettled, s.Name)
	case err != nil || !existed:
		return err
	}
	return judgeVolume(found, s)
}

// Claim looks at a user's claim alone. Besides the errors of [Cluster.Storage] it
// returns one that apierrors.IsNotFound knows.
func (c *Cluster) Claim(ctx context.Context, s render.Storage) (Claim, error) {
	found, err := c.client.CoreV1().PersistentVolumeClaims(c.namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil {
		return Claim{}, fmt.Errorf("get claim: %w", err)
	}
	return judgeClaim(found, s)
}

func judgeClaim(claim *corev1.PersistentVolumeClaim, s render.Storage) (Claim, error) {
	owner, ok := kube.StorageOwner(claim)
	switch {
	case !ok || owner != s.User:
		return Claim{}, fmt.Errorf("%w: claim %s", ErrForeign, s.Name)
	case claim.DeletionTimestamp != nil:
		return Claim{}, fmt.Errorf("%w: claim %s is being removed", ErrUnsettled, s.Name)
	case claim.Status.Phase == corev1.ClaimLost:
		return Claim{}, fmt.Errorf("%w: claim %s has lost its volume; %w", ErrUnsettled, s.Name, ErrUseless)
	}
	return Claim{UID: string(claim.UID), Bound: claim.Status.Phase == corev1.ClaimBound}, nil
}

func judgeVolume(volume *corev1.PersistentVolume, s render.Storage) error {
	owner, ok := kube.StorageOwner(volume)
	ref := volume.Spec.ClaimRef
	switch {
	case !ok || owner != s.User, ref != nil && (ref.Namespace != s.Namespace || ref.Name != s.Name):
		return fmt.Errorf("%w: volume %s", ErrForeign, s.Name)
	case volume.DeletionTimestamp != nil:
		return fmt.Errorf("%w: volume %s is being removed", ErrUnsettled, s.Name)
	case volume.Status.Phase == corev1.VolumeReleased, volume.Status.Phase == corev1.VolumeFailed:
		return fmt.Errorf("%w: volume %s is %s; %w", ErrUnsettled, s.Name, volume.Status.Phase, ErrUseless)
	}
	return nil
}
