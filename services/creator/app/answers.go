package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/pkg/license/wire"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/template"
)

// answersAtOnce is how many questions are answered at once. They are people's: starts do
// not need them.
const answersAtOnce = 8

// trials asks the API server about pods without making them; see package cluster.
type trials interface {
	DryRun(ctx context.Context, pod json.RawMessage) (warnings []string, err error)
	MakesRoom(ctx context.Context, pod json.RawMessage, refusal string) (bool, error)
}

// answer answers the questions of package wire that are the creator's.
func (c *creator) answer(ctx context.Context, q natsbus.Question) (any, error) {
	switch q.Method {
	case wire.MethodTemplate:
		return answered(ctx, q, c.answerTemplate)
	case wire.MethodRender:
		return answered(ctx, q, c.answerRender)
	case wire.MethodDryRun:
		return answered(ctx, q, c.answerDryRun)
	}
	return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: fmt.Sprintf("the creator knows no question %.40q", q.Method)}
}

// answered reads what a question is about and has it answered.
func answered[T any](ctx context.Context, q natsbus.Question, answer func(context.Context, T) (any, error)) (any, error) {
	var params T
	if len(q.Params) == 0 {
		q.Params = json.RawMessage("{}")
	}
	if err := json.Unmarshal(q.Params, &params); err != nil {
		return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: fmt.Sprintf("the question %s is malformed: %s", q.Method, err)}
	}
	return answer(ctx, params)
}

// answerTemplate returns the template, with what a project's pod has besides, where a
// project is named.
func (c *creator) answerTemplate(_ context.Context, r wire.ProjectRef) (any, error) {
	text, err := c.templates.Text()
	if err != nil {
		return nil, told(err)
	}
	answer := wire.Template{JSON: text, Source: c.templates.Source()}
	switch {
	case r.ID == "":
	case !events.ProjectID(r.ID):
		return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: fmt.Sprintf("project_id %.40q is no UUID in lower case", r.ID)}
	default:
		answer.Labels, answer.Annotations = marks(r.ID)
	}
	return answer, nil
}

// noSilo is said of a pod whose storage would be on a silo that nobody has named.
const noSilo = "the manifest asks for the user's storage, which is on a silo, and the request is of none: " +
	"name the silo that the pod would be for with silo (berth license preview --silo NAME)"

// answerRender makes the pod that a user would get of a manifest, up to the licenses.
func (c *creator) answerRender(ctx context.Context, r wire.RenderRequest) (any, error) {
	switch {
	case !kube.Person(r.User):
		return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: "user_id is not one of a person: write it like alice@example.org"}
	case r.ManifestURL == "":
		return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: "manifest_url is missing"}
	}
	d := natsbus.Delivery{Command: events.Command{User: r.User, Create: &events.CreateRequest{
		ManifestURL: r.ManifestURL, Settings: r.Settings, Silo: events.Silo(r.Silo),
	}}}
	parsed, err := c.manifest(ctx, d)
	if err != nil {
		return nil, told(err)
	}
	made, err := manifestPlan{c, d, parsed}.draft(kube.Name(parsed.Name, r.User, 0))
	if reasonOf(err) == events.StorageFailed && r.Silo.DataAddress == "" && c.site().NFSStorageRoot != "" {
		return nil, &natsbus.Fault{Reason: events.StorageFailed, Message: noSilo}
	}
	return wire.Rendered{Pod: made.rendered}, told(err)
}

// answerDryRun says what a launch, and the API server, would say to a pod.
func (c *creator) answerDryRun(ctx context.Context, r wire.DryRunRequest) (any, error) {
	licenses := make([]events.License, 0, len(r.Licenses))
	for _, l := range r.Licenses {
		licenses = append(licenses, events.License{ID: l.ID, Title: l.Title, Patched: l.Patched, Machine: l.Machine})
	}
	pod, rejected := readPod(r.Pod, licenses)
	switch {
	case rejected != nil:
		return wire.Verdict{Invalid: true, Reason: rejected.Reason, Message: rejected.Message}, nil
	case r.ReadOnly:
		return wire.Verdict{Accepted: true, Warnings: warned(pod.unknown, nil)}, nil
	}
	warnings, err := c.trials.DryRun(ctx, r.Pod)
	v := wire.Verdict{Accepted: err == nil, Warnings: warned(pod.unknown, warnings)}
	if errors.As(err, &rejected) {
		v.Invalid, v.Reason, v.Message = rejected.Invalid, rejected.Reason, blame(discreet(r.Pod, rejected), licenses).Error()
		err = nil
		if rejected.Reason == kube.ReasonQuotaExceeded {
			v.MakesRoom, err = c.trials.MakesRoom(ctx, r.Pod, rejected.Message)
		}
	}
	if err != nil {
		return nil, &natsbus.Fault{Reason: events.Unavailable, Message: "the API server cannot be asked now: " + clipCause(err.Error())}
	}
	return v, nil
}

// warned is what a launch warns of, a part of it where that is much, and then what the API server does, which says the same in the same words.
func warned(unknown []error, warnings []string) []string {
	var all []string
	for _, u := range unknown[:min(len(unknown), mostWarnings)] {
		all = append(all, u.Error())
	}
	for _, warning := range warnings {
		if !slices.Contains(all, warning) {
			all = append(all, warning)
		}
	}
	return all
}

// told makes an answer of an error: what the asker can mend, or wait for, is told.
func told(err error) error {
	if reason := reasonOf(err); reason != "" {
		return &natsbus.Fault{Reason: reason, Message: err.Error()}
	}
	if errors.Is(err, manifest.ErrBusy) || errors.Is(err, template.ErrUnknown) {
		return &natsbus.Fault{Reason: events.Unavailable, Message: err.Error()}
	}
	return err
}
