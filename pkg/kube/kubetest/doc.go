// Package kubetest starts a real Kubernetes on this machine for tests and for development: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler built from their Go modules (tools/kube), and KWOK, which plays nodes and their kubelets. Linux only.
//
// The programs are built once and kept in the user's cache folder; see Binaries. A cluster lives in one folder and on free loopback ports, so
// that several can run at once; see Start. Tests use New, or Shared for one cluster a package.
//
// # Stages
//
// A plain pod is scheduled, running and ready within about 100 ms, and gone at once when it is deleted. The annotation StageAnnotation
// makes a pod play something else; the value is one of:
//
//	slow-pull          ContainerCreating with an event Pulling; after the delay an event Pulled, and ready
//	pull-fails         ErrImagePull and ImagePullBackOff in turn, with events Failed and BackOff, for ever
//	invalid-image      InvalidImageName with events InspectFailed and Failed, for ever
//	crash              runs but is not ready, exit code 1, CrashLoopBackOff, again with a higher restart count, for ever
//	fails              phase Failed with exit code 1, without ever being ready
//	completes          ready; after the delay phase Succeeded with exit code 0
//	crashes-later      ready; after the delay phase Failed with exit code 1
//	oom                ready; after the delay phase Failed with reason OOMKilled and exit code 137
//	evict              ready; after the delay phase Failed with the pod's reason Evicted, a message, and the condition DisruptionTarget
//	unready            runs but is not ready, with an event Unhealthy; ready after the delay
//	flaps              ready; not ready after the delay; ready again after the delay
//	never-ready        runs but is not ready, with an event Unhealthy, for ever
//	stuck-terminating  ready; a deletion takes the delay
//
// Another value stays in CreateContainerConfigError. The annotation DelayAnnotation sets the delay; it is a Go duration, "3s" if missing. A change
// of the pod by somebody else meanwhile starts the delay anew. States that follow each other by themselves are 300 ms apart. All containers of
// a pod share the state; init containers have always completed. A deletion ends every stage.
package kubetest
