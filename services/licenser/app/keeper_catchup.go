package app

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

const (
	// page is how much the keeper takes out of the database at a time.
	page = 500
	// forgetParts bounds how many pages of the usage log are removed in one look at everything.
	forgetParts = 20
	// seatGrace is how old a seat is at least that is freed because its pod is not in the log.
	seatGrace = time.Minute
)

// catchUp looks at everything that may have been missed: by a keeper before, or because a notification was lost, or
// because the database sends none. It changes nothing where all is as it should be.
func (k *keeper) catchUp(ctx context.Context) error {
	pods, err := k.table.Snapshot()
	if err != nil {
		return err
	}
	k.changes.take() // Whatever they tell is found here.
	var failed error
	for _, step := range []func(context.Context, []natsbus.Entry) error{
		k.rearm,
		func(ctx context.Context, _ []natsbus.Entry) error { return k.requests(ctx, nil) },
		func(ctx context.Context, _ []natsbus.Entry) error { return k.licenses(ctx, nil) },
		func(ctx context.Context, _ []natsbus.Entry) error { return k.settings(ctx) },
		k.recomputeOutdated, k.recount, k.recovered,
		func(ctx context.Context, _ []natsbus.Entry) error { return k.states(ctx) },
		k.astray,
		func(ctx context.Context, _ []natsbus.Entry) error { return k.revive(ctx) },
		func(ctx context.Context, _ []natsbus.Entry) error { return k.refusals(ctx, math.MaxInt) },
		func(ctx context.Context, _ []natsbus.Entry) error { return k.countGivenUp(ctx) },
		func(ctx context.Context, _ []natsbus.Entry) error { return k.forgetUsage(ctx) },
	} {
		k.progress.beat()
		failed = first(failed, step(ctx, pods))
		if away(failed) {
			return failed // So would all others.
		}
		// What happens meanwhile does not have to wait for the rest.
		failed = first(failed, k.between(ctx))
	}
	return failed
}

// rearm sets all timers where the stream that has them is not the one that the keeper has set them in.
func (k *keeper) rearm(ctx context.Context, pods []natsbus.Entry) error {
	created, err := k.bus.QueueCreated(ctx)
	if err != nil || created.Equal(k.queue) {
		return err
	}
	for after := ""; ; {
		licenses, err := k.store.TimedLicenses(ctx, after, page)
		if err != nil {
			return err
		}
		for _, c := range licenses {
			k.progress.beat()
			after = c.ID
			if err := k.timers(ctx, c); err != nil {
				return err
			}
		}
		if len(licenses) < page {
			break
		}
	}
	if !k.queue.IsZero() {
		// Those of projects are set when their records are looked at.
		clear(k.seen)
		clear(k.due)
		for _, entry := range pods {
			k.records.put(entry.Pod)
		}
	}
	k.queue = created
	return nil
}

// recomputeOutdated finds projects whose inputs have changed unnoticed.
func (k *keeper) recomputeOutdated(ctx context.Context, pods []natsbus.Entry) error {
	for project, before := range k.due {
		if time.Since(before.at) > pending {
			delete(k.due, project)
		}
	}
	return k.outdated(ctx, projects(pods, func(natsbus.Entry) bool { return true }))
}

// projects are those of the pods that fit, ascending.
func projects(pods []natsbus.Entry, fits func(natsbus.Entry) bool) []string {
	var found []string
	for _, entry := range pods {
		if project, ok := projectOf(entry.Record); ok && fits(entry) {
			found = append(found, project)
		}
	}
	slices.Sort(found)
	return found
}

// recount makes the seats those of the pods that the log has now: the log may have been lost since the round began, and with it the generations
// that seats are held with.
func (k *keeper) recount(ctx context.Context, _ []natsbus.Entry) error {
	pods, err := k.table.Snapshot()
	if err != nil {
		return err
	}
	live := make(map[string]store.Life, len(pods))
	for _, entry := range pods {
		if err := k.seats(ctx, entry); err != nil {
			return err
		}
		live[entry.Pod] = store.Life{Generation: entry.Generation, Begun: begun(entry)}
	}
	freed, err := k.store.Recount(ctx, k.bus.Cluster(), live, seatGrace)
	if freed > 0 {
		k.log.Info().Int("seats", freed).Msg("Freed seats of pods that the log does not have")
	}
	return err
}

// recovered forgets the failures of projects that have been ready for long.
func (k *keeper) recovered(ctx context.Context, pods []natsbus.Entry) error {
	well := projects(pods, func(e natsbus.Entry) bool {
		return e.Event == events.Ready && time.Since(e.ReadyAt) > upkeep.MostDelay
	})
	if len(well) == 0 {
		return nil
	}
	return k.store.Recovered(ctx, well)
}

// states mends those that say that a project has a pod which the log does not know.
func (k *keeper) states(ctx context.Context) error {
	for after := ""; ; {
		busy, err := k.store.Busy(ctx, after, page)
		if err != nil {
			return err
		}
		for _, project := range busy {
			k.progress.beat()
			after, err = project, nil
			entry, known := k.pod(project)
			switch {
			case !known && !k.drives(): // Another cluster may have its pod.
			case !known:
				err = k.store.SetState(ctx, project, string(upkeep.Opened), "")
			case entry.Event == events.Gone:
				delete(k.seen, entry.Pod)
				err = k.look(ctx, entry.Pod)
			}
			if err := k.hinder(ctx, events.ProjectPod(project), err); err != nil {
				return err
			}
		}
		if len(busy) < page {
			return nil
		}
	}
}

// astray mends the states of projects that have a pod which their rows do not know.
func (k *keeper) astray(ctx context.Context, pods []natsbus.Entry) error {
	var standings []store.Standing
	for _, entry := range pods {
		if project, ok := projectOf(entry.Record); ok {
			standings = append(standings, standing(project, entry))
		}
	}
	for part := range slices.Chunk(standings, page) {
		found, err := k.store.Astray(ctx, part)
		if err != nil {
			return err
		}
		for _, project := range found {
			k.progress.beat()
			delete(k.seen, events.ProjectPod(project))
			k.records.put(events.ProjectPod(project)) // It is looked at behind this step.
		}
	}
	return nil
}

// revive sees that each project that is to run always either has a pod, or a time of its next start, or has been given
// up. A start that was refused, which leaves nothing in the log, counts as a failure.
func (k *keeper) revive(ctx context.Context) error {
	for after := ""; ; {
		wanted, err := k.store.Wanted(ctx, after, page)
		if err != nil {
			return err
		}
		for _, project := range wanted {
			k.progress.beat()
			after = project
			if err := k.hinder(ctx, events.ProjectPod(project), k.reviveOne(ctx, project)); err != nil {
				return err
			}
		}
		if len(wanted) < page {
			return nil
		}
	}
}

func (k *keeper) reviveOne(ctx context.Context, project string) error {
	entry, known := k.pod(project)
	switch {
	case !known && !k.drives():
		return nil // Another cluster may have its pod.
	case known && entry.Event != events.Gone:
		return nil // It lives, or is on its way out, of which its record will tell.
	}
	if another, err := follows(ctx, k.bus, entry); another || err != nil {
		return err
	}
	u, err := k.store.Upkeep(ctx, project)
	if err != nil {
		if errors.Is(err, store.ErrNoProject) {
			return nil
		}
		return err
	}
	fault := ""
	switch {
	case !u.Wanted, !u.AlwaysRunning: // Somebody has stopped it meanwhile.
		return nil
	case u.RetryAt.After(u.Now):
		return nil
	case !u.RetryAt.IsZero():
		outcome, err := k.bus.Outcome(ctx, revival(project, u.RetryAt))
		if err != nil {
			return err
		}
		old := u.Now.Sub(u.RetryAt) > events.OutcomeTTL
		if outcome.Verdict != events.Refused && outcome.Verdict != events.Expiry && !old {
			// Nobody has taken it yet, or its pod is about to be claimed.
			return k.bus.AskTask(ctx, events.ProjectTask{Do: events.TaskStart, Project: project, Cause: events.CauseAlwaysRunning}, natsbus.NewID())
		}
		fault = whyNot(outcome)
	case known && entry.Restart != nil:
		return k.follow(ctx, project, entry)
	case known && upkeep.EndOf(entry.Record) == upkeep.Stopped:
		return k.store.Over(ctx, project, since(entry))
	case known:
		fault = upkeep.Fault(entry.Record)
	}
	fault, err = k.failed(ctx, project, u, u.Failures+1, fault)
	if err != nil {
		return err
	}
	return k.store.SetState(ctx, project, string(upkeep.Opened), fault)
}

// forgetUsage removes a part of what is older in the usage log than the site wants to keep; the next look goes on.
func (k *keeper) forgetUsage(ctx context.Context) error {
	age := time.Duration(k.config.UsageLogDays) * 24 * time.Hour
	if age == 0 {
		return nil
	}
	for total, part := 0, 0; ; part++ {
		k.progress.beat()
		removed, err := k.store.Forget(ctx, k.bus.Cluster(), age, page)
		total += removed
		switch {
		case err != nil:
			return err
		case removed == page && part+1 < forgetParts:
			continue
		case total > 0:
			k.log.Info().Int("uses", total).Int("days", k.config.UsageLogDays).Msg("Removed old uses of licenses from the usage log")
		}
		return nil
	}
}
