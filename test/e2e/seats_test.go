package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/service/config"
)

// TestSeatsUnderFire: 50 projects start at the same moment on a license with ten seats; three
// licensers, one of which is killed. Just ten get one, and the seats are those of the log after
// every step.
func TestSeatsUnderFire(t *testing.T) {
	t.Parallel()
	const projects, limit = 50, 10
	h := newHub(t, nil)
	h.replica(t, "licenser")
	third := h.replica(t, "licenser")
	license := h.license(t, object{"run_limit": limit, "quota": object{"cpu": 1, "ram": 2}})
	ids := make([]string, projects)
	for i := range ids {
		ids[i] = h.newProject(t, license)
	}
	h.startAll(t, ids, func() { third.kill(t) })
	active := h.withStatus(t, ids, license, "active")
	exhausted := h.withStatus(t, ids, license, "exhausted")
	if len(active) != limit || len(exhausted) != projects-limit {
		t.Fatalf("%d active, %d exhausted; want %d and %d", len(active), len(exhausted), limit, projects-limit)
	}
	h.seatsAre(t, license, limit)
	// Ten stop; of the others ten get seats when they are started again.
	h.each(t, active, "stop?wait=gone")
	h.seatsAre(t, license, 0)
	h.each(t, exhausted, "restart?wait=ready")
	eventually(t, "ten of the others have seats", func() bool {
		return len(h.withStatus(t, exhausted, license, "active")) == limit && len(h.withStatus(t, exhausted, license, "exhausted")) == projects-2*limit
	})
	h.seatsAre(t, license, limit)
}

// seatsAre waits until there are as many seats, and those of the log. The test's own view of the log may lag behind an
// answer, and the keeper behind both.
func (h *hub) seatsAre(t *testing.T, license string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("there are %d seats", want), func() bool { return h.seatsAgree(t, license) == want })
}

// startAll starts projects at the same moment and waits until all are ready. meanwhile is called when
// some of them are on their way.
func (h *hub) startAll(t *testing.T, ids []string, meanwhile func()) {
	t.Helper()
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() {
			r, err := h.tryCall(t.Context(), http.MethodPost, "/v1/projects/"+id+"/start", nil)
			for begun := time.Now(); r.Status == http.StatusServiceUnavailable && time.Since(begun) < limit; {
				r, err = h.tryCall(t.Context(), http.MethodPost, "/v1/projects/"+id+"/start", nil) // As a hub does.
			}
			if err != nil || r.Status >= 300 {
				t.Errorf("start %s: %d %s %v", id, r.Status, r.Text, err)
			}
		})
	}
	if meanwhile != nil {
		eventually(t, "some are on their way", func() bool { return len(h.table.Pods()) > len(ids)/10 })
		meanwhile()
	}
	group.Wait()
	for _, id := range ids {
		eventually(t, id+" is ready", func() bool { e, _ := h.table.Pod(events.ProjectPod(id)); return e.Event == events.Ready })
	}
}

// each asks for something of each project, some at a time.
func (h *hub) each(t *testing.T, ids []string, what string) {
	t.Helper()
	places := make(chan struct{}, 16)
	var group sync.WaitGroup
	for _, id := range ids {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			r, err := h.tryCall(t.Context(), http.MethodPost, "/v1/projects/"+id+"/"+what, nil)
			// On a busy machine the answer may be that it goes on; whoever asks looks what comes of it.
			if err != nil || r.Status >= 300 && r.Status != http.StatusServiceUnavailable {
				t.Errorf("%s %s: %d %s %v", what, id, r.Status, r.Text, err)
			}
		})
	}
	group.Wait()
}

// withStatus are those of the projects on which a license has a status, by the log.
func (h *hub) withStatus(t *testing.T, ids []string, license, status string) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return h.status(t, id, license) != status })
}

// sharing is how many projects share a license in TestSharedLicense.
var sharing = flag.Int("sharing", 60, "how many projects share the license that is edited")

// TestSharedLicense: many running projects share a license that is edited. Each is
// restarted once, paced, none twice, none forgotten, though the licenser that found them dies half-way.
// An edit that changes nothing restarts none.
func TestSharedLicense(t *testing.T) {
	t.Parallel()
	const pace = 20
	h := newHub(t, nil, func(c *config.Config) { c.Projects.RestartsPerSecond = pace })
	license := h.license(t, object{"quota": object{"cpu": 1, "ram": 2}})
	ids := make([]string, *sharing)
	for i := range ids {
		ids[i] = newID()
	}
	h.exec(t, fmt.Sprintf("INSERT INTO projects (project_id, users, site_license) SELECT unnest($1::uuid[]), '{}', '{\"%s\": {}}'", license), ids)
	for some := range slices.Chunk(ids, 50) {
		h.startAll(t, some, nil)
	}
	before := h.uids(t)
	generations := map[string]string{}
	for _, e := range h.table.Pods() {
		generations[e.Pod] = e.Generation
	}

	second := h.replica(t, "licenser")
	begun := time.Now()
	h.putLicense(t, license, object{"quota": object{"cpu": 1, "ram": 3}}).want(t, http.StatusOK)
	restarted := func() (n int) {
		for _, e := range h.table.Pods() {
			if e.Generation != generations[e.Pod] && e.Event == events.Ready {
				n++
			}
		}
		return n
	}
	eventually(t, "some have been restarted", func() bool { return restarted() > len(ids)/5 })
	h.services["licenser"].kill(t)
	deadline, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for restarted() < len(ids) && deadline.Err() == nil {
		select {
		case <-deadline.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	took := time.Since(begun)
	if n := restarted(); n != len(ids) {
		t.Fatalf("%d of %d have been restarted", n, len(ids))
	}
	if least := time.Duration(len(ids)/pace-1) * time.Second; took < least {
		t.Errorf("all were restarted within %s, that is faster than %d a second", took, pace)
	}
	h.idle(t)
	after := h.uids(t)
	for name, uid := range after {
		if before[name] == uid {
			t.Errorf("%s was not restarted", name)
		}
	}
	for _, id := range ids {
		claims := 0
		for _, e := range h.past(t, events.ProjectPod(id)) {
			if e.Event == events.Claimed {
				claims++
			}
		}
		if claims != 2 {
			t.Errorf("%s was made %d times, want 2", id, claims)
		}
	}
	t.Logf("%d projects were restarted within %s, %d a second at the most", len(ids), took, pace)

	h.putLicense(t, license, object{"title": "Other words", "quota": object{"ram": 3, "cpu": 1}}).want(t, http.StatusOK)
	h.putLicense(t, license, object{"quota": object{"ram": 3, "cpu": 1, "disk": 1}}).want(t, http.StatusOK) // Less than the default.
	h.idle(t)
	second.lookedAt(t, h, license)
	if again := h.uids(t); !sameUIDs(after, again) {
		t.Error("restarted by an edit that changes nothing")
	}
}

// lookedAt waits until the keeper has seen the license as it is.
func (r *replica) lookedAt(t *testing.T, h *hub, license string) {
	t.Helper()
	eventually(t, "the change has been looked at", func() bool {
		return h.value(t, "SELECT (k.digest <> '')::text FROM berth.known_licenses k WHERE k.license_id = $1", license) == "true"
	})
	h.idle(t)
}

func sameUIDs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, uid := range a {
		if b[name] != uid {
			return false
		}
	}
	return true
}

// TestPreview: what a project's pod is made of is told with its reasons, by the log, by
// GET and by a preview, which asks the API server too.
func TestPreview(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	license := h.license(t, object{"title": "Large", "quota": object{"cpu": 1, "ram": 4}})
	project := h.newProject(t, license)
	pod := h.run(t, project)

	same := h.call(t, http.MethodPost, "/v1/preview", object{"project_id": project}).want(t, http.StatusOK)
	if same.at("verdict.accepted") != true || same.at("fault") != nil {
		t.Errorf("a preview of what runs: %s", same.Text)
	}
	if !strings.Contains(same.Text, "4000Mi") {
		t.Errorf("the preview lacks the quota: %s", same.Text)
	}
	changed := h.call(t, http.MethodPost, "/v1/preview", object{"project_id": project, "change": object{
		"id": license, "activates": "2020-01-01T00:00:00Z", "quota": object{"cpu": 1, "ram": 8, "patch": patchOf(t, add("/spec/serviceAccountName", "nobody-here"))},
	}}).want(t, http.StatusOK)
	if changed.at("verdict.accepted") != false || !strings.Contains(changed.text("verdict.message"), "nobody-here") || !strings.Contains(changed.Text, "8000Mi") {
		t.Errorf("a preview of a change that the API server refuses: %s", changed.Text)
	}
	bad := h.call(t, http.MethodPost, "/v1/preview", object{"project_id": project, "licenses": []object{{
		"id": newID(), "title": "Broken", "activates": "2020-01-01T00:00:00Z", "quota": object{"patch": `[{"op":"remove","path":"/spec/x/y"}]`},
	}}}).want(t, http.StatusOK)
	if bad.text("fault.reason") != string(events.PatchInvalid) || !strings.Contains(bad.text("fault.message"), "Broken") {
		t.Errorf("a preview of a bad patch: %s", bad.Text)
	}
	if now := h.pod(t, project); now.UID != pod.UID || now.ResourceVersion == "" {
		t.Error("a preview changed what runs")
	}
	if n := h.value(t, "SELECT count(*)::text FROM berth.seats"); n != "1" {
		t.Errorf("%s seats after previews", n)
	}
	replay := h.call(t, http.MethodPost, "/v1/replay", object{
		"since": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "dry_run": true,
		"change": object{"id": license, "activates": "2020-01-01T00:00:00Z", "quota": object{"cpu": 2, "ram": 8}},
	}).want(t, http.StatusOK)
	if !strings.Contains(replay.Text, project) || !strings.Contains(replay.Text, "8000Mi") {
		t.Errorf("a replay against a change: %s", replay.Text)
	}
	pods, err := h.kube.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Errorf("%d pods, error %v", len(pods.Items), err)
	}
}
