package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// seatKeeping is for how long the seats of a project that is restarted are kept for its next pod.
const seatKeeping = 5 * time.Minute

// strays is how often a command is tried that the log has no pod for: about five minutes.
const strays = 64

// told is the attempt from which on it is made known why the licenses cannot be looked at, waitTime how long that may take: less
// than a stage keeps of a command's time for settling it.
const (
	told     = 2
	waitTime = time.Second
)

// noDatabase is said of what needs one.
const noDatabase = "this site has no database for projects and licenses: set DATABASE_URL for the licenser"

// license decides on the licenses of a pod and hands it on to be launched. It can be repeated: the
// seats of the pod's generation are its own then.
func (l *licenser) license(ctx context.Context, d natsbus.Delivery) error {
	err := l.decide(ctx, d)
	fault := (*licensing.Fault)(nil)
	switch {
	case errors.As(err, &fault):
		return natsbus.Permanent(fault.Reason, err)
	case errors.Is(err, events.ErrTooLarge):
		return natsbus.Permanent(events.LicenseInvalid, err)
	case errors.Is(err, events.ErrOrder) && d.Attempt >= strays:
		return natsbus.Permanent(events.RetriesExhausted, err)
	case err != nil && d.Attempt >= told:
		return errors.Join(err, l.waits(ctx, d, err))
	}
	return err
}

// waits makes it known what a pod waits for whose licenses cannot be looked at. The log of the service says so once for each cause.
func (l *licenser) waits(ctx context.Context, d natsbus.Delivery, why error) error {
	cause := store.Cause(why)
	if cause == "" {
		return nil // That is the log's, which cannot be told either, or will be told by the last try.
	}
	// The time of the attempt may be what was up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitTime)
	defer cancel()
	_, changed, err := l.bus.AppendAfter(ctx, d.Newest(), d.Pod, events.Fact{
		Kind: events.FactWait, Generation: d.Generation, At: time.Now().UTC(), Reason: events.Unavailable,
		Message: "the licenses cannot be looked at yet: " + cause,
	})
	if changed || err != nil {
		l.log.Warn().Err(why).Str("command_id", d.ID).Str("pod_name", d.Pod).Uint64("attempt", d.Attempt).Msg("A start waits for the database")
	}
	if errors.Is(err, events.ErrOver) || errors.Is(err, events.ErrGeneration) || errors.Is(err, events.ErrOrder) {
		return nil // The next try finds that out.
	}
	return err
}

func (l *licenser) decide(ctx context.Context, d natsbus.Delivery) error {
	req, err := startOf(d)
	if err != nil {
		return err
	}
	unchanged := computed{Result: licensing.Result{Pod: d.Rendered, Licenses: []events.License{}}}
	switch {
	case l.store == nil && req.Project == nil:
		return l.handOn(ctx, d, d.Newest(), unchanged)
	case l.store == nil:
		return &licensing.Fault{Reason: events.ProjectUnknown, Message: noDatabase}
	case req.Project == nil:
		// Most people have no license. To find that out is one question to the database.
		req.Mode = store.Preview
		c, err := l.compute(ctx, req)
		if err != nil {
			return err
		}
		if !c.Licensed {
			return l.handOn(ctx, d, d.Newest(), unchanged)
		}
		req.Mode = store.Start
	}
	// The command may be late, and the name another pod's by now, which must keep its seats.
	entry, err := l.bus.Last(ctx, d.Pod)
	switch {
	case err != nil:
		return err
	case entry.Event == "":
		return fmt.Errorf("license %s: the log has no such pod: %w", d.Pod, events.ErrOrder)
	case entry.Generation != d.Generation || entry.Event.Over():
		return l.release(ctx, d, entry)
	case !entry.LaunchedAt.IsZero():
		return nil
	}
	if req.Project == nil {
		req.Container = entry.Container
	} else if err := l.settle(ctx, d, req.Project.ID); err != nil {
		return err
	}
	req.Begun = begun(entry)
	c, err := l.compute(ctx, req)
	if t := c.Trace; t != nil {
		log := l.log.With().Str("command_id", d.ID).Str("pod_name", d.Pod).Logger()
		log.Info().Msg("project_pod_before=" + string(t.Before))
		log.Info().Msg("patch=" + string(t.Patch))
		log.Info().Msg("project_pod=" + string(t.After))
	}
	if err != nil {
		return err
	}
	return l.handOn(ctx, d, entry, c)
}

// settle takes back what the project's last start asked for where that has failed before its pod was launched, and the
// keeper has not come to it yet.
func (l *licenser) settle(ctx context.Context, d natsbus.Delivery, project string) error {
	command, err := l.store.Unsettled(ctx, project)
	if err != nil || command == "" || command == d.ID {
		return err
	}
	records, err := l.bus.History(ctx, d.Pod)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Command == command && r.Event == events.Failed && r.LaunchedAt.IsZero() {
			return l.store.Undo(ctx, project, command)
		}
	}
	return nil
}

// startOf is what a command asks to compute.
func startOf(d natsbus.Delivery) (computeRequest, error) {
	req := computeRequest{
		Mode: store.Start, Pod: d.Pod, Generation: d.Generation, Command: d.ID, User: d.User, Project: d.Project,
		Base: d.Rendered, Labels: d.Labels, Annotations: d.Annotations,
	}
	project, ok := events.ProjectOf(d.User)
	switch {
	case !ok:
		return req, nil
	case !events.ProjectID(project) || d.Pod != events.ProjectPod(project):
		return req, &licensing.Fault{Reason: events.RequestInvalid, Message: "the pod does not have the name of a project's pod"}
	case req.Project == nil:
		req.Project = &events.ProjectRequest{ID: project}
	}
	return req, nil
}

// handOn appends what was decided, after the newest record that is known, and has the pod launched.
func (l *licenser) handOn(ctx context.Context, d natsbus.Delivery, known natsbus.Entry, c computed) error {
	fact := events.Fact{
		Kind: events.FactLicense, Generation: d.Generation, At: time.Now().UTC(),
		Licenses: c.Licenses, Container: c.Container, Image: c.Image,
	}
	if c.Licensed {
		fact.Licensing = &c.Licensing
	}
	entry, _, err := l.bus.AppendAfter(ctx, known, d.Pod, fact)
	if err == nil && entry.LaunchedAt.IsZero() && !slices.Equal(entry.Licenses, c.Licenses) {
		// It was licensed before, and somebody has changed a license since: the pod is that of now.
		fact.Kind = events.FactRelicense
		entry, _, err = l.bus.AppendAfter(ctx, entry, d.Pod, fact)
	}
	switch {
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrGeneration):
		// Deleted or failed meanwhile; there is nothing to make any more.
		return l.release(ctx, d, entry)
	case err != nil:
		return err
	case !entry.LaunchedAt.IsZero():
		return nil
	}
	launch := d.Command
	launch.Stage, launch.After, launch.Rendered = events.StageLaunch, entry.Known(), c.Pod
	launch.Project, launch.Labels, launch.Annotations = nil, nil, nil
	return l.bus.Publish(ctx, launch, strconv.FormatUint(entry.Sequence, 10))
}

// release gives back what a pod was granted that is not to be made any more. As long as its
// life goes on in the log, it keeps its seats: whoever follows the log frees them at its end.
func (l *licenser) release(ctx context.Context, d natsbus.Delivery, now natsbus.Entry) error {
	same := now.Generation == d.Generation
	switch {
	case l.store == nil, same && now.Event != events.Gone:
		return nil
	case same && now.Restart != nil:
		return l.store.KeepSeats(ctx, d.Cluster, d.Pod, d.Generation, now.Time, time.Now().Add(seatKeeping))
	default:
		return l.store.FreeSeats(ctx, d.Cluster, d.Pod, d.Generation, goneBy(now, d.Generation))
	}
}

// goneBy is when a life of a pod was over that is over by the newest record of its name: that is its own last one, or one of a life that has
// followed it; zero for no record.
func goneBy(now natsbus.Entry, generation string) time.Time {
	if now.Generation == generation {
		return now.Time
	}
	return begun(now)
}

// failed makes it known that no pod can be made.
func (l *licenser) failed(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	return l.bus.Fail(ctx, d.Pod, d.Generation, reason, message, events.DeleteRequest{})
}
