package main

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRequestKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ verb, path, want string }{
		"create":          {"POST", "/api/v1/namespaces/{namespace}/pods", "POST pods"},
		"get":             {"GET", "/api/v1/namespaces/{namespace}/pods/{name}", "GET pods"},
		"list":            {"GET", "/api/v1/namespaces/{namespace}/pods", "LIST pods"},
		"list everywhere": {"GET", "/api/v1/pods", "LIST pods"},
		"delete many":     {"DELETE", "/api/v1/namespaces/{namespace}/pods", "DELETE pods"},
		"subresource":     {"POST", "/api/v1/namespaces/{namespace}/pods/{name}/binding", "POST pods/binding"},
		"a group":         {"PUT", "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", "PUT leases"},
		"a namespace":     {"GET", "/api/v1/namespaces/{name}", "GET namespaces"},
		"all namespaces":  {"GET", "/api/v1/namespaces", "LIST namespaces"},
		"no resource":     {"GET", "/metrics", ""},
		"discovery":       {"GET", "/apis/apps/v1", ""},
		"nothing":         {"GET", "", ""},
	} {
		if got := requestKey(tc.verb, tc.path); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestRequestCounter(t *testing.T) {
	t.Parallel()
	c := &requestCounter{byHost: map[string]map[string]int{}}
	pods := func(host string) url.URL { return url.URL{Host: host, Path: "/api/v1/namespaces/{namespace}/pods"} }
	for range 2 {
		c.Observe(t.Context(), "POST", pods("a"), time.Millisecond)
	}
	c.Observe(t.Context(), "GET", pods("b"), time.Millisecond)
	c.Observe(asLoad(t.Context()), "GET", pods("b"), time.Millisecond)
	c.Observe(t.Context(), "GET", url.URL{Host: "b", Path: "/readyz"}, time.Millisecond)
	for host, want := range map[string]map[string]int{"a": {"POST pods": 2}, "b": {"LIST pods": 1}, "c": nil} {
		if diff := cmp.Diff(want, c.of(host)); diff != "" {
			t.Errorf("requests to %s (-want +got):\n%s", host, diff)
		}
	}
}

func TestOverspent(t *testing.T) {
	t.Parallel()
	plain := func(more map[string]int) map[string]int {
		own := map[string]int{"POST pods": 10, "DELETE pods": 10, "PUT leases": 7, "GET leases": 1}
		for key, n := range more {
			own[key] += n
		}
		return own
	}
	for name, tc := range map[string]struct {
		own  map[string]int
		want []string
	}{
		"plain": {plain(nil), nil},
		"lists": {plain(map[string]int{"LIST pods": 2}), []string{"Berth sent LIST pods 2 times; its watch tells it that"}},
		"gets":  {plain(map[string]int{"GET pods": 1}), []string{"Berth sent GET pods 1 times; its watch tells it that"}},
		"another write": {
			plain(map[string]int{"PATCH pods/status": 1}), []string{"Berth sent 21 writes for 10 pods; 2 for each are the most"},
		},
		"elsewhere": {map[string]int{"PUT leases": 1}, []string{"no request of Berth was seen: it does not run in this process"}},
	} {
		if diff := cmp.Diff(tc.want, overspent(tc.own, 10)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
