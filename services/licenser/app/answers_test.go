package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
)

// ask asks the licenser as another service does, but for the broker.
func ask[R any](tb testing.TB, p *place, method string, params any) (result R, err error) {
	tb.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := p.answer(tb.Context(), natsbus.Question{Method: method, Params: text})
	if err != nil {
		return result, err
	}
	if text, err = json.Marshal(answer); err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &result); err != nil {
		tb.Fatal(err)
	}
	return result, nil
}

// refusedWith fails the test unless an error is a fault with a reason and these words.
func refusedWith(tb testing.TB, err error, reason events.Reason, words ...string) {
	tb.Helper()
	fault := (*natsbus.Fault)(nil)
	if !errors.As(err, &fault) || fault.Reason != reason {
		tb.Fatalf("error = %v, want %s", err, reason)
	}
	for _, word := range words {
		if !strings.Contains(fault.Message, word) {
			tb.Errorf("%q does not say %q", fault.Message, word)
		}
	}
	if strings.Contains(fault.Message, secret) {
		tb.Errorf("%q has a value", fault.Message)
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	bad := func(change func(*wire.License)) wire.License {
		l := valid(course, `{"cpu":1}`)
		change(&l)
		return l
	}
	tests := map[string]struct {
		license wire.License
		want    events.Reason // Empty where it is saved.
		says    []string
	}{
		"a good one":           {license: patching(course, `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`)},
		"one that does little": {license: wire.License{ID: course}},
		"past the end of a list": {
			license: patching(course, `[{"op":"add","path":"/spec/containers/0/volumeMounts/7","value":{"mountPath":"/global","name":"home"}}]`),
		},
		"no id":             {bad(func(l *wire.License) { l.ID = "x" }), events.LicenseInvalid, []string{"id", "UUID"}},
		"a long title":      {bad(func(l *wire.License) { l.Title = strings.Repeat("x", 257) }), events.LicenseInvalid, []string{"title", "256"}},
		"a long text":       {bad(func(l *wire.License) { l.Description = strings.Repeat("x", 64<<10+1) }), events.LicenseInvalid, []string{"description"}},
		"a title with NUL":  {bad(func(l *wire.License) { l.Title = "a\x00b" }), events.LicenseInvalid, []string{"NUL"}},
		"ends too early":    {bad(func(l *wire.License) { l.Expires = new(l.Activates.Add(-time.Hour)) }), events.LicenseInvalid, []string{"expires", "activates"}},
		"fewer than 0":      {bad(func(l *wire.License) { l.RunLimit = new(-1) }), events.LicenseInvalid, []string{"run_limit"}},
		"too many seats":    {bad(func(l *wire.License) { l.RunLimit = new(1 << 40) }), events.LicenseInvalid, []string{"run_limit"}},
		"a nameless one":    {bad(func(l *wire.License) { l.Managers = []string{"a", ""} }), events.LicenseInvalid, []string{"managers[1]"}},
		"an amount in text": {bad(func(l *wire.License) { l.Quota = json.RawMessage(`{"ram":"3"}`) }), events.LicenseInvalid, []string{"quota.ram"}},
		"an unknown member": {bad(func(l *wire.License) { l.Quota = json.RawMessage(`{"rams":3}`) }), events.LicenseInvalid, []string{"quota.rams"}},
		"a quota with NUL":  {bad(func(l *wire.License) { l.Quota = json.RawMessage(`{"user":"\u0000"}`) }), events.LicenseInvalid, []string{"NUL"}},
		"a huge quota":      {bad(func(l *wire.License) { l.Quota = json.RawMessage(`{"user":"` + strings.Repeat("x", 128<<10) + `"}`) }), events.LicenseInvalid, []string{"bytes"}},
		"a list":            {bad(func(l *wire.License) { l.Quota = json.RawMessage(`[1]`) }), events.LicenseInvalid, []string{"quota"}},
		"a bad gpu":         {bad(func(l *wire.License) { l.Quota = json.RawMessage(`{"gpu":{"num":1,"nodeLabel":"x"}}`) }), events.LicenseInvalid, []string{"gpu.nodeLabel"}},
		"no JSON":           {patching(course, `[{`), events.PatchInvalid, []string{"patch"}},
		"not a list":        {patching(course, `{}`), events.PatchInvalid, []string{"patch"}},
		"unknown op":        {patching(course, `[{"op":"paint","path":"/a"}]`), events.PatchInvalid, []string{"operation 0"}},
		"failing test":      {patching(course, `[{"op":"test","path":"/kind","value":"hunter2"}]`), events.PatchInvalid, []string{"operation 0", `"/kind"`}},
		"missing path":      {patching(course, `[{"op":"add","path":"/spec/nodeSelector/a","value":"hunter2"}]`), events.PatchInvalid, []string{"operation 0", "/spec/nodeSelector/a"}},
		"protected":         {patching(course, `[{"op":"add","path":"/metadata/annotations/berth.dev~1user","value":"x"}]`), events.PatchInvalid, []string{"protected"}},
		"a label of Berth":  {patching(course, `[{"op":"remove","path":"/metadata/labels/podName"}]`), events.PatchInvalid, []string{"podName"}},
		"a site's path":     {patching(course, `[{"op":"add","path":"/spec/hostAliases","value":[]}]`), events.PatchInvalid, []string{"/spec/hostAliases is protected"}},
		"privileged":        {patching(course, `[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":true}}]`), events.PatchInvalid, []string{"privileged"}},
		"a long patch":      {patching(course, `[{"op":"add","path":"/metadata/labels/a","value":"`+strings.Repeat("x", 64<<10)+`"}]`), events.PatchInvalid, []string{"bytes"}},
	}
	p := newPlace(t, func(c *config.Config) {
		c.Projects.ProtectedPaths = []string{"/spec/hostAliases"}
		c.Projects.Forbid = []string{config.ForbidPrivileged}
	})
	newCreator(t, p)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: tt.license, DryRun: true})
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			refusedWith(t, err, tt.want, tt.says...)
		})
	}
}

// TestPutAndRead is the life of a license.
func TestPutAndRead(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newCreator(t, p)
	put := wire.PutLicense{License: patching(course, `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`), Revision: "none", Actor: "admin"}
	if _, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: put.License, DryRun: true}); err != nil {
		t.Fatal(err)
	}
	_, err := ask[wire.License](t, p, wire.MethodLicense, wire.LicenseRef{ID: course})
	refusedWith(t, err, events.NotFound)
	saved, err := ask[wire.License](t, p, wire.MethodPut, put)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ask[wire.License](t, p, wire.MethodPut, put)
	refusedWith(t, err, events.Conflict)
	put.DryRun = true
	_, err = ask[wire.License](t, p, wire.MethodPut, put)
	refusedWith(t, err, events.Conflict)
	// Any revision is that of a license that is there.
	put.Revision = "any"
	if _, err := ask[wire.License](t, p, wire.MethodPut, put); err != nil {
		t.Errorf("try over any revision: %v", err)
	}
	_, err = ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: wire.License{ID: alpha}, Revision: "any", DryRun: true})
	refusedWith(t, err, events.Conflict)
	put.DryRun, put.Revision, put.License.Title = false, saved.Revision, "Another title"
	if _, err := ask[wire.License](t, p, wire.MethodPut, put); err != nil {
		t.Fatal(err)
	}
	got, err := ask[wire.License](t, p, wire.MethodLicense, wire.LicenseRef{ID: course})
	if err != nil || got.Title != "Another title" || got.Revision == saved.Revision {
		t.Errorf("read %+v (%v)", got, err)
	}

	if _, err := ask[any](t, p, wire.MethodAttach, wire.Attachment{License: course, Project: alpha}); err != nil {
		t.Fatal(err)
	}
	_, err = ask[any](t, p, wire.MethodAttach, wire.Attachment{License: storage, Project: alpha})
	refusedWith(t, err, events.NotFound)
	_, err = ask[any](t, p, wire.MethodAttach, wire.Attachment{License: course, User: events.ProjectUser(alpha)})
	refusedWith(t, err, events.RequestInvalid, "project_id")
	_, err = ask[any](t, p, wire.MethodAttach, wire.Attachment{License: course})
	refusedWith(t, err, events.RequestInvalid)
	project, err := ask[wire.Project](t, p, wire.MethodProject, wire.ProjectRef{ID: alpha})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]wire.LicenseStatus{{ID: course, Title: "Another title"}}, project.Licenses); d != "" {
		t.Errorf("licenses of the project (-want +got):\n%s", d)
	}
	_, err = ask[wire.Project](t, p, wire.MethodProject, wire.ProjectRef{ID: beta})
	refusedWith(t, err, events.ProjectUnknown)
	if _, err := ask[any](t, p, wire.MethodActivity, wire.ProjectRef{ID: alpha}); err != nil {
		t.Error(err)
	}
	if err := p.license(t.Context(), p.claimed(t, alpha, "cmd-1")); err != nil {
		t.Fatal(err)
	}
	seats, err := ask[wire.SeatList](t, p, wire.MethodSeats, wire.LicenseRef{ID: course})
	if err != nil || seats.Total != 1 || seats.Seats[0].Project != alpha {
		t.Errorf("seats: %+v (%v)", seats, err)
	}
	usage, err := ask[wire.UsageList](t, p, wire.MethodUsage, wire.UsageQuery{ID: course})
	if err != nil || len(usage.Usage) != 1 || usage.Usage[0].Stop != nil {
		t.Errorf("usage: %+v (%v)", usage, err)
	}
	if _, err := ask[any](t, p, wire.MethodDetach, wire.Attachment{License: course, Project: alpha}); err != nil {
		t.Error(err)
	}
	_, err = ask[any](t, p, wire.MethodDelete, wire.LicenseRef{ID: course, Revision: saved.Revision + "x"})
	refusedWith(t, err, events.Conflict)
	if _, err := ask[any](t, p, wire.MethodDelete, wire.LicenseRef{ID: course}); err != nil {
		t.Error(err)
	}
	_, err = ask[any](t, p, wire.MethodDelete, wire.LicenseRef{ID: course})
	refusedWith(t, err, events.NotFound)

	// Without a template a patch cannot be tried, and the form has to do.
	c.set(func(c *creator) { c.template = "" })
	put.Revision = ""
	if _, err := ask[wire.License](t, p, wire.MethodPut, put); err != nil {
		t.Errorf("at a site without a template: %v", err)
	}
}

// TestReadWhatAHubWrote: a license that could not be saved is read all the same.
func TestReadWhatAHubWrote(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.save(t, patching(course, `[{"op":"paint"`))
	if _, err := ask[wire.License](t, p, wire.MethodLicense, wire.LicenseRef{ID: course}); err != nil {
		t.Error(err)
	}
	if list, err := ask[wire.LicenseList](t, p, wire.MethodLicenses, wire.ListLicenses{}); err != nil || len(list.Licenses) != 1 {
		t.Errorf("the list is %+v (%v)", list, err)
	}
}

// TestEditOfWhatAHubWrote: what a hub has saved in a license is no reason to refuse another title; what the edit brings in is.
func TestEditOfWhatAHubWrote(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	newCreator(t, p)
	odd := valid(course, `{"gpu":true,"dedicated_vm":true,"patch":"","idle_timeout":"week","ram":-1,"cpu":"2"}`)
	odd.Upgrades, odd.RunLimit, odd.Expires = json.RawMessage(`{"cores":"1"}`), new(-1), new(odd.Activates.Add(-time.Hour))
	p.save(t, odd)
	broken := patching(storage, `[{"op":"test","path":"/kind","value":1}]`)
	p.save(t, broken)
	for name, tt := range map[string]struct {
		license wire.License
		change  func(*wire.License)
		want    events.Reason // Empty where it is saved.
		says    string
	}{
		"a title":         {odd, func(l *wire.License) { l.Title = "x" }, "", ""},
		"in another form": {odd, func(l *wire.License) { l.Quota = json.RawMessage(strings.ReplaceAll(string(l.Quota), ",", " ,\n")) }, "", ""},
		"another end":     {odd, func(l *wire.License) { l.Expires = new(l.Activates.Add(time.Hour)) }, "", ""},
		"another member": {odd, func(l *wire.License) {
			l.Quota = json.RawMessage(strings.Replace(string(l.Quota), `"week"`, `"week","disk":3`, 1))
		}, "", ""},
		"a title of the broken": {broken, func(l *wire.License) { l.Title = "x" }, "", ""},
		"a bad end":             {odd, func(l *wire.License) { l.Expires = new(l.Activates.Add(-2 * time.Hour)) }, events.LicenseInvalid, "expires"},
		"a bad limit":           {odd, func(l *wire.License) { l.RunLimit = new(-2) }, events.LicenseInvalid, "run_limit"},
		"a bad member":          {odd, func(l *wire.License) { l.Quota = json.RawMessage(`{"gpu":true,"ram":-2}`) }, events.LicenseInvalid, "quota.ram"},
		"bad upgrades":          {odd, func(l *wire.License) { l.Upgrades = json.RawMessage(`{"memory":"1"}`) }, events.LicenseInvalid, "upgrades.memory"},
		"the broken with more": {broken, func(l *wire.License) {
			l.Quota = json.RawMessage(strings.Replace(string(l.Quota), "{", `{"cpu":2,`, 1))
		}, events.PatchInvalid, "/kind"},
	} {
		tt.change(&tt.license)
		_, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: tt.license, DryRun: true})
		switch {
		case tt.want != "":
			refusedWith(t, err, tt.want, tt.says)
		case err != nil:
			t.Errorf("%s: refused: %v", name, err)
		}
	}
}

// TestListPages: pages have an end, by number and by size, and nothing is left out.
func TestListPages(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const licenses = 12
	for i := range licenses {
		l := valid(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), `{"cpu":1}`)
		l.Description = strings.Repeat("x", 60<<10)
		p.save(t, l)
	}
	seen, pages := 0, 0
	for next := ""; pages == 0 || next != ""; pages++ {
		list, err := ask[wire.LicenseList](t, p, wire.MethodLicenses, wire.ListLicenses{After: next, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		seen, next = seen+len(list.Licenses), list.Next
		if pages > licenses {
			t.Fatal("no end")
		}
	}
	if seen != licenses || pages != 2 {
		t.Errorf("%d licenses on %d pages", seen, pages)
	}
}

// TestListOfLargeLicenses: what a hub has written into one license keeps nobody from seeing the others.
func TestListOfLargeLicenses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	large := valid(course, `{"cpu":1}`)
	large.Title, large.Description = "Course", strings.Repeat("x", 3<<20)
	p.save(t, large)
	p.save(t, valid(storage, `{"cpu":2}`))
	list, err := ask[wire.LicenseList](t, p, wire.MethodLicenses, wire.ListLicenses{})
	if err != nil || len(list.Licenses) != 2 {
		t.Fatalf("%d licenses (%v)", len(list.Licenses), err)
	}
	for _, l := range list.Licenses {
		if (l.ID == course) != (len(l.Warnings) > 0) || (l.ID == course) == (l.Quota != nil) || l.Activates == nil {
			t.Errorf("the list has %+v", l)
		}
	}
	_, err = ask[wire.License](t, p, wire.MethodLicense, wire.LicenseRef{ID: course})
	refusedWith(t, err, events.RequestInvalid, course, "description")
}

func TestAnswerRefuses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, err := p.answer(t.Context(), natsbus.Question{Method: "paint"})
	refusedWith(t, err, events.RequestInvalid, "paint")
	_, err = p.answer(t.Context(), natsbus.Question{Method: wire.MethodLicense, Params: json.RawMessage(`[]`)})
	refusedWith(t, err, events.RequestInvalid, "malformed")
	_, err = p.answer(t.Context(), natsbus.Question{Method: wire.MethodLicense})
	refusedWith(t, err, events.RequestInvalid, "malformed")
	_, err = ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: patching(course, `[{"op":"remove","path":"/x"}]`)})
	refusedWith(t, err, events.Unavailable, "creator")
	p.store = nil
	_, err = p.answer(t.Context(), natsbus.Question{Method: wire.MethodLicenses, Params: json.RawMessage(`{}`)})
	refusedWith(t, err, events.Unavailable, "DATABASE_URL")
}

// TestAnswersOverTheBroker: the service answers who asks.
func TestAnswersOverTheBroker(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.save(t, valid(course, `{"cpu":1}`))
	opts := optionsOf(p.server)
	opts.DatabaseURL = p.url
	a := New(opts)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got wire.License
	eventstest.Eventually(t, "an answer", func() bool {
		return p.bus.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodLicense, wire.LicenseRef{ID: course}, &got) == nil
	})
	if got.ID != course {
		t.Errorf("got %+v", got)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWithItsRights: the service has the rights at the broker that it needs, from a start to a replay of it.
func TestWithItsRights(t *testing.T) {
	t.Parallel()
	p := &place{server: eventstest.NewServerWithUsers(t, eventstest.Cluster), url: shared.Migrated(t)}
	p.licenser = p.another(t)
	p.bus = eventstest.NewBus(t, p.server, "creator")
	newCreator(t, p)
	p.save(t, valid(course, `{"cpu":2}`), alpha)
	opts := optionsOf(p.server)
	opts.InProcess, opts.NATSURL, opts.DatabaseURL = nil, p.server.URL(), p.url
	opts.NATSUser, opts.NATSPassword = p.server.Credentials("licenser")
	a := New(opts)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.bus.Publish(t.Context(), d.Command, "1"); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the pod is launched", func() bool { return len(p.launches(t)) == 1 })

	api := eventstest.NewBus(t, p.server, "api")
	var preview wire.Preview
	eventstest.Eventually(t, "a preview", func() bool {
		return api.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodPreview, wire.PreviewRequest{Project: alpha}, &preview) == nil
	})
	if preview.Verdict == nil || !preview.Verdict.Accepted {
		t.Errorf("preview: %+v", preview)
	}
	var replay wire.Replay
	if err := api.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodReplay,
		wire.ReplayRequest{Since: time.Now().Add(-time.Hour)}, &replay); err != nil || replay.Looked != 1 {
		t.Errorf("replay: %+v (%v)", replay, err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
