package app

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// The times of a leader.
const (
	tidyEvery = time.Minute
	// firstRetry and mostRetry bound the pause before a name is looked at again
	// after a failure.
	firstRetry = 20 * time.Millisecond
	mostRetry  = 5 * time.Second
	// workers look at names at the same time.
	workers = 8
)

// leader is one term of the watcher that leads.
type leader struct {
	app   *App
	queue workqueue.TypedRateLimitingInterface[string]
	// news are the objects of users' storage that are no more.
	news       workqueue.TypedRateLimitingInterface[storageNews]
	rec        *reconciler
	belongings *belongings
	bucket     *bucket
}

// snapshot is what a comparison holds against each other: the log as it was before
// the lists, and the lists.
type snapshot struct {
	known   []natsbus.Entry
	created int64 // When the log was made.
	pods    *corev1.PodList
	claims  *corev1.PersistentVolumeClaimList
}

// newLeader begins a term.
func (a *App) newLeader() *leader {
	l := &leader{
		app: a, queue: newQueue[string](), news: newQueue[storageNews](),
		belongings: &belongings{lister: a.watch},
		bucket:     &bucket{bus: a.Bus, table: a.table, log: a.Log},
	}
	stored := newStorages(a.Config.Namespace, l.bound, l.news.Add)
	l.rec = &reconciler{
		bus: a.Bus, table: a.table, cluster: newCluster(l.queue.Add), storages: stored, log: a.Log,
		backOffs: a.Config.ImagePullBackOffs, timeoutCreate: a.Config.TimeoutCreate,
		committed: a.metrics.appended, later: l.queue.AddAfter, exists: a.watch.Exists,
		belongings: l.belongings.of, adopted: l.adopted, deletedOutside: a.metrics.claimLost,
	}
	return l
}

func newQueue[T comparable]() workqueue.TypedRateLimitingInterface[T] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[T](firstRetry, mostRetry))
}

// lead watches the cluster until ctx ends (the lease is lost or the service
// drains), or returns why it cannot.
func (a *App) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := a.newLeader()
	stop := func() {
		l.queue.ShutDown()
		l.news.ShutDown()
	}
	a.leading.Store(l)
	defer a.leading.Store(nil)

	if err := a.loaded(ctx); err != nil {
		stop()
		return err
	}
	// The lists that the first watches begin with are the first comparison.
	first, volumesFrom, err := l.begin(ctx)
	if err != nil {
		stop()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	answered, err := a.Bus.OnConfirm(ctx, confirms, a.confirm)
	if err != nil {
		stop()
		return err
	}
	defer answered()
	group.Go(func() error {
		<-ctx.Done()
		stop()
		return nil
	})
	podsFrom, claimsFrom := first.pods.ResourceVersion, first.claims.ResourceVersion
	group.Go(func() error { return a.watch.Pods(ctx, podsFrom, l.rec.cluster) })
	group.Go(func() error { return a.watch.Events(ctx, l.rec.cluster) })
	group.Go(func() error { return a.watch.Claims(ctx, claimsFrom, claims{l.rec.storages}) })
	group.Go(func() error { return a.watch.Volumes(ctx, volumesFrom, volumes{l.rec.storages}) })
	for range workers {
		group.Go(func() error { l.work(ctx); return nil })
	}
	group.Go(func() error { l.workRemovals(ctx); return nil })
	group.Go(func() error { return l.heartbeat(ctx) })
	group.Go(func() error { return l.bucket.run(ctx) })
	group.Go(func() error { return l.compareAgain(ctx, first) })
	return group.Wait()
}

// begin makes the first lists and hands them on, before anything is watched. It
// returns where the watch of volumes begins; empty where they cannot be seen.
func (l *leader) begin(ctx context.Context) (*snapshot, string, error) {
	first, err := l.look(ctx)
	if err != nil {
		return nil, "", err
	}
	all, err := l.app.watch.ListVolumes(ctx)
	if err != nil {
		return nil, "", err
	}
	from := ""
	if all != nil {
		from = all.ResourceVersion
		volumes{l.rec.storages}.Listed(all.Items)
	}
	claims{l.rec.storages}.Listed(first.claims.Items)
	l.rec.cluster.Listed(first.pods.Items)
	return first, from, nil
}

// look makes the lists of a comparison.
func (l *leader) look(ctx context.Context) (*snapshot, error) {
	s := &snapshot{known: l.app.table.Pods(), created: l.app.table.Created()}
	var err error
	if s.pods, err = l.app.watch.List(ctx); err != nil {
		return nil, err
	}
	if s.claims, err = l.app.watch.ListClaims(ctx); err != nil {
		return nil, err
	}
	return s, l.belongings.list(ctx)
}

// bound says that a claim has been bound. Nobody depends on hearing it.
func (l *leader) bound(claim, uid string) {
	if err := l.app.Bus.SayBound(natsbus.Bound{Claim: claim, UID: uid}); err != nil {
		l.app.Log.Debug().Err(err).Str("claim", claim).Msg("Cannot say that a claim has been bound")
	}
}

// adopted has the tokens of a pod looked after that was taken in.
func (l *leader) adopted(after natsbus.Entry) {
	if len(after.TokenKeys) > 0 {
		l.bucket.due.Store(true)
	}
}

// workRemovals looks after the storages of which something is no more.
func (l *leader) workRemovals(ctx context.Context) {
	for {
		news, over := l.news.Get()
		if over {
			return
		}
		err := l.rec.removal(ctx, news)
		if err == nil {
			l.news.Forget(news)
		} else if ctx.Err() == nil {
			l.app.Log.Warn().Err(err).Str("claim", news.name).Msg("Cannot tell a delete that a user's storage is gone; trying again")
			l.news.AddRateLimited(news)
		}
		l.news.Done(news)
	}
}

// loaded waits until the table has read the log.
func (a *App) loaded(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.table.Loaded() != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// logged is told of each new record in the log. A pod is looked at again that the
// watch saw before its creator said `launched`, or whose newest state was held
// against an older record than this one.
func (l *leader) logged(e natsbus.Entry) {
	if e.LaunchedAt.IsZero() || e.Event.Over() {
		return
	}
	pod, _ := l.rec.cluster.Look(e.Pod)
	if e.Observed.ResourceVersion == "" || e.Observed.ResourceVersion != pod.ResourceVersion {
		l.queue.Add(e.Pod)
	}
}

// work looks at the names about which there is news.
func (l *leader) work(ctx context.Context) {
	for {
		name, over := l.queue.Get()
		if over {
			return
		}
		// What failed before may have left its delete unasked.
		again := l.queue.NumRequeues(name) > 0
		err := l.rec.reconcile(ctx, name, again, false)
		if err == nil {
			l.queue.Forget(name)
		} else if ctx.Err() == nil {
			l.app.Log.Warn().Err(err).Str("pod_name", name).Msg("Cannot tell the log about a pod; trying again")
			l.queue.AddRateLimited(name)
		}
		l.queue.Done(name)
	}
}

// heartbeat says once a second that the leader is alive and its watch is.
func (l *leader) heartbeat(ctx context.Context) error {
	begun := time.Now().UTC()
	beat, tidy := time.NewTicker(events.HeartbeatEvery), time.NewTicker(tidyEvery)
	defer beat.Stop()
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tidy.C:
			l.rec.cluster.Tidy(now)
		case <-beat.C:
			if err := l.beat(begun); err != nil {
				l.app.Log.Debug().Err(err).Msg("Cannot send a heartbeat")
			}
		}
	}
}

// beat sends one heartbeat of a term that began at a time.
func (l *leader) beat(begun time.Time) error {
	text, err := events.Heartbeat{
		Cluster: l.app.Bus.Cluster(), Instance: l.app.Instance, Version: l.app.Version,
		Time: time.Now().UTC(), LeadingSince: begun, WatchAge: l.app.watch.Age().Seconds(),
	}.Marshal()
	if err != nil {
		return err
	}
	return l.app.Bus.Heartbeat(text)
}

// compareAgain compares the cluster with the log at the start, at intervals,
// and when the log was made anew. A comparison that fails is tried again.
func (l *leader) compareAgain(ctx context.Context, seen *snapshot) error {
	resync := time.NewTicker(l.app.Config.ResyncInterval)
	check := time.NewTicker(time.Second)
	defer resync.Stop()
	defer check.Stop()
	due := true
	for {
		if due && seen != nil && l.app.table.Loaded() == nil {
			err := l.compare(ctx, seen)
			due, seen = err != nil, nil
			l.belongings.drop()
			if err != nil && ctx.Err() == nil {
				l.app.Log.Warn().Err(err).Msg("Comparison with the cluster failed; trying again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resync.C:
			due = true
		case <-check.C:
			due = due || l.app.table.Loaded() == nil && l.app.table.Ready() != nil
		}
		if due && seen == nil {
			fresh, err := l.look(ctx)
			if err != nil {
				if ctx.Err() == nil {
					l.app.Log.Warn().Err(err).Msg("Cannot list what a comparison needs; trying again")
				}
				continue
			}
			seen = fresh
		}
	}
}

// compare holds the log, as it was before the lists, against them, and marks
// the log complete. A pod counts as missing only if the log called it launched
// before the list began, and a GET finds it neither.
func (l *leader) compare(ctx context.Context, seen *snapshot) error {
	begun := time.Now()
	pods := seen.pods.Items
	names := make(map[string]bool, len(pods)+len(seen.known)) // To whether the pod is missing.
	for _, e := range seen.known {
		names[e.Pod] = !e.LaunchedAt.IsZero()
	}
	for i := range pods {
		names[pods[i].Name] = false
		l.rec.cluster.Offered(&pods[i])
	}
	if err := l.compareEach(ctx, seen, names); err != nil {
		return err
	}
	// Who uses which storage is known by the pods, so they come first.
	storages, err := l.rec.rebuild(ctx, seen.claims.Items, pods)
	if err != nil {
		return err
	}
	if err := l.rec.removals(ctx, storages); err != nil {
		return err
	}
	if err := l.app.Bus.MarkComplete(ctx, seen.created, len(pods)); err != nil {
		return err
	}
	l.bucket.due.Store(true)
	l.app.metrics.compared(time.Since(begun))
	l.app.Log.Info().Int("pods", len(pods)).Int("records", len(seen.known)).Dur("took_ms", time.Since(begun)).
		Msg("Compared the cluster with the log")
	return nil
}

// compareEach looks at each name, to whether its pod is missing.
func (l *leader) compareEach(ctx context.Context, seen *snapshot, names map[string]bool) error {
	uids := make(map[string]string, len(seen.known))
	for _, e := range seen.known {
		uids[e.Pod] = e.Observed.UID
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for name, missing := range names {
		group.Go(func() error {
			if missing {
				exists, err := l.app.watch.Exists(groupCtx, name, uids[name])
				if err != nil {
					return err
				}
				missing = !exists
			}
			err := l.rec.reconcile(groupCtx, name, true, missing)
			if errors.Is(err, events.ErrTooLarge) || errors.Is(err, events.ErrMalformed) {
				// No repetition mends this, and one pod must not keep all others waiting.
				l.app.Log.Error().Err(err).Str("pod_name", name).Msg("A pod cannot be written into the log; it is left alone")
				return nil
			}
			return err
		})
	}
	return group.Wait()
}
