package pod_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
)

const base = `{"metadata":{"name":"p"},"spec":{"containers":[
{"name":"side","image":"s"},
{"name":"project","image":"i","resources":{"limits":{"cpu":"9","ephemeral-storage":"1Gi"}},
 "volumeMounts":[{"name":"home","mountPath":"/home/user"},{"name":"software","mountPath":"/ext/","readOnly":true},{"name":"software","mountPath":"/opt","readOnly":true}]}],
"volumes":[{"name":"home"},{"name":"software","persistentVolumeClaim":{"claimName":"c","readOnly":true}}]}}`

// changed is a change in one line.
func changed(c pod.Change) string {
	line := c.Op + " " + c.Path + " " + string(c.Value) + " " + strings.Join(c.Fields, ",")
	if c.Note != "" {
		line += ": " + c.Note
	}
	return line
}

func TestMap(t *testing.T) {
	t.Parallel()
	const limits, requests = "/spec/containers/1/resources/limits", "/spec/containers/1/resources/requests"
	for name, tc := range map[string]struct {
		base  string
		quota quota.Quota
		opts  pod.Options
		want  []string
	}{
		// The documented admin license on premises.
		"admin license": {
			base,
			quota.Quota{Network: true, CPULimit: 1, CPURequest: 0.1, MemoryLimit: 3000, MemoryRequest: 600, ExtRW: true},
			pod.Options{},
			[]string{
				`replace ` + limits + `/cpu "1000m" cpu_limit`,
				`add ` + limits + `/memory "3000Mi" memory_limit`,
				`add ` + requests + ` {"cpu":"100m"} cpu_request`,
				`add ` + requests + `/memory "600Mi" memory_request`,
				`add /metadata/labels {"network":"outside"} network`,
				`replace /spec/containers/1/volumeMounts/1/readOnly false ext_rw`,
				`replace /spec/volumes/1/persistentVolumeClaim/readOnly false ext_rw`,
			},
		},
		"requests above limits": {
			`{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{}]}}`,
			quota.Quota{CPULimit: 0.5, CPURequest: 2, MemoryLimit: 300, MemoryRequest: 301},
			pod.Options{},
			[]string{
				`add /spec/containers/0/resources {"limits":{"cpu":"500m"}} cpu_limit`,
				`add /spec/containers/0/resources/limits/memory "300Mi" memory_limit`,
				`add /spec/containers/0/resources/requests {"cpu":"500m"} cpu_request: cut to the limit`,
				`add /spec/containers/0/resources/requests/memory "300Mi" memory_request: cut to the limit`,
			},
		},
		"bounds of the site": {
			`{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{}]}}`,
			quota.Quota{CPULimit: 1, MemoryLimit: 1000, MemoryRequest: 900},
			pod.Options{MemoryRequestLimit: 800, MemoryRequestPercent: 25},
			[]string{
				`add /spec/containers/0/resources {"limits":{"cpu":"1000m"}} cpu_limit`,
				`add /spec/containers/0/resources/limits/memory "1000Mi" memory_limit`,
				`add /spec/containers/0/resources/requests {"cpu":"0m"} cpu_request`,
				`add /spec/containers/0/resources/requests/memory "250Mi" memory_request: cut to the site's bound, 25% of the limit`,
			},
		},
		"sums of fractions, and limits of nothing": {
			`{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{}]}}`,
			quota.Quota{CPULimit: -1, CPURequest: 0.1 + 0.2, MemoryLimit: 0, MemoryRequest: -5},
			pod.Options{},
			[]string{
				`add /spec/containers/0/resources {"limits":{"cpu":"1m"}} cpu_limit: raised to the least limit: Kubernetes reads 0 as no limit`,
				`add /spec/containers/0/resources/limits/memory "1Mi" memory_limit: raised to the least limit: Kubernetes reads 0 as no limit`,
				`add /spec/containers/0/resources/requests {"cpu":"1m"} cpu_request: cut to the limit`,
				`add /spec/containers/0/resources/requests/memory "0Mi" memory_request`,
			},
		},
		"a machine of its own": {
			`{"metadata":{"labels":{"network":"none"}},"spec":{"tolerations":[{"key":"x"}],"containers":[{"name":"project"}],"affinity":null}}`,
			quota.Quota{Network: true, CPULimit: 12, MemoryLimit: 48000, DedicatedVM: json.RawMessage(`{"machine":"onprem","name":"big1"}`)},
			pod.Options{},
			[]string{
				`add /spec/containers/0/resources {"limits":{"cpu":"12000m"}} cpu_limit`,
				`add /spec/containers/0/resources/limits/memory "48000Mi" memory_limit`,
				`add /spec/containers/0/resources/requests {"cpu":"0m"} cpu_request`,
				`add /spec/containers/0/resources/requests/memory "0Mi" memory_request`,
				`replace /metadata/labels/network "outside" network`,
				`add /spec/tolerations/1 {"effect":"NoSchedule","key":"cocalc-dedicated_vm","operator":"Equal","value":"big1"} dedicated_vm`,
				`replace /spec/affinity {"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"preference":{"matchExpressions":[{"key":"cocalc-dedicated_vm","operator":"In","values":["big1"]}]},"weight":100}]}} dedicated_vm`,
			},
		},
		"nothing to change": {
			`{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{"resources":{"limits":{"cpu":"1000m","memory":"1000Mi"},"requests":{"cpu":"20m","memory":"200Mi"}}}]}}`,
			quota.Quota{CPULimit: 1, CPURequest: 0.02, MemoryLimit: 1000, MemoryRequest: 200},
			pod.Options{},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := pod.Map(json.RawMessage(tc.base), tc.quota, tc.opts)
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
		})
	}
}

// A mount that is written to may not be recursively read-only.
func TestSoftware(t *testing.T) {
	t.Parallel()
	const mounts = `{"metadata":{"labels":{"network":"none"}},"spec":{"containers":[{"resources":{"limits":{"cpu":"1000m","memory":"1000Mi"},"requests":{"cpu":"0m","memory":"0Mi"}},
		"volumeMounts":[{"name":"software","mountPath":"/ext","readOnly":true,"recursiveReadOnly":"Enabled"},{"name":"software","mountPath":"/opt","readOnly":true,"recursiveReadOnly":"Enabled"}]}]}}`
	result, err := pod.Map(json.RawMessage(mounts), quota.Quota{CPULimit: 1, MemoryLimit: 1000, ExtRW: true}, pod.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range result.Changes {
		got = append(got, changed(c))
	}
	want := []string{
		`replace /spec/containers/0/volumeMounts/0/readOnly false ext_rw`,
		`remove /spec/containers/0/volumeMounts/0/recursiveReadOnly  ext_rw: only a read-only mount may have it`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What has no place in the pod is said.
func TestIgnored(t *testing.T) {
	t.Parallel()
	q := quota.Quota{CPULimit: 1, MemoryLimit: 1000, ExtRW: true, DedicatedVM: json.RawMessage(`{"machine":"onprem","name":" "}`)}
	result, err := pod.Map(json.RawMessage(`{"spec":{"containers":[{}]}}`), q, pod.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []quota.Ignored{
		{Field: "ext_rw", Why: "the container mounts no volume software at /ext"},
		{Field: "dedicated_vm", Why: "it has no name: the pod may run on any machine"},
	}
	if diff := cmp.Diff(want, result.Ignored); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMapErrors(t *testing.T) {
	t.Parallel()
	const plain = `{"spec":{"containers":[{}]}}`
	fine := quota.Quota{CPULimit: 1, MemoryLimit: 1000}
	with := func(gpu string) quota.Quota {
		q := fine
		q.GPU = json.RawMessage(gpu)
		return q
	}
	for name, tc := range map[string]struct {
		base, field string
		quota       quota.Quota
	}{
		"no JSON":                  {`{`, "", fine},
		"no containers":            {`{"spec":{"containers":[]}}`, "", fine},
		"a list for the spec":      {`{"spec":[]}`, "", fine},
		"a text for a container":   {`{"spec":{"containers":["x"]}}`, "", fine},
		"a text for the resources": {`{"spec":{"containers":[{"resources":"x"}]}}`, "", fine},
		"a text for the labels":    {`{"metadata":{"labels":"x"},"spec":{"containers":[{}]}}`, "", fine},
		"more than there is":       {plain, "memory_limit", quota.Quota{CPULimit: 1, MemoryLimit: 1e300}},
		"a label without a value":  {plain, "gpu.nodeLabel", with(`{"num":1,"nodeLabel":"a=b,x"}`)},
		"a text for a number":      {plain, "gpu.num", with(`{"num":"1"}`)},
		"a number for a text":      {plain, "gpu.resource", with(`{"num":1,"resource":5}`)},
		"a toleration in a list":   {plain, "gpu.toleration", with(`{"num":1,"toleration":["a=b"]}`)},
		"memory for a device":      {plain, "gpu.resource", with(`{"num":1,"resource":"memory"}`)},
		"no name for a device":     {plain, "gpu.resource", with(`{"num":1,"resource":"Bad Name"}`)},
		"no name of a machine": {plain, "dedicated_vm.name", quota.Quota{
			CPULimit: 1, MemoryLimit: 1000, DedicatedVM: json.RawMessage(`{"machine":"onprem","name":"Bad Name!"}`),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pod.Map(json.RawMessage(tc.base), tc.quota, pod.Options{})
			var failed *pod.Error
			if !errors.As(err, &failed) || failed.Field != tc.field {
				t.Errorf("error %v, want one of field %q", err, tc.field)
			}
		})
	}
}

// TestGPU holds the vectors, but for what they show as hazards: a node label
// without a value is refused, a toleration without a key left out, an empty
// resource the usual one.
func TestGPU(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/quota_units.json")
	if err != nil {
		t.Fatal(err)
	}
	var units struct {
		GPU []struct {
			GPU, Want json.RawMessage
		} `json:"gpu_to_pod"`
	}
	if err := json.Unmarshal(text, &units); err != nil {
		t.Fatal(err)
	}
	ours := map[string]string{
		`{"num":1,"toleration":"a=b,"}`: `{"resources":{"limits":{"nvidia.com/gpu":1}},"tolerations":[{"key":"a","operator":"Equal","value":"b","effect":"NoSchedule"}]}`,
		`{"num":1,"nodeLabel":"x"}`:     "",
		`{"num":3,"resource":""}`:       `{"resources":{"limits":{"nvidia.com/gpu":3}}}`,
	}
	for _, unit := range units.GPU {
		compact := new(bytes.Buffer)
		if err := json.Compact(compact, unit.GPU); err != nil {
			t.Fatal(err)
		}
		want, isOurs := ours[compact.String()]
		if !isOurs {
			want = string(unit.Want)
		}
		t.Run(compact.String(), func(t *testing.T) {
			t.Parallel()
			q := quota.Quota{CPULimit: 1, MemoryLimit: 1000, GPU: unit.GPU}
			result, err := pod.Map(json.RawMessage(`{"spec":{"containers":[{}]}}`), q, pod.Options{Manifest: true})
			if (err != nil) != (want == "") {
				t.Fatal(err)
			}
			if want == "" {
				return
			}
			var got struct {
				Spec struct {
					Containers []struct {
						Resources struct{ Limits map[string]any }
					}
					Tolerations  []any
					NodeSelector map[string]any
				}
			}
			if err := json.Unmarshal(result.Pod, &got); err != nil {
				t.Fatal(err)
			}
			limits := got.Spec.Containers[0].Resources.Limits
			delete(limits, "cpu")
			delete(limits, "memory")
			flat := map[string]any{}
			if len(limits) > 0 {
				flat["resources"] = map[string]any{"limits": limits}
			}
			if got.Spec.Tolerations != nil {
				flat["tolerations"] = got.Spec.Tolerations
			}
			if got.Spec.NodeSelector != nil {
				flat["nodeSelector"] = got.Spec.NodeSelector
			}
			var wanted map[string]any
			if err := json.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted, flat); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
