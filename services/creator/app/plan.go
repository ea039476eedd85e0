package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/creator/internal/render"
)

// manifests fetches manifests; see package manifest.
type manifests interface {
	Fetch(ctx context.Context, url string) ([]byte, error)
}

// templates keeps the template of the projects' pods; see package template.
type templates interface {
	Text() (json.RawMessage, error)
	Source() string
}

// plan is what a create makes its pod of.
type plan interface {
	// pick returns the outcome that names the first name that is free, with the newest record
	// of it, or that refuses the command. Of a careful command the names that it has had are
	// not free.
	pick(ctx context.Context, careful bool) (next events.Outcome, newest natsbus.Entry, err error)
	// draft makes the pod of a name.
	draft(name string) (draft, error)
}

// draft is a pod as the next stage gets it, and what its first record says of it.
type draft struct {
	pod              string
	container, image string
	warnings         []string
	rendered         json.RawMessage
	// labels and annotations are those by which a project's pod is known again.
	labels, annotations map[string]string
}

// claim is the first record of the pod.
func (m draft) claim(d natsbus.Delivery) events.Fact {
	first := events.Record{
		Cluster: d.Cluster, Pod: m.pod, User: d.User, Command: d.ID, Silo: d.Create.Silo.Name,
		Manifest: d.Create.Manifest(), Container: m.container, Image: m.image, Warnings: m.warnings,
	}
	if project := d.Create.Project; project != nil {
		first.LastStop = project.LastStop
	}
	return events.Fact{Kind: events.FactClaim, At: time.Now().UTC(), Record: first}
}

// plan finds out what a command's pod is to be made of. The errors are those that
// [reasonOf] knows, [manifest.ErrBusy], [template.ErrUnknown], and faults of our own.
func (c *creator) plan(ctx context.Context, d natsbus.Delivery) (plan, error) {
	if d.Create.Project != nil {
		text, err := c.templates.Text()
		return projectPlan{c, d, text}, err
	}
	parsed, err := c.manifest(ctx, d)
	return manifestPlan{c, d, parsed}, err
}

// manifestPlan makes pods of a manifest.
type manifestPlan struct {
	c      *creator
	d      natsbus.Delivery
	parsed *corev1.Pod
}

// pick refuses the command when its user has as many pods as there are names.
func (p manifestPlan) pick(ctx context.Context, careful bool) (next events.Outcome, newest natsbus.Entry, err error) {
	name, err := firstName(p.parsed.Name, p.d.User, func(name string) (has holder, err error) {
		if events.IsProjectPod(name) {
			return another, nil // Whether that project has a pod now or not.
		}
		newest, has, err = p.c.holderOf(ctx, p.d, name, careful)
		return has, err
	})
	if err != nil || name != "" {
		return events.Outcome{Verdict: events.Accepted, Pod: name}, newest, err
	}
	// It says nothing about others, whose ids may make the same names.
	return events.Outcome{Verdict: events.Refused, Reason: events.NameExhausted, Message: fmt.Sprintf(
		"the user has %d pods of this manifest (%s and so on), and can have no more; delete one first",
		names, kube.Name(p.parsed.Name, p.d.User, 0))}, newest, nil
}

func (p manifestPlan) draft(name string) (draft, error) {
	pod, warnings, err := p.c.render(p.d, p.parsed, name)
	if err != nil {
		return draft{}, err
	}
	rendered, err := json.Marshal(pod)
	if err != nil {
		return draft{}, fmt.Errorf("marshal pod: %w", err)
	}
	first := pod.Spec.Containers[0]
	return draft{pod: name, container: first.Name, image: first.Image, warnings: warnings, rendered: rendered}, nil
}

// manifest fetches and checks what the pod is made from.
func (c *creator) manifest(ctx context.Context, d natsbus.Delivery) (*corev1.Pod, error) {
	text, err := c.manifests.Fetch(ctx, d.Create.ManifestURL)
	if err != nil {
		return nil, err
	}
	return render.Parse(text)
}

// render makes the pod of a name.
func (c *creator) render(d natsbus.Delivery, parsed *corev1.Pod, name string) (*corev1.Pod, []string, error) {
	return render.Pod(parsed, render.Request{
		Name: name, User: d.User, Namespace: c.config.Namespace, Command: d.ID, Silo: d.Create.Silo.Name,
		SiloAddress: d.Create.Silo.DataAddress, SiloHostName: d.Create.Silo.HostName, Settings: d.Create.Settings,
		DefaultRestartPolicy: corev1.RestartPolicy(c.config.DefaultRestartPolicy),
		LocalRegistryURL:     c.config.LocalRegistryURL, LocalRegistrySecret: c.config.LocalRegistrySecret,
		Site: c.site(),
	})
}

// projectPlan hands the template on as it is: what becomes of it is the licenser's to say,
// who knows the project.
type projectPlan struct {
	c    *creator
	d    natsbus.Delivery
	text json.RawMessage
}

// pick knows one name alone.
func (p projectPlan) pick(ctx context.Context, careful bool) (next events.Outcome, newest natsbus.Entry, err error) {
	name := events.ProjectPod(p.d.Create.Project.ID)
	newest, has, err := p.c.holderOf(ctx, p.d, name, careful)
	if err != nil {
		return next, newest, err
	}
	refuse := func(reason events.Reason, message string) (events.Outcome, natsbus.Entry, error) {
		return events.Outcome{Verdict: events.Refused, Reason: reason, Message: message}, newest, nil
	}
	off, err := p.c.calledOff(ctx, p.d.Create.Project.ID, p.d.Create.Project.LastStop)
	switch {
	case err != nil:
		return next, newest, err
	case off > 0:
		return refuse(events.Deleted, stoppedBefore)
	case has == nobody:
		return events.Outcome{Verdict: events.Accepted, Pod: name}, newest, nil
	case newest.User != p.d.User && newest.Event != events.Gone:
		return refuse(events.Conflict, "the name "+name+" is that of a pod which is not the project's; that one has to be deleted first")
	case newest.Event.Over():
		return refuse(events.Conflict, "the project is being stopped; start it again when that is done")
	}
	return refuse(events.AlreadyRunning, "the project has a pod already; stop it first, or ask for a restart")
}

// stoppedBefore is said of a start that a stop has called off.
const stoppedBefore = "the project was stopped before it was started"

// calledOff returns the place in the log of a stop of a project since somebody asked for a start who knew of an earlier one; 0 for
// none.
func (c *creator) calledOff(ctx context.Context, project string, known *uint64) (uint64, error) {
	if known == nil {
		return 0, nil
	}
	last, err := c.bus.LastStop(ctx, project)
	if last <= *known {
		last = 0
	}
	return last, err
}

func (p projectPlan) draft(name string) (draft, error) {
	labels, annotations := marks(p.d.Create.Project.ID)
	annotations[kube.AnnotationCommand] = p.d.ID
	return draft{pod: name, rendered: p.text, labels: labels, annotations: annotations}, nil
}

// marks are the labels and annotations by which the pod of a project is known, whatever
// command makes it.
func marks(project string) (labels, annotations map[string]string) {
	user := events.ProjectUser(project)
	return kube.ProjectLabels(events.ProjectPod(project), user), map[string]string{kube.AnnotationUser: user}
}
