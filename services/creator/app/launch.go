package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	kubejson "sigs.k8s.io/json"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
)

// occupiedDelay is the pause before a name that somebody else's object has in
// Kubernetes is tried again.
const occupiedDelay = time.Second

// A namespace's quota is counted anew a moment after a pod has gone, and another pod of the same project follows at once: it is tried
// for some seconds whether there is room.
const (
	recountDelay    = 500 * time.Millisecond
	recountAttempts = 20
)

// launchAttempts is more than fit into the time for a create: its timer says
// when a launch has been tried for long enough.
const launchAttempts = 1000

// toldAttempt is the attempt from which on it is made known why a launch does not succeed:
// most faults of the way to the API server are over by then.
const toldAttempt = 4

// launchPlaces is how many launches are under way at once: most of their time they
// wait, for the API server or for a claim.
const launchPlaces = 128

// pods makes pods and what belongs to them in the cluster; see package cluster.
type pods interface {
	Launch(ctx context.Context, pod *corev1.Pod) (uid string, err error)
	Belong(ctx context.Context, b render.Belongings) (objects []events.Object, sshPort int, err error)
}

// launch makes the pod in Kubernetes, with its storage before and what belongs to it
// after, between two appends: `launching` fences it against a delete before,
// `launched` reports it after. Whatever is repeated finds what is there already.
func (c *creator) launch(ctx context.Context, d natsbus.Delivery) error {
	pod, fact, err := c.planned(d)
	if err != nil {
		return err
	}
	entry, _, err := c.bus.AppendAfter(ctx, d.Newest(), d.Pod, fact)
	switch {
	case errors.Is(err, events.ErrGeneration):
		return nil
	case errors.Is(err, events.ErrOver):
		return c.lost(ctx, entry)
	case err != nil:
		return err
	case !entry.LaunchedAt.IsZero():
		return nil
	}
	fact, err = c.makeAll(ctx, d, pod)
	if err != nil {
		return c.notMade(ctx, d, entry, err)
	}
	entry, _, err = c.bus.AppendAfter(ctx, entry, d.Pod, fact)
	switch {
	case errors.Is(err, events.ErrGeneration):
		return nil
	case errors.Is(err, events.ErrOver):
		return c.lost(ctx, entry)
	}
	return err
}

// mostWarnings is how many fields of a pod that Kubernetes does not know are named.
const mostWarnings = 10

// planned reads the pod that is to be launched, and the fact that says so.
func (c *creator) planned(d natsbus.Delivery) (*corev1.Pod, events.Fact, error) {
	licenses := d.Newest().Licenses
	pod, refusal := readPod(d.Rendered, licenses)
	if refusal != nil {
		return nil, events.Fact{}, natsbus.Permanent(events.Reason(refusal.Reason), refusal)
	}
	if pod.Name != d.Pod {
		err := fmt.Errorf("the pod to be launched is called %.64q; it must be %q", pod.Name, d.Pod)
		return nil, events.Fact{}, natsbus.Permanent(events.PodRejected, blame(err, licenses))
	}
	var warnings []string
	for _, u := range pod.unknown[:min(len(pod.unknown), mostWarnings)] {
		warnings = append(warnings, "the pod has a field that Kubernetes does not know or has it twice: "+u.Error())
	}
	render.Stamp(pod.Pod, d.ID, d.Generation)
	return pod.Pod, events.Fact{
		Kind: events.FactLaunch, Generation: d.Generation, At: time.Now().UTC(),
		Storage: kube.StorageClaim(pod.Pod, d.User), TokenKeys: pod.tokenKeys, Warnings: warnings,
	}, nil
}

// readable is a pod that has been read.
type readable struct {
	*corev1.Pod

	// unknown are the members that Kubernetes does not know, or that are there twice.
	unknown   []error
	tokenKeys []string
}

// readPod reads a pod that is to be launched, or of which somebody asks what a launch would say to it, as the API server
// reads it: encoding/json would take IMAGE, which a patch may have put there, for image. A refusal names the licenses that
// have changed it; see [blame].
func readPod(rendered json.RawMessage, licenses []events.License) (readable, *cluster.RejectedError) {
	refused := func(reason events.Reason, err error) (readable, *cluster.RejectedError) {
		return readable{}, &cluster.RejectedError{Reason: string(reason), Message: blame(err, licenses).Error(), Invalid: true}
	}
	r := readable{Pod: &corev1.Pod{}}
	var err error
	if r.unknown, err = kubejson.UnmarshalStrict(rendered, r.Pod); err != nil {
		return refused(events.PodRejected, discreet(rendered, fmt.Errorf("read rendered pod: %w", err)))
	}
	if r.tokenKeys, err = kube.TokenKeys(r.Annotations); err != nil {
		return refused(events.ManifestInvalid, err)
	}
	return r, nil
}

// makeAll makes the storage, the pod, and what belongs to it, and returns the fact
// that it is done.
func (c *creator) makeAll(ctx context.Context, d natsbus.Delivery, pod *corev1.Pod) (events.Fact, error) {
	fact := events.Fact{Kind: events.FactLaunched, Generation: d.Generation}
	storage, err := c.provide(ctx, d, pod)
	if err != nil {
		return fact, err
	}
	fact.Storage = storage.Name
	if fact.UID, err = c.pods.Launch(ctx, pod); err != nil {
		return fact, err
	}
	belongings := render.BelongingsOf(pod, d.User, c.site())
	belongings.Own(pod, fact.UID)
	if fact.Objects, fact.SSHPort, err = c.pods.Belong(ctx, belongings); err != nil {
		return fact, err
	}
	fact.HTTP, fact.SSHUser, fact.At = belongings.Ingress != nil, belongings.SSHUser, time.Now().UTC()
	return fact, nil
}

// site is what the objects of a pod are made of besides the pod.
func (c *creator) site() render.Site {
	return render.Site{
		NFSStorageRoot: c.config.NFSStorageRoot, IngressDomain: c.config.IngressDomain, IngressWildcardSecret: c.config.IngressWildcardSecret,
		IngressClass: c.config.IngressClass, IngressAnnotations: c.config.IngressAnnotations,
	}
}

// lost is told that a delete came first. What this launch, or an earlier attempt
// of it, has made is deleted, and the deleter learns that nothing more will come.
func (c *creator) lost(ctx context.Context, entry natsbus.Entry) error {
	if entry.Event == events.Gone || entry.LaunchingAt.IsZero() {
		return nil
	}
	return c.bus.AskDelete(ctx, entry, events.DeleteRequest{LaunchOver: true})
}

// notMade decides what became of a launch that did not come to its end.
func (c *creator) notMade(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, err error) error {
	if rejected := (*cluster.RejectedError)(nil); errors.As(err, &rejected) {
		told := blame(discreet(d.Rendered, rejected), entry.Licenses)
		if _, project := events.ProjectOf(d.User); project && rejected.Reason == kube.ReasonQuotaExceeded && d.Attempt < recountAttempts {
			return c.waitsFor(ctx, d, entry, events.QuotaExceeded, recountDelay, told)
		}
		return natsbus.Permanent(events.Reason(rejected.Reason), told)
	}
	if unfit := (*render.Error)(nil); errors.As(err, &unfit) {
		return natsbus.Permanent(events.Reason(unfit.Reason), blame(unfit, entry.Licenses))
	}
	reason, delay := events.NameOccupied, occupiedDelay
	if pending := (*pendingError)(nil); errors.As(err, &pending) {
		reason, delay = events.StoragePending, pending.delay
	} else if !errors.Is(err, cluster.ErrOccupied) {
		if d.Attempt < toldAttempt || ctx.Err() != nil {
			return err
		}
		told := blame(discreet(d.Rendered, errors.New(clipCause(err.Error()))), entry.Licenses)
		if _, appendErr := c.waits(ctx, d, entry, events.Unavailable, told.Error()); appendErr != nil {
			return errors.Join(err, appendErr)
		}
		return err
	}
	return c.waitsFor(ctx, d, entry, reason, delay, err)
}

// waitsFor makes it known what a launch waits for, and has it tried again after a delay.
func (c *creator) waitsFor(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, reason events.Reason, delay time.Duration, err error) error {
	entry, appendErr := c.waits(ctx, d, entry, reason, err.Error())
	switch {
	case errors.Is(appendErr, events.ErrGeneration):
		return nil
	case errors.Is(appendErr, events.ErrOver):
		return c.lost(ctx, entry)
	case appendErr != nil:
		return appendErr
	}
	return natsbus.Again(delay, err)
}

// waits makes it known what a launch waits for.
func (c *creator) waits(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, reason events.Reason, message string) (natsbus.Entry, error) {
	entry, _, err := c.bus.AppendAfter(ctx, entry, d.Pod, events.Fact{
		Kind: events.FactWait, Generation: d.Generation, At: time.Now().UTC(), Reason: reason, Message: message,
	})
	return entry, err
}

// failLaunch makes it known that a pod could not be launched.
func (c *creator) failLaunch(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	return c.bus.Fail(ctx, d.Pod, d.Generation, reason, message, events.DeleteRequest{LaunchOver: true})
}
