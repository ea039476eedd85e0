package app

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
)

// confirms is how many questions about addresses are answered at once.
const confirms = 64

// confirm asks the API server whether a pod is alive and has an address now, and no
// other pod of the namespace has it. A log-in may depend on it, so whatever is in doubt
// is a no.
//
// Each answer costs a GET, and a LIST by the address. That is no poll: it is asked when
// somebody asks, and what was seen before is no answer, since addresses are used again.
// The LIST comes last, so that it shows who has got the address meanwhile.
func (a *App) confirm(ctx context.Context, question natsbus.Address) (bool, error) {
	asked, err := netip.ParseAddr(question.IP)
	if err != nil {
		return false, nil //nolint:nilerr // What is no address is nobody's.
	}
	asked = asked.Unmap()
	pod, err := a.watch.Pod(ctx, question.Pod)
	if err != nil || pod == nil || string(pod.UID) != question.UID || !owns(pod, asked) {
		return false, err
	}
	there, err := a.watch.PodsAt(ctx, asked.String())
	if err != nil {
		return false, err
	}
	for i := range there {
		same := there[i].UID == pod.UID
		if same && !owns(&there[i], asked) || !same && contests(&there[i], asked) {
			return false, nil
		}
	}
	return true, nil
}

// owns says whether a pod is a user's that lives, and an address its own. Of a pod
// whose node does not answer nobody knows whether it lives.
func owns(pod *corev1.Pod, address netip.Addr) bool {
	state := kube.Observe(pod, nil)
	return pod.Status.Phase != corev1.PodUnknown && !state.Deleting && !state.Ended && !state.HostNetwork && kube.Ours(pod) && has(state, address)
}

// contests says whether a pod may send from an address. One that is being deleted may,
// and one whose node is lost, since both may run still; one on its node's network may
// anyway. One that has ended keeps the address in its status alone.
func contests(pod *corev1.Pod, address netip.Addr) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return !ended && has(kube.Observe(pod, nil), address)
}

func has(state kube.State, address netip.Addr) bool {
	return slices.ContainsFunc(state.IPs, func(text string) bool {
		ip, err := netip.ParseAddr(text)
		return err == nil && ip.Unmap() == address
	})
}
