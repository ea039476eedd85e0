package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"berth/cmd/berth/internal/doctor"
	"berth/cmd/berth/internal/probe"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is a service that is ready, and says so.
func api(t *testing.T, change ...func(w http.ResponseWriter, r *http.Request) bool) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, f := range change {
			if f(w, r) {
				return
			}
		}
		switch r.URL.Path {
		case "/livez", "/readyz":
			fmt.Fprintln(w, "ok")
		case "/metrics":
			fmt.Fprintln(w, "# TYPE berth_build_info gauge\nberth_build_info{instance_id=\"api-1\",service=\"api\",version=\"1.0\"} 1")
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// site is a broker with all that services make there, and an api.
type site struct {
	probe.Site

	server *eventstest.Server
	bus    *natsbus.Bus
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := eventstest.NewListeningServer(t)
	bus := eventstest.NewBus(t, s, "test")
	eventstest.MarkComplete(t, bus)
	return &site{probe.Site{API: api(t), NATSURL: s.URL(), Cluster: eventstest.Cluster, Version: "test"}, s, bus}
}

// lead sends the heartbeats of a watcher until the test ends.
func (s *site) lead(t *testing.T, instance string) {
	t.Helper()
	eventstest.Go(t, func(ctx context.Context) error {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			h := events.Heartbeat{Cluster: s.Cluster, Instance: instance, Version: "1.0", Time: time.Now(), LeadingSince: time.Now(), WatchAge: 1}
			data, err := h.Marshal()
			if err != nil {
				return err
			}
			_ = s.bus.Heartbeat(data) // Without a connection it is not heard.
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// serve takes the commands of stages until the test ends, or stop is called.
func (s *site) serve(t *testing.T, handle natsbus.Handler, stages ...events.Stage) (stop func()) {
	t.Helper()
	var stops []func()
	for _, stage := range stages {
		stops = append(stops, eventstest.Go(t, func(ctx context.Context) error {
			return s.bus.Consume(ctx, natsbus.Stage{Stage: stage, Handler: handle})
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func done(context.Context, natsbus.Delivery) error { return nil }

// wrong are the findings that are not OK, by check, without what was not asked.
func wrong(e doctor.Evidence) map[string]doctor.Severity {
	found := map[string]doctor.Severity{}
	for _, f := range doctor.Diagnose(e) {
		if f.Severity != doctor.OK && f.Severity != doctor.Skipped {
			found[f.Check] = f.Severity
		}
	}
	return found
}

// patience is for how long findings are awaited, on a machine that is busy with other tests.
const patience = time.Minute

// await gathers until the findings are those that are wanted, and the evidence is as it should be: what services do
// shows a moment later.
func (s *site) await(t *testing.T, want map[string]doctor.Severity, holds ...func(doctor.Evidence) bool) doctor.Evidence {
	t.Helper()
	var e doctor.Evidence
	var got map[string]doctor.Severity
	misses := func(holds func(doctor.Evidence) bool) bool { return !holds(e) }
	for until := time.Now().Add(patience); ; {
		e = probe.Gather(t.Context(), s.Site)
		if got = wrong(e); cmp.Equal(want, got) && !slices.ContainsFunc(holds, misses) {
			return e
		}
		if time.Now().After(until) {
			break
		}
	}
	t.Errorf("findings (-want +got):\n%s\n%s", cmp.Diff(want, got), doctor.Text(doctor.Diagnose(e), false, true))
	return e
}

func (s *site) publish(t *testing.T, commands ...events.Command) {
	t.Helper()
	for _, c := range commands {
		if err := s.bus.Publish(t.Context(), c, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, done, events.Stages()...)
	entry := eventstest.Bring(t, s.bus, "p", "alice@example.org", events.Ready)
	if err := s.bus.ArmTimer(t.Context(), entry.Record, events.TimerCreate, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	eventstest.Bring(t, s.bus, "over", "bob", events.Gone)
	e := s.await(t, map[string]doctor.Severity{})
	if e.API.Version != "1.0" || e.API.Instance != "api-1" || e.API.Skew == nil || *e.API.Skew != 0 {
		t.Errorf("api %+v", e.API)
	}
	if e.NATS.Watcher.Beats[0].Instance != "watcher-1" || e.NATS.Commands.Timers[events.TimerCreate] != 1 {
		t.Errorf("nats %+v", e.NATS)
	}
	if diff := cmp.Diff(map[events.Type]int{events.Ready: 1}, e.NATS.Pods.States); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if !e.NATS.Pods.Armed[events.TimerCreate]["cmd-p"] {
		t.Errorf("timers %v", e.NATS.Pods.Armed)
	}
}

// TestCreatorAway: no creator has ever run, the licenser is gone, commands wait.
func TestCreatorAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, done, events.StageDelete, events.StageDeleteUser, events.StageSweep, events.StageRestart, events.StageProject)
	stop := s.serve(t, done, events.StageLicense)
	eventstest.Eventually(t, "the licenser has its consumer", func() bool {
		return !slices.ContainsFunc(probe.Gather(t.Context(), s.Site).NATS.Stages, func(st doctor.Stage) bool {
			return st.Stage == events.StageLicense && st.Missing
		})
	})
	stop()
	old := "0191b3e0-0000-7000-8000-000000000001" // Of 2024.
	s.publish(t, eventstest.CreateCommand(natsbus.NewID(), "alice"), eventstest.LicenseCommand(old, "alice", "p", "1-1"),
		eventstest.LicenseCommand(natsbus.NewID(), "alice", "q", "1-2"))
	e := s.await(t, map[string]doctor.Severity{
		"stage create": doctor.Problem, "stage launch": doctor.Problem, "stage finish": doctor.Problem, "stage license": doctor.Problem,
	})
	if st := e.NATS.Stages[0]; !st.Missing || st.Queued != 1 || time.Since(st.Oldest) > time.Hour {
		t.Errorf("create %+v", st)
	}
	if st := e.NATS.Stages[1]; st.Missing || st.Queued != 2 || st.Pending != 2 || st.Pulling != 0 || st.Oldest.Year() != 2024 {
		t.Errorf("license %+v", st)
	}
}

// TestDeadLetter: a command that cannot be done, and one that is tried again.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, func(_ context.Context, d natsbus.Delivery) error {
		if d.User == "bob" {
			return natsbus.Again(time.Hour, errors.New("not yet"))
		}
		return natsbus.Permanent(events.RetriesExhausted, errors.New("the API server says no"))
	}, events.Stages()...)
	s.publish(t, eventstest.LaunchCommand("018fb3e0-0000-7000-8000-000000000001", "alice", "p", "1-1"),
		eventstest.LaunchCommand("018fb3e0-0000-7000-8000-000000000002", "bob", "q", "1-2"))
	e := s.await(t, map[string]doctor.Severity{"dead letters": doctor.Problem, "stage launch": doctor.Problem}, func(e doctor.Evidence) bool {
		return len(e.NATS.Stages) > 2 && e.NATS.Stages[2].Queued == 1 // The dead one is taken out after it is a dead letter.
	})
	if e.NATS.DeadLetters.Count != 1 || len(e.NATS.DeadLetters.Newest) != 1 {
		t.Fatalf("dead letters %+v", e.NATS.DeadLetters)
	}
	got := e.NATS.DeadLetters.Newest[0]
	want := doctor.Letter{
		At: got.At, Stage: events.StageLaunch, ID: "018fb3e0-0000-7000-8000-000000000001", Pod: "p", User: "alice",
		Reason: events.RetriesExhausted, Cause: "the API server says no",
	}
	if diff := cmp.Diff(want, got); diff != "" || time.Since(got.At) > time.Hour {
		t.Errorf("letter (-want +got):\n%s", diff)
	}
	if st := e.NATS.Stages[2]; st.Working != 1 || st.Queued != 1 {
		t.Errorf("launch %+v", st)
	}
}

// TestWatcher: none leads, or two do.
func TestWatcher(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve(t, done, events.Stages()...)
	e := s.await(t, map[string]doctor.Severity{"watcher": doctor.Problem})
	if l := e.NATS.Watcher.Listened; l < 2.9 {
		t.Errorf("listened for %.1f s", l)
	}
	s.lead(t, "one")
	s.lead(t, "two")
	e = s.await(t, map[string]doctor.Severity{"watcher": doctor.Problem}, func(e doctor.Evidence) bool { return len(e.NATS.Watcher.Beats) > 0 })
	if len(e.NATS.Watcher.Beats) != 2 || e.NATS.Watcher.Beats[1].Instance != "two" {
		t.Errorf("beats %+v", e.NATS.Watcher.Beats)
	}
}

func connect(t *testing.T, s *eventstest.Server) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// TestStreams: one is not as it must be, one is missing, the log was made anew.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, done, events.Stages()...)
	_, js := connect(t, s.server)
	stream, err := js.Stream(t.Context(), events.LogStream)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := stream.GetLastMsgForSubject(t.Context(), events.MarkSubject(s.Cluster))
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if err := errors.Join(js.DeleteStream(t.Context(), events.LogStream), js.DeleteStream(t.Context(), events.DeadLetterStream)); err != nil {
		t.Fatal(err)
	}
	cfg.AllowDirect = true
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	// A mark of the log before.
	if _, err := js.Publish(t.Context(), mark.Subject, mark.Data); err != nil {
		t.Fatal(err)
	}
	e := s.await(t, map[string]doctor.Severity{
		"stream LOG": doctor.Problem, "stream DEAD_LETTERS": doctor.Problem, "log complete": doctor.Problem,
	})
	if diff := cmp.Diff([]string{"allow_direct is true, not false"}, e.NATS.Streams[0].Faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if m := e.NATS.Mark; !m.There || m.Current {
		t.Errorf("mark %+v", m)
	}
}

// TestForeign: other versions, and other clusters, have messages there, too.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, done, events.Stages()...)
	nc, _ := connect(t, s.server)
	for _, subject := range []string{
		"cmd.main.polish.1", "cmd.main.x.y.z.1", "cmd.other.polish.1", "dead.other.create.1",
		events.PodSubject("main", "p", "alice", "teleported"), events.PodSubject("other", "q", "bob", events.Ready),
	} {
		if _, err := nc.Request(subject, []byte("x"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	e := s.await(t, map[string]doctor.Severity{"stage polish": doctor.Notice, "stage x": doctor.Notice, "pods": doctor.Notice})
	if e.NATS.Pods.Unreadable != 1 || e.NATS.DeadLetters.Count != 0 {
		t.Errorf("%+v", e.NATS)
	}
}

// TestReplicas: one of three servers is away.
func TestReplicas(t *testing.T) {
	t.Parallel()
	servers := eventstest.NewServers(t)
	bus := eventstest.NewBus(t, servers, "test", func(o *natsbus.Options) { o.Replicas = 3 })
	eventstest.MarkComplete(t, bus)
	s := &site{Site: probe.Site{API: api(t), NATSURL: servers.Options().URL, Cluster: eventstest.Cluster}, bus: bus}
	s.lead(t, "watcher-1")
	s.serve(t, done, events.Stages()...)
	e := s.await(t, map[string]doctor.Severity{})
	if log := e.NATS.Streams[0]; log.Leader == "" || len(log.Peers) != 2 || log.Replicas != 3 {
		t.Errorf("log %+v", log)
	}
	servers.Nodes[2].Stop()
	s.await(t, map[string]doctor.Severity{
		"stream LOG": doctor.Problem, "stream COMMANDS": doctor.Problem, "stream DEAD_LETTERS": doctor.Problem,
		"stream AUDIT": doctor.Problem, "stream KV_BERTH_TOKENS": doctor.Problem,
	})
}

// users starts a server that knows who connects.
func users(t *testing.T, all ...eventstest.User) string {
	t.Helper()
	s, err := eventstest.StartServer(eventstest.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Users: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(s) })
	return s.ClientURL()
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func as(t *testing.T, address, user string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "secret")
	return u.String()
}

// TestRights: the operator's are enough; with none, that is what is said.
func TestRights(t *testing.T) {
	t.Parallel()
	all := eventstest.Users(eventstest.Cluster, func(string) string { return "secret" })
	all = append(all, eventstest.User{Grant: natsbus.Grant{
		User: "nobody", Publish: []string{"nothing"}, Subscribe: []string{natsbus.InboxPrefix(natsbus.Operator) + ".>"},
	}, Password: "secret"}, eventstest.User{Grant: natsbus.Grant{
		User: "deaf", Publish: []string{">"}, Subscribe: []string{"nothing"},
	}, Password: "secret"})
	address := users(t, all...)
	bus, err := natsbus.Connect(natsbus.Options{URL: as(t, address, "watcher"), Service: "watcher", Cluster: eventstest.Cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	if err := bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventstest.MarkComplete(t, bus)
	eventstest.Bring(t, operatorSees(t, address), "p", "alice", events.Claimed)
	s := &site{Site: probe.Site{API: api(t), Cluster: eventstest.Cluster, NATSURL: as(t, address, natsbus.Operator)}, bus: bus}
	s.lead(t, "watcher-1")
	// The builders' pods have been made for long.
	noStage := map[string]doctor.Severity{"pods": doctor.Problem}
	for _, stage := range events.Stages() {
		noStage["stage "+string(stage)] = doctor.Problem
	}
	if e := s.await(t, noStage); len(e.NATS.Denied) > 0 || e.NATS.Pods.States[events.Claimed] != 1 {
		t.Errorf("%+v", e.NATS)
	}

	s.NATSURL = as(t, address, "nobody")
	unseen := map[string]doctor.Severity{
		"nats rights": doctor.Notice, "watcher": doctor.Notice, "pods": doctor.Notice,
		"stream LOG": doctor.Notice, "stream COMMANDS": doctor.Notice, "stream DEAD_LETTERS": doctor.Notice,
		"stream AUDIT": doctor.Notice, "stream KV_BERTH_TOKENS": doctor.Notice,
	}
	e := s.await(t, unseen)
	// They are given up when they are refused, not when their time is over.
	faults := []string{e.NATS.Watcher.Fault, e.NATS.Pods.Fault}
	for _, stream := range e.NATS.Streams {
		faults = append(faults, stream.Fault)
	}
	if slices.ContainsFunc(faults, func(fault string) bool { return fault != "this user may not ask" }) {
		t.Errorf("faults %q", faults)
	}
	if !slices.Contains(e.NATS.Denied, "publish to $JS.API.STREAM.INFO.LOG") || !slices.Contains(e.NATS.Denied, "subscribe to berth.heartbeat.main") {
		t.Errorf("denied %q", e.NATS.Denied)
	}
	if strings.Contains(fmt.Sprint(e), "secret") {
		t.Error("the evidence has the password")
	}

	s.NATSURL = as(t, address, "deaf")
	if e = s.await(t, unseen); !slices.Contains(e.NATS.Denied, "subscribe to _INBOX_operator.>") {
		t.Errorf("denied %q", e.NATS.Denied)
	}

	s.NATSURL = as(t, address, "stranger")
	e = s.await(t, map[string]doctor.Severity{"nats": doctor.Problem})
	if e.NATS.Fault != "the server refuses these credentials" {
		t.Errorf("fault %q", e.NATS.Fault)
	}
}

// operatorSees is a bus that may append whatever the operator then sees.
func operatorSees(t *testing.T, address string) *natsbus.Bus {
	t.Helper()
	bus, err := natsbus.Connect(natsbus.Options{URL: as(t, address, "creator"), Service: "creator", Cluster: eventstest.Cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// TestAway: nobody listens, somebody else does, somebody listens and is silent.
func TestAway(t *testing.T) {
	t.Parallel()
	silent := httptest.NewUnstartedServer(nil) // Its listener accepts nobody.
	t.Cleanup(func() { silent.Listener.Close() })
	for name, tc := range map[string]struct {
		address, api, nats string
		time               time.Duration
	}{
		"nobody": {"127.0.0.1:1", "connect: connection refused", "no server answers there", patience},
		"silent": {silent.Listener.Addr().String(), "no answer in time", "no answer in time", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), tc.time)
			defer cancel()
			e := probe.Gather(ctx, probe.Site{
				API: &url.URL{Scheme: "http", Host: tc.address}, NATSURL: "nats://u:secret@" + tc.address, Cluster: "main",
			})
			if !strings.Contains(e.API.Fault, tc.api) || e.NATS.Fault != tc.nats || e.Reached() {
				t.Errorf("api %q, nats %q", e.API.Fault, e.NATS.Fault)
			}
			if e.NATS.Servers != "nats://"+tc.address {
				t.Errorf("servers %q", e.NATS.Servers)
			}
		})
	}
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	bare, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	bare.Start()
	t.Cleanup(func() { stop(bare) })
	if !bare.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	s := &site{Site: probe.Site{API: api(t), NATSURL: bare.ClientURL(), Cluster: "main"}}
	if e := s.await(t, map[string]doctor.Severity{"jetstream": doctor.Problem}); e.NATS.JetStream != "the server has no JetStream" {
		t.Errorf("fault %q", e.NATS.JetStream)
	}
}

// TestLicenses: what the database answers is asked for with a token alone, which nobody else gets.
func TestLicenses(t *testing.T) {
	t.Parallel()
	const token = "secret"
	tests := map[string]struct {
		token  string
		status int
		want   int
		fault  string
	}{
		"no token":           {"", http.StatusServiceUnavailable, 0, ""},
		"the database works": {token, http.StatusOK, http.StatusOK, ""},
		"it is away":         {token, http.StatusServiceUnavailable, http.StatusServiceUnavailable, "the database is away"},
		"another's token":    {"other", http.StatusForbidden, http.StatusForbidden, "the database is away"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := api(t, func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.URL.Path == "/v1/preview" && tt.want == http.StatusOK:
					body, err := io.ReadAll(r.Body)
					if err != nil || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer "+token || !strings.Contains(string(body), `"no_dry_run":true`) {
						t.Errorf("%s %s %q (%v)", r.Method, r.URL, body, err)
					}
					fmt.Fprintln(w, `{"licenses":[],"fault":{"reason":"TEMPLATE_INVALID","message":"it is no Pod"}}`)
					return true
				case r.URL.Path != "/v1/licenses":
					if r.Header.Get("Authorization") != "" {
						t.Errorf("%s gets the token", r.URL.Path)
					}
					return false
				case r.Header.Get("Authorization") != "Bearer "+tt.token || r.URL.RawQuery != "limit=1":
					t.Errorf("asked %s with %q", r.URL, r.Header.Get("Authorization"))
				}
				w.WriteHeader(tt.status)
				if tt.status == http.StatusOK {
					fmt.Fprintln(w, `{"licenses":[]}`)
					return true
				}
				fmt.Fprintln(w, `{"detail":"the database is away"}`)
				return true
			})
			e := probe.Gather(t.Context(), probe.Site{API: u, Token: tt.token, Version: "test"})
			if e.API.Licenses != tt.want || e.API.LicensesFault != tt.fault {
				t.Errorf("%d %q", e.API.Licenses, e.API.LicensesFault)
			}
			template := doctor.API{}
			if tt.want == http.StatusOK {
				template = doctor.API{Template: http.StatusOK, TemplateReason: events.TemplateInvalid, TemplateFault: "it is no Pod"}
			}
			if got := (doctor.API{Template: e.API.Template, TemplateReason: e.API.TemplateReason, TemplateFault: e.API.TemplateFault}); !cmp.Equal(got, template) {
				t.Errorf("template: %+v, want %+v", got, template)
			}
		})
	}
}

func TestAPIThatIsNotReady(t *testing.T) {
	t.Parallel()
	s := &site{Site: probe.Site{Cluster: "main", API: api(t, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		switch r.URL.Path {
		case "/readyz":
			http.Error(w, "[-] nats: NATS is RECONNECTING\n[-] log: not read\nnot ready", http.StatusServiceUnavailable)
		case "/metrics":
			http.Error(w, "not for you", http.StatusForbidden)
		default:
			return false
		}
		return true
	})}}
	e := s.await(t, map[string]doctor.Severity{"api ready": doctor.Problem, "api clock": doctor.Problem})
	if diff := cmp.Diff([]string{"nats: NATS is RECONNECTING", "log: not read"}, e.API.Failing); diff != "" || e.API.Version != "" {
		t.Errorf("api %+v", e.API)
	}
	if s := *e.API.Skew; s > -3540 || s < -3660 {
		t.Errorf("skew %f", s)
	}
}

// answers are those of an API server, by path: empty is a refusal. They change while it runs, and say NOW for the time.
type answers struct {
	mu     sync.Mutex
	bodies map[string]string
}

func (a *answers) change(f func(bodies map[string]string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.bodies)
}

func (a *answers) of(path string) (body string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, ok = a.bodies[path]
	return strings.ReplaceAll(body, "NOW", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")), ok
}

// cluster is an API server with the answers of a test, and the kubeconfig of it.
func cluster(t *testing.T, answers *answers) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, ok := answers.of(r.URL.Path); {
		case !ok:
			http.NotFound(w, r)
		case body == "":
			http.Error(w, `{"kind":"Status"}`, http.StatusForbidden)
		default:
			fmt.Fprint(w, body)
		}
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"" + s.URL + "\"}}]\n" +
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lead(t, "watcher-1")
	s.serve(t, done, events.Stages()...)
	eventstest.Bring(t, s.bus, "known", "alice@example.org", events.Ready)
	pod := func(name string) string {
		return `{"metadata":{"name":"` + name + `","uid":"u","creationTimestamp":"2026-01-02T03:04:05Z","labels":{"podName":"` + name + `"},` +
			`"annotations":{"berth.dev/user":"alice@example.org"}}}`
	}
	const namespace, pods = "/api/v1/namespaces/berth", "/api/v1/namespaces/berth/pods"
	const lease = "/apis/coordination.k8s.io/v1/namespaces/berth/leases/berth-watcher-main"
	server := &answers{bodies: map[string]string{
		"/version": `{"gitVersion":"v1.37.2"}`,
		namespace:  `{"metadata":{"name":"berth"}}`,
		lease:      `{"spec":{"holderIdentity":"watcher-1","leaseDurationSeconds":5,"renewTime":"NOW"}}`,
		pods:       `{"items":[` + pod("known") + `,{"metadata":{"name":"theirs","labels":{"podName":"other"}}}]}`,
	}}
	s.Kubeconfig, s.Namespace = cluster(t, server), "berth"
	e := s.await(t, map[string]doctor.Severity{})
	if k := e.Kubernetes; k.Version != "v1.37.2" || k.LeaseHolder != "watcher-1" || k.Count != 1 {
		t.Errorf("kubernetes %+v", k)
	}

	server.change(func(bodies map[string]string) {
		bodies[pods] = `{"items":[` + pod("known") + `,` + pod("stray") + `]}`
		delete(bodies, lease)
	})
	s.await(t, map[string]doctor.Severity{"pods in the cluster": doctor.Problem, "lease": doctor.Problem})

	server.change(func(bodies map[string]string) { bodies[namespace], bodies[pods], bodies[lease] = "", "", "" })
	e = s.await(t, map[string]doctor.Severity{"namespace": doctor.Notice, "pods in the cluster": doctor.Notice, "lease": doctor.Notice})
	if got := e.Kubernetes.PodsFault; got != "these credentials may not do it" {
		t.Errorf("fault %q", got)
	}

	server.change(func(bodies map[string]string) { delete(bodies, namespace) })
	s.await(t, map[string]doctor.Severity{"namespace": doctor.Problem})

	server.change(func(bodies map[string]string) { bodies["/version"] = "" })
	s.await(t, map[string]doctor.Severity{"kubernetes": doctor.Problem})
	s.Kubeconfig = filepath.Join(t.TempDir(), "none")
	s.await(t, map[string]doctor.Severity{"kubernetes": doctor.Problem})
}
