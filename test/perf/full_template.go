package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

// fullFloor makes user 0's pod through Berth, copies what there is of it, and
// removes it.
func (s *site) fullFloor(ctx context.Context, b *berth, token string) (*fullFloor, error) {
	name, err := b.create(ctx, userID(0))
	if err != nil {
		return nil, err
	}
	core := s.clients.CoreV1()
	pod, err := core.Pods(s.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get pod: %w", err)
	}
	storage := kube.StorageName(userID(0), false)
	claim, errClaim := core.PersistentVolumeClaims(s.namespace).Get(ctx, storage, metav1.GetOptions{})
	volume, errVolume := core.PersistentVolumes().Get(ctx, storage, metav1.GetOptions{})
	service, errService := core.Services(s.namespace).Get(ctx, name+kube.SuffixHTTP, metav1.GetOptions{})
	ingress, errIngress := s.clients.NetworkingV1().Ingresses(s.namespace).Get(ctx, name+kube.SuffixIngress, metav1.GetOptions{})
	if err := errors.Join(errClaim, errVolume, errService, errIngress); err != nil {
		return nil, fmt.Errorf("look at the first pod's objects: %w", err)
	}
	plain, err := newFloor(ctx, s.clients, s.watching, pod)
	if err != nil {
		return nil, err
	}
	f := &fullFloor{floor: plain, config: s.config, token: token, storages: map[string]*storageLife{}}
	// The names and labels of the floor's volumes are others, or Berth, whose they are not, would look at them.
	f.floor.template = floorNames(f.floor.template)
	volume.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: floorNamespace, Name: claim.Name}
	volume.Status, claim.Status = corev1.PersistentVolumeStatus{}, corev1.PersistentVolumeClaimStatus{}
	service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil
	for _, labels := range []map[string]string{volume.Labels, claim.Labels} {
		labels["floor-server"] = labels[kube.LabelServer]
		delete(labels, kube.LabelServer)
	}
	for _, one := range []struct {
		object metav1.Object
		to     *string
	}{{volume, &f.volume}, {claim, &f.claim}, {service, &f.service}, {ingress, &f.ingress}} {
		text, err := objectTemplate(one.object)
		if err != nil {
			return nil, err
		}
		*one.to = floorNames(text)
	}
	return f, b.remove(ctx, userID(0), name)
}

// objectTemplate is an object as its maker sent it, in JSON.
func objectTemplate(object metav1.Object) (string, error) {
	object.SetNamespace("")
	object.SetUID("")
	object.SetResourceVersion("")
	object.SetGeneration(0)
	object.SetCreationTimestamp(metav1.Time{})
	object.SetManagedFields(nil)
	object.SetFinalizers(nil)
	annotations := object.GetAnnotations()
	for key := range annotations {
		if strings.HasPrefix(key, "pv.kubernetes.io/") {
			delete(annotations, key)
		}
	}
	object.SetAnnotations(annotations)
	text, err := json.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("encode a template: %w", err)
	}
	return string(text), nil
}

func floorNames(text string) string {
	return strings.ReplaceAll(text, "user-storage-", "floor-storage-")
}

// forUser fills a template for a user.
func forUser[T any](template, user string) (*T, error) {
	local := func(user string) string { return user[:strings.IndexByte(user, '@')] }
	into := new(T)
	if err := json.Unmarshal([]byte(strings.ReplaceAll(template, local(userID(0)), local(user))), into); err != nil {
		return nil, fmt.Errorf("read a template: %w", err)
	}
	return into, nil
}
