package events_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

// commands are a command of each stage.
func commands() map[events.Stage]events.Command {
	base := func(s events.Stage) events.Command {
		return events.Command{
			Stage: s, ID: command, Cluster: cluster, User: user, Pod: pod, Generation: generation,
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		}
	}
	create := base(events.StageCreate)
	create.Pod, create.Generation = "", ""
	create.Create = &events.CreateRequest{
		ManifestURL: "https://example.org/jupyter.yaml",
		Settings:    map[string]map[string]string{"jupyter": {"WORKDIR": "a/b", "SHELL": "/bin/bash"}, "sidecar": {}},
		Silo:        events.Silo{Name: "silo1", DataAddress: "10.2.0.1", HostName: "silo1.example.org"},
		Deadline:    at(30),
	}
	license, launch := base(events.StageLicense), base(events.StageLaunch)
	license.Rendered = json.RawMessage(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"jupyter-alice"}}`)
	launch.Rendered = license.Rendered
	remove := base(events.StageDelete)
	remove.Delete = &events.DeleteRequest{Timer: events.TimerDelete, Vanished: uid, Found: "5d0c9a6e-0002", LaunchOver: true}
	user, sweep := base(events.StageDeleteUser), base(events.StageSweep)
	user.Pod, user.Generation = "", ""
	sweep.User, sweep.Pod, sweep.Generation = "", "", ""
	sweep.Sweep = &events.SweepRequest{DryRun: true, Spare: 60}
	restart, task := base(events.StageRestart), base(events.StageProject)
	restart.User, restart.Pod = events.ProjectUser(project), events.ProjectPod(project)
	restart.Restart = &events.Restart{Command: "0f0e0d0c", Cause: events.CauseLicenses, Message: "license Course 2026 has changed"}
	task.User, task.Pod, task.Generation = "", "", ""
	task.Task = &events.ProjectTask{Do: events.TaskRecompute, Project: project, At: at(60), Cause: events.CauseLicenses, After: "x"}
	return map[events.Stage]events.Command{
		events.StageCreate: create, events.StageLicense: license, events.StageLaunch: launch, events.StageFinish: base(events.StageFinish),
		events.StageDelete: remove, events.StageDeleteUser: user, events.StageSweep: sweep,
		events.StageRestart: restart, events.StageProject: task,
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	for _, stage := range events.Stages() {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			c, ok := commands()[stage]
			if !ok {
				t.Fatal("no example")
			}
			b, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, b, "commands", string(stage)+".json")
			back, err := events.ParseCommand(b)
			if diff := cmp.Diff(c, back); diff != "" || err != nil {
				t.Errorf("read again, error %v (-want +got):\n%s", err, diff)
			}
			if got, want := c.Subject(), "cmd.main."+string(stage)+"."+command; got != want {
				t.Errorf("subject %s, want %s", got, want)
			}
			if got, want := c.MsgID("17"), command+"."+string(stage)+".17"; got != want {
				t.Errorf("message id %s, want %s", got, want)
			}
		})
	}
}

func TestCommandCheck(t *testing.T) {
	t.Parallel()
	all := events.Stages()
	ofUser := slices.DeleteFunc(slices.Clone(all), func(s events.Stage) bool { return s == events.StageSweep || s == events.StageProject })
	create, rendered := []events.Stage{events.StageCreate}, []events.Stage{events.StageLicense, events.StageLaunch}
	ofAnyone := slices.DeleteFunc(slices.Clone(all), func(s events.Stage) bool { return s == events.StageRestart })
	restart, task := []events.Stage{events.StageRestart}, []events.Stage{events.StageProject}
	ofPod := []events.Stage{events.StageRestart, events.StageLicense, events.StageLaunch, events.StageFinish, events.StageDelete}
	tests := map[string]struct {
		stages []events.Stage
		change func(*events.Command)
		want   error
		names  string
	}{
		"unknown stage":       {all, func(c *events.Command) { c.Stage = "paint" }, events.ErrStage, "paint"},
		"no id":               {all, func(c *events.Command) { c.ID = "" }, events.ErrMalformed, "command_id"},
		"no cluster":          {all, func(c *events.Command) { c.Cluster = "" }, events.ErrMalformed, "cluster"},
		"no user":             {ofUser, func(c *events.Command) { c.User = "" }, events.ErrMalformed, "user_id"},
		"user not in UTF-8":   {all, func(c *events.Command) { c.User = "a\xff" }, events.ErrMalformed, "user_id"},
		"id not in UTF-8":     {all, func(c *events.Command) { c.ID = "a\xff" }, events.ErrMalformed, "command_id"},
		"user too long":       {all, func(c *events.Command) { c.User = strings.Repeat("ø", 400) }, events.ErrTooLarge, "subject"},
		"id too long":         {all, func(c *events.Command) { c.ID = strings.Repeat("ø", 400) }, events.ErrTooLarge, "subject"},
		"no pod":              {ofPod, func(c *events.Command) { c.Pod = "" }, events.ErrMalformed, "pod_name"},
		"no generation":       {ofPod, func(c *events.Command) { c.Generation = "" }, events.ErrMalformed, "generation"},
		"no create":           {create, func(c *events.Command) { c.Create = nil }, events.ErrMalformed, "create"},
		"no manifest":         {create, func(c *events.Command) { c.Create.ManifestURL = "" }, events.ErrMalformed, "create.manifest_url"},
		"no deadline":         {create, func(c *events.Command) { c.Create.Deadline = time.Time{} }, events.ErrMalformed, "create.deadline"},
		"nothing rendered":    {rendered, func(c *events.Command) { c.Rendered = nil }, events.ErrMalformed, "rendered"},
		"rendered null":       {rendered, func(c *events.Command) { c.Rendered = json.RawMessage("null") }, events.ErrMalformed, "rendered"},
		"rendered no JSON":    {rendered, func(c *events.Command) { c.Rendered = json.RawMessage("{") }, events.ErrMalformed, ""},
		"no delete":           {[]events.Stage{events.StageDelete}, func(c *events.Command) { c.Delete = nil }, events.ErrMalformed, "delete"},
		"no sweep":            {[]events.Stage{events.StageSweep}, func(c *events.Command) { c.Sweep = nil }, events.ErrMalformed, "sweep"},
		"a large one":         {rendered, func(c *events.Command) { c.Rendered = text(events.MaxManifest) }, nil, ""},
		"one too large":       {rendered, func(c *events.Command) { c.Rendered = text(events.MaxCommand) }, events.ErrTooLarge, "limit"},
		"no restart":          {restart, func(c *events.Command) { c.Restart = nil }, events.ErrMalformed, "restart"},
		"restart of a person": {restart, func(c *events.Command) { c.User = user }, events.ErrMalformed, "no project"},
		"no task":             {task, func(c *events.Command) { c.Task = nil }, events.ErrMalformed, "task"},
		"unknown reset": {create, func(c *events.Command) {
			c.User, c.Create = events.ProjectUser(project), &events.CreateRequest{
				Deadline: at(1), Project: &events.ProjectRequest{ID: project, Reset: []string{events.ResetImage, "paint"}},
			}
		}, events.ErrMalformed, "paint"},
		"resets": {create, func(c *events.Command) {
			c.User, c.Create = events.ProjectUser(project), &events.CreateRequest{Deadline: at(1), Project: &events.ProjectRequest{
				ID: project, Reset: []string{events.ResetImage, events.ResetTag, events.ResetEnv, events.ResetConfig},
			}}
		}, nil, ""},
		"unknown task":       {task, func(c *events.Command) { c.Task = &events.ProjectTask{Do: "paint"} }, events.ErrMalformed, "paint"},
		"task about nothing": {task, func(c *events.Command) { c.Task = &events.ProjectTask{Do: events.TaskLicense} }, events.ErrMalformed, "UUID"},
		"task for all":       {task, func(c *events.Command) { c.Task = &events.ProjectTask{Do: events.TaskSettings} }, nil, ""},
		"manifest and project": {
			create, func(c *events.Command) { c.Create.Project = &events.ProjectRequest{ID: project} }, events.ErrMalformed, "manifest_url and project",
		},
		"another's project": {create, func(c *events.Command) {
			c.Create = &events.CreateRequest{Deadline: at(1), Project: &events.ProjectRequest{ID: project}}
		}, events.ErrMalformed, "user_id"},
		"a project": {create, func(c *events.Command) {
			c.User, c.Create = events.ProjectUser(project), &events.CreateRequest{Deadline: at(1), Project: &events.ProjectRequest{ID: project}}
		}, nil, ""},
		"a user in any form": {ofAnyone, func(c *events.Command) { c.User = "project:0f7c> *.\x00å" }, nil, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, stage := range tc.stages {
				c := commands()[stage]
				tc.change(&c)
				_, err := c.Marshal()
				if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.names) {
					t.Errorf("%s: error %v, want %v that names %q", stage, err, tc.want, tc.names)
				}
			}
		})
	}
}

// text is a JSON string of a length.
func text(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }

func TestParseCommandRefuses(t *testing.T) {
	t.Parallel()
	b, err := commands()[events.StageDelete].Marshal()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		wire string
		want error
	}{
		"nothing":                  {"", events.ErrMalformed},
		"null":                     {"null", events.ErrStage},
		"another shape":            {"[1]", events.ErrMalformed},
		"a later stage":            {strings.Replace(string(b), `"delete"`, `"paint"`, 1), events.ErrStage},
		"no user":                  {strings.Replace(string(b), `"user_id":"alice@dtu.dk",`, ``, 1), events.ErrMalformed},
		"too large":                {string(b) + strings.Repeat(" ", events.MaxCommand), events.ErrTooLarge},
		"members nobody knows: ok": {strings.Replace(string(b), `{`, `{"priority":7,`, 1), nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := events.ParseCommand([]byte(tc.wire))
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if diff := cmp.Diff(events.Command{}, c); tc.want != nil && diff != "" {
				t.Errorf("a command comes with the error:\n%s", diff)
			}
		})
	}
}
