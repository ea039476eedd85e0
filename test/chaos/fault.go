package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/test/chaos/link"
	"berth/test/chaos/verdict"
)

// Planned is a fault of a schedule.
type Planned struct {
	// At is when it begins, after the begin of the run; For is how long it lasts,
	// besides what the restart of a server takes.
	At, For time.Duration
	Kind    string
	// Target is a replica, like creator-1, or nats, apiserver or postgres.
	Target string
	// Share is which part of the requests is answered wrongly; Delay is how much
	// slower a network is.
	Share float64
	Delay time.Duration
}

// The kinds of faults. Those that begin with kube: are in the network between a
// replica and the API server, those with nats: in that between it and NATS, those with
// db: in that between it and the database.
const (
	killed    = "kill"
	drained   = "drain"
	paused    = "pause"
	slowKube  = "kube: slow"
	cutKube   = "kube: cut"
	halfKube  = "kube: half-open"
	answered  = "kube: "
	slowNATS  = "nats: slow"
	cutNATS   = "nats: cut"
	halfNATS  = "nats: half-open"
	slowDB    = "db: slow"
	cutDB     = "db: cut"
	halfDB    = "db: half-open"
	broker    = "nats"
	apiServer = "apiserver"
	postgres  = "postgres"
)

// sort is a kind of fault: what it may befall, how often it comes, and how long it lasts.
type sort struct {
	kind        string
	targets     []string
	weight      int
	least, most time.Duration
}

func sorts(replicas int) []sort {
	var all, users, licensers []string
	for _, service := range services() {
		for i := range replicas {
			name := fmt.Sprintf("%s-%d", service, i)
			all = append(all, name)
			if service != "api" && service != "licenser" {
				users = append(users, name)
			}
			if service == "licenser" {
				licensers = append(licensers, name)
			}
		}
	}
	const second = time.Second
	list := []sort{
		{killed, all, 26, second / 10, 2 * second},
		{drained, all, 6, second / 10, 2 * second},
		// From longer than the lease and the deadline of a create to longer than AckWait.
		{paused, all, 7, 5 * second, 17 * second},
		{killed, []string{broker}, 4, second / 20, 3 * second / 2},
		{paused, []string{broker}, 2, second, 6 * second},
		{killed, []string{apiServer}, 2, second / 20, second},
		// One of them keeps projects.
		{killed, licensers, 5, second / 10, 2 * second},
		{killed, []string{postgres}, 4, second / 20, 2 * second},
		{slowDB, licensers, 2, second, 5 * second},
		{cutDB, licensers, 4, 0, 0},
		{halfDB, licensers, 3, 2 * second, 12 * second},
		{slowKube, users, 5, second, 5 * second},
		{cutKube, users, 9, 0, 0},
		{halfKube, users, 4, 2 * second, 12 * second},
		{slowNATS, all, 5, second, 5 * second},
		{cutNATS, all, 12, 0, 0},
		{halfNATS, all, 4, 2 * second, 12 * second},
	}
	for _, a := range []link.Answer{link.TooMany, link.Internal, link.Timeout, link.Expired, link.Truncated, link.Broken} {
		list = append(list, sort{answered + string(a), users, 3, second, 5 * second})
	}
	return list
}

// Schedule returns n faults, gap apart on average, of a site with so many
// replicas of each service. It is pure: the same seed is the same schedule.
func Schedule(seed uint64, n int, gap time.Duration, replicas int) []Planned {
	random := rand.New(rand.NewPCG(seed, 2))
	list := sorts(replicas)
	total := 0
	for _, s := range list {
		total += s.weight
	}
	var at time.Duration
	plan := make([]Planned, 0, n)
	for range n {
		// From nothing to the double.
		at += time.Duration(random.Float64() * 2 * float64(gap))
		pick := random.IntN(total)
		i := 0
		for ; pick >= list[i].weight; i++ {
			pick -= list[i].weight
		}
		s := list[i]
		plan = append(plan, Planned{
			At: at, Kind: s.kind, Target: s.targets[random.IntN(len(s.targets))],
			For:   s.least + time.Duration(random.Float64()*float64(s.most-s.least)),
			Share: 0.3 + 0.7*random.Float64(), Delay: time.Duration(20+random.IntN(400)) * time.Millisecond,
		})
	}
	return plan
}

// mischief does the faults of a schedule. It is safe for concurrent use.
type mischief struct {
	site *site
	// busy keeps faults of one target and network apart.
	busy map[string]*sync.Mutex

	mu     sync.Mutex
	faults []verdict.Fault
	errs   []error
}

func newMischief(s *site) *mischief {
	m := &mischief{site: s, busy: map[string]*sync.Mutex{broker: {}, apiServer: {}, postgres: {}}}
	for _, r := range s.replicas {
		for _, part := range []string{"", "kube", "nats", "db"} {
			m.busy[part+r.spec.Name] = &sync.Mutex{}
		}
	}
	return m
}

// run does the schedule until it is over or ctx ends, and returns when every
// fault is over and everything runs again.
func (m *mischief) run(ctx context.Context, plan []Planned) {
	begun := time.Now()
	var under sync.WaitGroup
	defer under.Wait()
	for _, p := range plan {
		pause(ctx, time.Until(begun.Add(p.At)))
		if ctx.Err() != nil {
			return
		}
		under.Go(func() { m.do(ctx, p) })
	}
}

// count is how many faults there have been.
func (m *mischief) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.faults)
}

// do does one fault, once the one before at the same place is over.
func (m *mischief) do(ctx context.Context, p Planned) {
	part, _, network := strings.Cut(p.Kind, ": ")
	if !network {
		part = ""
	}
	lock := m.busy[part+p.Target]
	lock.Lock()
	defer lock.Unlock()
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	number := len(m.faults)
	m.faults = append(m.faults, verdict.Fault{Number: number + 1, Kind: p.Kind, Target: p.Target, Begun: time.Now()})
	m.mu.Unlock()
	var err error
	switch p.Target {
	case broker:
		err = harm(ctx, m.site.broker, p)
	case apiServer:
		err = m.crash(ctx, p)
	case postgres:
		err = m.site.database.crash(ctx, p)
	default:
		for _, r := range m.site.replicas {
			if r.spec.Name == p.Target {
				err = m.replica(ctx, r, p)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[number].Ended = time.Now()
	if err != nil {
		m.errs = append(m.errs, err)
	}
}

// drainLimit is how long a service may take to stop; its own limit is shorter.
const drainLimit = 30 * time.Second

// harm kills, stops or pauses a program for a while.
func harm(ctx context.Context, p *program, f Planned) error {
	switch f.Kind {
	case paused:
		p.signal(syscall.SIGSTOP)
		pause(ctx, f.For)
		p.signal(syscall.SIGCONT)
		return nil
	case drained:
		p.drain(drainLimit)
	default:
		p.kill()
	}
	pause(ctx, f.For)
	return p.start()
}

// crash kills the API server and starts it again.
func (m *mischief) crash(ctx context.Context, f Planned) error {
	if err := m.site.cluster.KillAPIServer(); err != nil {
		return err
	}
	pause(ctx, f.For)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return m.site.cluster.StartAPIServer(ctx)
}

// replica does a fault to a replica or one of its networks.
func (m *mischief) replica(ctx context.Context, r *replica, f Planned) error {
	switch f.Kind {
	case killed, drained, paused:
		return harm(ctx, r.program, f)
	case slowNATS, cutNATS, halfNATS:
		disturb(ctx, r.nats.Link, f)
	case slowKube, cutKube, halfKube:
		disturb(ctx, r.api.Link, f)
	case slowDB, cutDB, halfDB:
		disturb(ctx, r.db.Link, f)
	default:
		r.api.Answer(link.Answer(f.Kind[len(answered):]), f.Share)
		pause(ctx, f.For)
		r.api.Answer("", 0)
	}
	return nil
}

func disturb(ctx context.Context, l *link.Link, f Planned) {
	switch f.Kind {
	case slowNATS, slowKube, slowDB:
		l.Slow(f.Delay)
	case cutNATS, cutKube, cutDB:
		l.Cut()
		return
	default:
		l.Swallow()
	}
	pause(ctx, f.For)
	l.Heal()
}
