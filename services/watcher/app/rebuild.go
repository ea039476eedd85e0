package app

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

// rebuild tells the log which pods use which storage, where it does not know: it was
// lost, or the pods are the old backend's. The pods must be in the log. It returns the
// records as they were before.
func (r *reconciler) rebuild(ctx context.Context, claims []corev1.PersistentVolumeClaim, pods []corev1.Pod) ([]natsbus.StorageEntry, error) {
	complete := true
	if _, err := r.bus.Complete(ctx); errors.Is(err, natsbus.ErrUnavailable) {
		complete = false
	} else if err != nil {
		return nil, err
	}
	all, err := r.bus.Storages(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]events.Storage, len(all))
	for _, s := range all {
		known[s.User] = s.Storage
	}
	owners := make(map[string]string, len(claims))
	for i := range claims {
		if owner, ok := kube.StorageOwner(&claims[i]); ok {
			owners[claims[i].Name] = owner
		}
	}
	mounts, err := r.mounts(ctx, owners, pods)
	if err != nil {
		return nil, err
	}
	for _, fact := range diff.Storages(owners, mounts, known, complete, time.Now().UTC()) {
		s, err := r.bus.ChangeStorage(ctx, fact)
		if errors.Is(err, events.ErrRemoving) {
			continue // Its delete came in between.
		}
		if err != nil {
			return nil, err
		}
		r.log.Info().Str("user_id", fact.User).Str("claim", s.Claim).Int("pods", len(s.Uses)).Msg("Took a user's storage into the log")
	}
	return all, nil
}

// mounts are the pods that mount a claim of a user's storage, with their newest
// records.
func (r *reconciler) mounts(ctx context.Context, owners map[string]string, pods []corev1.Pod) ([]diff.Mount, error) {
	var mounts []diff.Mount
	for i := range pods {
		claim := mounted(&pods[i], owners)
		if claim == "" {
			continue
		}
		entry, err := r.bus.Last(ctx, pods[i].Name)
		if err != nil {
			return nil, err
		}
		if entry.Observed.UID == string(pods[i].UID) {
			mounts = append(mounts, diff.Mount{Claim: claim, Record: entry.Record})
		}
	}
	return mounts, nil
}

// mounted is the claim of some user's storage that a pod of Berth's mounts.
func mounted(pod *corev1.Pod, owners map[string]string) string {
	user, _ := kube.Owner(pod)
	if !kube.Ours(pod) {
		return ""
	}
	if claim := kube.StorageClaim(pod, user); claim != "" {
		return claim
	}
	for i := range pod.Spec.Volumes {
		if c := pod.Spec.Volumes[i].PersistentVolumeClaim; c != nil && owners[c.ClaimName] != "" {
			return c.ClaimName
		}
	}
	return ""
}
