package election

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is an API server that knows one Lease. Unlike client-go's fake it
// refuses an update of a version that is not the newest.
type lease struct {
	mu      sync.Mutex
	version int
	stored  *coordinationv1.Lease
}

// cable connects one candidate to the API server. It can be cut.
type cable struct {
	coordinationclient.LeaseInterface
	*lease

	mu  sync.Mutex
	cut bool
}

func (c *cable) Leases(string) coordinationclient.LeaseInterface { return c }

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
}

// call waits like a request into the void when the cable is cut.
func (c *cable) call(ctx context.Context) error {
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (c *cable) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := c.call(ctx); err != nil {
		return nil, err
	}
	c.lease.mu.Lock()
	defer c.lease.mu.Unlock()
	if c.stored == nil {
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), name)
	}
	return c.stored.DeepCopy(), nil
}

func (c *cable) Create(ctx context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if err := c.call(ctx); err != nil {
		return nil, err
	}
	c.lease.mu.Lock()
	defer c.lease.mu.Unlock()
	if c.stored != nil {
		return nil, apierrors.NewAlreadyExists(coordinationv1.Resource("leases"), l.Name)
	}
	return c.store(l), nil
}

func (c *cable) Update(ctx context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if err := c.call(ctx); err != nil {
		return nil, err
	}
	c.lease.mu.Lock()
	defer c.lease.mu.Unlock()
	if c.stored == nil || l.ResourceVersion != c.stored.ResourceVersion {
		return nil, apierrors.NewConflict(coordinationv1.Resource("leases"), l.Name, errors.New("the object has been modified"))
	}
	return c.store(l), nil
}

func (l *lease) store(stored *coordinationv1.Lease) *coordinationv1.Lease {
	l.version++
	l.stored = stored.DeepCopy()
	l.stored.ResourceVersion = string(rune('0' + l.version%1000))
	return l.stored.DeepCopy()
}

func (l *lease) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored == nil || l.stored.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.stored.Spec.HolderIdentity
}

// office is what the candidates want; it sees to it that there is one leader.
type office struct {
	t  *testing.T
	mu sync.Mutex
	in string
	// terms has who came in, in order; since is when.
	terms []string
	since time.Time
}

// enter and leave enclose a term.
func (o *office) enter(who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.in != "" {
		o.t.Errorf("%s leads while %s still does", who, o.in)
	}
	o.in, o.since = who, time.Now()
	o.terms = append(o.terms, who)
}

func (o *office) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.in = ""
}

func (o *office) leader() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.in
}

// candidate is an Election that runs.
type candidate struct {
	name string
	*cable
	stop context.CancelFunc
	done chan error
	// windUp is how long its lead takes to end.
	windUp time.Duration
	// resign ends its lead by itself.
	resign chan error
}

func stand(t *testing.T, l *lease, o *office, name string, windUp time.Duration) *candidate {
	t.Helper()
	c := &candidate{name: name, cable: &cable{lease: l}, windUp: windUp, done: make(chan error, 1), resign: make(chan error)}
	e := &Election{
		lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: "berth", Name: "watcher"}, Client: c.cable,
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		log: zerolog.Nop(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.stop = cancel
	go func() {
		c.done <- e.Run(ctx, func(ctx context.Context) error {
			o.enter(name)
			defer o.leave()
			select {
			case <-ctx.Done():
				<-time.After(c.windUp)
				return nil
			case err := <-c.resign:
				return err
			}
		})
	}()
	return c
}

// ends stops a candidate and waits for its end.
func (c *candidate) ends(t *testing.T) {
	t.Helper()
	c.stop()
	if err := <-c.done; err != nil {
		t.Errorf("Run of %s = %v after the end of its context", c.name, err)
	}
}

// pass lets fake time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// two lets one candidate lead, and another stand by.
func two(t *testing.T, windUp time.Duration) (*lease, *office, *candidate, *candidate) {
	t.Helper()
	l, o := &lease{}, &office{t: t}
	first := stand(t, l, o, "first", windUp)
	pass(time.Second)
	second := stand(t, l, o, "second", 0)
	pass(time.Minute)
	if o.leader() != "first" || len(o.terms) != 1 {
		t.Fatalf("%q leads after %v, want the first candidate all the time", o.leader(), o.terms)
	}
	return l, o, first, second
}

func TestADrainingLeaderGivesBackTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o, first, second := two(t, 2*time.Second)
		first.stop()
		pass(1900 * time.Millisecond)
		if l.holder() != "first" {
			t.Errorf("the lease is %q's before the leader has come to its end", l.holder())
		}
		begun := time.Now()
		pass(3 * time.Second)
		if o.leader() != "second" || o.since.Sub(begun) > 2500*time.Millisecond {
			t.Errorf("%q leads since %s after the drain", o.leader(), o.since.Sub(begun))
		}
		first.ends(t)
		second.ends(t)
		if l.holder() != "" {
			t.Errorf("the lease is still %q's", l.holder())
		}
	})
}

func TestALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, o, first, second := two(t, 500*time.Millisecond)
		first.pull()
		begun := time.Now()
		pass(10 * time.Second)
		if o.leader() != "second" || o.since.Sub(begun) > 8*time.Second {
			t.Errorf("%q leads since %s after the first was cut off", o.leader(), o.since.Sub(begun))
		}
		first.ends(t)
		second.ends(t)
	})
}

func TestALeaderThatCannotLead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, o, first, second := two(t, 0)
		for range 3 {
			switch o.leader() {
			case "first":
				first.resign <- errors.New("the API server's watch cannot be opened")
			case "second":
				second.resign <- nil
			default:
				t.Error("nobody leads")
			}
			pass(10 * time.Second)
		}
		if len(o.terms) != 4 || o.leader() == "" {
			t.Errorf("terms = %v, and %q leads; want a new term after each resignation", o.terms, o.leader())
		}
		first.ends(t)
		second.ends(t)
	})
}

func TestACandidateThatIsNeverElected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o, first, second := two(t, 0)
		second.ends(t)
		if l.holder() != "first" || o.leader() != "first" {
			t.Errorf("the lease is %q's and %q leads after the other's end", l.holder(), o.leader())
		}
		first.ends(t)
	})
}

func TestWithoutAnAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &office{t: t}
		c := stand(t, &lease{}, o, "first", 0)
		c.pull()
		pass(time.Minute)
		c.ends(t)
		if len(o.terms) > 0 {
			t.Errorf("terms = %v without a lease", o.terms)
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := New(&rest.Config{Host: "127.0.0.1:1"}, "berth", "watcher", "a", zerolog.Nop()); err != nil {
		t.Errorf("New = %v; it opens nothing", err)
	}
	if _, err := New(&rest.Config{Host: "://"}, "berth", "watcher", "a", zerolog.Nop()); err == nil {
		t.Error("New takes a host that is no URL")
	}
}

// TestADeadConnection: nothing comes back on the first connection any more, and
// nobody says so. The candidate is elected over another.
func TestADeadConnection(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	dead := ""
	over := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if dead == "" {
			dead = r.RemoteAddr
		}
		silent := r.RemoteAddr == dead
		mu.Unlock()
		if silent {
			<-over
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	elected, err := New(&rest.Config{
		Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	}, "berth", "watcher", "a", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	// Below the 45 s after which client-go notices that a connection is dead.
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	leads := false
	err = elected.Run(ctx, func(context.Context) error {
		leads = true
		cancel()
		return nil
	})
	if err != nil || !leads {
		t.Errorf("elected: %t, %v", leads, err)
	}
}
