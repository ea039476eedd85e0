package app

import (
	"fmt"
	"sync"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

const (
	// silence is how old the newest heartbeat of the watcher may be.
	silence = 5 * time.Second
	// deafness is how long ago the watcher may have heard of the API server, which says something every minute.
	deafness = 90 * time.Second
)

// pulse knows whether the watcher sees what happens in the cluster. It is safe for concurrent use.
type pulse struct {
	now func() time.Time

	mu    sync.Mutex
	heard time.Time     // When the newest heartbeat came, by this process's clock.
	age   time.Duration // How long ago the watch had been heard of, then.
}

// beat takes a heartbeat in.
func (p *pulse) beat(data []byte) {
	h, err := events.ParseHeartbeat(data)
	if err != nil {
		return // Of a version that cannot be read; what cannot be understood is no sign of life.
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.age = p.now(), time.Duration(h.WatchAge*float64(time.Second))
}

// fresh returns nil while the log can be taken for what is in the cluster, else [natsbus.ErrUnavailable].
func (p *pulse) fresh() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.now().Sub(p.heard)
	switch {
	case p.heard.IsZero() || since > silence:
		return fmt.Errorf("no watcher has been heard of for more than %s: %w", silence, natsbus.ErrUnavailable)
	case p.age < 0 || p.age+since > deafness:
		return fmt.Errorf("the watcher has not heard of the API server for more than %s: %w", deafness, natsbus.ErrUnavailable)
	}
	return nil
}
