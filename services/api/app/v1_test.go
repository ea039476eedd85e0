package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"berth/pkg/client"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// v1Site is one or more replicas of an api on one log, and a bus for the test to
// be all other services.
type v1Site struct {
	*testing.T
	server *eventstest.Server
	bus    *natsbus.Bus
	apis   []*App
	client *http.Client
	schema func() map[string]any
}

// The tokens of the silos of a site with two.
const v1TokenA, v1TokenB = "token of silo a", "token of silo b"

// v1TwoSilos lets silo a speak for example.org and silo b for example.net.
func v1TwoSilos(c *config.Config) {
	for _, s := range []struct{ name, token, domain string }{{"a", v1TokenA, "example.org"}, {"b", v1TokenB, "example.net"}} {
		c.Silos = append(c.Silos, config.Silo{
			Name: s.name, Credentials: config.Credentials{TokenHash: config.Sum([]byte(s.token))}, UserDomains: []string{s.domain}, HostName: s.name + ".example.org",
		})
	}
}

// newV1Site starts replicas that have no more rights on the log than an api is
// granted.
func newV1Site(t *testing.T, replicas int, change ...func(*config.Config)) *v1Site {
	t.Helper()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	s := &v1Site{T: t, server: server, client: &http.Client{Transport: transport}}
	s.bus = eventstest.NewBus(t, server, "test", func(o *natsbus.Options) { o.User, o.Password = server.Options().User, server.Options().Password })
	for range replicas {
		opts := options(server, change...)
		opts.InProcess, opts.NATSURL = nil, server.URL()
		opts.NATSUser, opts.NATSPassword = server.Credentials("api")
		api := New(opts)
		api.waits = patient()
		if err := api.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			transport.CloseIdleConnections()
			if err := api.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		s.apis = append(s.apis, api)
	}
	t.Cleanup(transport.CloseIdleConnections)
	eventstest.MarkComplete(t, s.bus)
	for _, api := range s.apis {
		eventstest.Eventually(t, "the api is ready", func() bool { return api.Health.Ready(t.Context()) == nil })
	}
	s.schema = sync.OnceValue(func() map[string]any {
		var doc map[string]any
		if err := json.Unmarshal(s.get("/v1/openapi.json").raw, &doc); err != nil {
			t.Errorf("read the OpenAPI document: %v", err)
		}
		return doc
	})
	s.schema()
	return s
}

// v1Reply is what a request was answered.
type v1Reply struct {
	status int
	header http.Header
	raw    []byte
	body   object
}

func (r v1Reply) reason() string { reason, _ := r.body["reason"].(string); return reason }

// v1Ask is a request. Its zero value is a GET without a token to the first replica.
type v1Ask struct {
	replica             int
	method, path, token string
	body                any
	header              map[string]string
}

func (s *v1Site) get(path string) v1Reply { s.Helper(); return s.ask(v1Ask{path: path}) }

func (s *v1Site) request(ctx context.Context, a v1Ask) (*http.Response, error) {
	var body io.Reader
	if a.body != nil {
		text, ok := a.body.(string)
		if !ok {
			marshalled, err := json.Marshal(a.body)
			if err != nil {
				return nil, err
			}
			text = string(marshalled)
		}
		body = strings.NewReader(text)
	}
	method := a.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.apis[a.replica].Addr()+a.path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	for name, value := range a.header {
		r.Header.Set(name, value)
	}
	return s.client.Do(r)
}

// ask makes a request, and holds the answer against the OpenAPI document.
func (s *v1Site) ask(a v1Ask) v1Reply {
	s.Helper()
	response, err := s.request(s.Context(), a)
	if err != nil {
		s.Errorf("%s %s: %v", a.method, a.path, err)
		return v1Reply{}
	}
	defer response.Body.Close()
	reply := v1Reply{status: response.StatusCode, header: response.Header}
	if reply.raw, err = io.ReadAll(response.Body); err != nil {
		s.Errorf("%s %s: %v", a.method, a.path, err)
	}
	if strings.HasPrefix(a.path, "/v1/openapi.json") {
		return reply
	}
	if len(reply.raw) > 0 && strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(reply.raw, &reply.body); err != nil {
			s.Errorf("%s %s: %v: %s", a.method, a.path, err, reply.raw)
		}
	}
	if err := s.fits(a, reply); err != nil {
		s.Errorf("%s %s is answered with what the OpenAPI document does not say: %v\n%s", a.method, a.path, err, reply.raw)
	}
	return reply
}

// fits holds an answer against the OpenAPI document.
func (s *v1Site) fits(a v1Ask, reply v1Reply) error {
	doc := s.schema()
	path, _, _ := strings.Cut(a.path, "?")
	var operation any
	for pattern, methods := range doc["paths"].(object) {
		parts, given := strings.Split(pattern, "/"), strings.Split(path, "/")
		if len(parts) != len(given) || !slices.EqualFunc(parts, given, func(p, g string) bool { return p == g || strings.HasPrefix(p, "{") }) {
			continue
		}
		method := strings.ToLower(a.method)
		if method == "" {
			method = "get"
		}
		operation = methods.(object)[method]
	}
	if operation == nil {
		return nil // No operation; its answers are problems, which TestV1Elsewhere looks at.
	}
	responses := operation.(object)["responses"].(object)
	response, ok := responses[strconv.Itoa(reply.status)].(object)
	if !ok {
		return fmt.Errorf("status %d is not declared", reply.status)
	}
	content, _ := response["content"].(object)
	media, ok := content[reply.header.Get("Content-Type")].(object)
	if !ok {
		if len(content) == 0 && len(reply.raw) == 0 {
			return nil
		}
		return fmt.Errorf("media type %q is not declared", reply.header.Get("Content-Type"))
	}
	text, err := json.Marshal(object{"allOf": []any{media["schema"]}, "$defs": doc["components"].(object)["schemas"]})
	if err != nil {
		return err
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte("#/components/schemas/"), []byte("#/$defs/")), &schema); err != nil {
		return err
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		return err
	}
	return resolved.Validate(reply.body)
}

func ofUser(path, user string) string { return path + "?user_id=" + user }

// creator plays the creator and what comes after it: it claims a name of its own
// for each command, and takes the pod as far as the manifest's name says.
func (s *v1Site) creator() *atomic.Int64 {
	var pods atomic.Int64
	var mu sync.Mutex
	names := map[string]string{}
	nameOf := func(command string) (name string, first bool) {
		mu.Lock()
		defer mu.Unlock()
		if name = names[command]; name != "" {
			return name, false // It is delivered again.
		}
		name = fmt.Sprintf("notebook-%d", len(names)+1)
		names[command] = name
		return name, true
	}
	eventstest.Go(s, func(ctx context.Context) error {
		return s.bus.Consume(ctx, natsbus.Stage{Stage: events.StageCreate, AckWait: time.Minute, Handler: func(ctx context.Context, d natsbus.Delivery) error {
			url := d.Create.ManifestURL
			if strings.Contains(url, "refused") {
				_, err := s.bus.Decide(ctx, events.Outcome{
					Verdict: events.Refused, Command: d.ID, User: d.User, Reason: events.ManifestForbidden, Message: "not allowed",
				})
				return err
			}
			if o, err := s.bus.Outcome(ctx, d.ID); err != nil || o.Verdict == events.Expiry {
				return err // It came too late.
			}
			name, first := nameOf(d.ID)
			if _, err := s.bus.Decide(ctx, events.Outcome{Verdict: events.Accepted, Command: d.ID, User: d.User, Pod: name}); err != nil {
				return err
			}
			if first {
				pods.Add(1)
			}
			var last natsbus.Entry
			for _, fact := range eventstest.Life(name, d.User, d.ID, "", "uid-"+name) {
				fact.Generation = last.Generation
				if strings.Contains(url, "fails") && last.Event == events.Launched {
					fact = eventstest.Fail(last.Generation, events.ImagePull, "no such image")
				}
				var err error
				if last, _, err = s.bus.AppendAfter(ctx, last, name, fact); err != nil {
					return err
				}
				if last.Event == events.Failed || last.Event == events.Ready || strings.Contains(url, "slow") && last.Event == events.Launched {
					return nil
				}
			}
			return nil
		}})
	})
	return &pods
}

// deleter plays the deleter.
func (s *v1Site) deleter() {
	eventstest.Go(s, func(ctx context.Context) error {
		return s.bus.Consume(ctx, natsbus.Stage{Stage: events.StageDelete, Handler: func(ctx context.Context, d natsbus.Delivery) error {
			for _, fact := range []events.Fact{eventstest.Delete(d.Generation), eventstest.Gone(d.Generation)} {
				if _, _, err := s.bus.Append(ctx, d.Pod, fact); err != nil {
					return err
				}
			}
			return nil
		}})
	})
}

func createOf(manifest string) object {
	return object{"user_id": user, "manifest_url": "https://example.org/" + manifest + ".yaml"}
}

const createPath = "/v1/pods"

func (s *v1Site) create(manifest, query, key string, replica int) v1Reply {
	s.Helper()
	header := map[string]string{}
	if key != "" {
		header["Idempotency-Key"] = key
	}
	return s.ask(v1Ask{replica: replica, method: http.MethodPost, path: createPath + query, body: createOf(manifest), header: header})
}

func TestV1Create(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	s.creator()
	tests := map[string]struct {
		manifest, query string
		status          int
		reason, event   string
	}{
		"launched":          {"slow", "", 201, "", "launched"},
		"waits until ready": {"good", "?wait=ready", 201, "", "ready"},
		"refused":           {"refused", "", 403, "MANIFEST_FORBIDDEN", ""},
		"fails":             {"fails", "?wait=ready", 422, "IMAGE_PULL", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.create(tt.manifest, tt.query, "", 0)
			event, _ := got.body["event"].(string)
			if got.status != tt.status || got.reason() != tt.reason || event != tt.event {
				t.Fatalf("%d %s", got.status, got.raw)
			}
			switch {
			case tt.status == 201:
				at := s.get(got.header.Get("Location"))
				if at.status != 200 || at.body["name"] != got.body["name"] || at.body["user_id"] != user {
					t.Errorf("at %s: %d %s", got.header.Get("Location"), at.status, at.raw)
				}
			case tt.manifest == "fails" && got.body["pod_name"] == nil:
				t.Errorf("the problem does not name the pod: %s", got.raw)
			}
		})
	}
}

// TestV1WaitEnds: a client that goes away holds nothing, and a replica
// that stops lets the others go.
func TestV1WaitEnds(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	s.creator()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		response, err := s.request(ctx, v1Ask{method: http.MethodPost, path: createPath + "?wait=ready", body: createOf("slow")})
		if err == nil {
			err = response.Body.Close()
		}
		gone <- err
	}()
	b := &bench{App: s.apis[0], t: t}
	launched := func(pod string) {
		eventstest.Eventually(t, pod+" is launched", func() bool { e, _ := s.apis[0].table.Pod(pod); return e.Event == events.Launched })
	}
	b.waiting(createPath, 1)
	launched("notebook-1")
	cancel()
	if err := eventstest.Receive(t, "the client's end", gone); err == nil {
		t.Error("the request was answered")
	}
	b.waiting(createPath, 0)

	answered := make(chan v1Reply, 1)
	go func() { answered <- s.create("slow", "?wait=ready", "", 0) }()
	b.waiting(createPath, 1)
	launched("notebook-2")
	if err := s.apis[0].Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := eventstest.Receive(t, "the answer", answered); got.status != 503 || got.reason() != "UNAVAILABLE" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

// TestV1IdempotencyRaced: one key, forty requests, two replicas, one pod.
func TestV1IdempotencyRaced(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 2)
	s.schema()
	pods := s.creator()
	const requests, keys = 40, 4
	names := make([]map[string]bool, keys)
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range requests {
		group.Go(func() {
			key := i % keys
			got := s.create("good", "?wait=ready", "key-"+strconv.Itoa(key), i/keys%2)
			name, _ := got.body["name"].(string)
			mu.Lock()
			defer mu.Unlock()
			if got.status != 201 {
				t.Errorf("request %d: %d %s", i, got.status, got.raw)
			}
			if names[key] == nil {
				names[key] = map[string]bool{}
			}
			names[key][name] = true
		})
	}
	group.Wait()
	if pods.Load() != keys {
		t.Errorf("%d pods were made for %d keys", pods.Load(), keys)
	}
	for key, found := range names {
		if len(found) != 1 {
			t.Errorf("key %d yielded %v", key, found)
		}
	}
}

func TestV1Idempotency(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 2, v1TwoSilos)
	create := func(replica int, token, key, of string, manifest string) v1Reply {
		return s.ask(v1Ask{
			replica: replica, method: http.MethodPost, path: createPath, token: token, header: map[string]string{"Idempotency-Key": key},
			body: object{"user_id": of, "manifest_url": "https://example.org/" + manifest + ".yaml"},
		})
	}
	// Nobody takes the first one, until somebody decides that nothing will be made of it, as a replica does at the deadline.
	answered := make(chan v1Reply, 1)
	go func() { answered <- create(0, v1TokenA, "late", user, "good") }()
	var queued []events.Command
	eventstest.Eventually(t, "the create is queued", func() bool {
		queued = eventstest.Queued(t, s.server, events.StageCreate)
		return len(queued) == 1
	})
	expired := events.Outcome{Verdict: events.Expiry, Command: queued[0].ID, User: user, Reason: events.Expired, Message: "nobody took it"}
	if _, err := s.bus.Decide(t.Context(), expired); err != nil {
		t.Fatal(err)
	}
	if got := eventstest.Receive(t, "the answer", answered); got.status != 503 || got.reason() != "EXPIRED" || got.header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	pods := s.creator()
	s.deleter()
	first := create(1, v1TokenA, "late", user, "good")
	if first.status != 201 {
		t.Fatalf("the same key after an expiry: %d %s", first.status, first.raw)
	}
	pod := first.body["name"]
	const carol = "carol@example.net"
	tests := []struct {
		what, token, key, of, manifest string
		status                         int
		same                           bool
	}{
		{"again", v1TokenA, "late", user, "good", 201, true},
		{"in quotes", v1TokenA, `"late"`, user, "good", 201, true},
		{"another body", v1TokenA, "late", user, "other", 422, false},
		{"another key", v1TokenA, "later", user, "good", 201, false},
		{"another user", v1TokenA, "late", "bob@example.org", "good", 201, false},
		{"another silo", v1TokenB, "late", carol, "good", 201, false},
		{"refused", v1TokenA, "refused", user, "refused", 403, false},
		{"refused again", v1TokenA, "refused", user, "refused", 403, false},
		{"fails", v1TokenA, "fails", user, "fails", 201, false},
	}
	for i, tt := range tests {
		got := create(i%2, tt.token, tt.key, tt.of, tt.manifest)
		if tt.what == "fails" && got.status == 422 {
			continue // It failed before it was answered.
		}
		if got.status != tt.status || (got.body["name"] == pod) != tt.same {
			t.Errorf("%s: %d %s", tt.what, got.status, got.raw)
		}
	}
	if n := pods.Load(); n != 5 {
		t.Errorf("%d pods were made, want 5", n)
	}
	// The pod is gone, and another life may have its name: the key does not make a second one.
	if got := s.ask(v1Ask{method: http.MethodDelete, token: v1TokenA, path: ofUser("/v1/pods/"+pod.(string), user) + "&wait=gone"}); got.status != 204 {
		t.Fatalf("delete: %d %s", got.status, got.raw)
	}
	if got := create(0, v1TokenA, "late", user, "good"); got.status != 410 || got.reason() != "NOT_FOUND" {
		t.Errorf("after the delete: %d %s", got.status, got.raw)
	}
	eventstest.Bring(t, s.bus, pod.(string), "mallory@example.org", events.Ready)
	if got := create(1, v1TokenA, "late", user, "good"); got.status != 410 {
		t.Errorf("after another has the name: %d %s", got.status, got.raw)
	}
	if n := pods.Load(); n != 5 {
		t.Errorf("%d pods were made, want 5", n)
	}
}

// TestV1Refused has what is refused before anything is asked of the log, with the
// name of what is wrong.
func TestV1Refused(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	s.schema()
	long := strings.Repeat("a", 300)
	post := func(body any) v1Ask { return v1Ask{method: http.MethodPost, path: createPath, body: body} }
	good := createOf("good")
	tests := map[string]struct {
		ask     v1Ask
		status  int
		message string
	}{
		"no body":               {v1Ask{method: http.MethodPost, path: createPath}, 415, "Content-Type"},
		"a form":                {v1Ask{method: http.MethodPost, path: createPath, body: "a=b", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, 415, "Content-Type"},
		"an empty body":         {post(" "), 400, "empty"},
		"no JSON":               {post("{"), 400, "not JSON"},
		"an array":              {post("[]"), 400, "JSON object"},
		"an unknown member":     {post(`{"user_id":"a1","manifest_url":"u","setings":{}}`), 400, `"setings"`},
		"a wrong type":          {post(`{"user_id":7}`), 400, "user_id"},
		"two values":            {post(`{"user_id":"a1","manifest_url":"u"}{}`), 400, "more than one"},
		"a body bomb":           {post(`{"user_id":"` + strings.Repeat("a", 300<<10) + `"}`), 413, "larger"},
		"no user":               {post(object{"manifest_url": "u"}), 400, "user_id"},
		"a subject for a user":  {post(object{"manifest_url": "u", "user_id": "a.>"}), 400, "user_id"},
		"no manifest":           {post(object{"user_id": user}), 400, "manifest_url"},
		"a long manifest":       {post(object{"user_id": user, "manifest_url": strings.Repeat("a", 3000)}), 400, "manifest_url"},
		"an empty key":          {v1Ask{method: http.MethodPost, path: createPath, body: good, header: map[string]string{"Idempotency-Key": `""`}}, 400, "Idempotency-Key"},
		"a long key":            {v1Ask{method: http.MethodPost, path: createPath, body: good, header: map[string]string{"Idempotency-Key": long}}, 400, "Idempotency-Key"},
		"a wrong wait":          {v1Ask{method: http.MethodPost, path: createPath + "?wait=gone", body: good}, 400, "wait must be ready"},
		"a query in halves":     {v1Ask{path: "/v1/pods?user_id=" + user + ";ready=true"}, 400, "query"},
		"an escape that is cut": {v1Ask{path: "/v1/pods?user_id=%4"}, 400, "query"},
		"an unknown parameter":  {v1Ask{path: "/v1/pods?user=" + user}, 400, `"user"`},
		"a parameter twice":     {v1Ask{path: "/v1/pods?limit=1&limit=2"}, 400, "limit"},
		"limit 0":               {v1Ask{path: "/v1/pods?limit=0"}, 400, "1 to 500"},
		"a large limit":         {v1Ask{path: "/v1/pods?limit=501"}, 400, "1 to 500"},
		"a limit in words":      {v1Ask{path: "/v1/pods?limit=all"}, 400, "1 to 500"},
		"a wrong token":         {v1Ask{path: "/v1/pods?page_token=x"}, 400, "page_token"},
		"an unknown event":      {v1Ask{path: "/v1/pods?event=ready,redy"}, 400, "one of claimed"},
		"ready what":            {v1Ask{path: "/v1/pods?ready=1"}, 400, "true or false"},
		"a list of whom":        {v1Ask{path: "/v1/pods?user_id=A"}, 400, "user_id"},
		"a pod of whom":         {v1Ask{path: "/v1/pods/p"}, 400, "user_id is missing"},
		"a pod of nobody":       {v1Ask{path: "/v1/pods/p?user_id="}, 400, "user_id"},
		"a delete of whom":      {v1Ask{method: http.MethodDelete, path: "/v1/pods/p"}, 400, "user_id is missing"},
		"tokens of whom":        {v1Ask{path: "/v1/pods/p/tokens"}, 400, "user_id is missing"},
		"a timeline of whom":    {v1Ask{path: "/v1/pods/p/timeline"}, 400, "user_id is missing"},
		"events of whom":        {v1Ask{path: "/v1/pods/p/events"}, 400, "user_id is missing"},
		"a wrong Last-Event-ID": {v1Ask{path: "/v1/events", header: map[string]string{"Last-Event-ID": "7"}}, 400, "Last-Event-ID"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.ask(tt.ask)
			detail, _ := got.body["detail"].(string)
			if got.status != tt.status || got.reason() != "REQUEST_INVALID" || !strings.Contains(detail, tt.message) {
				t.Errorf("%d %s, want %d with %q", got.status, got.raw, tt.status, tt.message)
			}
			if got.header.Get("Content-Type") != "application/problem+json" || got.body["type"] != "/v1/docs#REQUEST_INVALID" {
				t.Errorf("not a problem: %v %s", got.header, got.raw)
			}
		})
	}
	if queued := eventstest.Queued(t, s.server, events.StageCreate); len(queued) > 0 {
		t.Errorf("queued: %+v", queued)
	}
}

// TestV1Elsewhere has what is no operation.
func TestV1Elsewhere(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	tests := map[string]struct {
		ask    v1Ask
		status int
		allow  string
	}{
		"nothing there":      {v1Ask{path: "/v1/nothing"}, 404, ""},
		"below a pod":        {v1Ask{path: "/v1/pods/p/logs"}, 404, ""},
		"a wrong method":     {v1Ask{method: http.MethodPut, path: "/v1/pods"}, 405, "GET, HEAD, POST"},
		"a pod, wrong":       {v1Ask{method: http.MethodPost, path: "/v1/pods/p"}, 405, "DELETE, GET, HEAD"},
		"a document, wrong":  {v1Ask{method: http.MethodPost, path: "/v1/docs"}, 405, "GET, HEAD"},
		"the root of it all": {v1Ask{path: "/v1/"}, 404, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.ask(tt.ask)
			if got.status != tt.status || got.reason() != "REQUEST_INVALID" || got.header.Get("Allow") != tt.allow {
				t.Errorf("%d %v %s", got.status, got.header, got.raw)
			}
		})
	}
	if got := s.get("/v1/docs"); got.status != 200 || !strings.Contains(string(got.raw), "<h1>Berth API</h1>") {
		t.Errorf("docs: %d", got.status)
	}
}

// TestV1BeforeTheComparison: missing means unknown.
func TestV1BeforeTheComparison(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := &v1Site{T: t, server: b.server, bus: b.bus, apis: []*App{b.App}, client: b.client}
	s.schema = func() map[string]any { return map[string]any{"paths": object{}} }
	for _, a := range []v1Ask{
		{path: "/v1/pods"},
		{path: ofUser("/v1/pods", user)},
		{path: ofUser("/v1/pods/p", user)},
		{path: ofUser("/v1/pods/p/timeline", user)},
		{path: ofUser("/v1/pods/p/tokens", user)},
		{path: ofUser("/v1/pods/p/events", user)},
		{path: "/v1/events"},
		{method: http.MethodDelete, path: ofUser("/v1/pods/p", user)},
		{method: http.MethodPost, path: "/v1/pods", body: createOf("good")},
		{method: http.MethodPost, path: "/v1/pods", body: createOf("good"), header: map[string]string{"Idempotency-Key": "k"}},
	} {
		if got := s.ask(a); got.status != 503 || got.reason() != "UNAVAILABLE" || got.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", a.method, a.path, got.status, got.raw)
		}
	}
}

// TestV1Foreign: what belongs to another, to another silo, or to nobody is answered
// with the same bytes, on every endpoint.
func TestV1Foreign(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, v1TwoSilos)
	s.deleter()
	eventstest.Bring(t, s.bus, "theirs", "carol@example.net", events.Ready)
	eventstest.Bring(t, s.bus, "mine", user, events.Ready)
	eventstest.Bring(t, s.bus, "gone", user, events.Gone)
	own, colleague, foreign := user, "bob@example.org", "carol@example.net"
	type which struct{ pod, user string }
	missing := which{"nothing", own}
	same := map[string]which{
		"a colleague's":                {"mine", colleague},
		"another silo's by its owner":  {"theirs", foreign},
		"another silo's by one's own":  {"theirs", own},
		"another silo's, not there":    {"nothing", foreign},
		"gone":                         {"gone", own},
		"a name that cannot be":        {"A_%3E", own},
		"a very long name":             {strings.Repeat("a", 5000), own},
		"a name that would be a token": {"*", own},
	}
	endpoints := map[string]func(w which) v1Ask{
		"get":      func(w which) v1Ask { return v1Ask{path: ofUser("/v1/pods/"+w.pod, w.user)} },
		"tokens":   func(w which) v1Ask { return v1Ask{path: ofUser("/v1/pods/"+w.pod+"/tokens", w.user)} },
		"timeline": func(w which) v1Ask { return v1Ask{path: ofUser("/v1/pods/"+w.pod+"/timeline", w.user)} },
		"events":   func(w which) v1Ask { return v1Ask{path: ofUser("/v1/pods/"+w.pod+"/events", w.user)} },
		"delete":   func(w which) v1Ask { return v1Ask{method: http.MethodDelete, path: ofUser("/v1/pods/"+w.pod, w.user)} },
		"delete and wait": func(w which) v1Ask {
			return v1Ask{method: http.MethodDelete, path: ofUser("/v1/pods/"+w.pod, w.user) + "&wait=gone"}
		},
	}
	as := func(a v1Ask) v1Reply { a.token = v1TokenA; return s.ask(a) }
	for name, endpoint := range endpoints {
		want := as(endpoint(missing))
		if want.status != 404 || want.reason() != "NOT_FOUND" {
			t.Fatalf("%s of what is not there: %d %s", name, want.status, want.raw)
		}
		for what, w := range same {
			if name == "timeline" && what == "gone" {
				continue // Its past is its owner's to see.
			}
			got := as(endpoint(w))
			if got.status != want.status || !bytes.Equal(got.raw, want.raw) || !cmp.Equal(headerOf(got), headerOf(want)) {
				t.Errorf("%s of %s: %d %v %s\nwant: %d %v %s", name, what, got.status, headerOf(got), got.raw, want.status, headerOf(want), want.raw)
			}
		}
	}
	if a, b := as(v1Ask{path: ofUser("/v1/pods", colleague)}), as(v1Ask{path: ofUser("/v1/pods", foreign)}); !bytes.Equal(a.raw, b.raw) || a.status != 200 || b.status != 200 {
		t.Errorf("lists: %s and %s", a.raw, b.raw)
	}
	if got := as(v1Ask{path: "/v1/pods"}); !cmp.Equal(namesIn(got), []string{"mine"}) {
		t.Errorf("all pods that silo a may name: %s", got.raw)
	}
	if got := s.ask(v1Ask{path: "/v1/pods", token: v1TokenB}); !cmp.Equal(namesIn(got), []string{"theirs"}) {
		t.Errorf("all pods that silo b may name: %s", got.raw)
	}
	create := func(of string) v1Reply {
		return as(v1Ask{method: http.MethodPost, path: "/v1/pods", body: object{"user_id": of, "manifest_url": "https://example.org/n.yaml"}})
	}
	if a, b := create(foreign), create("nobody@example.net"); a.status != 403 || !bytes.Equal(a.raw, b.raw) {
		t.Errorf("creates for users of others: %d %s and %d %s", a.status, a.raw, b.status, b.raw)
	}
	for _, token := range []string{"", "wrong"} {
		if got := s.ask(v1Ask{path: "/v1/pods", token: token}); got.status != 401 && got.status != 403 || got.status == 401 && got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("token %q: %d %s", token, got.status, got.raw)
		}
	}
}

// headerOf leaves out what differs between any two answers.
func headerOf(r v1Reply) http.Header {
	h := r.header.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	return h
}

func namesIn(r v1Reply) []string {
	var names []string
	pods, _ := r.body["pods"].([]any)
	for _, p := range pods {
		names = append(names, p.(object)["name"].(string))
	}
	return names
}

func TestV1List(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	for i := range 7 {
		last := events.Ready
		if i%2 == 1 {
			last = events.Running
		}
		eventstest.Bring(t, s.bus, fmt.Sprintf("p%d", i), user, last)
	}
	eventstest.Bring(t, s.bus, "q", other, events.Ready)
	eventstest.Bring(t, s.bus, "gone", user, events.Gone)
	tests := map[string]struct {
		query string
		want  []string
	}{
		"everything":    {"", []string{"p0", "p1", "p2", "p3", "p4", "p5", "p6", "q"}},
		"of a user":     {"?user_id=" + other, []string{"q"}},
		"of nobody":     {"?user_id=nobody", nil},
		"ready":         {"?ready=true&user_id=" + user, []string{"p0", "p2", "p4", "p6"}},
		"not ready":     {"?ready=false", []string{"p1", "p3", "p5"}},
		"by event":      {"?event=running", []string{"p1", "p3", "p5"}},
		"by events":     {"?event=running,ready&user_id=" + other, []string{"q"}},
		"contradictory": {"?event=running&ready=true", nil},
	}
	for name, tt := range tests {
		for _, limit := range []int{1, 3, 500} {
			t.Run(fmt.Sprint(name, " by ", limit), func(t *testing.T) {
				t.Parallel()
				var got []string
				query := tt.query + "&limit=" + strconv.Itoa(limit)
				query = "?" + strings.TrimPrefix(strings.TrimPrefix(query, "?"), "&")
				token := ""
				for range 20 {
					next := query
					if token != "" {
						next += "&page_token=" + token
					}
					reply := s.get("/v1/pods" + next)
					names := namesIn(reply)
					if reply.status != 200 || len(names) > limit {
						t.Fatalf("%s: %d %s", next, reply.status, reply.raw)
					}
					got = append(got, names...)
					if token, _ = reply.body["next_page_token"].(string); token == "" {
						break
					}
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", query, d)
				}
			})
		}
	}
}

// remove deletes a pod of the user.
func (s *v1Site) remove(replica int, pod, query string) v1Reply {
	s.Helper()
	return s.ask(v1Ask{replica: replica, method: http.MethodDelete, path: ofUser("/v1/pods/"+pod, user) + query})
}

// TestV1DeleteTakesTooLong: a pod that does not go.
func TestV1DeleteTakesTooLong(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, func(c *config.Config) { c.TimeoutDelete = time.Second })
	eventstest.Bring(t, s.bus, "stuck", user, events.Deleting)
	if got := s.remove(0, "stuck", ""); got.status != 202 || got.body["event"] != "deleting" {
		t.Errorf("one that is being deleted: %d %s", got.status, got.raw)
	}
	if got := s.remove(0, "stuck", "&wait=gone"); got.status != 504 || got.reason() != "TIMEOUT" || got.body["pod_name"] != "stuck" {
		t.Errorf("one that does not go: %d %s", got.status, got.raw)
	}
}

func TestV1Delete(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 2)
	eventstest.Bring(t, s.bus, "p", user, events.Ready)
	s.deleter()
	answered := make(chan v1Reply, 6)
	for i := range 6 {
		go func() { answered <- s.remove(i%2, "p", "&wait=gone") }()
	}
	gone := 0
	for range 6 {
		// Whoever comes after it is gone is told what everybody is told.
		got := eventstest.Receive(t, "an answer", answered)
		if got.status == 204 {
			gone++
		} else if got.status != 404 {
			t.Errorf("%d %s", got.status, got.raw)
		}
	}
	if gone == 0 {
		t.Error("nobody was told that the pod is gone")
	}
	if got := s.remove(1, "p", ""); got.status != 404 {
		t.Errorf("one that is gone: %d %s", got.status, got.raw)
	}
}

// TestV1Timeline: what happened, by whom; under a name that is used again each sees
// the own past alone.
func TestV1Timeline(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	first := eventstest.Bring(t, s.bus, "shared", user, events.Gone)
	eventstest.Bring(t, s.bus, "shared", other, events.Ready)
	eventsOf := func(r v1Reply) []string {
		var all []string
		phases, _ := r.body["phases"].([]any)
		for _, p := range phases {
			all = append(all, p.(object)["event"].(string)+" by "+p.(object)["by"].(string))
		}
		return all
	}
	var whole []string
	for _, event := range []string{"claimed", "licensed", "launching", "launched", "waiting", "running", "ready", "ended", "deleting", "gone"} {
		whole = append(whole, event+" by test")
	}
	mine := s.get(ofUser("/v1/pods/shared/timeline", user))
	if d := cmp.Diff(whole, eventsOf(mine)); d != "" || mine.body["generation"] != first.Generation {
		t.Errorf("the first user's (-want +got):\n%s\n%s", d, mine.raw)
	}
	theirs := s.get(ofUser("/v1/pods/shared/timeline", other))
	if d := cmp.Diff(whole[:7], eventsOf(theirs)); d != "" || theirs.body["user_id"] != other {
		t.Errorf("the second user's (-want +got):\n%s", d)
	}
	if got := s.get(ofUser("/v1/pods/shared/timeline", other) + "&generation=" + first.Generation); got.status != 404 {
		t.Errorf("another's generation: %d %s", got.status, got.raw)
	}
}

// TestV1TimelineOfAFlapper: what the log has forgotten is said to be missing, and the
// time until the pod was ready is that of the first time.
func TestV1TimelineOfAFlapper(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	last := eventstest.Bring(t, s.bus, "p", user, events.Ready)
	before := s.get(ofUser("/v1/pods/p/timeline", user))
	for i := range 2*natsbus.KeptRecords + 2 {
		o := eventstest.Ready("uid-p", strconv.Itoa(200+i))
		o.Ready = i%2 == 1
		s.append("p", eventstest.Observe(last.Generation, o))
	}
	last, err := s.bus.Last(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	after := s.get(ofUser("/v1/pods/p/timeline", user))
	if before.body["incomplete"] != nil || after.body["incomplete"] != true {
		t.Errorf("incomplete before %v, after %v", before.body["incomplete"], after.body["incomplete"])
	}
	want := last.ReadyAt.Sub(last.ClaimedAt).Truncate(time.Millisecond).Seconds()
	if got := after.body["ready_after_seconds"]; got != want {
		t.Errorf("ready after %v, want %v", got, want)
	}
}

func TestV1Tokens(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	eventstest.Bring(t, s.bus, "bare", user, events.Ready)
	if got := s.get(ofUser("/v1/pods/bare/tokens", user)); got.status != 200 || string(got.raw) != "{\"tokens\":{}}\n" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a pod without tokens: %d %s", got.status, got.raw)
	}
	fact := eventstest.Claim("p", user, "c")
	fact.Record.TokenKeys = []string{"key"}
	entry, _, err := s.bus.Append(t.Context(), "p", fact)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.get(ofUser("/v1/pods/p/tokens", user)); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("tokens that are not copied yet: %d %s", got.status, got.raw)
	}
	if err := s.bus.PutTokens(t.Context(), "p", entry.Generation, map[string]string{"key": "secret"}); err != nil {
		t.Fatal(err)
	}
	if got := s.get(ofUser("/v1/pods/p/tokens", user)); got.status != 200 || string(got.raw) != "{\"tokens\":{\"key\":\"secret\"}}\n" {
		t.Errorf("tokens: %d %s", got.status, got.raw)
	}
	if got := s.get(ofUser("/v1/pods/p", user)); strings.Contains(string(got.raw), "secret") {
		t.Errorf("the pod shows its token: %s", got.raw)
	}
}

// sse is a stream as a client reads it.
type sse struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Scanner
	cancel   context.CancelFunc
	last     string // The id of the last event that had one.
}

type sseEvent struct {
	Kind, ID string
	Data     object
}

func (s *v1Site) stream(a v1Ask) *sse {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	response, err := s.request(ctx, a) //nolint:bodyclose // The stream closes it.
	if err != nil {
		cancel()
		s.Fatal(err)
	}
	stream := &sse{t: s.T, response: response, lines: bufio.NewScanner(response.Body), cancel: cancel}
	stream.lines.Buffer(nil, 1<<20)
	s.Cleanup(stream.close)
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		s.Fatalf("%s: %d %v", a.path, response.StatusCode, response.Header)
	}
	return stream
}

func (e *sse) close() {
	e.cancel()
	_ = e.response.Body.Close()
}

// next returns the next event; ok is false at the end of the stream.
func (e *sse) next() (event sseEvent, ok bool) {
	for e.lines.Scan() {
		name, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch name {
		case "event":
			event.Kind = value
		case "id":
			event.ID, e.last = value, value
		case "data":
			if err := json.Unmarshal([]byte(value), &event.Data); err != nil {
				e.t.Errorf("data %q: %v", value, err)
			}
		case "":
			if event.Kind != "" {
				return event, true
			}
		}
	}
	return sseEvent{}, false
}

// expect reads events as "pod NAME EVENT" or their kind. That everything has been sent may be said again at any time: at a
// heartbeat, and when the log has been read again.
func (e *sse) expect(want ...string) {
	e.t.Helper()
	var got []string
	for len(got) < len(want) {
		event, ok := e.next()
		if !ok {
			got = append(got, "end")
			break
		}
		if event.Kind == "synced" && want[len(got)] != "synced" {
			continue
		}
		got = append(got, event.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		e.t.Fatalf("events (-want +got):\n%s", d)
	}
}

func (e sseEvent) String() string {
	if e.Kind == "pod" {
		return fmt.Sprint("pod ", e.Data["name"], " ", e.Data["event"])
	}
	return e.Kind
}

func (s *v1Site) append(pod string, facts ...events.Fact) natsbus.Entry {
	s.Helper()
	var entry natsbus.Entry
	for _, fact := range facts {
		var err error
		if entry, _, err = s.bus.Append(s.Context(), pod, fact); err != nil {
			s.Fatal(err)
		}
	}
	return entry
}

func TestV1Stream(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 2, v1TwoSilos)
	p := eventstest.Bring(t, s.bus, "p", user, events.Running)
	q := eventstest.Bring(t, s.bus, "q", "bob@example.org", events.Ready)
	eventstest.Bring(t, s.bus, "theirs", "carol@example.net", events.Running)
	eventstest.Bring(t, s.bus, "gone", user, events.Gone)
	for _, api := range s.apis {
		eventstest.Eventually(t, "the replicas have it all", func() bool { e, ok := api.table.Pod("gone"); return ok && e.Event == events.Gone })
	}
	all := s.stream(v1Ask{path: "/v1/events", token: v1TokenA})
	mine := s.stream(v1Ask{path: "/v1/events?user_id=" + user, token: v1TokenA, replica: 1})
	one := s.stream(v1Ask{path: ofUser("/v1/pods/p/events", user), token: v1TokenA})
	foreign := s.stream(v1Ask{path: "/v1/events?user_id=carol@example.net", token: v1TokenA})
	all.expect("pod p running", "pod q ready", "synced")
	mine.expect("pod p running", "synced")
	one.expect("pod p running", "synced")
	foreign.expect("synced")

	s.append("p", eventstest.Observe(p.Generation, eventstest.Ready("uid-p", "109")))
	theirs, err := s.bus.Last(t.Context(), "theirs")
	if err != nil {
		t.Fatal(err)
	}
	s.append("theirs", eventstest.Observe(theirs.Generation, eventstest.Ready("uid-theirs", "109")))
	s.append("q", eventstest.Delete(q.Generation), eventstest.Gone(q.Generation))
	all.expect("pod p ready", "pod q deleting", "pod q gone")
	mine.expect("pod p ready")
	one.expect("pod p ready")

	// What happens meanwhile is told on the other replica.
	all.close()
	mine.close()
	eventstest.Bring(t, s.bus, "q", user, events.Launching)
	resumed := s.stream(v1Ask{path: "/v1/events", token: v1TokenA, replica: 1, header: map[string]string{"Last-Event-ID": all.last}})
	resumed.expect("pod q claimed", "pod q licensed", "pod q launching", "synced")
	again := s.stream(v1Ask{path: "/v1/events?user_id=" + user, token: v1TokenA, header: map[string]string{"Last-Event-ID": mine.last}})
	again.expect("pod q claimed", "pod q licensed", "pod q launching", "synced")
	s.append("p", eventstest.Delete(p.Generation))
	resumed.expect("pod p deleting")
	again.expect("pod p deleting")
	one.expect("pod p deleting")
	// The stream of a user that the caller may not name has had nothing to say.
	foreignAgain := s.stream(v1Ask{path: "/v1/events?user_id=carol@example.net", token: v1TokenA, header: map[string]string{"Last-Event-ID": all.last}})
	foreignAgain.expect("synced")

	// A position that the log does not have.
	for name, id := range map[string]string{
		"of another log": "5-5", "to come": strconv.FormatInt(s.apis[0].table.Created(), 10) + "-9007199254740991", "of no record": strconv.FormatInt(s.apis[0].table.Created(), 10) + "-1",
	} {
		lost := s.stream(v1Ask{path: "/v1/events?user_id=" + user, token: v1TokenA, header: map[string]string{"Last-Event-ID": id}})
		t.Log(name)
		lost.expect("reset", "pod q launching", "pod p deleting", "synced")
		lost.close()
	}
}

// TestV1StreamOfAnEnd: who has seen a pod is told of its end, whenever it comes back; who
// never had a pod of that name is told what anybody is told.
func TestV1StreamOfAnEnd(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, v1TwoSilos)
	p := eventstest.Bring(t, s.bus, "p", user, events.Launched)
	seen := strconv.FormatInt(s.apis[0].table.Created(), 10) + "-" + strconv.FormatUint(p.Sequence, 10)
	end := s.append("p", eventstest.Fail(p.Generation, events.ImagePull, "no such image"), eventstest.Delete(p.Generation), eventstest.Gone(p.Generation))
	ask := func(pod, user, after string) v1Ask {
		return v1Ask{path: ofUser("/v1/pods/"+pod+"/events", user), token: v1TokenA, header: map[string]string{"Last-Event-ID": after}}
	}
	s.stream(ask("p", user, seen)).expect("pod p failed", "pod p deleting", "pod p gone", "synced")
	missing := s.ask(ask("none", user, seen))
	created, _, _ := strings.Cut(seen, "-")
	for what, a := range map[string]v1Ask{
		"a colleague":              ask("p", "bob@example.org", seen),
		"another silo's user":      ask("p", "carol@example.net", seen),
		"who has been told":        ask("p", user, created+"-"+strconv.FormatUint(end.Sequence, 10)),
		"who has seen another log": ask("p", user, "5-5"),
		"who knows nothing":        {path: ofUser("/v1/pods/p/events", user), token: v1TokenA},
	} {
		if got := s.ask(a); got.status != 404 || !bytes.Equal(got.raw, missing.raw) || got.reason() != "NOT_FOUND" {
			t.Errorf("%s: %d %s", what, got.status, got.raw)
		}
	}
	// By the client.
	c, err := client.New("http://"+s.apis[0].Addr(), client.Options{Token: client.Token(v1TokenA), RoundTripper: s.client.Transport})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for e, err := range c.Events(t.Context(), client.Stream{User: user, Pod: "p", After: seen}) {
		if err != nil {
			t.Fatal(err)
		}
		if told = append(told, e.Pod.Event); e.Pod.Event == "gone" {
			break
		}
	}
	if d := cmp.Diff([]string{"failed", "deleting", "gone"}, told); d != "" {
		t.Errorf("the client (-want +got):\n%s", d)
	}
}

// TestV1StreamFromTheBeginning: a stream of a log in which nothing has happened resumes.
func TestV1StreamFromTheBeginning(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	first := s.stream(v1Ask{path: "/v1/events"})
	first.expect("synced")
	first.close()
	if want := strconv.FormatInt(s.apis[0].table.Created(), 10) + "-0"; first.last != want {
		t.Fatalf("position %q, want %q", first.last, want)
	}
	eventstest.Bring(t, s.bus, "p", user, events.Gone)
	// Far more than is read of the log record by record.
	var want []string
	for _, event := range []string{"claimed", "licensed", "launching", "launched", "waiting", "running", "ready", "ended", "deleting", "gone"} {
		want = append(want, "pod p "+event)
	}
	for i := range 20 {
		eventstest.Bring(t, s.bus, fmt.Sprint("q", i), user, events.Licensed)
		want = append(want, fmt.Sprint("pod q", i, " claimed"), fmt.Sprint("pod q", i, " licensed"))
	}
	s.stream(v1Ask{path: "/v1/events", header: map[string]string{"Last-Event-ID": first.last}}).expect(append(want, "synced")...)
	s.stream(v1Ask{path: "/v1/events", header: map[string]string{"Last-Event-ID": "5-0"}}).expect("reset")
}

// TestV1StreamAmongOthers: what happens to the pods of another silo, however much, does
// not keep a stream from going on.
func TestV1StreamAmongOthers(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, v1TwoSilos)
	mine := eventstest.Bring(t, s.bus, "mine", user, events.Launched)
	stream := s.stream(v1Ask{path: "/v1/events", token: v1TokenA})
	stream.expect("pod mine launched", "synced")
	s.append("mine", eventstest.Observe(mine.Generation, eventstest.Running("uid-mine", "102")))
	stream.expect("pod mine running")
	stream.close()
	const others = 1050 // Each has two records.
	var group sync.WaitGroup
	for part := range 10 {
		group.Go(func() {
			for i := range others / 10 {
				eventstest.Bring(t, s.bus, fmt.Sprintf("theirs-%d-%d", part, i), "carol@example.net", events.Licensed)
			}
		})
	}
	group.Wait()
	s.append("mine", eventstest.Delete(mine.Generation))
	s.stream(v1Ask{path: "/v1/events", token: v1TokenA, header: map[string]string{"Last-Event-ID": stream.last}}).expect("pod mine deleting", "synced")
}

// TestV1StreamSurvivesTheLog: a lost connection loses no event, and a log that is
// made anew is told as such.
func TestV1StreamSurvivesTheLog(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1)
	p := eventstest.Bring(t, s.bus, "p", user, events.Launched)
	stream := s.stream(v1Ask{path: "/v1/events"})
	stream.expect("pod p launched", "synced")
	s.server.Stop()
	s.server.Start()
	for _, observed := range []events.Observed{eventstest.Pending("uid-p", "101"), eventstest.Running("uid-p", "102"), eventstest.Ready("uid-p", "103")} {
		eventstest.Eventually(t, "the log is there again", func() bool {
			_, _, err := s.bus.Append(t.Context(), "p", eventstest.Observe(p.Generation, observed))
			return err == nil
		})
	}
	for _, want := range []string{"pod p waiting", "pod p running", "pod p ready"} {
		for {
			event, ok := stream.next()
			if !ok {
				// A heartbeat has found that the log is away: a client comes again.
				eventstest.Eventually(t, "the api is ready again", func() bool { return s.apis[0].Health.Ready(t.Context()) == nil })
				last := stream.last
				stream = s.stream(v1Ask{path: "/v1/events", header: map[string]string{"Last-Event-ID": last}})
				stream.last = last
				continue
			}
			if event.Kind == "synced" {
				continue
			}
			if event.String() != want {
				t.Fatalf("%s, want %s", event, want)
			}
			break
		}
	}
	last := stream.last
	s.server.Wipe()
	eventstest.Eventually(t, "the log is made anew", func() bool { return s.bus.Provision(t.Context()) == nil })
	eventstest.MarkComplete(t, s.bus)
	eventstest.Bring(t, s.bus, "fresh", user, events.Ready)
	eventstest.Eventually(t, "the api has read the new log", func() bool { _, ok := s.apis[0].table.Pod("fresh"); return ok && s.apis[0].table.Ready() == nil })
	again := s.stream(v1Ask{path: "/v1/events", header: map[string]string{"Last-Event-ID": last}})
	again.expect("reset", "pod fresh ready", "synced")
}

// TestV1StreamBounds: a reader that does not read is cut and holds nobody up; the
// streams of a silo are counted; a replica that stops lets go.
func TestV1StreamBounds(t *testing.T) {
	t.Parallel()
	s := newV1Site(t, 1, v1TwoSilos)
	p := eventstest.Bring(t, s.bus, "p", user, events.Running)
	if got := s.ask(v1Ask{method: http.MethodHead, path: "/v1/events", token: v1TokenA}); got.status != 200 {
		t.Errorf("HEAD: %d", got.status)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", s.apis[0].Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", v1TokenA)
	good := s.stream(v1Ask{path: "/v1/events", token: v1TokenA})
	good.expect("pod p running", "synced")
	b := &bench{App: s.apis[0], t: t}
	b.waiting("/v1/events", 2)
	const flaps = 200
	go func() {
		for i := range flaps {
			o := eventstest.Ready("uid-p", strconv.Itoa(200+2*i))
			o.Ready = i%2 == 0
			o.Message = strings.Repeat("x", 2000)
			if _, _, err := s.bus.Append(s.Context(), "p", eventstest.Observe(p.Generation, o)); err != nil {
				return
			}
		}
	}()
	for range flaps {
		event, ok := good.next()
		for event.Kind == "synced" {
			event, ok = good.next()
		}
		if !ok || event.Kind != "pod" {
			t.Fatalf("%v, %v", event, ok)
		}
	}
	if err := s.apis[0].Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for event, ok := good.next(); ok; event, ok = good.next() {
		if event.Kind != "synced" {
			t.Errorf("after the end: %v", event)
		}
	}
}
