package app

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

// vanishedKept is how long it is remembered which pod of a name has gone.
const vanishedKept = 10 * time.Minute

// cluster is the newest that the watches said about each name. It is safe for
// concurrent use.
type cluster struct {
	// changed is called with the name of a pod about which there is news.
	changed func(name string)

	mu       sync.Mutex
	pods     map[string]seen
	vanished map[string]vanished
	signals  map[string]kube.Signal // By UID, only of pods that are not ready.
}

// seen is a pod. Its object is kept only as long as an event can say more about
// it than its status does: until it is ready.
type seen struct {
	pod     diff.Pod
	object  *corev1.Pod
	demands demands
}

// demands are what a pod asks for besides itself. They do not change, and are read
// while its variables are there.
type demands struct {
	storage   string
	tokenKeys []string
	sshUser   string
}

func demandsOf(pod *corev1.Pod) demands {
	user, _ := kube.Owner(pod)
	// What no manifest of ours can ask for is asked for by nobody.
	keys, err := kube.TokenKeys(pod.Annotations)
	if err != nil {
		keys = nil
	}
	return demands{storage: kube.StorageClaim(pod, user), tokenKeys: keys, sshUser: kube.SSHUser(pod)}
}

// vanished is a pod that the watch shows no more. It is certain that it is gone
// when it was being terminated; else it may just have lost the label that the
// watch selects by.
type vanished struct {
	uid     string
	at      time.Time
	certain bool
}

func newCluster(changed func(name string)) *cluster {
	return &cluster{
		changed: changed, pods: map[string]seen{}, vanished: map[string]vanished{}, signals: map[string]kube.Signal{},
	}
}

// Listed replaces what was known by a list of all pods.
func (c *cluster) Listed(pods []corev1.Pod) {
	listed := make(map[string]bool, len(pods))
	for i := range pods {
		listed[pods[i].Name] = true
		c.Seen(&pods[i])
	}
	var gone []string
	c.mu.Lock()
	for name, s := range c.pods {
		if !listed[name] {
			c.forget(name, s.pod.UID, s.pod.Deleting)
			gone = append(gone, name)
		}
	}
	c.mu.Unlock()
	for _, name := range gone {
		c.changed(name)
	}
}

// Seen takes in the state of a pod.
func (c *cluster) Seen(pod *corev1.Pod) {
	c.mu.Lock()
	known := c.pods[pod.Name]
	if known.pod.UID != "" && known.pod.UID != string(pod.UID) {
		c.forget(pod.Name, known.pod.UID, true)
	}
	c.put(pod, demandsOf(pod))
	c.mu.Unlock()
	c.changed(pod.Name)
}

// Offered takes in a pod of a list that the watch has not shown yet.
func (c *cluster) Offered(pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[pod.Name].pod.UID == "" && c.vanished[pod.Name].uid != string(pod.UID) {
		c.put(pod, demandsOf(pod))
	}
}

// Removed takes in that a pod is no more.
func (c *cluster) Removed(pod *corev1.Pod) {
	c.mu.Lock()
	c.forget(pod.Name, string(pod.UID), pod.DeletionTimestamp != nil)
	c.mu.Unlock()
	c.changed(pod.Name)
}

// Signalled takes in an event about a pod.
func (c *cluster) Signalled(name, uid string, signal kube.Signal) {
	c.mu.Lock()
	known := c.pods[name]
	waits := known.pod.UID == uid && known.object != nil
	// An event can come before its pod: the two watches know nothing of each other.
	if waits || known.pod.UID == "" {
		if old, had := c.signals[uid]; !had || !signal.Time.Before(old.Time) {
			c.signals[uid] = signal
		}
	}
	if waits {
		c.put(known.object, known.demands)
	}
	c.mu.Unlock()
	if waits {
		c.changed(name)
	}
}

// put observes a pod together with the newest event about it; c.mu is held.
func (c *cluster) put(object *corev1.Pod, d demands) {
	slim(object)
	var signal *kube.Signal
	if s, ok := c.signals[string(object.UID)]; ok {
		signal = &s
	}
	user, _ := kube.Owner(object)
	command, generation := kube.Life(object)
	s := seen{
		object: object, demands: d,
		pod: diff.Pod{
			State: kube.Observe(object, signal), User: user, Command: command, Generation: generation,
			Silo: object.Annotations[kube.AnnotationSilo], Ours: kube.Ours(object),
			Storage: d.storage, TokenKeys: d.tokenKeys, SSHUser: d.sshUser, Created: object.CreationTimestamp.Time,
		},
	}
	if s.pod.Ready || s.pod.Ended {
		s.object = nil
		delete(c.signals, s.pod.UID)
	}
	c.pods[object.Name] = s
}

// forget notes that the pod with a UID is shown no more; c.mu is held.
func (c *cluster) forget(name, uid string, certain bool) {
	if c.pods[name].pod.UID == uid {
		delete(c.pods, name)
	}
	delete(c.signals, uid)
	c.vanished[name] = vanished{uid: uid, at: time.Now(), certain: certain}
}

// Look returns what is known of a name: what is there, and the UID of what went.
func (c *cluster) Look(name string) (diff.Pod, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[name].pod, c.vanished[name].uid
}

// Certain says whether the pod with a UID is gone, and not only out of the
// watch's sight.
func (c *cluster) Certain(name, uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.vanished[name]
	return v.uid == uid && v.certain
}

// Tidy forgets what went long ago, and events whose pods never came.
func (c *cluster) Tidy(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, v := range c.vanished {
		if now.Sub(v.at) > vanishedKept {
			delete(c.vanished, name)
		}
	}
	known := make(map[string]bool, len(c.pods))
	for _, s := range c.pods {
		known[s.pod.UID] = true
	}
	for uid, s := range c.signals {
		if !known[uid] && now.Sub(s.Time) > vanishedKept {
			delete(c.signals, uid)
		}
	}
}

// slim drops what nobody here reads, variables above all.
func slim(pod *corev1.Pod) {
	pod.ManagedFields = nil
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Env, containers[i].EnvFrom = nil, nil
		}
	}
}
