package app

import (
	"context"
	"net/netip"

	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
)

// confirms is how many questions about addresses are answered at once.
const confirms = 64

// confirm asks the API server whether a pod is alive and has an address now. A log-in
// may depend on it, so whatever is in doubt is a no.
func (a *App) confirm(ctx context.Context, question natsbus.Address) (bool, error) {
	asked, err := netip.ParseAddr(question.IP)
	if err != nil {
		return false, nil //nolint:nilerr // What is no address is nobody's.
	}
	pod, err := a.watch.Pod(ctx, question.Pod)
	if err != nil || pod == nil || string(pod.UID) != question.UID {
		return false, err
	}
	state := kube.Observe(pod, nil)
	if state.Deleting || state.Ended || state.HostNetwork || !kube.Ours(pod) {
		return false, nil
	}
	for _, ip := range state.IPs {
		if has, err := netip.ParseAddr(ip); err == nil && has.Unmap() == asked.Unmap() {
			return true, nil
		}
	}
	return false, nil
}
