package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/cmd/devstack/stack"
	"berth/pkg/events"
	"berth/pkg/service/config"
)

// unhurried gives creates all the time that a busy machine may need.
func unhurried(c *config.Config) { c.TimeoutCreate = 5 * time.Minute }

// rounds is how often TestReplicasAgree asks; -rounds 1000 for a thorough look.
var rounds = flag.Int("rounds", 60, "how many pods TestReplicasAgree makes")

// at is the site as another replica of the api shows it.
func (s *site) at(url string) *site {
	other := *s
	other.URL = url
	return &other
}

// TestReplicasAgree: what one replica has answered, another never denies,
// however far it lags.
func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	// A machine on which nobody is answered in time is no disagreement.
	p, _ := whole(t, unhurried)
	first := p.at(p.URL)
	p.replica(t, "api")
	second := p.at(p.URL)
	second.compared(t)
	const users = 8
	var running sync.WaitGroup
	for n := range users {
		running.Go(func() {
			for round := n; round < *rounds; round += users {
				one, two := first, second
				if round%2 == 1 {
					one, two = second, first
				}
				user := fmt.Sprintf("user%d@replicas.org", n)
				pod := one.create(t, user, "notebook")
				if listed := two.list(t, user); len(listed) != 1 || listed[0].Name != pod {
					t.Errorf("round %d: the other replica lists %v, not %s", round, listed, pod)
				}
				if !two.ready(t, user, pod) {
					t.Errorf("round %d: the other replica says that %s will not be ready", round, pod)
				}
				one.remove(t, user, pod)
				begun := time.Now()
				a := two.ask(t, "watch_delete_pod", map[string]any{"user_id": user, "pod_name": pod})
				if !a.Deleted && time.Since(begun) < p.settings.TimeoutDelete {
					t.Errorf("round %d: the other replica says that %s is not gone: %d %s", round, pod, a.Status, a.Text)
				}
				two.gone(t, user, pod)
				// It may show for a moment what has been; it must not stay.
				eventually(t, "the first replica has heard of the end", func() bool { return len(one.list(t, user)) == 0 })
			}
		})
	}
	running.Wait()
}

// TestManyWaitWhileAReplicaGoes: half of the clients lose their replica, be it by a
// restart or a crash. They ask the other one and get the right answer; nobody is
// told "no".
func TestManyWaitWhileAReplicaGoes(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*replica, *testing.T){
		"restart": (*replica).stop, "crash": (*replica).kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const user, pods, clients = "many@wait.org", 5, 500
			p, services := whole(t, unhurried)
			going := p.at(p.URL)
			p.replica(t, "api")
			staying := p.at(p.URL)
			staying.compared(t)
			var names []string
			for range pods {
				names = append(names, staying.create(t, user, "never-ready"))
			}
			var running sync.WaitGroup
			var mu sync.Mutex
			sentAway := map[string]int{}
			var ending atomic.Bool
			for n := range clients {
				running.Go(func() {
					body := fmt.Sprintf(`{"user_id":%q,"pod_name":%q}`, user, names[n%pods])
					status, text, err := http.StatusServiceUnavailable, "", error(nil)
					if n%2 == 0 {
						eventually(t, "a replica that is busy answers", func() bool {
							status, text, err = going.try(t, "watch_create_pod", body)
							return status != http.StatusServiceUnavailable || ending.Load()
						})
						mu.Lock()
						sentAway[strconv.Itoa(status)]++
						mu.Unlock()
					}
					if err != nil || status == http.StatusServiceUnavailable {
						eventually(t, "the other replica answers", func() bool {
							status, text, err = staying.try(t, "watch_create_pod", body)
							return status != http.StatusServiceUnavailable
						})
					}
					if err != nil || status != http.StatusOK || !strings.Contains(text, `"ready":true`) {
						t.Errorf("client %d was told %d %s, error %v", n, status, text, err)
					}
				})
			}
			eventually(t, "half wait here", func() bool { return going.polls(t) == clients/2 })
			eventually(t, "half wait there", func() bool { return staying.polls(t) == clients/2 })
			ending.Store(true)
			end(services["api"], t)
			eventually(t, "all wait there", func() bool { return staying.polls(t) == clients })
			for _, name := range names {
				p.makeReady(t, name)
			}
			running.Wait()
			t.Logf("the replica that went answered %v (0: it cut the connection)", sentAway)
			if sentAway["200"] > 0 {
				t.Errorf("%d clients were answered by a replica before the pods were ready", sentAway["200"])
			}
		})
	}
}

// makeReady says to the API server what the node of a pod says of others by itself, once the pod runs.
func (s *site) makeReady(t *testing.T, name string) {
	t.Helper()
	s.reaches(t, name, events.Running)
	s.status(t, name, func(status *corev1.PodStatus) {
		for i := range status.ContainerStatuses {
			status.ContainerStatuses[i].Ready = true
		}
		for i, c := range status.Conditions {
			if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
				status.Conditions[i].Status = corev1.ConditionTrue
			}
		}
	})
}

// polls is how many clients wait for a create at a replica.
func (s *site) polls(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(s.metric(t, `berth_http_long_polls{endpoint="/watch_create_pod"}`))
	if err != nil {
		return 0 // Nobody has come yet.
	}
	return n
}

// TestLeaderDiesUnderLoad: nobody waits longer than the lease lasts, and a second. A machine may stand still for that long
// once; a watcher that is late is late again.
func TestLeaderDiesUnderLoad(t *testing.T) { //nolint:paralleltest // It measures times: the load is to be its own.
	for _, try := range []string{"first", "again"} { //nolint:paralleltest // One after the other.
		var late string
		t.Run(try, func(t *testing.T) { late = leaderDiesUnderLoad(t) })
		if late == "" {
			return
		}
		t.Log(late)
	}
	t.Error("late twice")
}

// leaderDiesUnderLoad says how late it was for those who waited longest; empty where they were in time.
func leaderDiesUnderLoad(t *testing.T) (late string) {
	t.Helper()
	const creates, lease = 200, 5 * time.Second
	p, services := whole(t, unhurried)
	p.replica(t, "watcher")
	readySince := p.readyTimes(t)
	var running sync.WaitGroup
	var mu sync.Mutex
	var waited []time.Duration
	var killed bool
	var usual time.Duration // The longest wait before the leader died.
	places := make(chan struct{}, 25)
	for n := range creates {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			user := fmt.Sprintf("user%d@leader.org", n)
			pod := p.create(t, user, "notebook")
			if n == creates/2 {
				mu.Lock()
				killed = true
				mu.Unlock()
				services["watcher"].kill(t)
			}
			if !p.ready(t, user, pod) {
				t.Errorf("%s is not ready", pod)
			}
			took := time.Since(readySince(pod))
			mu.Lock()
			waited = append(waited, took)
			if !killed {
				usual = max(usual, took)
			}
			mu.Unlock()
			p.remove(t, user, pod)
			p.gone(t, user, pod)
		})
	}
	running.Wait()
	if len(waited) != creates {
		t.Fatalf("%d of %d creates are known", len(waited), creates)
	}
	// What a slow machine and the race detector add, they add before the death, too: twice to those who come while the
	// next leader looks at everything.
	longest, most := slices.Max(waited), lease+time.Second+max(4*time.Second, 2*usual)
	t.Logf("the longest of %d waited %s after its pod was ready in Kubernetes, %s before the leader's death", len(waited), longest, usual)
	if longest > most {
		late = fmt.Sprintf("the longest waited %s, want at most %s", longest, most)
	}
	return late
}

// readyTimes watches the namespace until the test ends. The function returned
// says when a pod was seen to be ready, which must have been.
func (s *site) readyTimes(t *testing.T) func(pod string) time.Time {
	t.Helper()
	watching, err := s.kube.CoreV1().Pods(s.namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watching.Stop)
	var mu sync.Mutex
	since := map[string]time.Time{}
	go func() {
		for event := range watching.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
				continue
			}
			mu.Lock()
			if since[pod.Name].IsZero() {
				since[pod.Name] = time.Now()
			}
			mu.Unlock()
		}
	}()
	return func(pod string) time.Time {
		mu.Lock()
		defer mu.Unlock()
		if since[pod].IsZero() {
			return time.Now() // Berth was faster than this watch.
		}
		return since[pod]
	}
}

// TestProcesses: two of each service, each a process of its own, as a site runs
// them. One of each is killed; its twin carries on until it is back.
func TestProcesses(t *testing.T) {
	t.Parallel()
	namespace, err := shared.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "berth.yaml")
	text := "namespace: " + namespace.Name + "\ntimeoutCreate: 1m\ntimeoutDelete: 1m\ncreateDeadline: 30s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, _, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	said := &lines{}
	running, err := stack.Start(t.Context(), stack.Options{
		Listen: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"), Kubeconfig: shared.stack.Kubeconfig, Manifests: shared.manifests,
		Config: loaded, ConfigFile: file, Replicas: 2, Processes: filepath.Dir(shared.devstack),
		Log: zerolog.New(t.Output()).Level(zerolog.ErrorLevel), Progress: said,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	s := siteOf(running, loaded, shared.kube)
	if len(running.URLs) != 2 || running.URLs[0] == running.URLs[1] {
		t.Fatalf("the replicas of the api are at %v", running.URLs)
	}
	for n, service := range []string{"creator", "licenser", "deleter", "watcher"} {
		replica := service + "-1"
		kill(t, running, replica)
		user := service + "@processes.org"
		if names, _ := s.at(running.URLs[n%2]).visit(t, user); len(names) == 0 {
			t.Errorf("no pod without %s", replica)
		}
		eventually(t, replica+" is back", func() bool { return strings.Contains(said.String(), replica+": signal: killed; starting it again") })
	}
	kill(t, running, "api-1")
	if _, unknown := s.at(running.URLs[1]).visit(t, "api@processes.org"); unknown > 0 {
		t.Error("the other replica does not know what became of a create")
	}
	s.at(running.URLs[0]).answers(t)
}

func kill(t *testing.T, running *stack.Stack, replica string) {
	t.Helper()
	if !running.Signal(replica, syscall.SIGKILL) {
		t.Fatalf("%s does not run", replica)
	}
}

// answers waits until a replica that was killed answers again.
func (s *site) answers(t *testing.T) {
	t.Helper()
	eventually(t, s.URL+" answers again", func() bool {
		status, _, err := s.try(t, "get_pods", `{"user_id":"nobody"}`)
		return err == nil && status == http.StatusOK
	})
}
