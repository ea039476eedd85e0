package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// TestOddTimes: a license whose times no program knows is read like any other, and is in the way of none.
func TestOddTimes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		activates, expires string
		began, ended       bool // What becomes of them.
	}{
		"usual":             {"2026-01-01", "2026-02-01", true, true},
		"for ever":          {"-infinity", "infinity", true, false},
		"never":             {"infinity", "-infinity", false, true},
		"far away":          {"12026-01-01", "12026-01-01", false, false},
		"before all years":  {"0044-03-15 BC", "0044-03-15 BC", true, true},
		"the last year":     {"9998-12-31", "9998-12-31", false, false},
		"the first of none": {"9999-01-01", "9999-01-01", false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			ctx := t.Context()
			f.put(t, licenseA, 2)
			f.put(t, licenseB, 2)
			f.attach(t, projectA, licenseA, licenseB)
			f.exec(t, `UPDATE public.site_licenses SET activates = $2::text::timestamp, expires = $3::text::timestamp, last_used = 'infinity', created = '-infinity'
				WHERE id = $1`, licenseA, tt.activates, tt.expires)
			f.exec(t, `UPDATE public.projects SET last_edited = 'infinity'`)
			facts := f.check(t, start(projectA, 1))
			if len(facts.Licenses) != 2 {
				t.Fatalf("%d licenses, want 2", len(facts.Licenses))
			}
			row := facts.Licenses[0]
			if began := row.Activates != nil && !row.Activates.After(facts.Now); began != tt.began {
				t.Errorf("activates = %v", row.Activates)
			}
			if ended := row.Expires != nil && !row.Expires.After(facts.Now); ended != tt.ended {
				t.Errorf("expires = %v", row.Expires)
			}
			read, err := f.License(ctx, licenseA)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := json.Marshal(read); err != nil {
				t.Error(err)
			}
			changed, err := f.ChangedLicenses(ctx, nil, "", 10)
			if err != nil || len(changed) != 2 {
				t.Errorf("%d changes, %v; want both", len(changed), err)
			}
			_, _, err = f.Licenses(ctx, "", 10)
			if err := errors.Join(err, second(f.TimedLicenses(ctx, "", 10)), second(f.Upkeep(ctx, projectA)), second(f.Project(ctx, projectA)),
				second(f.Outdated(ctx, []string{projectA})), second(f.Inputs(ctx, projectA))); err != nil {
				t.Error(err)
			}
		})
	}
	f := setup(t)
	far := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := f.PutLicense(t.Context(), wire.License{ID: licenseA, Expires: &far}, ""); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a license until the year 10000: %v, want %v", err, store.ErrInvalid)
	}
}

// TestForgottenLock: a lock that somebody forgets on one row is waited for a short time only, and not by those
// who do not need it.
func TestForgottenLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 2)
	f.attach(t, projectA, licenseA)
	f.attach(t, projectB, licenseA)
	f.check(t, start(projectB, 1))
	f.exec(t, `BEGIN`)
	f.exec(t, `SELECT FROM public.site_licenses FOR UPDATE`)
	f.exec(t, `SELECT FROM public.projects WHERE project_id = $1 FOR UPDATE`, projectA)
	var waiting sync.WaitGroup
	for range 12 { // More than there are connections.
		waiting.Go(func() {
			// It is the wait for the lock that has an end, which comes before that of the transaction.
			if err := f.Check(t.Context(), start(projectA, 1), greedy); !errors.Is(err, store.ErrLocked) {
				t.Errorf("Check = %v, want %v", err, store.ErrLocked)
			}
		})
	}
	if err := f.SetState(t.Context(), projectA, "running", ""); !errors.Is(err, store.ErrLocked) || !errors.Is(err, store.ErrAway) {
		t.Errorf("SetState of the locked row = %v, want %v", err, store.ErrLocked)
	}
	waiting.Wait()
	f.exec(t, `ROLLBACK`)
	f.check(t, start(projectA, 1))
}

// TestCrowd: what follows the log does not wait for a crowd of starts that has all connections of the others.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const connections = 10
	f := setup(t)
	f.attach(t, projectB)
	inside, gate := make(chan struct{}, 10*connections), make(chan struct{})
	var waiting sync.WaitGroup
	for n := range connections {
		waiting.Go(func() {
			// The server may take a connection away that is held for too long.
			_ = f.Check(t.Context(), start(project(100+n), 1), func(store.Facts) (store.Decision, error) {
				inside <- struct{}{}
				<-gate
				return store.Decision{}, nil
			})
		})
	}
	for range connections {
		<-inside
	}
	ctx := t.Context()
	if err := errors.Join(f.Ready(ctx), f.SetState(ctx, projectB, "running", ""), f.Over(ctx, projectB, time.Now()),
		f.FreeSeats(ctx, cluster, events.ProjectPod(projectB), generation(1), time.Time{})); err != nil {
		t.Error(err)
	}
	// One that needs such a connection does wait.
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := f.Check(short, start(projectB, 1), greedy); !errors.Is(err, store.ErrAway) {
		t.Errorf("Check beside %d others = %v, want %v", connections, err, store.ErrAway)
	}
	close(gate)
	waiting.Wait()
}

// TestSilentDatabase: a network that takes everything and gives nothing is found.
func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	p, address := proxied(t, shared.Migrated(t))
	s, err := store.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.Ready(t.Context()), s.Unwanted(t.Context(), projectA)); err != nil {
		t.Fatal(err)
	}
	p.silence()
	begun := time.Now()
	var waiting sync.WaitGroup
	for what, f := range map[string]func(context.Context) error{
		"upkeep":   func(ctx context.Context) error { return second(s.Upkeep(ctx, projectA)) },
		"state":    func(ctx context.Context) error { return s.SetState(ctx, projectA, "running", "") },
		"outdated": func(ctx context.Context) error { return second(s.Outdated(ctx, []string{projectA})) },
		"free":     func(ctx context.Context) error { return s.FreeSeats(ctx, cluster, "pod", generation(1), time.Time{}) },
		"slots":    func(ctx context.Context) error { return second(s.Slots(ctx, []string{projectA}, 1)) },
		"settings": func(ctx context.Context) error {
			_, _, err := s.ChangedSettings(ctx)
			return err
		},
	} {
		waiting.Go(func() {
			// Anything but the bound of a query takes half a minute at the least.
			if err := f(t.Context()); !errors.Is(err, store.ErrAway) || time.Since(begun) > 25*time.Second {
				t.Errorf("%s = %v after %s, want %v", what, err, time.Since(begun), store.ErrAway)
			}
		})
	}
	waiting.Wait()
}

// proxy stands between a store and its database.
type proxy struct {
	mu    sync.Mutex
	mute  bool
	conns []net.Conn
}

// silence has it pass on nothing more.
func (p *proxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

func (p *proxy) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute
}

// keep closes a connection at the end.
func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

// proxied returns a proxy and the URL of the database behind it.
func proxied(t *testing.T, database string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, server := &proxy{}, u.Host
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			p.keep(in)
			var dialer net.Dialer
			out, err := dialer.DialContext(context.WithoutCancel(t.Context()), "tcp", server)
			if err != nil {
				continue
			}
			p.keep(out)
			running.Go(func() { p.pass(out, in) })
			running.Go(func() { p.pass(in, out) })
		}
	})
	t.Cleanup(func() {
		err := listener.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close() // It may be closed already.
		}
		p.mu.Unlock()
		running.Wait()
		if err != nil {
			t.Error(err)
		}
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

// pass copies until an end closes, and swallows everything once the proxy is silent.
func (p *proxy) pass(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if p.silent() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestSlots: all who ask share one pace, and who has a time keeps it.
func TestSlots(t *testing.T) {
	t.Parallel()
	f := setup(t)
	// slots asks for some, and returns the times between them: of the durations, and of what is kept, since the first one of all.
	slots := func(projects ...string) (at []time.Duration, apart []time.Duration) {
		t.Helper()
		got, err := f.Slots(t.Context(), projects, 2)
		if err != nil {
			t.Fatal(err)
		}
		for i, project := range projects {
			apart = append(apart, (got[i] - got[0]).Round(time.Millisecond))
			var ms int64
			if err := f.conn.QueryRow(t.Context(), `SELECT round(1000 * extract(epoch FROM recompute_at - (SELECT value::timestamptz FROM berth.settings WHERE name = 'first')))
				FROM berth.projects WHERE project_id = $1`, project).Scan(&ms); err != nil {
				t.Fatal(err)
			}
			at = append(at, time.Duration(ms)*time.Millisecond)
		}
		return at, apart
	}
	first := func(at string) {
		t.Helper()
		f.exec(t, `INSERT INTO berth.settings SELECT n, (`+at+`)::text FROM unnest(ARRAY['first', 'next_recompute']) n
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`)
	}
	const step = 500 * time.Millisecond
	for name, begin := range map[string]func(){
		"the first of all": func() {},
		"an idle site": func() {
			first(`now() - interval '1 hour'`)
			f.exec(t, `UPDATE berth.projects SET recompute_at = now() - interval '1 hour'`)
		},
	} {
		begin()
		got, err := f.Slots(t.Context(), []string{project(4), project(2)}, 2)
		if d := cmp.Diff([]time.Duration{0, step}, got); d != "" || err != nil {
			t.Errorf("of %s (-want +got):\n%s%v", name, d, err)
		}
		f.exec(t, `DELETE FROM berth.projects`)
		f.exec(t, `DELETE FROM berth.settings WHERE name = 'next_recompute'`)
	}
	// Of a site that has much to do until later, so that none of these comes while they are handed out.
	first(`now() + interval '1 hour'`)
	for _, call := range []struct {
		projects  []string
		at, apart []time.Duration
	}{
		{[]string{project(1)}, []time.Duration{0}, []time.Duration{0}},
		{[]string{project(2), project(3)}, []time.Duration{step, 2 * step}, []time.Duration{0, step}},
		{[]string{project(3), project(4), project(2)}, []time.Duration{2 * step, 3 * step, step}, []time.Duration{0, step, -step}},
	} {
		at, apart := slots(call.projects...)
		if d := cmp.Diff(call.at, at); d != "" {
			t.Errorf("times of %q (-want +got):\n%s", call.projects, d)
		}
		if d := cmp.Diff(call.apart, apart); d != "" {
			t.Errorf("durations of %q (-want +got):\n%s", call.projects, d)
		}
	}
}

// TestSlotsBesideALock: who has locked the row of one project holds up no other.
func TestSlotsBesideALock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	if _, err := f.Slots(ctx, []string{project(1), project(2)}, 1); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE berth.projects SET recompute_at = now() - interval '1 hour'`)
	f.exec(t, `BEGIN`)
	f.exec(t, `SELECT FROM berth.projects WHERE project_id = $1 FOR UPDATE`, project(1))
	if got, err := f.Slots(ctx, []string{project(1), project(2), project(3)}, 1); err != nil || len(got) != 3 {
		t.Errorf("Slots = %v, %v; want three", got, err)
	}
	f.exec(t, `ROLLBACK`)
}

// TestNoteFault: what is noted late about a pod that has ended takes nothing away from why the project does not run.
func TestNoteFault(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	noted := func(fault, want string) {
		t.Helper()
		if err := f.NoteFault(ctx, projectA, fault, fault); err != nil {
			t.Fatal(err)
		}
		if got := f.value(t, `SELECT coalesce(error, '') FROM berth.projects`); got != want {
			t.Errorf("the error is %q, want %q", got, want)
		}
	}
	if err := f.Lives(ctx, projectA, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	noted("broken", "broken")
	noted("", "")
	for _, retry := range []time.Time{time.Now().Add(time.Hour), {}} { // It is started again, and then given up.
		if err := f.Failed(ctx, projectA, 1, retry, "died"); err != nil {
			t.Fatal(err)
		}
		noted("", "died")
		noted("broken", "died")
	}
}

// TestOver: what was stopped is another life than the one that has begun since.
func TestOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.exec(t, `INSERT INTO public.projects (project_id) VALUES ($1)`, projectA)
	earlier := time.Now().UTC().Truncate(time.Microsecond)
	now := earlier.Add(time.Second)
	if err := f.Lives(ctx, projectA, now, true); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		since time.Time
		want  bool
	}{{earlier, true}, {now, false}} {
		if err := f.Over(ctx, projectA, step.since); err != nil {
			t.Fatal(err)
		}
		if u, err := f.Upkeep(ctx, projectA); err != nil || u.Wanted != step.want {
			t.Errorf("wanted = %t, %v; want %t", u.Wanted, err, step.want)
		}
	}
}
