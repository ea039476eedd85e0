package cluster_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
)

// storageOf is a user's storage by its plain name.
func storageOf(user string) render.Storage {
	return render.Storage{Name: kube.StorageName(user, false), User: user, Namespace: namespace, Server: "10.2.0.1", Root: "/tank"}
}

func claimOf(user string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	claim := storageOf(user).Claim()
	claim.UID = "uid-there"
	for _, f := range change {
		f(claim)
	}
	return claim
}

func volumeOf(user string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	volume := storageOf(user).Volume()
	for _, f := range change {
		f(volume)
	}
	return volume
}

// twin is another user whose storage has the same plain name.
const twin = "alice-example.org"

func TestStorage(t *testing.T) {
	t.Parallel()
	phase := func(p corev1.PersistentVolumeClaimPhase) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = p }
	}
	inPhase := func(p corev1.PersistentVolumePhase) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Status.Phase = p }
	}
	dying := &metav1.Time{}
	tests := map[string]struct {
		there []runtime.Object
		claim cluster.Claim
		is    error
		asked []string // What was asked for, in order.
	}{
		"made": {
			claim: cluster.Claim{UID: "uid-user-storage-alice-example-org"},
			asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "create persistentvolumeclaims"},
		},
		"there and bound": {
			there: []runtime.Object{claimOf(user, phase(corev1.ClaimBound))}, claim: cluster.Claim{UID: "uid-there", Bound: true},
			asked: []string{"get persistentvolumeclaims"},
		},
		"bound by the old backend": {
			there: []runtime.Object{claimOf(user, phase(corev1.ClaimBound), func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil })},
			claim: cluster.Claim{UID: "uid-there", Bound: true}, asked: []string{"get persistentvolumeclaims"},
		},
		"there without its volume": {
			there: []runtime.Object{claimOf(user)}, claim: cluster.Claim{UID: "uid-there"},
			asked: []string{"get persistentvolumeclaims", "get persistentvolumes", "create persistentvolumes"},
		},
		"there, both, and not bound": {
			there: []runtime.Object{claimOf(user, phase(corev1.ClaimPending)), volumeOf(user, inPhase(corev1.VolumeAvailable))},
			claim: cluster.Claim{UID: "uid-there"}, asked: []string{"get persistentvolumeclaims", "get persistentvolumes"},
		},
		"the volume alone is there": {
			there: []runtime.Object{volumeOf(user)}, claim: cluster.Claim{UID: "uid-user-storage-alice-example-org"},
			asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "get persistentvolumes", "create persistentvolumeclaims"},
		},
		// A volume of ours for another's claim would be bound to that.
		"the claim is another user's": {there: []runtime.Object{claimOf(twin)}, is: cluster.ErrForeign, asked: []string{"get persistentvolumeclaims"}},
		"the claim is nobody's": {
			there: []runtime.Object{claimOf(user, func(c *corev1.PersistentVolumeClaim) { c.Labels = nil })}, is: cluster.ErrForeign,
			asked: []string{"get persistentvolumeclaims"},
		},
		"the volume is another user's": {
			there: []runtime.Object{volumeOf(twin)}, is: cluster.ErrForeign,
			asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "get persistentvolumes"},
		},
		"the volume is another namespace's": {
			there: []runtime.Object{volumeOf(user, func(v *corev1.PersistentVolume) { v.Spec.ClaimRef.Namespace = "other" })}, is: cluster.ErrForeign,
			asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "get persistentvolumes"},
		},
		"the claim is being removed": {
			there: []runtime.Object{claimOf(user, phase(corev1.ClaimBound), func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp, c.Finalizers = dying, []string{"x/y"} })},
			is:    cluster.ErrUnsettled, asked: []string{"get persistentvolumeclaims"},
		},
		"the claim has lost its volume": {
			there: []runtime.Object{claimOf(user, phase(corev1.ClaimLost))}, is: cluster.ErrUnsettled, asked: []string{"get persistentvolumeclaims"},
		},
		"the volume is being removed": {
			there: []runtime.Object{volumeOf(user, func(v *corev1.PersistentVolume) { v.DeletionTimestamp, v.Finalizers = dying, []string{"x/y"} })},
			is:    cluster.ErrUnsettled, asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "get persistentvolumes"},
		},
		"the volume is kept after its claim": {
			there: []runtime.Object{volumeOf(user, inPhase(corev1.VolumeReleased))}, is: cluster.ErrUnsettled,
			asked: []string{"get persistentvolumeclaims", "create persistentvolumes", "get persistentvolumes"},
		},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			client := given(t, tt.there...)
			got, err := cluster.New(client, namespace).Storage(t.Context(), storageOf(user))
			if d := cmp.Diff(tt.claim, got); d != "" || !errors.Is(err, tt.is) {
				t.Errorf("%v, want %v; claim (-want +got):\n%s", err, tt.is, d)
			}
			if err != nil && strings.Contains(err.Error(), twin) {
				t.Errorf("%v names another user", err)
			}
			var asked []string
			for _, action := range client.Actions() {
				asked = append(asked, action.GetVerb()+" "+action.GetResource().Resource)
			}
			if d := cmp.Diff(tt.asked, asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}

func TestStorageRefused(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumes"}, "v", errors.New("RBAC"))
	quota := apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "c", errors.New("exceeded quota: claims"))
	exists := apierrors.NewAlreadyExists(schema.GroupResource{}, "x")
	down := errors.New("connection refused")
	tests := map[string]struct {
		verb, resource string
		err            error
		reason         string
		is             error
		says           string
	}{
		"a volume that is not allowed":    {"create", "persistentvolumes", forbidden, "STORAGE_FAILED", nil, "volume user-storage-alice-example-org: "},
		"a claim over the quota":          {"create", "persistentvolumeclaims", quota, kube.ReasonQuotaExceeded, nil, "exceeded quota"},
		"a volume that went meanwhile":    {"create", "persistentvolumes", exists, "", cluster.ErrUnsettled, "went away"},
		"a claim that went meanwhile":     {"create", "persistentvolumeclaims", exists, "", cluster.ErrUnsettled, "went away"},
		"no API server for the claim":     {"get", "persistentvolumeclaims", down, "", down, "get claim"},
		"no API server for the volume":    {"create", "persistentvolumes", down, "", down, "create volume"},
		"no API server for the new claim": {"create", "persistentvolumeclaims", down, "", down, "create claim"},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			client := given(t)
			client.PrependReactor(tt.verb, tt.resource, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, tt.err })
			_, err := cluster.New(client, namespace).Storage(t.Context(), storageOf(user))
			var rejected *cluster.RejectedError
			if errors.As(err, &rejected) != (tt.reason != "") || rejected != nil && rejected.Reason != tt.reason {
				t.Errorf("Storage = %#v, want a rejection for %q", err, tt.reason)
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Storage = %v, want %v, …%s…", err, tt.is, tt.says)
			}
		})
	}
}

// TestStorageOfTwins: of two users whose storage has one plain name, one has it and
// the other learns so, in whatever order they come.
func TestStorageOfTwins(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{user, twin}, {twin, user}} {
		client := given(t)
		c := cluster.New(client, namespace)
		if _, err := c.Storage(t.Context(), storageOf(order[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Storage(t.Context(), storageOf(order[1])); !errors.Is(err, cluster.ErrForeign) {
			t.Errorf("the second one's: %v, want %v", err, cluster.ErrForeign)
		}
		second := storageOf(order[1])
		second.Name = kube.StorageName(order[1], true)
		if _, err := c.Storage(t.Context(), second); err != nil {
			t.Errorf("the second one's by the other name: %v", err)
		}
		volumes, err := client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, v := range volumes.Items {
			paths = append(paths, v.Name+" "+v.Spec.NFS.Path)
		}
		slices.Sort(paths)
		want := []string{storageOf(order[0]).Name + " /tank/" + order[0], second.Name + " /tank/" + order[1]}
		slices.Sort(want)
		if d := cmp.Diff(want, paths); d != "" {
			t.Errorf("volumes (-want +got):\n%s", d)
		}
	}
}
