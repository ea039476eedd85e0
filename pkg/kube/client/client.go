// Package client opens connections to the Kubernetes API server the way every
// Berth service wants them.
package client

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Defaults of Options. They are a fuse against a loop gone wild, no throttle: how
// much Berth may ask of the API server is for the server's priority and fairness
// settings to say.
const (
	DefaultQPS   = 500
	DefaultBurst = 1000
)

// A connection on which the server has been silent for silence is asked whether
// it still lives, and given up when it does not answer within patience: a watch
// through a dead node or firewall is noticed within 6 s, about as soon as the
// leader's lease is over, not within 45 s as with client-go's own settings.
const (
	silence  = 3 * time.Second
	patience = 3 * time.Second
)

// Options say which cluster to talk to, and as whom.
type Options struct {
	// Kubeconfig is the path of a kubeconfig file, or a list of them as in the
	// KUBECONFIG variable. Empty means the cluster that the process runs in.
	Kubeconfig string
	// Service and Version name the caller to the API server and its audit log.
	Service string
	Version string
	// QPS and Burst bound the requests of one client; zero means the default.
	QPS   float32
	Burst int
}

// New returns a client and the configuration that it was made from, for those
// who need a connection of another kind (exec, leases of their own). It opens
// nothing: a server that cannot be reached shows with the first request.
//
// The error names the file that is missing or wrong, and what to do. The client
// is safe for concurrent use.
func New(options Options) (kubernetes.Interface, *rest.Config, error) {
	return connect(options, silence, patience)
}

func connect(options Options, silence, patience time.Duration) (kubernetes.Interface, *rest.Config, error) {
	config, err := load(options.Kubeconfig)
	if err != nil {
		return nil, nil, err
	}

	config.UserAgent = fmt.Sprintf("berth-%s/%s", options.Service, options.Version)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.QPS = options.QPS
	config.Burst = options.Burst

	if config.QPS == 0 {
		config.QPS = DefaultQPS
	}

	if config.Burst == 0 {
		config.Burst = DefaultBurst
	}

	if config.Proxy == nil {
		// Names client-go's own default. With it, client-go gives this client a
		// transport of its own instead of a shared one, which must not be changed.
		config.Proxy = http.ProxyFromEnvironment
	}

	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("open kubernetes connection to %s: %w", config.Host, err)
	}

	if err := checkHealth(httpClient.Transport, silence, patience); err != nil {
		return nil, nil, err
	}

	clientset, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, nil, fmt.Errorf("make kubernetes client for %s: %w", config.Host, err)
	}

	return clientset, config, nil
}

// checkHealth sets how soon a dead connection is noticed. client-go offers
// nothing but an environment variable for it, so this looks for the transport
// under client-go's wrappers.
func checkHealth(wrapped http.RoundTripper, silence, patience time.Duration) error {
	for {
		switch transport := wrapped.(type) {
		case *http.Transport:
			transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: patience}

			return nil
		case utilnet.RoundTripperWrapper:
			wrapped = transport.WrappedRoundTripper()
		default:
			return fmt.Errorf("set connection health check: unexpected transport %T", wrapped)
		}
	}
}

func load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("no kubernetes cluster: this is no pod, so set KUBECONFIG to the path of a kubeconfig file")
		}

		if err != nil {
			return nil, fmt.Errorf("read the pod's service account: %w; is automountServiceAccountToken off?", err)
		}

		return config, nil
	}

	// client-go passes over files that are missing; one that was named is meant.
	files := filepath.SplitList(kubeconfig)
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("read kubeconfig: %w; set KUBECONFIG to a file that exists", err)
		}
	}

	rules := clientcmd.ClientConfigLoadingRules{Precedence: files}

	merged, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}

	config, err := clientcmd.NewNonInteractiveClientConfig(*merged, "", &clientcmd.ConfigOverrides{}, &rules).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("use kubeconfig %s: %w; check its current-context (kubectl config get-contexts)", kubeconfig, err)
	}

	return config, nil
}
