package app

import (
	"context"
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
	rec   *reconciler
}

// lead watches the cluster until ctx ends (the lease is lost or the service
// drains), or returns why it cannot.
func (a *App) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leader{
		app: a,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, mostRetry)),
	}
	pods := newCluster(l.queue.Add)
	l.rec = &reconciler{
		bus: a.Bus, table: a.table, cluster: pods, log: a.Log, backOffs: a.Config.ImagePullBackOffs,
		timeoutCreate: a.Config.TimeoutCreate,
		committed:     a.metrics.appended, later: l.queue.AddAfter, exists: a.watch.Exists,
	}
	a.leading.Store(l)
	defer a.leading.Store(nil)

	if err := a.loaded(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// The list that the first watch begins with is the first comparison.
	known, created := a.table.Pods(), a.table.Created()
	list, err := a.watch.List(ctx)
	if err != nil {
		l.queue.ShutDown()
		return err
	}
	version := list.ResourceVersion
	pods.Listed(list.Items)
	group.Go(func() error {
		<-ctx.Done()
		l.queue.ShutDown()
		return nil
	})
	group.Go(func() error { return a.watch.Pods(ctx, version, pods) })
	group.Go(func() error { return a.watch.Events(ctx, pods) })
	for range workers {
		group.Go(func() error { l.work(ctx); return nil })
	}
	group.Go(func() error { return l.heartbeat(ctx) })
	group.Go(func() error { return l.compareAgain(ctx, list, known, created) })
	return group.Wait()
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
func (l *leader) compareAgain(ctx context.Context, list *corev1.PodList, known []natsbus.Entry, created int64) error {
	resync := time.NewTicker(l.app.Config.ResyncInterval)
	check := time.NewTicker(time.Second)
	defer resync.Stop()
	defer check.Stop()
	due := true
	for {
		if due && l.app.table.Loaded() == nil {
			err := l.compare(ctx, list, known, created)
			due, list = err != nil, nil
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
		if due && list == nil {
			known, created = l.app.table.Pods(), l.app.table.Created()
			fresh, err := l.app.watch.List(ctx)
			if err != nil {
				if ctx.Err() == nil {
					l.app.Log.Warn().Err(err).Msg("Cannot list the pods for a comparison; trying again")
				}
				continue
			}
			list = fresh
		}
	}
}

// compare holds the log, as it was before the list, against the list, and marks
// the log complete. A pod counts as missing only if the log called it launched
// before the list began, and a GET finds it neither.
func (l *leader) compare(ctx context.Context, list *corev1.PodList, known []natsbus.Entry, created int64) error {
	begun := time.Now()
	names := make(map[string]bool, len(list.Items)+len(known)) // To whether the pod is missing.
	for _, e := range known {
		names[e.Pod] = !e.LaunchedAt.IsZero()
	}
	for i := range list.Items {
		names[list.Items[i].Name] = false
		l.rec.cluster.Offered(&list.Items[i])
	}
	uids := make(map[string]string, len(known))
	for _, e := range known {
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
			return l.rec.reconcile(groupCtx, name, true, missing)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.app.Bus.MarkComplete(ctx, created, len(list.Items)); err != nil {
		return err
	}
	l.app.metrics.compared(time.Since(begun))
	l.app.Log.Info().Int("pods", len(list.Items)).Int("records", len(known)).Dur("took_ms", time.Since(begun)).
		Msg("Compared the cluster with the log")
	return nil
}
