package store_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/services/licenser/internal/store"
)

// ask is a start by a command with these values.
func ask(life int, command string, p events.ProjectRequest) store.CheckRequest {
	req := start(projectA, life)
	p.ID = projectA
	req.Command, req.Project = command, &p
	return req
}

// TestExtras: a start has what it asks for, and the rest as at the last start; one that comes to nothing leaves no trace.
func TestExtras(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := store.Extras{Image: "a", Tag: "1", Env: map[string]string{"X": "1"}, Config: json.RawMessage(`{"y": 2}`)}
	none := store.Extras{Env: map[string]string{}, Config: json.RawMessage(`{}`)}
	all := events.ProjectRequest{Image: "a", Tag: "1", Env: map[string]string{"X": "1"}, Config: json.RawMessage(`{"y":2}`)}
	other := store.Extras{Image: "b", Tag: "1", Env: map[string]string{"Z": "3"}, Config: first.Config}
	change := events.ProjectRequest{Image: "b", Env: map[string]string{"Z": "3"}}
	reset := []string{events.ResetImage, events.ResetTag, events.ResetEnv, events.ResetConfig}
	// One after the other.
	for i, step := range []struct {
		command string
		ask     events.ProjectRequest
		undo    string // Afterwards, that command comes to nothing.
		ready   bool   // Afterwards, the pod is ready.
		want    store.Extras
	}{
		{command: "one", ask: all, want: first, undo: "one"},
		{command: "two", want: store.Extras{}},
		{command: "three", ask: all, want: first, ready: true},
		{command: "four", want: first},
		{command: "five", ask: change, want: other},
		{command: "five", ask: change, want: other, undo: "five"}, // Delivered again.
		{command: "six", want: first},
		{command: "seven", ask: change, want: other, undo: "six"}, // Another one has begun since.
		{command: "eight", want: other, ready: true},
		{command: "nine", ask: events.ProjectRequest{Reset: reset}, want: none, undo: "nine"},
		{command: "ten", ask: events.ProjectRequest{Tag: "7", Reset: reset}, want: store.Extras{Tag: "7", Env: none.Env, Config: none.Config}, ready: true},
		{command: "eleven", want: store.Extras{Tag: "7", Env: none.Env, Config: none.Config}},
	} {
		facts := f.check(t, ask(i+1, step.command, step.ask))
		if d := cmp.Diff(step.want, facts.Project.Extras); d != "" {
			t.Errorf("start %d, %s (-want +got):\n%s", i, step.command, d)
		}
		if unsettled, err := f.Unsettled(t.Context(), projectA); err != nil || unsettled != step.command {
			t.Errorf("unsettled is %q, %v, want %q", unsettled, err, step.command)
		}
		if step.undo != "" {
			if err := f.Undo(t.Context(), projectA, step.undo); err != nil {
				t.Fatal(err)
			}
		}
		if step.ready {
			if err := f.Lives(t.Context(), projectA, time.Now(), true); err != nil {
				t.Fatal(err)
			}
			if unsettled, err := f.Unsettled(t.Context(), projectA); err != nil || unsettled != "" {
				t.Errorf("unsettled is %q, %v, once it is ready", unsettled, err)
			}
		}
	}
}

// TestWhoseValue: a value that PostgreSQL does not take is the start's fault, or not.
func TestWhoseValue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, tt := range map[string]struct {
		ask   events.ProjectRequest
		quota string
		want  error
		says  string
	}{
		"image":        {ask: events.ProjectRequest{Image: "a\x00"}, want: store.ErrAsked, says: "image"},
		"tag":          {ask: events.ProjectRequest{Tag: "\xff"}, want: store.ErrAsked, says: "tag"},
		"env":          {ask: events.ProjectRequest{Env: map[string]string{"A": "hunter2\x00"}}, want: store.ErrAsked, says: "env"},
		"config":       {ask: events.ProjectRequest{Config: json.RawMessage(`{"hunter2":1e200000}`)}, want: store.ErrAsked, says: "config"},
		"the licenses": {quota: `{"patch":"\u0000"}`, want: store.ErrInvalid},
	} {
		err := f.Check(t.Context(), ask(1, name, tt.ask), func(store.Facts) (store.Decision, error) {
			return store.Decision{Write: true, RunQuota: json.RawMessage(tt.quota)}, nil
		})
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %v that says %q", name, err, tt.want, tt.says)
		}
	}
}

// TestSeatsOfAnother: a pod that was found goes on with the seats of its own user, not with those that somebody else has under
// its name.
func TestSeatsOfAnother(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	f.check(t, start(projectA, 1))
	for _, user := range []string{"alice", events.ProjectUser(projectA)} {
		if err := f.InheritSeats(t.Context(), cluster, events.ProjectPod(projectA), user, generation(2)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"alice": generation(1)}[user]
		if want == "" {
			want = generation(2)
		}
		if got := f.value(t, `SELECT generation FROM berth.seats`); got != want {
			t.Errorf("inherited by %s, the seat is of %s, want %s", user, got, want)
		}
	}
}

// TestBounded: whatever a fault says, it can be stored.
func TestBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `INSERT INTO public.projects (project_id) VALUES ($1)`, projectA)
	for name, fault := range map[string]string{"long": strings.Repeat("ä", 5000), "NUL": "a\x00b", "no UTF-8": "a\xffb"} {
		if err := errors.Join(f.SetState(t.Context(), projectA, "opened", fault), f.NoteFault(t.Context(), projectA, "x", fault)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, query := range []string{`SELECT length(state ->> 'error') FROM public.projects`, `SELECT length(error) FROM berth.projects`} {
			if n := f.value(t, query); n == "NULL" || len(n) > 3 {
				t.Errorf("%s: %s letters are stored", name, n)
			}
		}
	}
}
