// Package election chooses the one watcher that watches, by a Lease in the cluster.
package election

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times of the election. A leader that dies is replaced about leaseDuration
// and two tries later at the latest (client-go stretches retryPeriod by up to
// 2.2), one that drains at the next try.
const (
	leaseDuration = 5 * time.Second
	renewDeadline = 3 * time.Second
	retryPeriod   = 500 * time.Millisecond
	// requestLimit lets a leader try twice before its lease is over. A candidate
	// has no other limit: client-go sets none while it waits for the lease.
	requestLimit = renewDeadline / 2
)

// Election is one replica's standing for election. It is used by one goroutine.
type Election struct {
	lock resourcelock.Interface
	log  zerolog.Logger
}

// New returns an election by the Lease of a name in a namespace; identity tells
// the replicas apart.
func New(config *rest.Config, namespace, name, identity string, log zerolog.Logger) (*Election, error) {
	// A client of its own, so that a busy watcher cannot delay the renewals, and
	// HTTP/1.1, where a request that is given up takes its connection with it: the
	// next try is not sent into a connection that has died without a word.
	config = rest.CopyConfig(config)
	config.Timeout, config.NextProtos = requestLimit, []string{"http/1.1"}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the election: %w", err)
	}
	return &Election{
		lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
			Client:     clients.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		log: log,
	}, nil
}

// Run stands for election until ctx ends, and calls lead whenever it is elected.
// The context of lead ends with the lease; when lead returns by itself, the
// lease is given back and the replica stands again. Two calls of lead never
// overlap.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := e.stand(ctx, lead); err != nil {
			return err
		}
		t := time.NewTimer(retryPeriod)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// stand takes part in one election, and in the term that follows if it is won.
func (e *Election) stand(ctx context.Context, lead func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	term := &term{}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: e.lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Name: "watcher",
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(termCtx context.Context) {
				if !term.begin() {
					return
				}
				defer term.running.Done()
				defer cancel()
				e.log.Info().Msg("Elected; watching the cluster")
				if err := lead(termCtx); err != nil && termCtx.Err() == nil {
					e.log.Error().Err(err).Msg("Cannot watch the cluster; standing for election again")
				}
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				e.log.Debug().Str("leader", identity).Msg("The watcher has a leader")
			},
		},
	})
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	elector.Run(ctx)
	// Only now is the lease given back; the elector would do so while lead still runs.
	term.end()
	if elector.IsLeader() {
		e.giveBack(context.WithoutCancel(ctx))
	}
	return nil
}

// giveBack lets go of the lease, so that the next leader need not wait for its
// end. Where that fails, it waits.
func (e *Election) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	record, _, err := e.lock.Get(ctx)
	if err == nil && record.HolderIdentity == e.lock.Identity() {
		record.HolderIdentity = ""
		err = e.lock.Update(ctx, *record)
	}
	if err != nil {
		e.log.Warn().Err(err).Msg("Cannot give back the lease; it ends by itself")
	}
}

// term is the time in office that an election may lead to. The elector begins it
// in a goroutine that it does not wait for.
type term struct {
	mu      sync.Mutex
	over    bool
	running sync.WaitGroup
}

// begin returns false when the term is over already.
func (t *term) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.running.Add(1)
	return true
}

// end waits until the term has come to its end, or keeps it from beginning.
func (t *term) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.running.Wait()
}
