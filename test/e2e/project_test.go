package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// object is a JSON object of a request.
type object = map[string]any

// patchOf is a patch as a license's quota has it: JSON text.
func patchOf(t *testing.T, operations ...object) string {
	t.Helper()
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func add(path string, value any) object { return object{"op": "add", "path": path, "value": value} }

// mounts are a container's mounts by the path.
func mounts(pod *corev1.Pod) map[string]corev1.VolumeMount {
	all := map[string]corev1.VolumeMount{}
	for _, m := range pod.Spec.Containers[0].VolumeMounts {
		all[m.MountPath] = m
	}
	return all
}

func amount(list corev1.ResourceList, name corev1.ResourceName) string {
	q := list[name]
	return q.String()
}

// TestProject takes a project through its life over /v1: what its pod is made of, and that
// all goes when it stops.
func TestProject(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	id := newID()
	started := h.call(t, http.MethodPost, "/v1/projects/"+id+"/start?wait=ready", object{
		"tag": "2026.2", "env": object{"GREETING": "hello {project_id}"}, "config": object{"theme": "dark"},
	}).want(t, http.StatusCreated)
	if strings.Contains(started.Text, "hello") {
		t.Errorf("the answer has variables: %s", started.Text)
	}
	pod := h.pod(t, id)
	container := pod.Spec.Containers[0]
	env := map[string]string{}
	for _, v := range container.Env {
		env[v.Name] = v.Value
	}
	home, software := mounts(pod)["/home/user"], mounts(pod)["/ext"]
	for what, ok := range map[string]bool{
		"name":       pod.Name == "project-"+id,
		"image":      container.Image == h.settings.Projects.Image+":2026.2",
		"argument":   slices.Equal(container.Args, []string{"--project", id}),
		"EXTRA_ENV":  decoded(t, env["EXTRA_ENV"]) == `{"GREETING":"hello {project_id}"}`,
		"config":     decoded(t, env["PROJECT_CONFIG"]) == `{"theme": "dark"}`,
		"labels":     pod.Labels["run"] == "project" && pod.Labels["project_id"] == id && pod.Labels["project_tag"] == "2026.2",
		"home":       home.SubPath == "projects/"+id && !home.ReadOnly,
		"software":   software.ReadOnly,
		"uid":        *pod.Spec.SecurityContext.RunAsUser == 2001,
		"cpu":        amount(container.Resources.Limits, corev1.ResourceCPU) == "1" && amount(container.Resources.Requests, corev1.ResourceCPU) == "20m",
		"memory":     amount(container.Resources.Limits, corev1.ResourceMemory) == "1000Mi" && amount(container.Resources.Requests, corev1.ResourceMemory) == "200Mi",
		"no network": pod.Labels["network"] == "none",
	} {
		if !ok {
			t.Errorf("%s is not as it should be: labels %v, container %+v", what, pod.Labels, container)
		}
	}
	eventually(t, "the project's row says running", func() bool {
		return h.value(t, "SELECT state->>'state' FROM projects WHERE project_id = $1", id) == "running"
	})
	// Another start finds it; a restart makes another one, with the same variables.
	h.call(t, http.MethodPost, "/v1/projects/"+id+"/start", nil).want(t, http.StatusOK)
	h.call(t, http.MethodPost, "/v1/projects/"+id+"/restart?wait=ready", nil).want(t, http.StatusCreated)
	pod = h.another(t, id, pod)
	if got := pod.Spec.Containers[0].Env; !slices.Equal(got, container.Env) || pod.Spec.Containers[0].Image != container.Image {
		t.Errorf("the variables after a restart: %v, want %v", got, container.Env)
	}
	// A template that changes is the next start's.
	h.template(t, func(pod object) { pod["metadata"].(object)["annotations"] = object{"site": "two"} })
	eventually(t, "the creator has seen the template", func() bool {
		return strings.Contains(h.call(t, http.MethodPost, "/v1/preview", object{"project_id": id}).Text, `"site":"two"`)
	})
	h.call(t, http.MethodPost, "/v1/projects/"+id+"/stop?wait=gone", nil).want(t, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	eventually(t, "the project's row says opened", func() bool {
		return h.value(t, "SELECT state->>'state' FROM projects WHERE project_id = $1", id) == "opened"
	})
	if h.run(t, id).Annotations["site"] != "two" {
		t.Error("the new template is not in the next start's pod")
	}
	got := h.call(t, http.MethodGet, "/v1/projects/"+id, nil).want(t, http.StatusOK)
	if got.text("pod.event") != "ready" || got.at("last_start.explanation") == nil {
		t.Errorf("the project: %s", got.Text)
	}
}

// TestStopIsTheLastWord: a start that nobody has come to is called off by whoever stops the project, however they ask, and
// one that is asked for after that is carried out, though both are in the queue.
func TestStopIsTheLastWord(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil, func(c *config.Config) { c.CreateDeadline = 5 * time.Minute })
	id := h.newProject(t)
	path := "/v1/projects/" + id
	h.services["creator"].stop(t)
	// ask asks in the background, again with the same key while the answer is that nobody knows.
	ask := func(what string) chan reply {
		answered, key := make(chan reply, 1), newID()
		go func() {
			var r reply
			eventually(t, what+" is answered", func() bool {
				var err error
				if r, err = h.send(t.Context(), http.MethodPost, path+"/"+what+"?wait=ready", key, nil); err != nil {
					r.Text = err.Error()
				}
				return r.Status != http.StatusServiceUnavailable
			})
			answered <- r
		}()
		return answered
	}
	start := func() chan reply {
		queued := len(eventstest.Queued(t, h.nats, events.StageCreate))
		answered := ask("start")
		eventually(t, "the start is in the queue", func() bool { return len(eventstest.Queued(t, h.nats, events.StageCreate)) > queued })
		return answered
	}
	first := start()
	h.call(t, http.MethodPost, path+"/stop", nil).want(t, http.StatusNoContent)
	second := start()
	h.exec(t, `UPDATE projects SET action_request = '{"action":"stop"}' WHERE project_id = $1`, id)
	eventually(t, "the hub's stop is taken", func() bool {
		return h.value(t, "SELECT action_request::text FROM projects WHERE project_id = $1", id) == ""
	})
	third := start()
	h.services["creator"] = h.replica(t, "creator")
	for name, answered := range map[string]chan reply{"first": first, "second": second} {
		if r := receive(t, "the answer to the "+name+" start", answered); r.Status < 400 || r.text("reason") != string(events.Deleted) {
			t.Errorf("the %s start: %d %s, want DELETED", name, r.Status, r.Text)
		}
	}
	made := receive(t, "the answer to the third start", third).want(t, http.StatusCreated)
	var claims int
	for _, e := range h.history(t, events.ProjectPod(id), events.Ready) {
		if e.Event == events.Claimed {
			claims++
		}
	}
	if now := h.record(t, id); claims != 1 || made.text("generation") != now.Generation {
		t.Errorf("%d pods were claimed, want that of the third start alone; it is %s", claims, made.text("generation"))
	}
	// A restart that is asked for before a stop, and taken after it, brings nothing up either.
	resume := h.pause(t, events.StageRestart)
	restarted := ask("restart")
	eventually(t, "the restart is in the queue", func() bool { return len(eventstest.Queued(t, h.nats, events.StageRestart)) == 1 })
	h.call(t, http.MethodPost, path+"/stop?wait=gone", nil).want(t, http.StatusNoContent)
	resume()
	if r := receive(t, "the answer to the restart", restarted); r.Status < 400 || r.text("reason") != string(events.Deleted) {
		t.Errorf("the restart: %d %s, want DELETED", r.Status, r.Text)
	}
	h.idle(t)
	if now := h.record(t, id); now.Event != events.Gone || now.Restart != nil {
		t.Errorf("after the stop the pod is %s", now.Event)
	}
}

// TestPatches are the rows of the administrator's table that are about what a pod is made of.
func TestPatches(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	if _, err := h.kube.CoreV1().ServiceAccounts(h.namespace).Create(t.Context(), &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: "default2"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	extra := func(readOnly bool) string {
		mount := object{"mountPath": "/extra", "name": "extra"}
		if readOnly {
			mount["readOnly"] = true
		}
		return patchOf(t, add("/spec/containers/0/volumeMounts/-", mount),
			add("/spec/volumes/-", object{"name": "extra", "persistentVolumeClaim": object{"claimName": "projects-software"}}))
	}
	global := object{"mountPath": "/global", "name": "home"}
	tests := map[string]struct {
		quotas []object
		holds  func(*corev1.Pod) bool
		// explains is a text of the explanation.
		explains string
	}{
		"another service account": {
			[]object{{"patch": patchOf(t, object{"op": "replace", "path": "/spec/serviceAccountName", "value": "default2"})}},
			func(p *corev1.Pod) bool { return p.Spec.ServiceAccountName == "default2" }, "/spec/serviceAccountName",
		},
		"all files of all users": {
			[]object{{"patch": patchOf(t, add("/spec/containers/0/volumeMounts/-", global))}},
			func(p *corev1.Pod) bool {
				m := mounts(p)["/global"]
				return m.Name == "home" && m.SubPath == ""
			}, "volumeMounts",
		},
		"with an index behind the end": {
			[]object{{"patch": patchOf(t, add("/spec/containers/0/volumeMounts/7", global))}},
			func(p *corev1.Pod) bool {
				all := p.Spec.Containers[0].VolumeMounts
				return all[len(all)-1].MountPath == "/global" || mounts(p)["/global"].Name == "home"
			}, "7",
		},
		"the administrators' license": {
			[]object{{"cpu": 1, "ram": 3, "ext_rw": true, "always_running": true, "patch": patchOf(t, add("/metadata/labels/admin", "yes"))}},
			func(p *corev1.Pod) bool {
				limits, requests := p.Spec.Containers[0].Resources.Limits, p.Spec.Containers[0].Resources.Requests
				return amount(limits, corev1.ResourceMemory) == "3000Mi" && amount(limits, corev1.ResourceCPU) == "1" && !mounts(p)["/ext"].ReadOnly &&
					amount(requests, corev1.ResourceMemory) == "200Mi" && p.Labels["network"] == "outside" && p.Labels["admin"] == "yes" && !readOnlyClaim(p, "software")
			}, "memory_limit",
		},
		"extra storage": {
			[]object{{"patch": extra(false)}},
			func(p *corev1.Pod) bool { m := mounts(p)["/extra"]; return m.Name == "extra" && !m.ReadOnly }, "extra",
		},
		"extra storage that is read only": {
			[]object{{"patch": extra(true)}},
			func(p *corev1.Pod) bool { return mounts(p)["/extra"].ReadOnly }, "extra",
		},
		"two licenses at one place": {
			[]object{{"patch": patchOf(t, add("/metadata/labels/who", "one"))}, {"patch": patchOf(t, add("/metadata/labels/who", "two"))}},
			func(p *corev1.Pod) bool { return p.Labels["who"] == "two" }, "/metadata/labels/who",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ids []string
			for i, q := range tc.quotas {
				// In the order of their ids, as the database has them.
				id := string("0123456789abcdef"[i]) + newID()[1:]
				h.putLicense(t, id, object{"quota": q}).want(t, http.StatusOK, http.StatusCreated)
				ids = append(ids, id)
			}
			project := h.newProject(t, ids...)
			if pod := h.run(t, project); !tc.holds(pod) {
				t.Errorf("the pod is not as it should be: labels %v, spec %+v", pod.Labels, pod.Spec)
			}
			got := h.call(t, http.MethodGet, "/v1/projects/"+project, nil).want(t, http.StatusOK)
			explanation, _ := json.Marshal(got.at("last_start.explanation"))
			for _, id := range ids {
				if !strings.Contains(string(explanation), id) || !strings.Contains(string(explanation), tc.explains) {
					t.Errorf("the explanation lacks %s or %s: %s", id, tc.explains, explanation)
				}
				if s := h.status(t, project, id); s != "active" {
					t.Errorf("license %s is %q", id, s)
				}
			}
		})
	}
}

// TestPatchesThatFail are the rows about what cannot be done: it is said, with the license's
// name, and never ignored.
func TestPatchesThatFail(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil, func(c *config.Config) {
		c.Projects.Forbid = []string{config.ForbidPrivileged, config.ForbidHostPath}
		c.Projects.ProtectedPaths = []string{"/spec/priorityClassName"}
	})
	bad := map[string]struct {
		patch string
		names []string // What the message has.
	}{
		"no JSON":           {"[{", nil},
		"no list":           {`{"op":"add","path":"/metadata/labels/x","value":"y"}`, nil},
		"unknown operation": {`[{"op":"paint","path":"/metadata/labels/x","value":"y"}]`, nil},
		"failing test":      {`[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"test","path":"/kind","value":"Service"}]`, []string{"operation 1", "/kind"}},
		"missing path":      {`[{"op":"add","path":"/spec/nowhere/x","value":"y"}]`, []string{"operation 0", "/spec/nowhere/x"}},
		"the name":          {`[{"op":"replace","path":"/metadata/name","value":"another"}]`, []string{"operation 0", "/metadata/name"}},
		"the owner":         {`[{"op":"add","path":"/metadata/annotations/berth.dev~1user","value":"alice@example.org"}]`, []string{"operation 0"}},
		"a site's path":     {`[{"op":"add","path":"/spec/priorityClassName","value":"high"}]`, []string{"/spec/priorityClassName"}},
		"privileged":        {`[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":true}}]`, []string{"rivileged"}},
		"a host's path":     {`[{"op":"add","path":"/spec/volumes/-","value":{"name":"x","hostPath":{"path":"/"}}}]`, []string{"hostPath"}},
	}
	for name, tc := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused := h.putLicense(t, newID(), object{"quota": object{"patch": tc.patch}})
			if refused.Status != http.StatusUnprocessableEntity || !strings.Contains(refused.Text, string(events.PatchInvalid)) {
				t.Errorf("saved: %d %s, want PATCH_INVALID", refused.Status, refused.Text)
			}
			// A hub may have written it all the same.
			license := newID()
			quota, _ := json.Marshal(object{"patch": tc.patch})
			h.exec(t, "INSERT INTO site_licenses (id, title, activates, quota) VALUES ($1, 'Bad one', '2020-01-01', $2)", license, string(quota))
			project := h.newProject(t, license)
			failed := h.call(t, http.MethodPost, "/v1/projects/"+project+"/start?wait=ready", nil)
			text := failed.Text
			if failed.Status < 400 || !strings.Contains(text, string(events.PatchInvalid)) || !strings.Contains(text, "Bad one") || !strings.Contains(text, license) {
				t.Errorf("started: %d %s, want PATCH_INVALID and the license", failed.Status, text)
			}
			for _, part := range tc.names {
				if !strings.Contains(text, part) {
					t.Errorf("the message lacks %q: %s", part, text)
				}
			}
			h.reaches(t, events.ProjectPod(project), events.Gone)
			if n := h.value(t, "SELECT count(*)::text FROM berth.seats WHERE license_id = $1", license); n != "0" {
				t.Errorf("%s seats are left", n)
			}
		})
	}
	t.Run("a service account that is not there", func(t *testing.T) {
		t.Parallel()
		license := h.license(t, object{
			"title": "Robots", "quota": object{"patch": patchOf(t, object{"op": "replace", "path": "/spec/serviceAccountName", "value": "no-such-account"})},
		})
		project := h.newProject(t, license)
		failed := h.call(t, http.MethodPost, "/v1/projects/"+project+"/start?wait=ready", nil)
		for _, part := range []string{string(events.PodRejected), "no-such-account", "Robots"} {
			if failed.Status < 400 || !strings.Contains(failed.Text, part) {
				t.Errorf("%d %s, want an error with %q", failed.Status, failed.Text, part)
			}
		}
	})
}

// TestLicenseChanges are the rows about running projects: what a license gives comes and
// goes with it, and a change that changes nothing restarts nothing.
func TestLicenseChanges(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil, func(c *config.Config) { c.Projects.RestartsPerSecond = 100 })
	memory := func(p *corev1.Pod) string {
		return amount(p.Spec.Containers[0].Resources.Limits, corev1.ResourceMemory)
	}

	project := h.newProject(t)
	pod := h.run(t, project)
	label := h.license(t, object{"quota": object{"patch": patchOf(t, add("/metadata/labels/mylabel", "test123"))}})
	h.attach(t, project, label)
	if pod = h.another(t, project, pod); pod.Labels["mylabel"] != "test123" {
		t.Errorf("labels after the license was added: %v", pod.Labels)
	}
	larger := h.license(t, object{"quota": object{"cpu": 1, "ram": 4}})
	h.attach(t, project, larger)
	if pod = h.another(t, project, pod); memory(pod) != "4000Mi" {
		t.Errorf("memory after a license was added: %s", memory(pod))
	}
	// Other words, and a smaller license beside it: nothing changes.
	h.putLicense(t, larger, object{"title": "Another title", "description": "words", "quota": object{"ram": 4, "cpu": 1}}).want(t, http.StatusOK)
	nothing := h.license(t, object{"quota": object{"cpu": 0, "ram": 0}})
	h.attach(t, project, nothing)
	eventually(t, "the license that gives nothing has been looked at", func() bool {
		// Licenses are looked at in the order of their ids: before the larger one it is active, since any license opens the
		// network, and behind that it is ineffective.
		return h.value(t, "SELECT site_license->$2->>'status' FROM projects WHERE project_id = $1", project, nothing) != ""
	})
	h.idle(t)
	if now := h.pod(t, project); now.UID != pod.UID {
		t.Error("restarted by a change that changes nothing")
	}
	h.putLicense(t, larger, object{"quota": object{"cpu": 1, "ram": 5}}).want(t, http.StatusOK)
	if pod = h.another(t, project, pod); memory(pod) != "5000Mi" {
		t.Errorf("memory after the license was edited: %s", memory(pod))
	}
	// It expires by itself, and later another one begins.
	h.putLicense(t, larger, object{"quota": object{"cpu": 1, "ram": 5}, "expires": soon(3 * time.Second)}).want(t, http.StatusOK)
	if pod = h.another(t, project, pod); memory(pod) != "1000Mi" {
		t.Errorf("memory after the license expired: %s", memory(pod))
	}
	later := h.license(t, object{"quota": object{"cpu": 1, "ram": 6}, "activates": soon(5 * time.Second)})
	h.attach(t, project, later)
	if pod = h.another(t, project, pod); memory(pod) != "6000Mi" {
		t.Errorf("memory after another began: %s", memory(pod))
	}
	h.detach(t, project, later)
	if pod = h.another(t, project, pod); memory(pod) != "1000Mi" {
		t.Errorf("memory after the license was removed: %s", memory(pod))
	}
	h.call(t, http.MethodDelete, "/v1/licenses/"+label, nil).want(t, http.StatusOK, http.StatusNoContent)
	if pod = h.another(t, project, pod); pod.Labels["mylabel"] != "" {
		t.Error("the label stays though its license is deleted")
	}
	// The hub's own way to say so.
	h.exec(t, "UPDATE site_licenses SET quota = '{\"cpu\": 2, \"ram\": 2}' WHERE id = $1", nothing)
	if pod = h.another(t, project, pod); memory(pod) != "2000Mi" {
		t.Errorf("memory after the hub changed its row: %s", memory(pod))
	}
}

// TestRunLimit: one seat and two projects; 0 means any number.
func TestRunLimit(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	license := h.license(t, object{"run_limit": 1, "quota": object{"cpu": 1, "ram": 2}})
	one, two := h.newProject(t, license), h.newProject(t, license)
	h.run(t, one)
	pod := h.run(t, two)
	if h.status(t, one, license) != "active" || h.status(t, two, license) != "exhausted" {
		t.Errorf("statuses %q and %q", h.status(t, one, license), h.status(t, two, license))
	}
	if got := amount(pod.Spec.Containers[0].Resources.Limits, corev1.ResourceMemory); got != "1000Mi" {
		t.Errorf("memory without the license: %s", got)
	}
	seats := h.call(t, http.MethodGet, "/v1/licenses/"+license+"/seats", nil).want(t, http.StatusOK)
	if !strings.Contains(seats.Text, one) || strings.Contains(seats.Text, two) {
		t.Errorf("seats: %s", seats.Text)
	}
	attached := h.call(t, http.MethodGet, "/v1/licenses/"+license+"/attachments", nil).want(t, http.StatusOK)
	if len(attached.at("attachments").([]any)) != 2 || attached.at("projects") != 2.0 || !strings.Contains(attached.Text, `"exhausted"`) {
		t.Errorf("attachments: %s", attached.Text)
	}
	// A restart keeps the seat; a stop gives it back.
	h.call(t, http.MethodPost, "/v1/projects/"+one+"/restart?wait=ready", nil).want(t, http.StatusCreated)
	if h.status(t, one, license) != "active" {
		t.Errorf("after a restart: %q", h.status(t, one, license))
	}
	h.call(t, http.MethodPost, "/v1/projects/"+one+"/stop?wait=gone", nil)
	eventually(t, "the seat is free", func() bool { return h.seatsAgree(t, license) == 0 })
	h.call(t, http.MethodPost, "/v1/projects/"+two+"/restart?wait=ready", nil)
	eventually(t, "the other has it", func() bool { return h.status(t, two, license) == "active" })
	usage := h.call(t, http.MethodGet, "/v1/licenses/"+license+"/usage", nil).want(t, http.StatusOK)
	if !strings.Contains(usage.Text, one) || !strings.Contains(usage.Text, two) {
		t.Errorf("usage: %s", usage.Text)
	}
	any0 := h.license(t, object{"run_limit": 0, "quota": object{"cpu": 1, "ram": 3}})
	for range 2 {
		p := h.newProject(t, any0)
		h.run(t, p)
		if s := h.status(t, p, any0); s != "active" {
			t.Errorf("a license with run_limit 0 is %q", s)
		}
	}
}

func readOnlyClaim(p *corev1.Pod, volume string) bool {
	for _, v := range p.Spec.Volumes {
		if v.Name == volume {
			return v.PersistentVolumeClaim.ReadOnly
		}
	}
	return true
}
