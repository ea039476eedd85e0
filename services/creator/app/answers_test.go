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
}

func (f *fakeTrials) DryRun(_ context.Context, pod json.RawMessage) ([]string, error) {
	f.tried = append(f.tried, pod)
	return f.warnings, f.err
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

func TestAnswerDryRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.trials.warnings = []string{"unknown field"}
	ask := func() (v wire.Verdict, err error) {
		err = b.asks(t, wire.MethodDryRun, wire.DryRunRequest{Pod: json.RawMessage(`{"kind":"Pod"}`)}, &v)
		return v, err
	}
	got, err := ask()
	if d := cmp.Diff(wire.Verdict{Accepted: true, Warnings: []string{"unknown field"}}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	b.trials.err = &cluster.RejectedError{Reason: kube.ReasonPodRejected, Message: "spec.containers: Required value"}
	got, err = ask()
	if d := cmp.Diff(wire.Verdict{Reason: "POD_REJECTED", Message: "spec.containers: Required value", Warnings: []string{"unknown field"}}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	b.trials.err = errors.New("connection refused")
	_, err = ask()
	faulty(t, err, events.Unavailable, "connection refused")
	if len(b.trials.tried) != 3 || string(b.trials.tried[0]) != `{"kind":"Pod"}` {
		t.Errorf("tried: %s", b.trials.tried)
	}
}
