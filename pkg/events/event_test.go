package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

// event is an event as a service appends it.
func event(r events.Record) events.Event {
	return events.Event{
		ID: "0195e3a0-0000-7000-8000-00000000000a", Source: "berth/creator/creator-0", Time: at(3),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Record: &r,
	}
}

// wireEvents are an event of each type.
func wireEvents(tb testing.TB) map[string]events.Event {
	tb.Helper()
	out := map[string]events.Event{}
	for name, r := range states(tb) {
		switch {
		case name == "copying":
			out[name] = event(r)
		case r.Event != "":
			out[string(r.Event)] = event(r)
		}
	}
	out["waiting"] = event(after(tb, claim(), license(), launch(), launched(), pulling()))
	// The claimed record cannot carry its generation.
	claimed := after(tb, claim())
	claimed.Generation = ""
	out["claimed"] = event(claimed)
	with := func(name string, o *events.Outcome, m *events.Mark) {
		e := event(events.Record{})
		e.Record, e.Outcome, e.Mark = nil, o, m
		out[name] = e
	}
	with("outcome-accepted", &events.Outcome{Verdict: events.Accepted, Cluster: cluster, Command: command, User: user, Pod: pod}, nil)
	with("outcome-refused", &events.Outcome{
		Verdict: events.Refused, Cluster: cluster, Command: command, User: user,
		Reason: events.ManifestForbidden, Message: "https://example.com/x.yaml is not allowed here",
	}, nil)
	with("outcome-expired", &events.Outcome{Verdict: events.Expiry, Cluster: cluster, Command: command, User: user, Reason: events.Expired}, nil)
	with("outcome-done", &events.Outcome{Verdict: events.Done, Cluster: cluster, Command: command, Report: &events.Report{
		DryRun: true, Total: 1, Found: []events.Leftover{{Kind: "Service", Name: pod + "-http", Why: "its pod is gone"}},
	}}, nil)
	const project = "11111111-1111-4111-8111-111111111111"
	with("outcome-stopped", &events.Outcome{
		Verdict: events.Stopped, Cluster: cluster, Command: events.StopCommand(project), User: events.ProjectUser(project),
	}, nil)
	used := event(events.Record{})
	used.Record, used.Storage = nil, &events.Storage{
		State: events.StorageUsed, Cluster: cluster, User: user, Claim: "user-storage-alice-dtu-dk", At: at(3),
		Uses: []events.Use{{Pod: pod, Generation: generation, Command: command}},
	}
	removing := used
	removing.Storage = &events.Storage{
		State: events.StorageRemoving, Cluster: cluster, User: user, Claim: used.Storage.Claim, At: at(9), Remover: used.Storage.Uses[0],
	}
	absent := used
	absent.Storage = &events.Storage{State: events.StorageAbsent, Cluster: cluster, User: user, At: at(10)}
	audit := event(events.Record{})
	audit.Record, audit.Audit = nil, &events.AuditRecord{
		Request: "0195e3a0-0000-7000-8000-00000000000b", Time: at(3), Cluster: cluster, Silo: "silo1", Address: "10.0.0.12",
		Action: "create_pod", Object: "https://manifests.example.org/jupyter.yaml", User: user, Pod: pod, Command: command, Status: 200, Took: 0.012,
	}
	out["storage-used"], out["storage-removing"], out["storage-absent"], out["audit"] = used, removing, absent, audit
	with("mark-complete", nil, &events.Mark{Cluster: cluster, Created: 1767323045000000000, Pods: 42})
	for service, names := range map[string][]string{
		"api": {"outcome-expired", "outcome-stopped", "audit"}, "licenser": {"licensed"},
		"deleter": {"failed", "deleting", "gone", "outcome-done", "storage-removing", "storage-absent"},
		"watcher": {"waiting", "running", "copying", "ready", "unready", "ended", "mark-complete"},
	} {
		for _, name := range names {
			e := out[name]
			e.Source = "berth/" + service + "/" + service + "-0"
			out[name] = e
		}
	}
	return out
}

// golden compares with a file of testdata, or writes it with -update.
func golden(t *testing.T, got []byte, path ...string) {
	t.Helper()
	name := filepath.Join(append([]string{"testdata"}, path...)...)
	got = append(got, '\n')
	if update() {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(indent(t, want), indent(t, got)); diff != "" || !bytes.Equal(want, got) {
		t.Errorf("%s (-want +got), run the test with -update if it should change:\n%s", name, diff)
	}
}

// indent makes a difference readable.
func indent(tb testing.TB, b []byte) string {
	tb.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		tb.Fatalf("not JSON: %v: %s", err, b)
	}
	return out.String()
}

func TestEventGolden(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name, e := range wireEvents(t) {
		seen[e.CloudEventType()] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := e.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, b, "events", name+".json")
			back, err := events.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := back.Marshal()
			if diff := cmp.Diff(string(b), string(again)); diff != "" || err != nil {
				t.Errorf("read and written again, error %v (-want +got):\n%s", err, diff)
			}
		})
	}
	for _, info := range events.Types() {
		if want := "berth.pod." + string(info.Type) + ".v1"; !seen[want] {
			t.Errorf("no golden file of %s", want)
		}
	}
}

func TestParseKeepsUnknownMembers(t *testing.T) {
	t.Parallel()
	later := `{"specversion":"1.0","id":"1","source":"s","type":"berth.pod.launched.v1","time":"2026-01-02T03:04:05Z",
		"datacontenttype":"application/json","tracestate":"x=y","data":{
			"event":"launched","cluster":"main","pod_name":"p","user_id":"u","generation":"1-1","launched_at":"2026-01-02T03:04:05Z",
			"seats":{"b":[1, 2],"a":"<&>"},"Colour":"blue",
			"observed":{"uid":"5d0c9a6e-0001","gpu_model":"X100"}}}`
	e, err := events.Parse([]byte(later))
	if err != nil {
		t.Fatal(err)
	}
	observed := ready()
	observed.Generation = "1-1"
	next, changed, err := events.Next(*e.Record, observed)
	if err != nil || !changed {
		t.Fatalf("changed %t, error %v", changed, err)
	}
	e.Record = &next
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type string
		Data struct {
			Event    string
			Seats    json.RawMessage
			Colour   string
			Observed map[string]any
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "berth.pod.ready.v1" || got.Data.Event != "ready" || got.Data.Colour != "blue" ||
		string(got.Data.Seats) != `{"b":[1,2],"a":"\u003c\u0026\u003e"}` || got.Data.Observed["gpu_model"] != "X100" {
		t.Errorf("members of a later version got lost: %s", b)
	}
}

// A member that encoding/json takes for a known one must not be kept beside it:
// the next reader would believe the wrong one.
func TestParseKnowsMembersInAnyCase(t *testing.T) {
	t.Parallel()
	const wire = `{"specversion":"1.0","id":"1","source":"s","type":"berth.pod.ready.v1","time":"2026-01-02T03:04:05Z",
		"data":{"event":"ready","cluster":"main","pod_name":"p","USER_ID":"v","u\u017fer_id":"w","user_id":"u"}}`
	e, err := events.Parse([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Marshal()
	if err != nil || strings.Count(string(b), "er_id") != 1 {
		t.Errorf("a member is written twice, error %v: %s", err, b)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	b, err := event(after(t, claim())).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	tests := map[string]struct {
		wire string
		want error
	}{
		"nothing":                  {"", events.ErrMalformed},
		"no JSON":                  {"{", events.ErrMalformed},
		"another shape":            {"[]", events.ErrMalformed},
		"null":                     {"null", events.ErrMalformed},
		"another specversion":      {replace(`"specversion":"1.0"`, `"specversion":"0.3"`), events.ErrMalformed},
		"no id":                    {replace(`"id":"0195e3a0-0000-7000-8000-00000000000a"`, `"id":""`), events.ErrMalformed},
		"no source":                {replace(`"source":"berth/creator/creator-0"`, `"source":""`), events.ErrMalformed},
		"no time":                  {replace(`"time":"2026-01-02T03:04:08Z"`, `"timing":""`), events.ErrMalformed},
		"a time before all":        {replace(`"time":"2026-01-02T03:04:08Z"`, `"time":"0000-01-01T00:00:00+23:59"`), events.ErrMalformed},
		"no data":                  {replace(`"data":`, `"date":`), events.ErrMalformed},
		"data null":                {replace(`"data":{`, `"data":null,"rest":{`), events.ErrMalformed},
		"data of another shape":    {replace(`"data":{`, `"data":[],"rest":{`), events.ErrMalformed},
		"no cluster":               {replace(`"cluster":"main"`, `"cluster":""`), events.ErrMalformed},
		"no pod":                   {replace(`"pod_name":"jupyter-alice"`, `"pod_name":""`), events.ErrMalformed},
		"no user":                  {replace(`"user_id":"alice@dtu.dk"`, `"user_id":""`), events.ErrMalformed},
		"another event than type":  {replace(`"event":"claimed"`, `"event":"ready"`), events.ErrMalformed},
		"an unknown event":         {replace(`berth.pod.claimed.v1`, `berth.pod.paused.v1`), events.ErrUnknownType},
		"a later version":          {replace(`berth.pod.claimed.v1`, `berth.pod.claimed.v2`), events.ErrUnknownType},
		"an unknown family":        {replace(`berth.pod.claimed.v1`, `berth.weather.fine.v1`), events.ErrUnknownType},
		"an unknown storage state": {replace(`berth.pod.claimed.v1`, `berth.storage.lent.v1`), events.ErrUnknownType},
		"storage without claim":    {replace(`berth.pod.claimed.v1`, `berth.storage.used.v1`), events.ErrMalformed},
		"somebody else's event":    {replace(`berth.pod.claimed.v1`, `com.example.claimed`), events.ErrUnknownType},
		"no type":                  {replace(`berth.pod.claimed.v1`, ``), events.ErrUnknownType},
		"an outcome without id":    {replace(`berth.pod.claimed.v1`, `berth.outcome.accepted.v1`), events.ErrMalformed},
		"an unknown verdict":       {replace(`berth.pod.claimed.v1`, `berth.outcome.postponed.v1`), events.ErrUnknownType},
		"a mark without age":       {replace(`berth.pod.claimed.v1`, `berth.mark.complete.v1`), events.ErrMalformed},
		"too large":                {good + strings.Repeat(" ", events.MaxEvent), events.ErrTooLarge},
		"a user too long":          {replace(`alice@dtu.dk`, strings.Repeat("ø", 400)), events.ErrTooLarge},
		"members nobody knows: ok": {replace(`"specversion"`, `"a":{"b":1},"specversion"`), nil},
		"at the limit: ok":         {good + strings.Repeat(" ", events.MaxEvent-len(good)), nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := events.Parse([]byte(tc.wire))
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if diff := cmp.Diff(events.Event{}, e, cmp.AllowUnexported(events.Record{}, events.Observed{})); tc.want != nil && diff != "" {
				t.Errorf("an event comes with the error:\n%s", diff)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*events.Event)
		want   error
	}{
		"no id":               {func(e *events.Event) { e.ID = "" }, events.ErrMalformed},
		"no source":           {func(e *events.Event) { e.Source = "" }, events.ErrMalformed},
		"no time":             {func(e *events.Event) { e.Time = time.Time{} }, events.ErrMalformed},
		"a time after all":    {func(e *events.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, events.ErrMalformed},
		"a record's time":     {func(e *events.Event) { e.Record.ReadyAt = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }, events.ErrMalformed},
		"no data":             {func(e *events.Event) { e.Record = nil }, events.ErrMalformed},
		"two data":            {func(e *events.Event) { e.Mark = &events.Mark{Cluster: cluster, Created: 1} }, events.ErrMalformed},
		"no event":            {func(e *events.Event) { e.Record.Event = "" }, events.ErrUnknownType},
		"an unknown event":    {func(e *events.Event) { e.Record.Event = "paused" }, events.ErrUnknownType},
		"no cluster":          {func(e *events.Event) { e.Record.Cluster = "" }, events.ErrMalformed},
		"no pod":              {func(e *events.Event) { e.Record.Pod = "" }, events.ErrMalformed},
		"no user":             {func(e *events.Event) { e.Record.User = "" }, events.ErrMalformed},
		"a user not in UTF-8": {func(e *events.Event) { e.Record.User = "a\xff" }, events.ErrMalformed},
		"a user too long":     {func(e *events.Event) { e.Record.User = strings.Repeat("ø", 400) }, events.ErrTooLarge},
		"too many warnings":   {func(e *events.Event) { e.Record.Warnings = []string{strings.Repeat("x", events.MaxEvent)} }, events.ErrTooLarge},
		"an outcome without verdict": {func(e *events.Event) {
			e.Record, e.Outcome = nil, &events.Outcome{Command: command}
		}, events.ErrUnknownType},
		"an outcome without id": {func(e *events.Event) {
			e.Record, e.Outcome = nil, &events.Outcome{Verdict: events.Accepted}
		}, events.ErrMalformed},
		"a mark without age": {func(e *events.Event) { e.Record, e.Mark = nil, &events.Mark{Cluster: cluster} }, events.ErrMalformed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := event(after(t, claim()))
			tc.change(&e)
			if b, err := e.Marshal(); !errors.Is(err, tc.want) || b != nil {
				t.Errorf("%d bytes, error %v, want %v", len(b), err, tc.want)
			}
		})
	}
	if got := (events.Event{}).CloudEventType(); got != "" {
		t.Errorf("an event without data has type %q", got)
	}
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	types, reasons := map[string]bool{}, map[string]bool{}
	for _, i := range events.Types() {
		if types[string(i.Type)] || i.Means == "" || i.Appended == "" || !i.Type.Known() {
			t.Errorf("type %q is there twice or not described", i.Type)
		}
		types[string(i.Type)] = true
	}
	for _, i := range events.Reasons() {
		if reasons[string(i.Reason)] || i.Means == "" || !i.Reason.Known() {
			t.Errorf("reason %q is there twice or not described", i.Reason)
		}
		reasons[string(i.Reason)] = true
	}
	if events.Type("paused").Known() || events.Reason("BAD_LUCK").Known() {
		t.Error("what is not on the lists is known")
	}
	// Every constant in the source is on its list.
	for file, known := range map[string]map[string]bool{"type.go": types, "reason.go": reasons} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(src)) {
			fields := strings.Fields(line)
			if len(fields) == 4 && fields[2] == "=" && (fields[1] == "Type" || fields[1] == "Reason") && !known[strings.Trim(fields[3], `"`)] {
				t.Errorf("%s of %s is not on the list", fields[0], file)
			}
		}
	}
}

func TestTypePredicates(t *testing.T) {
	t.Parallel()
	var over, outcome []events.Type
	for _, i := range events.Types() {
		if i.Type.Over() {
			over = append(over, i.Type)
		}
		if i.Type.Outcome() {
			outcome = append(outcome, i.Type)
		}
	}
	if diff := cmp.Diff([]events.Type{events.Failed, events.Deleting, events.Gone}, over); diff != "" {
		t.Errorf("over (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]events.Type{events.Ready, events.Failed, events.Gone}, outcome); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
