package app

import (
	"context"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// removal tells the delete that removes a user's storage when neither the claim nor
// the volume is there any more. A claim that somebody deletes under its pods is only
// complained about: their files are there, and making it anew is a person's to do.
func (r *reconciler) removal(ctx context.Context, news storageNews) error {
	s, err := r.bus.Storage(ctx, news.user)
	if err != nil || s.Claim != news.name {
		return err
	}
	claim, volume := r.storages.Present(news.name)
	switch s.State {
	case events.StorageRemoving:
		if claim || volume {
			return nil
		}
		return r.removed(ctx, s.Storage, news.uid)
	case events.StorageUsed:
		if pods := r.mounting(s.Storage); news.claim && !claim && len(pods) > 0 {
			r.log.Error().Str("claim", news.name).Str("user_id", news.user).Strs("pod_names", pods).
				Msg("Somebody deleted the claim of a user's storage in Kubernetes while pods use it; new pods of the user may have to wait for these to go")
			r.deletedOutside()
		}
	case events.StorageAbsent:
	}
	return nil
}

// removed asks the remover of a storage to go on. One whose life is over is left to
// the next sweep.
func (r *reconciler) removed(ctx context.Context, s events.Storage, uid string) error {
	if s.Remover.IsZero() {
		return nil
	}
	entry, err := r.bus.Last(ctx, s.Remover.Pod)
	if err != nil || entry.Event != events.Deleting || entry.Generation != s.Remover.Generation {
		return err
	}
	return r.bus.AskDelete(ctx, entry, events.DeleteRequest{Vanished: uid})
}

// mounting are the names of the pods that use a storage and were launched.
func (r *reconciler) mounting(s events.Storage) []string {
	var names []string
	for _, u := range s.Uses {
		e, known := r.table.Pod(u.Pod)
		if known && e.Generation == u.Generation && !e.LaunchedAt.IsZero() && !e.Event.Over() {
			names = append(names, u.Pod)
		}
	}
	return names
}

// removals asks the removers of all storages to go on whose claim and volume are not
// there any more: the news may have been lost.
func (r *reconciler) removals(ctx context.Context, all []natsbus.StorageEntry) error {
	for _, s := range all {
		claim, volume := r.storages.Present(s.Claim)
		if s.State != events.StorageRemoving || claim || volume {
			continue
		}
		if err := r.removed(ctx, s.Storage, ""); err != nil {
			return err
		}
	}
	return nil
}
