package app

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// removals is how many objects are removed at once on behalf of one command.
const removals = 8

// The pauses before something is looked at again of which nobody says when it is
// gone. They grow with the attempts.
const (
	firstLook = 200 * time.Millisecond
	mostLook  = 5 * time.Second
)

// lookAgain is the pause after an attempt, which are counted from 1.
func lookAgain(attempt uint64) time.Duration {
	return min(firstLook<<min(max(attempt, 1)-1, 10), mostLook)
}

// removeBelongings removes the services and the ingress of a pod that has vanished
// and of which nothing will appear any more. Those that a finalizer keeps are asked
// for again until they are gone: nobody watches them.
func (d *deleter) removeBelongings(ctx context.Context, entry natsbus.Entry, attempt uint64) error {
	if entry.LaunchingAt.IsZero() && entry.LaunchedAt.IsZero() {
		return nil // Nothing was ever made.
	}
	objects := reap.Reported(entry.Record)
	// A launch that was not reported made what it made. After the first attempt they are
	// looked at before they are deleted once more.
	if entry.LaunchedAt.IsZero() || attempt > 1 {
		found, err := d.objects.Belonging(ctx, entry.Pod)
		if err != nil {
			return err
		}
		objects = reap.Belonging(entry.Record, found)
	}
	left, err := removeAll(ctx, d.objects, objects)
	if err != nil {
		return err
	}
	if left > 0 {
		return natsbus.Again(lookAgain(attempt), fmt.Errorf("%d services and ingresses of the pod are still being removed", left))
	}
	return nil
}

// removeAll asks for the removal of objects, unless somebody has done so already,
// and returns how many of them stay for a while.
func removeAll(ctx context.Context, cluster belongings, objects []reap.Object) (left int, err error) {
	var staying atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removals)
	for _, o := range objects {
		if o.Terminating {
			staying.Add(1)
			continue
		}
		group.Go(func() error {
			vanished, err := cluster.Remove(ctx, o)
			if err == nil && !vanished {
				staying.Add(1)
			}
			return err
		})
	}
	err = group.Wait()
	return int(staying.Load()), err
}

// storageAlone says that everything else of a pod is gone and only the removal of its
// user's storage is to be carried on: that begins when the others are gone. possible
// says that the delete may have come that far.
func (d *deleter) storageAlone(ctx context.Context, entry natsbus.Entry, possible bool) (bool, error) {
	if !possible || entry.Storage == "" {
		return false, nil
	}
	s, err := d.bus.Storage(ctx, entry.User)
	if err != nil || !s.Removes(entry.Record) {
		return false, err
	}
	// The log's word is not enough to call a pod gone: whoever released the storage may
	// have known of less than there is.
	if uid := entry.Observed.UID; uid != "" {
		exists, err := d.pods.Exists(ctx, entry.Pod, uid)
		return err == nil && !exists, err
	}
	uid, err := d.pods.Find(ctx, entry.Pod, entry.Generation)
	return err == nil && uid == "", err
}

// releaseStorage takes a pod whose objects are gone out of its user's storage, which
// is removed with the last one. It returns false while that is still under way.
func (d *deleter) releaseStorage(ctx context.Context, entry natsbus.Entry) (bool, error) {
	if entry.Storage == "" {
		return true, nil
	}
	// In a log that is being rebuilt a use may be missing that is there in the cluster.
	if _, err := d.bus.Complete(ctx); err != nil {
		return false, err
	}
	s, err := d.bus.ChangeStorage(ctx, events.StorageFact{
		Kind: events.StorageRelease, User: entry.User, At: time.Now(), Use: events.UseOf(entry.Record),
	})
	if err != nil || !s.Removes(entry.Record) {
		return err == nil, err
	}
	return removeStorage(ctx, d.bus, d.objects, s)
}

// removeStorage removes the claim and the volume of a storage record that says that
// they are being removed, and returns whether they are gone and the record says so. The
// files stay: the volume's reclaim policy is Retain.
func removeStorage(ctx context.Context, bus *natsbus.Bus, cluster belongings, s events.Storage) (bool, error) {
	found, err := cluster.Storage(ctx, s.User, s.Claim)
	if err != nil {
		return false, err
	}
	left, err := removeAll(ctx, cluster, found)
	if err != nil || left > 0 {
		return false, err
	}
	_, err = bus.ChangeStorage(ctx, events.StorageFact{Kind: events.StorageGone, User: s.User, At: time.Now(), Use: s.Remover})
	return err == nil, err
}
