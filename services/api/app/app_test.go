package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/servicetest"
	"berth/pkg/service/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pod   = "notebook-alice"
	user  = "alice@example.org"
	other = "mallory@example.org"
)

func options(server *eventstest.Server, change ...func(*config.Config)) worker.Options {
	settings := config.Default()
	settings.CreateDeadline = 45 * time.Second // The machine may be busy with other tests.
	for _, f := range change {
		f(&settings)
	}
	return worker.Options{InProcess: server, Process: service.Process{
		Identity: service.NewIdentity("api"), Config: settings, Log: zerolog.Nop(), Listen: "127.0.0.1:0",
	}}
}

// bench is an api that runs, and a bus for the test to be all other services.
type bench struct {
	*App
	t      *testing.T
	server *eventstest.Server
	bus    *natsbus.Bus
	client *http.Client
}

func newBench(t *testing.T, change ...func(*config.Config)) *bench {
	t.Helper()
	server := eventstest.NewServer(t)
	return startBench(t, server, options(server, change...))
}

// patient are the waits of an api on a machine that is busy with other tests, less than the server lets an answer take. Tests in
// which a wait is to end shorten it.
func patient() waits {
	const long = 40 * time.Second
	return waits{launch: long, remove: long, first: long, owner: long}
}

// startBench starts an api; prepare changes it before that.
func startBench(t *testing.T, server *eventstest.Server, opts worker.Options, prepare ...func(*App)) *bench {
	t.Helper()
	b := &bench{t: t, server: server, bus: eventstest.NewBus(t, server, "test"), App: New(opts)}
	b.waits = patient()
	for _, f := range prepare {
		f(b.App)
	}
	transport := &http.Transport{}
	b.client = &http.Client{Transport: transport}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return b
}

// compared is a bench whose log has been compared with the cluster.
func compared(t *testing.T, change ...func(*config.Config)) *bench {
	t.Helper()
	return comparedWith(t, func(*waits) {}, change...)
}

// comparedWith is compared with other waits.
func comparedWith(t *testing.T, shorten func(*waits), change ...func(*config.Config)) *bench {
	t.Helper()
	server := eventstest.NewServer(t)
	b := startBench(t, server, options(server, change...), func(a *App) { shorten(&a.waits) })
	b.compare()
	return b
}

// compare plays the watcher that has compared the log with the cluster.
func (b *bench) compare() {
	b.t.Helper()
	eventstest.MarkComplete(b.t, b.bus)
	eventstest.Eventually(b.t, "the api is ready", func() bool { return b.Health.Ready(b.t.Context()) == nil })
}

type object = map[string]any

// reply is what a request was answered.
type reply struct {
	Status int
	Body   any
	After  string
}

// code is the error's code, if there is one.
func (r reply) code() string {
	fault, _ := r.Body.(object)["error"].(object)
	code, _ := fault["code"].(string)
	return code
}

func (b *bench) post(path string, body object) reply {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://"+b.Addr()+path, bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := b.client.Do(request)
	if err != nil {
		b.t.Errorf("POST %s: %v", path, err)
		return reply{}
	}
	defer answer.Body.Close()
	r := reply{Status: answer.StatusCode, After: answer.Header.Get("Retry-After")}
	if err := json.NewDecoder(answer.Body).Decode(&r.Body); err != nil {
		b.t.Errorf("POST %s: %v", path, err)
	}
	return r
}

// begin sends a request whose answer takes a while.
func (b *bench) begin(path string, body object) <-chan reply {
	answered := make(chan reply, 1)
	go func() { answered <- b.post(path, body) }()
	return answered
}

func of(user string) object { return object{"user_id": user, "pod_name": pod} }

// append adds facts about the pod to the log.
func (b *bench) append(facts ...events.Fact) natsbus.Entry {
	b.t.Helper()
	var entry natsbus.Entry
	for _, fact := range facts {
		var err error
		if entry, _, err = b.bus.Append(b.t.Context(), pod, fact); err != nil {
			b.t.Fatal(err)
		}
	}
	return entry
}

func (b *bench) expect(what string, got, want reply) {
	b.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		b.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func yes(field string) reply { return reply{Status: 200, Body: object{field: true}} }
func no(field string) reply  { return reply{Status: 200, Body: object{field: false}} }

// TestBeforeTheComparison: missing means unknown, so every answer is 503.
func TestBeforeTheComparison(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	eventstest.Eventually(t, "the log has been read", func() bool { return b.table.Loaded() == nil })
	for _, path := range []string{"/get_pods", "/create_pod", "/watch_create_pod", "/delete_pod", "/watch_delete_pod"} {
		got := b.post(path, object{"user_id": user, "pod_name": pod, "yaml_url": "https://example.org/n.yaml"})
		if got.Status != 503 || got.code() != "UNAVAILABLE" || got.After == "" {
			t.Errorf("POST %s = %+v, want 503 UNAVAILABLE and when to ask again", path, got)
		}
	}
	if queued := eventstest.Queued(t, b.server, events.StageCreate); len(queued) > 0 {
		t.Errorf("queued: %+v", queued)
	}
}

// take waits for the create command that the api has published.
func (b *bench) take() events.Command {
	b.t.Helper()
	var queued []events.Command
	eventstest.Eventually(b.t, "the create is queued", func() bool {
		queued = eventstest.Queued(b.t, b.server, events.StageCreate)
		return len(queued) == 1
	})
	return queued[0]
}

func (b *bench) decide(o events.Outcome) {
	b.t.Helper()
	if _, err := b.bus.Decide(b.t.Context(), o); err != nil {
		b.t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	launched := func(b *bench, c events.Command, pod string) {
		b.decide(events.Outcome{Verdict: events.Accepted, Command: c.ID, User: user, Pod: pod})
		for _, fact := range eventstest.Life(pod, user, c.ID, "", "uid")[:4] {
			entry, err := b.bus.Last(b.t.Context(), pod)
			if err != nil {
				b.t.Fatal(err)
			}
			fact.Generation = entry.Generation
			if _, _, err := b.bus.Append(b.t.Context(), pod, fact); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	named := func(name string) reply { return reply{Status: 200, Body: object{"pod_name": name}} }
	failed := func(status int, code, message string) reply {
		return reply{Status: status, Body: object{"pod_name": "", "error": object{"code": code, "message": message}}}
	}
	tests := map[string]struct {
		happens func(b *bench, c events.Command)
		want    reply
		wait    time.Duration // For the launch; 0 is for as long as it takes.
	}{
		"launched": {happens: func(b *bench, c events.Command) { launched(b, c, pod) }, want: named(pod)},
		"launched under another name": {happens: func(b *bench, c events.Command) {
			b.decide(events.Outcome{Verdict: events.Accepted, Command: c.ID, User: user, Pod: pod})
			launched(b, c, pod+"-1")
		}, want: named(pod + "-1"), wait: 100 * time.Millisecond},
		"accepted, not launched for long": {happens: func(b *bench, c events.Command) {
			b.decide(events.Outcome{Verdict: events.Accepted, Command: c.ID, User: user, Pod: pod})
			b.append(eventstest.Claim(pod, user, c.ID))
		}, want: named(pod), wait: 100 * time.Millisecond},
		"refused": {happens: func(b *bench, c events.Command) {
			b.decide(events.Outcome{Verdict: events.Refused, Command: c.ID, User: user, Reason: events.ManifestForbidden, Message: "not allowed"})
		}, want: failed(403, "MANIFEST_FORBIDDEN", "not allowed")},
		"rejected by the cluster": {happens: func(b *bench, c events.Command) {
			b.decide(events.Outcome{Verdict: events.Accepted, Command: c.ID, User: user, Pod: pod})
			entry := b.append(eventstest.Claim(pod, user, c.ID))
			b.append(eventstest.Fail(entry.Generation, events.PodRejected, "no such field"))
		}, want: failed(422, "POD_REJECTED", "no such field")},
		"deleted while it was made": {happens: func(b *bench, c events.Command) {
			b.decide(events.Outcome{Verdict: events.Accepted, Command: c.ID, User: user, Pod: pod})
			entry := b.append(eventstest.Claim(pod, user, c.ID))
			b.append(eventstest.Delete(entry.Generation), eventstest.Gone(entry.Generation))
		}, want: failed(409, "DELETED", "the pod was deleted while it was being made")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := comparedWith(t, func(w *waits) {
				if tt.wait > 0 {
					w.launch = tt.wait
				}
			})
			answered := b.begin("/create_pod", object{
				"user_id": user, "yaml_url": "https://example.org/n.yaml", "settings": object{"main": object{"A": "1"}},
			})
			c := b.take()
			want := events.CreateRequest{
				ManifestURL: "https://example.org/n.yaml", Settings: map[string]map[string]string{"main": {"A": "1"}},
				Silo: events.Silo{Name: "loopback", DataAddress: "127.0.0.1"}, Deadline: c.Create.Deadline,
			}
			if d := cmp.Diff(&want, c.Create); d != "" || c.User != user {
				t.Errorf("create for %s (-want +got):\n%s", c.User, d)
			}
			tt.happens(b, c)
			b.expect("answer", eventstest.Receive(t, "the answer", answered), tt.want)
		})
	}
}

// TestCreateExpires: nobody takes the command. What the answer promises holds
// against a creator that comes later.
func TestCreateExpires(t *testing.T) {
	t.Parallel()
	b := compared(t, func(c *config.Config) { c.CreateDeadline = time.Second })
	got := b.post("/create_pod", object{"user_id": user, "yaml_url": "https://example.org/n.yaml"})
	b.expect("answer", got, reply{Status: 503, After: "1", Body: object{
		"pod_name": "", "error": object{"code": "EXPIRED", "message": "no service took the request in time; nothing has been made"},
	}})
	c := b.take()
	outcome, err := b.bus.Outcome(t.Context(), c.ID)
	if err != nil || outcome.Verdict != events.Expiry {
		t.Errorf("outcome = %+v, %v; want expired", outcome, err)
	}
}

func TestTestingHost(t *testing.T) {
	t.Parallel()
	b := compared(t, func(c *config.Config) {
		c.CreateDeadline, c.TestingHost = time.Second, netip.MustParseAddr("10.2.0.9")
		c.HostnameList = []config.Hostname{{Hostname: "silo9.example.org", Address: netip.MustParseAddr("10.2.0.9")}}
	})
	b.post("/create_pod", object{"user_id": user, "yaml_url": "https://example.org/n.yaml"})
	want := events.Silo{Name: "loopback", DataAddress: "10.2.0.9", HostName: "silo9.example.org"}
	if d := cmp.Diff(want, b.take().Create.Silo); d != "" {
		t.Errorf("silo (-want +got):\n%s", d)
	}
}

// TestAtOnce has the answers that nobody needs to wait for.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	missing := reply{Status: 404, Body: object{"requested": false, "error": object{"code": "NOT_FOUND", "message": "you have no such pod"}}}
	type answers struct{ create, remove, gone reply }
	tests := map[string]struct {
		last events.Type
		user string
		want answers
	}{
		"no such pod":              {"", user, answers{no("ready"), missing, yes("deleted")}},
		"another's":                {events.Ready, other, answers{no("ready"), missing, yes("deleted")}},
		"another's, being deleted": {events.Deleting, other, answers{no("ready"), missing, yes("deleted")}},
		"ready":                    {events.Ready, user, answers{yes("ready"), reply{}, no("deleted")}},
		"ended":                    {events.Ended, user, answers{no("ready"), reply{}, no("deleted")}},
		"being deleted":            {events.Deleting, user, answers{no("ready"), yes("requested"), reply{}}},
		"gone":                     {events.Gone, user, answers{no("ready"), missing, yes("deleted")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := compared(t)
			if tt.last != "" {
				eventstest.Bring(t, b.bus, pod, user, tt.last)
				// A table that lags may still say that the pod was ready.
				if _, err := b.table.Fresh(t.Context(), pod); err != nil {
					t.Fatal(err)
				}
			}
			b.expect("watch_create_pod", b.post("/watch_create_pod", of(tt.user)), tt.want.create)
			if tt.want.gone.Status != 0 {
				b.expect("watch_delete_pod", b.post("/watch_delete_pod", of(tt.user)), tt.want.gone)
			}
			if tt.want.remove.Status != 0 {
				b.expect("delete_pod", b.post("/delete_pod", of(tt.user)), tt.want.remove)
				if queued := eventstest.Queued(t, b.server, events.StageDelete); len(queued) > 0 {
					t.Errorf("queued: %+v", queued)
				}
			}
			listed := b.post("/get_pods", of(tt.user)).Body
			if n := len(listed.([]any)); (n == 1) != (tt.user == user && tt.last != "" && tt.last != events.Gone) {
				t.Errorf("get_pods = %v", listed)
			}
		})
	}
}

func TestWatchCreate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		happens func(b *bench, generation string)
		want    reply
	}{
		"ready":   {func(b *bench, g string) { b.append(eventstest.Observe(g, eventstest.Ready("uid-"+pod, "109"))) }, yes("ready")},
		"failed":  {func(b *bench, g string) { b.append(eventstest.Fail(g, events.Timeout, "x")) }, no("ready")},
		"deleted": {func(b *bench, g string) { b.append(eventstest.Delete(g)) }, no("ready")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := compared(t)
			entry := eventstest.Bring(t, b.bus, pod, user, events.Running)
			var watchers []<-chan reply
			for range 3 {
				watchers = append(watchers, b.begin("/watch_create_pod", of(user)))
			}
			b.waiting("/watch_create_pod", 3)
			tt.happens(b, entry.Generation)
			for _, answered := range watchers {
				b.expect("watch_create_pod", eventstest.Receive(t, "the answer", answered), tt.want)
			}
			b.waiting("/watch_create_pod", 0)
		})
	}
}

// TestWatched has what a watch comes to, by the newest record of the name, whatever it has missed before.
func TestWatched(t *testing.T) {
	t.Parallel()
	record := func(event events.Type, generation string, wasReady ...bool) events.Record {
		r := events.Record{Event: event, Generation: generation}
		if len(wasReady) > 0 || event == events.Ready {
			r.ReadyAt = eventstest.Time()
		}
		return r
	}
	tests := map[string]struct {
		newest              events.Record
		wantReady, wantOver bool
	}{
		"claimed":                           {record(events.Claimed, "1-1"), false, false},
		"running":                           {record(events.Running, "1-1"), false, false},
		"ready":                             {record(events.Ready, "1-1"), true, true},
		"was ready, and is not now":         {record(events.Unready, "1-1", true), true, true},
		"was ready, and has ended":          {record(events.Ended, "1-1", true), false, true},
		"ended":                             {record(events.Ended, "1-1"), false, true},
		"failed":                            {record(events.Failed, "1-1"), false, true},
		"being deleted":                     {record(events.Deleting, "1-1", true), false, true},
		"gone":                              {record(events.Gone, "1-1", true), false, true},
		"another has the name":              {record(events.Claimed, "1-9"), false, true},
		"another has the name and is ready": {record(events.Ready, "1-9"), false, true},
		"no record":                         {events.Record{}, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if ready, over := watched(tt.newest, "1-1"); ready != tt.wantReady || over != tt.wantOver {
				t.Errorf("ready %t, over %t; want %t, %t", ready, over, tt.wantReady, tt.wantOver)
			}
		})
	}
}

// waiting waits until n long polls of an endpoint are open.
func (b *bench) waiting(endpoint string, n float64) {
	b.t.Helper()
	eventstest.Eventually(b.t, "long polls are open", func() bool {
		families, err := b.Health.Registry().Gather()
		if err != nil {
			b.t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() != "berth_http_long_polls" {
				continue
			}
			for _, metric := range family.GetMetric() {
				if metric.GetLabel()[0].GetValue() == endpoint {
					return metric.GetGauge().GetValue() == n
				}
			}
		}
		return false
	})
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b := compared(t)
	entry := eventstest.Bring(t, b.bus, pod, user, events.Ready)
	answered := b.begin("/delete_pod", of(user))
	var queued []events.Command
	eventstest.Eventually(t, "the delete is queued", func() bool {
		queued = eventstest.Queued(t, b.server, events.StageDelete)
		return len(queued) == 1
	})
	if c := queued[0]; c.Pod != pod || c.User != user || c.Generation != entry.Generation || *c.Delete != (events.DeleteRequest{}) {
		t.Errorf("delete = %+v", c)
	}
	b.append(eventstest.Delete(entry.Generation))
	b.expect("delete_pod", eventstest.Receive(t, "the answer", answered), yes("requested"))

	gone := b.begin("/watch_delete_pod", of(user))
	b.waiting("/watch_delete_pod", 1)
	b.append(eventstest.Gone(entry.Generation))
	b.expect("watch_delete_pod", eventstest.Receive(t, "the answer", gone), yes("deleted"))
}

func TestWatchDeleteTakesTooLong(t *testing.T) {
	t.Parallel()
	b := compared(t, func(c *config.Config) { c.TimeoutDelete = time.Second })
	eventstest.Bring(t, b.bus, pod, user, events.Deleting)
	b.expect("watch_delete_pod", b.post("/watch_delete_pod", of(user)), no("deleted"))
}

// TestDrain: clients that wait are told to ask again, never "no".
func TestDrain(t *testing.T) {
	t.Parallel()
	b := compared(t)
	eventstest.Bring(t, b.bus, pod, user, events.Running)
	eventstest.Bring(t, b.bus, "other", user, events.Deleting)
	create := b.begin("/watch_create_pod", of(user))
	gone := b.begin("/watch_delete_pod", object{"user_id": user, "pod_name": "other"})
	made := b.begin("/create_pod", object{"user_id": user, "yaml_url": "https://example.org/n.yaml"})
	b.waiting("/watch_create_pod", 1)
	b.waiting("/watch_delete_pod", 1)
	c := b.take()
	if err := b.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for what, answered := range map[string]<-chan reply{"watch_create_pod": create, "watch_delete_pod": gone} {
		if got := eventstest.Receive(t, what, answered); got.Status != 503 || got.code() != "UNAVAILABLE" || got.After == "" {
			t.Errorf("%s = %+v", what, got)
		}
	}
	if got := eventstest.Receive(t, "create_pod", made); got.Status != 503 || got.code() != "EXPIRED" || got.After == "" {
		t.Errorf("create_pod = %+v", got)
	}
	if outcome, err := b.bus.Outcome(t.Context(), c.ID); err != nil || outcome.Verdict != events.Expiry {
		t.Errorf("outcome = %+v, %v; the client was told that nothing will be made", outcome, err)
	}
}

// TestLogMadeAnew: whoever waits is told that nobody knows.
func TestLogMadeAnew(t *testing.T) {
	t.Parallel()
	b := compared(t)
	eventstest.Bring(t, b.bus, pod, user, events.Running)
	create := b.begin("/watch_create_pod", of(user))
	b.waiting("/watch_create_pod", 1)
	b.server.Wipe()
	if got := eventstest.Receive(t, "watch_create_pod", create); got.Status != 503 || got.code() != "UNAVAILABLE" {
		t.Errorf("watch_create_pod = %+v", got)
	}
	if got := b.post("/get_pods", of(user)); got.Status != 503 {
		t.Errorf("get_pods = %+v; the pod may still be there", got)
	}
}

// TestStrangeNames reach the log as text, and nothing else.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	b := compared(t)
	eventstest.Bring(t, b.bus, pod, user, events.Ready)
	for _, name := range []string{"", ">", "*", pod + ".*", "\x00", "é", strings.Repeat("a", 5000), strings.Repeat("%", 60000)} {
		body := object{"user_id": user, "pod_name": name}
		if got := b.post("/delete_pod", body); got.Status != 404 || got.code() != "NOT_FOUND" {
			t.Errorf("delete_pod of a name of %d bytes = %+v", len(name), got)
		}
		b.expect("watch_create_pod", b.post("/watch_create_pod", body), no("ready"))
		b.expect("watch_delete_pod", b.post("/watch_delete_pod", body), yes("deleted"))
	}
	if err := b.Health.Ready(t.Context()); err != nil {
		t.Errorf("the api is not ready any more: %v", err)
	}
}

func TestStress(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	servicetest.Stress(t, 5, func() servicetest.Service { return New(options(server)) })
}
