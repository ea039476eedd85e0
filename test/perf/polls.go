package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"berth/pkg/kube/kubetest"
)

// polls is how long clients wait for an answer that could be given.
type polls struct {
	Polls int `json:"polls"`
	Pods  int `json:"pods"`
	// ReadyWithin is the time from the first pod that a bare watch in this process
	// sees ready to the last, in seconds.
	ReadyWithin float64 `json:"ready_within_s"`
	// Behind is from the time at which that watch sees a pod ready to the answer
	// that the client of its long poll gets.
	Behind quantiles `json:"behind_watch_ms"`
	Max    float64   `json:"behind_watch_max_ms"`
}

const (
	// pollsPerPod is how many clients wait for a pod. A small API server cannot
	// make as many pods ready within a second as there can be polls.
	pollsPerPod = 20
	// within is the time over which the pods are made ready.
	within = time.Second
	// quiet is the pause before: a poll counts as open when its request is there,
	// and then still looks what state its pod is in.
	quiet = 2 * time.Second
	// openLimit bounds the wait until all polls are open.
	openLimit = time.Minute
)

// waitingManifest is a pod that runs and is not ready until it is told so.
func waitingManifest() string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: waiting
  annotations:
    %s: %s
spec:
  containers:
    - name: main
      image: example.org/waiting:1
`, kubetest.StageAnnotation, kubetest.StageNeverReady)
}

// measurePolls makes pods that are not ready, opens long polls for each, makes
// the pods ready one after the other within a second, and looks when the answers
// come.
func measurePolls(ctx context.Context, l lab, r *report) error {
	if err := enoughFiles(l.plan.Polls); err != nil {
		return err
	}
	return l.withSite(ctx, func(ctx context.Context, s *site) error {
		if err := s.serve("waiting.yaml", waitingManifest()); err != nil {
			return err
		}
		client := newBerth(s.URL, s.ManifestsURL+"/waiting.yaml", s.clients, s.namespace, l.plan.Polls)
		defer client.close()
		crowd, err := gather(ctx, l, s, client)
		if err != nil {
			return err
		}
		got, failures, err := crowd.release(ctx)
		r.Polls, r.Failures = got, append(r.Failures, failures...)
		return err
	})
}

// crowd are pods that are not ready, by name, each with its user.
type crowd struct {
	lab    lab
	site   *site
	client *berth
	users  map[string]string
}

// gather makes the pods.
func gather(ctx context.Context, l lab, s *site, client *berth) (*crowd, error) {
	c := &crowd{lab: l, site: s, client: client, users: map[string]string{}}
	var mu sync.Mutex
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(l.plan.Concurrency)
	for n := 1; n <= l.plan.Polls/pollsPerPod && making.Err() == nil; n++ {
		group.Go(func() error {
			name, err := client.launch(making, userID(n))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.users[name] = userID(n)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("make the pods: %w", err)
	}
	return c, c.settle(ctx)
}

// settle waits until every pod has been scheduled and runs: then nothing but
// what is measured is left to do.
func (c *crowd) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("the pods do not come to run"))
	defer cancel()
	return poll(ctx, time.Second, func() (bool, error) {
		pods, err := c.site.clients.CoreV1().Pods(c.site.namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err != nil {
			return false, fmt.Errorf("list pods: %w", err)
		}
		return len(pods.Items) == len(c.users), nil
	})
}

// release opens the polls, makes the pods ready, and waits for the answers.
func (c *crowd) release(ctx context.Context) (*polls, []string, error) {
	w := newAnswers(slices.Collect(maps.Keys(c.users)))
	end, ended, err := watchPods(ctx, c.site.watching, c.site.namespace, func(kind watch.EventType, pod *corev1.Pod) {
		if kind != watch.Deleted && ready(pod) {
			w.see(pod.Name)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	for pod, user := range c.users {
		for range pollsPerPod {
			waiting.Go(func() { w.answer(pod, c.client.awaitReady(ctx, user, pod)) })
		}
	}
	if err := c.client.awaitOpen(ctx, pollsPerPod*len(c.users)); err != nil {
		return nil, nil, err
	}
	c.lab.say("polls: %d are open, for %d pods", pollsPerPod*len(c.users), len(c.users))
	if !pause(ctx, quiet) {
		return nil, nil, context.Cause(ctx)
	}
	if err := c.makeReady(ctx); err != nil {
		return nil, nil, err
	}
	select {
	case <-w.seenAll:
	case <-ended:
		return nil, nil, errors.New("the watch has ended")
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	waiting.Wait()
	return w.figures(), w.failures, nil
}

// makeReady says of each pod that it is ready, as its node would.
func (c *crowd) makeReady(ctx context.Context) error {
	const status = `{"status":{"conditions":[{"type":"Ready","status":"True","reason":null,"message":null},` +
		`{"type":"ContainersReady","status":"True","reason":null,"message":null}]}}`
	group, ctx := errgroup.WithContext(ctx)
	next := time.NewTicker(within / time.Duration(len(c.users)))
	defer next.Stop()
	for pod := range c.users {
		select {
		case <-next.C:
		case <-ctx.Done():
		}
		group.Go(func() error {
			_, err := c.site.clients.CoreV1().Pods(c.site.namespace).Patch(
				ctx, pod, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("make the pods ready: %w", err)
	}
	return nil
}

// pause waits for d, or less if ctx ends first; then it returns false.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitOpen waits until as many long polls for ready pods are open at the api.
func (b *berth) awaitOpen(ctx context.Context, polls int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, openLimit, fmt.Errorf("%d long polls are not open after %s", polls, openLimit))
	defer cancel()
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		text, err := b.get(ctx, "/metrics")
		if err != nil {
			return false, err
		}
		const name = `berth_http_long_polls{endpoint="/watch_create_pod"} `
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name); ok {
				n, err := strconv.Atoi(strings.TrimSpace(value))
				return n == polls, err
			}
		}
		return polls == 0, nil
	})
}

// poll asks again and again until the answer is yes or an error.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := done()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case ok || err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
