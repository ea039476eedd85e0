package e2e

import (
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestLicensesOfPersons: a license gives somebody's own pod what it says, and takes nothing from it.
func TestLicensesOfPersons(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	label := patchOf(t, object{"op": "add", "path": "/metadata/labels/course", "value": "2026"})
	own := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")},
	}
	larger := *own.DeepCopy()
	larger.Limits[corev1.ResourceMemory] = resource.MustParse("3000Mi")
	for user, tt := range map[string]struct {
		quota object
		want  corev1.ResourceRequirements
		check func(*corev1.Pod) bool
	}{
		"nothing@persons.org": {want: own},
		"label@persons.org": {
			quota: object{"patch": label}, want: own,
			check: func(p *corev1.Pod) bool { return p.Labels["course"] == "2026" },
		},
		"memory@persons.org": {quota: object{"cpu": 2, "ram": 3}, want: larger},
		"software@persons.org": {
			quota: object{"ext_rw": true}, want: own,
			check: func(p *corev1.Pod) bool {
				mount := p.Spec.Containers[0].VolumeMounts[0]
				return !mount.ReadOnly && mount.RecursiveReadOnly == nil
			},
		},
	} {
		if tt.quota != nil {
			license := h.license(t, object{"quota": tt.quota})
			h.call(t, http.MethodPut, "/v1/licenses/"+license+"/users/"+user, nil).want(t, http.StatusOK, http.StatusNoContent)
		}
		name := h.create(t, user, "own")
		eventually(t, name+" is ready", func() bool { return h.ready(t, user, name) })
		pod, err := h.kube.CoreV1().Pods(h.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := pod.Spec.Containers[0].Resources
		for kind, lists := range map[string][2]corev1.ResourceList{"requests": {tt.want.Requests, got.Requests}, "limits": {tt.want.Limits, got.Limits}} {
			want, is := lists[0], lists[1]
			if len(want) != len(is) || !want.Cpu().Equal(*is.Cpu()) || !want.Memory().Equal(*is.Memory()) {
				t.Errorf("%s: the %s are %v, want %v", user, kind, is, want)
			}
		}
		if tt.check != nil && !tt.check(pod) {
			t.Errorf("%s: the pod is %+v", user, pod)
		}
	}
}
