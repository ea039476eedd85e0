package render

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth/pkg/kube"
)

// localClaim begins the names of the claims of the site that the volume "local" is.
const localClaim = "local-claim-"

// declaredVolumes are the names of the volumes that a pod declares.
func declaredVolumes(pod *corev1.Pod) map[string]bool {
	declared := make(map[string]bool, len(pod.Spec.Volumes))
	for i := range pod.Spec.Volumes {
		declared[pod.Spec.Volumes[i].Name] = true
	}

	return declared
}

// added returns the name of the claim behind a mount whose volume is not declared,
// or says why there is none.
//
// The claim of a mount of "local" has its path in its name, with every "/" as "-",
// also the first one, as the claims of existing sites are called: /usr/local is
// local-claim--usr-local. Only "/" at the end is left out, since no name ends so.
func added(mount corev1.VolumeMount, user string) (claim, fault string) {
	switch mount.Name {
	case kube.VolumeUserStorage:
		return kube.StorageName(user, false), ""
	case kube.VolumeLocal:
		claim = localClaim + strings.ReplaceAll(strings.TrimRight(mount.MountPath, "/"), "/", "-")
		if faults := validation.IsDNS1123Subdomain(claim); len(faults) > 0 {
			return "", fmt.Sprintf("the mount path %q of volume %s makes %q, which is no name of a claim: %s",
				bounded(mount.MountPath), kube.VolumeLocal, bounded(claim), faults[0])
		}

		return claim, ""
	default:
		return "", fmt.Sprintf("no volume is called %q: declare it in spec.volumes, or mount %s (the user's storage) or %s (the site's software)",
			bounded(mount.Name), kube.VolumeUserStorage, kube.VolumeLocal)
	}
}

// volumes adds the volumes that are mounted and not declared. A pod has one volume
// of a name: where "local" is mounted at several paths, the first one names the claim,
// those of the containers before those of the init containers.
func volumes(pod *corev1.Pod, request Request) (warnings []string, err error) {
	var found faults

	declared := declaredVolumes(pod)
	claims := map[string]string{}

	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, mount := range list[i].VolumeMounts {
				if declared[mount.Name] {
					continue
				}

				claim, fault := added(mount, request.User)

				switch first, twice := claims[mount.Name]; {
				case fault != "":
					found.addf("container %q: %s", list[i].Name, fault)
				case !twice:
					claims[mount.Name] = claim
					pod.Spec.Volumes = append(pod.Spec.Volumes, claimVolume(mount.Name, claim))
				case first != claim:
					warnings = append(warnings, fmt.Sprintf("volume %s is claim %s at %s in container %s too",
						mount.Name, first, bounded(mount.MountPath), list[i].Name))
				}
			}
		}
	}

	if err := found.err(ReasonManifestInvalid); err != nil {
		return nil, err
	}

	if kube.StorageClaim(pod, request.User) == "" {
		return warnings, nil
	}

	switch {
	case request.Site.NFSStorageRoot == "":
		found.addf("volume %s: this site has no storage for its users (nfsStorageRoot)", kube.VolumeUserStorage)
	case request.SiloAddress == "":
		found.addf("volume %s: the address of silo %q in the data network is not known (dataAddress of the silo, or testingHost)",
			kube.VolumeUserStorage, request.Silo)
	}

	// By this the launch knows where the storage is.
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, kube.AnnotationDataAddress, request.SiloAddress)

	return warnings, found.err(ReasonStorageFailed)
}

func claimVolume(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
}
