package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/service/config"
)

// hasty gives creates little time to get further.
func hasty(c *config.Config) { c.TimeoutCreate = 15 * time.Second }

// TestFailsBeforeReady: the watcher is told false, the log says why, and nothing
// is left.
func TestFailsBeforeReady(t *testing.T) {
	t.Parallel()
	for manifest, tc := range map[string]struct {
		wantReason  events.Reason
		wantMessage string
	}{
		"fails":         {events.Crashed, "exit code 1"},
		"pull-fails":    {events.ImagePull, "ImagePullBackOff"},
		"invalid-image": {events.ImagePull, "InvalidImageName"},
		"rejected":      {events.PodRejected, "must be unique"},
	} {
		t.Run(manifest, func(t *testing.T) {
			t.Parallel()
			const user = "fails@example.org"
			name := manifest + "-fails-example-org"
			a := shared.tryCreate(t, user, manifest, nil)
			if a.Status == http.StatusOK {
				if shared.ready(t, user, name) {
					t.Fatal("ready")
				}
			} else if a.Error.Code != string(tc.wantReason) {
				// A refusal by the API server comes before the create is answered.
				t.Errorf("create: %d %s, want %s", a.Status, a.Text, tc.wantReason)
			}
			shared.fails(t, name, tc.wantReason, tc.wantMessage)
			shared.gone(t, user, name)
		})
	}
}

// TestTimesOut: what may still become ready fails when its time is over, with
// what it waited for.
func TestTimesOut(t *testing.T) {
	t.Parallel()
	s, _ := whole(t, hasty)
	for manifest, wantMessage := range map[string]string{
		"too-big": "UNSCHEDULABLE: 0/10 nodes are available", "never-ready": "NOT_READY", "crash-loop": "restarts: ",
	} {
		t.Run(manifest, func(t *testing.T) {
			t.Parallel()
			const user = "late@example.org"
			name := s.create(t, user, manifest)
			if s.ready(t, user, name) {
				t.Fatal("ready")
			}
			s.fails(t, name, events.Timeout, wantMessage)
			s.gone(t, user, name)
		})
	}
}

// TestShowsWhatItWaitsFor while there is hope.
func TestShowsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	const user = "hopes@example.org"
	name := shared.create(t, user, "too-big")
	eventually(t, "what it waits for is shown", func() bool {
		info := shared.info(t, user, name)
		return info.Reason == string(events.Unschedulable) && strings.Contains(info.Message, "0/10 nodes are available")
	})
	shared.remove(t, user, name)
	shared.gone(t, user, name)
}

// fails waits for a pod to be gone and sees to it that it failed for a reason.
func (s *site) fails(t *testing.T, pod string, reason events.Reason, message string) {
	t.Helper()
	history := s.history(t, pod, events.Gone)
	var failed events.Record
	for _, e := range history {
		if e.Event == events.Failed {
			failed = e.Record
		}
		if failed.Event != "" && (e.Reason != reason || e.Message != failed.Message) {
			t.Errorf("%s with %q %q after it had failed with %q %q", e.Event, e.Reason, e.Message, failed.Reason, failed.Message)
		}
	}
	if failed.Reason != reason || !strings.Contains(failed.Message, message) {
		t.Errorf("failed with %q %q, want %q …%s…; history %v", failed.Reason, failed.Message, reason, message, types(history))
	}
}

// TestEndsAfterReady: a pod that ends by itself stays to be looked at.
func TestEndsAfterReady(t *testing.T) {
	t.Parallel()
	for manifest, wantReason := range map[string]events.Reason{
		"completes": events.Completed, "crashes-later": events.Crashed, "oom": events.OOMKilled, "evicted": events.Evicted,
	} {
		t.Run(manifest, func(t *testing.T) {
			t.Parallel()
			const user = "ends@example.org"
			name := shared.create(t, user, manifest)
			if !shared.ready(t, user, name) {
				// It may have ended before the watch came; then the answer is no.
				t.Logf("%s had ended before it was watched", name)
			}
			history := shared.history(t, name, events.Ended)
			if last := history[len(history)-1]; last.Reason != wantReason || last.ReadyAt.IsZero() {
				t.Errorf("ended with %q, ready at %v, want %q and a time", last.Reason, last.ReadyAt, wantReason)
			}
			// Only a "no" is the newest truth; the api may hear of the end a moment later.
			eventually(t, "the api knows", func() bool { return shared.info(t, user, name).Event == string(events.Ended) })
			if shared.ready(t, user, name) {
				t.Error("a pod that has ended is said to be ready")
			}
			shared.remove(t, user, name)
			shared.gone(t, user, name)
		})
	}
}

// TestProgressExtendsTheTime: an image that takes longer to pull than
// timeoutCreate is no failure.
func TestProgressExtendsTheTime(t *testing.T) {
	t.Parallel()
	const user = "patient@example.org"
	s, _ := whole(t, hasty)
	name := s.create(t, user, "slow-start")
	var pulls podInfo
	eventually(t, "the pull shows", func() bool { pulls = s.info(t, user, name); return pulls.Reason == string(events.Pulling) })
	if pulls.Status != "Creating" {
		t.Errorf("status = %q, want Creating", pulls.Status)
	}
	if !s.ready(t, user, name) {
		t.Errorf("not ready; history %v", types(s.history(t, name, events.Gone)))
	}
	entries := s.history(t, name, events.Ready)
	last := entries[len(entries)-1]
	if took := last.ReadyAt.Sub(last.ClaimedAt); took < s.settings.TimeoutCreate {
		t.Errorf("ready after %s; that is no test of a time of %s", took, s.settings.TimeoutCreate)
	}
	s.remove(t, user, name)
	s.gone(t, user, name)
}

// TestUnready: a pod that was ready and is not for a while.
func TestUnready(t *testing.T) {
	t.Parallel()
	const user = "flaps@example.org"
	name := shared.create(t, user, "flaps")
	eventually(t, "ready, unready, ready", func() bool {
		entries := shared.history(t, name, events.Ready)
		for i, e := range entries {
			if e.Event == events.Unready && i > 0 {
				return true
			}
		}
		return false
	})
	if !shared.ready(t, user, name) {
		t.Error("not ready")
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
}

// TestDeletedOutside: somebody uses kubectl.
func TestDeletedOutside(t *testing.T) {
	t.Parallel()
	zero := int64(0)
	for name, tc := range map[string]struct {
		manifest string
		grace    *int64
	}{
		"ready":         {manifest: "notebook"},
		"ready at once": {manifest: "notebook", grace: &zero},
		"not ready":     {manifest: "slow-start"},
		"slow to go":    {manifest: "stuck"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := "outside-" + strings.ReplaceAll(name, " ", "") + "@example.org"
			pod := shared.create(t, user, tc.manifest)
			if tc.manifest == "notebook" && !shared.ready(t, user, pod) {
				t.Fatal("not ready")
			}
			// A create is answered after a while also if its pod is not made yet.
			eventually(t, "the pod is in the cluster", func() bool { _, err := shared.pod(t, pod); return err == nil })
			err := shared.kube.CoreV1().Pods(shared.namespace).Delete(t.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: tc.grace})
			if err != nil {
				t.Fatal(err)
			}
			history := shared.history(t, pod, events.Gone)
			if n := len(history); n < 2 || history[n-2].Event != events.Deleting || history[n-2].Reason != events.DeletedOutside {
				t.Errorf("history %v, want deleting because of %s before the end", types(history), events.DeletedOutside)
			}
			if shared.ready(t, user, pod) {
				t.Error("ready after it was deleted")
			}
			shared.gone(t, user, pod)
		})
	}
}

// tries asks the API server what it would say to a pod, with a limit on its CPU if that is not empty.
func (s *site) tries(t *testing.T, cpu string) error {
	t.Helper()
	pod := oldPod("tried", "", "", func(p *corev1.Pod) {
		p.Labels = nil
		if cpu != "" {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		}
	})
	_, err := s.kube.CoreV1().Pods(s.namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// TestQuota: a namespace's resource quota is named as the reason.
func TestQuota(t *testing.T) { //nolint:paralleltest // No other pod could be made meanwhile.
	quotas := shared.kube.CoreV1().ResourceQuotas(shared.namespace)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota is counted", func() bool {
		err := shared.tries(t, "")
		return err != nil && strings.Contains(err.Error(), "exceeded quota: none")
	})
	a := shared.tryCreate(t, "quota@example.org", "notebook", nil)
	shared.fails(t, "notebook-quota-example-org", events.QuotaExceeded, "exceeded quota: none")
	if err := quotas.Delete(t.Context(), "none", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server takes pods again", func() bool { return shared.tries(t, "") == nil })
	// On a busy machine the create is answered before the API server has refused.
	if a.Status != http.StatusOK && (a.Status != http.StatusConflict || a.Error.Code != string(events.QuotaExceeded)) {
		t.Errorf("create: %d %s, want 409 QUOTA_EXCEEDED", a.Status, a.Text)
	}
}
