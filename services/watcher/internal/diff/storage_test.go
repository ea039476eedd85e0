package diff_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

const (
	plain, hashed = "user-storage-alice-example-org", "user-storage-alice-example-org-abc"
	bob           = "bob@example.org"
)

func TestStorages(t *testing.T) {
	t.Parallel()
	named := func(name string) func(*events.Record) { return func(r *events.Record) { r.Pod = name } }
	one, two := record(events.Ready, named("one")), record(events.Unready, named("two"))
	deleting := record(events.Deleting, named("three"))
	bobs := record(events.Ready, named("bobs"), func(r *events.Record) { r.User = bob })
	used := func(claim string, records ...events.Record) map[string]events.Storage {
		s := events.Storage{State: events.StorageUsed, User: user, Claim: claim}
		for _, r := range records {
			s.Uses = append(s.Uses, events.UseOf(r))
		}
		return map[string]events.Storage{user: s}
	}
	adopts := func(owner, claim string, records ...events.Record) []events.StorageFact {
		fact := events.StorageFact{Kind: events.StorageAdopt, User: owner, At: now(), Claim: claim}
		for _, r := range records {
			fact.Uses = append(fact.Uses, events.UseOf(r))
		}
		return []events.StorageFact{fact}
	}
	mount := func(claim string, records ...events.Record) []diff.Mount {
		var mounts []diff.Mount
		for _, r := range records {
			mounts = append(mounts, diff.Mount{Claim: claim, Record: r})
		}
		return mounts
	}
	tests := map[string]struct {
		claims   map[string]string
		mounts   []diff.Mount
		known    map[string]events.Storage
		complete bool
		want     []events.StorageFact
	}{
		"nothing":                          {nil, nil, nil, false, nil},
		"a claim that nobody mounts":       {map[string]string{plain: user}, nil, nil, false, nil},
		"a lost record":                    {map[string]string{plain: user}, mount(plain, one, two), nil, false, adopts(user, plain, one, two)},
		"a record that is right":           {map[string]string{plain: user}, mount(plain, one), used(plain, one), true, nil},
		"a record that lacks one":          {map[string]string{plain: user}, mount(plain, one, two), used(plain, one), true, adopts(user, plain, one, two)},
		"a pod on its way out":             {map[string]string{plain: user}, mount(plain, deleting), nil, true, nil},
		"one on its way out, in a rebuild": {map[string]string{plain: user}, mount(plain, deleting), nil, false, adopts(user, plain, deleting)},
		"a pod that is gone":               {map[string]string{plain: user}, mount(plain, record(events.Gone)), nil, false, nil},
		"a pod that is being made":         {map[string]string{plain: user}, mount(plain, record(events.Launching)), nil, false, nil},
		"a pod that nobody knows":          {map[string]string{plain: user}, mount(plain, events.Record{}), nil, false, nil},
		"being removed": {
			map[string]string{plain: user}, mount(plain, one), map[string]events.Storage{user: {State: events.StorageRemoving, User: user, Claim: plain}}, true, nil,
		},
		"another user's claim":           {map[string]string{plain: user}, mount(plain, bobs), nil, false, adopts(user, plain, bobs)},
		"a claim that was deleted":       {nil, mount(plain, one), nil, false, adopts(user, plain, one)},
		"two claims, the record decides": {map[string]string{plain: user, hashed: user}, append(mount(plain, one), mount(hashed, two)...), used(hashed), true, adopts(user, hashed, two)},
		"two claims, the most used":      {map[string]string{plain: user, hashed: user}, append(mount(plain, one), mount(hashed, two, bobs)...), nil, false, adopts(user, hashed, two, bobs)},
		"two claims, as much used":       {map[string]string{plain: user, hashed: user}, append(mount(plain, one), mount(hashed, two)...), nil, false, adopts(user, plain, one)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, diff.Storages(tt.claims, tt.mounts, tt.known, tt.complete, now())); d != "" {
				t.Errorf("Storages (-want +got):\n%s", d)
			}
		})
	}
}

func belonging(suffix string, change ...func(*metav1.ObjectMeta)) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name: name + suffix, UID: types.UID("uid" + suffix), Labels: kube.BelongingLabels(name, user),
		Annotations: map[string]string{kube.AnnotationGeneration: generation, kube.AnnotationUser: user},
	}
	for _, f := range change {
		f(&m)
	}
	return m
}

func TestBelongingsOf(t *testing.T) {
	t.Parallel()
	bare := func(m *metav1.ObjectMeta) {
		m.Annotations, m.Labels = nil, map[string]string{kube.LabelCreatedForPod: name}
	}
	earlier := func(m *metav1.ObjectMeta) { m.Annotations[kube.AnnotationGeneration] = other }
	bobs := func(m *metav1.ObjectMeta) { m.Annotations[kube.AnnotationUser] = bob }
	elsewhere := func(m *metav1.ObjectMeta) { m.Labels[kube.LabelCreatedForPod] = "another" }
	ssh := func(change ...func(*metav1.ObjectMeta)) corev1.Service {
		return corev1.Service{ObjectMeta: belonging("-ssh", change...), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, NodePort: 1}, {Port: 22, NodePort: 30022}}}}
	}
	ingress := func(change ...func(*metav1.ObjectMeta)) networkingv1.Ingress {
		return networkingv1.Ingress{ObjectMeta: belonging("-ingress", change...)}
	}
	all := diff.Belongings{HTTP: true, SSHPort: 30022, Objects: []events.Object{
		{Kind: "Ingress", Name: name + "-ingress", UID: "uid-ingress"},
		{Kind: "Service", Name: name + "-http", UID: "uid-http"},
		{Kind: "Service", Name: name + "-ssh", UID: "uid-ssh"},
	}}
	tests := map[string]struct {
		pod    diff.Pod
		change []func(*metav1.ObjectMeta)
		want   diff.Belongings
	}{
		"its own":                      {pod(), nil, all},
		"of the old backend":           {pod(foreign), []func(*metav1.ObjectMeta){bare}, all},
		"of no life that they name":    {pod(), []func(*metav1.ObjectMeta){bare}, all},
		"of an earlier life":           {pod(), []func(*metav1.ObjectMeta){earlier}, diff.Belongings{}},
		"of a life, and an old pod":    {pod(foreign), nil, diff.Belongings{}},
		"another user's of that name":  {pod(), []func(*metav1.ObjectMeta){bobs}, diff.Belongings{}},
		"another pod's with that name": {pod(), []func(*metav1.ObjectMeta){elsewhere}, diff.Belongings{}},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			services := []corev1.Service{ssh(tt.change...), {ObjectMeta: belonging("-http", tt.change...)}, {ObjectMeta: belonging("-metrics", tt.change...)}}
			got := diff.BelongingsOf(name, tt.pod, services, []networkingv1.Ingress{ingress(tt.change...)})
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("BelongingsOf (-want +got):\n%s", d)
			}
		})
	}
}

// TestAdoptionWithEverything: an adopted pod has all that a delete and the users need,
// and does not become unready because its tokens are read again.
func TestAdoptionWithEverything(t *testing.T) {
	t.Parallel()
	wants := func(p *diff.Pod) { p.Storage, p.TokenKeys, p.SSHUser = plain, []string{"token"}, "sciencedata" }
	objects := []events.Object{{Kind: "Service", Name: name + "-ssh", UID: "uid-ssh"}}
	with := func(b diff.Belongings) func(*diff.Look) { return func(l *diff.Look) { l.Belongings = b } }
	for title, isReady := range map[string]bool{"ready": true, "not ready": false} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			p := pod(wants, func(p *diff.Pod) { p.Ready = isReady })
			fact := diff.Decide(events.Record{}, look(p, with(diff.Belongings{Objects: objects, SSHPort: 30022, HTTP: true}))).Fact
			got := fact.Record
			if got.Storage != plain || got.SSHUser != "sciencedata" || got.SSHPort != 30022 || !got.HTTP || !cmp.Equal(objects, got.Objects) {
				t.Errorf("adopted as %+v", got)
			}
			after, _, err := events.Next(events.Record{}, *fact)
			if err != nil {
				t.Fatal(err)
			}
			after.Generation = generation
			after, _, err = events.Next(after, events.Fact{Kind: events.FactObserve, Generation: generation, At: now(), Observed: diff.Observed(pod().State)})
			if err != nil || diff.Copied(after) != isReady || diff.Pending(after) == isReady {
				t.Errorf("the pod is %s %s, error %v", after.Event, after.Reason, err)
			}
			if isReady != (after.Event == events.Ready) {
				t.Errorf("the pod is %s", after.Event)
			}
		})
	}
	if r := diff.Decide(events.Record{}, look(pod(wants))).Fact.Record; r.SSHUser != "" {
		t.Errorf("log in as %q where there is no port for it", r.SSHUser)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	keys := func(r *events.Record) { r.TokenKeys, r.Observed.Ready = []string{"token"}, true }
	copied := func(r *events.Record) { keys(r); r.TokensAt = now() }
	unready := func(r *events.Record) { copied(r); r.Observed.Ready = false }
	tests := map[string]struct {
		record          events.Record
		pending, copied bool
	}{
		"none to copy":          {record(events.Ready), false, false},
		"to be copied":          {record(events.Running, keys), true, false},
		"copied":                {record(events.Ready, copied), false, true},
		"not ready":             {record(events.Unready, unready), false, false},
		"to be copied too late": {record(events.Deleting, keys), false, false},
		"copied, ended":         {record(events.Ended, copied), false, false},
		"gone":                  {record(events.Gone, copied), false, false},
	}
	for name, tt := range tests {
		if p, c := diff.Pending(tt.record), diff.Copied(tt.record); p != tt.pending || c != tt.copied {
			t.Errorf("%s: pending %t, copied %t, want %t, %t", name, p, c, tt.pending, tt.copied)
		}
	}
}
