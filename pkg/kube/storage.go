package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The labels that the claims and volumes of the users' storage have besides
// LabelUser and LabelDomain. Those of the old backend have the same.
const (
	// LabelName holds the object's own name.
	LabelName = "name"
	// LabelServer holds the address of the file server.
	LabelServer = "server"
)

// StorageSelector is the label selector of watches and lists of claims and
// volumes. Every one that Berth may touch matches it; see StorageOwner.
const StorageSelector = LabelName + "," + LabelUser + "," + LabelDomain + "," + LabelServer

// The words of the users' storage in a cluster.
const (
	storagePrefix = "user-storage-"
	// VolumeUserStorage is the name of a volume that a manifest may mount without
	// declaring it: the user's storage.
	VolumeUserStorage = "sciencedata"
	// VolumeLocal is the same for a claim of the site's, by the mount path.
	VolumeLocal = "local"
)

// StorageName returns the name of the claim and of the volume of a user's
// storage: user-storage-<user> with every character that a label forbids as "-".
// Users that differ only in these share it; where it is another's, taken asks for
// the name that no other user has: it ends in a hash of the user id. Both are
// valid RFC 1123 labels.
func StorageName(user string, taken bool) string {
	name := strings.Trim(storagePrefix+strings.Map(labelRune, user), "-")
	if !taken && len(name) <= validation.DNS1123LabelMaxLength {
		return name
	}

	if len(name)+hashLength+1 <= validation.DNS1123LabelMaxLength {
		// Nothing is cut: the name stays readable in whole.
		return name + "-" + shorten("", user, validation.DNS1123LabelMaxLength)
	}

	return shorten(name, user, validation.DNS1123LabelMaxLength)
}

// ReservedClaim says whether claims of this name are the users' storage, which
// nobody mounts but by Berth's doing.
func ReservedClaim(name string) bool { return strings.HasPrefix(name, storagePrefix) }

// StorageLabels returns the labels of a user's claim and volume.
func StorageLabels(name, user, server string) map[string]string {
	local, domain, _ := strings.Cut(user, "@")

	return map[string]string{
		LabelName: name, LabelUser: LabelValue(local), LabelDomain: LabelValue(domain), LabelServer: LabelValue(server),
	}
}

// StorageOwner returns the id of the user whose storage a claim or volume is. The
// annotation decides where there is one; those of the old backend have their
// labels user and domain. ok is false for everything else, which is not Berth's to
// touch.
func StorageOwner(obj metav1.Object) (user string, ok bool) {
	labels := obj.GetLabels()
	if labels[LabelName] != obj.GetName() || !strings.HasPrefix(obj.GetName(), storagePrefix) {
		return "", false
	}

	if user, annotated := obj.GetAnnotations()[AnnotationUser]; annotated {
		return owner(user)
	}

	local, hasUser := labels[LabelUser]
	domain, hasDomain := labels[LabelDomain]

	if !hasUser || !hasDomain {
		return "", false
	}

	user = local
	if domain != "" {
		user += "@" + domain
	}

	return user, userID(user)
}

// UsesClaim says whether a pod mounts a claim of its namespace.
func UsesClaim(pod *corev1.Pod, claim string) bool {
	for i := range pod.Spec.Volumes {
		if c := pod.Spec.Volumes[i].PersistentVolumeClaim; c != nil && c.ClaimName == claim && claim != "" {
			return true
		}
	}

	return false
}

// StorageClaim returns the name of the claim of its user's storage that a pod
// mounts, or nothing. A project has no storage of this kind: what its pod mounts is the
// site's.
func StorageClaim(pod *corev1.Pod, user string) string {
	if Project(user) {
		return ""
	}

	for _, taken := range []bool{false, true} {
		if name := StorageName(user, taken); UsesClaim(pod, name) {
			return name
		}
	}

	return ""
}
