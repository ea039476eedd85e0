package arch_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/test/arch"
)

// sound returns a made-up graph that keeps every rule and has every package
// that a rule names.
func sound() arch.Graph {
	graph := arch.Graph{
		"berth/pkg/events":             {"encoding/json", "time"},
		"berth/pkg/events/natsbus":     {"berth/pkg/events", "github.com/nats-io/nats.go"},
		"berth/pkg/events/eventstest":  {"berth/pkg/events/natsbus", "github.com/nats-io/nats-server/v2/server", "testing"},
		"berth/pkg/kube":               {"k8s.io/api/core/v1", "net/http"},
		"berth/pkg/kube/client":        {"berth/pkg/kube", "k8s.io/client-go/kubernetes"},
		"berth/pkg/kube/kubetest":      {"berth/pkg/kube/client", "os/exec"},
		"berth/pkg/client":             {"net/http", "iter"},
		"berth/pkg/service":            {"net/http", "github.com/rs/zerolog"},
		"berth/cmd/berth":              {"berth/cmd/berth/internal/cli"},
		"berth/cmd/berth/internal/cli": {"berth/pkg/events/natsbus", "berth/pkg/database"},
		"berth/pkg/database":           {"github.com/jackc/pgx/v5", "github.com/pressly/goose/v3"},
		"berth/pkg/license/quota":      {"encoding/json"},
		"berth/cmd/devstack": {
			"berth/services/api/app", "berth/services/licenser/app",
			"berth/pkg/kube/kubetest", "berth/pkg/events/eventstest",
		},
		"k8s.io/api/core/v1":                         {"k8s.io/apimachinery/pkg/apis/meta/v1"},
		"k8s.io/apimachinery/pkg/apis/meta/v1":       {"net/http"},
		"k8s.io/client-go/kubernetes":                {"k8s.io/api/core/v1"},
		"berth/services/creator/internal/render":     {"berth/pkg/kube", "sigs.k8s.io/yaml", "net/url"},
		"berth/services/creator/internal/manifest":   {"berth/services/creator/internal/render", "net/http"},
		"berth/services/creator/internal/launch":     {"berth/pkg/kube/client"},
		"berth/services/watcher/internal/diff":       {"berth/pkg/events", "berth/pkg/kube"},
		"berth/services/deleter/internal/reap":       {"berth/pkg/events"},
		"berth/services/licenser/internal/licensing": {"berth/pkg/events", "berth/pkg/license/quota"},
		"berth/services/licenser/internal/upkeep":    {"berth/pkg/events"},
	}
	for _, name := range []string{"api", "creator", "deleter", "licenser", "watcher"} {
		graph["berth/services/"+name] = []string{"os", "berth/pkg/service", "berth/services/" + name + "/app"}
		graph["berth/services/"+name+"/app"] = []string{"berth/pkg/service", "berth/pkg/events/natsbus"}
	}
	return graph
}

// breach is one import too many in the sound graph, or (with an empty target)
// a package that is gone, and the report that it must lead to.
type breach struct {
	from, to string
	want     string
}

func breaches() []breach {
	const (
		render  = "berth/services/creator/internal/render"
		creator = "berth/services/creator"
	)
	return []breach{
		{"berth/pkg/events", "github.com/google/uuid", "the event contract needs the standard library alone: berth/pkg/events -> github.com/google/uuid"},
		{"berth/pkg/kube", "k8s.io/client-go/kubernetes", "pure code decides; it has no cluster, database, broker or logger behind it: " + render + " -> berth/pkg/kube -> k8s.io/client-go/kubernetes"},
		{render, "os", "pure code touches no file, process or network of its own: " + render + " imports os"},
		{render, "net/http", "pure code speaks no HTTP; berth/pkg/kube names its status codes: " + render + " imports net/http"},
		{render, "github.com/spf13/cobra", "pure code imports pure code, the Kubernetes types and a few parsers: " + render + " imports github.com/spf13/cobra"},
		{"berth/pkg/kube/client", "berth/pkg/events", "Kubernetes names and labels know nothing of the log: berth/pkg/kube/client -> berth/pkg/events"},
		{"berth/pkg/events/natsbus", "k8s.io/api/core/v1", "the JetStream adapter knows the contract and the broker: berth/pkg/events/natsbus -> k8s.io/api/core/v1"},
		{"berth/pkg/client", "github.com/rs/zerolog", "the Go client needs the standard library alone: berth/pkg/client -> github.com/rs/zerolog"},
		{"berth/pkg/service", "berth/services/api/app", "shared code does not know who uses it: berth/pkg/service -> berth/services/api/app"},
		{"berth/services/api/app", "berth/pkg/kube", "api and licenser hold no Kubernetes client, nor its types: berth/services/api -> berth/services/api/app -> berth/pkg/kube -> k8s.io/api/core/v1"},
		{creator + "/app", "github.com/jackc/pgx/v5", "only the licenser talks to the database: berth/services/creator -> berth/services/creator/app -> github.com/jackc/pgx/v5"},
		{"berth/cmd/berth", "berth/services/api/app", "the command line asks the api, NATS and, for doctor, Kubernetes; it has no service inside: berth/cmd/berth -> berth/services/api/app"},
		{creator + "/app", "berth/pkg/kube/kubetest", "nothing of the tests gets into a production binary: berth/services/creator -> berth/services/creator/app -> berth/pkg/kube/kubetest"},
		{"berth/pkg/service", "testing", "nothing of the tests gets into a production binary: berth/services/api -> berth/pkg/service -> testing"},
		{"berth/pkg/kube/kubetest", "pgregory.net/rapid", "the launcher may start what tests start, without their frameworks: berth/cmd/devstack -> berth/pkg/kube/kubetest -> pgregory.net/rapid"},
		{creator, "github.com/rs/zerolog", "creator's main only glues: berth/services/creator imports github.com/rs/zerolog"},
		{"berth/cmd/berth/internal/cli", "github.com/jackc/pgx/v5", "the command line brings the database's tables up to date, and asks it nothing itself: berth/cmd/berth/internal/cli imports github.com/jackc/pgx/v5"},
		{"berth/cmd/berth/internal/cli", "berth/pkg/database/local", "the command line brings the database's tables up to date, and asks it nothing itself: berth/cmd/berth/internal/cli imports berth/pkg/database/local"},
		{"berth/services/licenser/app", "berth/pkg/database/dbtest", "nothing of the tests gets into a production binary: berth/services/licenser -> berth/services/licenser/app -> berth/pkg/database/dbtest"},
		{"berth/pkg/license/quota", "os", "pure code touches no file, process or network of its own: berth/pkg/license/quota imports os"},
		{creator + "/app", "berth/services/deleter/app", "creator knows no other service: berth/services/creator/app -> berth/services/deleter/app"},
		{creator + "/internal/launch", creator + "/internal/manifest", "creator's adapters meet in app, not each other: berth/services/creator/internal/launch imports berth/services/creator/internal/manifest"},
		{creator + "/internal/launch", creator + "/app", "creator's adapters meet in app, not each other: berth/services/creator/internal/launch imports berth/services/creator/app"},
		{"berth/services/watcher/internal/diff", "", "pure code decides; it has no cluster, database, broker or logger behind it: no package berth/services/watcher/internal/diff"},
		{"berth/services/licenser", "", "licenser's main only glues: no package berth/services/licenser"},
		{"berth/cmd/devstack", "", "the launcher may start what tests start, without their frameworks: no package berth/cmd/devstack"},
	}
}

func TestCheckAcceptsASoundGraph(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string(nil), sound().Check(arch.Rules())); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
}

func TestCheckReportsEachBreach(t *testing.T) {
	t.Parallel()
	for _, tc := range breaches() {
		t.Run(tc.from+" imports "+tc.to, func(t *testing.T) {
			t.Parallel()
			graph := sound()
			if tc.to == "" {
				delete(graph, tc.from)
			} else {
				graph[tc.from] = append(slices.Clone(graph[tc.from]), tc.to)
			}
			if got := graph.Check(arch.Rules()); !slices.Contains(got, tc.want) {
				t.Errorf("Check does not report\n  %s\nbut\n  %s", tc.want, strings.Join(got, "\n  "))
			}
		})
	}
}

// TestEveryRuleHasABreach keeps breaches complete: a rule that nothing here
// breaks might be one that cannot fail. The rules made for each service are
// told by what follows the service's name.
func TestEveryRuleHasABreach(t *testing.T) {
	t.Parallel()
	kind := func(name string) string {
		for _, service := range []string{"api", "creator", "deleter", "licenser", "watcher"} {
			for _, sep := range []string{"'s ", " knows "} {
				name = strings.TrimPrefix(name, service+sep)
			}
		}
		return name
	}

	unbroken := map[string]bool{}
	for _, rule := range arch.Rules() {
		unbroken[kind(rule.Name)] = true
	}
	for _, b := range breaches() {
		name, _, _ := strings.Cut(b.want, ": ")
		delete(unbroken, kind(name))
	}
	if len(unbroken) > 0 {
		t.Errorf("no breach for %q", slices.Sorted(maps.Keys(unbroken)))
	}
}
