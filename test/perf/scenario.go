package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"berth/cmd/devstack/stack"
	"berth/cmd/devstack/stack/manifests"
	"berth/pkg/kube/client"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

// scenario is one thing that can be measured.
type scenario struct {
	name, about string
	run         func(ctx context.Context, l lab, r *report) error
}

// scenarios are all of them, in the order in which they are run.
func scenarios() []scenario {
	return []scenario{
		{"pods", "users, many at once, make, watch, list and delete a pod each", measurePods},
		{"full", "the same with pods that have storage, a service, an ingress and a token", measureFull},
		{"projects", "project pods with a license, beside pods of a manifest without one", measureProjects},
		{"alone", "a user alone makes and deletes one pod after the other", measureAlone},
		{"polls", "many long polls are open when their pods become ready", measurePolls},
		{"abandon", "many long polls are opened and abandoned", measureAbandon},
		{"list", "get_pods with many pods in the log", measureList},
		{"start", "the start of an api with many pods in the log", measureStart},
	}
}

func aboutScenarios() string {
	var text strings.Builder
	for _, s := range scenarios() {
		fmt.Fprintf(&text, "                       %-8s %s\n", s.name, s.about)
	}
	return text.String()
}

// chosen reads a list of names, in any order and with repetitions.
func chosen(list string) ([]string, error) {
	var all []string
	for _, s := range scenarios() {
		all = append(all, s.name)
	}
	if list == "all" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no scenario %q, only %s", name, strings.Join(all, ", "))
		}
	}
	return names, nil
}

// plots says whether a plot of the plan's figures has anything to show.
func (p plan) plots() bool {
	return slices.Contains(p.Scenarios, "pods") || slices.Contains(p.Scenarios, "alone")
}

// lab is where a scenario is measured.
type lab struct {
	plan     plan
	log      zerolog.Logger
	progress io.Writer
	// site is what all scenarios share that need one; nil starts one for each.
	site *site
}

func (l lab) say(format string, args ...any) { fmt.Fprintf(l.progress, "perf: "+format+"\n", args...) }

// measure runs the scenarios of the plan, each with a folder and parts of its
// own. Wrong answers and broken promises are in the report; the error is for
// what kept it from measuring.
func measure(ctx context.Context, l lab) (report, error) {
	r := report{
		CPUs: runtime.NumCPU(), Durable: l.plan.Durable, Replicas: l.plan.Replicas, Processes: l.plan.Processes != "",
		Failures: []string{},
	}
	for _, s := range scenarios() {
		if !slices.Contains(l.plan.Scenarios, s.name) {
			continue
		}
		own := l
		own.plan.Dir = filepath.Join(l.plan.Dir, s.name)
		if err := os.Mkdir(own.plan.Dir, 0o700); err != nil {
			return report{}, fmt.Errorf("make a folder: %w", err)
		}
		l.say("%s: %s", s.name, s.about)
		if err := s.run(ctx, own, &r); err != nil {
			return report{}, fmt.Errorf("%s: %w", s.name, cmp.Or(context.Cause(ctx), err))
		}
	}
	return r, nil
}

// stopLimit bounds the stop of everything.
const stopLimit = time.Minute

// site is everything that runs, and a way to its cluster.
type site struct {
	*stack.Stack
	clients kubernetes.Interface
	// watching is for watches alone: events do not queue behind answers on the
	// same connection. Berth's watcher has one of its own, too.
	watching  kubernetes.Interface
	config    *rest.Config // For commands in pods.
	namespace string       // Where Berth makes its pods.
	dir       string       // Where the stack keeps everything.
	manifests string       // The folder of the manifests that are served.
}

// withSite starts everything, lets f measure, and stops everything, unless there is
// a site that is shared.
func (l lab) withSite(ctx context.Context, f func(ctx context.Context, s *site) error) (err error) {
	if l.site != nil {
		return f(ctx, l.site)
	}
	asked() // Before anybody uses client-go, which reads without a lock whom it tells.
	served := filepath.Join(l.plan.Dir, "manifests")
	if err := os.CopyFS(served, manifests.Files); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	settings := config.Default()
	// No comparison of the cluster with the log comes between the rounds, and no
	// pod is given up while a scenario makes it wait.
	settings.ResyncInterval, settings.TimeoutCreate, settings.TimeoutCreateMax = 24*time.Hour, time.Hour, time.Hour
	running, err := stack.Start(ctx, stack.Options{
		Listen: "127.0.0.1:0", Data: l.plan.Dir, Durable: l.plan.Durable, Config: settings, Manifests: served,
		Replicas: l.plan.Replicas, Processes: l.plan.Processes, Log: l.log, Progress: l.progress,
	})
	if err != nil {
		return err
	}
	var supervising sync.WaitGroup
	defer supervising.Wait()
	ctx, cancel := context.WithCancelCause(asLoad(ctx))
	defer cancel(nil)
	supervising.Go(func() {
		running.Wait(ctx)
		cancel(errors.New("a part of the stack has stopped"))
	})
	defer func() {
		stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer done()
		err = errors.Join(err, running.Stop(stopCtx))
	}()
	options := client.Options{Kubeconfig: running.Kubeconfig, Service: "perf", Version: service.Version(), QPS: -1}
	clients, restConfig, err := client.New(options)
	if err != nil {
		return err
	}
	watching, _, err := client.New(options)
	if err != nil {
		return err
	}
	return f(ctx, &site{
		Stack: running, clients: clients, watching: watching, config: restConfig, namespace: settings.Namespace,
		dir: l.plan.Dir, manifests: served,
	})
}

// serve adds a manifest to those that are served.
func (s *site) serve(name, text string) error {
	if err := os.WriteFile(filepath.Join(s.manifests, name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// sides are the two ways to a pod on a site, with as many lives at once.
func (s *site) sides(ctx context.Context, concurrency int) (*floor, *berth, error) {
	berth := newBerth(s.URL, s.ManifestsURL+"/notebook.yaml", s.clients, s.namespace, concurrency)
	template, err := berth.learn(ctx)
	if err != nil {
		berth.close()
		return nil, nil, fmt.Errorf("make a first pod: %w", err)
	}
	floor, err := newFloor(ctx, s.clients, s.watching, template)
	if err != nil {
		berth.close()
		return nil, nil, err
	}
	return floor, berth, nil
}
