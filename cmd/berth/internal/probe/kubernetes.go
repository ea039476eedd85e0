package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/kube"
)

// server is an API server. It is asked over plain HTTPS: the typed client knows
// every kind that there is, which would make the program several times as large.
type server struct {
	client *http.Client
	host   string
}

// askKubernetes looks at the cluster, if it is said where it is.
func askKubernetes(ctx context.Context, s Site) doctor.Kubernetes {
	k := doctor.Kubernetes{Asked: s.Kubeconfig != "", Namespace: s.Namespace}
	if !k.Asked {
		return k
	}
	k.Server = s.Kubeconfig
	api, err := open(s)
	if err != nil {
		k.Fault = err.Error()
		return k
	}
	defer api.client.CloseIdleConnections()
	k.Server = api.host

	asked := time.Now()
	var info version.Info
	status, header, err := api.get(ctx, &info, "version")
	answered := time.Now()
	switch {
	case err != nil:
		k.Fault = plain(err)
		return k
	case status != http.StatusOK:
		k.Fault = refusal(status)
		return k
	}
	k.Version, k.Took, k.Skew = info.GitVersion, answered.Sub(asked).Seconds(), dateSkew(header, asked, answered)
	if s.Namespace == "" {
		return k
	}
	api.namespace(ctx, &k)
	if !k.NamespaceMissing {
		api.lease(ctx, &k, "berth-watcher-"+s.Cluster)
		api.pods(ctx, &k)
	}
	return k
}

// open reads the kubeconfig.
func open(s Site) (*server, error) {
	files := filepath.SplitList(s.Kubeconfig)
	for _, file := range files {
		// client-go passes over files that are missing; one that was named is meant.
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("read kubeconfig: %w", err)
		}
	}
	rules := clientcmd.ClientConfigLoadingRules{Precedence: files}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig: %w", err)
	}
	config.UserAgent = "berth-doctor/" + s.Version
	config.Timeout = requestTimeout
	if config.Proxy == nil {
		// Client-go's own default; said here it leads to a transport of its own, which can be closed.
		config.Proxy = http.ProxyFromEnvironment
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig: %w", err)
	}
	host, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig: %w", err)
	}
	return &server{client, host.String()}, nil
}

// get reads an object. It returns an error where there is no answer, or none
// that can be read; a refusal is a status.
func (s *server) get(ctx context.Context, into any, path ...string) (int, http.Header, error) {
	return s.list(ctx, into, nil, path...)
}

func (s *server) list(ctx context.Context, into any, query url.Values, path ...string) (int, http.Header, error) {
	u, err := url.Parse(s.host)
	if err != nil {
		return 0, nil, err
	}
	u = u.JoinPath(path...)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if query != nil {
		req.Header.Set("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		err = json.NewDecoder(res.Body).Decode(into)
	}
	return res.StatusCode, res.Header, err
}

// refusal says what a status other than 200 means.
func refusal(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "the server refuses these credentials"
	case http.StatusForbidden:
		return "these credentials may not do it"
	default:
		return fmt.Sprintf("the server answers %d %s", status, http.StatusText(status))
	}
}

// fault says why an object could not be read; empty where it was, or is missing.
func fault(status int, err error) string {
	switch {
	case err != nil:
		return plain(err)
	case status == http.StatusOK, status == http.StatusNotFound:
		return ""
	default:
		return refusal(status)
	}
}

func (s *server) namespace(ctx context.Context, k *doctor.Kubernetes) {
	var meta metav1.PartialObjectMetadata
	status, _, err := s.get(ctx, &meta, "api", "v1", "namespaces", k.Namespace)
	k.NamespaceFault, k.NamespaceMissing = fault(status, err), status == http.StatusNotFound
}

func (s *server) lease(ctx context.Context, k *doctor.Kubernetes, name string) {
	var lease coordinationv1.Lease
	status, _, err := s.get(ctx, &lease, "apis", "coordination.k8s.io", "v1", "namespaces", k.Namespace, "leases", name)
	k.LeaseFault, k.LeaseMissing = fault(status, err), status == http.StatusNotFound
	if spec := lease.Spec; spec.HolderIdentity != nil {
		k.LeaseHolder = *spec.HolderIdentity
		if spec.RenewTime != nil {
			k.LeaseAge = max(time.Since(spec.RenewTime.Time), 0).Seconds()
		}
		if spec.LeaseDurationSeconds != nil {
			k.LeaseLasts = float64(*spec.LeaseDurationSeconds)
		}
	}
}

// pods lists the names of Berth's pods, from the server's cache.
func (s *server) pods(ctx context.Context, k *doctor.Kubernetes) {
	var list metav1.PartialObjectMetadataList
	query := url.Values{"labelSelector": {kube.Selector}, "resourceVersion": {"0"}}
	status, _, err := s.list(ctx, &list, query, "api", "v1", "namespaces", k.Namespace, "pods")
	if k.PodsFault = fault(status, err); k.PodsFault != "" {
		return
	}
	for _, item := range list.Items {
		if !kube.Ours(&corev1.Pod{ObjectMeta: item.ObjectMeta}) {
			continue
		}
		k.Pods = append(k.Pods, doctor.ClusterPod{
			Name: item.Name, UID: string(item.UID), Created: item.CreationTimestamp.Time, Terminating: item.DeletionTimestamp != nil,
		})
	}
	k.Count = len(k.Pods)
}
