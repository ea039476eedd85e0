package watch

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"berth/pkg/kube"
)

// forbiddenPause is how often it is tried again to watch volumes where that is
// forbidden: somebody has to change a role first.
const forbiddenPause = 30 * time.Second

// ListClaims asks for the claims of the users' storage, as the cluster has them now.
func (w *Watch) ListClaims(ctx context.Context) (*corev1.PersistentVolumeClaimList, error) {
	claims, err := w.client.CoreV1().PersistentVolumeClaims(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.StorageSelector})
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	return claims, nil
}

// ListVolumes asks for the volumes of the users' storage, those of other namespaces
// too. Where that is forbidden it returns nil and no error, and says so in the log:
// volumes belong to no namespace, and not every site lets Berth see them.
func (w *Watch) ListVolumes(ctx context.Context) (*corev1.PersistentVolumeList, error) {
	volumes, err := w.client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{LabelSelector: kube.StorageSelector})
	if apierrors.IsForbidden(err) {
		w.forbidden(err)
		return nil, nil //nolint:nilnil // Not seen is not the same as none, and no failure.
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	w.blind.Store(false)
	return volumes, nil
}

// Blind says that the API server does not let the watcher see volumes.
func (w *Watch) Blind() bool { return w.blind.Load() }

func (w *Watch) forbidden(err error) {
	w.blind.Store(true)
	w.log.Error().Err(err).Msg("The API server does not let the watcher see persistentvolumes: removals of users' storage are noticed late. " +
		"Give it a ClusterRole with get, list and watch of persistentvolumes")
}

// Claims follows the claims of the users' storage like [Watch.Pods].
func (w *Watch) Claims(ctx context.Context, from string, sink Sink[corev1.PersistentVolumeClaim]) error {
	stream := &stream{
		name: "persistentvolumeclaims", log: w.log, heard: new(atomic.Int64), silence: silence, version: from,
		open: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.LabelSelector = kube.StorageSelector
			return w.client.CoreV1().PersistentVolumeClaims(w.namespace).Watch(ctx, opts)
		},
		list: func(ctx context.Context) (string, error) {
			claims, err := w.ListClaims(ctx)
			if err != nil {
				return "", err
			}
			sink.Listed(claims.Items)
			return claims.ResourceVersion, nil
		},
		take: into(sink),
	}
	return stream.run(ctx)
}

// Volumes follows the volumes of the users' storage like [Watch.Pods], from a list on
// or, where from is empty, from a list of its own. Where that is forbidden it says so
// and tries again; everything else goes on without it.
func (w *Watch) Volumes(ctx context.Context, from string, sink Sink[corev1.PersistentVolume]) error {
	for ctx.Err() == nil {
		if from == "" {
			volumes, err := w.ListVolumes(ctx)
			if err != nil {
				return err
			}
			if volumes == nil {
				wait(ctx, forbiddenPause)
				continue
			}
			sink.Listed(volumes.Items)
			from = volumes.ResourceVersion
		}
		stream := w.volumes(from, sink)
		err := stream.run(ctx)
		if !apierrors.IsForbidden(err) {
			return err
		}
		w.forbidden(err)
		from = ""
		wait(ctx, forbiddenPause)
	}
	return nil
}

func (w *Watch) volumes(from string, sink Sink[corev1.PersistentVolume]) *stream {
	return &stream{
		name: "persistentvolumes", log: w.log, heard: new(atomic.Int64), silence: silence, version: from,
		open: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.LabelSelector = kube.StorageSelector
			return w.client.CoreV1().PersistentVolumes().Watch(ctx, opts)
		},
		list: func(ctx context.Context) (string, error) {
			volumes, err := w.ListVolumes(ctx)
			if err != nil {
				return "", err
			}
			if volumes == nil {
				return "", apierrors.NewForbidden(corev1.Resource("persistentvolumes"), "", nil)
			}
			sink.Listed(volumes.Items)
			return volumes.ResourceVersion, nil
		},
		take: into(sink), fatal: apierrors.IsForbidden,
	}
}

// wait waits for d, or less if ctx ends first.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Pod asks for a pod as the cluster has it now; nil where there is none of that name.
func (w *Watch) Pod(ctx context.Context, name string) (*corev1.Pod, error) {
	pod, err := w.client.CoreV1().Pods(w.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // No pod is an answer.
	}
	if err != nil {
		return nil, fmt.Errorf("get pod: %w", err)
	}
	return pod, nil
}

// PodsAt asks for the pods of the namespace, Berth's or not, that have an address as
// their first one, as Kubernetes writes it. Others may be among them. No selector
// knows the second address of a pod.
func (w *Watch) PodsAt(ctx context.Context, ip string) ([]corev1.Pod, error) {
	selector := fields.OneTermEqualSelector("status.podIP", ip).String()
	pods, err := w.client.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list pods by address: %w", err)
	}
	return pods.Items, nil
}

// ListBelongings asks for the services and ingresses that were made for pods.
func (w *Watch) ListBelongings(ctx context.Context) ([]corev1.Service, []networkingv1.Ingress, error) {
	made := metav1.ListOptions{LabelSelector: kube.LabelCreatedForPod}
	services, err := w.client.CoreV1().Services(w.namespace).List(ctx, made)
	if err != nil {
		return nil, nil, fmt.Errorf("list services: %w", err)
	}
	ingresses, err := w.client.NetworkingV1().Ingresses(w.namespace).List(ctx, made)
	if err != nil {
		return nil, nil, fmt.Errorf("list ingresses: %w", err)
	}
	return services.Items, ingresses.Items, nil
}

// Belongings asks for the services and the ingress that have the names of those of
// one pod.
func (w *Watch) Belongings(ctx context.Context, pod string) ([]corev1.Service, []networkingv1.Ingress, error) {
	var services []corev1.Service
	for _, suffix := range []string{kube.SuffixHTTP, kube.SuffixSSH} {
		service, err := w.client.CoreV1().Services(w.namespace).Get(ctx, pod+suffix, metav1.GetOptions{})
		if err == nil {
			services = append(services, *service)
		} else if !apierrors.IsNotFound(err) {
			return nil, nil, fmt.Errorf("get service: %w", err)
		}
	}
	var ingresses []networkingv1.Ingress
	ingress, err := w.client.NetworkingV1().Ingresses(w.namespace).Get(ctx, pod+kube.SuffixIngress, metav1.GetOptions{})
	if err == nil {
		ingresses = append(ingresses, *ingress)
	} else if !apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("get ingress: %w", err)
	}
	return services, ingresses, nil
}
