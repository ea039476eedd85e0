package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/client"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
)

const (
	projectA, projectB, projectC = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"
	licenseA                     = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	adminToken                   = "token of the administrators"
)

// v1Administered has administrators, a silo that may manage projects, and one that may not.
func v1Administered(c *config.Config) {
	v1TwoSilos(c)
	c.Silos[0].Projects = true
	c.AdminTokenHash = config.Sum([]byte(adminToken))
}

// unplaced leaves out what a start knew of stops.
var unplaced = cmpopts.IgnoreFields(events.ProjectRequest{}, "LastStop")

// projectSite plays creator and deleter for projects.
type projectSite struct {
	*v1Site

	mu sync.Mutex
	// asked are the requests of the creates.
	asked []events.ProjectRequest
	// held are the projects whose pods do not go.
	held map[string]chan struct{}
	// refusal, where it is not empty, is what restarts are refused with.
	refusal events.Reason
}

func newProjectSite(t *testing.T) *projectSite {
	t.Helper()
	s := &projectSite{v1Site: newV1Site(t, 2, v1Administered), held: map[string]chan struct{}{}}
	stages := map[events.Stage]natsbus.Handler{events.StageCreate: s.make, events.StageRestart: s.restart, events.StageDelete: s.remove}
	for stage, handler := range stages {
		eventstest.Go(t, func(ctx context.Context) error {
			return s.bus.Consume(ctx, natsbus.Stage{Stage: stage, Handler: handler, Concurrency: 4, AckWait: time.Minute})
		})
	}
	return s
}

// make makes a project's pod, as far as its image says.
func (s *projectSite) make(ctx context.Context, d natsbus.Delivery) error {
	request := *d.Create.Project
	s.mu.Lock()
	s.asked = append(s.asked, request)
	s.mu.Unlock()
	name := events.ProjectPod(request.ID)
	last, err := s.bus.Last(ctx, name)
	if err != nil {
		return err
	}
	outcome := events.Outcome{Verdict: events.Refused, Command: d.ID, User: d.User}
	switch {
	case last.Event != "" && last.Event != events.Gone && last.User != d.User:
		outcome.Reason, outcome.Message = events.Conflict, "the name is that of a pod which is not the project's"
	case last.Event == events.Deleting:
		outcome.Reason, outcome.Message = events.Conflict, "the project is being stopped"
	case last.Event != "" && last.Event != events.Gone && last.Command != d.ID:
		outcome.Reason, outcome.Message = events.AlreadyRunning, "it runs"
	case request.Image == "refused":
		outcome.Reason, outcome.Message = events.TemplateInvalid, "there is no template"
	default:
		outcome.Verdict, outcome.Pod = events.Accepted, name
	}
	if _, err := s.bus.Decide(ctx, outcome); err != nil || outcome.Verdict == events.Refused {
		return nil // It came too late, or is no more.
	}
	last = natsbus.Entry{}
	for _, fact := range eventstest.Life(name, d.User, d.ID, "", "uid-"+d.ID) {
		fact.Generation = last.Generation
		switch {
		case fact.Kind == events.FactLicense && request.Image == "unknown":
			fact = eventstest.Fail(last.Generation, events.ProjectUnknown, "no such project")
		case fact.Kind == events.FactLicense:
			fact.Licenses = []events.License{{ID: licenseA, Title: "T", Status: "active", Patched: true}}
			fact.Licensing = &events.Licensing{Quota: json.RawMessage(`{"cpu_limit":2}`), Explanation: json.RawMessage(`{"steps":[]}`), PodDigest: "sum"}
		}
		if last, _, err = s.bus.Append(ctx, name, fact); err != nil {
			return err
		}
		if last.Event == events.Failed || last.Event == events.Ready || request.Image == "slow" && last.Event == events.Claimed {
			return nil
		}
	}
	return nil
}

func (s *projectSite) restart(ctx context.Context, d natsbus.Delivery) error {
	s.mu.Lock()
	refusal := s.refusal
	s.mu.Unlock()
	if refusal != "" {
		_, err := s.bus.Decide(ctx, events.Outcome{
			Verdict: events.Refused, Command: d.Restart.Command, User: d.User, Reason: refusal, Message: "it is no Pod as JSON",
		})
		return err
	}
	fact := eventstest.Delete(d.Generation)
	fact.Restart, fact.Message = d.Restart, d.Restart.Message
	e, _, err := s.bus.Append(ctx, d.Pod, fact)
	switch {
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrGeneration):
		return nil
	case err != nil:
		return err
	}
	return s.bus.AskDelete(ctx, e, events.DeleteRequest{})
}

func (s *projectSite) remove(ctx context.Context, d natsbus.Delivery) error {
	fact := eventstest.Delete(d.Generation)
	fact.Stop, fact.StopAt = d.Delete.Stop, d.Delete.StopAt
	if _, _, err := s.bus.Append(ctx, d.Pod, fact); err != nil && !errors.Is(err, events.ErrOver) {
		return err
	}
	s.mu.Lock()
	held := s.held[d.User]
	s.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e, _, err := s.bus.Append(ctx, d.Pod, eventstest.Gone(d.Generation))
	if err != nil {
		return err
	}
	return s.bus.AskFollowUp(ctx, e.Record)
}

// hold keeps the pod of a project from going until the function returned is called.
func (s *projectSite) hold(project string) (release func()) {
	ch := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[events.ProjectUser(project)] = ch
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, events.ProjectUser(project))
		close(ch)
	})
}

func (s *projectSite) do(project, action string, body any, header map[string]string) v1Reply {
	s.Helper()
	return s.ask(v1Ask{method: http.MethodPost, path: "/v1/projects/" + project + "/" + action, token: v1TokenA, body: body, header: header})
}

// followed waits for the pod that follows one of a project. A start that comes between the two would make the next one itself.
func (s *projectSite) followed(project, generation string) {
	s.Helper()
	eventstest.Eventually(s, "the next pod is there", func() bool {
		e, err := s.bus.Last(s.Context(), events.ProjectPod(project))
		return err == nil && e.Generation != generation && e.Event == events.Ready
	})
}

func member(r v1Reply, name string) string { text, _ := r.body[name].(string); return text }

func TestV1ProjectLife(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	release := s.hold(projectA)
	defer release()

	// It may be about to be started again, which the licenser alone knows.
	if got := s.do(projectA, "stop", nil, nil); got.status != http.StatusServiceUnavailable {
		t.Fatalf("stop of what never ran, and no licenser: %d %s", got.status, got.raw)
	}
	var told []string
	s.licenser(func(q natsbus.Question) (any, error) {
		told = append(told, q.Method)
		return nil, nil
	})
	if got := s.do(projectA, "stop", nil, nil); got.status != http.StatusNoContent || !slices.Equal(told, []string{wire.MethodStop}) {
		t.Fatalf("stop of what never ran: %d %s, and the licenser was told %v", got.status, got.raw, told)
	}
	body := object{"image": "i", "tag": "t", "env": object{"A": "1"}, "config": object{"x": 1}}
	made := s.do(strings.ToUpper(projectA), "start?wait=ready", body, nil)
	if made.status != http.StatusCreated || member(made, "event") != "ready" || member(made, "name") != events.ProjectPod(projectA) {
		t.Fatalf("start: %d %s", made.status, made.raw)
	}
	want := events.ProjectRequest{
		ID: projectA, Image: "i", Tag: "t", Env: map[string]string{"A": "1"}, Config: json.RawMessage(`{"x":1}`), Cause: events.CauseAsked,
	}
	if d := cmp.Diff([]events.ProjectRequest{want}, s.asked, unplaced); d != "" {
		t.Errorf("what the creator is asked (-want +got):\n%s", d)
	}
	if stop, err := s.bus.LastStop(t.Context(), projectA); err != nil || stop == 0 || s.asked[0].LastStop == nil || *s.asked[0].LastStop != stop {
		t.Errorf("the last stop is at %d (%v), and the start knew of %v", stop, err, s.asked[0].LastStop)
	}
	if again := s.do(projectA, "start", nil, nil); again.status != http.StatusOK || member(again, "generation") != member(made, "generation") {
		t.Errorf("start again: %d %s", again.status, again.raw)
	}

	following := s.do(projectA, "restart", nil, map[string]string{"Idempotency-Key": "k"})
	if following.status != http.StatusAccepted || following.body["restarting"] != true {
		t.Fatalf("restart: %d %s", following.status, following.raw)
	}
	if got := s.do(projectA, "start", object{"tag": "u"}, nil); got.status != http.StatusConflict || got.reason() != "CONFLICT" {
		t.Errorf("start with another tag while it stops: %d %s", got.status, got.raw)
	}
	release()
	s.followed(projectA, member(made, "generation"))
	ready := s.do(projectA, "start?wait=ready", nil, nil)
	if ready.status/100 != 2 || member(ready, "event") != "ready" || member(ready, "generation") == member(made, "generation") {
		t.Fatalf("the next pod: %d %s", ready.status, ready.raw)
	}
	if repeated := s.do(projectA, "restart", nil, map[string]string{"Idempotency-Key": "k"}); repeated.status != http.StatusOK ||
		member(repeated, "generation") != member(ready, "generation") {
		t.Errorf("the same restart again: %d %s", repeated.status, repeated.raw)
	}
	next := s.do(projectA, "restart?wait=ready", nil, nil)
	if next.status != http.StatusCreated || member(next, "event") != "ready" || member(next, "generation") == member(ready, "generation") {
		t.Errorf("restart and wait: %d %s", next.status, next.raw)
	}
	if got := s.do(projectA, "stop?wait=gone", nil, nil); got.status != http.StatusNoContent {
		t.Errorf("stop: %d %s", got.status, got.raw)
	}
}

// TestV1ProjectsNameTaken: where another's pod has the name of a project's, a start says so, and nothing else says a
// word about that pod.
func TestV1ProjectsNameTaken(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	s.licenser(func(q natsbus.Question) (any, error) {
		if q.Method == wire.MethodProject {
			return wire.Project{ID: projectA}, nil
		}
		return nil, nil
	})
	name, stranger := events.ProjectPod(projectA), projectA
	if _, _, err := s.bus.Append(t.Context(), name, eventstest.Claim(name, stranger, "old")); err != nil {
		t.Fatal(err)
	}
	got := s.do(projectA, "start", nil, nil)
	if detail := member(got, "detail"); got.status != http.StatusConflict || got.reason() != "CONFLICT" || !strings.Contains(detail, "not the project's") {
		t.Errorf("start: %d %s", got.status, got.raw)
	}
	if len(s.asked) != 1 {
		t.Errorf("the creator was asked %d times", len(s.asked))
	}
	if got := s.do(projectA, "stop", nil, nil); got.status != http.StatusNoContent {
		t.Errorf("stop: %d %s", got.status, got.raw)
	}
	if got := s.ask(v1Ask{path: "/v1/projects/" + projectA, token: v1TokenA}); got.status != http.StatusOK || got.body["pod"] != nil || got.body["event"] != nil {
		t.Errorf("get: %d %s", got.status, got.raw)
	}
	if e, err := s.bus.Last(t.Context(), name); err != nil || e.Event != events.Claimed {
		t.Errorf("the other's pod is %s, %v", e.Event, err)
	}
}

// TestV1StartBackToTheSite: what is there and empty gets to the creator, and is something else than what is left out.
func TestV1StartBackToTheSite(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	release := s.hold(projectA)
	defer release()
	c, err := client.New("http://"+s.apis[0].Addr(), client.Options{Token: client.Token(v1TokenA), RoundTripper: s.client.Transport})
	if err != nil {
		t.Fatal(err)
	}
	start := client.StartProject{ID: projectA, Tag: "t", Reset: []string{"image", "env", "config"}, WaitReady: true}
	if _, err := c.StartProject(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	want := events.ProjectRequest{ID: projectA, Tag: "t", Config: json.RawMessage(`{}`), Reset: []string{"image", "env"}, Cause: events.CauseAsked}
	if d := cmp.Diff([]events.ProjectRequest{want}, s.asked, unplaced); d != "" {
		t.Errorf("what the creator is asked (-want +got):\n%s", d)
	}
	s.do(projectA, "restart", nil, nil)
	if got := s.do(projectA, "start", object{"tag": ""}, nil); got.status != http.StatusConflict {
		t.Errorf("start with another tag while it stops: %d %s", got.status, got.raw)
	}
}

// TestV1StopEndsARestart: a stop is the last word, also about a pod that is deleted for another one.
func TestV1StopEndsARestart(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	release := s.hold(projectA)
	defer release()
	s.do(projectA, "start?wait=ready", nil, nil)
	waiting := make(chan v1Reply, 1)
	go func() { waiting <- s.do(projectA, "restart?wait=ready", nil, nil) }()
	eventstest.Eventually(t, "another pod is to follow", func() bool {
		e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA))
		return err == nil && e.Restart != nil
	})
	stopped := s.do(projectA, "stop", nil, nil)
	if stopped.status != http.StatusAccepted || stopped.body["restarting"] != nil {
		t.Errorf("stop: %d %s", stopped.status, stopped.raw)
	}
	if got := eventstest.Receive(t, "the end of the wait", waiting); got.status != http.StatusConflict {
		t.Errorf("the restart that waited: %d %s", got.status, got.raw)
	}
}

// TestV1RestartByAnother: where a start comes between the two pods of a restart and makes the next one, the restart has been done, and is
// not done again when it is repeated.
func TestV1RestartByAnother(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	release := s.hold(projectA)
	defer release()
	key := map[string]string{"Idempotency-Key": "k"}
	s.do(projectA, "start?wait=ready", nil, nil)
	if got := s.do(projectA, "restart", nil, key); got.status != http.StatusAccepted {
		t.Fatalf("restart: %d %s", got.status, got.raw)
	}
	e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA))
	if err != nil || e.Restart == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	late := events.Outcome{Verdict: events.Refused, Command: e.Restart.Command, User: e.User, Reason: events.AlreadyRunning, Message: "it runs"}
	if _, err := s.bus.Decide(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	release()
	eventstest.Eventually(t, "the pod is gone", func() bool {
		e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA))
		return err == nil && e.Event == events.Gone
	})
	next := s.do(projectA, "start?wait=ready", nil, nil)
	if next.status != http.StatusCreated {
		t.Fatalf("start: %d %s", next.status, next.raw)
	}
	if got := s.do(projectA, "restart", nil, key); got.status != http.StatusOK || member(got, "generation") != member(next, "generation") {
		t.Errorf("the same restart again: %d %s", got.status, got.raw)
	}
	if got := s.do(projectA, "stop?wait=gone", nil, nil); got.status != http.StatusNoContent {
		t.Fatalf("stop: %d %s", got.status, got.raw)
	}
	if got := s.do(projectA, "restart", nil, key); got.status != http.StatusGone {
		t.Errorf("the same restart when that is gone, too: %d %s", got.status, got.raw)
	}
}

// TestV1RestartsAtOnce: a restart that finds another one under way is done by that, also when it is repeated.
func TestV1RestartsAtOnce(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	release := s.hold(projectA)
	defer release()
	first := s.do(projectA, "start?wait=ready", nil, nil)
	for _, key := range []string{"a", "b"} {
		if got := s.do(projectA, "restart", nil, map[string]string{"Idempotency-Key": key}); got.status != http.StatusAccepted {
			t.Fatalf("restart: %d %s", got.status, got.raw)
		}
	}
	release()
	s.followed(projectA, member(first, "generation"))
	next := s.do(projectA, "start?wait=ready", nil, nil)
	for _, key := range []string{"a", "b"} {
		got := s.do(projectA, "restart", nil, map[string]string{"Idempotency-Key": key})
		if got.status != http.StatusOK || member(got, "generation") != member(next, "generation") {
			t.Errorf("restart %s again: %d %s", key, got.status, got.raw)
		}
	}
}

// TestV1StartAfterAStop: a start that comes when a stop is in the log and the pod not yet on its way out is not answered with that pod,
// and not taken back when the stop is carried out: another pod follows.
func TestV1StartAfterAStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		restarts bool // The pod is on its way out for another one when the stop comes.
		action   string
	}{
		"start":                   {action: "start"},
		"restart":                 {action: "restart"},
		"start, while restarting": {action: "start", restarts: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newProjectSite(t)
			release := s.hold(projectA)
			defer release()
			first := s.do(projectA, "start?wait=ready", nil, nil)
			if first.status != http.StatusCreated {
				t.Fatalf("start: %d %s", first.status, first.raw)
			}
			if tc.restarts {
				if got := s.do(projectA, "restart", nil, nil); got.status != http.StatusAccepted {
					t.Fatalf("restart: %d %s", got.status, got.raw)
				}
			}
			// Half of a stop: the other half comes late.
			stop, err := s.bus.NoteStop(t.Context(), projectA)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan v1Reply, 1)
			go func() { answered <- s.do(projectA, tc.action+"?wait=ready", nil, nil) }()
			select {
			case early := <-answered:
				t.Fatalf("%s before the pod has gone that was stopped: %d %s", tc.action, early.status, early.raw)
			case <-time.After(300 * time.Millisecond):
			}
			e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA))
			if err != nil {
				t.Fatal(err)
			}
			fact := eventstest.Delete(e.Generation)
			fact.Stop, fact.StopAt = true, stop
			if _, _, err := s.bus.Append(t.Context(), e.Pod, fact); err != nil {
				t.Fatal(err)
			}
			release()
			next := eventstest.Receive(t, "the answer to the "+tc.action, answered)
			if next.status/100 != 2 || member(next, "event") != "ready" || member(next, "generation") == member(first, "generation") {
				t.Errorf("%s: %d %s", tc.action, next.status, next.raw)
			}
		})
	}
}

func TestV1ProjectRefusals(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	tests := map[string]struct {
		project string
		body    any
		status  int
		reason  string
	}{
		"no template":     {projectA, object{"image": "refused"}, 422, "TEMPLATE_INVALID"},
		"no such project": {projectB, object{"image": "unknown"}, 404, "PROJECT_UNKNOWN"},
		"no id":           {"x", nil, 400, "REQUEST_INVALID"},
		"a bad name":      {projectC, object{"env": object{"A B": "1"}}, 422, "SETTINGS_INVALID"},
		"no object":       {projectC, object{"config": []int{1}}, 400, "REQUEST_INVALID"},
		"a bad image":     {projectC, object{"image": "a b"}, 400, "REQUEST_INVALID"},
		"unknown":         {projectC, object{"imagge": "a"}, 400, "REQUEST_INVALID"},
		"too much":        {projectC, object{"env": object{"A": strings.Repeat("x", 257<<10)}}, 422, "SETTINGS_INVALID"},
		"far too much":    {projectC, object{"env": object{"A": strings.Repeat("x", 400<<10)}}, 413, "REQUEST_INVALID"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := s.do(tt.project, "start", tt.body, nil); got.status != tt.status || got.reason() != tt.reason {
				t.Errorf("%d %s", got.status, got.raw)
			}
		})
	}
}

// TestV1ProjectsAreOfFew: whoever may not manage projects is told so, and sees nothing of their pods.
func TestV1ProjectsAreOfFew(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	s.do(projectA, "start?wait=ready", nil, nil)
	name, userID := events.ProjectPod(projectA), events.ProjectUser(projectA)
	tests := map[string]struct {
		token   string
		manages bool
	}{
		"the silo that may":  {v1TokenA, true},
		"another silo":       {v1TokenB, false},
		"the administrators": {adminToken, true},
	}
	for who, tt := range tests {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			for path, want := range map[string][2]int{
				"/v1/projects/" + projectA:                               {403, 200},
				ofUser("/v1/pods/"+name, userID):                         {404, 200},
				ofUser("/v1/pods/"+name+"/timeline", userID):             {404, 200},
				ofUser("/v1/pods/"+name, "alice@example.org"):            {404, 404},
				ofUser("/v1/pods/"+name, "project:"+projectA+"/../../x"): {400, 400},
			} {
				status := want[0]
				if tt.manages {
					status = want[1]
				}
				if strings.Contains(path, "alice") && tt.token == v1TokenB {
					status = 404
				}
				if got := s.ask(v1Ask{path: path, token: tt.token}); got.status != status {
					t.Errorf("%s: %d %s", path, got.status, got.raw)
				}
			}
			list := s.ask(v1Ask{path: "/v1/pods", token: tt.token})
			if pods, _ := list.body["pods"].([]any); (len(pods) == 1) != tt.manages {
				t.Errorf("list: %s", list.raw)
			}
		})
	}
}

// licenser answers questions.
func (s *v1Site) licenser(answer func(natsbus.Question) (any, error)) {
	stop, err := s.bus.Answer(s.Context(), events.LicenseSubject(s.bus.Cluster()), 4, func(_ context.Context, q natsbus.Question) (any, error) { return answer(q) })
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(stop)
}

// TestV1ProjectShown: what the log and the database know, and what is answered while one of them is silent.
func TestV1ProjectShown(t *testing.T) {
	t.Parallel()
	s := newProjectSite(t)
	show := func(project string) v1Reply { return s.ask(v1Ask{path: "/v1/projects/" + project, token: v1TokenA}) }
	if got := show(projectB); got.status != http.StatusServiceUnavailable {
		t.Errorf("of which nobody knows anything now: %d %s", got.status, got.raw)
	}
	if got := s.do(projectA, "activity", nil, nil); got.status != http.StatusServiceUnavailable {
		t.Errorf("activity without a licenser: %d %s", got.status, got.raw)
	}
	s.do(projectA, "start?wait=ready", nil, nil)
	alone := show(projectA)
	if details, _ := alone.body["database"].(object); alone.status != http.StatusOK || details["unavailable"] == nil || alone.body["pod"] == nil {
		t.Errorf("without the database: %d %s", alone.status, alone.raw)
	}
	s.licenser(func(q natsbus.Question) (any, error) {
		var ref wire.ProjectRef
		if err := json.Unmarshal(q.Params, &ref); err != nil {
			return nil, err
		}
		if ref.ID == projectC {
			return nil, &natsbus.Fault{Reason: events.ProjectUnknown, Message: "no such project"}
		}
		return wire.Project{ID: ref.ID, State: "running", RunQuota: json.RawMessage(`{"cpu_limit":2}`)}, nil
	})
	known := show(projectA)
	start, _ := known.body["last_start"].(object)
	details, _ := known.body["database"].(object)
	if d := cmp.Diff(object{"project_id": projectA, "state": "running", "licenses": []any{}, "run_quota": object{"cpu_limit": 2.0}}, details["project"]); d != "" ||
		start["explanation"] == nil || start["pod_digest"] != "sum" || start["quota"] == nil {
		t.Errorf("%s (-want +got):\n%s", known.raw, d)
	}
	if got := show(projectC); got.status != http.StatusNotFound || got.reason() != "PROJECT_UNKNOWN" {
		t.Errorf("unknown everywhere: %d %s", got.status, got.raw)
	}
	if got := show(projectB); got.status != http.StatusOK || got.body["pod"] != nil || got.body["event"] != nil {
		t.Errorf("never started: %d %s", got.status, got.raw)
	}
}

// TestV1LicensesByTheClient: what pkg/client asks gets to the licenser, and what it answers comes back.
func TestV1LicensesByTheClient(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, v1Administered)
	var mu sync.Mutex
	saved := map[string]wire.License{}
	var attached []wire.Attachment
	s.licenser(func(q natsbus.Question) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		return answerLicenses(q, saved, &attached)
	})
	as := func(token string) *client.Client {
		c, err := client.New("http://"+s.apis[0].Addr(), client.Options{Token: client.Token(token), RoundTripper: s.client.Transport})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx, admin := t.Context(), as(adminToken)

	var problem *client.Problem
	if _, err := as(v1TokenA).License(ctx, licenseA); !errors.As(err, &problem) || problem.Status != http.StatusForbidden {
		t.Errorf("a silo reads a license: %v", err)
	}
	if got := s.get("/v1/licenses"); got.status != http.StatusUnauthorized {
		t.Errorf("a stranger lists licenses: %d %s", got.status, got.raw)
	}
	if _, err := admin.License(ctx, licenseA); !client.NotFound(err) || !errors.As(err, &problem) || problem.Title != "there is no such license" {
		t.Errorf("no license: %v, %+v", err, problem)
	}
	l := client.SiteLicense{ID: licenseA, Title: "T", Quota: json.RawMessage(`{"cpu":1}`)}
	if _, err := admin.SaveLicense(ctx, l, client.Save{Revision: "*", DryRun: true}); err != nil || len(saved) != 0 {
		t.Errorf("dry run: %v, %v", saved, err)
	}
	made, err := admin.SaveLicense(ctx, l, client.Save{Revision: "*"})
	if err != nil || made.Revision == "" {
		t.Fatalf("save: %+v, %v", made, err)
	}
	if _, err := admin.SaveLicense(ctx, l, client.Save{Revision: "other"}); !errors.As(err, &problem) || problem.Status != http.StatusPreconditionFailed {
		t.Errorf("save over another revision: %v", err)
	}
	if _, err := admin.SaveLicense(ctx, l, client.Save{Revision: made.Revision}); err != nil {
		t.Errorf("save over its revision: %v", err)
	}
	got := s.ask(v1Ask{method: http.MethodPost, path: "/v1/licenses", token: adminToken, body: object{"title": "U"}})
	if got.status != http.StatusCreated || got.header.Get("Location") != "/v1/licenses/"+member(got, "id") || got.header.Get("ETag") == "" {
		t.Errorf("post: %d %s", got.status, got.raw)
	}
	if got := s.ask(v1Ask{method: http.MethodPost, path: "/v1/licenses", token: adminToken, body: object{"id": licenseA}}); got.status != http.StatusConflict {
		t.Errorf("post of one that is there: %d %s", got.status, got.raw)
	}
	var ids []string
	for l, err := range admin.Licenses(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.ID)
	}
	if len(ids) != 2 || !slices.Contains(ids, licenseA) {
		t.Errorf("list: %v", ids)
	}
	if err := admin.DeleteLicenseAs(ctx, licenseA, "other"); !errors.As(err, &problem) || problem.Status != http.StatusPreconditionFailed {
		t.Errorf("delete of another revision: %v", err)
	}
	for _, err := range []error{
		admin.AttachProject(ctx, licenseA, projectA), admin.DetachProject(ctx, licenseA, projectA),
		admin.AttachUser(ctx, licenseA, user), admin.DetachUser(ctx, licenseA, user), admin.DeleteLicense(ctx, licenseA),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []wire.Attachment{{License: licenseA, Project: projectA}, {License: licenseA, Project: projectA}, {License: licenseA, User: user}, {License: licenseA, User: user}}
	for i := range attached {
		if !strings.Contains(attached[i].Actor, "administrator at 127.0.0.1") {
			t.Errorf("actor %q", attached[i].Actor)
		}
		attached[i].Actor = ""
	}
	if d := cmp.Diff(want, attached); d != "" {
		t.Errorf("attachments (-want +got):\n%s", d)
	}
	if p, err := admin.Preview(ctx, client.Preview{Project: projectA}); err != nil || p.Verdict == nil || !p.Verdict.Accepted {
		t.Errorf("preview: %+v, %v", p, err)
	}
	parts := 0
	for part, err := range admin.Replay(ctx, client.Replay{Since: time.Now().Add(-time.Hour), Change: &l}) {
		if parts++; err != nil || part.Looked != 1 {
			t.Errorf("replay: %+v, %v", part, err)
		}
	}
	if parts != 2 {
		t.Errorf("%d parts", parts)
	}
}

// TestV1StopOfAClientThatHasGone: a stop is noted and carried out, also when nobody waits for its answer any more.
func TestV1StopOfAClientThatHasGone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		runs bool
		ask  func(ctx context.Context) *http.Request
	}{
		"stop": {true, func(ctx context.Context) *http.Request {
			return httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/projects/"+projectA+"/stop", http.NoBody)
		}},
		"stop and wait": {true, func(ctx context.Context) *http.Request {
			return httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/projects/"+projectA+"/stop?wait=gone", http.NoBody)
		}},
		"delete of its pod": {true, func(ctx context.Context) *http.Request {
			path := ofUser("/v1/pods/"+events.ProjectPod(projectA), events.ProjectUser(projectA))
			return httptest.NewRequestWithContext(ctx, http.MethodDelete, path, http.NoBody)
		}},
		"stop of what does not run": {false, func(ctx context.Context) *http.Request {
			return httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/projects/"+projectA+"/stop", http.NoBody)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newProjectSite(t)
			if tt.runs {
				if got := s.do(projectA, "start?wait=ready", nil, nil); got.status != http.StatusCreated {
					t.Fatalf("start: %d %s", got.status, got.raw)
				}
			}
			ctx, leave := context.WithCancel(t.Context())
			leave()
			request := tt.ask(ctx)
			request.Header.Set("Authorization", "Bearer "+v1TokenA)
			s.apis[0].Mux.ServeHTTP(httptest.NewRecorder(), request)
			if stop, err := s.bus.LastStop(t.Context(), projectA); err != nil || stop == 0 {
				t.Errorf("the last stop is at %d, %v", stop, err)
			}
			if tt.runs {
				eventstest.Eventually(t, "the pod is gone", func() bool {
					e, err := s.bus.Last(t.Context(), events.ProjectPod(projectA))
					return err == nil && e.Event == events.Gone
				})
			}
		})
	}
}
