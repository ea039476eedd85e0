package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/pkg/events"
)

// listed is what get_pods costs an api in a process of its own.
type listed struct {
	Pods int `json:"pods"`
	// Present is for users who have a pod. Absent is for users who have none: the
	// log's leader is asked before each "no".
	Present listing `json:"present"`
	Absent  listing `json:"absent"`
}

type listing struct {
	Requests  int       `json:"requests"`
	PerSecond float64   `json:"per_second"`
	Times     quantiles `json:"ms"`
	// CPU is the api's, in microseconds for each request.
	CPU float64 `json:"cpu_us_per_request"`
	// Messages is how many messages the api has sent to NATS meanwhile, whether for
	// the requests or not.
	Messages int64   `json:"messages"`
	Seconds  float64 `json:"seconds"`
}

const (
	// askers is how many clients ask at once.
	askers = 16
	// checksPerSecond is how many messages an api that nobody asks may send to
	// NATS in a second: it asks the log's leader whether all is as it was.
	checksPerSecond = 5
)

// measureList asks an api for the pods of users. The pods are in the log only.
func measureList(ctx context.Context, l lab, r *report) error {
	path, err := buildAPI(ctx, l.plan.Dir)
	if err != nil {
		return err
	}
	return l.withLog(ctx, l.plan.Listed, events.Ready, func(ctx context.Context, s *logServer) (err error) {
		front, err := startAPI(ctx, path, s.server.ClientURL(), askers)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, front.stop()) }()
		q := questions{front: front, log: s, pods: l.plan.Listed, count: l.plan.Requests}
		// The first ones open the connections and fill caches.
		warm := q
		warm.count = min(l.plan.Requests, 10*askers)
		if _, err := warm.ask(ctx, 0); err != nil {
			return err
		}
		got := &listed{Pods: l.plan.Listed}
		if got.Present, err = q.ask(ctx, 0); err != nil {
			return err
		}
		if got.Absent, err = q.ask(ctx, l.plan.Listed); err != nil {
			return err
		}
		r.List, r.Failures = got, append(r.Failures, got.faults()...)
		return nil
	})
}

func (l *listed) faults() []string {
	// Each request has its audit record, some of which are of the warm-up.
	records := int64(l.Present.Requests + 10*askers)
	if most := int64(checksPerSecond*(l.Present.Seconds+1)) + records; l.Present.Messages > most {
		return []string{fmt.Sprintf("the api sent %d messages to NATS during %d get_pods of users with pods; %d are enough for its checks and audit records",
			l.Present.Messages, l.Present.Requests, most)}
	}
	return nil
}

// questions are requests for lists.
type questions struct {
	front       *apiProcess
	log         *logServer
	pods, count int
}

// ask asks for the pods of users, from a number on; those beyond the last pod
// have none.
func (q questions) ask(ctx context.Context, from int) (listing, error) {
	var times durations
	var next atomic.Int64
	before, err := q.front.used()
	if err != nil {
		return listing{}, err
	}
	sent, err := q.log.sent(q.name())
	if err != nil {
		return listing{}, err
	}
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range askers {
		group.Go(func() error {
			for n := int(next.Add(1)); n <= q.count; n = int(next.Add(1)) {
				if err := q.one(ctx, from+n%q.pods, &times); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return listing{}, err
	}
	took := time.Since(begun)
	after, err := q.front.used()
	if err != nil {
		return listing{}, err
	}
	all, err := q.log.sent(q.name())
	return listing{
		Requests: q.count, PerSecond: float64(q.count) / took.Seconds(), Times: times.quantiles(), Seconds: took.Seconds(),
		CPU: milliseconds(after.cpu-before.cpu) * 1000 / float64(q.count), Messages: all - sent,
	}, err
}

// name is what the api's connection is called at the NATS server.
func (q questions) name() string { return "berth-api-" + q.front.instance }

func (q questions) one(ctx context.Context, user int, times *durations) error {
	var pods []struct {
		Name string `json:"pod_name"`
	}
	begun := time.Now()
	if err := q.front.post(ctx, "/get_pods", map[string]any{"user_id": userID(user)}, &pods); err != nil {
		return err
	}
	times.add(begun)
	has := user < q.pods
	if has && (len(pods) != 1 || pods[0].Name != podName(user)) || !has && len(pods) > 0 {
		return fmt.Errorf("/get_pods of %s: %+v", userID(user), pods)
	}
	return nil
}
