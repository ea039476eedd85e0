package cluster_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// TestMakesRoom: a pod fits in the place of another one that asks for as much of everything, as quotas count it.
func TestMakesRoom(t *testing.T) {
	t.Parallel()
	pod := func(spec string) string {
		return `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"project-1"},"spec":` + spec + `}`
	}
	resources := func(limits, requests string) string {
		return `{"containers":[{"name":"c","resources":{"limits":` + limits + `,"requests":` + requests + `}}]}`
	}
	running := resources(`{"cpu":"2","memory":"4Gi"}`, `{"cpu":"500m","memory":"1Gi"}`)
	tests := map[string]struct {
		next string
		now  string // running if it is empty.
		want bool
	}{
		"the same":                {next: running, want: true},
		"less":                    {next: resources(`{"cpu":"1","memory":"4096Mi"}`, `{"cpu":"0.5"}`), want: true},
		"a higher limit":          {next: resources(`{"cpu":"2","memory":"5Gi"}`, `{"cpu":"500m"}`)},
		"a higher request":        {next: resources(`{"cpu":"1","memory":"1Gi"}`, `{"cpu":"501m"}`)},
		"a device":                {next: resources(`{"cpu":"1","nvidia.com/gpu":1}`, `{}`)},
		"one more container":      {next: `{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}},{"name":"d","resources":{"limits":{"cpu":"1500m"}}}]}`},
		"a container that begins": {next: `{"initContainers":[{"name":"i","resources":{"limits":{"cpu":"3"}}}],"containers":[{"name":"c"}]}`},
		"another priority":        {next: `{"priorityClassName":"high","containers":[]}`},
		"a pod that is to end":    {next: `{"activeDeadlineSeconds":60,"containers":[]}`},
		"both of one priority":    {next: `{"priorityClassName":"high","containers":[]}`, now: `{"priorityClassName":"high","containers":[]}`, want: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := tt.now
			if now == "" {
				now = running
			}
			c, asked := trialServer(t, http.StatusOK, pod(now))
			got, err := c.MakesRoom(t.Context(), json.RawMessage(pod(tt.next)))
			if err != nil || got != tt.want {
				t.Errorf("%t, %v; want %t", got, err, tt.want)
			}
			if asked.path != "GET /api/v1/namespaces/"+namespace+"/pods/project-1" {
				t.Errorf("asked %s", asked.path)
			}
		})
	}

	c, _ := trialServer(t, http.StatusNotFound, refusal(404, "NotFound", "no such pod"))
	if got, err := c.MakesRoom(t.Context(), json.RawMessage(pod(running))); got || err != nil {
		t.Errorf("no pod: %t, %v; want false", got, err)
	}
	c, _ = trialServer(t, http.StatusServiceUnavailable, refusal(503, "ServiceUnavailable", "etcd is away"))
	if _, err := c.MakesRoom(t.Context(), json.RawMessage(pod(running))); err == nil {
		t.Error("no error where the API server is away")
	}
	if _, err := c.MakesRoom(t.Context(), json.RawMessage(`[]`)); err == nil {
		t.Error("no error for what is no Pod")
	}
}
