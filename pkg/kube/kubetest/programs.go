package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"berth/pkg/kube/kubetest/internal/build"
)

// The versions that the modules in tools/kube pin; a test compares them.
const (
	kubernetesVersion = "v1.36.3"
	etcdVersion       = "v3.6.16"
	kwokVersion       = "v0.8.0"
)

// RootVariable is the environment variable with the folder of a Berth checkout, for programs that run outside of one and have to build.
const RootVariable = "BERTH_ROOT"

// progressEvery is the time between two lines while a build goes on.
const progressEvery = 10 * time.Second

// Paths are the programs of a cluster.
type Paths struct {
	Etcd, APIServer, ControllerManager, Scheduler, Kwok string
}

// Binaries returns the programs of a cluster from the user's cache folder (os.UserCacheDir, berth/kube, one folder a program and version). Those that are
// missing or damaged are built first from tools/kube, which is looked for in $BERTH_ROOT, and upwards from the working folder and from the
// running program. On 2 cores the first build takes about 8 minutes and later ones none; progress (none if nil) gets lines that say so.
//
// Several processes may call it at once: one builds, the others wait. It can be killed at any time, and goes on with the next program when it is
// called again.
func Binaries(ctx context.Context, progress io.Writer) (Paths, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Paths{}, fmt.Errorf("find the user's cache folder: %w", err)
	}
	if progress == nil {
		progress = io.Discard
	}
	config := build.Config{Cache: filepath.Join(cache, "berth", "kube"), Source: findSource, Progress: progress, Tick: progressEvery}
	etcd := build.Program{
		Name: "etcd", Version: etcdVersion, Module: "etcd", Package: "go.etcd.io/etcd/server/v3", Usual: 30 * time.Second,
	}
	apiServer := kubeProgram("kube-apiserver", 5*time.Minute)
	controllerManager := kubeProgram("kube-controller-manager", time.Minute)
	scheduler := kubeProgram("kube-scheduler", 10*time.Second)
	kwok := build.Program{
		Name: "kwok", Version: kwokVersion, Module: "kwok", Package: "sigs.k8s.io/kwok/cmd/kwok", Usual: 90 * time.Second,
	}
	if err := config.All(ctx, []build.Program{etcd, apiServer, controllerManager, scheduler, kwok}); err != nil {
		return Paths{}, err
	}
	return Paths{
		Etcd: config.Path(etcd), APIServer: config.Path(apiServer), ControllerManager: config.Path(controllerManager),
		Scheduler: config.Path(scheduler), Kwok: config.Path(kwok),
	}, nil
}

func kubeProgram(name string, usual time.Duration) build.Program {
	return build.Program{Name: name, Version: kubernetesVersion, Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/" + name, Usual: usual}
}

// findSource returns the folder tools/kube of the checkout.
func findSource() (string, error) {
	if root := os.Getenv(RootVariable); root != "" {
		if source, ok := sourceIn(root); ok {
			return source, nil
		}
		return "", fmt.Errorf("%s=%s is not a Berth checkout: it has no tools/kube", RootVariable, root)
	}
	cwd, cwdErr := os.Getwd()
	exe, exeErr := os.Executable()
	for _, start := range []string{cwd, filepath.Dir(exe)} {
		for dir := start; filepath.IsAbs(dir); dir = filepath.Dir(dir) {
			if source, ok := sourceIn(dir); ok {
				return source, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.Join(
		fmt.Errorf("the control plane is not built yet, and its modules (tools/kube) are not above %s or %s: "+
			"run this inside the Berth checkout once, or set %s to it", cwd, filepath.Dir(exe), RootVariable), cwdErr, exeErr)
}

func sourceIn(root string) (string, bool) {
	source := filepath.Join(root, "tools", "kube")
	_, err := os.Stat(filepath.Join(source, "kubernetes", "go.mod"))
	return source, err == nil
}
