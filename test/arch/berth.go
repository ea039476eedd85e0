package arch

import (
	"path"
	"slices"
)

// The pure packages: decisions without a cluster, a clock, a logger or a network.
const (
	events = "berth/pkg/events"
	kube   = "berth/pkg/kube"
	render = "berth/services/creator/internal/render"
	diff   = "berth/services/watcher/internal/diff"
	reap   = "berth/services/deleter/internal/reap"
	decide = "berth/services/licenser/internal/licensing"
	upkeep = "berth/services/licenser/internal/upkeep"
	// What licenses make of a pod: the packages of one module.
	licenses = "berth/pkg/license"
	database = "berth/pkg/database"
)

// Rules returns the import rules of Berth.
func Rules() []Rule {
	services := []string{"api", "creator", "deleter", "licenser", "watcher"}
	pure := []string{events, kube, render, diff, reap, decide, upkeep, licenses + "/..."}
	// What every kind of endpoint of the api goes through: who calls, and what is noted of it.
	gates := []string{"berth/services/api/internal/access", "berth/services/api/internal/audit"}
	testLibraries := []string{"github.com/stretchr/testify/...", "go.uber.org/goleak/...", "pgregory.net/rapid/..."}

	rules := []Rule{{
		Name:        "the event contract needs the standard library alone",
		From:        []string{events},
		OnlyReaches: []string{"std"},
	}, {
		Name:        "the Go client needs the standard library alone",
		From:        []string{"berth/pkg/client"},
		OnlyReaches: []string{"std"},
	}, {
		Name: "pure code decides; it has no cluster, database, broker or logger behind it",
		From: pure,
		NeverReaches: []string{
			"k8s.io/client-go/...", "github.com/nats-io/...", "github.com/jackc/...",
			"github.com/rs/zerolog/...", "github.com/prometheus/...", "berth/pkg/service/...",
		},
	}, {
		// What these import in their turn cannot be bounded so: apimachinery
		// itself imports net/http for its types.
		Name: "pure code touches no file, process or network of its own",
		From: pure,
		NeverImports: []string{
			"os/...", "net", "syscall", "log/...", "database/sql/...",
			"crypto/rand", "math/rand/...", "embed",
		},
	}, {
		Name:         "pure code speaks no HTTP; " + kube + " names its status codes",
		From:         slices.Concat(pure, []string{"!" + kube}),
		NeverImports: []string{"net/http/..."},
	}, {
		Name: "pure code imports pure code, the Kubernetes types and a few parsers",
		From: pure,
		OnlyImports: slices.Concat(pure, []string{
			"std", "k8s.io/api/...", "k8s.io/apimachinery/...",
			"sigs.k8s.io/yaml", "sigs.k8s.io/json", "go.yaml.in/yaml/v3", "github.com/distribution/reference",
		}),
	}, {
		Name:         "Kubernetes names and labels know nothing of the log",
		From:         []string{kube, kube + "/client"},
		NeverReaches: []string{"berth/...", "!" + kube + "/..."},
	}, {
		Name:         "the JetStream adapter knows the contract and the broker",
		From:         []string{events + "/natsbus"},
		NeverReaches: []string{"k8s.io/...", "github.com/jackc/...", "berth/...", "!" + events + "/..."},
	}, {
		Name:         "shared code does not know who uses it",
		From:         []string{"berth/pkg/..."},
		NeverReaches: []string{"berth/services/...", "berth/cmd/...", "berth/test/..."},
	}, {
		Name:         "api and licenser hold no Kubernetes client, nor its types",
		From:         []string{"berth/services/api", "berth/services/licenser"},
		NeverReaches: []string{"k8s.io/..."},
	}, {
		Name: "only the licenser talks to the database",
		From: []string{
			"berth/services/api", "berth/services/creator", "berth/services/deleter", "berth/services/watcher",
		},
		NeverReaches: []string{"github.com/jackc/..."},
	}, {
		Name:         "the command line brings the database's tables up to date, and asks it nothing itself",
		From:         []string{"berth/cmd/berth/..."},
		NeverImports: []string{"github.com/jackc/...", database + "/...", "!" + database},
	}, {
		Name:         "the command line asks the api, NATS and, for doctor, Kubernetes; it has no service inside",
		From:         []string{"berth/cmd/berth"},
		NeverReaches: []string{"berth/services/..."},
	}, {
		Name: "nothing of the tests gets into a production binary",
		From: []string{"berth/services/*", "berth/cmd/berth"},
		NeverReaches: slices.Concat(testLibraries, []string{
			events + "/eventstest/...", kube + "/kubetest/...", "berth/pkg/service/servicetest/...", "berth/test/...",
			database + "/local/...", database + "/dbtest/...", "github.com/testcontainers/...",
			"github.com/nats-io/nats-server/...", "github.com/google/go-cmp/...", "testing",
		}),
	}, {
		// The conformance suite in eventstest compares with go-cmp.
		Name: "the launcher may start what tests start, without their frameworks",
		From: []string{
			"berth/cmd/devstack", events + "/eventstest", kube + "/kubetest", "berth/pkg/service",
		},
		NeverReaches: testLibraries,
	}}

	for _, name := range services {
		own := path.Join("berth/services", name)
		internal := own + "/internal/..."

		pureToo := []string{internal}
		for _, p := range slices.Concat(pure, gates) {
			pureToo = append(pureToo, "!"+p)
		}
		rules = append(rules, Rule{
			Name:        name + "'s main only glues",
			From:        []string{own},
			OnlyImports: []string{"std", own + "/app", "berth/pkg/service"},
		}, Rule{
			Name:         name + " knows no other service",
			From:         []string{own + "/..."},
			NeverReaches: []string{"berth/services/...", "!" + own + "/...", "berth/cmd/..."},
		}, Rule{
			Name:         name + "'s adapters meet in app, not each other",
			From:         []string{internal},
			NeverImports: append(pureToo, own+"/app"),
		})
	}
	return rules
}
