package render

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"berth/pkg/kube"
)

// check finds what is wrong with a manifest that is a well-formed Pod.
func (d *decoder) check(pod *corev1.Pod) {
	d.metadata(pod)

	if len(pod.Spec.Containers) == 0 {
		d.faultf("spec.containers", "at least one container is required")
	}

	names := map[string]bool{}
	d.containers("spec.initContainers", pod.Spec.InitContainers, names)
	d.containers("spec.containers", pod.Spec.Containers, names)

	d.volumes(pod)

	for i, volume := range pod.Spec.Volumes {
		if volume.Image != nil && volume.Image.Reference != "" {
			d.image(fmt.Sprintf("spec.volumes[%d].image.reference", i), volume.Image.Reference)
		}
	}

	switch pod.Spec.RestartPolicy {
	case "", corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		d.faultf("spec.restartPolicy", "is %q; it must be Always, OnFailure or Never", pod.Spec.RestartPolicy)
	}
}

func (d *decoder) metadata(pod *corev1.Pod) {
	for _, refused := range []struct {
		path string
		set  bool
	}{
		{"metadata.generateName", pod.GenerateName != ""},
		{"metadata.finalizers", len(pod.Finalizers) > 0},
		{"metadata.ownerReferences", len(pod.OwnerReferences) > 0},
	} {
		if refused.set {
			d.faultf(refused.path, "is not allowed in a manifest")
		}
	}

	if pod.Name == "" {
		d.faultf("metadata.name", "is required")
	} else {
		for _, fault := range validation.IsDNS1123Subdomain(pod.Name) {
			d.faultf("metadata.name", "%s", fault)
		}
	}

	d.kubernetes(metav1validation.ValidateLabels(pod.Labels, field.NewPath("metadata", "labels")))
	d.kubernetes(apivalidation.ValidateAnnotations(pod.Annotations, field.NewPath("metadata", "annotations")))

	if _, err := kube.TokenKeys(pod.Annotations); err != nil {
		d.faultf("metadata.annotations["+kube.AnnotationCopyToken+"]", "%v", err)
	}
}

// volumes checks that each mount has a volume, or is one that Berth adds, and that
// no volume is a user's storage: whose, only Berth says.
func (d *decoder) volumes(pod *corev1.Pod) {
	declared := declaredVolumes(pod)

	for i, volume := range pod.Spec.Volumes {
		if claim := volume.PersistentVolumeClaim; claim != nil && kube.ReservedClaim(claim.ClaimName) {
			d.faultf(fmt.Sprintf("spec.volumes[%d].persistentVolumeClaim.claimName", i),
				"is a user's storage: leave the volume out and mount %s instead", kube.VolumeUserStorage)
		}
	}

	for _, list := range []struct {
		path       string
		containers []corev1.Container
	}{{"spec.containers", pod.Spec.Containers}, {"spec.initContainers", pod.Spec.InitContainers}} {
		for i, container := range list.containers {
			for j, mount := range container.VolumeMounts {
				if declared[mount.Name] {
					continue
				}

				if _, fault := added(mount, ""); fault != "" {
					d.faultf(fmt.Sprintf("%s[%d].volumeMounts[%d]", list.path, i, j), "%s", fault)
				}
			}
		}
	}
}

// kubernetes adds faults that Kubernetes' own checks have found, in an order that
// does not depend on that of a map.
func (d *decoder) kubernetes(list field.ErrorList) {
	slices.SortFunc(list, func(a, b *field.Error) int {
		return strings.Compare(a.Error(), b.Error())
	})

	for _, fault := range list {
		d.faultf(fault.Field, "%s", fault.ErrorBody())
	}
}

func (d *decoder) containers(path string, list []corev1.Container, names map[string]bool) {
	for i, container := range list {
		path := fmt.Sprintf("%s[%d]", path, i)

		switch {
		case container.Name == "":
			d.faultf(path+".name", "is required")
		case names[container.Name]:
			d.faultf(path+".name", "another container is called %q", container.Name)
		}

		for _, fault := range validation.IsDNS1123Label(container.Name) {
			if container.Name != "" {
				d.faultf(path+".name", "%s", fault)
			}
		}

		names[container.Name] = true

		if container.Image == "" {
			d.faultf(path+".image", "is required")
		} else {
			d.image(path+".image", container.Image)
		}
	}
}

// image checks a reference as far as it is known: where the site's registry is,
// only Pod is told.
func (d *decoder) image(path, image string) {
	name, _ := localise(image, "registry.invalid")
	if err := readable(name); err != nil {
		d.faultf(path, "%q is no image reference: %v", image, err)
	}
}
