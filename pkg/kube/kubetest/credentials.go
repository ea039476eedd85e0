package kubetest

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"berth/pkg/kube/kubetest/internal/kwok"
	"berth/pkg/kube/kubetest/internal/pki"
)

// allRights is the group that may do everything.
const allRights = "system:masters"

// nobody is the user and group of exec when this process is root.
const nobody = 65534

// credentials writes what the programs of a start read, and returns the configuration of a client with all rights.
func credentials(opts Options, f files, url string, now time.Time) (*rest.Config, error) {
	if err := os.MkdirAll(filepath.Join(opts.Dir, pkiDir), 0o700); err != nil {
		return nil, err
	}
	ca, err := pki.NewCA(now)
	if err != nil {
		return nil, err
	}
	w := writer{dir: opts.Dir, ca: ca, url: url}
	w.file(f.ca, ca.Cert(), nil)
	w.pair(f.server)(ca.Server(now, "kube-apiserver", "kubernetes", "kubernetes.default", "kubernetes.default.svc"))
	w.pair(f.node)(ca.Server(now, "node"))
	w.pair(f.kubelet)(ca.Client(now, "kube-apiserver-kubelet-client", allRights))
	w.pair(f.accounts)(pki.SigningKey())
	// Its own role has what its controllers share; they would need a service account each.
	w.kubeconfig(f.controllerManager)(ca.Client(now, "system:kube-controller-manager", allRights))
	w.kubeconfig(f.scheduler)(ca.Client(now, "system:kube-scheduler"))
	w.kubeconfig(f.kwok)(ca.Client(now, "kwok", allRights))
	admin, err := ca.Client(now, "admin", allRights)
	w.kubeconfig(f.admin)(admin, err)
	w.kwokConfig(f.kwokConfig, opts.Exec)
	if w.err != nil {
		return nil, fmt.Errorf("write credentials: %w", w.err)
	}
	return &rest.Config{
		Host: url, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca.Cert(), CertData: admin.Cert, KeyData: admin.Key},
	}, nil
}

// writer writes files until the first error.
type writer struct {
	dir string
	ca  *pki.CA
	url string
	err error
}

func (w *writer) file(name string, data []byte, err error) {
	if w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.err = os.WriteFile(filepath.Join(w.dir, name), data, 0o600)
	}
}

func (w *writer) pair(f pairFiles) func(pki.Pair, error) {
	return func(pair pki.Pair, err error) {
		w.file(f.cert, pair.Cert, err)
		w.file(f.key, pair.Key, err)
	}
}

func (w *writer) kubeconfig(name string) func(pki.Pair, error) {
	return func(pair pki.Pair, err error) {
		if err != nil {
			w.file(name, nil, err)
			return
		}
		config := clientcmdapi.NewConfig()
		config.Clusters["berth"] = &clientcmdapi.Cluster{Server: w.url, CertificateAuthorityData: w.ca.Cert()}
		config.AuthInfos["berth"] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Cert, ClientKeyData: pair.Key}
		config.Contexts["berth"] = &clientcmdapi.Context{Cluster: "berth", AuthInfo: "berth", Namespace: "default"}
		config.CurrentContext = "berth"
		data, err := clientcmd.Write(*config)
		w.file(name, data, err)
	}
}

func (w *writer) kwokConfig(name string, exec bool) {
	var target *kwok.Exec
	if exec {
		// Nobody could not enter the cluster's folder.
		target = &kwok.Exec{Dir: os.TempDir()}
		if os.Getuid() == 0 {
			target.User = new(int64(nobody))
		}
	}
	data, err := kwok.Config(target)
	w.file(name, data, err)
}
