package kubetest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// namespaceTimeout is for a busy machine; a namespace usually takes milliseconds.
const namespaceTimeout = 2 * time.Minute

// Namespace makes a namespace for one test, in which pods can be created, and returns its name. It is deleted after the test.
func (c *Cluster) Namespace(tb testing.TB) string {
	tb.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), namespaceTimeout)
	defer cancel()
	namespaces := client.CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatalf("create namespace: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), namespaceTimeout)
		defer cancel()
		if err := namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			tb.Errorf("delete namespace: %v", err)
		}
	})
	if err := accountExists(ctx, client, ns.Name); err != nil {
		tb.Fatalf("wait for the service account of namespace %s: %v", ns.Name, err)
	}
	return ns.Name
}

// Shared is one cluster for all tests of a package, which keep apart by a namespace each. It starts when the first test asks for it. The
// zero value is ready for use:
//
//	var shared kubetest.Shared
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }
type Shared struct {
	once    sync.Once
	dir     string
	cluster *Cluster
	err     error
}

// Cluster returns the running cluster.
func (s *Shared) Cluster(tb testing.TB) *Cluster {
	tb.Helper()
	s.once.Do(func() {
		// It outlives the test, so neither the test's context nor its folder will do.
		if s.dir, s.err = os.MkdirTemp("", "kubetest-"); s.err == nil { //nolint:usetesting // See above.
			s.cluster, s.err = Start(context.WithoutCancel(tb.Context()), Options{Dir: s.dir, Progress: os.Stderr})
		}
	})
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.cluster
}

// Wrap returns m with a Run that stops the cluster after the tests. The folder with its logs stays when they failed.
func (s *Shared) Wrap(m *testing.M) interface{ Run() int } { return sharedMain{s, m} }

type sharedMain struct {
	shared *Shared
	m      *testing.M
}

// Run runs the tests and returns their exit code, or 1 if the cluster does not stop.
func (w sharedMain) Run() int {
	code := w.m.Run()
	if w.shared.cluster == nil {
		return code
	}
	if err := w.shared.cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the logs of the cluster are in", w.shared.dir)
		return code
	}
	if err := os.RemoveAll(w.shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
