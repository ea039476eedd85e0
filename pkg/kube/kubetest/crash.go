package kubetest

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes"
)

// KillAPIServer ends the API server with SIGKILL and returns when it is gone. etcd, with all data, and the other programs go on, and wait for
// [Cluster.StartAPIServer]. One that is dead already is no fault. Kills and starts must not overlap.
func (c *Cluster) KillAPIServer() error {
	c.mu.Lock()
	var err error
	for _, programs := range c.programs {
		for _, p := range programs {
			if p.Name() != c.api.name || c.killed[p] {
				continue
			}
			c.killed[p] = true
			if stopErr := p.Stop(0); stopErr != nil {
				err = fmt.Errorf("kill the API server: %w", stopErr)
			}
		}
	}
	c.mu.Unlock()
	return err
}

// StartAPIServer starts the API server again after [Cluster.KillAPIServer], at the same address, and returns when it is ready, which takes about 4 s.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.run(c.dir, c.api); err != nil {
		return fmt.Errorf("start the API server again: %w", err)
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("start the API server again: %w", err)
	}
	if err := serving(ctx, client); err != nil {
		return fmt.Errorf("wait for the API server: %w", err)
	}
	return nil
}
