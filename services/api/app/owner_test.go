package app

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// beat plays the watcher that sees what happens, but has not heard of the API server for a while.
func (b *bench) beat(age time.Duration) {
	b.t.Helper()
	data, err := events.Heartbeat{Cluster: b.bus.Cluster(), Instance: "w", Time: time.Now(), WatchAge: age.Seconds()}.Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	eventstest.Go(b.t, func(ctx context.Context) error {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := b.bus.Heartbeat(data); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// confirms plays the watcher that asks the API server.
func (b *bench) confirms(f func(natsbus.Address) (bool, error)) {
	b.t.Helper()
	stop, err := b.bus.OnConfirm(context.Background(), 4, func(_ context.Context, a natsbus.Address) (bool, error) { return f(a) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(stop)
}

// address brings a pod to running with an address.
func (b *bench) address(pod, user, ip string, change ...func(*events.Observed)) natsbus.Entry {
	b.t.Helper()
	entry := eventstest.Bring(b.t, b.bus, pod, user, events.Launched)
	o := eventstest.Running("uid-"+pod, "102")
	o.IPs = []string{ip}
	for _, f := range change {
		f(&o)
	}
	entry, _, err := b.bus.AppendAfter(b.t.Context(), entry, pod, eventstest.Observe(entry.Generation, o))
	if err != nil {
		b.t.Fatal(err)
	}
	return entry
}

// caughtUp waits until the api has read all that is in the log of the pods that the tests bring.
func (b *bench) caughtUp() {
	b.t.Helper()
	for _, pod := range []string{"n", "m"} {
		last, err := b.bus.Last(b.t.Context(), pod)
		if err != nil {
			b.t.Fatal(err)
		}
		eventstest.Eventually(b.t, "the api has read the log", func() bool { e, _ := b.table.Pod(pod); return e.Sequence >= last.Sequence })
	}
}

// owner asks whose an address is.
func (b *bench) owner(ip string) answer {
	b.t.Helper()
	return b.ask(http.MethodGet, "/get_podip_owner?ip="+ip, "", "")
}

// TestOwner has whose an address is. (The old backend took the first pod that it found, also one that had ended.)
func TestOwner(t *testing.T) {
	t.Parallel()
	sure := func(natsbus.Address) (bool, error) { return true, nil }
	tests := map[string]struct {
		happens func(b *bench)
		confirm func(natsbus.Address) (bool, error)
		ip      string
		want    string
		status  int
	}{
		"a pod's":               {func(b *bench) { b.address("n", user, "10.0.7.7") }, sure, "10.0.7.7", user, 200},
		"mapped":                {func(b *bench) { b.address("n", user, "10.0.7.7") }, sure, "::ffff:10.0.7.7", user, 200},
		"in another form":       {func(b *bench) { b.address("n", user, "fd00:42:0::0007") }, sure, "FD00:42::7", user, 200},
		"the second of a pod's": {func(b *bench) { b.address("n", user, "10.0.7.7", ips("10.0.7.7", "fd00:42::7")) }, sure, "fd00:42::7", user, 200},
		"nobody's":              {func(*bench) {}, sure, "10.0.7.7", "", 200},
		"another's prefix":      {func(b *bench) { b.address("n", user, "10.0.7.77") }, sure, "10.0.7.7", "", 200},
		"of an ended pod": {func(b *bench) {
			e := b.address("n", user, "10.0.7.7")
			o := eventstest.Ended("uid-n", "103")
			o.IPs = []string{"10.0.7.7"}
			b.appendTo("n", eventstest.Observe(e.Generation, o))
		}, sure, "10.0.7.7", "", 200},
		"of an ended and of a live pod": {func(b *bench) {
			e := b.address("n", other, "10.0.7.7")
			o := eventstest.Ended("uid-n", "103")
			o.IPs = []string{"10.0.7.7"}
			b.appendTo("n", eventstest.Observe(e.Generation, o))
			b.address("m", user, "10.0.7.7")
		}, sure, "10.0.7.7", user, 200},
		"of a pod that is being deleted": {func(b *bench) {
			e := b.address("n", user, "10.0.7.7")
			b.appendTo("n", eventstest.Delete(e.Generation))
		}, sure, "10.0.7.7", "", 200},
		"of a pod that terminates": {func(b *bench) {
			b.address("n", user, "10.0.7.7", func(o *events.Observed) { o.Terminating = true })
		}, sure, "10.0.7.7", "", 200},
		"of two live pods": {func(b *bench) {
			b.address("n", user, "10.0.7.7")
			b.address("m", user, "10.0.7.7")
		}, sure, "10.0.7.7", "", 200},
		"of a node": {func(b *bench) { b.address("n", user, "192.0.2.1") }, sure, "192.0.2.1", "", 200},
		"of another's node": {func(b *bench) {
			b.address("n", user, "192.0.2.9")
			b.address("m", other, "10.0.7.9", node("192.0.2.9"))
		}, sure, "192.0.2.9", "", 200},
		"on the host": {func(b *bench) {
			b.address("n", user, "10.0.7.7", func(o *events.Observed) { o.HostNetwork, o.NodeIP = true, "" })
		}, sure, "10.0.7.7", "", 200},
		"that the cluster denies": {func(b *bench) { b.address("n", user, "10.0.7.7") }, func(natsbus.Address) (bool, error) { return false, nil }, "10.0.7.7", "", 200},
		"that nobody can confirm": {func(b *bench) { b.address("n", user, "10.0.7.7") }, func(natsbus.Address) (bool, error) { return false, errors.New("away") }, "10.0.7.7", "", 503},
		"of no watcher":           {func(b *bench) { b.address("n", user, "10.0.7.7") }, nil, "10.0.7.7", "", 503},
		"outside of the networks": {func(b *bench) { b.address("n", user, "172.16.0.1") }, sure, "172.16.0.1", "", 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := comparedWith(t, func(w *waits) {
				if tt.status == 200 && tt.want == "" { // That is told when the wait is over, and nothing else.
					w.owner = 300 * time.Millisecond
				}
			}, func(c *config.Config) {
				c.PodSubnetCIDR = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00:42::/64"), netip.MustParsePrefix("192.0.2.0/24")}
			})
			tt.happens(b)
			b.caughtUp()
			if tt.confirm != nil {
				b.confirms(tt.confirm)
				b.beat(0)
				eventstest.Eventually(t, "the watcher is heard of", func() bool { return b.backend.pulse.fresh() == nil })
			}
			got := b.owner(tt.ip)
			if got.Status != tt.status || got.Status == 200 && got.Body != tt.want {
				t.Errorf("answer = %d %q, want %d %q", got.Status, got.Body, tt.status, tt.want)
			}
			if got.Status == 503 && got.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		})
	}
}

func ips(all ...string) func(*events.Observed) { return func(o *events.Observed) { o.IPs = all } }
func node(ip string) func(*events.Observed)    { return func(o *events.Observed) { o.NodeIP = ip } }

// appendTo adds facts about a pod to the log.
func (b *bench) appendTo(pod string, facts ...events.Fact) {
	b.t.Helper()
	for _, fact := range facts {
		if _, _, err := b.bus.Append(b.t.Context(), pod, fact); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestOwnerAppears: an address is waited for.
func TestOwnerAppears(t *testing.T) {
	t.Parallel()
	b := compared(t)
	b.confirms(func(natsbus.Address) (bool, error) { return true, nil })
	b.beat(0)
	eventstest.Eventually(t, "the watcher is heard of", func() bool { return b.backend.pulse.fresh() == nil })
	answered := make(chan answer, 1)
	go func() { answered <- b.owner("10.0.7.7") }()
	b.waiting("/get_podip_owner", 1)
	b.address("n", user, "10.0.7.7")
	if got := eventstest.Receive(t, "the answer", answered); got.Status != 200 || got.Body != user {
		t.Errorf("answer = %+v", got)
	}
}

// TestOwnerMoves: an address goes to another user's pod while a hundred clients ask. Whoever is named has the
// address in the cluster while the question is asked.
func TestOwnerMoves(t *testing.T) {
	t.Parallel()
	b := compared(t)
	var mu sync.Mutex
	holder := "" // The UID of the pod that has the address in the cluster.
	b.confirms(func(a natsbus.Address) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return a.UID == holder && a.IP == "10.0.7.7", nil
	})
	move := func(uid string) {
		mu.Lock()
		defer mu.Unlock()
		holder = uid
	}
	b.beat(0)
	eventstest.Eventually(t, "the watcher is heard of", func() bool { return b.backend.pulse.fresh() == nil })
	move("uid-n")
	first := b.address("n", user, "10.0.7.7")

	// The clients ask until the address has moved; an answer that names the first owner after that is a break-in.
	var moved sync.WaitGroup
	moved.Add(1)
	var group sync.WaitGroup
	var asked sync.WaitGroup
	for range 100 {
		asked.Add(1)
		group.Go(func() {
			if got := b.owner("10.0.7.7"); got.Status != 200 || got.Body != user {
				t.Errorf("before the move: %+v", got)
			}
			asked.Done()
			moved.Wait()
			if got := b.owner("10.0.7.7"); got.Status != 200 || got.Body != other && got.Body != "" {
				t.Errorf("after the move: %+v", got)
			}
		})
	}
	asked.Wait()
	move("uid-m") // In the cluster; the log does not know yet.
	moved.Done()
	b.appendTo("n", eventstest.Delete(first.Generation))
	b.address("m", other, "10.0.7.7")
	group.Wait()
	if got := b.owner("10.0.7.7"); got.Body != other {
		t.Errorf("in the end: %+v", got)
	}
}

// TestConfirmsAreShared: those who ask the same at the same time share a question that is sent after
// they all have asked.
func TestConfirmsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		release := make(chan bool)
		c := newConfirms(func(context.Context, natsbus.Address) (bool, error) {
			asked++
			return <-release, nil
		})
		answers := make(chan bool, 10)
		ask := func() {
			go func() {
				has, err := c.has(t.Context(), natsbus.Address{Pod: "n"})
				if err != nil {
					t.Error(err)
				}
				answers <- has
			}()
		}
		ask()
		synctest.Wait()
		for range 9 {
			ask() // These came after the first question was sent.
		}
		synctest.Wait()
		release <- true
		synctest.Wait()
		if len(answers) != 1 || !<-answers {
			t.Errorf("%d answers besides the first's", len(answers))
		}
		release <- false
		synctest.Wait()
		if asked != 2 || len(answers) != 9 || <-answers || len(c.flights) != 0 {
			t.Errorf("asked %d times, %d answers more, %d kept", asked, len(answers), len(c.flights))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.has(ctx, natsbus.Address{Pod: "m"}); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: %v", err)
		}
		release <- true
	})
}

func TestPulse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{now: time.Now}
		beat := func(age time.Duration) {
			data, err := events.Heartbeat{Cluster: "main", Instance: "w", WatchAge: age.Seconds()}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			p.beat(data)
		}
		check := func(what string, want bool) {
			t.Helper()
			if err := p.fresh(); (err == nil) != want || err != nil && !errors.Is(err, natsbus.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("before the first", false)
		p.beat([]byte("nonsense"))
		check("after nonsense", false)
		beat(0)
		check("after a beat", true)
		<-time.After(silence)
		check("after 5 s", true)
		<-time.After(time.Millisecond)
		check("after more", false)
		beat(deafness)
		check("a watch of 90 s ago", true)
		<-time.After(time.Second)
		check("a watch of 91 s ago", false)
		beat(-time.Second)
		check("a watch in the future", false)
	})
}

// TestOwnersForget: nothing is kept of pods that are gone, and nothing of an earlier log.
func TestOwnersForget(t *testing.T) {
	t.Parallel()
	o := newOwners()
	life := int64(1)
	o.created = func() int64 { return life }
	address := netip.MustParseAddr("10.0.0.1")
	entry := func(event events.Type) natsbus.Entry {
		return natsbus.Entry{Record: events.Record{Event: event, Pod: "n", User: user, Observed: eventstest.Ready("uid", "1")}}
	}
	changed, stop := o.listen(address)
	o.put(entry(events.Ready))
	if pod, found := o.find(address); !found || pod != "n" {
		t.Errorf("find = %q, %t", pod, found)
	}
	select {
	case <-changed:
	default:
		t.Error("the change was not told")
	}
	stop()
	o.put(entry(events.Gone))
	if _, found := o.find(address); found || len(o.pods)+len(o.byAddress)+len(o.nodes)+len(o.waiters) != 0 {
		t.Errorf("kept: %+v", o)
	}
	o.put(entry(events.Ready))
	life = 2
	o.put(natsbus.Entry{Record: events.Record{Event: events.Claimed, Pod: "m", User: user}})
	if _, found := o.find(address); found {
		t.Error("an earlier log's is found")
	}
}
