package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
	"berth/services/deleter/internal/reap"
)

// All lists all services, ingresses, claims and volumes that are Berth's or the old
// backend's, and then all pods of the namespace, whoever's, in the order that
// [reap.Scene] asks for. It fails with the first list that does: what cannot be seen
// is not absent.
func (c *Cluster) All(ctx context.Context) ([]reap.Object, []reap.Pod, error) {
	var objects []reap.Object
	add := func(o reap.Object, ok bool) {
		if ok {
			objects = append(objects, o)
		}
	}
	made := metav1.ListOptions{LabelSelector: kube.LabelCreatedForPod}
	services, err := c.client.CoreV1().Services(c.namespace).List(ctx, made)
	if err != nil {
		return nil, nil, fmt.Errorf("list services: %w", err)
	}
	for i := range services.Items {
		add(belonging(reap.KindService, &services.Items[i]))
	}
	ingresses, err := c.client.NetworkingV1().Ingresses(c.namespace).List(ctx, made)
	if err != nil {
		return nil, nil, fmt.Errorf("list ingresses: %w", err)
	}
	for i := range ingresses.Items {
		add(belonging(reap.KindIngress, &ingresses.Items[i]))
	}
	stored := metav1.ListOptions{LabelSelector: kube.StorageSelector}
	claims, err := c.client.CoreV1().PersistentVolumeClaims(c.namespace).List(ctx, stored)
	if err != nil {
		return nil, nil, fmt.Errorf("list claims: %w", err)
	}
	for i := range claims.Items {
		claim, ok := storage(reap.KindClaim, &claims.Items[i])
		claim.Useless = claims.Items[i].Status.Phase == corev1.ClaimLost
		add(claim, ok)
	}
	volumes, err := c.client.CoreV1().PersistentVolumes().List(ctx, stored)
	if err != nil {
		return nil, nil, fmt.Errorf("list volumes: %w", err)
	}
	for i := range volumes.Items {
		add(c.volume(&volumes.Items[i]))
	}
	// Without a selector: a pod that somebody else has made may mount a claim, too.
	list, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list pods: %w", err)
	}
	pods := make([]reap.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, pod(&list.Items[i]))
	}
	return objects, pods, nil
}

func pod(p *corev1.Pod) reap.Pod {
	_, generation := kube.Life(p)
	seen := reap.Pod{Name: p.Name, Generation: generation}
	for i := range p.Spec.Volumes {
		if claim := p.Spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			seen.Claims = append(seen.Claims, claim.ClaimName)
		}
	}
	return seen
}
