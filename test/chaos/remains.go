package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/cmd/devstack/stack/project"
	"berth/pkg/events"
	"berth/test/chaos/verdict"
)

// most is how many messages of a subject the stream keeps.
const most = 64

// lost reads the whole log again and returns what it does not have any more.
func (o *observer) lost(ctx context.Context) ([]uint64, error) {
	there := map[uint64]bool{}
	next := uint64(1)
	for {
		message, err := o.message(ctx, next)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the log again: %w", err)
		}
		there[message.Sequence] = true
		next = message.Sequence + 1
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var lost []uint64
	for _, entry := range o.log {
		if subject := o.at[entry.Sequence]; !there[entry.Sequence] && o.subjects[subject] < most {
			lost = append(lost, entry.Sequence)
		}
	}
	return lost, nil
}

// left says what there is of everything that should be gone.
func (o *observer) left(ctx context.Context) (verdict.Left, error) {
	var left verdict.Left
	list, err := o.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return left, fmt.Errorf("list pods: %w", err)
	}
	for _, pod := range list.Items {
		left.Pods = append(left.Pods, fmt.Sprintf("%s uid %s", pod.Name, pod.UID))
	}
	if left.Belongings, err = o.belongings(ctx); err != nil {
		return left, err
	}
	if left.Commands, err = o.stored(ctx, events.CommandStream); err != nil {
		return left, err
	}
	left.Commands = slices.DeleteFunc(left.Commands, lasting)
	left.DeadLetters, err = o.stored(ctx, events.DeadLetterStream)
	return left, err
}

// lasting says that a stored command is a timer that nobody takes back: it finds nothing to do when it fires.
func lasting(stored string) bool {
	subject, _, _ := strings.Cut(stored, " ")
	return strings.Contains(subject, ".timer.") && !strings.HasSuffix(subject, "."+string(events.TimerCreate)) &&
		!strings.HasSuffix(subject, "."+string(events.TimerDelete)) && !strings.HasSuffix(subject, "."+string(events.TimerRecompute))
}

// belongings returns what there is besides pods that belongs to one.
func (o *observer) belongings(ctx context.Context) (all []string, err error) {
	add := func(kind string, object metav1.Object) { all = append(all, kind+" "+object.GetName()) }
	core, options := o.kube.CoreV1(), metav1.ListOptions{}
	services, err := core.Services(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	for i := range services.Items {
		add("service", &services.Items[i])
	}
	ingresses, err := o.kube.NetworkingV1().Ingresses(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list ingresses: %w", err)
	}
	for i := range ingresses.Items {
		add("ingress", &ingresses.Items[i])
	}
	// The claims of all projects are the site's.
	options.LabelSelector = project.Others
	claims, err := core.PersistentVolumeClaims(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	for i := range claims.Items {
		add("claim", &claims.Items[i])
	}
	volumes, err := core.PersistentVolumes().List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for i := range volumes.Items {
		add("volume", &volumes.Items[i])
	}
	tokens, err := o.stored(ctx, events.TokenStream)
	return append(all, tokens...), err
}

// stored returns the subjects of a stream's messages, and the headers that say why.
func (o *observer) stored(ctx context.Context, name string) ([]string, error) {
	stream, err := o.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", name, err)
	}
	var all []string
	for next := uint64(1); ; {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", name, err)
		}
		all = append(all, fmt.Sprintf("%s %v of %s", message.Subject, message.Header, message.Time.Format(time.TimeOnly)))
		next = message.Sequence + 1
	}
}
