package app

import (
	"net/netip"
	"sync"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// owners finds pods by their addresses, which are compared as addresses: a text has many forms. It is
// fed by a table's changes, and says which pod to look at; whether that is so the log's leader is asked. It
// is safe for concurrent use.
type owners struct {
	// created returns the age of the log that the changes are from.
	created func() int64

	mu        sync.Mutex
	life      int64
	pods      map[string]claim
	byAddress map[netip.Addr]map[string]struct{} // Names of pods that are alive.
	nodes     map[netip.Addr]int                 // How many pods are on the node.
	waiters   map[netip.Addr]map[chan struct{}]struct{}
}

// claim is what a pod says about addresses.
type claim struct {
	addresses []netip.Addr // Its own, while it is alive.
	nodes     []netip.Addr // Those of its node.
}

func newOwners() *owners {
	o := &owners{created: func() int64 { return 0 }, waiters: map[netip.Addr]map[chan struct{}]struct{}{}}
	o.reset(0)
	return o
}

// reset forgets everything; o.mu is held or not needed yet.
func (o *owners) reset(life int64) {
	o.life, o.pods = life, map[string]claim{}
	o.byAddress, o.nodes = map[netip.Addr]map[string]struct{}{}, map[netip.Addr]int{}
}

// holds says whether a pod is alive so that an address of it is its user's: the cluster has said that it
// is there, and nothing has been heard of an end.
func holds(r events.Record) bool {
	switch r.Event {
	case events.Launched, events.Waiting, events.Running, events.Ready, events.Unready:
		return r.Observed.UID != "" && !r.Observed.Ended && !r.Observed.Terminating && !r.Observed.HostNetwork
	default:
		return false
	}
}

// claimOf returns what a record says about addresses.
func claimOf(r events.Record) claim {
	var c claim
	if r.Event == events.Gone || r.Event == "" {
		return c
	}
	if node, err := netip.ParseAddr(r.Observed.NodeIP); err == nil {
		c.nodes = append(c.nodes, node.Unmap().WithZone(""))
	}
	own := addresses(r)
	switch {
	case r.Observed.HostNetwork:
		c.nodes = append(c.nodes, own...)
	case holds(r):
		c.addresses = own
	}
	return c
}

// addresses returns the addresses of a pod in their one form.
func addresses(r events.Record) []netip.Addr {
	var all []netip.Addr
	for _, text := range r.Observed.IPs {
		if address, err := netip.ParseAddr(text); err == nil {
			all = append(all, address.Unmap().WithZone(""))
		}
	}
	return all
}

// put takes the newest record of a pod in.
func (o *owners) put(e natsbus.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if life := o.created(); life != o.life {
		o.reset(life)
	}
	touched := map[netip.Addr]bool{}
	old := o.pods[e.Pod]
	for _, address := range old.addresses {
		touched[address] = true
		delete(o.byAddress[address], e.Pod)
		if len(o.byAddress[address]) == 0 {
			delete(o.byAddress, address)
		}
	}
	for _, node := range old.nodes {
		touched[node] = true
		if o.nodes[node]--; o.nodes[node] <= 0 {
			delete(o.nodes, node)
		}
	}
	now := claimOf(e.Record)
	if len(now.addresses)+len(now.nodes) == 0 {
		delete(o.pods, e.Pod)
	} else {
		o.pods[e.Pod] = now
	}
	for _, address := range now.addresses {
		touched[address] = true
		if o.byAddress[address] == nil {
			o.byAddress[address] = map[string]struct{}{}
		}
		o.byAddress[address][e.Pod] = struct{}{}
	}
	for _, node := range now.nodes {
		touched[node] = true
		o.nodes[node]++
	}
	for address := range touched {
		for ch := range o.waiters[address] {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
}

// find returns the one pod that is alive with an address; false if there is none, or more than one, or the
// address is a node's: then it is nobody's.
func (o *owners) find(address netip.Addr) (pod string, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.nodes[address] > 0 || len(o.byAddress[address]) != 1 {
		return "", false
	}
	for pod := range o.byAddress[address] {
		return pod, true
	}
	return "", false
}

// listen returns a channel that is readable after each change of who has an address, and a function that
// takes it back.
func (o *owners) listen(address netip.Addr) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiters[address] == nil {
		o.waiters[address] = map[chan struct{}]struct{}{}
	}
	o.waiters[address][ch] = struct{}{}
	return ch, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.waiters[address], ch)
		if len(o.waiters[address]) == 0 {
			delete(o.waiters, address)
		}
	}
}
