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
	"slices"
	"strings"
	"sync"
	"time"

	"berth/pkg/events"
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
	// Users is how many there are at once, Projects how many projects, each with an owner of its own.
	Users, Projects int
	// Dir is an empty folder for everything that is stored, the logs of the
	// processes too.
	Dir string
	// Bin is a folder with the services' programs; empty builds them.
	Bin string
}

func (p Plan) check() error {
	if p.Duration <= 0 || p.Faults < 0 || p.Pods < 0 || p.Replicas < 1 || p.Users < 1 || p.Projects < 1 {
		return errors.New("--duration, --replicas, --users and --projects must be positive, --faults and --pods not negative")
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
	Projects Projects         `json:"projects"`
	Settling time.Duration    `json:"settling_ns"`
	Breaches []verdict.Breach `json:"breaches"`
	// Evidence is all that was seen.
	Evidence verdict.Evidence `json:"-"`
}

// Projects is what came of the projects of a run.
type Projects struct {
	Projects int `json:"projects"`
	Pods     int `json:"pods"`
	// Relicensed is how many pods were replaced because of a license, Revived how many that are to run always came back.
	Relicensed int `json:"relicensed"`
	Revived    int `json:"revived"`
	// Changes is how often the holders of limited licenses were seen to change, in so many Looks; Full is how often all seats were taken.
	Changes int `json:"changes"`
	Looks   int `json:"looks"`
	Full    int `json:"full"`
	// Keepers is how often a licenser became the keeper.
	Keepers int `json:"keepers"`
}

// The bounds of a run.
const (
	// quietFor is how long it is looked what Berth asks when nothing happens.
	quietFor = 5 * time.Second
	// settleLimit bounds the time until nothing is left: the longest timer is
	// that of a create that makes no progress, then one of a delete.
	settleLimit = 2 * time.Minute
	// restLimit bounds the time until what is said of projects agrees: restarts come one after the other.
	restLimit = time.Minute
	// slack is what a pause of a process or its restart may add to any answer.
	slack = 40 * time.Second
)

func limits() verdict.Limits {
	return verdict.Limits{
		Request: createDeadline + slack, WatchCreate: timeoutCreateMax + time.Minute + slack, WatchDelete: timeoutDelete + slack,
		TimeoutDelete: timeoutDelete, Stale: 6 * time.Second, Settling: settleLimit + 2*restLimit, Hub: hubLimit, PullBackOffs: pullBackOffs,
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
	r.ledger = &ledger{db: s.database.pool, last: map[string]int{}}
	watching, stop := context.WithCancel(background)
	var observing sync.WaitGroup
	observing.Go(func() { r.observer.run(watching) })
	observing.Go(func() { r.ledger.watch(watching) })
	defer func() { stop(); observing.Wait() }()
	r.disorder(ctx)
	e, err := r.rest(background)
	if err != nil {
		return Report{}, err
	}
	report := r.report(e, time.Since(begun))
	trespasses, err := s.trespasses()
	report.Breaches = append(report.Breaches, trespasses...)
	var errTerms error
	report.Projects.Keepers, errTerms = s.terms()
	err = errors.Join(err, errTerms)
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
	ledger   *ledger
	looked   []verdict.Books
	healed   time.Time
}

// disorder lets users live and faults happen until there were enough of both.
func (r *run) disorder(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*r.Duration+3*time.Minute)
	defer cancel()
	living, settle := context.WithCancel(ctx)
	var users sync.WaitGroup
	for i := range r.Users {
		u := r.user(i)
		users.Go(func() { u.live(living) })
	}
	for i := range r.Projects {
		o := r.owner(i)
		users.Go(func() { o.live(living) })
	}
	office := &office{
		site: r.site, record: r.record, random: rand.New(rand.NewPCG(r.Seed, 3)), licenses: samples(r.Projects), projects: r.Projects,
	}
	users.Go(func() { office.live(living) })
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

// owner returns the owner of the project with a number.
func (r *run) owner(i int) *owner {
	return &owner{project: projectID(i), site: r.site, record: r.record, random: rand.New(rand.NewPCG(r.Seed, uint64(5000+i)))}
}

// rest waits until the projects are as they should be, deletes what is left, waits until nothing
// moves any more, and returns what was seen.
func (r *run) rest(ctx context.Context) (verdict.Evidence, error) {
	r.say("all faults are over; looking whether the projects come to rest")
	running := r.balance(ctx)
	r.say("deleting what is left")
	settling, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	e := verdict.Evidence{Limits: limits(), Settled: r.settle(settling)}
	e.Moves = []string{running, r.balance(ctx)}
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
	r.gather(&e)
	r.mischief.mu.Lock()
	defer r.mischief.mu.Unlock()
	e.Faults = r.mischief.faults
	return e, nil
}

// gather adds what was seen until now.
func (r *run) gather(e *verdict.Evidence) {
	r.observer.mu.Lock()
	defer r.observer.mu.Unlock()
	e.Log, e.Pods, e.Probes = slices.Clone(r.observer.log), slices.Clone(r.observer.pods), slices.Clone(r.observer.probes)
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	e.Exchanges = slices.Clone(r.record.exchanges)
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	e.Holders, e.Books = slices.Clone(r.ledger.holders), slices.Clone(r.looked)
}

// balance looks at the books until nothing moves and they agree, or for as long as that may take, and keeps the last look.
// Where there was none, since something moved all the time, it says what.
func (r *run) balance(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	var last *verdict.Books
	moves := ""
	for ctx.Err() == nil {
		b, err := r.books(ctx)
		if err != nil {
			moves = err.Error()
			pause(ctx, 3*faultPause)
			continue
		}
		last = &b
		e := verdict.Evidence{}
		r.gather(&e)
		e.Books = append(e.Books, b)
		if len(verdict.Unrest(e)) == 0 {
			break
		}
		pause(ctx, 3*faultPause)
	}
	if last == nil {
		return moves
	}
	r.looked = append(r.looked, *last)
	return ""
}

// settle deletes every pod as its user would and waits until nothing is left;
// it says whether that was in time.
func (r *run) settle(ctx context.Context) bool {
	first := true
	for ctx.Err() == nil {
		var all sync.WaitGroup
		for i := range r.Projects {
			o := r.owner(i)
			if _, has := r.observer.owned()[events.ProjectPod(o.project)]; has || first {
				all.Go(func() { o.wish(ctx, verdict.StopProject) })
			}
		}
		first = false
		i := 0
		for pod, name := range r.observer.owned() {
			if events.IsProjectPod(pod) {
				continue
			}
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
	// A sweep lists everything: the look comes between two.
	const margin = 2 * time.Second
	if next := time.Until(time.Now().Truncate(sweepInterval).Add(sweepInterval)); next < quietFor+margin {
		pause(ctx, next+margin)
	}
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
		if target != broker && target != apiServer && target != postgres {
			target = "service"
		}
		report.Faults[f.Kind+" of "+target]++
	}
	for _, x := range e.Exchanges {
		report.Requests[x.Endpoint+" "+verdict.Answer(x)]++
	}
	report.Projects = r.projects(e)
	return report
}

// projects counts what came of them.
func (r *run) projects(e verdict.Evidence) Projects {
	p := Projects{Projects: r.Projects, Changes: len(e.Holders), Looks: r.ledger.count()}
	for _, entry := range e.Log {
		if entry.Record == nil || !events.IsProjectPod(entry.Record.Pod) {
			continue
		}
		switch record := entry.Record; {
		case record.Event == events.Claimed:
			p.Pods++
			if strings.HasPrefix(record.Command, "revival-") {
				p.Revived++
			}
		case record.Event == events.Gone && record.Restart != nil && record.Restart.Cause == events.CauseLicenses:
			p.Relicensed++
		}
	}
	for _, h := range e.Holders {
		if h.Taken == h.Limit {
			p.Full++
		}
	}
	return p
}
