// Package chaos breaks a Berth in every way that life knows, while users make
// and remove pods, and judges what came of it.
//
// A run starts a site of its own (Kubernetes, NATS, several replicas of each
// service, each a process), lets users do what they like, does faults to it by a
// schedule that its seed decides, and then lets everything come to rest.
// Package verdict holds what was seen against what Berth promises.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"berth/test/chaos/verdict"
)

// Plan says what a run does.
type Plan struct {
	// Duration is how long the faults take at least: they are spread over it.
	Duration time.Duration
	// Faults is how many there are, Pods how many pods are made at least.
	Faults, Pods int
	// Seed decides the faults and what the users do.
	Seed uint64
	// Replicas is how many processes of each service there are.
	Replicas int
	// Users is how many there are at once.
	Users int
	// Dir is an empty folder for everything that is stored, the logs of the
	// processes too.
	Dir string
	// Bin is a folder with the services' programs; empty builds them.
	Bin string
}

func (p Plan) check() error {
	if p.Duration <= 0 || p.Faults < 0 || p.Pods < 0 || p.Replicas < 1 || p.Users < 1 {
		return errors.New("--duration, --replicas and --users must be positive, --faults and --pods not negative")
	}
	return nil
}

// Report is what came of a run.
type Report struct {
	Plan     Plan             `json:"-"`
	Seed     uint64           `json:"seed"`
	Took     time.Duration    `json:"took_ns"`
	Faults   map[string]int   `json:"faults"` // By kind.
	Pods     int              `json:"pods"`
	Ready    int              `json:"ready"`
	Failed   int              `json:"failed"`
	Requests map[string]int   `json:"requests"` // By endpoint and what came of it.
	Settling time.Duration    `json:"settling_ns"`
	Breaches []verdict.Breach `json:"breaches"`
	// Evidence is all that was seen.
	Evidence verdict.Evidence `json:"-"`
}

// The bounds of a run.
const (
	// quietFor is how long it is looked what Berth asks when nothing happens.
	quietFor = 5 * time.Second
	// settleLimit bounds the time until nothing is left: the longest timer is
	// that of a create that makes no progress, then one of a delete.
	settleLimit = 2 * time.Minute
	// slack is what a pause of a process or its restart may add to any answer.
	slack = 40 * time.Second
)

func limits() verdict.Limits {
	return verdict.Limits{
		Request: createDeadline + slack, WatchCreate: timeoutCreateMax + time.Minute + slack, WatchDelete: timeoutDelete + slack,
		TimeoutDelete: timeoutDelete, Stale: 6 * time.Second, Settling: settleLimit, PullBackOffs: pullBackOffs,
	}
}

// Run does what the plan says and returns what came of it. When ctx ends it
// comes to its end early and judges what there is. The error is one of the
// harness; broken promises are in the report.
func Run(ctx context.Context, p Plan, progress io.Writer) (_ Report, err error) {
	if err := p.check(); err != nil {
		return Report{}, err
	}
	begun := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(progress, "chaos %s: "+format+"\n", append([]any{time.Since(begun).Round(time.Second)}, args...)...)
	}
	background := context.WithoutCancel(ctx)
	s, err := newSite(ctx, p, say)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return Report{}, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: p.Users}
	defer transport.CloseIdleConnections()
	r := &run{Plan: p, site: s, say: say, record: &recorder{http: &http.Client{Transport: transport}}, mischief: newMischief(s)}
	if r.observer, err = newObserver(s.natsURL, s.kube); err != nil {
		return Report{}, err
	}
	watching, stop := context.WithCancel(background)
	var observing sync.WaitGroup
	observing.Go(func() { r.observer.run(watching) })
	defer func() { stop(); observing.Wait() }()
	r.disorder(ctx)
	e, err := r.rest(background)
	if err != nil {
		return Report{}, err
	}
	report := r.report(e, time.Since(begun))
	trespasses, err := s.trespasses()
	report.Breaches = append(report.Breaches, trespasses...)
	return report, errors.Join(append(r.mischief.errs, err)...)
}

// run is a run under way.
type run struct {
	Plan
	site     *site
	say      func(format string, args ...any)
	record   *recorder
	observer *observer
	mischief *mischief
	healed   time.Time
}

// disorder lets users live and faults happen until there were enough of both.
func (r *run) disorder(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*r.Duration+time.Minute)
	defer cancel()
	living, settle := context.WithCancel(ctx)
	var users sync.WaitGroup
	for i := range r.Users {
		u := r.user(i)
		users.Go(func() { u.live(living) })
	}
	var faults sync.WaitGroup
	done := make(chan struct{})
	faults.Go(func() {
		defer close(done)
		gap := r.Duration / time.Duration(max(r.Faults, 1))
		r.mischief.run(ctx, Schedule(r.Seed, r.Faults, gap, r.Replicas))
	})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		c := r.observer.count()
		if n%5 == 0 {
			r.say("%d faults, %d pods, %d ready, %d failed, %d there, %d requests open",
				r.mischief.count(), c.claims, c.ready, c.failed, c.open, r.record.opened())
		}
		select {
		case <-done:
			if c.claims >= r.Pods {
				cancel()
			}
		default:
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	faults.Wait()
	r.healed = time.Now()
	settle()
	users.Wait()
}

// user returns the user with a number.
func (r *run) user(i int) *user {
	return &user{
		name: userName(i), site: r.site, record: r.record, others: r.observer.owned,
		random: rand.New(rand.NewPCG(r.Seed, uint64(100+i))),
	}
}

// rest deletes what is left, waits until nothing moves any more, and returns
// what was seen.
func (r *run) rest(ctx context.Context) (verdict.Evidence, error) {
	r.say("all faults are over; deleting what is left")
	settling, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	e := verdict.Evidence{Limits: limits(), Settled: r.settle(settling)}
	e.Settling = time.Since(r.healed)
	r.say("settled: %t, after %s", e.Settled, e.Settling.Round(time.Second))
	asking, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if e.Settled {
		e.Quiet = r.quiet(asking)
	}
	var errLeft, errLost error
	e.Left, errLeft = r.observer.left(asking)
	e.Lost, errLost = r.observer.lost(asking)
	if err := errors.Join(errLeft, errLost); err != nil {
		return e, err
	}
	r.observer.mu.Lock()
	defer r.observer.mu.Unlock()
	e.Log, e.Pods, e.Probes = r.observer.log, r.observer.pods, r.observer.probes
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	e.Exchanges = r.record.exchanges
	r.mischief.mu.Lock()
	defer r.mischief.mu.Unlock()
	e.Faults = r.mischief.faults
	return e, nil
}

// settle deletes every pod as its user would and waits until nothing is left;
// it says whether that was in time.
func (r *run) settle(ctx context.Context) bool {
	for ctx.Err() == nil {
		var all sync.WaitGroup
		i := 0
		for pod, name := range r.observer.owned() {
			i++
			u := r.user(1000 + i)
			u.name = name
			all.Go(func() {
				u.until(ctx, verdict.Delete, pod)
				u.until(ctx, verdict.WatchDelete, pod)
			})
		}
		all.Wait()
		left, err := r.observer.left(ctx)
		if err == nil && len(left.Pods)+len(left.Commands)+len(r.observer.owned()) == 0 && r.observer.still() > time.Second {
			return true
		}
		pause(ctx, time.Second/2)
	}
	return false
}

// quiet looks what Berth asks the API server while nothing happens.
func (r *run) quiet(ctx context.Context) *verdict.Quiet {
	count := func() map[string]int {
		counts := map[string]int{}
		for _, replica := range r.site.replicas {
			if replica.api == nil {
				continue
			}
			for what, n := range replica.api.Counts() {
				counts[what] += n
			}
		}
		return counts
	}
	// Watches that were lost to the last fault are open again.
	pause(ctx, quietFor)
	before := count()
	pause(ctx, quietFor)
	after := count()
	for what := range after {
		after[what] -= before[what]
	}
	return &verdict.Quiet{For: quietFor, Requests: after}
}

// report judges what was seen.
func (r *run) report(e verdict.Evidence, took time.Duration) Report {
	c := r.observer.count()
	report := Report{
		Plan: r.Plan, Seed: r.Seed, Took: took, Faults: map[string]int{}, Requests: map[string]int{}, Pods: c.claims, Ready: c.ready,
		Failed: c.failed, Settling: e.Settling, Breaches: verdict.Check(e), Evidence: e,
	}
	for _, f := range e.Faults {
		target := f.Target
		if target != broker && target != apiServer {
			target = "service"
		}
		report.Faults[f.Kind+" of "+target]++
	}
	for _, x := range e.Exchanges {
		report.Requests[x.Endpoint+" "+verdict.Answer(x)]++
	}
	return report
}
