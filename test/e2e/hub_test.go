package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/cmd/devstack/stack/project"
	"berth/pkg/database"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// hub is a Berth with a database of its own, and with the template and the claims that
// project pods need.
type hub struct {
	*parts
	services map[string]*replica
	db       *pgxpool.Pool
	table    *natsbus.Table
}

// newHub returns a Berth for projects, all of whose services run. prepare, if not nil, fills
// the database before Berth's own tables are made.
func newHub(t *testing.T, prepare func(*pgxpool.Pool), change ...func(*config.Config)) *hub {
	t.Helper()
	return newHubAt(t, newDatabase(t), prepare, change...)
}

// newHubAt is newHub with a database that the test brings along.
func newHubAt(t *testing.T, address string, prepare func(*pgxpool.Pool), change ...func(*config.Config)) *hub {
	t.Helper()
	db, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	usual := func(c *config.Config) {
		c.Projects.Image, c.Projects.Tag = project.Image, project.Tag
	}
	h := &hub{parts: newParts(t, append([]func(*config.Config){unhurried, usual}, change...)...), db: db}
	h.database = address
	if prepare != nil {
		prepare(h.db)
	}
	if _, err := database.Migrate(t.Context(), h.database, func(string) {}); err != nil {
		t.Fatal(err)
	}
	site := h.settings.Projects
	if err := project.Provide(t.Context(), h.kube, h.namespace, site, nil); err != nil {
		t.Fatal(err)
	}
	if err := project.ProvideClaims(t.Context(), h.kube, h.namespace, site); err != nil {
		t.Fatal(err)
	}
	for _, claim := range project.Claims(site) {
		h.bound(t, claim)
	}
	h.services = h.start(t, all()...)
	h.compared(t)
	h.table = h.bus(t).NewTable(false, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.table.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "the log is read", func() bool { return h.table.Ready() == nil })
	return h
}

// newDatabase makes a database on the server of the shared stack.
func newDatabase(t *testing.T) (address string) {
	t.Helper()
	name := "e2e_" + strings.ToLower(rand.Text()[:10])
	admin, err := pgx.Connect(t.Context(), shared.stack.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	// Of template0, which nobody is ever connected to: one that somebody is cannot be copied.
	if _, err := admin.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(shared.stack.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Path = "/" + name
	return parsed.String()
}

// exec changes the database behind Berth's back, as a hub does.
func (h *hub) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := h.db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// value is the first column of the first row of a query, as text; empty for none and for NULL.
func (h *hub) value(t *testing.T, query string, args ...any) string {
	t.Helper()
	var text *string
	err := h.db.QueryRow(t.Context(), query, args...).Scan(&text)
	if err != nil && err != pgx.ErrNoRows { //nolint:errorlint // pgx returns it bare.
		t.Fatalf("%s: %v", query, err)
	}
	if text == nil {
		return ""
	}
	return *text
}

// reply is what /v1 says.
type reply struct {
	Status int
	Text   string
}

// at is a member of the answer, found by names with dots between; nil for none.
func (r reply) at(path string) any {
	var v any
	if json.Unmarshal([]byte(r.Text), &v) != nil {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (r reply) text(path string) string {
	text, _ := r.at(path).(string)
	return text
}

// call asks /v1 as the administrator does: again, as long as it is told that nobody knows.
func (h *hub) call(t *testing.T, method, path string, body any) reply {
	t.Helper()
	var r reply
	eventually(t, method+" "+path+" is answered", func() bool {
		var err error
		if r, err = h.tryCall(t.Context(), method, path, body); err != nil {
			t.Fatal(err)
		}
		return r.Status != http.StatusServiceUnavailable
	})
	return r
}

func (h *hub) tryCall(ctx context.Context, method, path string, body any) (reply, error) {
	return h.send(ctx, method, path, "", body)
}

// send is tryCall with a key, with which the same request can be made again.
func (h *hub) send(ctx context.Context, method, path, key string, body any) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	data := []byte{}
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return reply{}, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, h.URL+path, bytes.NewReader(data))
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := shared.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(response.Body)
	return reply{response.StatusCode, text.String()}, err
}

// want fails the test unless the answer has one of the statuses.
func (r reply) want(t *testing.T, statuses ...int) reply {
	t.Helper()
	if !slices.Contains(statuses, r.Status) {
		t.Fatalf("status %d, want %v: %s", r.Status, statuses, r.Text)
	}
	return r
}

// newID is a UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// license saves a license through Berth that is valid now, and returns its id.
func (h *hub) license(t *testing.T, members map[string]any) string {
	t.Helper()
	id := newID()
	h.putLicense(t, id, members).want(t, http.StatusOK, http.StatusCreated)
	return id
}

func (h *hub) putLicense(t *testing.T, id string, members map[string]any) reply {
	t.Helper()
	all := map[string]any{"id": id, "title": "License " + id[:4], "activates": "2020-01-01T00:00:00Z"}
	maps.Copy(all, members)
	return h.call(t, http.MethodPut, "/v1/licenses/"+id, all)
}

// attach attaches licenses to a project.
func (h *hub) attach(t *testing.T, project string, licenses ...string) {
	t.Helper()
	for _, id := range licenses {
		h.call(t, http.MethodPut, "/v1/licenses/"+id+"/projects/"+project, nil).want(t, http.StatusOK, http.StatusNoContent)
	}
}

func (h *hub) detach(t *testing.T, project, license string) {
	t.Helper()
	h.call(t, http.MethodDelete, "/v1/licenses/"+license+"/projects/"+project, nil).want(t, http.StatusOK, http.StatusNoContent)
}

// newProject makes a project with licenses.
func (h *hub) newProject(t *testing.T, licenses ...string) string {
	t.Helper()
	id := newID()
	h.exec(t, "INSERT INTO projects (project_id, users, site_license) VALUES ($1, '{}', '{}')", id)
	h.attach(t, id, licenses...)
	return id
}

// run starts a project, waits until its pod is ready, and returns that pod.
func (h *hub) run(t *testing.T, project string) *corev1.Pod {
	t.Helper()
	h.call(t, http.MethodPost, "/v1/projects/"+project+"/start?wait=ready", nil).want(t, http.StatusOK, http.StatusCreated)
	return h.pod(t, project)
}

// pod is a project's pod in Kubernetes.
func (h *hub) pod(t *testing.T, project string) *corev1.Pod {
	t.Helper()
	pod, err := h.kube.CoreV1().Pods(h.namespace).Get(t.Context(), events.ProjectPod(project), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// another waits until a project has another pod than before, ready, and returns it.
func (h *hub) another(t *testing.T, project string, before *corev1.Pod) *corev1.Pod {
	t.Helper()
	var after *corev1.Pod
	eventually(t, "the project "+project+" has another pod, ready", func() bool {
		pod, err := h.kube.CoreV1().Pods(h.namespace).Get(t.Context(), events.ProjectPod(project), metav1.GetOptions{})
		after = pod
		return err == nil && pod.UID != before.UID && h.record(t, project).Event == events.Ready
	})
	return after
}

// record is the newest record of a project's pod.
func (h *hub) record(t *testing.T, project string) events.Record {
	t.Helper()
	return known(t, project, func() (natsbus.Entry, error) { return h.table.Fresh(t.Context(), events.ProjectPod(project)) }).Record
}

// status is what became of a license when a project was started, by the log.
func (h *hub) status(t *testing.T, project, license string) string {
	t.Helper()
	for _, l := range h.record(t, project).Licenses {
		if l.ID == license {
			return l.Status
		}
	}
	return ""
}

// seats are the seats in the database, as pod@generation, and those that the log says
// there must be.
func (h *hub) seats(t *testing.T, license string) (held, due []string) {
	t.Helper()
	rows, err := h.db.Query(t.Context(), "SELECT pod || '@' || generation FROM berth.seats WHERE license_id = $1", license)
	if err != nil {
		t.Fatal(err)
	}
	if held, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	for _, r := range h.table.Pods() {
		if r.Event == events.Gone {
			continue
		}
		for _, l := range r.Licenses {
			if l.ID == license && l.Status == "active" {
				due = append(due, r.Pod+"@"+r.Generation)
			}
		}
	}
	slices.Sort(held)
	slices.Sort(due)
	return held, due
}

// seatsAgree waits until the seats are those of the log, and returns how many there are.
func (h *hub) seatsAgree(t *testing.T, license string) int {
	t.Helper()
	var held, due []string
	eventually(t, "the seats are those of the log", func() bool {
		held, due = h.seats(t, license)
		return slices.Equal(held, due)
	})
	return len(held)
}

// soon is a time that a test can wait for.
func soon(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }

// template changes the template as an administrator does.
func (h *hub) template(t *testing.T, change func(pod object)) {
	t.Helper()
	templates := h.kube.CoreV1().ConfigMaps(h.namespace)
	kept, err := templates.Get(t.Context(), h.settings.Projects.TemplateConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var pod object
	if err := json.Unmarshal([]byte(kept.Data[h.settings.Projects.TemplateKey]), &pod); err != nil {
		t.Fatal(err)
	}
	change(pod)
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	kept.Data[h.settings.Projects.TemplateKey] = string(text)
	if _, err := templates.Update(t.Context(), kept, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// decoded is what a variable of the template holds.
func decoded(t *testing.T, text string) string {
	t.Helper()
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Errorf("%q: %v", text, err)
	}
	return string(plain)
}
