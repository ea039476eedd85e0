// Package project has what devstack puts into its cluster for the pods of projects: the
// template, and the two claims that a site brings along.
package project

import (
	"cmp"
	"context"
	_ "embed" // The template.
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/service/config"
)

// Template is the sample template: a Pod as JSON, with placeholders.
//
//go:embed project.json
var Template string

// The image of the sample, where the site names none: simulated nodes pull nothing.
const (
	Image = "registry.example.org/project"
	Tag   = "2026.1"
)

// Provide makes the ConfigMap of the template, unless there is one: it may have been
// edited. What it makes has the given annotations.
func Provide(ctx context.Context, clients kubernetes.Interface, namespace string, site config.Projects, annotations map[string]string) error {
	_, err := clients.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: site.TemplateConfigMap, Annotations: annotations},
		Data:       map[string]string{site.TemplateKey: Template},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the template of the project pods: %w", err)
	}
	return nil
}

// Others is the label selector of claims and volumes that are not made here.
const Others = labelManagedBy + "!=devstack"

// labelManagedBy is Kubernetes' own: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels.
const labelManagedBy = "app.kubernetes.io/managed-by"

func labels() map[string]string { return map[string]string{labelManagedBy: "devstack"} }

// Claims are the claims of the sample template, or those that the site names in their
// place.
func Claims(site config.Projects) []string {
	return []string{cmp.Or(site.DataClaim, "projects-data"), cmp.Or(site.SoftwareClaim, "projects-software")}
}

// ProvideClaims makes the two claims, and volumes for them that only simulated nodes can
// mount.
func ProvideClaims(ctx context.Context, clients kubernetes.Interface, namespace string, site config.Projects) error {
	for _, claim := range Claims(site) {
		size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Ti")}
		volume := namespace + "-" + claim
		_, err := clients.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: volume, Labels: labels()},
			Spec: corev1.PersistentVolumeSpec{
				Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				ClaimRef:                      &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: namespace, Name: claim},
				PersistentVolumeSource:        corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "192.0.2.1", Path: "/" + claim}},
			},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make the volume of %s: %w", claim, err)
		}
		_, err = clients.CoreV1().PersistentVolumeClaims(namespace).Create(ctx, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: claim, Labels: labels()},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeName: volume, StorageClassName: new(""),
				Resources: corev1.VolumeResourceRequirements{Requests: size},
			},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make the claim %s: %w", claim, err)
		}
	}
	return nil
}
