package app

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"berth/pkg/kube"
	"berth/services/watcher/internal/diff"
)

// settled is how long after a pod its services and ingress are there for certain.
const settled = 10 * time.Second

// belongingsLister asks the API server for services and ingresses; see package watch.
type belongingsLister interface {
	ListBelongings(ctx context.Context) ([]corev1.Service, []networkingv1.Ingress, error)
	Belongings(ctx context.Context, pod string) ([]corev1.Service, []networkingv1.Ingress, error)
}

// belongings finds the services and the ingress of a pod that is adopted: in a list of
// all that a comparison makes, or else by their names. Services and ingresses are not
// watched. It is safe for concurrent use.
type belongings struct {
	lister belongingsLister

	mu        sync.Mutex
	listed    time.Time // When the list was begun; zero for none.
	services  map[string][]corev1.Service
	ingresses map[string][]networkingv1.Ingress
}

// list makes the list that is good for the pods that are there now.
func (b *belongings) list(ctx context.Context) error {
	begun := time.Now()
	services, ingresses, err := b.lister.ListBelongings(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listed, b.services, b.ingresses = begun, byPod(services), byPod(ingresses)
	return nil
}

// byPod sorts objects by the pods that they name; which are theirs is decided later.
func byPod[T any, P interface {
	*T
	GetLabels() map[string]string
}](all []T) map[string][]T {
	sorted := map[string][]T{}
	for i := range all {
		pod := P(&all[i]).GetLabels()[kube.LabelCreatedForPod]
		sorted[pod] = append(sorted[pod], all[i])
	}
	return sorted
}

// drop forgets the list when the comparison is over: it is about to be out of date.
func (b *belongings) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listed, b.services, b.ingresses = time.Time{}, nil, nil
}

// of returns what belongs to a pod.
func (b *belongings) of(ctx context.Context, name string, pod diff.Pod) (diff.Belongings, error) {
	b.mu.Lock()
	good := !b.listed.IsZero() && b.listed.Sub(pod.Created) > settled
	services, ingresses := b.services[name], b.ingresses[name]
	b.mu.Unlock()
	if !good {
		var err error
		if services, ingresses, err = b.lister.Belongings(ctx, name); err != nil {
			return diff.Belongings{}, err
		}
	}
	return diff.BelongingsOf(name, pod, services, ingresses), nil
}
