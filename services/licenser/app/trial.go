package app

import (
	"context"
	"encoding/json"
	"time"

	"berth/pkg/events"
	"berth/pkg/license/check"
	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// trialProject is the project that licenses are tried with.
const trialProject = "00000000-0000-4000-8000-000000000000"

// trial is a license that is to be saved, on its way through the template as that is now.
type trial struct {
	*licenser

	wanted, saved wire.License
	base          wire.Template
}

// try makes the pod that a license which is to be saved makes of the template as it is now, and asks what a start would say
// to it. It does so where the license writes into the pod as it pleases: by a patch, or by a gpu or dedicated_vm that the one
// that is there, nil for none, does not have. Where the site has no template that can be used no project can be started; the form
// has been checked, and that has to do.
func (l *licenser) try(ctx context.Context, w wire.License, there *wire.License) (warnings []string, err error) {
	t := trial{licenser: l, wanted: w}
	if there != nil {
		t.saved = *there
	}
	_, patches := licensing.Patch(w)
	if !patches && (licensing.Machine(w) == nil || licensing.SameMachine(w, t.saved)) {
		return nil, nil
	}
	if t.base, err = l.template(ctx, trialProject); err == nil {
		if warnings, err = t.run(ctx, patches); unavailable(err) {
			return []string{"its pod was not tried: " + err.Error()}, nil
		}
	}
	if noTemplate(err) {
		l.log.Warn().Err(err).Str("license_id", w.ID).Msg("A license was not tried, for want of a template")
		return nil, nil
	}
	return warnings, err
}

// run finds out what is wrong with the pod. One that is wrong, whatever else the namespace has, is a fault of what makes it so:
// of the gpu or dedicated_vm, where the pod is wrong without the patch, too, else of the patch. It is a warning where the template
// alone makes such a pod, or a gpu or dedicated_vm that is saved already; so is any other refusal, as it may pass like that of a full namespace.
func (t trial) run(ctx context.Context, patches bool) (warnings []string, err error) {
	machine := wire.License{ID: t.wanted.ID, Title: t.wanted.Title, Quota: licensing.Machine(t.wanted)}
	whole := machine
	if patches {
		whole.Quota, whole.Upgrades = t.wanted.Quota, t.wanted.Upgrades
	}
	v, err := t.verdictOn(ctx, whole)
	if err != nil || v.Accepted {
		return v.Warnings, err
	}
	warnings = []string{"as things are, no pod with it would be started: " + v.Reason + ": " + v.Message}
	if !v.Invalid {
		return warnings, nil
	}
	if bare, err := t.verdictOn(ctx, wire.License{ID: t.wanted.ID}); err != nil || bare.Invalid {
		return warnings, err
	}
	without := v
	if patches {
		if without, err = t.verdictOn(ctx, machine); err != nil {
			return nil, err
		}
	}
	switch {
	case !without.Invalid:
		return nil, licensing.PatchFault(t.wanted, v.Message)
	case licensing.SameMachine(t.wanted, t.saved):
		return warnings, nil
	default:
		return nil, licensing.MachineFault(t.wanted, without.Message)
	}
}

// verdictOn is what a start would say to the pod of a project that has a license, whenever that is valid, and nothing else.
func (t trial) verdictOn(ctx context.Context, license wire.License) (wire.Verdict, error) {
	begin := time.Unix(0, 0).UTC()
	made, err := licensing.Decide(licensing.Input{
		Check: check.Input{
			Now: begin, SiteLicense: []quota.License{{ID: license.ID, Value: json.RawMessage("{}")}},
			Rows: []check.Row{{ID: license.ID, Activates: &begin, Upgrades: license.Upgrades, Quota: license.Quota}},
		},
		Titles: map[string]string{license.ID: license.Title}, Base: t.base.JSON,
		Fill: t.fill(computeRequest{
			Project: &events.ProjectRequest{ID: trialProject}, Labels: t.base.Labels, Annotations: t.base.Annotations,
		}, store.Extras{}),
		Options: options(t.config.Projects, false), Container: pod.Container,
	})
	if err != nil {
		return wire.Verdict{}, err
	}
	return t.verdict(ctx, made.Pod, nil, false)
}
