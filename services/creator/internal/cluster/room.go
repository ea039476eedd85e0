package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// MakesRoom says whether there is room for a pod, given as JSON, when the one that has its name now is gone, whatever
// quotas count: it asks for no more than that one of anything. Without such a pod it is false. An error is that the
// API server cannot be asked, or that the text is no Pod.
func (c *Cluster) MakesRoom(ctx context.Context, pod json.RawMessage) (bool, error) {
	var next corev1.Pod
	if err := json.Unmarshal(pod, &next); err != nil {
		return false, fmt.Errorf("read pod: %w", err)
	}
	now, err := c.client.CoreV1().Pods(c.namespace).Get(ctx, next.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get pod %s: %w", next.Name, err)
	}
	return within(&next, now), nil
}

// within says whether no quota that has counted one pod can have too little for another one in its place.
func within(next, now *corev1.Pod) bool {
	options := resource.PodResourcesOptions{}
	// What quotas select pods by: https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes
	return next.Spec.PriorityClassName == now.Spec.PriorityClassName &&
		(next.Spec.ActiveDeadlineSeconds == nil) == (now.Spec.ActiveDeadlineSeconds == nil) &&
		noMore(resource.PodRequests(next, options), resource.PodRequests(now, options)) &&
		noMore(resource.PodLimits(next, options), resource.PodLimits(now, options))
}

func noMore(next, now corev1.ResourceList) bool {
	for name, amount := range next {
		if amount.Cmp(now[name]) > 0 {
			return false
		}
	}
	return true
}
