package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/kube"
)

// updateGolden writes the golden files instead of comparing with them.
var updateGolden = flag.Bool("update", false, "write the golden files")

// tokenPrefix begins the names of this run's tokens, where those of testdata begin with e2e-: the commands of simulated
// pods run on this machine, where another run may have its tokens at the same time.
var tokenPrefix = "e2e-" + strings.ToLower(rand.Text()[:8]) + "-"

// mine is a text of testdata with the tokens of this run.
func mine(text string) string { return strings.ReplaceAll(text, "e2e-", tokenPrefix) }

// copyManifests makes a folder with the manifests of testdata.
func copyManifests(dir string) error {
	source := os.DirFS("testdata/manifests")
	return fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), []byte(mine(string(text))), 0o600)
	})
}

// tokens are the files that tests share: one that took away its own would take it from
// the others, which run beside it.
var tokens = map[string]string{"e2e-one.token": "one", "e2e-full.token": "s3cret\n"}

// token is a file that a pod has made, and that no other test has: a command in a
// simulated pod runs on this machine, as nobody.
func token(t *testing.T, key, text string) {
	t.Helper()
	remove, err := writeToken(key, text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
}

// writeToken writes a token and returns what removes it.
func writeToken(key, text string) (remove func(), err error) {
	path := tokenPath(key)
	remove = func() { _ = os.Remove(path) }
	remove()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o644))
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(file, text)
	if err = errors.Join(err, file.Close()); err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

// tokenPath is the file of a token.
func tokenPath(key string) string { return filepath.Join("/tmp", mine(key)) }

// possessions are the objects of one user in the cluster, without what the API
// server, the scheduler and the controllers have added: as Berth made them.
func (s *site) possessions(t *testing.T, user string) map[string]runtime.Object {
	t.Helper()
	local, domain, _ := strings.Cut(user, "@")
	options := metav1.ListOptions{LabelSelector: "user=" + kube.LabelValue(local) + ",domain=" + kube.LabelValue(domain)}
	core, ctx := s.kube.CoreV1(), t.Context()
	all := map[string]runtime.Object{}
	pods, err1 := core.Pods(s.namespace).List(ctx, options)
	services, err2 := core.Services(s.namespace).List(ctx, options)
	ingresses, err3 := s.kube.NetworkingV1().Ingresses(s.namespace).List(ctx, options)
	claims, err4 := core.PersistentVolumeClaims(s.namespace).List(ctx, options)
	volumes, err5 := core.PersistentVolumes().List(ctx, options)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		p.Status, p.Spec.NodeName = corev1.PodStatus{}, ""
		all["Pod "+p.Name] = p
	}
	for i := range services.Items {
		o := &services.Items[i]
		o.Status, o.Spec.ClusterIP, o.Spec.ClusterIPs = corev1.ServiceStatus{}, "", nil
		for j := range o.Spec.Ports {
			o.Spec.Ports[j].NodePort = min(o.Spec.Ports[j].NodePort, 1) // 1 stands for any.
		}
		all["Service "+o.Name] = o
	}
	for i := range ingresses.Items {
		all["Ingress "+ingresses.Items[i].Name] = &ingresses.Items[i]
	}
	for i := range claims.Items {
		claims.Items[i].Status = corev1.PersistentVolumeClaimStatus{}
		all["PersistentVolumeClaim "+claims.Items[i].Name] = &claims.Items[i]
	}
	for i := range volumes.Items {
		v := &volumes.Items[i]
		if v.Spec.ClaimRef != nil && v.Spec.ClaimRef.Namespace != s.namespace {
			continue
		}
		v.Status = corev1.PersistentVolumeStatus{}
		all["PersistentVolume "+v.Name] = v
	}
	return all
}

// plain makes an object comparable between runs: without ids, times, addresses and
// what others have added to it. What differs from site to site is named.
func (s *site) plain(t *testing.T, object runtime.Object) map[string]any {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	meta, _ := fields["metadata"].(map[string]any)
	for _, name := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "finalizers"} {
		delete(meta, name)
	}
	delete(fields, "status")
	annotations, _ := meta["annotations"].(map[string]any)
	for key := range annotations {
		switch {
		case strings.HasPrefix(key, "pv.kubernetes.io/"):
			delete(annotations, key)
		case key == kube.AnnotationCommand || key == kube.AnnotationGeneration:
			annotations[key] = "…"
		}
	}
	for _, owner := range list(meta["ownerReferences"]) {
		owner["uid"] = "…"
	}
	spec, _ := fields["spec"].(map[string]any)
	if ref, ok := spec["claimRef"].(map[string]any); ok {
		delete(ref, "uid")
		delete(ref, "resourceVersion")
	}
	dropServiceAccount(spec)
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`"`+s.namespace+`"`), []byte(`"NAMESPACE"`))
	text = bytes.ReplaceAll(text, []byte(tokenPrefix), []byte("e2e-"))
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func list(v any) (objects []map[string]any) {
	items, _ := v.([]any)
	for _, item := range items {
		if o, ok := item.(map[string]any); ok {
			objects = append(objects, o)
		}
	}
	return objects
}

// dropServiceAccount takes out the token volume that admission adds to a pod.
func dropServiceAccount(spec map[string]any) {
	const prefix = "kube-api-access-"
	without := func(v any) []any {
		var kept []any
		items, _ := v.([]any)
		for _, item := range items {
			if o, ok := item.(map[string]any); ok {
				if name, _ := o["name"].(string); strings.HasPrefix(name, prefix) {
					continue
				}
			}
			kept = append(kept, item)
		}
		return kept
	}
	if _, ok := spec["volumes"]; ok {
		spec["volumes"] = without(spec["volumes"])
	}
	for _, kind := range []string{"containers", "initContainers"} {
		for _, c := range list(spec[kind]) {
			c["volumeMounts"] = without(c["volumeMounts"])
		}
	}
}

// golden compares a user's objects with a file, field by field.
func (s *site) golden(t *testing.T, user, name string) {
	t.Helper()
	objects := map[string]any{}
	for key, object := range s.possessions(t, user) {
		objects[key] = s.plain(t, object)
	}
	got, err := yaml.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	s.compare(t, name+".yaml", string(got))
}

// nothing waits until a user has nothing in the cluster: at once when it was said to
// be gone.
func (s *site) nothing(t *testing.T, user string) {
	t.Helper()
	for key := range s.possessions(t, user) {
		t.Errorf("%s has %s after the last pod is gone", user, key)
	}
	bus := s.bus(t)
	state := known(t, "the storage of "+user, func() (events.StorageState, error) {
		record, err := bus.Storage(t.Context(), user)
		return record.State, err
	})
	if state == events.StorageUsed || state == events.StorageRemoving {
		t.Errorf("the storage of %s is %s", user, state)
	}
}

// TestFullPod: everything that a pod may have, as the silo sees it and as it is in
// Kubernetes, and that nothing of it stays.
func TestFullPod(t *testing.T) {
	t.Parallel()
	const user = "full@example.org"
	name := shared.create(t, user, "sites/full")
	if !shared.ready(t, user, name) {
		t.Fatal("not ready")
	}
	shared.golden(t, user, "full")
	service, err := shared.kube.CoreV1().Services(shared.namespace).Get(t.Context(), name+"-ssh", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port := service.Spec.Ports[0].NodePort
	made, err := shared.pod(t, name)
	if err != nil {
		t.Fatal(err)
	}
	got := shared.info(t, user, name)
	want := podInfo{
		Name: "full-full-example-org", Container: "jupyter", Image: "registry.example.org:5000/jupyter:1", IP: made.Status.PodIP,
		NodeIP: made.Status.HostIP, Owner: user, Age: got.Age, Event: "ready",
		Status:     "Running:" + made.Status.StartTime.UTC().Format("2006-01-02T15:04:05Z"),
		URL:        "https://full-full-example-org.pods.example.org",
		SSHURL:     fmt.Sprintf("ssh://jovyan@pods.example.org:%d", port),
		Tokens:     map[string]string{mine("e2e-full.token"): "s3cret\n"},
		Kubernetes: map[string]string{"sshPort": strconv.Itoa(int(port))},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("get_pods (-want +got):\n%s", diff)
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
	shared.nothing(t, user)
	for _, e := range shared.history(t, name, events.Gone) {
		text, err := json.Marshal(e.Record)
		if err != nil || bytes.Contains(text, []byte("s3cret")) {
			t.Errorf("the log has a token: %s (%v)", text, err)
		}
	}
}

// TestManifestsOfSites: what sites use, field by field.
func TestManifestsOfSites(t *testing.T) { //nolint:tparallel // The outer subtest returns when those in it have.
	t.Parallel()
	local := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "local-claim--tank-data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new(string),
			VolumeName: "e2e-local", Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-local"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: local.Spec.AccessModes, Capacity: local.Spec.Resources.Requests,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tank/data"}},
			ClaimRef:               &corev1.ObjectReference{Namespace: shared.namespace, Name: local.Name},
		},
	}
	core := shared.kube.CoreV1()
	_, err1 := core.PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{})
	_, err2 := core.PersistentVolumeClaims(shared.namespace).Create(t.Context(), local, metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Run("made", func(t *testing.T) {
		for _, manifest := range []string{"storage", "volumes", "security", "ssh"} {
			t.Run(manifest, func(t *testing.T) {
				t.Parallel()
				user := manifest + "@sites.org"
				name := shared.create(t, user, "sites/"+manifest)
				if !shared.ready(t, user, name) {
					t.Fatalf("not ready: %+v", shared.info(t, user, name))
				}
				shared.golden(t, user, manifest)
				shared.remove(t, user, name)
				shared.gone(t, user, name)
				shared.nothing(t, user)
			})
		}
	})
	// A claim of the site's is not Berth's to remove.
	claim, err := core.PersistentVolumeClaims(shared.namespace).Get(t.Context(), local.Name, metav1.GetOptions{})
	if err != nil || claim.DeletionTimestamp != nil {
		t.Errorf("the site's own claim: %v", err)
	}
}

func TestManifestsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ code, says string }{
		"mount":       {"MANIFEST_INVALID", "nowhere"},
		"token-trick": {"MANIFEST_INVALID", "sciencedata.dk/copy-token"},
	}
	for manifest, tt := range tests {
		t.Run(manifest, func(t *testing.T) {
			t.Parallel()
			user := manifest + "@refused.org"
			a := shared.tryCreate(t, user, "sites/"+manifest, nil)
			if a.Status != http.StatusUnprocessableEntity || a.Error.Code != tt.code || !strings.Contains(a.Error.Message, tt.says) {
				t.Errorf("%d %s", a.Status, a.Text)
			}
			shared.nothing(t, user)
		})
	}
}

// TestTokens: one that is there, one that comes late, one that never comes, and one
// that is longer than the site copies.
func TestTokens(t *testing.T) {
	t.Parallel()
	const user = "tokens@example.org"
	token(t, "e2e-there.token", "there")
	token(t, "e2e-long.token", strings.Repeat("x", 10_000))
	name := shared.create(t, user, "sites/tokens")
	eventually(t, "the tokens are waited for", func() bool {
		info := shared.info(t, user, name)
		return info.Reason == string(events.TokensPending) && info.Status == "Creating"
	})
	token(t, "e2e-late.token", "late")
	if !shared.ready(t, user, name) {
		t.Fatal("not ready")
	}
	info := shared.info(t, user, name)
	want := map[string]string{mine("e2e-there.token"): "there", mine("e2e-late.token"): "late", mine("e2e-long.token"): strings.Repeat("x", 4096)}
	if diff := cmp.Diff(want, info.Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	if text := strings.Join(info.Warnings, "\n"); !strings.Contains(text, mine("e2e-missing.token")) {
		t.Errorf("the warnings do not name the token that never came: %q", text)
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
	// Another life of the name has none of them.
	if err := os.Remove(tokenPath("e2e-there.token")); err != nil {
		t.Fatal(err)
	}
	again := shared.create(t, user, "sites/tokens")
	if again != name {
		t.Fatalf("the name is %s, want %s", again, name)
	}
	if !shared.ready(t, user, again) {
		t.Fatal("not ready again")
	}
	if tokens := shared.info(t, user, again).Tokens; tokens[mine("e2e-there.token")] != "" {
		t.Errorf("another life has the token of the one before: %v", tokens)
	}
	shared.remove(t, user, again)
	shared.gone(t, user, again)
}

// TestTokenBucketLost: what was copied is read again when the bucket is lost.
func TestTokenBucketLost(t *testing.T) {
	t.Parallel()
	const user = "bucket@example.org"
	p, _ := whole(t)
	name := p.create(t, user, "sites/token")
	if !p.ready(t, user, name) {
		t.Fatal("not ready")
	}
	eventstest.DeleteStream(t, p.nats, events.TokenStream)
	eventually(t, "the token is there again", func() bool {
		info := p.info(t, user, name)
		if info.Event != string(events.Ready) {
			t.Errorf("the pod is %s while its tokens are read again", info.Event)
		}
		return info.Tokens[mine("e2e-one.token")] == "one"
	})
}

// TestUsersThatLookAlike: users whose ids sanitise to the same text share no name,
// no claim, no volume and no token.
func TestUsersThatLookAlike(t *testing.T) {
	t.Parallel()
	users := []string{"a.b@c.d", "a-b@c.d", "a-b-c-d"}
	names, claims := map[string]string{}, map[string]string{}
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, user := range users {
		all.Go(func() {
			name := shared.create(t, user, "sites/storage")
			if !shared.ready(t, user, name) {
				t.Errorf("%s: %s is not ready", user, name)
			}
			pod, err := shared.pod(t, name)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			claim := ""
			for _, v := range pod.Spec.Volumes {
				if v.PersistentVolumeClaim != nil {
					claim = v.PersistentVolumeClaim.ClaimName
				}
			}
			if other := names[name]; other != "" || claims[claim] != "" {
				t.Errorf("%s shares %s (%s) or %s (%s)", user, name, other, claim, claims[claim])
			}
			names[name], claims[claim] = user, user
			volume, err := shared.kube.CoreV1().PersistentVolumes().Get(t.Context(), claim, metav1.GetOptions{})
			if err != nil || volume.Spec.NFS.Path != "/tank/storage/"+user || volume.Annotations[kube.AnnotationUser] != user {
				t.Errorf("%s: volume %s has the path %v, error %v", user, claim, volume.Spec.PersistentVolumeSource, err)
			}
		})
	}
	all.Wait()
	// Each deletes his own; the others' stay.
	for name, user := range names {
		shared.remove(t, user, name)
		shared.gone(t, user, name)
		shared.nothing(t, "nobody@"+user)
		for claim, owner := range claims {
			_, err := shared.kube.CoreV1().PersistentVolumeClaims(shared.namespace).Get(t.Context(), claim, metav1.GetOptions{})
			if _, lives := names[nameOf(names, owner)]; (err == nil) != (lives && owner != user) {
				t.Errorf("after %s has left, the claim of %s: %v", user, owner, err)
			}
		}
		delete(names, name)
	}
}

func nameOf(names map[string]string, user string) string {
	for name, owner := range names {
		if owner == user {
			return name
		}
	}
	return ""
}

// TestStorageIsCounted: the claim stays while one pod uses it, goes with the last,
// and binds again when it is made anew.
func TestStorageIsCounted(t *testing.T) {
	t.Parallel()
	const user = "counted@example.org"
	claim := kube.StorageName(user, false)
	exists := func() bool {
		_, err := shared.kube.CoreV1().PersistentVolumeClaims(shared.namespace).Get(t.Context(), claim, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	for range 3 {
		first, second := shared.create(t, user, "sites/storage"), shared.create(t, user, "sites/ssh")
		if !shared.ready(t, user, first) || !shared.ready(t, user, second) {
			t.Fatal("not ready")
		}
		shared.remove(t, user, first)
		shared.gone(t, user, first)
		if !exists() {
			t.Fatal("the claim went although a pod uses it")
		}
		shared.remove(t, user, second)
		shared.gone(t, user, second)
		shared.nothing(t, user)
	}
}

// TestTwoNamespaces: a volume of another namespace is not this one's to use.
func TestTwoNamespaces(t *testing.T) {
	t.Parallel()
	const user = "twice@example.org"
	p, _ := whole(t)
	here, there := shared.create(t, user, "sites/storage"), p.create(t, user, "sites/storage")
	if !shared.ready(t, user, here) || !p.ready(t, user, there) {
		t.Fatal("not ready")
	}
	p.remove(t, user, there)
	p.gone(t, user, there)
	p.nothing(t, user)
	if _, err := shared.kube.CoreV1().PersistentVolumeClaims(shared.namespace).Get(t.Context(), kube.StorageName(user, false), metav1.GetOptions{}); err != nil {
		t.Errorf("the claim in the other namespace: %v", err)
	}
	shared.remove(t, user, here)
	shared.gone(t, user, here)
}

// TestOldBackend: everything that the old backend made for a user is taken over at
// the start, shown, and removed whole.
func TestOldBackend(t *testing.T) {
	t.Parallel()
	const user, name = "erin@old.org", "jupyter-erin-old-org"
	token(t, "e2e-old.token", "old")
	p := newParts(t)
	p.namespaceReady(t)
	p.apply(t, "testdata/oldbackend.yaml")
	eventually(t, "the old pod runs", func() bool {
		pod, err := p.pod(t, name)
		return err == nil && pod.Status.Phase == corev1.PodRunning
	})
	p.start(t, all()...)
	p.compared(t)
	if !p.ready(t, user, name) {
		t.Fatal("not ready")
	}
	service, err := p.kube.CoreV1().Services(p.namespace).Get(t.Context(), name+"-ssh", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its token is read", func() bool { return p.info(t, user, name).Tokens[mine("e2e-old.token")] == "old" })
	info := p.info(t, user, name)
	port := service.Spec.Ports[0].NodePort
	if want := fmt.Sprintf("ssh://jovyan@pods.example.org:%d", port); info.SSHURL != want || info.URL != "https://"+name+".pods.example.org" {
		t.Errorf("urls %q, %q; want %q", info.URL, info.SSHURL, want)
	}
	// A second pod of the user shares the storage, and leaves it to the first.
	second := p.create(t, user, "sites/storage")
	if !p.ready(t, user, second) {
		t.Fatal("the second pod is not ready")
	}
	p.remove(t, user, second)
	p.gone(t, user, second)
	if _, err := p.kube.CoreV1().PersistentVolumeClaims(p.namespace).Get(t.Context(), "user-storage-erin-old-org", metav1.GetOptions{}); err != nil {
		t.Fatalf("the old pod's claim: %v", err)
	}
	p.remove(t, user, name)
	p.gone(t, user, name)
	p.nothing(t, user)
	left := map[string]error{}
	_, left["ssh"] = p.kube.CoreV1().Services(p.namespace).Get(t.Context(), name+"-ssh", metav1.GetOptions{})
	_, left["http"] = p.kube.CoreV1().Services(p.namespace).Get(t.Context(), name+"-http", metav1.GetOptions{})
	_, left["ingress"] = p.kube.NetworkingV1().Ingresses(p.namespace).Get(t.Context(), name+"-ingress", metav1.GetOptions{})
	for what, err := range left {
		if !apierrors.IsNotFound(err) {
			t.Errorf("the %s is left: %v", what, err)
		}
	}
}

// TestWipedLogKeepsStorage: with the log lost and pods running, the storage is known
// again from the cluster, and goes with the last pod.
func TestWipedLogKeepsStorage(t *testing.T) {
	t.Parallel()
	const user = "wiped@storage.org"
	p, _ := whole(t)
	first, second := p.create(t, user, "sites/storage"), p.create(t, user, "sites/token")
	if !p.ready(t, user, first) || !p.ready(t, user, second) {
		t.Fatal("not ready")
	}
	p.nats.Wipe()
	p.compared(t)
	eventually(t, "both are listed as ready", func() bool {
		pods := p.list(t, user)
		return len(pods) == 2 && pods[0].Event == "ready" && pods[1].Event == "ready"
	})
	third := p.create(t, user, "sites/ssh")
	if !p.ready(t, user, third) {
		t.Fatal("not ready after the loss")
	}
	for _, name := range []string{first, second, third} {
		p.remove(t, user, name)
		p.gone(t, user, name)
	}
	p.nothing(t, user)
}

// apply makes the objects of a file in the namespace.
func (s *site) apply(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	core := s.kube.CoreV1()
	for document := range strings.SplitSeq(strings.ReplaceAll(mine(string(text)), "NAMESPACE", s.namespace), "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "PersistentVolume":
			_, err = core.PersistentVolumes().Create(t.Context(), read[corev1.PersistentVolume](t, document), metav1.CreateOptions{})
		case "PersistentVolumeClaim":
			_, err = core.PersistentVolumeClaims(s.namespace).Create(t.Context(), read[corev1.PersistentVolumeClaim](t, document), metav1.CreateOptions{})
			s.bound(t, "user-storage-erin-old-org")
		case "Pod":
			_, err = core.Pods(s.namespace).Create(t.Context(), read[corev1.Pod](t, document), metav1.CreateOptions{})
		case "Service":
			_, err = core.Services(s.namespace).Create(t.Context(), read[corev1.Service](t, document), metav1.CreateOptions{})
		case "Ingress":
			_, err = s.kube.NetworkingV1().Ingresses(s.namespace).Create(t.Context(), read[networkingv1.Ingress](t, document), metav1.CreateOptions{})
		default:
			t.Fatalf("%s: an object of kind %q", path, kind.Kind)
		}
		if err != nil {
			t.Fatalf("%s: %v", kind.Kind, err)
		}
	}
}

// bound waits until a claim is bound: the scheduler parks a pod that comes before.
func (s *site) bound(t *testing.T, claim string) {
	t.Helper()
	eventually(t, claim+" is bound", func() bool {
		c, err := s.kube.CoreV1().PersistentVolumeClaims(s.namespace).Get(t.Context(), claim, metav1.GetOptions{})
		return err == nil && c.Status.Phase == corev1.ClaimBound
	})
}

func read[T any](t *testing.T, document string) *T {
	t.Helper()
	into := new(T)
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		t.Fatal(err)
	}
	return into
}

// namespaceReady waits until a new namespace takes pods.
func (s *site) namespaceReady(t *testing.T) {
	t.Helper()
	eventually(t, "the namespace takes pods", func() bool {
		_, err := s.kube.CoreV1().ServiceAccounts(s.namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// TestDeleteAllUser: everything of a user goes, and nothing of another.
func TestDeleteAllUser(t *testing.T) {
	t.Parallel()
	const user, other = "all@example.org", "all-other@example.org"
	theirs := shared.create(t, other, "sites/storage")
	for _, manifest := range []string{"sites/full", "sites/storage", "notebook"} {
		shared.create(t, user, manifest)
	}
	begun := time.Now()
	a := shared.ask(t, "delete_all_user", map[string]any{"user_id": user})
	if a.Status != http.StatusOK || !a.Deleted {
		t.Fatalf("%d %s after %s", a.Status, a.Text, time.Since(begun))
	}
	shared.nothing(t, user)
	if pods := shared.list(t, user); len(pods) != 0 {
		t.Errorf("still listed: %v", pods)
	}
	if !shared.ready(t, other, theirs) {
		t.Error("another user's pod is gone, too")
	}
	if again := shared.ask(t, "delete_all_user", map[string]any{"user_id": user}); again.Status != http.StatusOK || !again.Deleted {
		t.Errorf("a second time: %d %s", again.Status, again.Text)
	}
	shared.remove(t, other, theirs)
	shared.gone(t, other, theirs)
}
