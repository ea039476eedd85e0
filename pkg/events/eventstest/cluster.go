package eventstest

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"berth/pkg/events/natsbus"
)

// Servers are three NATS servers that keep each stream three times.
type Servers struct {
	// Nodes are the servers; each can be stopped and started again.
	Nodes [3]*Server
}

// NewServers starts three servers that know each other, on loopback ports, and
// waits until they agree on a leader. They are stopped when the test ends.
func NewServers(tb testing.TB) *Servers {
	tb.Helper()
	host := loopback(tb)
	ports := freePorts(tb, host, 2*len(Servers{}.Nodes))
	var routes []*url.URL
	for _, port := range ports[:3] {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("%s:%d", host, port)})
	}
	var s Servers
	for i := range s.Nodes {
		o := serverOptions(tb.TempDir())
		o.ServerName = fmt.Sprintf("node-%d", i)
		o.DontListen, o.Host, o.Port = false, host, ports[3+i]
		o.Cluster = server.ClusterOpts{Name: "eventstest", Host: host, Port: ports[i]}
		o.Routes = routes
		s.Nodes[i] = newServer(tb, o)
	}
	Eventually(tb, "the servers agree on a leader", func() bool {
		for _, node := range s.Nodes {
			if node.leads() {
				return true
			}
		}
		return false
	})
	return &s
}

// leads says that the server leads all three.
func (s *Server) leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil && s.running.JetStreamIsLeader() && len(s.running.JetStreamClusterPeers()) == len(Servers{}.Nodes)
}

// Options implements [Site].
func (s *Servers) Options() natsbus.Options {
	var urls []string
	for _, node := range s.Nodes {
		urls = append(urls, "nats://"+net.JoinHostPort(node.options.Host, strconv.Itoa(node.options.Port)))
	}
	return natsbus.Options{URL: strings.Join(urls, ","), Replicas: len(s.Nodes)}
}

// freePorts returns ports of an address that nobody listened on a moment ago. Servers that
// form a cluster must know each other's before they start.
func freePorts(tb testing.TB, host string, n int) []int {
	tb.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", host+":0")
		if err != nil {
			tb.Fatalf("find a free port: %v", err)
		}
		defer l.Close()
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			tb.Fatalf("find a free port: %v is no TCP address", l.Addr())
		}
		ports[i] = addr.Port
	}
	return ports
}
