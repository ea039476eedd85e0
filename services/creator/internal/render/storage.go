package render

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

// What every user's claim and volume is like. The size is a form: NFS has no bounds
// of its own.
const (
	storageClass = "nfs"
	storageSize  = "10Gi"
)

// Storage is the storage of a user, as a volume and a claim make it known to a
// cluster.
type Storage struct {
	// Name is the name of both, as kube.StorageName made it.
	Name string
	User string
	// Namespace is the claim's.
	Namespace string
	// Server is the silo's address in the data network, and Root the folder on it that
	// has a folder for each user.
	Server, Root string
}

// StorageOf returns the storage that a rendered pod of a user mounts; the Name is
// empty if it mounts none, and for a project, which has none. It returns an *Error for a
// pod that mounts somebody else's, or a server that is not known.
//
// The pod may have been changed since it was rendered.
func StorageOf(pod *corev1.Pod, user, namespace string, site Site) (Storage, error) {
	var found faults

	own := map[string]bool{}
	if !kube.Project(user) {
		own[kube.StorageName(user, false)], own[kube.StorageName(user, true)] = true, true
	}

	for i := range pod.Spec.Volumes {
		claim := pod.Spec.Volumes[i].PersistentVolumeClaim
		if claim != nil && kube.ReservedClaim(claim.ClaimName) && !own[claim.ClaimName] {
			found.addf("volume %q: %s is not the storage of this user", bounded(pod.Spec.Volumes[i].Name), bounded(claim.ClaimName))
		}
	}

	name := kube.StorageClaim(pod, user)
	if name == "" {
		return Storage{}, found.err(ReasonStorageFailed)
	}

	server := pod.Annotations[kube.AnnotationDataAddress]
	if server == "" {
		found.addf("the pod's annotation %s is missing: nobody knows where the storage is", kube.AnnotationDataAddress)
	}

	if site.NFSStorageRoot == "" {
		found.addf("this site has no storage for its users (nfsStorageRoot)")
	}

	return Storage{Name: name, User: user, Namespace: namespace, Server: server, Root: site.NFSStorageRoot}, found.err(ReasonStorageFailed)
}

// Mount makes a pod mount the storage by its name, where it mounts it by another
// one of its user's.
func (s Storage) Mount(pod *corev1.Pod) {
	for i := range pod.Spec.Volumes {
		claim := pod.Spec.Volumes[i].PersistentVolumeClaim
		if claim != nil && (claim.ClaimName == kube.StorageName(s.User, false) || claim.ClaimName == kube.StorageName(s.User, true)) {
			claim.ClaimName = s.Name
		}
	}
}

func (s Storage) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: s.Name, Labels: kube.StorageLabels(s.Name, s.User, s.Server),
		Annotations: map[string]string{kube.AnnotationUser: s.User},
	}
}

// Volume returns the volume: the user's folder on the silo, which stays when the
// volume goes, for the claim alone.
func (s Storage) Volume() *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		ObjectMeta: s.meta(),
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(storageSize)},
			StorageClassName:              storageClass,
			MountOptions:                  []string{"hard", "nfsvers=4.1"},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{
				Server: s.Server, Path: fmt.Sprintf("%s/%s", strings.TrimRight(s.Root, "/"), s.User),
			}},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: s.Namespace, Name: s.Name,
			},
		},
	}
}

// Claim returns the claim of the volume.
func (s Storage) Claim() *corev1.PersistentVolumeClaim {
	class := storageClass
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: s.meta(),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			StorageClassName: &class,
			VolumeName:       s.Name,
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(storageSize)},
			},
		},
	}
	claim.Namespace = s.Namespace

	return claim
}
