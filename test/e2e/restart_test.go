package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
)

// visit is what a patient silo does for one user. It returns the names of the
// pods that it was given, and how many creates it was told nothing certain of.
func (s *site) visit(t *testing.T, user string) (names []string, unknown int) {
	t.Helper()
	for range 5 {
		made := s.tryCreate(t, user, "notebook", nil)
		if made.Status == http.StatusGatewayTimeout {
			unknown++ // There may be a pod; the end of the test looks for it.
			continue
		}
		if made.Status != http.StatusOK {
			t.Errorf("create_pod: %d %s", made.Status, made.Text)
			return names, unknown
		}
		names = append(names, made.Pod)
		body := map[string]any{"user_id": user, "pod_name": made.Pod}
		watched := s.ask(t, "watch_create_pod", body)
		if removed := s.ask(t, "delete_pod", body); removed.Status != http.StatusOK && removed.Status != http.StatusNotFound {
			t.Errorf("delete_pod: %d %s", removed.Status, removed.Text)
		}
		eventually(t, made.Pod+" is gone", func() bool { return s.ask(t, "watch_delete_pod", body).Deleted })
		if watched.Ready {
			return names, unknown
		}
		t.Logf("%s was not ready; trying again", made.Pod)
	}
	t.Errorf("%s never got a pod", user)
	return names, unknown
}

// TestKilledServices kills one service again and again while pods are made and
// deleted: nobody is left waiting, nothing is doubled, nothing is left.
func TestKilledServices(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"creator", "licenser", "deleter", "watcher"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			p, services := whole(t)
			const users = 6
			var mu sync.Mutex
			var names []string
			unknown := map[string]int{} // By user.
			var visits sync.WaitGroup
			for i := range users {
				visits.Go(func() {
					user := fmt.Sprintf("user%d@killed.org", i)
					made, lost := p.visit(t, user)
					mu.Lock()
					defer mu.Unlock()
					names = append(names, made...)
					unknown[user] = lost
				})
			}
			// Each kill is at another step of somebody's.
			replica := services[service]
			for _, step := range []events.Type{events.Claimed, events.Launching, events.Deleting} {
				p.seen(t, step)
				replica.kill(t)
				replica = p.replica(t, service)
			}
			visits.Wait()
			p.idle(t)
			for i := range users {
				user := fmt.Sprintf("user%d@killed.org", i)
				left := p.list(t, user)
				// Each create that nobody knew the end of may have made one pod, and no other did.
				if len(left) > unknown[user] {
					t.Errorf("%s has %d pods more than it asked for, of %d that may be", user, len(left), unknown[user])
				}
				for _, info := range left {
					p.remove(t, user, info.Name)
					p.gone(t, user, info.Name)
					names = append(names, info.Name)
				}
			}
			if left := p.objects(t); len(left) > 0 {
				t.Errorf("left in the cluster: %v", left)
			}
			slices.Sort(names)
			for _, name := range slices.Compact(names) {
				p.lives(t, name)
			}
		})
	}
}

// seen waits until any pod has come to an event.
func (s *site) seen(t *testing.T, event events.Type) {
	t.Helper()
	bus := s.bus(t)
	eventually(t, "some pod is "+string(event), func() bool {
		for i := range 6 {
			history, err := bus.History(t.Context(), kube.Name("notebook", fmt.Sprintf("user%d@killed.org", i), 0))
			if err != nil && !errors.Is(err, natsbus.ErrUnavailable) {
				t.Fatal(err)
			}
			if slices.ContainsFunc(history, func(e natsbus.Entry) bool { return e.Event == event }) {
				return true
			}
		}
		return false
	})
}

// lives sees to it that each life of a name went its way once, in order.
func (s *site) lives(t *testing.T, pod string) {
	t.Helper()
	order := map[events.Type]int{}
	for i, info := range events.Types() {
		order[info.Type] = i
	}
	commands := map[string]string{}
	var last natsbus.Entry
	for _, e := range s.history(t, pod, events.Gone) {
		if e.Event == events.Claimed {
			if other, twice := commands[e.Command]; twice {
				t.Errorf("%s: command %s claimed %s and %s", pod, e.Command, other, e.Generation)
			}
			commands[e.Command] = e.Generation
			if last.Event != "" && last.Event != events.Gone {
				t.Errorf("%s: claimed after %s", pod, last.Event)
			}
		} else if e.Generation != last.Generation || order[e.Event] < order[last.Event] && e.Event != events.Waiting && e.Event != events.Launching {
			t.Errorf("%s: %s of %s after %s of %s", pod, e.Event, e.Generation, last.Event, last.Generation)
		}
		last = e
	}
}

// TestCreatorDiesAtTheAPIServer: the pod is made, and its creator cannot say so
// any more. The next one finds it, and makes no other.
func TestCreatorDiesAtTheAPIServer(t *testing.T) {
	t.Parallel()
	const user = "creator@dies.org"
	p := newParts(t, unhurried)
	p.faults = newFaults(t, 0)
	p.faults.silence = make(chan struct{})
	services := p.start(t, all()...)
	p.compared(t)
	pod := p.create(t, user, "notebook")
	var made *corev1.Pod
	eventually(t, "the pod is made", func() (ok bool) {
		var err error
		made, err = p.pod(t, pod)
		return err == nil
	})
	services["creator"].nats.close()
	close(p.faults.silence)
	services["creator"].kill(t)
	p.faults = nil
	p.replica(t, "creator")
	if !p.ready(t, user, pod) {
		t.Errorf("not ready; history %v", types(p.history(t, pod, events.Gone)))
	}
	if now, err := p.pod(t, pod); err != nil || now.UID != made.UID {
		t.Errorf("the pod that was made is not the one that is there: %v", err)
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
	p.lives(t, pod)
}

// TestDeleterDies before it has called the API server.
func TestDeleterDies(t *testing.T) {
	t.Parallel()
	const user = "deleter@dies.org"
	p, services := whole(t)
	pod := p.create(t, user, "notebook")
	if !p.ready(t, user, pod) {
		t.Fatal("not ready")
	}
	services["deleter"].cluster.block()
	p.remove(t, user, pod)
	services["deleter"].cluster.holds(t)
	services["deleter"].kill(t)
	p.replica(t, "deleter")
	p.gone(t, user, pod)
	p.lives(t, pod)
}

// TestWatcherTakesOver: the leader dies without giving back its lease; what
// happened meanwhile is found out by the other.
func TestWatcherTakesOver(t *testing.T) {
	t.Parallel()
	const user = "watcher@dies.org"
	p, services := whole(t)
	p.replica(t, "watcher")
	ready := p.create(t, user, "notebook")
	if !p.ready(t, user, ready) {
		t.Fatal("not ready")
	}
	deleted := p.create(t, user, "never-ready")
	services["watcher"].kill(t)
	p.remove(t, user, ready)
	made := p.create(t, user, "ssh")
	p.remove(t, user, deleted)
	if !p.ready(t, user, made) {
		t.Errorf("%s is not ready", made)
	}
	p.remove(t, user, made)
	for _, pod := range []string{ready, deleted, made} {
		p.gone(t, user, pod)
		p.lives(t, pod)
	}
}

// TestWatcherDrains gives its lease to the other at once.
func TestWatcherDrains(t *testing.T) {
	t.Parallel()
	const user = "watcher@drains.org"
	p, services := whole(t)
	p.replica(t, "watcher")
	services["watcher"].stop(t)
	pod := p.create(t, user, "notebook")
	if !p.ready(t, user, pod) {
		t.Error("not ready")
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
	p.lives(t, pod)
}

// TestAPIReplicas: another replica answers for one that drains, and the client
// of the one that drains is told to ask again.
func TestAPIReplicas(t *testing.T) {
	t.Parallel()
	const user = "api@drains.org"
	p, services := whole(t, unhurried)
	pod := p.create(t, user, "never-ready")
	watched := make(chan answer, 1)
	old := p.at(p.URL)
	var draining atomic.Bool
	go func() {
		var a answer
		eventually(t, "a replica that is busy answers", func() bool {
			a = old.once(t, "watch_create_pod", map[string]any{"user_id": user, "pod_name": pod})
			return a.Status != http.StatusServiceUnavailable || draining.Load()
		})
		watched <- a
	}()
	eventually(t, "the watch has come", func() bool { return old.polls(t) == 1 })
	p.replica(t, "api")
	p.compared(t)
	if p.URL == old.URL {
		t.Fatal("the second replica has the address of the first")
	}
	draining.Store(true)
	services["api"].stop(t)
	if a := receive(t, "the answer of the replica that drains", watched); a.Status == http.StatusOK {
		t.Errorf("it said %s; a pod that is being made is no failure", a.Text)
	}
	p.makeReady(t, pod)
	if !p.ready(t, user, pod) {
		t.Error("not ready")
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
}

// TestAPIDies: its clients lose their connections; the pods do not care.
func TestAPIDies(t *testing.T) {
	t.Parallel()
	const user = "api@dies.org"
	p, services := whole(t)
	pod := p.create(t, user, "unready")
	services["api"].kill(t)
	p.reaches(t, pod, events.Ready)
	p.replica(t, "api")
	p.compared(t)
	if !p.ready(t, user, pod) {
		t.Error("not ready")
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
}
