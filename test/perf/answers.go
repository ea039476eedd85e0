package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// answers notes when a watch saw pods ready, and when their long polls were
// answered. It is safe for concurrent use.
type answers struct {
	seenAll chan struct{} // Closed when the watch has seen every pod ready.

	mu       sync.Mutex
	seen     map[string]time.Time // By pod; zero until then.
	unseen   int
	answered []answer
	failures []string
}

type answer struct {
	pod string
	at  time.Time
}

func newAnswers(pods []string) *answers {
	a := &answers{seenAll: make(chan struct{}), seen: map[string]time.Time{}, unseen: len(pods)}
	for _, pod := range pods {
		a.seen[pod] = time.Time{}
	}
	return a
}

// see notes that the watch sees a pod ready now. Only the first time counts.
func (a *answers) see(pod string) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.seen[pod]; !ok || !at.IsZero() {
		return
	}
	a.seen[pod] = now
	if a.unseen--; a.unseen == 0 {
		close(a.seenAll)
	}
}

// answer notes that a long poll is answered now, or has failed.
func (a *answers) answer(pod string, err error) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failures = append(a.failures, fmt.Sprintf("%s: %v", pod, err))
		return
	}
	a.answered = append(a.answered, answer{pod, now})
}

// figures holds the answers against what the watch has seen of every pod.
func (a *answers) figures() *polls {
	a.mu.Lock()
	defer a.mu.Unlock()
	var seen []time.Time
	for _, at := range a.seen {
		seen = append(seen, at)
	}
	var behind durations
	for _, one := range a.answered {
		behind.all = append(behind.all, one.at.Sub(a.seen[one.pod]))
	}
	p := &polls{
		Polls: len(a.answered), Pods: len(a.seen), Behind: behind.quantiles(),
		ReadyWithin: slices.MaxFunc(seen, time.Time.Compare).Sub(slices.MinFunc(seen, time.Time.Compare)).Seconds(),
	}
	if all := behind.milliseconds(); len(all) > 0 {
		p.Max = all[len(all)-1]
	}
	return p
}
