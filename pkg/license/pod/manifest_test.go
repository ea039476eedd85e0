package pod_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
)

// bare is the quota without licenses.
func bare() quota.Quota {
	return quota.Quota{CPULimit: 1, CPURequest: 0.02, MemoryLimit: 1000, MemoryRequest: 200}
}

func manifest(resources string) string {
	return `{"metadata":{"labels":{}},"spec":{"containers":[{"name":"jupyter","resources":` + resources + `},{"name":"side"}]}}`
}

// A license gives a manifest, and takes nothing from it.
func TestManifest(t *testing.T) {
	t.Parallel()
	const limits, requests = "/spec/containers/0/resources/limits", "/spec/containers/0/resources/requests"
	with := func(change func(q *quota.Quota)) quota.Quota {
		q := bare()
		change(&q)
		return q
	}
	memory := with(func(q *quota.Quota) { q.MemoryLimit = 3000 })
	machine := quota.Quota{Network: true, CPULimit: 12, MemoryLimit: 500, DedicatedVM: json.RawMessage(`{"machine":"onprem","name":"big"}`)}
	gpus := with(func(q *quota.Quota) { q.GPU = json.RawMessage(`{"num":2}`) })
	for name, tc := range map[string]struct {
		base    string
		quota   quota.Quota
		opts    pod.Options
		want    []string
		ignored []quota.Ignored
	}{
		"nothing given":                       {base: manifest(`{"requests":{"cpu":"100m","memory":"256Mi"}}`), quota: bare()},
		"nothing given to what asks for more": {base: manifest(`{"limits":{"cpu":"1000"}}`), quota: bare()},
		"less given": {
			base: manifest(`{}`), quota: with(func(q *quota.Quota) { q.CPULimit, q.CPURequest, q.MemoryLimit, q.MemoryRequest = 0.5, 0, 500, 0 }),
		},
		"a limit beside requests": {
			base: manifest(`{"requests":{"cpu":"100m","memory":"256Mi"}}`), quota: memory,
			want: []string{`add ` + limits + ` {"memory":"3000Mi"} memory_limit`},
		},
		"a limit where nothing is": {
			base: manifest(`null`), quota: memory,
			want: []string{
				`replace /spec/containers/0/resources {"limits":{"memory":"3000Mi"}} memory_limit`,
				`add ` + requests + ` {"memory":"200Mi"} memory_limit: without one Kubernetes takes the limit for it`,
			},
		},
		"a limit above one that was the request": {
			base: manifest(`{"limits":{"memory":"1Gi"}}`), quota: memory,
			want: []string{
				`replace ` + limits + `/memory "3000Mi" memory_limit`,
				`add ` + requests + ` {"memory":"1Gi"} memory_limit: without one Kubernetes takes the limit for it`,
			},
		},
		"a limit below the own": {
			base: manifest(`{"limits":{"memory":"4G"}}`), quota: memory,
			ignored: []quota.Ignored{{Field: "memory_limit", Why: "the manifest asks for as much or more: 4G"}},
		},
		"a limit that is the own, in other words": {
			base: manifest(`{"limits":{"cpu":2}}`), quota: with(func(q *quota.Quota) { q.CPULimit = 2 }),
			ignored: []quota.Ignored{{Field: "cpu_limit", Why: "the manifest asks for as much or more: 2"}},
		},
		"a limit below the request": {
			base: manifest(`{"requests":{"memory":"4Gi"}}`), quota: memory,
			ignored: []quota.Ignored{{Field: "memory_limit", Why: "the manifest asks for as much or more: 4Gi"}},
		},
		"a request alone": {
			base: manifest(`{}`), quota: with(func(q *quota.Quota) { q.MemoryRequest = 300 }),
			want: []string{`add ` + requests + ` {"memory":"300Mi"} memory_request`},
		},
		"a request above the limit": {
			base: manifest(`{"limits":{"memory":"512Mi"},"requests":{"memory":"100Mi"}}`), quota: with(func(q *quota.Quota) { q.MemoryRequest = 900 }),
			want: []string{`replace ` + requests + `/memory "512Mi" memory_request: cut to the limit`},
		},
		"a request above the limit, which is requested": {
			base: manifest(`{"limits":{"memory":"512Mi"}}`), quota: with(func(q *quota.Quota) { q.MemoryRequest = 900 }),
			ignored: []quota.Ignored{{Field: "memory_request", Why: "the manifest requests as much as its limit allows: 512Mi"}},
		},
		"a request below the own": {
			base: manifest(`{"requests":{"cpu":"0.5"}}`), quota: with(func(q *quota.Quota) { q.CPURequest = 0.1 }),
			ignored: []quota.Ignored{{Field: "cpu_request", Why: "the manifest asks for as much or more: 0.5"}},
		},
		"both": {
			base: manifest(`{}`), quota: with(func(q *quota.Quota) { q.CPULimit, q.CPURequest = 2, 1 }),
			want: []string{
				`add ` + limits + ` {"cpu":"2000m"} cpu_limit`,
				`add ` + requests + ` {"cpu":"1000m"} cpu_request`,
			},
		},
		"the site's bound": {
			base: manifest(`{"requests":{"memory":"700Mi"}}`), quota: with(func(q *quota.Quota) { q.MemoryRequest = 900 }),
			opts:    pod.Options{MemoryRequestLimit: 600},
			ignored: []quota.Ignored{{Field: "memory_request", Why: "the manifest asks for as much or more: 700Mi"}},
		},
		"a machine": {
			base: manifest(`{"requests":{"memory":"256Mi"}}`), quota: machine,
			want: []string{
				`add ` + limits + ` {"cpu":"12000m"} cpu_limit`,
				`add ` + requests + `/cpu "0m" cpu_limit: without one Kubernetes takes the limit for it`,
				`add /spec/tolerations [{"effect":"NoSchedule","key":"cocalc-dedicated_vm","operator":"Equal","value":"big"}] dedicated_vm`,
				`add /spec/affinity {"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"preference":{"matchExpressions":[{"key":"cocalc-dedicated_vm","operator":"In","values":["big"]}]},"weight":100}]}} dedicated_vm`,
			},
		},
		"devices": {
			base: manifest(`{"limits":{"nvidia.com/gpu":"1"},"requests":{"nvidia.com/gpu":"1"}}`), quota: gpus,
			want: []string{
				`replace ` + limits + `/nvidia.com~1gpu 2 gpu`,
				`replace ` + requests + `/nvidia.com~1gpu 2 gpu: it must be the limit`,
			},
		},
		"fewer devices than its own": {
			base: manifest(`{"limits":{"nvidia.com/gpu":"4"}}`),
			quota: with(func(q *quota.Quota) {
				q.GPU = json.RawMessage(`{"num":2,"nodeLabel":"gpu=t4","toleration":"gpu=t4"}`)
			}),
			ignored: []quota.Ignored{{Field: "gpu", Why: "the manifest asks for as much or more: 4"}},
		},
		"software": {
			base: manifest(`{}`), quota: with(func(q *quota.Quota) { q.ExtRW = true }),
			ignored: []quota.Ignored{{Field: "ext_rw", Why: "the container mounts no volume software at /ext"}},
		},
		"the network": {
			base: `{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{}]}}`, quota: with(func(q *quota.Quota) { q.Network = true }),
			want: []string{`replace /metadata/labels/network "outside" network`},
		},
		"no network": {
			base: `{"metadata":{"labels":{"network":"outside"}},"spec":{"containers":[{}]}}`, quota: bare(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := tc.opts
			opts.Manifest, opts.Unlicensed = true, bare()
			result, err := pod.Map(json.RawMessage(tc.base), tc.quota, opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range result.Changes {
				got = append(got, changed(c))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("changes: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tc.ignored, result.Ignored); diff != "" {
				t.Errorf("ignored: -want +got:\n%s", diff)
			}
		})
	}
}

// An amount that cannot be compared is refused with its place; one that no license
// raises is left to the API server.
func TestManifestQuantities(t *testing.T) {
	t.Parallel()
	for amount, fine := range map[string]bool{
		`"1"`: true, `1.5`: true, `"+.5"`: true, `"1e3"`: true, `"1E-3"`: true, `"1E"`: true, `"5u"`: true, `"7Ki"`: true, `null`: true,
		`""`: false, `"much"`: false, `"1e400"`: false, `"1 Gi"`: false, `"1kB"`: false, `"0x1"`: false, `"inf"`: false, `true`: false, `{}`: false,
		`"` + strings.Repeat("1", 65) + `"`: false,
	} {
		t.Run(amount, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []string{"limits", "requests"} {
				text := manifest(`{"` + kind + `":{"memory":` + amount + `}}`)
				q := bare()
				q.MemoryLimit = 2000
				_, err := pod.Map(json.RawMessage(text), q, pod.Options{Manifest: true, Unlicensed: bare()})
				if (err == nil) != fine {
					t.Errorf("%s: error %v", kind, err)
				}
				if err != nil && !strings.Contains(err.Error(), "/spec/containers/0/resources/"+kind+"/memory") {
					t.Errorf("%v does not say where", err)
				}
			}
		})
	}
}

// Whatever the manifest and the licenses: no amount becomes smaller, none is above its
// limit that was not, and the changes give the pod.
func TestManifestLosesNothing(t *testing.T) {
	t.Parallel()
	sizes := map[string]float64{"": 0, "0": 0, "100Mi": 100, "200Mi": 200, "1Gi": 1024, "3000Mi": 3000, "4Gi": 4096}
	drawn := rapid.SampledFrom([]string{"", "0", "100Mi", "200Mi", "1Gi", "3000Mi", "4Gi"})
	amount := rapid.SampledFrom([]float64{0, 100, 200, 1000, 2000, 3000, 5000})
	rapid.Check(t, func(r *rapid.T) {
		limit, request := drawn.Draw(r, "limit"), drawn.Draw(r, "request")
		if limit != "" && sizes[request] > sizes[limit] {
			r.Skip("no pod that the API server takes")
		}
		resources := map[string]map[string]string{"limits": {}, "requests": {}}
		if limit != "" {
			resources["limits"]["memory"] = limit
		}
		if request != "" {
			resources["requests"]["memory"] = request
		}
		text, err := json.Marshal(resources)
		if err != nil {
			r.Fatal(err)
		}
		base := json.RawMessage(manifest(string(text)))
		q, unlicensed := bare(), bare()
		q.MemoryLimit, q.MemoryRequest = amount.Draw(r, "licensed limit"), amount.Draw(r, "licensed request")
		result, err := pod.Map(base, q, pod.Options{Manifest: true, Unlicensed: unlicensed})
		if err != nil {
			r.Fatal(err)
		}

		var got struct {
			Spec struct {
				Containers []struct {
					Resources struct{ Limits, Requests map[string]string }
				}
			}
		}
		if err := json.Unmarshal(result.Pod, &got); err != nil {
			r.Fatal(err)
		}
		size := func(text string) (mebibytes float64) {
			unit := ""
			if _, err := fmt.Sscanf(text, "%f%s", &mebibytes, &unit); unit == "Gi" {
				mebibytes *= 1024
			} else if err != nil && text != "" && text != "0" {
				r.Fatal(err)
			}
			return mebibytes
		}
		is := got.Spec.Containers[0].Resources
		after, limited := is.Limits["memory"]
		asks, asked := is.Requests["memory"]
		switch {
		case limit != "" && size(after) < sizes[limit]:
			r.Fatalf("the limit %s became %s", limit, after)
		case size(asks) < sizes[request]:
			r.Fatalf("the request %s became %s", request, asks)
		case limited && size(asks) > size(after):
			r.Fatalf("the request %s is above the limit %s", asks, after)
		case limited && after != limit && !asked:
			r.Fatalf("the limit %s would be requested", after)
		case limit != "" && request == "" && asked && size(asks) < sizes[limit]:
			r.Fatalf("the limit %s was requested, now %s", limit, asks)
		}

		var ops []map[string]any
		for _, c := range result.Changes {
			ops = append(ops, map[string]any{"op": c.Op, "path": c.Path, "value": c.Value})
		}
		if len(ops) == 0 {
			return
		}
		text, err = json.Marshal(ops)
		if err != nil {
			r.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(text)
		if err != nil {
			r.Fatal(err)
		}
		replayed, err := patch.Apply(base)
		if err != nil {
			r.Fatal(err)
		}
		if !jsonpatch.Equal(replayed, result.Pod) {
			r.Fatalf("the changes give %s, want %s", replayed, result.Pod)
		}
	})
}
