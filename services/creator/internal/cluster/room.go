package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresource "k8s.io/component-helpers/resource"
)

// MakesRoom says of a pod, given as JSON, that a quota has refused with a message whether there is room for it when the
// one that has its name now is gone: it asks for no more than that, and by the quota's numbers there is enough then. It is false
// where that cannot be told. An error is that the API server cannot be
// asked, or that the text is no Pod.
func (c *Cluster) MakesRoom(ctx context.Context, pod json.RawMessage, refusal string) (bool, error) {
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
	exceeded, ok := parseExceeded(refusal)
	return ok && countedAlike(&next, now) && noMore(&next, now) && exceeded.without(now), nil
}

// noMore says that a pod asks for no more of anything than another one: of several quotas that are full the API server names one.
func noMore(next, now *corev1.Pod) bool {
	options := podresource.PodResourcesOptions{}
	within := func(next, now corev1.ResourceList) bool {
		for name, amount := range next {
			if amount.Cmp(now[name]) > 0 {
				return false
			}
		}
		return true
	}
	return within(podresource.PodRequests(next, options), podresource.PodRequests(now, options)) &&
		within(podresource.PodLimits(next, options), podresource.PodLimits(now, options))
}

// countedAlike says whether the quotas that count one pod count another one, too, as far as they select pods by what these say:
// https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes
func countedAlike(next, now *corev1.Pod) bool {
	running := now.Status.Phase != corev1.PodSucceeded && now.Status.Phase != corev1.PodFailed
	class := next.Spec.PriorityClassName == classAsked(now)
	effort := (now.Status.QOSClass == corev1.PodQOSBestEffort) == (len(podresource.PodLimits(next, podresource.PodResourcesOptions{})) == 0)
	return running && class && effort && (next.Spec.ActiveDeadlineSeconds == nil) == (now.Spec.ActiveDeadlineSeconds == nil)
}

// classAsked is the priority class that whoever made a pod has given it: to one without, the API server gives the cluster's own, where it
// has one, which is then not among the fields that somebody has set. It is that of the spec where nobody says who has set what.
func classAsked(pod *corev1.Pod) string {
	for _, set := range pod.ManagedFields {
		if set.FieldsV1 != nil && strings.Contains(set.FieldsV1.GetRawString(), `"f:priorityClassName"`) {
			return pod.Spec.PriorityClassName
		}
	}
	if len(pod.ManagedFields) == 0 {
		return pod.Spec.PriorityClassName
	}
	return ""
}

// exceeded is what a quota says of a pod for which it has no room: for each amount of which there is too little, how much the
// pod asks for, as it was admitted so far, how much is used, and how much there may be.
type exceeded struct{ requested, used, limited map[string]resource.Quantity }

// refusedByQuota is the message of the API server.
// https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go
var refusedByQuota = regexp.MustCompile(`exceeded quota: [^,]+, requested: (\S+), used: (\S+), limited: (\S+)$`)

func parseExceeded(refusal string) (exceeded, bool) {
	match := refusedByQuota.FindStringSubmatch(refusal)
	if match == nil {
		return exceeded{}, false
	}
	var lists [3]map[string]resource.Quantity
	for i, text := range match[1:] {
		lists[i] = map[string]resource.Quantity{}
		for amount := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(amount, "=")
			quantity, err := resource.ParseQuantity(value)
			if err != nil {
				return exceeded{}, false
			}
			lists[i][name] = quantity
		}
	}
	return exceeded{lists[0], lists[1], lists[2]}, true
}

// without says whether there is enough of all when a pod that was counted is gone.
func (e exceeded) without(now *corev1.Pod) bool {
	for name, needed := range e.requested {
		used, isUsed := e.used[name]
		limited, isLimited := e.limited[name]
		freed, known := countedOf(now, name)
		if !isUsed || !isLimited || !known {
			return false
		}
		needed.Add(used)
		needed.Sub(freed)
		if needed.Cmp(limited) > 0 {
			return false
		}
	}
	return true
}

// countedOf is how much a quota counts of a pod under a name.
// https://kubernetes.io/docs/concepts/policy/resource-quotas/#types-of-resource-quota
func countedOf(pod *corev1.Pod, name string) (amount resource.Quantity, known bool) {
	options := podresource.PodResourcesOptions{}
	requests := podresource.PodRequests(pod, options)
	of, isLimit := strings.CutPrefix(name, "limits.")
	switch asked, isRequest := strings.CutPrefix(name, "requests."); {
	case name == "pods", name == "count/pods":
		return resource.MustParse("1"), true
	case isLimit:
		return podresource.PodLimits(pod, options)[corev1.ResourceName(of)], true
	case isRequest:
		return requests[corev1.ResourceName(asked)], true
	}
	amount, known = requests[corev1.ResourceName(name)]
	return amount, known
}
