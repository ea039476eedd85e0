package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"berth/cmd/devstack/stack/manifests"
	"berth/cmd/devstack/stack/project"
	"berth/pkg/kube/kubetest"
	"berth/pkg/kube/kubetest/proc"
	"berth/pkg/service/config"
	"berth/test/chaos/link"
	"berth/test/chaos/verdict"
)

// services are all of Berth, in the order of their start.
func services() []string { return []string{"watcher", "licenser", "deleter", "creator", "api"} }

// The times of the site, shorter than in life so that a run meets all of them.
const (
	createDeadline   = 5 * time.Second
	timeoutCreate    = 20 * time.Second
	timeoutCreateMax = 45 * time.Second
	timeoutDelete    = 20 * time.Second
	pullBackOffs     = 3
	sweepInterval    = time.Minute // Of the clock's.
	namespace        = "berth"
)

// startLimit is how long the services may take to answer on a busy machine.
const startLimit = 2 * time.Minute

const siteConfig = `cluster: main
namespace: %s
logLevel: info
whitelistManifestRegex: '%s'
createDeadline: %s
timeoutCreate: %s
timeoutCreateMax: %s
timeoutDelete: %s
imagePullBackOffs: %d
nfsStorageRoot: /tank/storage
ingressDomain: pods.example.org
sweepInterval: %s
adminTokenHash: sha256:%x
projects:
  image: %s
  tag: %s
  restartsPerSecond: 5
  catchUpInterval: 15s
`

// adminToken is that of the site's administrator.
const adminToken = "chaos-administrator"

// replica is one process of a service, with the networks between it and the
// servers that it needs.
type replica struct {
	*program
	service string
	// url is where it answers.
	url  string
	nats *link.TCP
	api  *link.API // Nil for services without Kubernetes.
	db   *link.TCP // Nil for services without a database.
}

// site is a Berth with everything that it needs, each part a process of its own.
type site struct {
	dir, bin  string
	cluster   *kubetest.Cluster
	kube      kubernetes.Interface
	broker    *program
	natsURL   string
	database  *server
	manifests string
	replicas  []*replica
	starter   *proc.Starter
	serving   sync.WaitGroup
	closers   []func() error
}

// newSite starts a site and returns when it answers. What was started is in the
// site even when there is an error: the caller closes it.
func newSite(ctx context.Context, p Plan, say func(format string, args ...any)) (*site, error) {
	s := &site{dir: p.Dir, starter: proc.NewStarter()}
	for _, step := range []struct {
		name string
		do   func(context.Context, Plan) error
	}{
		{"building the services", s.build},
		{"starting Kubernetes", s.startCluster},
		{"starting NATS", s.startBroker},
		{"starting PostgreSQL", s.startDatabase},
		{"making what projects need", s.provideProjects},
		{"starting the services", s.startServices},
	} {
		say("%s", step.name)
		if err := step.do(ctx, p); err != nil {
			return s, err
		}
	}
	return s, nil
}

// close ends everything, in reverse order.
func (s *site) close() error {
	var errs []error
	for _, r := range s.replicas {
		r.kill()
		errs = append(errs, r.surprises())
	}
	if s.broker != nil {
		s.broker.kill()
		errs = append(errs, s.broker.surprises())
	}
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	s.serving.Wait()
	return errors.Join(append(errs, s.starter.Close())...)
}

// build makes the services, unless there are some.
func (s *site) build(ctx context.Context, p Plan) error {
	if s.bin = p.Bin; s.bin != "" {
		return nil
	}
	s.bin = p.Dir
	return build(ctx, s.bin, services())
}

func (s *site) startCluster(ctx context.Context, _ Plan) error {
	cluster, err := kubetest.Start(ctx, kubetest.Options{Dir: filepath.Join(s.dir, "kube"), Restart: true, Exec: true})
	if err != nil {
		return err
	}
	s.cluster = cluster
	s.closers = append(s.closers, cluster.Stop)
	if s.kube, err = kubernetes.NewForConfig(cluster.RESTConfig()); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	_, err = s.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	return nil
}

func (s *site) startBroker(ctx context.Context, _ Plan) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	s.natsURL = "nats://" + address
	s.broker = &program{starter: s.starter, spec: proc.Spec{
		Name: "nats", Path: self, Log: filepath.Join(s.dir, "nats.log"), Append: true,
		Env: append(os.Environ(), brokerListen+"="+address, brokerDir+"="+filepath.Join(s.dir, "nats")),
	}}
	return s.broker.start()
}

// startServices starts all replicas and waits until every api answers.
func (s *site) startServices(ctx context.Context, p Plan) error {
	if err := errors.Join(s.serveManifests(ctx), manifests.WriteToken()); err != nil {
		return err
	}
	file := filepath.Join(s.dir, "berth.yaml")
	allowed := strings.ReplaceAll(s.manifests, ".", `\.`) + "/.*"
	text := fmt.Sprintf(siteConfig, namespace, allowed, createDeadline, timeoutCreate, timeoutCreateMax, timeoutDelete, pullBackOffs, sweepInterval,
		sha256.Sum256([]byte(adminToken)), project.Image, project.Tag)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if _, err := config.ParseManifestPattern(allowed); err != nil {
		return fmt.Errorf("allow manifests: %w", err)
	}
	for _, service := range services() {
		for i := range p.Replicas {
			if err := s.startReplica(ctx, service, i, file, p.Seed); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, r := range s.of("api") {
		if err := s.answers(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// startReplica starts a process of a service behind links of its own.
func (s *site) startReplica(ctx context.Context, service string, number int, file string, seed uint64) error {
	name := fmt.Sprintf("%s-%d", service, number)
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	r := &replica{service: service, url: "http://" + address}
	if r.nats, err = link.NewTCP(ctx, strings.TrimPrefix(s.natsURL, "nats://")); err != nil {
		return err
	}
	s.closers = append(s.closers, r.nats.Close)
	env := []string{"PATH=" + os.Getenv("PATH"), "NATS_URL=nats://" + r.nats.Addr, "NATS_PASSWORD=" + password(service), "GOMAXPROCS=2"}
	if service != "api" && service != "licenser" {
		if r.api, err = link.NewAPI(ctx, s.cluster.RESTConfig(), seed+uint64(len(s.replicas))); err != nil {
			return err
		}
		s.closers = append(s.closers, r.api.Close)
		kubeconfig := filepath.Join(s.dir, name+".kubeconfig")
		if err := os.WriteFile(kubeconfig, r.api.Kubeconfig, 0o600); err != nil {
			return fmt.Errorf("write kubeconfig: %w", err)
		}
		env = append(env, "KUBECONFIG="+kubeconfig)
	}
	if service == "licenser" {
		var through string
		if through, r.db, err = s.database.through(ctx); err != nil {
			return err
		}
		s.closers = append(s.closers, r.db.Close)
		env = append(env, "DATABASE_URL="+through)
	}
	r.program = &program{starter: s.starter, spec: proc.Spec{
		Name: name, Path: filepath.Join(s.bin, service), Log: filepath.Join(s.dir, name+".log"), Append: true,
		Args: []string{"--config", file, "--listen", address}, Env: env,
	}}
	s.replicas = append(s.replicas, r)
	return r.start()
}

// terms is how often a licenser has become the keeper of the projects.
func (s *site) terms() (n int, err error) {
	for _, r := range s.of("licenser") {
		text, err := os.ReadFile(r.spec.Log)
		if err != nil {
			return n, fmt.Errorf("read the log of %s: %w", r.spec.Name, err)
		}
		n += strings.Count(string(text), `"Keeping projects"`)
	}
	return n, nil
}

// trespasses are the lines of the services' logs that say that one has asked
// NATS for what it has no grant for: a promise that it cannot keep.
func (s *site) trespasses() ([]verdict.Breach, error) {
	var breaches []verdict.Breach
	for _, r := range s.replicas {
		text, err := os.ReadFile(r.spec.Log)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", r.spec.Name, err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(strings.ToLower(line), "permissions violation") {
				breaches = append(breaches, verdict.Breach{Statement: 6, Text: r.spec.Name + " lacks a grant: " + strings.TrimSpace(line)})
			}
		}
	}
	return breaches, nil
}

// of returns the replicas of a service.
func (s *site) of(service string) (all []*replica) {
	for _, r := range s.replicas {
		if r.service == service {
			all = append(all, r)
		}
	}
	return all
}

// answers waits until a replica is ready.
func (s *site) answers(ctx context.Context, r *replica) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return eventually(ctx, r.spec.Name+" is ready", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
}

// eventually repeats try until it succeeds or ctx ends.
func eventually(ctx context.Context, what string, try func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (%w)", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// serveManifests serves the manifests that users make pods from.
func (s *site) serveManifests(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: http.FileServerFS(manifests.Files), ReadHeaderTimeout: time.Minute}
	s.serving.Go(func() { _ = server.Serve(listener) })
	s.closers = append(s.closers, server.Close)
	s.manifests = "http://" + listener.Addr().String()
	return nil
}

// Ports that servers listen on. They are below those that Linux gives to
// connections (net.ipv4.ip_local_port_range begins at 32768), one of which could
// otherwise take the place of a server that is dead for a moment.
const firstPort, lastPort = 15000, 32000

// freeAddress returns a loopback address that nobody listened on a moment ago.
// A process keeps it when it is started again.
func freeAddress(ctx context.Context) (string, error) {
	var err error
	for range 100 {
		var listener net.Listener
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}
