package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/pkg/service/config"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/render"
)

const (
	user = "alice@example.org"
	name = "notebook-alice-example-org"
	url  = "https://example.org/notebook.yaml?token=secret"
	text = `apiVersion: v1
kind: Pod
metadata: {name: notebook}
spec:
  containers: [{name: main, image: "example.org/notebook:1"}]
`
)

// fakeManifests is a web server.
type fakeManifests struct {
	text string
	err  error
}

func (m *fakeManifests) Fetch(context.Context, string) ([]byte, error) { return []byte(m.text), m.err }

// fakePods is a cluster.
type fakePods struct {
	mu        sync.Mutex
	made      []*corev1.Pod
	belonging []render.Belongings
	during    func() // Happens while the API server is at it.
	err       error
	belongErr error
}

func (p *fakePods) Launch(_ context.Context, pod *corev1.Pod) (string, error) {
	if p.during != nil {
		p.during()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.made = append(p.made, pod.DeepCopy())
	}
	return "uid-" + pod.Name, p.err
}

func (p *fakePods) Belong(_ context.Context, b render.Belongings) (objects []events.Object, sshPort int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.belonging = append(p.belonging, b)
	if p.belongErr != nil {
		return nil, 0, p.belongErr
	}
	for _, service := range b.Services {
		objects = append(objects, events.Object{Kind: "Service", Name: service.Name, UID: "uid-" + service.Name})
		if service.Spec.Type == corev1.ServiceTypeNodePort {
			sshPort = 30022
		}
	}
	if b.Ingress != nil {
		objects = append(objects, events.Object{Kind: "Ingress", Name: b.Ingress.Name, UID: "uid-" + b.Ingress.Name})
	}
	return objects, sshPort, nil
}

// bench is a creator with what is around it.
type bench struct {
	*creator
	server    *eventstest.Server
	manifests *fakeManifests
	templates *fakeTemplates
	trials    *fakeTrials
	pods      *fakePods
	storages  *fakeStorages
	files     *fakeFiles
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server := eventstest.NewServer(t)
	b := &bench{
		server: server, manifests: &fakeManifests{text: text}, templates: &fakeTemplates{text: templateText}, trials: &fakeTrials{},
		pods: &fakePods{}, storages: &fakeStorages{}, files: &fakeFiles{},
	}
	site := config.Default()
	site.NFSStorageRoot, site.IngressDomain = "/tank", "pods.example.org"
	b.creator = &creator{
		bus: eventstest.NewBus(t, server, "creator"), config: site, manifests: b.manifests, templates: b.templates, trials: b.trials,
		pods: b.pods, storages: b.storages, files: b.files,
		claims: &claims{}, boundPatience: time.Minute, tokenPatience: time.Minute,
	}
	eventstest.MarkComplete(t, b.bus)
	return b
}

// command is a create as the api sends it.
func command(id string, change ...func(*natsbus.Delivery)) natsbus.Delivery {
	now := time.Now()
	d := natsbus.Delivery{Attempt: 1, Queued: now, Command: events.Command{
		Stage: events.StageCreate, ID: id, Cluster: eventstest.Cluster, User: user, Create: &events.CreateRequest{
			ManifestURL: url, Settings: map[string]map[string]string{"main": {"SECRET": "xyzzy"}},
			Silo: events.Silo{Name: "silo1", DataAddress: "10.2.0.1"}, Deadline: now.Add(10 * time.Minute),
		},
	}}
	for _, f := range change {
		f(&d)
	}
	return d
}

func (b *bench) creates(t *testing.T, d natsbus.Delivery) {
	t.Helper()
	if err := b.create(t.Context(), d); err != nil {
		t.Fatalf("create: %v", err)
	}
}

// last is the newest record of a name.
func (b *bench) last(t *testing.T, pod string) natsbus.Entry {
	t.Helper()
	entry, err := b.bus.Last(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// outcome is what became of a command, as verdict, pod and reason.
func (b *bench) outcome(t *testing.T, id string) [3]string {
	t.Helper()
	o, err := b.bus.Outcome(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return [3]string{string(o.Verdict), o.Pod, string(o.Reason)}
}

func (b *bench) queued(t *testing.T) []events.Command {
	t.Helper()
	return eventstest.Queued(t, b.server, events.StageLicense)
}

// nothing sees to it that a command has made nothing.
func (b *bench) nothing(t *testing.T) {
	t.Helper()
	if entry := b.last(t, name); entry.Event != "" {
		t.Errorf("%s is %s", name, entry.Event)
	}
	if queued := b.queued(t); len(queued) > 0 {
		t.Errorf("queued: %+v", queued)
	}
	if armed := eventstest.Armed(t, b.server); len(armed) > 0 {
		t.Errorf("armed: %+v", armed)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.creates(t, command("c1"))
	if got, want := b.outcome(t, "c1"), [3]string{"accepted", name, ""}; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
	entry := b.last(t, name)
	want := events.Record{
		Event: events.Claimed, Cluster: eventstest.Cluster, Pod: name, User: user, Generation: entry.Generation, Command: "c1", Silo: "silo1",
		Manifest: "https://example.org/notebook.yaml", Container: "main", Image: "example.org/notebook:1", ClaimedAt: entry.ClaimedAt,
	}
	if d := cmp.Diff(want, entry.Record, cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	queued := b.queued(t)
	if len(queued) != 1 || queued[0].ID != "c1" || queued[0].Pod != name || queued[0].Generation != entry.Generation || queued[0].User != user {
		t.Fatalf("queued = %+v", queued)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(queued[0].Rendered, &pod); err != nil {
		t.Fatal(err)
	}
	if pod.Name != name || !strings.Contains(fmt.Sprint(pod.Spec.Containers[0].Env), "xyzzy") {
		t.Errorf("rendered = %+v", pod)
	}
	armed := eventstest.Armed(t, b.server)
	if len(armed) != 1 || armed[0].Timer != events.TimerCreate || armed[0].At.Sub(entry.ClaimedAt).Round(2*time.Second) != b.config.TimeoutCreate {
		t.Errorf("armed = %+v, want the create timer after %s", armed, b.config.TimeoutCreate)
	}
	// Whoever dies between the two must not leave a pod that goes on without a timer.
	wantOrder := []string{"cmd.main.timer.c1.create", "cmd.main.license.c1"}
	if d := cmp.Diff(wantOrder, eventstest.QueueSubjects(t, b.server)); d != "" {
		t.Errorf("published (-want +got):\n%s", d)
	}
}

func TestCreateRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(b *bench, d *natsbus.Delivery)
		reason events.Reason
	}{
		"a manifest that is forbidden": {func(b *bench, _ *natsbus.Delivery) {
			b.manifests.err = fmt.Errorf("fetch: %w", &manifest.Error{Reason: manifest.ReasonForbidden, Message: "not allowed"})
		}, events.ManifestForbidden},
		"no pod": {func(b *bench, _ *natsbus.Delivery) { b.manifests.text = "kind: ConfigMap" }, events.ManifestInvalid},
		"an invalid image": {func(b *bench, _ *natsbus.Delivery) {
			b.manifests.text = strings.Replace(text, "example.org/notebook:1", "No Such Image!", 1)
		}, events.ManifestInvalid},
		"an invalid setting": {func(_ *bench, d *natsbus.Delivery) {
			d.Create.Settings = map[string]map[string]string{"main": {"A=B": "x"}}
		}, events.SettingsInvalid},
		"storage that the site has not": {func(b *bench, _ *natsbus.Delivery) {
			b.config.NFSStorageRoot = ""
			b.manifests.text = strings.Replace(text, `notebook:1"`, `notebook:1", volumeMounts: [{name: sciencedata, mountPath: /d}]`, 1)
		}, events.StorageFailed},
		"a token key that is a path": {func(b *bench, _ *natsbus.Delivery) {
			b.manifests.text = strings.Replace(text, "name: notebook", "name: notebook, annotations: {sciencedata.dk/copy-token: ../x}", 1)
		}, events.ManifestInvalid},
		"the deadline has passed":  {func(_ *bench, d *natsbus.Delivery) { d.Create.Deadline = time.Now().Add(-time.Second) }, events.Expired},
		"it is older than the log": {func(_ *bench, d *natsbus.Delivery) { d.Queued = time.Now().Add(-time.Hour) }, events.Expired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			d := command("c1")
			tt.change(b, &d)
			for range 2 {
				b.creates(t, d)
				d.Attempt++
			}
			if got := b.outcome(t, "c1"); got[0] == "accepted" || got[2] != string(tt.reason) {
				t.Errorf("outcome = %v, want the reason %s", got, tt.reason)
			}
			b.nothing(t)
		})
	}
}

// TestCreateThatMustWait: what passes is tried again, and decides nothing.
func TestCreateThatMustWait(t *testing.T) {
	t.Parallel()
	t.Run("our own fault", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.manifests.err = errors.New("no memory")
		if err := b.create(t.Context(), command("c1")); !errors.Is(err, b.manifests.err) {
			t.Errorf("create = %v, want %v", err, b.manifests.err)
		}
		if got := b.outcome(t, "c1"); got[0] != "" {
			t.Errorf("outcome = %v", got)
		}
		b.nothing(t)
	})
	t.Run("the log has not been compared", func(t *testing.T) {
		t.Parallel()
		server := eventstest.NewServer(t)
		c := &creator{bus: eventstest.NewBus(t, server, "creator"), config: config.Default(), manifests: &fakeManifests{text: text}}
		if err := c.create(t.Context(), command("c1")); !errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("create = %v; a name that is missing is not free yet", err)
		}
		if outcome, err := c.bus.Outcome(t.Context(), "c1"); err != nil || outcome.Verdict != "" {
			t.Errorf("outcome = %+v, %v", outcome, err)
		}
	})
}

// TestCreateRedelivered lets each attempt die at one of its steps; the next one
// goes on from there.
func TestCreateRedelivered(t *testing.T) {
	t.Parallel()
	decide := func(t *testing.T, b *bench, o events.Outcome) {
		t.Helper()
		o.User = user
		if _, err := b.bus.Decide(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(t *testing.T, b *bench, pod, id string) natsbus.Entry {
		t.Helper()
		entry, _, err := b.bus.Append(t.Context(), pod, eventstest.Claim(pod, user, id))
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	end := func(t *testing.T, b *bench, e natsbus.Entry) {
		t.Helper()
		for _, fact := range []events.Fact{eventstest.Delete(e.Generation), eventstest.Gone(e.Generation)} {
			if _, _, err := b.bus.Append(t.Context(), e.Pod, fact); err != nil {
				t.Fatal(err)
			}
		}
	}
	accepted := events.Outcome{Verdict: events.Accepted, Command: "c1", Pod: name}
	tests := map[string]struct {
		before  func(t *testing.T, b *bench)
		outcome [3]string
		owner   string // The command that has the plain name afterwards.
		queued  int
	}{
		"the api said expired": {
			func(t *testing.T, b *bench) {
				t.Helper()
				decide(t, b, events.Outcome{Verdict: events.Expiry, Command: "c1", Reason: events.Expired})
			},
			[3]string{"expired", "", "EXPIRED"},
			"", 0,
		},
		"refused before": {
			func(t *testing.T, b *bench) {
				t.Helper()
				decide(t, b, events.Outcome{Verdict: events.Refused, Command: "c1", Reason: events.ManifestInvalid})
			},
			[3]string{"refused", "", "MANIFEST_INVALID"},
			"", 0,
		},
		"accepted, not claimed": {
			func(t *testing.T, b *bench) { t.Helper(); decide(t, b, accepted) }, [3]string{"accepted", name, ""}, "c1", 1,
		},
		"claimed, not handed on": {
			func(t *testing.T, b *bench) { t.Helper(); decide(t, b, accepted); claim(t, b, name, "c1") }, [3]string{"accepted", name, ""}, "c1", 1,
		},
		"licensed by now": {
			func(t *testing.T, b *bench) {
				t.Helper()
				decide(t, b, accepted)
				e := claim(t, b, name, "c1")
				if _, _, err := b.bus.Append(t.Context(), name, eventstest.License(e.Generation)); err != nil {
					t.Fatal(err)
				}
			}, [3]string{"accepted", name, ""}, "c1", 0,
		},
		"claimed and gone by now": {
			func(t *testing.T, b *bench) { t.Helper(); decide(t, b, accepted); end(t, b, claim(t, b, name, "c1")) },
			[3]string{"accepted", name, ""},
			"c1", 0,
		},
		"gone by now, and another has the name": {
			func(t *testing.T, b *bench) {
				t.Helper()
				decide(t, b, accepted)
				end(t, b, claim(t, b, name, "c1"))
				claim(t, b, name, "c2")
			}, [3]string{"accepted", name, ""}, "c2", 0,
		},
		"another was faster to claim the name": {
			func(t *testing.T, b *bench) { t.Helper(); decide(t, b, accepted); claim(t, b, name, "c2") },
			[3]string{"accepted", name + "-1", ""},
			"c2", 1,
		},
		"it had claimed the next name": {
			func(t *testing.T, b *bench) {
				t.Helper()
				claim(t, b, name, "c2")
				decide(t, b, events.Outcome{Verdict: events.Accepted, Command: "c1", Pod: name + "-1"})
				claim(t, b, name+"-1", "c1")
			}, [3]string{"accepted", name + "-1", ""}, "c2", 1,
		},
		"it had the next name, and the first is free now": {
			func(t *testing.T, b *bench) {
				t.Helper()
				other := claim(t, b, name, "c2")
				decide(t, b, events.Outcome{Verdict: events.Accepted, Command: "c1", Pod: name + "-1"})
				claim(t, b, name+"-1", "c1")
				end(t, b, other)
			}, [3]string{"accepted", name + "-1", ""}, "c2", 1,
		},
		"it had the next name and is gone, and the first is free now": {
			func(t *testing.T, b *bench) {
				t.Helper()
				other := claim(t, b, name, "c2")
				decide(t, b, events.Outcome{Verdict: events.Accepted, Command: "c1", Pod: name + "-1"})
				end(t, b, claim(t, b, name+"-1", "c1"))
				end(t, b, other)
			}, [3]string{"accepted", name + "-1", ""}, "c2", 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			tt.before(t, b)
			d := command("c1")
			for range 3 {
				d.Attempt++
				b.creates(t, d)
			}
			if got := b.outcome(t, "c1"); got != tt.outcome {
				t.Errorf("outcome = %v, want %v", got, tt.outcome)
			}
			if got := b.last(t, "notebook-alice-example-org").Command; got != tt.owner {
				t.Errorf("the name is %q's, want %q's", got, tt.owner)
			}
			if queued := b.queued(t); len(queued) != tt.queued {
				t.Errorf("%d commands are queued, want %d: %+v", len(queued), tt.queued, queued)
			}
			claims := 0
			for n := range names {
				suffix := ""
				if n > 0 {
					suffix = fmt.Sprintf("-%d", n)
				}
				if had, err := b.bus.Claimed(t.Context(), "notebook-alice-example-org"+suffix, "c1"); err != nil {
					t.Fatal(err)
				} else if had {
					claims++
				}
			}
			if claims > 1 {
				t.Errorf("one command has claimed %d names", claims)
			}
		})
	}
}

// TestCreateAcceptedThenRefused: the manifest was changed between two attempts.
func TestCreateAcceptedThenRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		claimed bool
		want    [3]string
		event   events.Type
	}{
		"before the claim": {false, [3]string{"refused", "", "MANIFEST_INVALID"}, ""},
		"after the claim":  {true, [3]string{"accepted", name, ""}, events.Failed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			const pod = "notebook-alice-example-org"
			if _, err := b.bus.Decide(t.Context(), events.Outcome{Verdict: events.Accepted, Command: "c1", User: user, Pod: pod}); err != nil {
				t.Fatal(err)
			}
			if tt.claimed {
				if _, _, err := b.bus.Append(t.Context(), pod, eventstest.Claim(pod, user, "c1")); err != nil {
					t.Fatal(err)
				}
			}
			b.manifests.text = "kind: ConfigMap"
			b.creates(t, command("c1", func(d *natsbus.Delivery) { d.Attempt = 2 }))
			if got := b.outcome(t, "c1"); got != tt.want {
				t.Errorf("outcome = %v, want %v", got, tt.want)
			}
			if got := b.last(t, pod).Event; got != tt.event {
				t.Errorf("the pod is %q, want %q", got, tt.event)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var got []string
	for i := range names {
		id := fmt.Sprintf("c%d", i)
		b.creates(t, command(id))
		got = append(got, strings.TrimPrefix(b.outcome(t, id)[1], name))
	}
	if d := cmp.Diff([]string{"", "-1", "-2", "-3", "-4", "-5", "-6", "-7", "-8", "-9"}, got); d != "" {
		t.Errorf("suffixes (-want +got):\n%s", d)
	}
	b.creates(t, command("one-more"))
	if got, want := b.outcome(t, "one-more"), [3]string{"refused", "", "NAME_EXHAUSTED"}; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
	// Another user whose id makes the same name shares nothing, and has ten as well.
	other := func(d *natsbus.Delivery) { d.User = "alice-example.org" }
	for i := range names {
		id := fmt.Sprintf("other%d", i)
		b.creates(t, command(id, other))
		if got, want := b.outcome(t, id), [3]string{"accepted", kube.NameTaken("notebook", "alice-example.org", i), ""}; got != want {
			t.Errorf("outcome = %v, want %v", got, want)
		}
	}
	b.creates(t, command("other-more", other))
	if o, err := b.bus.Outcome(t.Context(), "other-more"); err != nil || o.Reason != events.NameExhausted || !strings.Contains(o.Message, "the user has 10 pods") {
		t.Errorf("outcome = %+v, %v", o, err)
	}
	// A name is free again when its pod is gone.
	e := b.last(t, name+"-4")
	for _, fact := range []events.Fact{eventstest.Delete(e.Generation), eventstest.Gone(e.Generation)} {
		if _, _, err := b.bus.Append(t.Context(), e.Pod, fact); err != nil {
			t.Fatal(err)
		}
	}
	b.creates(t, command("again", other))
	if got, want := b.outcome(t, "again"), [3]string{"accepted", name + "-4", ""}; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
	if entry := b.last(t, name+"-4"); entry.User != "alice-example.org" || entry.Generation == e.Generation {
		t.Errorf("%s is %s's of generation %s", entry.Pod, entry.User, entry.Generation)
	}
}

// TestCreatesAtOnce: a command that is delivered to several replicas makes one
// pod, several commands as many as there are.
func TestCreatesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			d := command(fmt.Sprintf("c%d", i%4), func(d *natsbus.Delivery) { d.Attempt = uint64(1 + i/4) })
			if err := b.create(t.Context(), d); err != nil {
				t.Errorf("create: %v", err)
			}
		})
	}
	group.Wait()
	seen := map[string]string{}
	for n := range names {
		pod := name
		if n > 0 {
			pod = fmt.Sprintf("%s-%d", name, n)
		}
		entry := b.last(t, pod)
		if entry.Event == "" {
			continue
		}
		if other, twice := seen[entry.Command]; twice {
			t.Errorf("%s has %s and %s", entry.Command, other, pod)
		}
		seen[entry.Command] = pod
	}
	for i := range 4 {
		id := fmt.Sprintf("c%d", i)
		if got := b.outcome(t, id); got[0] != "accepted" || got[1] != seen[id] {
			t.Errorf("%s: outcome %v, and the log says %q", id, got, seen[id])
		}
	}
	if queued := b.queued(t); len(queued) != 4 {
		t.Errorf("%d commands are queued, want 4", len(queued))
	}
}

func TestFailCreate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before func(t *testing.T, b *bench)
		want   [3]string
		event  events.Type
	}{
		"undecided": {func(*testing.T, *bench) {}, [3]string{"refused", "", "RETRIES_EXHAUSTED"}, ""},
		"claimed":   {func(t *testing.T, b *bench) { t.Helper(); b.creates(t, command("c1")) }, [3]string{"accepted", name, ""}, events.Failed},
		"expired": {func(t *testing.T, b *bench) {
			t.Helper()
			if _, err := b.bus.Decide(t.Context(), events.Outcome{Verdict: events.Expiry, Command: "c1", User: user, Reason: events.Expired}); err != nil {
				t.Fatal(err)
			}
		}, [3]string{"expired", "", "EXPIRED"}, ""},
		"accepted, not claimed": {func(t *testing.T, b *bench) {
			t.Helper()
			if _, err := b.bus.Decide(t.Context(), events.Outcome{Verdict: events.Accepted, Command: "c1", User: user, Pod: name}); err != nil {
				t.Fatal(err)
			}
		}, [3]string{"refused", "", "RETRIES_EXHAUSTED"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			tt.before(t, b)
			for range 2 {
				if err := b.failCreate(t.Context(), command("c1"), events.RetriesExhausted, "x"); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.outcome(t, "c1"); got != tt.want {
				t.Errorf("outcome = %v, want %v", got, tt.want)
			}
			if got := b.last(t, "notebook-alice-example-org").Event; got != tt.event {
				t.Errorf("the pod is %q, want %q", got, tt.event)
			}
			if got := len(eventstest.Queued(t, b.server, events.StageDelete)); (got > 0) != (tt.event == events.Failed) {
				t.Errorf("%d deletes are queued", got)
			}
		})
	}
}
