package app

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/kube"
)

// storages is the newest that the watches said about the claims and volumes of the
// users' storage. It is safe for concurrent use.
type storages struct {
	namespace string
	// bound is called when a claim has been bound, vanished when a claim or a volume is
	// no more. They must not block.
	bound    func(claim, uid string)
	vanished func(news storageNews)

	mu      sync.Mutex
	claims  map[string]stored
	volumes map[string]stored
	listed  bool // There was a list of the claims before.
}

// storageNews is that an object of a user's storage is no more.
type storageNews struct {
	user string
	// name is the claim's and the volume's; claim says which of the two it was.
	name, uid string
	claim     bool
}

// stored is a claim or a volume.
type stored struct {
	uid, user string
	bound     bool
}

func newStorages(namespace string, bound func(claim, uid string), vanished func(storageNews)) *storages {
	return &storages{namespace: namespace, bound: bound, vanished: vanished, claims: map[string]stored{}, volumes: map[string]stored{}}
}

// Present says whether there is a claim and whether there is a volume of a name.
func (s *storages) Present(name string) (claim, volume bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, claim = s.claims[name]
	_, volume = s.volumes[name]
	return claim, volume
}

// claims takes what the watch of claims sees.
type claims struct{ *storages }

// Listed implements watch.Sink.
func (c claims) Listed(all []corev1.PersistentVolumeClaim) {
	there := make(map[string]string, len(all))
	for i := range all {
		there[all[i].Name] = string(all[i].UID)
		c.Seen(&all[i])
	}
	c.missed(c.claims, there, true)
	c.mu.Lock()
	c.listed = true
	c.mu.Unlock()
}

// Seen implements watch.Sink.
func (c claims) Seen(claim *corev1.PersistentVolumeClaim) {
	user, ok := kube.StorageOwner(claim)
	if !ok {
		return
	}
	now := stored{uid: string(claim.UID), user: user, bound: claim.Status.Phase == corev1.ClaimBound}
	c.mu.Lock()
	before := c.claims[claim.Name]
	c.claims[claim.Name] = now
	// Who waits for a claim of the first list looks by itself soon enough.
	news := now.bound && c.listed && (!before.bound || before.uid != now.uid)
	c.mu.Unlock()
	if news {
		c.bound(claim.Name, now.uid)
	}
}

// Removed implements watch.Sink.
func (c claims) Removed(claim *corev1.PersistentVolumeClaim) {
	c.forget(c.claims, claim.Name, string(claim.UID), true)
}

// volumes takes what the watch of volumes sees.
type volumes struct{ *storages }

// Listed implements watch.Sink.
func (v volumes) Listed(all []corev1.PersistentVolume) {
	there := make(map[string]string, len(all))
	for i := range all {
		there[all[i].Name] = string(all[i].UID)
		v.Seen(&all[i])
	}
	v.missed(v.volumes, there, false)
}

// Seen implements watch.Sink. Volumes belong to no namespace: those for claims of
// another one are another Berth's.
func (v volumes) Seen(volume *corev1.PersistentVolume) {
	user, ok := kube.StorageOwner(volume)
	if ref := volume.Spec.ClaimRef; !ok || ref == nil || ref.Namespace != v.namespace || ref.Name != volume.Name {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.volumes[volume.Name] = stored{uid: string(volume.UID), user: user}
}

// Removed implements watch.Sink.
func (v volumes) Removed(volume *corev1.PersistentVolume) {
	v.forget(v.volumes, volume.Name, string(volume.UID), false)
}

// missed forgets what a list shows no more.
func (s *storages) missed(known map[string]stored, there map[string]string, claim bool) {
	s.mu.Lock()
	var gone []storageNews
	for name, o := range known {
		if there[name] != o.uid {
			gone = append(gone, storageNews{name: name, uid: o.uid, claim: claim})
		}
	}
	s.mu.Unlock()
	for _, news := range gone {
		s.forget(known, news.name, news.uid, claim)
	}
}

// forget notes that an object is no more, and tells.
func (s *storages) forget(known map[string]stored, name, uid string, claim bool) {
	s.mu.Lock()
	o, was := known[name]
	if was = was && o.uid == uid; was {
		delete(known, name)
	}
	s.mu.Unlock()
	if was {
		s.vanished(storageNews{user: o.user, name: name, uid: uid, claim: claim})
	}
}
