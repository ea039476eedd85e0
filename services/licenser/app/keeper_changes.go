package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/store"
)

// pending is how long the keeper waits for what it has asked for before it asks again.
const pending = time.Minute

// due says that a project is to be computed again: when, and what was known of it then.
type due struct {
	at   time.Time
	what store.Outdated
}

// slice is how many changed projects and licenses the keeper goes over before it looks at what else is new.
const slice = 50

// hear does what the news of the database ask for, also requests of hubs that have come since [keeper.between] looked: they are told of
// once. After a change of very many rows it does a part of it, and is called again at once.
func (k *keeper) hear(ctx context.Context) error {
	var projects, licenses []string
	var failed error
	for c := range k.changes.take() {
		err := error(nil)
		switch {
		case c.Drives:
			err = first(k.requests(ctx, nil), k.states(ctx))
		case c.Settings:
			err = k.settings(ctx)
		case c.License != "":
			licenses = append(licenses, c.License)
		default:
			projects = append(projects, c.Project)
		}
		if err != nil {
			k.changes.put(c)
			failed = first(failed, err)
		}
	}
	failed = first(failed, some(k, projects, func(p string) store.Change { return store.Change{Project: p} },
		func(part []string) error { return first(k.requests(ctx, part), k.outdated(ctx, part)) }))
	return first(failed, some(k, licenses, func(l string) store.Change { return store.Change{License: l} },
		func(part []string) error { return k.licenses(ctx, part) }))
}

// some calls f for a slice of ids, and puts the others back, or all where f fails.
func some(k *keeper, ids []string, change func(string) store.Change, f func([]string) error) error {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	n := min(len(ids), slice)
	err := f(slices.Clone(ids[:n]))
	if err != nil {
		n = 0
	}
	for _, id := range ids[n:] {
		k.changes.put(change(id))
	}
	return err
}

// licenses has projects computed again whose licenses have another content now than when that was last done: those of
// some licenses, or of all where some is nil. A timer each is set for when a license begins and ends to be valid. A
// license with which that does not work is in the way of no other one.
func (k *keeper) licenses(ctx context.Context, some []string) error {
	var failed error
	for after := ""; ; {
		changed, err := k.store.ChangedLicenses(ctx, some, after, slice)
		if err != nil {
			return err
		}
		for _, c := range changed {
			k.progress.beat()
			after = c.ID
			if err := k.changed(ctx, c); err != nil {
				k.log.Warn().Err(err).Str("license_id", c.ID).Msg("The change of a license has to be looked at again")
				failed = first(failed, err)
			}
			if ctx.Err() != nil || away(failed) {
				return failed
			}
		}
		if len(changed) < slice {
			return failed
		}
		failed = first(failed, k.between(ctx))
	}
}

// away says that an error is one that everything else would have, too.
func away(err error) bool {
	one := errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrSlow)
	return errors.Is(err, store.ErrAway) && !one || errors.Is(err, natsbus.ErrUnavailable)
}

// changed has the projects computed again that have a license.
func (k *keeper) changed(ctx context.Context, c store.LicenseChange) error {
	if err := k.timers(ctx, c); err != nil {
		return err
	}
	// The same content may come back within minutes, and is another change then.
	task := events.ProjectTask{Do: events.TaskLicense, License: c.ID}
	if err := k.bus.AskTask(ctx, task, natsbus.NewID()); err != nil {
		return err
	}
	return k.store.KnowLicense(ctx, c)
}

// timers sets those of a license; what is past needs none.
func (k *keeper) timers(ctx context.Context, c store.LicenseChange) error {
	for timer, at := range map[events.Timer]*time.Time{events.TimerActivates: c.Activates, events.TimerExpires: c.Expires} {
		if at == nil || !at.After(time.Now()) {
			continue
		}
		if err := k.bus.ArmTask(ctx, timer, *at, events.ProjectTask{Do: events.TaskLicense, License: c.ID}); err != nil {
			return err
		}
	}
	return nil
}

// settings has all projects computed again where the site's settings have changed.
func (k *keeper) settings(ctx context.Context) error {
	if err := k.legible(ctx); err != nil {
		return err
	}
	digest, changed, err := k.store.ChangedSettings(ctx)
	if err != nil || !changed {
		return err
	}
	if err := k.bus.AskTask(ctx, events.ProjectTask{Do: events.TaskSettings}, natsbus.NewID()); err != nil {
		return err
	}
	return k.store.KnowSettings(ctx, digest)
}

// outdated has those of the projects computed again that have a pod, and whose inputs are others than those it was
// computed from.
func (k *keeper) outdated(ctx context.Context, projects []string) error {
	live := slices.DeleteFunc(projects, func(project string) bool {
		entry, ok := k.pod(project)
		return !ok || !amendable(entry.Record)
	})
	for part := range slices.Chunk(live, slice) {
		found, err := k.store.Outdated(ctx, part)
		if err != nil {
			return err
		}
		if err := k.recompute(ctx, found); err != nil {
			return err
		}
		if len(live) > slice {
			if err := k.between(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// amendable says that a pod can be followed by another one because of a change: it lives, and its licenses
// have been looked at.
func amendable(r events.Record) bool {
	return !r.Event.Over() && r.Event != events.Ended && !r.Unlicensed() && r.Event != ""
}

// recompute has projects computed again, the first at once and the others at the site's pace.
func (k *keeper) recompute(ctx context.Context, projects []store.Outdated) error {
	now := time.Now()
	asking := map[string]store.Outdated{}
	var ids []string
	for _, p := range projects {
		// It is under way, unless it has been computed meanwhile, from inputs that have changed back since.
		if before := k.due[p.Project]; before.what == p && now.Sub(before.at) < pending {
			continue
		}
		asking[p.Project] = p
		ids = append(ids, p.Project)
	}
	_, err := askRecompute(ctx, k.bus, k.store, ids, k.config.RestartsPerSecond, func(project string, at time.Time) {
		k.progress.beat()
		k.due[project] = due{at, asking[project]}
	})
	return err
}

// askRecompute has projects computed again at the site's pace: at once, or by timers. It calls asked for each of which that is
// certain, and returns when the last one is due. A timer that is set for the same already is replaced.
func askRecompute(
	ctx context.Context, bus *natsbus.Bus, db *store.Store, projects []string, perSecond int, asked func(project string, at time.Time),
) (last time.Time, err error) {
	if len(projects) == 0 {
		return time.Time{}, nil
	}
	slots, err := db.Slots(ctx, projects, perSecond)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	for i, project := range projects {
		task := events.ProjectTask{Do: events.TaskRecompute, Project: project}
		at := now.Add(slots[i])
		if slots[i] > 0 {
			err = bus.ArmTask(ctx, events.TimerRecompute, at, task)
		} else {
			err = bus.AskTask(ctx, task, natsbus.NewID())
		}
		if err != nil {
			return time.Time{}, err
		}
		asked(project, at)
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}
