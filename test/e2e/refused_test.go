package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// TestRefusedChange: a license that running projects share is edited so that no pod can be made with it. The projects keep the
// pods that they have and say why; a start, a preview and a replay say the same; and when the license is mended, the next pods
// are made.
func TestRefusedChange(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		patch object
		// saved says that Berth saves it, with a warning: it may be right later.
		saved bool
		says  []string
		mend  object
	}{
		"a number for a text": {
			patch: add("/metadata/labels/year", 2026),
			says:  []string{"cannot unmarshal number", "metadata.labels"},
			mend:  add("/metadata/labels/year", "2026"),
		},
		"a value that is not valid": {
			patch: add("/metadata/labels/year", "in 2026"),
			says:  []string{"metadata.labels", "is invalid"},
			mend:  add("/metadata/labels/year", "2026"),
		},
		"a service account that is not there": {
			patch: add("/spec/serviceAccountName", "nobody-yet"), saved: true,
			says: []string{`serviceaccount "nobody-yet" not found`},
			mend: add("/metadata/labels/year", "2026"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, nil)
			license := h.license(t, object{"title": "Course", "quota": object{"cpu": 1, "ram": 2}})
			running := map[string]*corev1.Pod{}
			for range 2 {
				project := h.newProject(t, license)
				running[project] = h.run(t, project)
			}

			bad := object{"cpu": 1, "ram": 2, "patch": patchOf(t, tt.patch)}
			h.replays(t, license, bad, tt.says)
			answer := h.putLicense(t, license, object{"title": "Course", "quota": bad})
			if tt.saved {
				warnings, _ := answer.want(t, http.StatusOK).at("warnings").([]any)
				if len(warnings) != 1 {
					t.Errorf("saved with the warnings %q, want one", warnings)
				}
			} else {
				answer.want(t, http.StatusUnprocessableEntity)
				for _, part := range append(tt.says, string(events.PatchInvalid), `license \"Course\"`, license) {
					if !strings.Contains(answer.Text, part) {
						t.Errorf("the refusal lacks %q: %s", part, answer.Text)
					}
				}
				text, err := json.Marshal(bad)
				if err != nil {
					t.Fatal(err)
				}
				h.exec(t, "UPDATE site_licenses SET quota = $2 WHERE id = $1", license, string(text)) // As a hub does.
			}

			const blamed = ` (the pod was changed by the patch of license "Course" (`
			for project, pod := range running {
				eventually(t, "the project says why", func() bool { return h.complaint(t, project) != "" })
				for _, part := range append(tt.says, string(events.PodRejected)+": ", blamed+license, `project-`+project) {
					if part == "project-"+project && strings.Contains(tt.says[0], "unmarshal") {
						continue // Whoever cannot read it does not know its name.
					}
					if got := h.complaint(t, project); !strings.Contains(got, part) {
						t.Errorf("the project's complaint lacks %q: %s", part, got)
					}
				}
				if h.pod(t, project).UID != pod.UID || h.record(t, project).Event != events.Ready {
					t.Errorf("project %s does not run on: %s", project, h.record(t, project).Event)
				}
			}

			// A start, which nobody can hold back, and its preview.
			third := h.newProject(t, license)
			preview := h.call(t, http.MethodPost, "/v1/preview", object{"project_id": third}).want(t, http.StatusOK)
			h.call(t, http.MethodPost, "/v1/projects/"+third+"/start?wait=ready", nil)
			failed := h.failure(t, third)
			if preview.at("verdict.accepted") != false || preview.text("verdict.message") != failed.Message || preview.text("verdict.reason") != string(failed.Reason) {
				t.Errorf("the preview says %s\nthe start     %s: %s", preview.Text, failed.Reason, failed.Message)
			}

			h.putLicense(t, license, object{"title": "Course", "quota": object{"cpu": 1, "ram": 2, "patch": patchOf(t, tt.mend)}}).want(t, http.StatusOK)
			for project, pod := range running {
				if after := h.another(t, project, pod); after.Labels["year"] != "2026" {
					t.Errorf("the next pod has the labels %v", after.Labels)
				}
				eventually(t, "the project has no complaint", func() bool { return h.complaint(t, project) == "" })
			}
			h.seatsAre(t, license, 2)
		})
	}
}

// TestFullNamespace: what asks for less is not held back where the namespace has no room for a second pod.
func TestFullNamespace(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	license := h.license(t, object{"quota": object{"cpu": 2, "ram": 4}})
	project := h.newProject(t, license)
	before := h.run(t, project)
	_, err := h.kube.CoreV1().ResourceQuotas(h.namespace).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "one"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceLimitsCPU: before.Spec.Containers[0].Resources.Limits[corev1.ResourceCPU]}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is full", func() bool {
		q, err := h.kube.CoreV1().ResourceQuotas(h.namespace).Get(t.Context(), "one", metav1.GetOptions{})
		used := q.Status.Used[corev1.ResourceLimitsCPU]
		if err != nil || used.IsZero() {
			return false
		}
		err = h.tries(t, "1") // Admission may hear of it later.
		return err != nil && strings.Contains(err.Error(), "exceeded quota: one")
	})
	h.putLicense(t, license, object{"quota": object{"cpu": 3, "ram": 4}}).want(t, http.StatusOK)
	eventually(t, "the project says why", func() bool { return strings.HasPrefix(h.complaint(t, project), string(events.QuotaExceeded)) })
	if h.pod(t, project).UID != before.UID {
		t.Error("the project has lost its pod for one that there is no room for")
	}
	// What a patch asks for counts as well.
	more := patchOf(t, object{"op": "replace", "path": "/spec/containers/0/resources/limits/cpu", "value": "2500m"})
	h.putLicense(t, license, object{"quota": object{"cpu": 2, "ram": 4, "patch": more}}).want(t, http.StatusOK)
	eventually(t, "the project says that of the patch", func() bool { return strings.Contains(h.complaint(t, project), "changed by the patch") })
	if h.pod(t, project).UID != before.UID {
		t.Error("the project has lost its pod for one whose patch asks for what there is not")
	}
	h.putLicense(t, license, object{"quota": object{"cpu": 1, "ram": 4}}).want(t, http.StatusOK)
	small := h.another(t, project, before)

	// A namespace that is frozen has no room for anything, however little it is.
	patch := []byte(`{"spec":{"hard":{"pods":"0"}}}`)
	if _, err := h.kube.CoreV1().ResourceQuotas(h.namespace).Patch(t.Context(), "one", apitypes.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is frozen", func() bool {
		err := h.tries(t, "1m")
		return err != nil && strings.Contains(err.Error(), "limited: pods=0")
	})
	h.putLicense(t, license, object{"quota": object{"cpu": 1, "ram": 3}}).want(t, http.StatusOK)
	eventually(t, "the project says that it is frozen", func() bool { return strings.Contains(h.complaint(t, project), "limited: pods=0") })
	if h.pod(t, project).UID != small.UID {
		t.Error("the project has lost its pod in a namespace that is frozen")
	}
}

// complaint is why a project does not have the pod that its licenses make.
func (h *hub) complaint(t *testing.T, project string) string {
	t.Helper()
	return h.value(t, "SELECT error FROM berth.projects WHERE project_id = $1", project)
}

// failure is how a project's start has failed, by the log.
func (h *hub) failure(t *testing.T, project string) events.Record {
	t.Helper()
	var failed events.Record
	bus := h.bus(t)
	eventually(t, "the start of "+project+" has failed", func() bool {
		history := known(t, project, func() ([]natsbus.Entry, error) { return bus.History(t.Context(), events.ProjectPod(project)) })
		for _, r := range history {
			if r.Event == events.Failed {
				failed = r.Record
			}
		}
		return failed.Event == events.Failed
	})
	return failed
}

// replays fails the test unless a replay of the starts so far says that all would fail with another quota of a license.
func (h *hub) replays(t *testing.T, license string, quota object, says []string) {
	t.Helper()
	replay := h.call(t, http.MethodPost, "/v1/replay", object{
		"since": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "dry_run": true,
		"change": object{"id": license, "title": "Course", "activates": "2020-01-01T00:00:00Z", "quota": quota},
	}).want(t, http.StatusOK)
	var part struct {
		Looked, Concerned int
		Different         []struct{ Verdict struct{ Message string } }
	}
	if err := json.Unmarshal([]byte(replay.Text), &part); err != nil {
		t.Fatal(err)
	}
	if part.Looked != 2 || part.Concerned != 2 || len(part.Different) != 2 || !strings.Contains(part.Different[0].Verdict.Message, says[0]) {
		t.Errorf("the replay says %s", replay.Text)
	}
}
