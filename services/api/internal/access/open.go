package access

import "sync"

// maxRequests is how many requests a silo may have under way on a replica, long polls and streams among them. It
// is far above what its users need, and keeps one silo from having all connections.
const maxRequests = 8192

// open counts the requests under way by silo. It is safe for concurrent use.
type open struct {
	mu    sync.Mutex
	most  int
	silos map[string]int
}

func newOpen() *open { return &open{most: maxRequests, silos: map[string]int{}} }

// enter counts a request of a silo, and returns false where it has as many as it may.
func (o *open) enter(silo string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silos[silo] >= o.most {
		return false
	}
	o.silos[silo]++
	return true
}

// leave ends a request.
func (o *open) leave(silo string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silos[silo]--; o.silos[silo] == 0 {
		delete(o.silos, silo)
	}
}
