package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
	"berth/pkg/events"
)

func (a *app) project() *cobra.Command {
	return group("project", "Start, stop, restart and look at projects", `
The pods of projects: each has one, of the site's template, as its licenses make it.
For administrators, and for silos that may manage projects.`,
		`  berth project start 8e03978e-40d5-43e8-bc93-6894a57f9324 --token-file admin.token
  berth project get 8e03978e-40d5-43e8-bc93-6894a57f9324
  berth why 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		a.projectStart(), a.projectRestart(), a.projectStop(), a.projectGet(), a.projectWatch(), a.projectActivity())
}

// projectStart is the command line of project start.
type projectStart struct {
	id, image, tag, config string
	env, reset             []string
	again                  bool
	noWait                 bool
	timeout                time.Duration
}

func (a *app) projectStart() *cobra.Command {
	var s projectStart
	cmd := &cobra.Command{
		Use:   "start PROJECT_ID",
		Short: "Start a project and wait until it is ready",
		Long: `Start a project, and wait until its pod is ready. One that runs is left alone; one
that is being stopped is started when it has stopped. What is not given is as it was
at the last start; --reset takes it back to what the site gives: its image and tag, no
variables, an empty configuration.

The name of the pod goes to stdout; progress goes to stderr. With --json stdout has
one object, at the end: pod_name, user_id, event, reason, message, duration_seconds.`,
		Example: `  berth project start 8e03978e-40d5-43e8-bc93-6894a57f9324
  berth project start 8e03978e-40d5-43e8-bc93-6894a57f9324 --tag 2026.2 --env LANG=da_DK.UTF-8 --config project.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.id = args[0]
			for _, flag := range []string{"image", "tag", "config"} {
				if cmd.Flags().Changed(flag) && cmd.Flags().Lookup(flag).Value.String() == "" {
					return usage("--%s is empty: leave it out for that of the last start, or give --reset %s for the site's", flag, flag)
				}
			}
			return a.runProjectStart(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&s.image, "image", "", "the image of the pod")
	cmd.Flags().StringVar(&s.tag, "tag", "", "the tag of the image")
	cmd.Flags().StringArrayVar(&s.env, "env", nil, "set a variable, `NAME=VALUE`; may be repeated")
	cmd.Flags().StringVar(&s.config, "config", "", "a `FILE` with the project's configuration, a JSON object; - is stdin")
	cmd.Flags().StringSliceVar(&s.reset, "reset", nil, "back to what the site gives: "+strings.Join(resets(), ", ")+", with commas between")
	cmd.Flags().BoolVar(&s.noWait, "no-wait", false, "do not wait until the pod is ready")
	cmd.Flags().DurationVar(&s.timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{
		"timeout": completeTimes, "config": completeFiles, "reset": cobra.FixedCompletions(resets(), cobra.ShellCompDirectiveNoFileComp),
	})
}

func (a *app) projectRestart() *cobra.Command {
	s := projectStart{again: true}
	cmd := &cobra.Command{
		Use:   "restart PROJECT_ID",
		Short: "Restart a project and wait until it is ready",
		Long: `Have the pod of a project replaced, and wait until the next one is ready. A project
that does not run is started. Output as of start.`,
		Example: `  berth project restart 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.id = args[0]
			return a.runProjectStart(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&s.noWait, "no-wait", false, "do not wait until the next pod is ready")
	cmd.Flags().DurationVar(&s.timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

// resets are what --reset takes.
func resets() []string {
	return []string{events.ResetImage, events.ResetTag, events.ResetEnv, events.ResetConfig}
}

// projectRequest is what the command line asks the service for.
func (a *app) projectRequest(s projectStart) (client.StartProject, error) {
	request := client.StartProject{Image: s.image, Tag: s.tag, Reset: s.reset, WaitReady: !s.noWait}
	for _, member := range s.reset {
		if !slices.Contains(resets(), member) {
			return request, usage("--reset takes %s, not %q", strings.Join(resets(), ", "), member)
		}
	}
	var err error
	if request.ID, err = projectID("project", s.id); err != nil {
		return request, err
	}
	for i, text := range s.env {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := request.Env[name]; !ok || name == "" || twice {
			return request, usage("--env number %d is not NAME=VALUE, or gives a name twice", i+1)
		}
		if request.Env == nil {
			request.Env = map[string]string{}
		}
		request.Env[name] = value
	}
	if s.config != "" {
		text, err := a.readFile("--config", s.config)
		if err != nil {
			return request, err
		}
		if !json.Valid(text) {
			return request, usage("--config: %s is no JSON", s.config)
		}
		request.Config = text
	}
	return request, nil
}

func (a *app) runProjectStart(ctx context.Context, s projectStart) error {
	request, err := a.projectRequest(s)
	if err != nil {
		return err
	}
	began, name := time.Now(), client.ProjectPod(request.ID)
	d := a.newDisplay(name)
	return a.withService(ctx, s.timeout, d, func(ctx context.Context, api *client.Client) error {
		done := func() {}
		if !s.noWait {
			done = a.showProject(ctx, api, request.ID, d)
		}
		var pod client.Pod
		var err error
		what := "start"
		if s.again {
			what = "restart"
			pod, err = api.RestartProject(ctx, request.ID, !s.noWait)
		} else {
			pod, err = api.StartProject(ctx, request)
		}
		done()
		if err != nil {
			f := failed(ctx, what+" project "+request.ID+" at "+api.URL(), err)
			f.pod = name
			if client.Uncertain(err) || f.code == ExitTimeout || f.code == ExitInterrupted {
				f.hint = a.again("project watch " + request.ID)
			}
			return f
		}
		a.tellProject(pod, time.Since(began), s.noWait)
		return nil
	})
}

// tellProject tells how a start has ended.
func (a *app) tellProject(pod client.Pod, took time.Duration, noWait bool) {
	if a.json {
		change := track.ChangeOf(pod)
		a.writeJSON(a.Stdout, outcome{
			Pod: pod.Name, User: pod.User, Event: change.Event, Reason: change.Reason, Message: change.Message, Duration: seconds(took),
		})
		return
	}
	fmt.Fprintln(a.Stdout, pod.Name)
	switch {
	case a.quiet:
	case pod.Restarting:
		fmt.Fprintln(a.Stderr, pod.Name, "is being deleted; another one follows")
	case !noWait:
		fmt.Fprintf(a.Stderr, "%s is %s after %s\n", pod.Name, progress.Clean(pod.Event), progress.Duration(took))
	}
}

// showProject shows what happens to the pod of a project until the function returned is called. It is for people; that
// it cannot be followed is no fault.
func (a *app) showProject(ctx context.Context, api *client.Client, id string, d *display) (done func()) {
	if d.manner == silent {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := d.start()
	ended := make(chan struct{})
	d.show([]progress.Change{{Event: progress.Requested, At: time.Now()}})
	go func() {
		defer close(ended)
		patience := licensePatience{tell: d.notice}
		defer patience.end()
		for e, err := range api.Events(ctx, client.Stream{User: client.ProjectUser(id)}) {
			if err != nil {
				return
			}
			if e.Kind == client.PodChanged && events.Type(e.Pod.Event) != events.Gone {
				d.show([]progress.Change{track.ChangeOf(e.Pod)})
				patience.see(events.Type(e.Pod.Event))
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		stop()
	}
}

func (a *app) projectStop() *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop PROJECT_ID",
		Short: "Stop a project and wait until its pod is gone",
		Long: `Have the pod of a project deleted, and none made after it, whatever was asked before;
wait until nothing of it is left. A project that does not run is no fault. With --json
stdout has one object.`,
		Example: `  berth project stop 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runProjectStop(cmd.Context(), args[0], noWait, timeout)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until the pod is gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) runProjectStop(ctx context.Context, text string, noWait bool, timeout time.Duration) error {
	return a.onProject(ctx, text, timeout, func(ctx context.Context, id string, api *client.Client) error {
		began, name := time.Now(), client.ProjectPod(id)
		pod, err := api.StopProject(ctx, id, false)
		switch {
		case err != nil:
			return failed(ctx, "stop project "+id+" at "+api.URL(), err)
		case (pod == nil || noWait) && a.json:
			o := outcome{Pod: name, User: client.ProjectUser(id), Event: events.Gone, Duration: seconds(time.Since(began))}
			if pod != nil {
				o.Event = events.Type(pod.Event)
			}
			a.writeJSON(a.Stdout, o)
			return nil
		case pod == nil:
			if !a.quiet {
				fmt.Fprintln(a.Stderr, "project", id, "does not run")
			}
			return nil
		case noWait:
			return nil
		}
		a.user = pod.User
		w := &wait{app: a, api: api, display: a.newDisplay(name), user: pod.User, pod: pod.Name, known: *pod, goal: track.Gone, began: began}
		return w.run(ctx)
	})
}

// onProject does something about a project within a time, 0 for any.
func (a *app) onProject(ctx context.Context, text string, timeout time.Duration, do func(ctx context.Context, id string, api *client.Client) error) error {
	id, err := projectID("project", text)
	if err != nil {
		return err
	}
	return a.withService(ctx, timeout, a.newDisplay(""), func(ctx context.Context, api *client.Client) error { return do(ctx, id, api) })
}

func (a *app) projectGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get PROJECT_ID",
		Short: "Show a project",
		Long: `Show what is known of a project: its pod, what became of its licenses, what set what in
its pod, and what the database knows. With --json stdout has one object.`,
		Example: `  berth project get 8e03978e-40d5-43e8-bc93-6894a57f9324
  berth project get 8e03978e-40d5-43e8-bc93-6894a57f9324 --json | jq .last_start.quota`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onProject(cmd.Context(), args[0], 0, func(ctx context.Context, id string, api *client.Client) error {
				p, err := api.Project(ctx, id)
				switch {
				case err != nil:
					return failed(ctx, "show project "+id+" at "+api.URL(), err)
				case a.json:
					a.writeJSON(a.Stdout, p)
				default:
					fmt.Fprint(a.Stdout, projectDetails(p))
				}
				return nil
			})
		},
	}
}

// projectDetails is a project, a line for each thing that is known of it.
func projectDetails(p client.Project) string {
	text := &details{}
	text.line("project", p.ID)
	if p.Event == "" {
		text.line("status", "it has no pod")
	} else {
		text.line("status", strings.TrimSuffix(p.Event+"  "+progress.Cause(events.Reason(p.Reason), p.Message), "  "))
	}
	if p.Pod != nil {
		text.line("pod", p.Pod.Name)
		text.line("image", p.Pod.Image)
		text.line("node", p.Pod.Node)
		text.line("addresses", strings.Join(p.Pod.Addresses, " "))
		text.moment("created", p.Pod.CreatedAt)
		text.moment("ready", p.Pod.ReadyAt)
	}
	text.moment("idle stop", p.IdleStop)
	text.line("unknown", p.Database.Unavailable)
	licenses := p.Licenses
	if row := p.Database.Project; row != nil {
		text.line("state", row.State)
		text.line("error", row.Error)
		text.moment("used last", row.LastActivity)
		if row.IdleTimeout > 0 {
			text.line("idle after", progress.Duration(time.Duration(row.IdleTimeout*float64(time.Second))))
		}
		if row.AlwaysRunning {
			text.line("runs", "always")
		}
		if row.Failures > 0 {
			text.line("failures", fmt.Sprintf("%d in a row", row.Failures))
		}
		text.moment("next try", row.RetryAt)
		if len(row.Licenses) > 0 {
			licenses = row.Licenses
		}
	}
	for _, l := range licenses {
		text.line("license", licenseWords(l))
	}
	if p.Start != nil {
		text.moment("made", p.Start.At)
		return text.String() + explained(p.Start.Explanation)
	}
	return text.String()
}

// licenseWords says what became of a license.
func licenseWords(l client.License) string {
	words := strings.TrimSpace(l.ID + " " + l.Title)
	if l.Status != "" {
		words += ": " + l.Status
	}
	if l.Reason != "" && l.Reason != l.Status {
		words += " (" + l.Reason + ")"
	}
	return words
}

func (a *app) projectWatch() *cobra.Command {
	var untilGone bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "watch PROJECT_ID",
		Short:   "Watch a project until its pod is ready, or gone",
		Long:    `Watch the pod of a project until it is ready, or never will be; with --delete until it is gone.`,
		Example: `  berth project watch 8e03978e-40d5-43e8-bc93-6894a57f9324 --timeout 1m`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := projectID("project", args[0])
			if err != nil {
				return err
			}
			goal := track.Ready
			if untilGone {
				goal = track.Gone
			}
			a.user = client.ProjectUser(id)
			return a.runWatch(cmd.Context(), client.ProjectPod(id), goal, timeout)
		},
	}
	cmd.Flags().BoolVar(&untilGone, "delete", false, "watch a stop until the pod is gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to watch; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) projectActivity() *cobra.Command {
	return &cobra.Command{
		Use:     "activity PROJECT_ID",
		Short:   "Say that a project is used, so that its idle timeout begins anew",
		Example: `  berth project activity 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onProject(cmd.Context(), args[0], 0, func(ctx context.Context, id string, api *client.Client) error {
				if err := api.ProjectActivity(ctx, id); err != nil {
					return failed(ctx, "note that project "+id+" is used at "+api.URL(), err)
				}
				return nil
			})
		},
	}
}

// runWhyProject says why a project is as it is.
func (a *app) runWhyProject(ctx context.Context, text string) error {
	return a.onProject(ctx, text, 0, func(ctx context.Context, id string, api *client.Client) error {
		p, err := api.Project(ctx, id)
		if err != nil {
			return failed(ctx, "look at project "+id+" at "+api.URL(), err)
		}
		a.user = client.ProjectUser(id)
		timeline, err := api.Timeline(ctx, a.user, client.ProjectPod(id), "")
		if err != nil && !client.NotFound(err) {
			return failed(ctx, "read the timeline of project "+id+" at "+api.URL(), err)
		}
		o := outcome{Pod: client.ProjectPod(id), User: a.user, Event: events.Type(p.Event), Reason: events.Reason(p.Reason), Message: p.Message}
		said, waits := "project "+id+" has no pod", ""
		if len(timeline.Phases) > 0 {
			decisive, now := decisive(timeline)
			o.Reason, o.Message, o.Duration = events.Reason(decisive.Reason), decisive.Message, now.Duration
			said = sentence("project "+id, decisive, now)
			waits = unlicensed(now)
			o.Message = cmp.Or(o.Message, waits)
		}
		if row := p.Database.Project; row != nil && p.Pod == nil {
			o.Message = cmp.Or(o.Message, row.Error)
		}
		if a.json {
			a.writeJSON(a.Stdout, o)
			return nil
		}
		fmt.Fprintln(a.Stdout, said)
		if waits != "" {
			fmt.Fprintln(a.Stdout, waits)
		}
		for _, line := range besides(p) {
			fmt.Fprintln(a.Stdout, progress.Clean(line))
		}
		return nil
	})
}

// besides is what else explains the state of a project.
func besides(p client.Project) []string {
	var lines []string
	licenses := p.Licenses
	if row := p.Database.Project; row != nil {
		if row.Error != "" {
			lines = append(lines, faultWords(p, row.Error))
		}
		if !row.RetryAt.IsZero() {
			lines = append(lines, retryWords(*row))
		}
		if p.Pod == nil {
			licenses = row.Licenses
		}
	}
	if p.Pod != nil && p.Pod.Restarting {
		lines = append(lines, "another pod follows")
	}
	if !p.IdleStop.IsZero() {
		lines = append(lines, "it will be stopped at "+p.IdleStop.UTC().Format(time.RFC3339)+" unless somebody uses it")
	}
	for _, l := range licenses {
		if l.Status != "active" && l.Status != "" {
			lines = append(lines, "license "+licenseWords(l))
		}
	}
	if p.Database.Unavailable != "" {
		lines = append(lines, "what the database knows cannot be told: "+p.Database.Unavailable)
	}
	return lines
}

// faultWords says what comes of it that no pod can be made of a project as its licenses, settings and template are.
func faultWords(p client.Project, fault string) string {
	if p.Pod == nil || events.Type(p.Event).Over() {
		return "it does not run where it should: " + fault
	}
	return "no other pod can be made of it as its licenses and the template are now, so it keeps the one that it has: " + fault
}

// retryWords says of a project that is to run always when it is started again.
func retryWords(row client.ProjectRow) string {
	text := "it is tried again at " + row.RetryAt.UTC().Format(time.RFC3339)
	if row.Failures > 0 {
		text = fmt.Sprintf("failures in a row: %d; ", row.Failures) + text
	}
	return text
}

// readFile reads a file whose name a flag gives; - is stdin.
func (a *app) readFile(flag, name string) ([]byte, error) {
	text, err := a.input(name)
	if err != nil {
		return nil, unread(flag, err)
	}
	return text, nil
}
