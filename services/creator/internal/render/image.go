package render

import (
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// placeholder is what manifests write where the site's own registry belongs.
const placeholder = "LOCALREGISTRY"

// localise puts the site's registry into an image reference. local says whether
// the reference asked for it.
func localise(image, registry string) (name string, local bool) {
	return strings.ReplaceAll(image, placeholder, registry), strings.Contains(image, placeholder)
}

// readable says why a node could not read an image reference, by the same rules.
func readable(image string) error {
	_, err := reference.ParseNormalizedNamed(image)

	return err
}

// images puts the site's registry into all image references of a pod and, where
// there is one, adds the secret to pull from it.
func images(pod *corev1.Pod, request Request) error {
	var (
		found faults
		local bool
	)

	visit := func(image *string) {
		name, asks := localise(*image, request.LocalRegistryURL)

		switch {
		case !asks:
			return
		case request.LocalRegistryURL == "":
			found.addf("image %q: this site has no registry of its own (localRegistryURL)", *image)
		default:
			if err := readable(name); err != nil {
				found.addf("image %q: with this site's registry it is %q, which is no image reference: %v", *image, name, err)
			}
		}

		*image, local = name, true
	}

	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			visit(&list[i].Image)
		}
	}

	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			visit(&image.Reference)
		}
	}

	secret := corev1.LocalObjectReference{Name: request.LocalRegistrySecret}
	if local && secret.Name != "" && !slices.Contains(pod.Spec.ImagePullSecrets, secret) {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, secret)
	}

	return found.err(ReasonManifestInvalid)
}
