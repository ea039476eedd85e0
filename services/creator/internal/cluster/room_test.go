package cluster_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"testing"
)

// TestMakesRoom: a pod that a quota refuses has room when the one that has its name is gone, by the quota's own numbers.
func TestMakesRoom(t *testing.T) {
	t.Parallel()
	const (
		running = `"containers":[{"name":"c","resources":{"limits":{"cpu":"2","memory":"4Gi"},"requests":{"cpu":"500m","memory":"1Gi","nvidia.com/gpu":"1"}}}]`
		refused = `pods "project-1" is forbidden: exceeded quota: one, `
	)
	pod := func(spec, status, fields string) string {
		managed := ""
		if fields != "" {
			managed = `,"managedFields":[{"manager":"kubelet","fieldsV1":{"f:status":{}}},{"manager":"berth-creator","fieldsV1":{"f:spec":{` + fields + `}}}]`
		}
		return `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"project-1"` + managed + `},"spec":{` + spec + `},"status":{` + status + `}}`
	}
	tests := map[string]struct {
		refusal string
		next    string // Members of its spec.
		now     string // Members of its status.
		class   string // Of the one that runs.
		fields  string // What somebody has set of its spec; nobody says where it is empty.
		want    bool
	}{
		"as much":                    {refusal: refused + "requested: limits.cpu=2, used: limits.cpu=2, limited: limits.cpu=2", want: true},
		"less":                       {refusal: refused + "requested: limits.cpu=1500m, used: limits.cpu=2, limited: limits.cpu=2", want: true},
		"more":                       {refusal: refused + "requested: limits.cpu=2500m, used: limits.cpu=2, limited: limits.cpu=2"},
		"more of something else":     {refusal: refused + "requested: pods=1, used: pods=4, limited: pods=4", next: `"containers":[{"name":"c","resources":{"limits":{"cpu":"3"}}}]`},
		"a higher request":           {refusal: refused + "requested: pods=1, used: pods=4, limited: pods=4", next: `"containers":[{"name":"c","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"501m"}}}]`},
		"a request":                  {refusal: refused + "requested: requests.memory=1Gi, used: requests.memory=1Gi, limited: requests.memory=1Gi", want: true},
		"a request without a prefix": {refusal: refused + "requested: cpu=500m, used: cpu=500m, limited: cpu=500m", want: true},
		"a device":                   {refusal: refused + "requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1", want: true},
		"pods":                       {refusal: refused + "requested: pods=1, used: pods=4, limited: pods=4", want: true},
		"fewer pods than there are":  {refusal: refused + "requested: pods=1, used: pods=4, limited: pods=0"},
		"less than is used":          {refusal: refused + "requested: limits.memory=3Gi, used: limits.memory=8Gi, limited: limits.memory=6Gi"},
		"one of two":                 {refusal: refused + "requested: limits.cpu=2,pods=1, used: limits.cpu=2,pods=4, limited: limits.cpu=2,pods=3"},
		"both":                       {refusal: refused + "requested: limits.cpu=2,pods=1, used: limits.cpu=2,pods=4, limited: limits.cpu=2,pods=4", want: true},
		"what pods do not have":      {refusal: refused + "requested: services=1, used: services=1, limited: services=1"},
		"no amount":                  {refusal: refused + "requested: pods=x, used: pods=1, limited: pods=1"},
		"one list is short":          {refusal: refused + "requested: pods=1, used: cpu=1, limited: pods=1"},
		"other words":                {refusal: "exceeded quota: cpu"},
		"another priority":           {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", next: `"priorityClassName":"high",` + running},
		"no priority any more":       {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "normal"},
		"one priority":               {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "high", next: `"priorityClassName":"high",` + running, want: true},
		"the cluster's priority":     {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "usual", fields: `"f:containers":{}`, want: true},
		"the cluster's, and another": {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "usual", fields: `"f:containers":{}`, next: `"priorityClassName":"high",` + running},
		"one that was set, and none": {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "usual", fields: `"f:priorityClassName":{}`},
		"one that was set":           {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", class: "high", fields: `"f:priorityClassName":{}`, next: `"priorityClassName":"high",` + running, want: true},
		"a pod that is to end":       {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", next: `"activeDeadlineSeconds":60,` + running},
		"one that has ended":         {refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", now: `"phase":"Failed"`},
		"one that was not counted": {
			refusal: refused + "requested: pods=1, used: pods=1, limited: pods=1", now: `"qosClass":"BestEffort"`,
			next: `"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, asked := trialServer(t, http.StatusOK, pod(`"priorityClassName":"`+tt.class+`",`+running, tt.now, tt.fields))
			got, err := c.MakesRoom(t.Context(), json.RawMessage(pod(cmp.Or(tt.next, running), "", "")), tt.refusal)
			if err != nil || got != tt.want {
				t.Errorf("%t, %v; want %t", got, err, tt.want)
			}
			if asked.path != "GET /api/v1/namespaces/"+namespace+"/pods/project-1" {
				t.Errorf("asked %s", asked.path)
			}
		})
	}

	const full = refused + "requested: pods=1, used: pods=1, limited: pods=1"
	c, _ := trialServer(t, http.StatusNotFound, refusal(404, "NotFound", "no such pod"))
	if got, err := c.MakesRoom(t.Context(), json.RawMessage(pod("", "", "")), full); got || err != nil {
		t.Errorf("no pod: %t, %v; want false", got, err)
	}
	c, _ = trialServer(t, http.StatusServiceUnavailable, refusal(503, "ServiceUnavailable", "etcd is away"))
	if _, err := c.MakesRoom(t.Context(), json.RawMessage(pod("", "", "")), full); err == nil {
		t.Error("no error where the API server is away")
	}
	if _, err := c.MakesRoom(t.Context(), json.RawMessage(`[]`), full); err == nil {
		t.Error("no error for what is no Pod")
	}
}
