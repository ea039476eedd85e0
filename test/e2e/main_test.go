// Package e2e tests the whole: five services, a NATS server and a real Kubernetes
// control plane with simulated nodes, asked over HTTP as a silo does, and held
// against the cluster and the log.
//
// Most tests share one stack. Those that take services away put a Berth of
// their own together, on the same control plane; see newParts.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"k8s.io/client-go/kubernetes"

	"berth/cmd/devstack/stack"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube/client"
	"berth/pkg/service/config"
)

// site is a Berth as a silo sees it, with the means to look behind it.
type site struct {
	// URL is the api's, ManifestsURL where the manifests of testdata are.
	URL, ManifestsURL string
	// namespace is where its pods are, cluster what the log calls that.
	namespace, cluster string
	kube               kubernetes.Interface
	// log is where its log is.
	log natsbus.Options
}

// shared is started once for all tests: a control plane takes some seconds and
// half a gigabyte.
var shared struct {
	*site
	stack *stack.Stack
	// devstack is the program, manifests the folder of the manifests that pods are made from.
	devstack, manifests string
	// http is what all tests ask with.
	http *http.Client
}

// atOnce is how many tests run at the same time: most of them wait.
const atOnce = 10

// suite is all tests, with what they share.
type suite struct{ *testing.M }

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// Run starts the shared stack, runs the tests, and returns the exit code.
func (s suite) Run() int {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // The first time Kubernetes is built.
	defer cancel()
	if shared.devstack, err = build(ctx, dir); err != nil {
		return fail(err)
	}
	shared.manifests = filepath.Join(dir, "manifests")
	if err := copyManifests(shared.manifests); err != nil {
		return fail(err)
	}
	log, err := os.Create(filepath.Join(dir, "services.log"))
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	settings := settings()
	settings.CreateDeadline = time.Minute // The most that a site may have: a dozen creates at once take that long on a busy machine.
	// Besides those of testdata, manifests of servers that tests start.
	if settings.WhitelistManifestRegex, err = config.ParseManifestPattern(`http://127\.0\.0\.1:\d+/elsewhere/.*`); err != nil {
		return fail(err)
	}
	shared.stack, err = stack.Start(ctx, stack.Options{
		Listen: "127.0.0.1:0", Data: filepath.Join(dir, "data"), Config: settings, Manifests: shared.manifests, Progress: os.Stderr,
		Log: zerolog.New(log).With().Timestamp().Logger(),
	})
	if err != nil {
		return fail(err)
	}
	code := s.run(settings)
	if err := shared.stack.Stop(context.Background()); err != nil {
		code = fail(err)
	}
	settle()
	if text, err := os.ReadFile(log.Name()); err != nil || bytes.Contains(text, trespass) {
		code = fail(errors.Join(err, errors.New("a service lacks a grant, or its log cannot be read")))
	}
	if code != 0 {
		tail(log.Name())
	}
	return code
}

// settle gives what was told to end the time for it that it needs on a busy machine: goleak, which looks afterwards, waits
// for moments only.
func settle() {
	deadline := time.Now().Add(patience)
	for left := goleak.Find(); left != nil && time.Now().Before(deadline); {
		left = goleak.Find()
	}
}

func (s suite) run(settings config.Config) int {
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce}
	defer transport.CloseIdleConnections()
	address, err := url.Parse(shared.stack.URL)
	if err != nil {
		return fail(err)
	}
	asked := &tally{RoundTripper: transport, host: address.Host}
	shared.http = &http.Client{Transport: asked}
	clients, _, err := client.New(client.Options{Kubeconfig: shared.stack.Kubeconfig, Service: "e2e", Version: "test"})
	if err != nil {
		return fail(err)
	}
	shared.site = siteOf(shared.stack, settings, clients)
	for key, text := range tokens {
		remove, err := writeToken(key, text)
		if err != nil {
			return fail(err)
		}
		defer remove()
	}
	code := s.M.Run()
	if err := asked.verdict(); err != nil {
		code = fail(err)
	}
	return code
}

// adminToken is that of the site's administrator.
const adminToken = "the administrator's token of the tests"

// settings are those of the shared stack.
func settings() config.Config {
	c := config.Default()
	// A busy machine needs longer than a site would like to wait.
	c.TimeoutCreate, c.TimeoutDelete, c.CreateDeadline = time.Minute, time.Minute, patience
	c.NFSStorageRoot, c.IngressDomain, c.IngressWildcardSecret = "/tank/storage", "pods.example.org", "wildcard-tls"
	c.LocalRegistryURL, c.LocalRegistrySecret = "registry.example.org:5000", "registry-pull"
	c.TestingHost = netip.MustParseAddr("10.2.0.12")
	c.HostnameList = []config.Hostname{{Hostname: "silo1.example.org", Address: c.TestingHost}}
	c.AdminTokenHash = config.Sum([]byte(adminToken))
	return c
}

func siteOf(s *stack.Stack, settings config.Config, clients kubernetes.Interface) *site {
	return &site{
		URL: s.URL, ManifestsURL: s.ManifestsURL, namespace: settings.Namespace, cluster: settings.Cluster, kube: clients,
		log: natsbus.Options{URL: s.NATSURL},
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// tail shows the end of the services' log after a failure.
func tail(path string) {
	const most = 16 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	fmt.Fprintf(os.Stderr, "--- the end of the services' log\n%s\n", text)
}
