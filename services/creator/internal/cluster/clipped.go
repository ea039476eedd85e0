package cluster

import "sync"

// clipped keeps what is written to it up to a limit, and calls full when the limit
// is reached. It takes the rest in too, and forgets it: an error would be logged by
// whoever writes. It is safe for concurrent use.
type clipped struct {
	full func()

	mu   sync.Mutex
	kept []byte
	room int
	done bool
}

func (c *clipped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	n := min(len(p), c.room)
	c.kept = append(c.kept, p[:n]...)
	c.room -= n

	if c.room == 0 && !c.done {
		c.done = true
		c.full()
	}

	return len(p), nil
}

// content is what was kept, and whether the limit was reached.
func (c *clipped) content() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.kept, c.done
}
