package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	api "berth/services/api/app"
	creator "berth/services/creator/app"
	deleter "berth/services/deleter/app"
	licenser "berth/services/licenser/app"
	watcher "berth/services/watcher/app"
)

// parts is a Berth whose services a test starts, stops, kills and cuts off one
// by one. It has a NATS server of its own and a namespace of its own in the
// cluster of the shared stack.
type parts struct {
	*site
	nats     *eventstest.Server
	settings config.Config
	logs     zerolog.Logger
	// database is the one that licensers use, empty for none.
	database string
	// faults, where set, are on the way of creators and deleters to the API server.
	faults *faults
}

// all are the services in the order in which devstack starts them.
func all() []string { return []string{"watcher", "licenser", "deleter", "creator", "api"} }

// patience is how long a create may take where a test keeps the machine busy, with others beside it.
const patience = 30 * time.Second

// newParts returns a Berth without services.
func newParts(t *testing.T, change ...func(*config.Config)) *parts {
	t.Helper()
	settings := settings()
	pattern, err := config.ParseManifestPattern(regexp.QuoteMeta(shared.ManifestsURL) + "/.*")
	if err != nil {
		t.Fatal(err)
	}
	settings.WhitelistManifestRegex = pattern
	namespace, err := shared.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	settings.Namespace = namespace.Name
	for _, f := range change {
		f(&settings)
	}
	nats := eventstest.NewServerWithUsers(t, settings.Cluster)
	return &parts{
		nats: nats, settings: settings, logs: zerolog.New(newDiary(t)).With().Timestamp().Logger(),
		site: &site{ManifestsURL: shared.ManifestsURL, namespace: settings.Namespace, cluster: settings.Cluster, kube: shared.kube, log: nats.Options()},
	}
}

// diary is where the services of a test write their logs. That one asked NATS
// for what it may not do is a failure, whatever came of it.
type diary struct {
	t *testing.T

	mu     sync.Mutex
	closed bool // The test is over; libraries with one log for all tests may go on.
}

func newDiary(t *testing.T) *diary {
	t.Helper()
	d := &diary{t: t}
	t.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.closed = true
	})
	return d
}

func (d *diary) Write(line []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return len(line), nil
	}
	if bytes.Contains(line, trespass) {
		d.t.Errorf("a service lacks a grant: %s", line)
	}
	return d.t.Output().Write(line)
}

// trespass is how nats.go calls a subject that the user may not use.
var trespass = []byte("permissions violation")

// whole returns a Berth all of whose services run.
func whole(t *testing.T, change ...func(*config.Config)) (*parts, map[string]*replica) {
	t.Helper()
	p := newParts(t, change...)
	started := p.start(t, all()...)
	p.compared(t)
	return p, started
}

// service is what all of them can do.
type running interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Addr() string
}

// replica is one process of a service, with the roads that it uses.
type replica struct {
	running
	name          string
	nats, cluster *road
	once          sync.Once
}

// start starts a replica of each of the services.
func (p *parts) start(t *testing.T, names ...string) map[string]*replica {
	t.Helper()
	started := map[string]*replica{}
	for _, name := range names {
		started[name] = p.replica(t, name)
	}
	return started
}

// replica starts a replica of a service. It is stopped when the test ends.
func (p *parts) replica(t *testing.T, name string) *replica {
	t.Helper()
	r := &replica{name: name, nats: newRoad(t, strings.TrimPrefix(p.nats.URL(), "nats://"))}
	kubeconfig, err := clientcmd.LoadFromFile(shared.stack.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range kubeconfig.Clusters {
		r.cluster = newRoad(t, strings.TrimPrefix(cluster.Server, "https://"))
		cluster.Server = "https://" + r.cluster.address()
		if p.faults != nil && (name == "creator" || name == "deleter") {
			cluster.Server, cluster.CertificateAuthority, cluster.CertificateAuthorityData = p.faults.URL, "", nil
		}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		t.Fatal(err)
	}
	opts := worker.Options{Process: service.Process{
		Identity: service.NewIdentity(name), Config: p.settings, Listen: "127.0.0.1:0",
		NATSURL: "nats://" + r.nats.address(), Kubeconfig: path, DatabaseURL: p.database,
	}}
	opts.NATSUser, opts.NATSPassword = p.nats.Credentials(name)
	opts.Log = p.logs.With().Str("service", name).Str("instance", opts.Instance).Logger()
	switch name {
	case "api":
		r.running = api.New(opts)
	case "creator":
		r.running = creator.New(opts)
	case "deleter":
		r.running = deleter.New(opts)
	case "licenser":
		r.running = licenser.New(opts)
	case "watcher":
		r.running = watcher.New(opts)
	default:
		t.Fatalf("there is no service %q", name)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t) })
	if name == "api" {
		p.URL = "http://" + r.Addr()
	}
	return r
}

// compared waits until the log has been compared with the cluster, and the api
// answers.
func (s *site) compared(t *testing.T) {
	t.Helper()
	eventually(t, "the api answers", func() bool {
		status, _, _ := s.post(t, "get_pods", `{"user_id":"nobody"}`)
		return status == http.StatusOK
	})
}

// stop lets a replica finish what it does, or give it back.
func (r *replica) stop(t *testing.T) {
	t.Helper()
	r.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), service.StopBudget)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Errorf("stop the %s: %v", r.name, err)
		}
		r.nats.close()
		r.cluster.close()
	})
}

// kill ends a replica in the middle of what it does: nothing that it does from
// now on reaches anybody, and it gives nothing back.
func (r *replica) kill(t *testing.T) {
	t.Helper()
	r.once.Do(func() {
		r.nats.close()
		r.cluster.close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), service.StopBudget)
		defer cancel()
		_ = r.Stop(ctx) // It may well say that it could not finish.
	})
}

// road is a TCP proxy to a server, on which a test can stop the traffic.
type road struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{}
	open   chan struct{} // Closed while traffic flows.
	held   int           // How often a request had to wait.
	closed bool
}

func newRoad(t *testing.T, target string) *road {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{listener: listener, target: target, conns: map[net.Conn]struct{}{}, open: make(chan struct{})}
	close(r.open)
	r.running.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *road) address() string { return r.listener.Addr().String() }

// lead makes the road one to another server for those who come from now on.
func (r *road) lead(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

func (r *road) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		target := r.target
		r.mu.Unlock()
		far, err := net.Dial("tcp", target)
		if err != nil {
			_ = near.Close()
			continue
		}
		r.mu.Lock()
		closed := r.closed
		r.conns[near], r.conns[far] = struct{}{}, struct{}{}
		r.mu.Unlock()
		if closed {
			_, _ = near.Close(), far.Close()
			return
		}
		r.running.Go(func() { r.carry(near, far, 0) })
		r.running.Go(func() { r.carry(far, near, 1) })
	}
}

// carry brings bytes from one end to the other while the road is open. Those that have to wait count as requests
// requests.
func (r *road) carry(to, from net.Conn, requests int) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-r.gate(requests)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// gate is closed when traffic may pass.
func (r *road) gate(requests int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.open:
	default:
		r.held += requests
	}
	return r.open
}

// holds waits until a request wants to pass that is blocked; what a server tells its watchers does not count.
func (r *road) holds(t *testing.T) {
	t.Helper()
	eventually(t, "somebody is on the road", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.held > 0
	})
}

// block lets nothing through, in either direction, until unblock.
func (r *road) block() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.open:
		r.open = make(chan struct{})
	default:
	}
}

func (r *road) unblock() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.open:
	default:
		close(r.open)
	}
}

// close cuts all connections, and lets nobody connect again.
func (r *road) close() {
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	_ = r.listener.Close()
	r.unblock()
	r.running.Wait()
}

// reaches waits until a pod has come to an event, wherever it is by now.
func (s *site) reaches(t *testing.T, pod string, event events.Type) {
	t.Helper()
	bus := s.bus(t)
	eventually(t, pod+" is "+string(event), func() bool {
		history, err := bus.History(t.Context(), pod)
		if err != nil && !errors.Is(err, natsbus.ErrUnavailable) {
			t.Fatal(err)
		}
		return slices.Contains(types(history), event)
	})
}

// objects are the names of the pods in the namespace.
func (s *site) objects(t *testing.T) []string {
	t.Helper()
	list, err := s.kube.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

// idle waits until no command waits for a stage.
func (p *parts) idle(t *testing.T) {
	t.Helper()
	eventually(t, "all commands have been carried out", func() bool {
		for _, stage := range events.Stages() {
			if len(eventstest.Queued(t, p.nats, stage)) > 0 {
				return false
			}
		}
		return true
	})
}
