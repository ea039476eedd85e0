package kubetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersions compares the versions with the modules that pin them: the cache is keyed by ours, and what is built is theirs.
func TestVersions(t *testing.T) {
	t.Parallel()
	source, err := findSource()
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{
		"kubernetes": "k8s.io/kubernetes " + kubernetesVersion,
		"etcd":       "go.etcd.io/etcd/server/v3 " + etcdVersion,
		"kwok":       "sigs.k8s.io/kwok " + kwokVersion,
	} {
		data, err := os.ReadFile(filepath.Join(source, module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		// Between blanks, so that v1.36.3 is not v1.36.30.
		if !strings.Contains(strings.Join(strings.Fields(string(data)), " "), " "+want+" ") {
			t.Errorf("tools/kube/%s/go.mod does not require %s", module, want)
		}
	}
}

func TestFindSource(t *testing.T) {
	here, err := findSource()
	if err != nil {
		t.Fatalf("from %s: %v", t.Name(), err)
	}
	root := filepath.Dir(filepath.Dir(here))

	t.Chdir(t.TempDir())
	if got, err := findSource(); err == nil || !strings.Contains(err.Error(), "set "+RootVariable) {
		t.Errorf("outside of the checkout: %s, %v; want an error that says what to do", got, err)
	}
	t.Setenv(RootVariable, root)
	if got, err := findSource(); err != nil || got != here {
		t.Errorf("with %s: %s, %v; want %s", RootVariable, got, err, here)
	}
	t.Setenv(RootVariable, t.TempDir())
	if got, err := findSource(); err == nil || !strings.Contains(err.Error(), "not a Berth checkout") {
		t.Errorf("with a wrong %s: %s, %v; want an error", RootVariable, got, err)
	}
}
