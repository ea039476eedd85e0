package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"berth/pkg/events"
	"berth/pkg/kube"
)

// interleavings is how often TestStorageInterleavings plays; -interleavings 1000 for
// a thorough look.
var interleavings = flag.Int("interleavings", 60, "how many random interleavings of creates and deletes are played")

// faults is a way to the API server on which requests go wrong at random: refused
// before it gets them, or carried out with the answer lost. It is safe for
// concurrent use.
type faults struct {
	*httptest.Server
	percent          int
	forward          *httputil.ReverseProxy
	refused, unheard atomic.Int64
	// silence, where it is not nil, is closed when those may go on who have made a pod: until then they hear nothing of it.
	silence chan struct{}

	mu   sync.Mutex
	rand *rand.Rand
}

// newFaults returns a way on which as many of a hundred requests go wrong, half of
// them with the answer lost.
func newFaults(t *testing.T, percent int) *faults {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", shared.stack.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{percent: percent, rand: rand.New(rand.NewPCG(1, 2))}
	f.forward = httputil.NewSingleHostReverseProxy(target)
	f.forward.Transport = transport
	f.forward.ErrorLog = nil
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	dice := f.rand.IntN(200)
	f.mu.Unlock()
	switch {
	case f.silence != nil && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/pods"):
		f.forward.ServeHTTP(httptest.NewRecorder(), r)
		select {
		case <-f.silence:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case dice < f.percent:
		f.refused.Add(1)
		http.Error(w, "a fault of the test", http.StatusInternalServerError)
	case dice < 2*f.percent && r.Method != http.MethodGet:
		f.unheard.Add(1)
		f.forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // The connection breaks instead of an answer.
	default:
		f.forward.ServeHTTP(w, r)
	}
}

// under watches that no claim goes under a pod: one that is to be removed while a
// pod mounts it that is not.
type under struct {
	mu   sync.Mutex
	pods map[apitypes.UID]*corev1.Pod // As they were seen last, also those that are gone.
	// removed are the claims that were to be removed, mounted the pods that seemed to run with them then: the watch of
	// the pods may be behind that of the claims.
	removed map[apitypes.UID]*corev1.PersistentVolumeClaim
	mounted map[apitypes.UID]apitypes.UID // By pod, of its claim.
}

func (u *under) pod(event watch.Event) {
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pods[pod.UID] = pod
}

func (u *under) claim(event watch.Event) {
	claim, ok := event.Object.(*corev1.PersistentVolumeClaim)
	if !ok || event.Type == watch.Bookmark || claim.DeletionTimestamp == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.removed[claim.UID] = claim
	for uid, pod := range u.pods {
		// The pod may be of after the claim's removal: two watches know nothing of each other.
		before := pod.CreationTimestamp.Before(claim.DeletionTimestamp)
		if kube.UsesClaim(pod, claim.Name) && pod.DeletionTimestamp == nil && before && pod.Status.Phase == corev1.PodRunning {
			u.mounted[uid] = claim.UID
		}
	}
}

// wrongs are the claims that went under a pod: one that somebody asked to delete before was only seen late.
func (u *under) wrongs() (wrongs []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for pod, claim := range u.mounted {
		p, c := u.pods[pod], u.removed[claim]
		if asked := askedToGo(p); asked.IsZero() || asked.After(c.DeletionTimestamp.Time) {
			wrongs = append(wrongs, fmt.Sprintf("claim %s is removed under pod %s", c.Name, p.Name))
		}
	}
	return wrongs
}

// askedToGo is when somebody asked for the delete of a pod: its own time is when its grace is over.
func askedToGo(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
		return time.Time{}
	}
	return pod.DeletionTimestamp.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
}

// follow calls see for what happens to a kind in the namespace from now on.
func (s *site) follow(t *testing.T, kind string, see func(watch.Event)) {
	t.Helper()
	pods, err := s.kube.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watching, err := watchtools.NewRetryWatcherWithContext(ctx, pods.ResourceVersion, cache.ToWatcherWithContext(
		cache.NewFilteredListWatchFromClient(s.kube.CoreV1().RESTClient(), kind, s.namespace, func(*metav1.ListOptions) {})))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for event := range watching.ResultChan() {
			see(event)
		}
	}()
	t.Cleanup(func() {
		cancel()
		watching.Stop()
		<-over
	})
}

// TestStorageInterleavings plays random interleavings of creates and deletes of one
// user, of several users at once, by 3 creators and 2 deleters whose requests to
// the API server go wrong: after each, the claim exists if and only if a pod of the
// user does, and it never goes under a pod; at the end there is no object without a
// pod.
func TestStorageInterleavings(t *testing.T) {
	t.Parallel()
	p := newParts(t, unhurried)
	p.logs = p.logs.Level(zerolog.ErrorLevel) // Every fault is a warning or two.
	p.faults = newFaults(t, 6)
	for _, name := range []string{"watcher", "licenser", "deleter", "deleter", "creator", "creator", "creator", "api"} {
		p.replica(t, name)
	}
	p.compared(t)
	u := &under{
		pods: map[apitypes.UID]*corev1.Pod{}, removed: map[apitypes.UID]*corev1.PersistentVolumeClaim{}, mounted: map[apitypes.UID]apitypes.UID{},
	}
	p.follow(t, "pods", u.pod)
	p.follow(t, "persistentvolumeclaims", u.claim)
	const users = 6
	var all sync.WaitGroup
	for n := range users {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 4))
			user := fmt.Sprintf("user.%d@inter.leave", n)
			var live []string
			for round := n; round < *interleavings && !t.Failed(); round += users {
				live = p.interleave(t, random, user, live)
				p.claimMatches(t, user, live)
			}
			for _, name := range live {
				p.remove(t, user, name)
				p.gone(t, user, name)
			}
			p.nothing(t, user)
		})
	}
	all.Wait()
	eventually(t, "all that went is seen to have gone", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return !slices.ContainsFunc(slices.Collect(maps.Values(u.pods)), func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil })
	})
	for _, wrong := range u.wrongs() {
		t.Error(wrong)
	}
	t.Logf("%d requests were refused, %d carried out unheard", p.faults.refused.Load(), p.faults.unheard.Load())
	if p.faults.refused.Load() == 0 || p.faults.unheard.Load() == 0 {
		t.Error("no request went wrong: the test does not test it")
	}
}

// interleave makes and deletes some pods of a user at the same time, and returns
// which live afterwards.
func (p *parts) interleave(t *testing.T, random *rand.Rand, user string, live []string) []string {
	t.Helper()
	creates, deletes := random.IntN(3), random.IntN(len(live)+1)
	if creates == 0 && deletes == 0 {
		creates = 1
	}
	random.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	going, stay := live[:deletes], slices.Clone(live[deletes:])
	var mu sync.Mutex
	var all sync.WaitGroup
	for range creates {
		early := random.IntN(3) == 0 // Some are deleted before they are ready.
		all.Go(func() {
			name := p.create(t, user, "sites/storage")
			if early {
				p.remove(t, user, name)
				p.gone(t, user, name)
				return
			}
			if !p.ready(t, user, name) {
				t.Errorf("%s is not ready: %+v", name, p.info(t, user, name))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			stay = append(stay, name)
		})
	}
	for _, name := range going {
		all.Go(func() {
			p.remove(t, user, name)
			p.gone(t, user, name)
		})
	}
	all.Wait()
	return stay
}

// claimMatches holds that the claim exists if and only if a pod uses it.
func (p *parts) claimMatches(t *testing.T, user string, live []string) {
	t.Helper()
	claim := kube.StorageName(user, false)
	if record, err := p.bus(t).Storage(t.Context(), user); err == nil && record.Claim != "" {
		claim = record.Claim
	}
	got, err := p.kube.CoreV1().PersistentVolumeClaims(p.namespace).Get(t.Context(), claim, metav1.GetOptions{})
	switch {
	case len(live) > 0 && (err != nil || got.DeletionTimestamp != nil):
		t.Errorf("%s has %v and the claim is gone or going: %v", user, live, err)
	case len(live) == 0 && !apierrors.IsNotFound(err):
		t.Errorf("%s has no pod and a claim: %v", user, err)
	}
	for _, name := range live {
		pod, err := p.pod(t, name)
		if err != nil || pod.DeletionTimestamp != nil || !kube.UsesClaim(pod, claim) {
			t.Errorf("%s: pod %s: %v", user, name, err)
		}
	}
}

// TestSweep: what outlived its pod is found, and removed; a dry run only finds it;
// nothing else is touched; only the administrator may ask.
func TestSweep(t *testing.T) {
	t.Parallel()
	const user = "sweeper@example.org"
	p, _ := whole(t)
	alive := p.create(t, user, "sites/ssh")
	if !p.ready(t, user, alive) {
		t.Fatal("not ready")
	}
	text := `apiVersion: v1
kind: Service
metadata:
  name: ghost-http
  namespace: NAMESPACE
  labels: {createdForPod: ghost}
spec:
  ports: [{port: 80}]`
	ghost := read[corev1.Service](t, strings.ReplaceAll(text, "NAMESPACE", p.namespace))
	foreign := ghost.DeepCopy()
	foreign.Name, foreign.Labels = "somebodys", map[string]string{"createdForPod": "elsewhere"}
	for _, service := range []*corev1.Service{ghost, foreign} {
		if _, err := p.kube.CoreV1().Services(p.namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	orphan := kube.StorageName("orphan@example.org", false)
	p.putStorage(t, orphan, "orphan@example.org")

	if status, _ := p.admin(t, "", `{}`); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	if status, _ := p.admin(t, "wrong", `{}`); status != http.StatusUnauthorized && status != http.StatusForbidden {
		t.Errorf("with a wrong token: %d", status)
	}
	status, answer := p.admin(t, adminToken, `{"dry_run":true}`)
	if status != http.StatusOK || !strings.Contains(answer, "ghost-http") || !strings.Contains(answer, orphan) || strings.Contains(answer, "somebodys") || strings.Contains(answer, alive) {
		t.Fatalf("dry run: %d %s", status, answer)
	}
	exists := func(name string) bool {
		_, err := p.kube.CoreV1().Services(p.namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil
	}
	if !exists("ghost-http") {
		t.Fatal("a dry run removes")
	}
	if status, answer = p.admin(t, adminToken, ``); status != http.StatusOK {
		t.Fatalf("sweep: %d %s", status, answer)
	}
	eventually(t, "what is left over is gone", func() bool {
		_, claimErr := p.kube.CoreV1().PersistentVolumeClaims(p.namespace).Get(t.Context(), orphan, metav1.GetOptions{})
		_, volumeErr := p.kube.CoreV1().PersistentVolumes().Get(t.Context(), orphan, metav1.GetOptions{})
		return !exists("ghost-http") && apierrors.IsNotFound(claimErr) && apierrors.IsNotFound(volumeErr)
	})
	if !exists("somebodys") || !exists(alive+"-ssh") {
		t.Error("the sweep removed what is somebody's")
	}
	if !p.ready(t, user, alive) {
		t.Error("the living pod is not ready any more")
	}
	p.remove(t, user, alive)
	p.gone(t, user, alive)
	p.nothing(t, user)
}

// putStorage makes a claim and a volume as the old backend did.
func (s *site) putStorage(t *testing.T, name, user string) {
	t.Helper()
	text, err := os.ReadFile("testdata/oldbackend.yaml")
	if err != nil {
		t.Fatal(err)
	}
	local, domain, _ := strings.Cut(user, "@")
	documents := strings.Split(strings.NewReplacer(
		"user-storage-erin-old-org", name, "user: erin", "user: "+local, "domain: old.org", "domain: "+domain, "NAMESPACE", s.namespace,
	).Replace(string(text)), "\n---\n")
	core := s.kube.CoreV1()
	_, err1 := core.PersistentVolumes().Create(t.Context(), read[corev1.PersistentVolume](t, documents[0]), metav1.CreateOptions{})
	_, err2 := core.PersistentVolumeClaims(s.namespace).Create(t.Context(), read[corev1.PersistentVolumeClaim](t, documents[1]), metav1.CreateOptions{})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	s.bound(t, name)
}

// roundTrip sends a request and reads its answer.
func roundTrip(t *testing.T, request *http.Request) (status int, text string) {
	t.Helper()
	response, err := shared.http.Do(request)
	if err != nil {
		if request.Context().Err() == nil {
			t.Error(err)
		}
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(body)
}

// admin asks for a sweep with a token, and again where it takes longer than a client is to wait.
func (s *site) admin(t *testing.T, token, body string) (status int, text string) {
	t.Helper()
	eventually(t, "/clean_all_unused is answered", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/clean_all_unused", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		status, text = roundTrip(t, request)
		return status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout
	})
	return status, text
}

// TestOwnerOfAnAddress: only a pod that is alive owns its address, and only when no
// other claims it.
func TestOwnerOfAnAddress(t *testing.T) {
	t.Parallel()
	p, _ := whole(t)
	owner := func(ip string) string {
		status, text := p.owner(t, ip)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", ip, status, text)
		}
		return text
	}
	const alice, bob = "alice@owners.org", "bob@owners.org"
	first := p.create(t, alice, "notebook")
	if !p.ready(t, alice, first) {
		t.Fatal("not ready")
	}
	address := p.info(t, alice, first).IP
	if got := owner(address); got != alice {
		t.Errorf("the owner of %s is %q", address, got)
	}
	if got := owner("::ffff:" + address); got != alice {
		t.Errorf("the owner of the same address in another notation is %q", got)
	}
	if got := owner(p.info(t, alice, first).NodeIP); got != "" {
		t.Errorf("a node's address is %q's", got)
	}
	for _, bad := range []string{"", "10.0.0", "a.b.c.d", "10.0.0.1/8", "fe80::1%25eth0"} {
		if status, text := p.owner(t, bad); status != http.StatusBadRequest {
			t.Errorf("address %q: %d %s", bad, status, text)
		}
	}
	// A second live pod with the same address: nobody.
	second := p.create(t, bob, "notebook")
	if !p.ready(t, bob, second) {
		t.Fatal("not ready")
	}
	p.setAddress(t, second, address)
	eventually(t, "both have the address in the log", func() bool { return p.info(t, bob, second).IP == address })
	if got := owner(address); got != "" {
		t.Errorf("the owner of an address that two pods have is %q", got)
	}
	// The first one goes while many ask: never the wrong one.
	asking, stop := context.WithCancel(t.Context())
	var gone atomic.Bool
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			for asking.Err() == nil {
				wasGone := gone.Load()
				status, text := p.owner(t, address)
				if status == http.StatusOK && text == alice && wasGone {
					t.Errorf("alice, whose pod is gone, is said to own %s", address)
					return
				}
				if status == http.StatusOK && text == bob {
					return
				}
			}
		})
	}
	p.remove(t, alice, first)
	p.gone(t, alice, first)
	gone.Store(true)
	eventually(t, "bob owns the address", func() bool { return owner(address) == bob })
	stop()
	clients.Wait()
	// An ended pod's address is nobody's.
	p.endPod(t, second)
	eventually(t, "the pod has ended", func() bool { return p.info(t, bob, second).Event == string(events.Ended) })
	if got := owner(address); got != "" {
		t.Errorf("the address of an ended pod is %q's", got)
	}
}

// owner asks who owns an address.
func (s *site) owner(t *testing.T, ip string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/get_podip_owner?ip="+url.QueryEscape(ip), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "/get_podip_owner is answered", func() bool {
		status, text = roundTrip(t, request)
		return status != http.StatusServiceUnavailable // As long as the watcher has not been heard of.
	})
	return status, text
}

// setAddress gives a simulated pod another address, as a node does.
func (s *site) setAddress(t *testing.T, name, ip string) {
	t.Helper()
	s.status(t, name, func(status *corev1.PodStatus) {
		status.PodIP, status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	})
}

func (s *site) endPod(t *testing.T, name string) {
	t.Helper()
	s.status(t, name, func(status *corev1.PodStatus) {
		status.Phase, status.Reason, status.Message = corev1.PodFailed, "Evicted", "The node was low on memory"
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	})
}

// status changes what a node says of a pod.
func (s *site) status(t *testing.T, name string, change func(*corev1.PodStatus)) {
	t.Helper()
	eventually(t, "the status of "+name+" is written", func() bool {
		pod, err := s.pod(t, name)
		if err != nil {
			t.Fatal(err)
		}
		change(&pod.Status)
		_, err = s.kube.CoreV1().Pods(s.namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return err == nil
	})
}
