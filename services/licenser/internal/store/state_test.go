package store_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"berth/services/licenser/internal/store"
)

// TestErrorInTheRow: what the row says is wrong stays until the project comes into another state, or a request is done; and who asks hears it
// where the project does not run.
func TestErrorInTheRow(t *testing.T) {
	t.Parallel()
	const refused = "action_request: the action dance is unknown"
	tests := map[string]struct {
		row    string // The row's state before; empty: as it is when a request was refused just now.
		state  string // The state that the log has.
		since  time.Duration
		never  bool // The log does not say since when.
		astray bool
		want   string // The row's error after that.
	}{
		"refused since":               {state: "running", since: -time.Hour, want: refused},
		"refused since, of no pod":    {state: "opened", since: -time.Hour, want: refused},
		"refused before":              {state: "running", since: time.Hour, astray: true},
		"another state":               {row: `{"state":"starting","error":"old","time":"9999"}`, state: "running", since: -time.Hour, astray: true},
		"an old one":                  {row: `{"state":"running","error":"old","time":"2020-01-02T03:04:05.678Z"}`, state: "running", since: -time.Hour, astray: true},
		"one without a time":          {row: `{"state":"running","error":"old"}`, state: "running", since: -time.Hour, astray: true},
		"one with an odd time":        {row: `{"state":"running","error":"old","time":{"x":1}}`, state: "running", since: -time.Hour, want: "old"},
		"nobody knows since when":     {row: `{"state":"opened","error":"old"}`, state: "opened", never: true, want: "old"},
		"nothing is wrong":            {row: `{"state":"running","time":"2020-01-02T03:04:05.678Z"}`, state: "running", since: -time.Hour},
		"nothing is wrong, in a word": {row: `{"state":"running","error":"","time":"2020-01-02T03:04:05.678Z"}`, state: "running", since: -time.Hour},
		"no state":                    {row: `null`, state: "running", since: -time.Hour, astray: true},
		"an odd state":                {row: `[1]`, state: "running", since: -time.Hour, astray: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, ctx := setup(t), t.Context()
			f.exec(t, `INSERT INTO public.projects (project_id) VALUES ($1)`, projectA)
			if tt.row != "" {
				f.exec(t, `UPDATE public.projects SET state = $1`, tt.row)
			} else if err := f.SetState(ctx, projectA, tt.state, refused); err != nil {
				t.Fatal(err)
			}
			standing := store.Standing{Project: projectA, State: tt.state, Since: time.Now().Add(tt.since)}
			if tt.never {
				standing.Since = time.Time{}
			}
			astray, err := f.Astray(ctx, []store.Standing{standing})
			if err != nil || slices.Contains(astray, projectA) != tt.astray {
				t.Errorf("astray: %v, want %t (%v)", astray, tt.astray, err)
			}
			if err := f.Enter(ctx, standing); err != nil {
				t.Fatal(err)
			}
			if got := f.value(t, `SELECT (state ->> 'state') || ': ' || coalesce(state ->> 'error', '') FROM public.projects`); got != tt.state+": "+tt.want {
				t.Errorf("the row has %q, want %q", got, tt.state+": "+tt.want)
			}
			// Looked at again, it is not written again.
			if again, err := f.Astray(ctx, []store.Standing{standing}); len(again) > 0 || err != nil {
				t.Errorf("astray again: %v, %v", again, err)
			}
			written := f.value(t, `SELECT xmin FROM public.projects`)
			if err := f.Enter(ctx, standing); err != nil {
				t.Fatal(err)
			}
			if got := f.value(t, `SELECT xmin FROM public.projects`); got != written {
				t.Error("the row was written again")
			}
			told := ""
			if tt.state != "running" {
				told = tt.want
			}
			if p, err := f.Project(ctx, projectA); err != nil || p.Error != told {
				t.Errorf("project: error %q, want %q (%v)", p.Error, told, err)
			}
		})
	}
}

// TestErrorOfARequest: a request that is done takes what the row says is wrong with it, one that is refused does not.
func TestErrorOfARequest(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]map[string]string{
		`{"state":"running","time":"x","error":"old"}`: {"": `{"time": "x", "error": "old", "state": "running"}`, "command": `{"time": "x", "state": "running"}`},
		`{"state":"running"}`:                          {"": `{"state": "running"}`, "command": `{"state": "running"}`},
		`"error"`:                                      {"": `"error"`, "command": `"error"`},
		`["error"]`:                                    {"": `["error"]`, "command": `["error"]`},
	} {
		for command, want := range want {
			f, ctx := setup(t), t.Context()
			r := store.ActionRequest{Project: projectA, Request: json.RawMessage(`{"action": "start"}`)}
			f.exec(t, `INSERT INTO public.projects (project_id, state, action_request) VALUES ($1, $2, $3)`, projectA, state, string(r.Request))
			if _, _, err := f.Command(ctx, r, "command"); err != nil {
				t.Fatal(err)
			}
			if err := f.ClearRequest(ctx, r, command); err != nil {
				t.Fatal(err)
			}
			if got := f.value(t, `SELECT state FROM public.projects WHERE action_request IS NULL`); got != want {
				t.Errorf("%s, command %q: %s, want %s", state, command, got, want)
			}
		}
	}
}
