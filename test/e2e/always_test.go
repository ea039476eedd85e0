package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/database/local"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// TestAlwaysRunning: a project that is to run always comes back when its pod dies, and not
// when it is stopped.
func TestAlwaysRunning(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	license := h.license(t, object{"quota": object{"cpu": 1, "ram": 1, "always_running": true}})
	always, other := h.newProject(t, license), h.newProject(t)
	pod := h.run(t, always)
	h.run(t, other)
	for _, id := range []string{always, other} {
		grace := int64(0)
		if err := h.kube.CoreV1().Pods(h.namespace).Delete(t.Context(), events.ProjectPod(id), metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
			t.Fatal(err)
		}
	}
	h.another(t, always, pod)
	h.isGone(t, other)
	h.call(t, http.MethodPost, "/v1/projects/"+always+"/stop?wait=gone", nil).want(t, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	eventually(t, "it counts as stopped", func() bool {
		return h.value(t, "SELECT wanted::text FROM berth.projects WHERE project_id = $1", always) == "false"
	})
	h.idle(t)
	for _, id := range []string{always, other} {
		if e := h.record(t, id); e.Event != events.Gone {
			t.Errorf("%s was stopped and is %s", id, e.Event)
		}
	}
}

// isGone waits until a project's newest pod is gone.
func (h *hub) isGone(t *testing.T, project string) {
	t.Helper()
	eventually(t, "the pod of "+project+" is gone", func() bool { return h.record(t, project).Event == events.Gone })
}

// TestGivenUp: a project that is to run always and never gets ready is given up, with the
// reason where people look.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil, func(c *config.Config) { c.Projects.AlwaysRunningFailures = 2 })
	license := h.license(t, object{"quota": object{"cpu": 1, "ram": 1, "always_running": true}})
	id := h.newProject(t, license)
	h.template(t, func(pod object) {
		pod["spec"].(object)["serviceAccountName"] = "no-such-account"
	})
	eventually(t, "the creator has seen the template", func() bool {
		return strings.Contains(h.call(t, http.MethodPost, "/v1/preview", object{"project_id": id}).Text, "no-such-account")
	})
	h.call(t, http.MethodPost, "/v1/projects/"+id+"/start?wait=ready", nil)
	eventually(t, "it is given up", func() bool {
		r := h.call(t, http.MethodGet, "/v1/projects/"+id, nil)
		return strings.Contains(r.Text, string(events.GaveUp))
	})
	// Somebody mends it and starts it: it has all its chances again.
	h.template(t, func(pod object) { delete(pod["spec"].(object), "serviceAccountName") })
	eventually(t, "the creator has seen the new template", func() bool {
		r := h.call(t, http.MethodPost, "/v1/projects/"+id+"/start?wait=ready", nil)
		return r.Status == http.StatusOK || r.Status == http.StatusCreated
	})
	eventually(t, "nothing is held against it", func() bool {
		return !strings.Contains(h.call(t, http.MethodGet, "/v1/projects/"+id, nil).Text, string(events.GaveUp))
	})
}

// TestHub: a hub's database, made elsewhere, drives Berth by its rows alone, and finds nothing
// written in its tables but what is agreed on.
func TestHub(t *testing.T) {
	t.Parallel()
	dump, err := os.ReadFile("testdata/hub.sql")
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, func(db *pgxpool.Pool) {
		if _, err := db.Exec(t.Context(), string(dump)); err != nil {
			t.Fatal(err)
		}
	})
	const (
		project  = "7f000000-0000-4000-8000-000000000001" // Has both licenses.
		license  = "5e000000-0000-4000-8000-000000000001" // Valid.
		expired  = "5e000000-0000-4000-8000-000000000002"
		stranger = "7f000000-0000-4000-8000-0000000000ff"
	)
	before := h.rows(t)
	ask := func(action string) {
		h.exec(t, "UPDATE projects SET action_request = $2 WHERE project_id = $1", project, `{"action": "`+action+`", "time": "2026-11-22T10:00:00.000Z"}`)
		eventually(t, "the request is taken", func() bool {
			return h.value(t, "SELECT action_request::text FROM projects WHERE project_id = $1", project) == ""
		})
	}
	ask("start")
	h.reaches(t, events.ProjectPod(project), events.Ready)
	pod := h.pod(t, project)
	if h.status(t, project, license) != "active" || h.status(t, project, expired) != "expired" {
		t.Errorf("statuses %q, %q", h.status(t, project, license), h.status(t, project, expired))
	}
	eventually(t, "the hub sees that it runs", func() bool {
		return h.value(t, "SELECT state->>'state' FROM projects WHERE project_id = $1", project) == "running"
	})
	ask("restart")
	h.another(t, project, pod)
	ask("stop")
	h.isGone(t, project)
	eventually(t, "the hub sees that it stopped", func() bool {
		return h.value(t, "SELECT state->>'state' FROM projects WHERE project_id = $1", project) == "opened"
	})
	var r reply
	eventually(t, "a start is answered", func() bool {
		r = h.call(t, http.MethodPost, "/v1/projects/"+stranger+"/start?wait=ready", nil)
		return r.Status != http.StatusServiceUnavailable
	})
	if r.Status != http.StatusNotFound || !strings.Contains(r.Text, string(events.ProjectUnknown)) {
		t.Errorf("a project that the hub does not have: %d %s", r.Status, r.Text)
	}
	after := h.rows(t)
	allowed := map[string]bool{"run_quota": true, "site_license": true, "state": true, "action_request": true, "last_used": true}
	for key, row := range after {
		if before[key] == nil {
			t.Errorf("a row that was not there: %s", key)
		}
		for column, value := range row {
			if diff := cmp.Diff(before[key][column], value); diff != "" && !allowed[column] {
				t.Errorf("%s: %s has changed (-before +after):\n%s", key, column, diff)
			}
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d rows, %d before", len(after), len(before))
	}
}

// rows are all rows of the hub's tables.
func (h *hub) rows(t *testing.T) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for table, key := range map[string]string{"projects": "project_id", "site_licenses": "id", "server_settings": "name", "accounts": "account_id"} {
		rows, err := h.db.Query(t.Context(), "SELECT '"+table+"/' || "+key+", to_jsonb(t)::text FROM "+table+" t")
		if err != nil {
			t.Fatal(err)
		}
		var name, text string
		if _, err := pgx.ForEachRow(rows, []any{&name, &text}, func() error {
			var row map[string]any
			err := json.Unmarshal([]byte(text), &row)
			all[name] = row
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestDatabaseAway: while the database is away starts wait, and /readyz says why; when it is
// back they are carried out.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func() *local.Server {
		server, err := local.Start(t.Context(), local.Options{Dir: filepath.Join(dir, "postgres")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Stop() })
		return server
	}
	server := start()
	// The next server has another port, since somebody else may have taken this one's.
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	way := newRoad(t, address.Host)
	address.Host = way.address()
	h := newHubAt(t, address.String(), nil)
	id := h.newProject(t)
	h.db.Reset()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	h.call(t, http.MethodPost, "/v1/projects/"+id+"/start", nil).want(t, http.StatusCreated)
	eventually(t, "/readyz of the licenser says why", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.services["licenser"].Addr()+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := shared.http.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var text strings.Builder
		_ = response.Write(&text)
		return response.StatusCode == http.StatusServiceUnavailable && strings.Contains(text.String(), "database")
	})
	eventually(t, "the project waits, and its record says why", func() bool {
		r := h.record(t, id)
		return r.Event == events.Waiting && r.Reason == events.Unavailable && r.Unlicensed() && strings.Contains(r.Message, "database")
	})
	h.call(t, http.MethodGet, "/v1/projects/"+id, nil).want(t, http.StatusOK)
	if r, err := h.tryCall(t.Context(), http.MethodGet, "/v1/licenses", nil); err != nil || r.Status != http.StatusServiceUnavailable {
		t.Errorf("the licenses: %d %s, %v, want 503", r.Status, r.Text, err)
	}
	way.lead(net.JoinHostPort("127.0.0.1", strconv.Itoa(start().Port)))
	h.reaches(t, events.ProjectPod(id), events.Ready)
}

// TestIdle: a project that nobody uses is warned and stopped; one that somebody uses goes on.
func TestIdle(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil, func(c *config.Config) { c.Projects.IdleWarning = 5 * time.Second })
	idle, used := newID(), newID()
	h.exec(t, `INSERT INTO projects (project_id, users, site_license, settings) VALUES ($1, '{}', '{}', '{"mintime": 1}'), ($2, '{}', '{}', '{"mintime": 1}')`, idle, used)
	h.exec(t, `INSERT INTO server_settings (name, value) VALUES ('default_quotas', '{"idle_timeout": 30}')`)
	h.run(t, idle)
	h.run(t, used)
	using, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-using.Done():
				return
			case <-tick.C:
			}
			r, err := h.tryCall(using, http.MethodPost, "/v1/projects/"+used+"/activity", nil)
			if using.Err() == nil && (err != nil || r.Status >= 300 && r.Status != http.StatusServiceUnavailable) {
				t.Errorf("activity: %d %s %v", r.Status, r.Text, err)
			}
		}
	}()
	defer func() { stop(); <-done }()
	history := h.history(t, events.ProjectPod(idle), events.Gone)
	if r := history[len(history)-1]; r.Reason != events.Idle {
		t.Errorf("it was stopped with reason %s", r.Reason)
	}
	if !slices.ContainsFunc(history, func(e natsbus.Entry) bool { return e.Event == events.Ready && !e.IdleStopAt.IsZero() }) {
		t.Error("it was not warned")
	}
	if r := h.record(t, used); r.Event != events.Ready {
		t.Errorf("the one that is used is %s", r.Event)
	}
}
