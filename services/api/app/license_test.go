package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/services/api/internal/v1"
)

const (
	licenseB = "bbbbbbbb-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	licenseC = "cccccccc-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
)

// licenseSite plays a licenser that can be made to fail.
type licenseSite struct {
	*v1Site

	mu    sync.Mutex
	saved map[string]wire.License
	// lose has it save a license and the answer be lost, busy has it refuse all.
	lose, busy bool
	// hang has it keep the next license waiting before it looks at it.
	hang atomic.Pointer[hanging]
}

// hanging is a license that waits: it has come, and is let go on.
type hanging struct{ came, goOn chan struct{} }

// newLicenseSite starts a site. A request whose end nobody knows is waited for no longer than first.
func newLicenseSite(t *testing.T, first time.Duration) *licenseSite {
	t.Helper()
	s := &licenseSite{v1Site: newV1Site(t, 2, v1Administered), saved: map[string]wire.License{}}
	for _, api := range s.apis {
		api.backend.waits.first = first // No request has come yet.
	}
	s.licenser(func(q natsbus.Question) (any, error) {
		if q.Method == wire.MethodPut {
			if h := s.hang.Swap(nil); h != nil {
				close(h.came)
				s.await(h.goOn)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy && q.Method == wire.MethodPut {
			return nil, &natsbus.Fault{Reason: events.LicenseInvalid, Message: "no"}
		}
		answer, err := answerLicenses(q, s.saved, new([]wire.Attachment))
		if s.lose && q.Method == wire.MethodPut {
			return nil, &natsbus.Fault{Reason: events.Unavailable, Message: "the answer is lost"}
		}
		return answer, err
	})
	return s
}

// await waits for a channel to be closed, or for the end of the test.
func (s *licenseSite) await(closed <-chan struct{}) {
	select {
	case <-closed:
	case <-s.Context().Done():
	case <-time.After(time.Minute):
		s.Error("a license, or its end, did not come within a minute")
	}
}

func (s *licenseSite) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.saved)
}

func (s *licenseSite) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *licenseSite) post(replica int, key string, body object, query ...string) v1Reply {
	s.Helper()
	return s.ask(v1Ask{
		replica: replica, method: http.MethodPost, path: "/v1/licenses" + strings.Join(query, ""), token: adminToken, body: body,
		header: map[string]string{"Idempotency-Key": key},
	})
}

// expect posts a license with a key, and returns the id in the answer.
func (s *licenseSite) expect(what string, replica int, key string, body object, status int) (id string) {
	s.Helper()
	got := s.post(replica, key, body)
	if got.status != status {
		s.Errorf("%s: %d %s, want %d", what, got.status, got.raw, status)
	}
	if got.status == http.StatusCreated && (got.header.Get("Location") != "/v1/licenses/"+member(got, "id") || got.header.Get("ETag") == "") {
		s.Errorf("%s: %v", what, got.header)
	}
	return member(got, "id")
}

// forget has the log forget a record of what a key stands for, as it does after an hour.
func (s *licenseSite) forget(record string) {
	s.Helper()
	opts := s.server.Options()
	nc, err := nats.Connect(opts.URL, nats.UserInfo(opts.User, opts.Password))
	if err != nil {
		s.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.Fatal(err)
	}
	stream, err := js.Stream(s.Context(), events.LogStream)
	if err != nil {
		s.Fatal(err)
	}
	if err := stream.Purge(s.Context(), jetstream.WithPurgeSubject(events.OutcomeSubject(s.bus.Cluster(), record))); err != nil {
		s.Fatal(err)
	}
}

// TestV1CreateLicenseOnce: a key makes one license, on whichever replica, also where an answer was lost.
func TestV1CreateLicenseOnce(t *testing.T) {
	t.Parallel()
	s := newLicenseSite(t, time.Minute)
	body := object{"title": "U"}
	// What is only tried leaves the key alone, and so does what is refused, to the same body.
	if got := s.post(0, "k", object{"title": "V"}, "?dry_run=true"); got.status != http.StatusOK {
		t.Fatalf("dry run: %d %s", got.status, got.raw)
	}
	s.set(func() { s.busy = true })
	if got := s.post(0, "k", body); got.status != http.StatusUnprocessableEntity || got.reason() != string(events.LicenseInvalid) {
		t.Errorf("refused: %d %s", got.status, got.raw)
	}
	s.set(func() { s.busy = false })
	id := s.expect("the first", 1, "k", body, http.StatusCreated)
	if n := s.count(); n != 1 {
		t.Fatalf("%d licenses", n)
	}
	for i, tt := range []struct {
		what, key string
		body      object
		status    int
		same      bool
	}{
		{"again", "k", body, 201, true},
		{"in quotes", `"k"`, body, 201, true},
		{"another body", "k", object{"title": "W"}, 422, false},
		{"another body with an id", "k", object{"title": "U", "id": licenseA}, 422, false},
		{"another key", "l", body, 201, false},
		{"a bad key", "a b", body, 400, false},
	} {
		if got := s.expect(tt.what, i%2, tt.key, tt.body, tt.status); (got == id) != tt.same {
			t.Errorf("%s: license %s", tt.what, got)
		}
	}
	// The answer, and that it was made, are lost.
	s.set(func() { s.lose = true })
	s.expect("the answer is lost", 0, "m", body, http.StatusGatewayTimeout)
	s.set(func() { s.lose = false })
	for range 2 {
		s.expect("after a lost answer", 1, "m", body, http.StatusCreated)
	}
	if n := s.count(); n != 3 {
		t.Errorf("%d licenses were made, want 3", n)
	}
	// The answer is the license as it is now, with nothing of the body.
	s.set(func() { s.saved[id] = wire.License{ID: id, Description: "edited", Revision: "r2"} })
	if got := s.post(0, "k", body); got.status != http.StatusCreated || got.body["title"] != nil || got.body["description"] != "edited" {
		t.Errorf("after an edit: %d %s", got.status, got.raw)
	}
	// The key's first request is an hour ago, and the license was made later.
	s.forget(v1.KeyID("", "", "k"))
	if got := s.expect("late in its hour", 1, "k", body, http.StatusCreated); got != id {
		t.Errorf("late in its hour: license %s, want %s", got, id)
	}
	s.expect("another body, late in its hour", 1, "k", object{"title": "W"}, http.StatusUnprocessableEntity)
	// It is gone: the key does not make it again.
	if got := s.ask(v1Ask{method: http.MethodDelete, path: "/v1/licenses/" + id, token: adminToken}); got.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", got.status, got.raw)
	}
	if got := s.post(0, "k", body); got.status != http.StatusGone || got.reason() != string(events.NotFound) || s.count() != 2 {
		t.Errorf("after the delete: %d %s, %d licenses", got.status, got.raw, s.count())
	}
}

// TestV1CreateLicenseOfAnID: where the client has chosen the id, a key is answered with the license that it has made, also where that
// answer was lost, and never with another's.
func TestV1CreateLicenseOfAnID(t *testing.T) {
	t.Parallel()
	s := newLicenseSite(t, time.Millisecond)
	a, b, c := object{"id": licenseA}, object{"id": licenseB}, object{"id": licenseC}
	for i, tt := range []struct {
		what, key string
		body      object
		before    func()
		status    int
	}{
		{"new", "i", a, nil, 201},
		{"again", "i", a, nil, 201},
		{"another body", "i", b, nil, 422},
		{"that id by another key", "j", a, nil, 409},
		{"and again", "j", a, nil, 409},
		{"the answer is lost", "l", b, func() { s.lose = true }, 504},
		{"after a lost answer", "l", b, func() { s.lose = false }, 201},
		{"and again", "l", b, nil, 201},
		{"that id by another key", "m", b, nil, 409},
		{"after an edit", "l", b, func() { s.saved[licenseB] = wire.License{ID: licenseB, Description: "edited", Revision: "r2"} }, 201},
		{"gone", "l", b, func() { delete(s.saved, licenseB) }, 410},
		{"refused", "r", c, func() { s.busy = true }, 422},
		{"another has made it since", "r", c, func() { s.busy, s.saved[licenseC] = false, wire.License{ID: licenseC, Revision: "r"} }, 409},
		{"which is gone", "r", c, func() { delete(s.saved, licenseC) }, 201},
		{"and again", "r", c, nil, 201},
	} {
		if tt.before != nil {
			s.set(tt.before)
		}
		if got, _ := tt.body["id"].(string); s.expect(tt.what, i%2, tt.key, tt.body, tt.status) != got && tt.status == http.StatusCreated {
			t.Errorf("%s: another license than %s", tt.what, got)
		}
	}
	if _, there := s.saved[licenseA]; !there || s.count() != 2 {
		t.Errorf("licenses: %v", s.saved)
	}
}

// TestV1CreateLicenseRaced: of many requests with a key and an id each is answered with the license that one of them has made.
func TestV1CreateLicenseRaced(t *testing.T) {
	t.Parallel()
	s := newLicenseSite(t, time.Minute)
	var group sync.WaitGroup
	for i := range 4 { // As many as the licenser answers at a time.
		group.Go(func() { s.expect("at once", i%2, "k", object{"id": licenseA}, http.StatusCreated) })
	}
	group.Wait()
	if n := s.count(); n != 1 {
		t.Errorf("%d licenses", n)
	}
}

// TestV1CreateLicenseSlowly: a request that is slower than one that repeats it is answered with what that has made, and says of the key
// nothing else, also where the other has died before it could note what it made.
func TestV1CreateLicenseSlowly(t *testing.T) {
	t.Parallel()
	s := newLicenseSite(t, time.Millisecond)
	for key, tt := range map[string]struct {
		license string
		dies    bool
	}{
		"noted": {licenseA, false},
		"died":  {licenseB, true},
	} {
		body, slow := object{"id": tt.license}, &hanging{make(chan struct{}), make(chan struct{})}
		s.hang.Store(slow)
		var first sync.WaitGroup
		first.Go(func() { s.expect(key+": the first", 0, key, body, http.StatusCreated) })
		s.await(slow.came)
		s.expect(key+": the second", 1, key, body, http.StatusCreated)
		if tt.dies {
			s.forget(madeOf(v1.KeyID("", "", key)))
		}
		close(slow.goOn)
		first.Wait()
		s.expect(key+": the third", 1, key, body, http.StatusCreated)
		s.expect(key+": another key", 0, key+"-not", body, http.StatusConflict)
	}
	if n := s.count(); n != 2 {
		t.Errorf("%d licenses were made, want 2", n)
	}
}

// TestV1CreateLicenseUpgraded: what replicas of an older version have written of a key, who name no request and not what was made, is
// read as they meant it, and so is each form beside the other.
func TestV1CreateLicenseUpgraded(t *testing.T) {
	t.Parallel()
	s := newLicenseSite(t, time.Millisecond)
	titled := object{"title": "U"}
	given := func(id string) object { return object{"id": id} }
	id := func(n int) string { return fmt.Sprintf("dddddddd-aaaa-4aaa-8aaa-%012d", n) }
	const no, old, now = 0, 1, 2 // The forms of a record; no is none.
	for name, tt := range map[string]struct {
		license        string
		body           object
		reserved, made int
		there          bool
		status         int
	}{
		"another's":                    {id(1), given(id(1)), old, no, true, 409},
		"its answer was lost":          {id(2), given(id(2)), now, no, true, 201},
		"not made":                     {id(3), given(id(3)), old, no, false, 201},
		"not made, as now":             {id(4), given(id(4)), now, no, false, 201},
		"made":                         {id(5), given(id(5)), old, old, true, 201},
		"made, one as now":             {id(6), given(id(6)), old, now, true, 201},
		"made, the other as now":       {id(7), given(id(7)), now, old, true, 201},
		"made, both as now":            {id(8), given(id(8)), now, now, true, 201},
		"made and gone":                {id(9), given(id(9)), old, old, false, 410},
		"made, another body":           {id(10), given(id(11)), old, old, true, 422},
		"made, another body, as now":   {id(12), given(id(13)), now, now, true, 422},
		"made long after it was asked": {id(14), given(id(14)), no, old, true, 201},
		"any id, its answer was lost":  {id(15), titled, old, no, true, 201},
		"any id, not made":             {id(16), titled, old, no, false, 201},
		"any id, made":                 {id(17), titled, old, old, true, 201},
		"any id, made, one as now":     {id(18), titled, old, now, true, 201},
		"any id, made and gone":        {id(19), titled, old, old, false, 410},
	} {
		key := strings.NewReplacer(" ", "-", ",", "").Replace(name)
		asked := tt.body
		if tt.status == http.StatusUnprocessableEntity {
			asked = given(tt.license)
		}
		held := v1.Reservation{Body: s.sum(key+"-sum", asked), Command: tt.license}
		if tt.there {
			s.set(func() { s.saved[tt.license] = wire.License{ID: tt.license, Revision: "r"} })
		}
		write := func(record string, form int, oldText string) {
			text := oldText
			if form == now {
				text = v1.Reservation{Body: held.Body, Command: held.Command, Request: "request-of-" + key}.String()
			}
			if form == no {
				return
			}
			if _, err := s.bus.Decide(t.Context(), events.Outcome{Verdict: events.Done, Command: record, Message: text}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		write(v1.KeyID("", "", key), tt.reserved, held.String())
		write(madeOf(v1.KeyID("", "", key)), tt.made, "")
		for replica, again := range []string{"", ", again", ", and again"} {
			if got := s.expect(name+again, replica%2, key, tt.body, tt.status); tt.status == http.StatusCreated && got != tt.license {
				t.Errorf("%s: license %s, want %s", name+again, got, tt.license)
			}
		}
	}
	// Nothing is said of requests that have no name.
	if end, err := s.bus.Outcome(t.Context(), endOf(v1.Reservation{})); err != nil || end.Verdict != "" {
		t.Errorf("the end of no request: %+v, %v", end, err)
	}
}

// sum is the hash of a body, of which a key is spent that is not to be used again.
func (s *licenseSite) sum(key string, body object) string {
	s.Helper()
	s.set(func() { s.busy = true })
	s.expect("refused", 0, key, body, http.StatusUnprocessableEntity)
	s.set(func() { s.busy = false })
	reserved, err := s.bus.Outcome(s.Context(), v1.KeyID("", "", key))
	if err != nil {
		s.Fatal(err)
	}
	held, ok := v1.ParseReservation(reserved.Message)
	if !ok {
		s.Fatalf("the key stands for %q", reserved.Message)
	}
	return held.Body
}

// answerLicenses is a licenser with its licenses in a map.
func answerLicenses(q natsbus.Question, saved map[string]wire.License, attached *[]wire.Attachment) (any, error) {
	var put wire.PutLicense
	var ref wire.LicenseRef
	var attachment wire.Attachment
	var again wire.ReplayRequest
	for _, into := range []any{&put, &ref, &attachment, &again} {
		if err := json.Unmarshal(q.Params, into); err != nil {
			return nil, err
		}
	}
	switch q.Method {
	case wire.MethodLicenses:
		list := wire.LicenseList{}
		for _, l := range saved {
			list.Licenses = append(list.Licenses, l)
		}
		return list, nil
	case wire.MethodLicense:
		if l, ok := saved[ref.ID]; ok {
			return l, nil
		}
		return nil, &natsbus.Fault{Reason: events.NotFound, Message: "there is no such license"}
	case wire.MethodPut:
		old, there := saved[put.License.ID]
		if put.Revision == "none" && there || put.Revision != "" && put.Revision != "none" && put.Revision != old.Revision {
			return nil, &natsbus.Fault{Reason: events.Conflict, Message: "it is another one"}
		}
		put.License.Revision = old.Revision + "r"
		if !put.DryRun {
			saved[put.License.ID] = put.License
		}
		return put.License, nil
	case wire.MethodDelete:
		if ref.Revision != "" && ref.Revision != saved[ref.ID].Revision {
			return nil, &natsbus.Fault{Reason: events.Conflict, Message: "it is another one"}
		}
		delete(saved, ref.ID)
	case wire.MethodAttach, wire.MethodDetach:
		*attached = append(*attached, attachment)
	case wire.MethodPreview:
		return wire.Preview{Verdict: &wire.Verdict{Accepted: true}}, nil
	case wire.MethodReplay:
		if again.After == "" {
			return wire.Replay{Looked: 1, Next: "n"}, nil
		}
		return wire.Replay{Looked: 1}, nil
	}
	return nil, nil
}
