package app

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/pkg/license/wire"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/template"
)

// fakeTrials is an API server that is asked for its opinion.
type fakeTrials struct {
	tried    []json.RawMessage
	warnings []string
	err      error
	room     bool
	roomErr  error
}

func (f *fakeTrials) DryRun(_ context.Context, pod json.RawMessage) ([]string, error) {
	f.tried = append(f.tried, pod)
	return f.warnings, f.err
}

func (f *fakeTrials) MakesRoom(context.Context, json.RawMessage, string) (bool, error) {
	return f.room, f.roomErr
}

// asks has a question answered over NATS.
func (b *bench) asks(t *testing.T, method string, params, result any) error {
	t.Helper()
	stop, err := b.bus.Answer(t.Context(), events.RenderSubject(eventstest.Cluster), answersAtOnce, b.answer)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	asker := eventstest.NewBus(t, b.server, "licenser")
	return asker.Ask(t.Context(), events.RenderSubject(eventstest.Cluster), method, params, result)
}

// faulty compares a fault with a reason and a part of its message.
func faulty(t *testing.T, err error, reason events.Reason, says string) {
	t.Helper()
	if fault := (*natsbus.Fault)(nil); !errors.As(err, &fault) || fault.Reason != reason || !strings.Contains(fault.Message, says) {
		t.Errorf("%+v; want %s that says %q", err, reason, says)
	}
}

func TestAnswerTemplate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var got wire.Template
	if err := b.asks(t, wire.MethodTemplate, wire.ProjectRef{ID: project}, &got); err != nil {
		t.Fatal(err)
	}
	want := wire.Template{
		JSON: json.RawMessage(templateText), Source: "ConfigMap project-pod",
		Labels:      map[string]string{"user": "project-" + project, "domain": "", "podName": projectPod, "run": "project", "project_id": project},
		Annotations: map[string]string{"berth.dev/user": projectUser},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("template (-want +got):\n%s", d)
	}
	got = wire.Template{}
	if err := b.asks(t, wire.MethodTemplate, nil, &got); err != nil || got.Labels != nil || got.JSON == nil {
		t.Errorf("without a project: %+v, %v", got, err)
	}
	faulty(t, b.asks(t, wire.MethodTemplate, wire.ProjectRef{ID: "X"}, nil), events.RequestInvalid, "project_id")
	b.templates.err = &template.Error{Message: "missing"}
	faulty(t, b.asks(t, wire.MethodTemplate, nil, nil), events.TemplateInvalid, "missing")
	b.templates.err = template.ErrUnknown
	faulty(t, b.asks(t, wire.MethodTemplate, nil, nil), events.Unavailable, "not known yet")
}

func TestAnswerRender(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ask := wire.RenderRequest{User: user, ManifestURL: url, Settings: map[string]map[string]string{"main": {"A": "b"}}}
	var got wire.Rendered
	if err := b.asks(t, wire.MethodRender, ask, &got); err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(got.Pod, &pod); err != nil {
		t.Fatal(err)
	}
	if owner, _ := kube.Owner(&pod); pod.Name != name || owner != user || len(pod.Spec.Containers[0].Env) == 0 {
		t.Errorf("pod: %+v", pod)
	}
	tests := map[string]struct {
		change func(b *bench, r *wire.RenderRequest)
		reason events.Reason
		says   string
	}{
		"no user":       {func(_ *bench, r *wire.RenderRequest) { r.User = "" }, events.RequestInvalid, "user_id"},
		"a project":     {func(_ *bench, r *wire.RenderRequest) { r.User = projectUser }, events.RequestInvalid, "user_id"},
		"no manifest":   {func(_ *bench, r *wire.RenderRequest) { r.ManifestURL = "" }, events.RequestInvalid, "manifest_url"},
		"a bad setting": {func(_ *bench, r *wire.RenderRequest) { r.Settings["main"]["A=B"] = "x" }, events.SettingsInvalid, "A=B"},
		"no pod":        {func(b *bench, _ *wire.RenderRequest) { b.manifests.text = "kind: ConfigMap" }, events.ManifestInvalid, "ConfigMap"},
		"a busy server": {func(b *bench, _ *wire.RenderRequest) { b.manifests.err = manifest.ErrBusy }, events.Unavailable, ""},
		"our own fault": {func(b *bench, _ *wire.RenderRequest) { b.manifests.err = errors.New("no memory") }, events.Unavailable, "cannot be answered now"},
		"a forbidden site": {func(b *bench, _ *wire.RenderRequest) {
			b.manifests.err = &manifest.Error{Reason: manifest.ReasonForbidden, Message: "not allowed"}
		}, events.ManifestForbidden, "not allowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			r := wire.RenderRequest{User: user, ManifestURL: url, Settings: map[string]map[string]string{"main": {"A": "b"}}}
			tt.change(b, &r)
			faulty(t, b.asks(t, wire.MethodRender, r, nil), tt.reason, tt.says)
		})
	}
	faulty(t, b.asks(t, wire.MethodRender, "x", nil), events.RequestInvalid, "malformed")
	faulty(t, b.asks(t, "no_such", nil, nil), events.RequestInvalid, "no_such")
}

// TestRenderIsTheCreate: a pod with storage is rendered as a create for that silo makes it, and of no silo is refused with what to name.
func TestRenderIsTheCreate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.manifests.text = strings.Replace(text, `notebook:1"`, `notebook:1", volumeMounts: [{name: sciencedata, mountPath: /d}]`, 1)
	d := command("")
	made, err := b.plan(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	want, err := made.draft(name)
	if err != nil {
		t.Fatal(err)
	}
	ask := wire.RenderRequest{User: user, ManifestURL: url, Settings: d.Create.Settings, Silo: wire.Silo(d.Create.Silo)}
	var got wire.Rendered
	if err := b.asks(t, wire.MethodRender, ask, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want.rendered), string(got.Pod)); d != "" {
		t.Errorf("the pod (-create +render):\n%s", d)
	}
	ask.Silo = wire.Silo{}
	faulty(t, b.asks(t, wire.MethodRender, ask, nil), events.StorageFailed, "name the silo")
	b.config.NFSStorageRoot = ""
	faulty(t, b.asks(t, wire.MethodRender, ask, nil), events.StorageFailed, "nfsStorageRoot")
}

func TestAnswerDryRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.trials.warnings = []string{"unknown field"}
	ask := func() (v wire.Verdict, err error) {
		err = b.asks(t, wire.MethodDryRun, wire.DryRunRequest{
			Pod:      json.RawMessage(`{"kind":"Pod","spec":{"containers":[{"name":"c","args":["c2VjcmV0LXZhbHVl"]}]}}`),
			Licenses: []wire.LicenseStatus{{ID: "0"}, {ID: "1", Title: "GPU", Machine: true}, {ID: "2", Patched: true}},
		}, &v)
		return v, err
	}
	const blamed = ` (the pod was changed by the patch, gpu or machine of license "GPU" (1), license 2)`
	got, err := ask()
	if d := cmp.Diff(wire.Verdict{Accepted: true, Warnings: []string{"unknown field"}}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	b.trials.err = &cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: `args: Invalid value: "c2VjcmV0LXZhbHVl"`, Invalid: true}
	got, err = ask()
	want := wire.Verdict{Invalid: true, Reason: "POD_REJECTED", Message: `args: Invalid value: "(withheld)"` + blamed, Warnings: []string{"unknown field"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	b.trials.err = errors.New("connection refused")
	_, err = ask()
	faulty(t, err, events.Unavailable, "connection refused")
	b.trials.err, b.trials.room = &cluster.RejectedError{Reason: kube.ReasonQuotaExceeded, Message: "exceeded quota: cpu"}, true
	got, err = ask()
	want = wire.Verdict{Reason: "QUOTA_EXCEEDED", Message: "exceeded quota: cpu" + blamed, MakesRoom: true, Warnings: []string{"unknown field"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	b.trials.roomErr = errors.New("etcd is away")
	_, err = ask()
	faulty(t, err, events.Unavailable, "etcd is away")
	if len(b.trials.tried) != 5 || !strings.HasPrefix(string(b.trials.tried[0]), `{"kind":"Pod"`) {
		t.Errorf("tried: %s", b.trials.tried)
	}
}

// TestDryRunReads: what a launch cannot read is refused as the launch refuses it, and the API server is not asked.
func TestDryRunReads(t *testing.T) {
	t.Parallel()
	licenses := []events.License{{ID: "1", Title: "GPU", Status: "active", Patched: true}}
	for what, pod := range map[string]string{
		"a number for a text": `{"kind":"Pod","metadata":{"name":"` + name + `","labels":{"year":2026}}}`,
		"a bad token":         `{"kind":"Pod","metadata":{"name":"` + name + `","annotations":{"` + kube.AnnotationCopyToken + `":"../x"}}}`,
	} {
		b, d := launching(t, events.Licensed)
		d.Rendered = json.RawMessage(pod)
		_, refusal := readPod(d.Rendered, licenses)
		_, _, err := b.planned(d)
		if refusal == nil || err == nil || !strings.HasPrefix(refusal.Message, err.Error()) {
			t.Errorf("%s: a launch says %v, and %v", what, err, refusal)
			continue
		}
		var got wire.Verdict
		if err := b.asks(t, wire.MethodDryRun, wire.DryRunRequest{
			Pod: d.Rendered, Licenses: []wire.LicenseStatus{{ID: "1", Title: "GPU", Patched: true}},
		}, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(wire.Verdict{Invalid: true, Reason: refusal.Reason, Message: refusal.Message}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
		if !strings.HasSuffix(got.Message, `(the pod was changed by the patch of license "GPU" (1))`) || len(b.trials.tried) > 0 {
			t.Errorf("%s: %s, and the API server was asked about %d pods", what, got.Message, len(b.trials.tried))
		}
		got = wire.Verdict{}
		if err := b.asks(t, wire.MethodDryRun, wire.DryRunRequest{Pod: json.RawMessage(`{"kind":"Pod"}`), ReadOnly: true}, &got); err != nil ||
			!got.Accepted || len(b.trials.tried) > 0 {
			t.Errorf("read only: %+v (%v), and the API server was asked about %d pods", got, err, len(b.trials.tried))
		}
	}
}

// TestDryRunWarns: a member that Kubernetes does not know is told once, whoever notices it first.
func TestDryRunWarns(t *testing.T) {
	t.Parallel()
	const unknown = `unknown field "spec.nosuchfield"`
	b := newBench(t)
	b.trials.warnings = []string{unknown, "it is old"}
	for readOnly, want := range map[bool][]string{true: {unknown}, false: {unknown, "it is old"}} {
		var got wire.Verdict
		if err := b.asks(t, wire.MethodDryRun, wire.DryRunRequest{
			Pod: json.RawMessage(`{"kind":"Pod","spec":{"nosuchfield":1}}`), ReadOnly: readOnly,
		}, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(wire.Verdict{Accepted: true, Warnings: want}, got); d != "" {
			t.Errorf("read only %t (-want +got):\n%s", readOnly, d)
		}
	}
}
