package access

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"berth/pkg/service/config"
)

// maxUsers is how many users of a silo are remembered at a time. The one that was
// heard of longest ago is forgotten for another; whoever names so many is held by the limit of the silo.
const maxUsers = 10_000

// rates keep what silos and users have used up of their limits. They are safe for concurrent use.
type rates struct {
	mu     sync.Mutex
	limits config.RateLimits
	silos  map[string]*siloRates // By name; the built-in silo has none, and no limit.
}

type siloRates struct {
	limiter *rate.Limiter // Nil for no limit.
	users   map[string]*userRate
	recent  *list.List // Of names, the latest first.
}

type userRate struct {
	limiter *rate.Limiter
	place   *list.Element // In recent.
}

func newRates() *rates { return &rates{silos: map[string]*siloRates{}} }

// limit sets the limits and the silos that there are.
func (r *rates) limit(cfg config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.limits
	r.limits = cfg.RateLimits
	silos := make(map[string]*siloRates, len(cfg.Silos))
	for _, s := range cfg.Silos {
		known := r.silos[s.Name]
		if known == nil || before.PerSilo != r.limits.PerSilo {
			known = &siloRates{limiter: newLimiter(r.limits.PerSilo), users: map[string]*userRate{}, recent: list.New()}
		}
		if before.PerUser != r.limits.PerUser {
			known.users, known.recent = map[string]*userRate{}, list.New()
		}
		silos[s.Name] = known
	}
	r.silos = silos
}

func newLimiter(limit config.RateLimit) *rate.Limiter {
	if limit == (config.RateLimit{}) {
		return nil
	}
	return rate.NewLimiter(rate.Limit(limit.PerSecond), limit.Burst)
}

// silo charges a silo for a request. It returns 0, or how long to wait for another try.
func (r *rates) silo(name string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.silos[name]
	if s == nil {
		return 0
	}
	return charge(s.limiter, now)
}

// user charges a user of a silo for a request, like silo.
func (r *rates) user(silo, user string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.silos[silo]
	if s == nil || r.limits.PerUser == (config.RateLimit{}) {
		return 0
	}
	u := s.users[user]
	if u == nil {
		if s.recent.Len() >= maxUsers {
			if oldest, ok := s.recent.Remove(s.recent.Back()).(string); ok {
				delete(s.users, oldest)
			}
		}
		u = &userRate{limiter: newLimiter(r.limits.PerUser), place: s.recent.PushFront(user)}
		s.users[user] = u
	}
	s.recent.MoveToFront(u.place)
	return charge(u.limiter, now)
}

// charge takes one from a limit, and nothing where there is none left.
func charge(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil || l.AllowN(now, 1) {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	return max(time.Duration(missing/float64(l.Limit())*float64(time.Second)), time.Millisecond)
}
