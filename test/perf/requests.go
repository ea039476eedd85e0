package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/metrics"
)

// asked counts the requests that Berth itself sends to API servers. client-go
// tells everybody in the process about its requests, so that what Berth's
// services send is known without another hop; what the load sends is told apart
// by its context. Watches are not among them: they have no end.
var asked = sync.OnceValue(func() *requestCounter {
	c := &requestCounter{byHost: map[string]map[string]int{}}
	metrics.Register(metrics.RegisterOpts{RequestLatency: c})
	return c
})

type loadKey struct{}

// asLoad marks what is sent with a context as the load's own.
func asLoad(ctx context.Context) context.Context { return context.WithValue(ctx, loadKey{}, true) }

// requestCounter is safe for concurrent use.
type requestCounter struct {
	mu     sync.Mutex
	byHost map[string]map[string]int // By API server, then by verb and resource.
}

var _ metrics.LatencyMetric = (*requestCounter)(nil)

// Observe implements [metrics.LatencyMetric]. In the URL's path names are
// replaced by what they stand for.
func (c *requestCounter) Observe(ctx context.Context, verb string, u url.URL, _ time.Duration) {
	key := requestKey(verb, u.Path)
	if key == "" || ctx.Value(loadKey{}) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byHost[u.Host] == nil {
		c.byHost[u.Host] = map[string]int{}
	}
	c.byHost[u.Host][key]++
}

// of returns what has been sent to an API server so far.
func (c *requestCounter) of(host string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byHost[host])
}

// requestKey names a request like "POST pods/binding". It is empty for one that
// is about no resource.
func requestKey(verb, path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:] // The version.
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:] // The group and the version.
	default:
		return ""
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if verb == http.MethodGet && len(parts) == 1 {
		verb = "LIST"
	}
	key := verb + " " + parts[0]
	if len(parts) > 2 {
		key += "/" + strings.Join(parts[2:], "/")
	}
	return key
}

// mostWrites is how many writes a plain pod may cost: one makes it, one removes it.
const mostWrites = 2

// overspent returns what Berth has asked of the API server that it must not for
// a number of plain pods. The renewal of the watcher's lease goes on all the
// time; it is no part of it. An error or a delivery that comes twice may cost a
// request more, so it is for quiet rounds.
func overspent(own map[string]int, pods int) (faults []string) {
	written := 0
	for _, key := range slices.Sorted(maps.Keys(own)) {
		_, resource, _ := strings.Cut(key, " ")
		switch {
		case resource == "leases":
		case writes(key):
			written += own[key]
		default:
			faults = append(faults, fmt.Sprintf("Berth sent %s %d times; its watch tells it that", key, own[key]))
		}
	}
	switch {
	case written == 0 && pods > 0:
		faults = append(faults, "no request of Berth was seen: it does not run in this process")
	case written > mostWrites*pods:
		faults = append(faults, fmt.Sprintf("Berth sent %d writes for %d pods; %d for each are the most", written, pods, mostWrites))
	}
	return faults
}
