package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"berth/cmd/devstack/stack/project"
)

// fullManifest is a pod with everything that one can ask for, and one token, whose
// file is %s in /tmp: a command in a simulated pod runs on this machine.
const fullManifest = `apiVersion: v1
kind: Pod
metadata:
  name: full
  annotations:
    sciencedata.dk/ingress-port: "8888"
    sciencedata.dk/copy-token: %s
spec:
  containers:
    - name: notebook
      image: docker.io/jupyter/base-notebook:python-3.11
      ports:
        - containerPort: 8888
      volumeMounts:
        - name: sciencedata
          mountPath: /home/jovyan/work
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
`

// The most that Berth may ask of the API server for a full pod (issue 4): 5 objects
// are made and removed, and one command is run.
const (
	mostFullWrites = 10
	mostExecs      = 1
)

// measureFull is measurePods with pods that have storage, a service, an ingress and
// a token.
func measureFull(ctx context.Context, l lab, r *report) (err error) {
	token := "berth-perf-" + strings.ToLower(rand.Text()[:8]) + ".token"
	file := filepath.Join("/tmp", token)
	if err := writeForAll(file, "0123456789abcdef0123456789abcdef"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	return l.withSite(ctx, func(ctx context.Context, s *site) error {
		if err := s.serve("everything.yaml", fmt.Sprintf(fullManifest, token)); err != nil {
			return err
		}
		berth := newBerth(s.URL, s.ManifestsURL+"/everything.yaml", s.clients, s.namespace, l.plan.Concurrency)
		defer berth.close()
		berth.token = token
		floor, err := s.fullFloor(ctx, berth, token)
		if err != nil {
			return fmt.Errorf("make a first pod: %w", err)
		}
		b := bench{
			plan: l.plan, meter: newMeter(s.clients), progress: l.progress, floor: floor, berth: berth,
			overspent: overspentFull,
		}
		got, failures, err := b.run(ctx)
		r.Full, r.Failures = got, append(r.Failures, failures...)
		return err
	})
}

// writeForAll writes a file that the commands of simulated pods, which run as
// nobody, can read.
func writeForAll(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o644))
	if err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// overspentFull is overspent for full pods.
func overspentFull(own map[string]int, pods int) (faults []string) {
	written, execs := 0, 0
	for key, n := range own {
		_, resource, _ := strings.Cut(key, " ")
		switch {
		case resource == "leases":
		case strings.HasSuffix(resource, "/exec"):
			execs += n
		case writes(key):
			written += n
		case strings.HasPrefix(key, "LIST "):
			faults = append(faults, fmt.Sprintf("Berth sent %s %d times; its watches tell it that", key, n))
		}
	}
	if written == 0 && pods > 0 {
		faults = append(faults, "no request of Berth was seen: it does not run in this process")
	}
	if written > mostFullWrites*pods {
		faults = append(faults, fmt.Sprintf("Berth sent %d writes for %d full pods; %d for each are the most", written, pods, mostFullWrites))
	}
	if execs > mostExecs*pods {
		faults = append(faults, fmt.Sprintf("Berth ran %d commands in %d pods; %d in each are the most", execs, pods, mostExecs))
	}
	return faults
}

// nothingLeft returns an error unless all the namespace's services, ingresses and
// claims, and all volumes, are gone, but for those of the projects.
func nothingLeft(ctx context.Context, clients kubernetes.Interface, namespace string) error {
	var errs []error
	count := func(kind string, list runtime.Object, err error) {
		switch {
		case err != nil && !apierrors.IsNotFound(err):
			errs = append(errs, fmt.Errorf("list %s: %w", kind, err))
		case err == nil && meta.LenList(list) > 0:
			errs = append(errs, fmt.Errorf("%d %s are left in the cluster", meta.LenList(list), kind))
		}
	}
	core, all := clients.CoreV1(), metav1.ListOptions{LabelSelector: project.Others}
	services, err := core.Services(namespace).List(ctx, all)
	count("services", services, err)
	ingresses, err := clients.NetworkingV1().Ingresses(namespace).List(ctx, all)
	count("ingresses", ingresses, err)
	claims, err := core.PersistentVolumeClaims(namespace).List(ctx, all)
	count("claims", claims, err)
	volumes, err := core.PersistentVolumes().List(ctx, all)
	count("volumes", volumes, err)
	return errors.Join(errs...)
}
