package stack

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"berth/cmd/devstack/stack/manifests"
	"berth/cmd/devstack/stack/project"
	"berth/pkg/database"
	"berth/pkg/database/local"
	"berth/pkg/kube/client"
	"berth/pkg/kube/kubetest"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

// claim keeps a second stack from the data folder, as long as the process lives.
func (s *Stack) claim() error {
	if err := os.MkdirAll(s.opts.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.opts.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the data folder: %w", err)
	}
	s.OnStop("unlock the data folder", func(context.Context) error { return lock.Close() })
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("another devstack uses %s; stop it, or choose another folder with --data", s.opts.Data)
	}
	if err != nil {
		return fmt.Errorf("lock the data folder: %w", err)
	}
	return nil
}

// checkNATS says at once what is wrong with a NATS server that is to be used.
func checkNATS(address string) error {
	nc, err := nats.Connect(address, nats.Timeout(natsPatience), nats.Name("berth-devstack"))
	if err != nil {
		return fmt.Errorf("use the NATS server of --nats-url: %w", err)
	}
	defer nc.Close()
	version, err := semver.NewVersion(nc.ConnectedServerVersion())
	switch {
	case err != nil:
		return fmt.Errorf("use the NATS server of --nats-url: version %q: %w", nc.ConnectedServerVersion(), err)
	case version.LessThan(semver.New(2, 12, 0, "", "")):
		return fmt.Errorf("use the NATS server of --nats-url: it has version %s; message schedules need 2.12 or newer", version)
	}
	return nil
}

// natsPatience is how long a NATS server that is to be used may take to answer.
const natsPatience = 3 * time.Second

// AdminTokenFile is the file in the data folder with the token of the stack's
// administrator, where the site's configuration names none.
const AdminTokenFile = "admin.token"

// makeAdmin makes a token, unless an earlier start has.
func (s *Stack) makeAdmin() error {
	path := filepath.Join(s.opts.Data, AdminTokenFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text())
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the administrator's token: %w", err)
	}
	sum := sha256.Sum256(text)
	s.adminText = "sha256:" + hex.EncodeToString(sum[:])
	s.admin, err = config.ParseHash(s.adminText)
	return err
}

// startManifests serves sample manifests, or those of a folder, and allows them.
func (s *Stack) startManifests(ctx context.Context) error {
	var files fs.FS = manifests.Files
	if s.opts.Manifests != "" {
		files = os.DirFS(s.opts.Manifests)
	}
	server, err := service.Listen(ctx, "127.0.0.1:0", http.FileServerFS(files), s.opts.Log)
	if err != nil {
		return err
	}
	s.OnStop("close the manifest server", func(context.Context) error { return server.Close() })
	s.Go("serve manifests", server.Serve)
	s.ManifestsURL = "http://" + server.Addr()
	s.opts.Config, err = s.withSamples(s.opts.Config)
	return err
}

// What the samples need of a site that configures nothing. No file server is
// behind it: simulated nodes mount nothing.
const (
	sampleStorage = "/tank/storage"
	sampleDomain  = "pods.berth.localhost"
)

// withSamples is a site's configuration with what the samples need.
func (s *Stack) withSamples(c config.Config) (config.Config, error) {
	pattern := regexp.QuoteMeta(s.ManifestsURL) + "/.*"
	if site := c.WhitelistManifestRegex; !site.IsZero() {
		pattern = "(?:" + site.String() + ")|" + pattern
	}
	var err error
	if c.WhitelistManifestRegex, err = config.ParseManifestPattern(pattern); err != nil {
		return c, fmt.Errorf("allow the sample manifests: %w", err)
	}
	c.NFSStorageRoot = cmp.Or(c.NFSStorageRoot, sampleStorage)
	if c.AdminTokenHash.IsZero() {
		c.AdminTokenHash = s.admin
	}
	c.Projects.Image, c.Projects.Tag = cmp.Or(c.Projects.Image, project.Image), cmp.Or(c.Projects.Tag, project.Tag)
	c.IngressDomain = cmp.Or(c.IngressDomain, sampleDomain)
	return c, nil
}

// Reload makes the services take over a configuration that load returns, as
// SIGHUP does for a program of theirs: what of it can change while they run.
// Faults are logged, and the configuration before stays.
func (s *Stack) Reload(load func() (config.Config, []config.Notice, error)) {
	for _, p := range s.programs {
		p.process.Load().Signal(syscall.SIGHUP)
	}
	s.reloads.Reload(func() (config.Config, []config.Notice, error) {
		c, notices, err := load()
		if err != nil {
			return c, notices, err
		}
		c, err = s.withSamples(c)
		return c, notices, err
	}, s.opts.Log)
}

// startDatabase starts a PostgreSQL server, unless there is one to use, and brings its
// tables up to date.
func (s *Stack) startDatabase(ctx context.Context) error {
	s.DatabaseURL = s.opts.DatabaseURL
	if s.DatabaseURL == "" {
		server, err := local.Start(ctx, local.Options{Dir: filepath.Join(s.opts.Data, "postgres"), Durable: s.opts.Durable, Progress: s.opts.Progress})
		if err != nil {
			return err
		}
		s.DatabaseURL = server.URL
		s.OnStop("stop PostgreSQL", func(context.Context) error { return server.Stop() })
		s.Go("watch PostgreSQL", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-server.Done():
				return server.Err()
			}
		})
	}
	_, err := database.Migrate(ctx, s.DatabaseURL, func(line string) { s.opts.Log.Debug().Msg(line) })
	if err != nil && s.opts.DatabaseURL != "" {
		return fmt.Errorf("use the database of --database-url: %w", err)
	}
	return err
}

// startCluster starts a Kubernetes, unless there is one to use, and makes the
// namespace if it is missing.
func (s *Stack) startCluster(ctx context.Context) error {
	if s.opts.Kubeconfig != "" {
		s.Kubeconfig = s.opts.Kubeconfig
		return s.prepareCluster(ctx)
	}
	s.say("starting Kubernetes (about 8 s; the first time its programs are built, about 8 minutes)")
	cluster, err := kubetest.Start(ctx, kubetest.Options{
		Dir: filepath.Join(s.opts.Data, "kube"), Nodes: s.opts.Nodes, Durable: s.opts.Durable, Progress: s.opts.Progress,
		Exec: true, // Tokens are copied out of simulated pods, too: from this machine's folder for temporary files.
	})
	if err != nil {
		return err
	}
	s.cluster, s.Kubeconfig = cluster, cluster.Kubeconfig
	if err := manifests.WriteToken(); err != nil {
		s.opts.Log.Warn().Err(err).Msg("Pods of the sample full.yaml will wait 10 s for their token")
	}
	s.OnStop("stop Kubernetes", func(context.Context) error { return cluster.Stop() })
	s.Go("watch Kubernetes", cluster.Wait)
	return s.prepareCluster(ctx)
}

// madeHere marks what devstack made, so that it removes nothing else.
const madeHere = "berth.dev/made-by-devstack"

// prepareCluster makes the namespace. In a cluster that is not the stack's own,
// what Berth itself leaves there is removed at the end.
func (s *Stack) prepareCluster(ctx context.Context) error {
	clients, _, err := client.New(client.Options{Kubeconfig: s.Kubeconfig, Service: "devstack", Version: service.Version()})
	if err != nil {
		return err
	}
	name := s.opts.Config.Namespace
	namespaces := clients.CoreV1().Namespaces()
	_, err = namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{madeHere: "true"}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("use the cluster of %s: %w", s.Kubeconfig, err)
	}
	if err := project.Provide(ctx, clients, name, s.opts.Config.Projects, map[string]string{madeHere: "true"}); err != nil {
		return err
	}
	if s.opts.Kubeconfig != "" {
		s.OnStop("tidy the cluster", func(ctx context.Context) error { return s.tidyCluster(ctx, clients) })
		return nil // The claims are the site's: no volume that is made up would do.
	}
	return project.ProvideClaims(ctx, clients, name, s.opts.Config.Projects)
}

// tidyCluster removes the watchers' lease, the template and the namespace where devstack made
// them, the namespace if no pod is left in it.
func (s *Stack) tidyCluster(ctx context.Context, clients kubernetes.Interface) error {
	name := s.opts.Config.Namespace
	err := clients.CoordinationV1().Leases(name).Delete(ctx, "berth-watcher-"+s.opts.Config.Cluster, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the watchers' lease: %w", err)
	}
	maps, template := clients.CoreV1().ConfigMaps(name), s.opts.Config.Projects.TemplateConfigMap
	if kept, err := maps.Get(ctx, template, metav1.GetOptions{}); err == nil && kept.Annotations[madeHere] != "" {
		if err := ignoreNotFound(maps.Delete(ctx, template, metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("remove the template of the project pods: %w", err)
		}
	}
	namespace, err := clients.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil || namespace.Annotations[madeHere] == "" {
		return ignoreNotFound(err)
	}
	pods, err := clients.CoreV1().Pods(name).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil || len(pods.Items) > 0 {
		return err
	}
	return ignoreNotFound(clients.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}))
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// EnvFile is the file in the data folder that a shell reads to use the stack.
const EnvFile = "env"

// writeEnv writes what a shell needs to use the stack.
func (s *Stack) writeEnv() error {
	var b strings.Builder
	for _, v := range [][2]string{
		{"BERTH_URL", s.URL},
		{"NATS_URL", s.NATSURL},
		{"DATABASE_URL", s.DatabaseURL},
		{"KUBECONFIG", s.Kubeconfig},
		{"BERTH_CLUSTER", s.opts.Config.Cluster},
		{"BERTH_NAMESPACE", s.opts.Config.Namespace},
		{"MANIFESTS", s.ManifestsURL},
		{"BERTH_TOKEN_FILE", s.tokenFile()},
	} {
		fmt.Fprintf(&b, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	path := filepath.Join(s.opts.Data, EnvFile)
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// tokenFile is where the administrator's token is, empty where it is the site's own.
func (s *Stack) tokenFile() string {
	if !s.opts.Config.AdminTokenHash.Same(s.admin) {
		return ""
	}
	return filepath.Join(s.opts.Data, AdminTokenFile)
}

// otherURLs says where the other replicas of the api are, if there are any.
func (s *Stack) otherURLs() string {
	if len(s.URLs) < 2 {
		return ""
	}
	return " More replicas of the api: " + strings.Join(s.URLs[1:], " ")
}

// Hint says what to type next.
func (s *Stack) Hint() string {
	return fmt.Sprintf(`
Berth runs. In another terminal, in this folder:

  . %s
  bin/berth --user alice@example.org pods create $MANIFESTS/notebook.yaml
  bin/berth --user alice@example.org pods list
  kubectl get pods -n $BERTH_NAMESPACE

Ctrl-C here stops everything.%s
`, filepath.Join(s.opts.Data, EnvFile), s.otherURLs())
}
