package app

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license"
	"berth/pkg/license/check"
	"berth/pkg/license/patchset"
	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// computeRequest asks what licenses make of the pod of a project, or of a user's pod.
type computeRequest struct {
	Mode store.Mode
	// Pod and Generation are those of the life of the pod; a preview has no generation.
	Pod, Generation, User string
	// Begun is when that life began, zero where no other one may have gone before it.
	Begun time.Time
	// Command is the id of the create, for a start.
	Command string
	// Project is what a start asks for; nil for the pod of a manifest.
	Project *events.ProjectRequest
	// Base is the template of the project pods as the site keeps it, or the pod of a manifest.
	// Labels and Annotations are those by which Berth knows the project's pod. Where Base is empty, the
	// creator is asked for all three.
	Base                json.RawMessage
	Labels, Annotations map[string]string
	// Container is the container of a manifest's pod whose image the record has.
	Container string
	// NotBefore is the earliest time that counts: the clock of the database may be a little
	// behind the one by which a timer has fired.
	NotBefore time.Time

	// Tried is the digest of the pod that the API server would take: in the mode recompute nothing is kept of what makes
	// another one.
	Tried string

	// Instead and Change are the hypotheses of a preview; see [wire.PreviewRequest].
	Instead []wire.License
	Change  *wire.License
	// Without is the id of a license whose patch, gpu and dedicated_vm a preview leaves out; empty for none.
	Without string
}

// computed is what licenses make of a pod.
type computed struct {
	licensing.Result
	// Base is what the pod was made from. Licensed says that the project or the user has
	// any license, or that the pod is a project's: else Pod is Base as it was.
	Base     json.RawMessage
	Licensed bool
	// Concerned says that the license of the request's Change is attached; with a fault, too.
	Concerned bool
}

// compute examines licenses, computes the quota and makes the pod.
//
// In the mode start all of it is one transaction, and nothing is kept of it unless a pod comes of it. In the mode
// recompute, for a project that runs, seats and statuses are kept where the quota stays the same; where it does not,
// only new seats are, and only if the pod has been tried, for the start that has to follow and decides: a restart that gets
// lost on the way is found missing again. A preview keeps nothing.
//
// The error is a [*licensing.Fault] where no repetition mends it. Any other is the database's or the
// creator's, and passes.
func (l *licenser) compute(ctx context.Context, req computeRequest) (c computed, err error) {
	if len(req.Base) == 0 {
		if err := l.askTemplate(ctx, &req); err != nil {
			return computed{}, err
		}
	}
	c.Base = req.Base
	begun := time.Now()
	err = l.store.Check(ctx, l.checkRequest(req), func(f store.Facts) (store.Decision, error) {
		in, licensed := l.input(req, f)
		c.Concerned = req.Change != nil && attachedTo(in.Check.SiteLicense, req.Change.ID)
		if !licensed {
			c.Result, c.Licensed = licensing.Result{Pod: req.Base, Licenses: []events.License{}}, false
			return store.Decision{}, nil
		}
		var err error
		if c.Result, err = licensing.Decide(in); err != nil {
			return store.Decision{}, err
		}
		c.Licensed = true
		return decision(req, c.Result), nil
	})
	l.transactions.WithLabelValues(modeNames[req.Mode], outcome(err)).Observe(time.Since(begun).Seconds())
	switch {
	case errors.Is(err, store.ErrNoProject):
		err = &licensing.Fault{Reason: events.ProjectUnknown, Message: err.Error()}
	case errors.Is(err, store.ErrAsked):
		err = &licensing.Fault{Reason: events.RequestInvalid, Message: err.Error() + ": change it"}
	case errors.Is(err, store.ErrInvalid):
		err = &licensing.Fault{Reason: events.LicenseInvalid, Message: "the database cannot keep what the licenses give: " + err.Error()}
	}
	if err != nil {
		return computed{Result: licensing.Result{Trace: c.Trace}, Concerned: c.Concerned}, err
	}
	return c, nil
}

// askTemplate asks the creator for what the creator has sent with a start.
func (l *licenser) askTemplate(ctx context.Context, req *computeRequest) error {
	if req.Project == nil {
		return errors.New("compute licenses: neither a project nor the pod of a manifest")
	}
	t, err := l.template(ctx, req.Project.ID)
	if err != nil {
		return err
	}
	req.Base, req.Labels, req.Annotations = t.JSON, t.Labels, t.Annotations
	return nil
}

// template asks the creator for the template of the project pods, with the labels of a project.
func (l *licenser) template(ctx context.Context, project string) (t wire.Template, err error) {
	err = l.askCreator(ctx, wire.MethodTemplate, wire.ProjectRef{ID: project}, &t)
	return t, err
}

// askCreator asks a creator. What it refuses is a [*licensing.Fault]; that none answers passes.
func (l *licenser) askCreator(ctx context.Context, method string, params, result any) error {
	err := l.bus.Ask(ctx, events.RenderSubject(l.bus.Cluster()), method, params, result)
	if f := (*natsbus.Fault)(nil); errors.As(err, &f) && f.Reason != events.Unavailable {
		return &licensing.Fault{Reason: f.Reason, Message: f.Message}
	}
	return err
}

// decision is what the database keeps of a result.
func decision(req computeRequest, r licensing.Result) store.Decision {
	d := store.Decision{Write: true, SiteLicense: r.SiteLicense, Seats: r.Seats, LastUsed: r.LastUsed}
	switch req.Mode {
	case store.Start:
		if req.Project != nil {
			d.RunQuota = r.RunQuota
		}
	case store.Recompute:
		if r.Changed {
			d = store.Decision{}
		}
		if r.Changed && r.Licensing.PodDigest == req.Tried {
			d.Reserve = r.Seats
		}
	case store.Preview:
		d.Write = false
	}
	return d
}

func (l *licenser) checkRequest(req computeRequest) store.CheckRequest {
	r := store.CheckRequest{
		Cluster: l.bus.Cluster(), Pod: req.Pod, Generation: req.Generation, Begun: req.Begun, Command: req.Command, User: req.User,
		Project: req.Project, Mode: req.Mode,
	}
	if req.Instead != nil {
		r.Licenses = []string{}
	}
	for _, hypothesis := range req.Instead {
		r.Licenses = append(r.Licenses, hypothesis.ID)
	}
	return r
}

// input is what is decided on; licensed is false for a user's pod that no license is about.
func (l *licenser) input(req computeRequest, f store.Facts) (in licensing.Input, licensed bool) {
	p := f.Project
	rows := map[string]store.LicenseRow{}
	for _, row := range f.Licenses {
		rows[row.ID] = row
	}
	// What is no JSON object counts as no license, as in the hub.
	attached, _ := check.Licenses(p.SiteLicense)
	if req.Project == nil || req.Instead != nil {
		attached = nil
		for _, row := range f.Licenses {
			attached = append(attached, quota.License{ID: row.ID, Value: json.RawMessage("{}")})
		}
	}
	attached = suppose(req, rows, attached)
	if row, ok := rows[strings.ToLower(req.Without)]; ok {
		row.Quota = licensing.Plain(row.Quota)
		rows[row.ID] = row
	}

	in = licensing.Input{
		Check: check.Input{
			Now: f.Now, Settings: p.Settings, Users: p.Users, Site: site(f.Site), SiteLicense: attached,
			SeatsOfOthers: func(id string) int { return f.Seats[id] },
		},
		Purchase: p.PayAsYouGo, RunQuota: p.RunQuota, Titles: map[string]string{},
		Base: req.Base, Options: options(l.config.Projects, req.Project == nil), Container: cmp.Or(req.Container, pod.Container),
		Tracing: l.config.Projects.DbgProjectPatching && req.Mode == store.Start,
	}
	if f.Now.Before(req.NotBefore) {
		in.Check.Now = req.NotBefore
	}
	for _, row := range rows {
		in.Titles[row.ID] = row.Title
		in.Check.Rows = append(in.Check.Rows, check.Row{
			ID: row.ID, Activates: row.Activates, Expires: row.Expires, Upgrades: row.Upgrades, Quota: row.Quota, RunLimit: row.RunLimit,
		})
	}
	slices.SortFunc(in.Check.Rows, func(a, b check.Row) int { return cmp.Compare(a.ID, b.ID) })
	if req.Project != nil {
		in.Fill = l.fill(req, p.Extras)
	}
	return in, req.Project != nil || len(attached) > 0
}

// suppose puts a preview's hypotheses in the place of what is saved.
func suppose(req computeRequest, rows map[string]store.LicenseRow, attached []quota.License) []quota.License {
	for _, hypothesis := range req.Instead {
		if !attachedTo(attached, hypothesis.ID) {
			attached = append(attached, quota.License{ID: hypothesis.ID, Value: json.RawMessage("{}")})
		}
		if !named(hypothesis) {
			rows[hypothesis.ID] = rowOf(hypothesis)
		}
	}
	if c := req.Change; c != nil && attachedTo(attached, c.ID) {
		rows[c.ID] = rowOf(*c)
	}
	return attached
}

// attachedTo says that one of the licenses has an id.
func attachedTo(attached []quota.License, id string) bool {
	return slices.ContainsFunc(attached, func(a quota.License) bool { return a.ID == id })
}

func rowOf(l wire.License) store.LicenseRow {
	row := store.LicenseRow{ID: l.ID, Title: l.Title, Activates: l.Activates, Expires: l.Expires, Upgrades: l.Upgrades, Quota: l.Quota}
	if l.RunLimit != nil {
		limit := int64(*l.RunLimit)
		row.RunLimit = &limit
	}
	return row
}

// site are the site's settings as the quota takes them.
func site(s store.Site) json.RawMessage {
	members := map[string]json.RawMessage{}
	for name, value := range map[string]json.RawMessage{"default_quotas": s.DefaultQuotas, "max_upgrades": s.MaxUpgrades} {
		if len(value) > 0 {
			members[name] = value
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return nil // They come out of the database as JSON.
	}
	return text
}

// fill is what the template of a project's pod is filled with.
func (l *licenser) fill(req computeRequest, extras store.Extras) *license.FillOptions {
	cfg := l.config.Projects
	return &license.FillOptions{
		ProjectID: req.Project.ID, Name: events.ProjectPod(req.Project.ID), Namespace: l.config.Namespace,
		Image: cmp.Or(extras.Image, cfg.Image), Tag: cmp.Or(extras.Tag, cfg.Tag),
		ExtraEnv: variables(extras.Env), ProjectConfig: base64Of(extras.Config),
		Labels: req.Labels, Annotations: req.Annotations,
		HomeDirectory: cfg.HomePath, SharedFiles: cfg.SharedFilesPath, DataClaim: cfg.DataClaim, SoftwareClaim: cfg.SoftwareClaim,
	}
}

// variables is what {extra_env} becomes.
func variables(env map[string]string) string {
	if env == nil {
		env = map[string]string{}
	}
	text, err := json.Marshal(env)
	if err != nil {
		text = nil // Texts by texts always marshal.
	}
	return base64Of(text)
}

func base64Of(object json.RawMessage) string {
	if len(object) == 0 || string(object) == "null" {
		object = json.RawMessage("{}")
	}
	return base64.StdEncoding.EncodeToString(object)
}

// options are the site's rules for pods.
func options(cfg config.Projects, manifest bool) license.Options {
	return license.Options{
		Pod: pod.Options{
			Manifest:           manifest,
			MemoryRequestLimit: float64(cfg.MemoryRequestLimit), MemoryRequestPercent: float64(cfg.MemoryRequestPercent),
		},
		Protection: patchset.Protection{
			Paths:             slices.Concat(patchset.Identity(wire.Labels()...), cfg.ProtectedPaths),
			AnnotationPrefix:  wire.AnnotationPrefix,
			ForbidHostPath:    slices.Contains(cfg.Forbid, config.ForbidHostPath),
			ForbidPrivileged:  slices.Contains(cfg.Forbid, config.ForbidPrivileged),
			ForbidHostNetwork: slices.Contains(cfg.Forbid, config.ForbidHostNetwork),
		},
	}
}

// modeNames are the modes as metrics name them.
var modeNames = map[store.Mode]string{store.Start: "start", store.Recompute: "recompute", store.Preview: "preview"} //nolint:gochecknoglobals // A constant.

// outcome is how a transaction ended, as metrics name it.
func outcome(err error) string {
	fault := (*licensing.Fault)(nil)
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &fault), errors.Is(err, store.ErrNoProject):
		return "refused"
	case errors.Is(err, store.ErrAway):
		return "away"
	default:
		return "failed"
	}
}
