package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"berth/pkg/events"
	"berth/pkg/license/quota"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// preview makes the pod that would be made, on the way that a start takes, and keeps nothing of it.
func (l *licenser) preview(ctx context.Context, p wire.PreviewQuestion) (wire.Preview, error) {
	if err := l.checkHypothesis(ctx, p.PreviewRequest); err != nil {
		return wire.Preview{}, err
	}
	req, err := l.hypothesis(ctx, p)
	var c computed
	if err == nil {
		c, err = l.compute(ctx, req)
	}
	if fault := (*licensing.Fault)(nil); errors.As(err, &fault) {
		return wire.Preview{Licenses: []wire.LicenseStatus{}, Fault: shown(fault)}, nil
	}
	if err != nil {
		return wire.Preview{}, err
	}
	answer := wire.Preview{Licenses: statuses(c.Licenses), Quota: c.Quota, Pod: c.Pod}
	if answer.Diff, err = diff(c.Base, c.Pod); err != nil {
		return wire.Preview{}, fmt.Errorf("compare pods: %w", err)
	}
	if p.Change != nil && !slices.ContainsFunc(c.Licenses, func(a events.License) bool { return a.ID == p.Change.ID }) {
		c.Explanation.Ignored = append(c.Explanation.Ignored, quota.Ignored{
			License: p.Change.ID, Why: "it is not attached: the change changes nothing; name it with licenses to try it as if it were",
		})
	}
	v, err := l.judged(ctx, req, c, p.NoDryRun)
	if err != nil {
		return wire.Preview{}, err
	}
	noteUnknown(c.Explanation.Steps, v.Warnings)
	if answer.Explanation, err = json.Marshal(c.Explanation); err != nil {
		return wire.Preview{}, fmt.Errorf("encode explanation: %w", err)
	}
	if !p.NoDryRun || !v.Accepted {
		answer.Verdict = &v
	}
	return answer, nil
}

// hypothesis is what a preview asks to compute.
func (l *licenser) hypothesis(ctx context.Context, p wire.PreviewQuestion) (computeRequest, error) {
	req := computeRequest{Mode: store.Preview, Instead: p.Licenses, Change: p.Change}
	if p.Project != "" {
		req.User, req.Pod = events.ProjectUser(p.Project), events.ProjectPod(p.Project)
		req.Project = &events.ProjectRequest{ID: p.Project, Image: p.Image, Tag: p.Tag}
		return req, l.useTemplate(ctx, &req, p.Template)
	}
	var rendered wire.Rendered
	err := l.askCreator(ctx, wire.MethodRender, wire.RenderRequest{
		User: p.User, ManifestURL: p.ManifestURL, Settings: p.Settings, Silo: p.For,
	}, &rendered)
	var head struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err == nil {
		err = json.Unmarshal(rendered.Pod, &head)
	}
	req.User, req.Pod, req.Base = p.User, head.Metadata.Name, rendered.Pod
	return req, err
}

// useTemplate gives a request the site's template, or the one that is to be tried.
func (l *licenser) useTemplate(ctx context.Context, req *computeRequest, instead json.RawMessage) error {
	t, err := l.template(ctx, req.Project.ID)
	if len(instead) > 0 && noTemplate(err) {
		err = nil // It is to get one.
	}
	req.Base, req.Labels, req.Annotations = t.JSON, t.Labels, t.Annotations
	if len(instead) > 0 {
		req.Base = instead
	}
	return err
}

// maxImage is the length of an image's name, and of its tag, in bytes, at the most.
const maxImage = 255

// checkHypothesis refuses what cannot be previewed.
func (l *licenser) checkHypothesis(ctx context.Context, p wire.PreviewRequest) error {
	switch {
	case (p.Project == "") == (p.User == ""):
		return refused("name either project_id or user_id")
	case p.Project != "" && !events.ProjectID(p.Project):
		return refused("project_id %.60q is no UUID in lower case", p.Project)
	case p.Project != "" && (p.ManifestURL != "" || p.Settings != nil):
		return refused("manifest_url and settings are for a user's pod: leave them out for a project")
	case p.User != "" && p.ManifestURL == "":
		return refused("manifest_url is missing: name the manifest of the user's pod")
	case p.User != "" && (p.Image != "" || p.Tag != "" || len(p.Template) > 0):
		return refused("image, tag and template are for a project's pod: leave them out for a user")
	case len(p.Image) > maxImage || len(p.Tag) > maxImage:
		return refused("image or tag has more than %d bytes", maxImage)
	case len(p.Licenses) > licensing.MaxLicenses:
		return refused("licenses has more than %d licenses", licensing.MaxLicenses)
	}
	if err := checkUser(p.User); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, hypothesis := range p.Licenses {
		if !events.ProjectID(hypothesis.ID) || seen[hypothesis.ID] {
			return refused("licenses[%d].id %.60q is no UUID in lower case, or is there twice", i, hypothesis.ID)
		}
		seen[hypothesis.ID] = true
		if named(hypothesis) {
			continue
		}
		if _, err := l.validate(ctx, hypothesis); err != nil {
			return within(fmt.Sprintf("licenses[%d]", i), err)
		}
	}
	return l.checkChange(ctx, p.Change, p.Template)
}

// named says that a hypothesis is the license of its id as it is saved.
func named(hypothesis wire.License) bool {
	return reflect.DeepEqual(hypothesis, wire.License{ID: hypothesis.ID})
}

// within says where in a request a fault is.
func within(member string, err error) error {
	if fault := (*licensing.Fault)(nil); errors.As(err, &fault) {
		return &licensing.Fault{Reason: fault.Reason, Message: member + ": " + fault.Message}
	}
	return err
}

// checkChange refuses a change of a license that could not be saved, and a template that cannot be tried.
func (l *licenser) checkChange(ctx context.Context, change *wire.License, template json.RawMessage) error {
	switch {
	case change != nil && !events.ProjectID(change.ID):
		return refused("change.id %.60q is no UUID in lower case", change.ID)
	case len(template) > events.MaxManifest:
		return refused("template has %d bytes, more than %d", len(template), events.MaxManifest)
	case change == nil:
		return nil
	}
	_, err := l.validate(ctx, *change)
	return within("change", err)
}

func shown(fault *licensing.Fault) *wire.PreviewFault {
	return &wire.PreviewFault{Reason: string(fault.Reason), Message: fault.Message}
}

func statuses(licenses []events.License) []wire.LicenseStatus {
	list := make([]wire.LicenseStatus, 0, len(licenses))
	for _, license := range licenses {
		list = append(list, wire.LicenseStatus{
			ID: license.ID, Title: license.Title, Status: license.Status, Reason: license.Reason,
			Patched: license.Patched, Machine: license.Machine,
		})
	}
	return list
}
