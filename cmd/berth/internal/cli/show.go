package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

// onePod is a command about one pod of the user.
func (a *app) onePod(ctx context.Context, name string, do func(ctx context.Context, api *client.Client) error) error {
	if _, err := a.userID(); err != nil {
		return err
	}
	if err := checkPod(name); err != nil {
		return err
	}
	return a.withService(ctx, 0, a.newDisplay(""), do)
}

// missing is the failure of a command about a pod.
func (a *app) missing(ctx context.Context, what, name string, api *client.Client, err error) error {
	if client.NotFound(err) {
		return &failure{
			code: ExitNotFound, reason: string(events.NotFound), pod: name, message: fmt.Sprintf("%s has no pod %s", a.user, name),
		}
	}
	return failed(ctx, what+" "+name+" at "+api.URL(), err)
}

func (a *app) podsGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show a pod",
		Long: `Show everything that the service says about a pod of a user. With --json stdout
has one object.`,
		Example: `  berth pods get notebook-alice-example-org --user alice@example.org
  berth pods get notebook-alice-example-org --json | jq -r .url`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onePod(cmd.Context(), args[0], func(ctx context.Context, api *client.Client) error {
				pod, err := api.Pod(ctx, a.user, args[0])
				switch {
				case err != nil:
					return a.missing(ctx, "show", args[0], api, err)
				case a.json:
					a.writeJSON(a.Stdout, shown{PodName: pod.Name, Pod: pod})
				default:
					fmt.Fprint(a.Stdout, podDetails(pod))
				}
				return nil
			})
		},
	}
}

// podDetails is a pod, a line for each thing that is known of it.
func podDetails(p client.Pod) string {
	text := &details{}
	text.line("name", p.Name)
	text.line("user", p.User)
	text.line("generation", p.Generation)
	text.line("status", strings.TrimSuffix(p.Event+"  "+progress.Cause(events.Reason(p.Reason), p.Message), "  "))
	for _, warning := range p.Warnings {
		text.line("warning", warning)
	}
	text.line("url", p.URL)
	text.line("ssh", p.SSH)
	text.line("image", p.Image)
	text.line("manifest", p.Manifest)
	text.line("silo", p.Silo)
	text.line("addresses", strings.Join(p.Addresses, " "))
	text.line("node", p.Node)
	if p.Restarts > 0 {
		text.line("restarts", strconv.Itoa(p.Restarts))
	}
	for _, l := range p.Licenses {
		text.line("license", strings.TrimSpace(l.ID+" "+l.Status+" "+l.Reason))
	}
	text.moment("created", p.CreatedAt)
	text.moment("launched", p.LaunchedAt)
	text.moment("started", p.StartedAt)
	text.moment("ready", p.ReadyAt)
	text.moment("deleting", p.DeletingAt)
	text.moment("updated", p.UpdatedAt)
	return text.String()
}

func (a *app) podsTokens() *cobra.Command {
	return &cobra.Command{
		Use:   "tokens NAME",
		Short: "Show the tokens of a pod",
		Long: `Show the files that a pod's manifest asks to be copied out of the pod, a line
each: key and content. They are secrets. With --json stdout has one object.`,
		Example:           `  berth pods tokens notebook-alice-example-org --json | jq -r .key`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onePod(cmd.Context(), args[0], func(ctx context.Context, api *client.Client) error {
				tokens, err := api.Tokens(ctx, a.user, args[0])
				if err != nil {
					return a.missing(ctx, "read the tokens of", args[0], api, err)
				}
				if a.json {
					a.writeJSON(a.Stdout, tokens)
					return nil
				}
				for _, key := range slices.Sorted(maps.Keys(tokens)) {
					fmt.Fprintf(a.Stdout, "%s\t%s\n", progress.Clean(key), progress.Clean(tokens[key]))
				}
				return nil
			})
		},
	}
}

func (a *app) podsTimeline() *cobra.Command {
	var generation string
	cmd := &cobra.Command{
		Use:   "timeline NAME",
		Short: "Show what happened to a pod, and how long it took",
		Long: `Show the phases of a pod of a user: when each began, how long it took, which
service said so, and why. A pod that failed or is gone has one for as long as the log
keeps it. With --json stdout has one object.`,
		Example:           `  berth pods timeline notebook-alice-example-org --user alice@example.org`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onePod(cmd.Context(), args[0], func(ctx context.Context, api *client.Client) error {
				timeline, err := api.Timeline(ctx, a.user, args[0], generation)
				switch {
				case err != nil:
					return a.missing(ctx, "read the timeline of", args[0], api, err)
				case a.json:
					a.writeJSON(a.Stdout, timeline)
				default:
					fmt.Fprint(a.Stdout, phaseTable(timeline))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&generation, "generation", "", "the pod of this generation, not the newest of the name")
	return cmd
}

func phaseTable(t client.Timeline) string {
	rows := make([][]string, len(t.Phases))
	for i, p := range t.Phases {
		rows[i] = []string{
			p.Started.UTC().Format(time.RFC3339), p.Event, progress.Duration(time.Duration(p.Duration * float64(time.Second))), p.By,
			progress.Cause(events.Reason(p.Reason), p.Message),
		}
	}
	text := progress.Table([]string{"SINCE", "PHASE", "TOOK", "BY", "REASON"}, rows)
	if t.Incomplete {
		text += "The log may have forgotten some of the phases.\n"
	}
	return text
}

func (a *app) why() *cobra.Command {
	return &cobra.Command{
		Use:   "why NAME|PROJECT_ID",
		Short: "Say why a pod or project is as it is: why it waits, failed, or is gone",
		Long: `Say in a sentence what became of a pod of a user, and why, as far as the log still
knows it. Of a project, also which of its licenses give nothing. With --json stdout has one object: pod_name, user_id, event, reason,
message and duration_seconds.`,
		Example: `  berth why notebook-alice-example-org --user alice@example.org
  berth why 8e03978e-40d5-43e8-bc93-6894a57f9324`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if matches(projectForm, args[0]) {
				return a.runWhyProject(cmd.Context(), args[0])
			}
			return a.onePod(cmd.Context(), args[0], func(ctx context.Context, api *client.Client) error {
				timeline, err := api.Timeline(ctx, a.user, args[0], "")
				if err != nil {
					return a.missing(ctx, "read the timeline of", args[0], api, err)
				}
				decisive, now := decisive(timeline)
				if a.json {
					a.writeJSON(a.Stdout, outcome{
						Pod: timeline.Name, User: timeline.User, Event: events.Type(now.Event), Reason: events.Reason(decisive.Reason),
						Message: decisive.Message, Duration: now.Duration,
					})
					return nil
				}
				fmt.Fprintln(a.Stdout, sentence(timeline.Name, decisive, now))
				return nil
			})
		},
	}
}

// decisive returns the phase that explains the state of a pod, and the last one.
func decisive(t client.Timeline) (why, now client.Phase) {
	now = t.Phases[len(t.Phases)-1]
	for _, p := range slices.Backward(t.Phases) {
		if p.Event == string(events.Failed) || p.Event == string(events.Ended) || p.Event == string(events.Deleting) && p.Reason != "" {
			why = p
		}
	}
	if why.Event == "" {
		why = now
	}
	return why, now
}

// sentence says what became of a pod and why.
func sentence(name string, why, now client.Phase) string {
	took := func(p client.Phase) string {
		return progress.Duration(time.Duration(p.Duration * float64(time.Second)))
	}
	text := fmt.Sprintf("%s is %s", name, now.Event)
	switch now.Event {
	case string(events.Failed), string(events.Ended):
		text = fmt.Sprintf("%s has %s", name, now.Event)
	case string(events.Gone):
	default:
		text += " for " + took(now)
	}
	if why.Event != now.Event {
		verb := why.Event
		if verb == string(events.Deleting) {
			verb = "was deleted"
		}
		text += fmt.Sprintf("; it %s at %s", verb, why.Started.UTC().Format(time.RFC3339))
	}
	cause := progress.Cause(events.Reason(why.Reason), why.Message)
	switch {
	case cause != "":
		text += ": " + cause
	case now.Event == string(events.Gone) || now.Event == string(events.Deleting):
		text += ": its user, or the silo for it, asked for that"
	}
	known := events.Reasons()
	if i := slices.IndexFunc(known, func(info events.ReasonInfo) bool { return string(info.Reason) == why.Reason }); i >= 0 {
		text += " (" + known[i].Means + ")"
	}
	return progress.Clean(text)
}

func (a *app) podsEvents() *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Follow what happens to the pods of a user",
		Long: `Follow what happens to one pod or all pods of a user, beginning with what is now: a
line for each thing, with time (UTC), pod, user, event, reason and message. With
--json an object for each, with its position, after which --after goes on.

It goes on until ctrl-C, which is its regular end and exit code 0. A service that
is restarted is waited for, with a line on stderr; nothing is left out meanwhile. One that
cannot be reached to begin with is exit code 4. A pod that is gone has its last events
with an --after from before its end.`,
		Example: `  berth pods events --user alice@example.org
  berth pods events notebook-alice-example-org --json | jq -r .pod.event`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := client.Stream{After: after}
			if len(args) > 0 {
				s.Pod = args[0]
			}
			return a.runPodsEvents(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "begin after this `POSITION`")
	return cmd
}

func (a *app) runPodsEvents(ctx context.Context, s client.Stream) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	s.User = user
	if s.Pod != "" {
		if err := checkPod(s.Pod); err != nil {
			return err
		}
	}
	api, err := a.client()
	if err != nil {
		return err
	}
	defer api.Close()
	d := a.newDisplay("")
	following, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	away := &outage{app: a, url: api.URL(), display: d, giveUp: cancel, began: time.Now()}
	a.onRetry(away.retry)
	defer a.onRetry(nil)
	for e, err := range api.Events(following, s) {
		away.over(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && s.Pod != "":
			return a.missing(ctx, "follow", s.Pod, api, err)
		case err != nil:
			return failed(ctx, "follow the pods at "+api.URL(), err)
		case e.Kind == client.Reset:
			d.notice("the service cannot go on where it was (" + e.Why + "); what is now follows")
		}
		a.writeChange(e)
	}
	return nil
}

// outage is what is made of a service that does not answer with a stream.
type outage struct {
	*app

	url     string
	display *display
	// giveUp ends the command.
	giveUp func(why error)
	began  time.Time
	// tries counts those before the first event; heard says that it has come.
	tries int
	heard bool
	// told says that this outage has been told.
	told bool
}

// firstTries is how often a stream is asked for that there has never been: as often as
// anything else of the service.
const firstTries = 5

// over takes in that the service has said something, or an error that ends it all.
func (o *outage) over(err error) {
	if err == nil {
		o.heard, o.told = true, false
	}
}

// retry is called before a stream is asked for again. One that has never been there is not
// waited for longer than any other answer; one that breaks is, for as long as it takes.
func (o *outage) retry(err error, wait time.Duration) {
	switch {
	case !o.heard:
		o.first(err, wait)
	case !o.told && !o.quiet && !errors.Is(err, client.ErrStreamEnded):
		o.told = true
		fmt.Fprintln(o.Stderr, "berth:", progress.Clean(fmt.Sprintf("the service is not available (%v); waiting for it", err)))
	}
}

// first is retry before there was a stream.
func (o *outage) first(err error, wait time.Duration) {
	if errors.Is(err, client.ErrStreamEnded) {
		err = fmt.Errorf("%w: %w", client.ErrNoAnswer, err)
	}
	o.tries++
	switch {
	case o.tries >= firstTries || time.Since(o.began) > patience:
		o.giveUp(err)
	case !client.Unsent(err):
		o.display.notice(fmt.Sprintf("the service is not available (%v); trying again in %s", err, progress.Duration(wait)))
	case !o.told:
		o.told = true
		o.display.notice(unreached(o.url, err))
	}
}

// writeChange writes one event of the stream.
func (a *app) writeChange(e client.Event) {
	switch {
	case a.json && e.Kind == client.PodChanged:
		a.writeJSON(a.Stdout, struct {
			Kind     client.Kind `json:"kind"`
			Position string      `json:"position,omitempty"`
			Pod      shown       `json:"pod"`
		}{e.Kind, e.Position, shown{PodName: e.Pod.Name, Pod: e.Pod}})
	case a.json:
		a.writeJSON(a.Stdout, struct {
			Kind     client.Kind `json:"kind"`
			Position string      `json:"position,omitempty"`
			Reason   string      `json:"reason,omitempty"`
		}{e.Kind, e.Position, e.Why})
	case e.Kind == client.PodChanged:
		fmt.Fprintln(a.Stdout, eventLine(e.Pod.UpdatedAt, e.Pod.Name, e.Pod.User, e.Pod.Event, events.Reason(e.Pod.Reason), e.Pod.Message))
	}
}

// eventLine is a thing that happened to a pod, in a line.
func eventLine(at time.Time, pod, user, event string, reason events.Reason, message string) string {
	text := fmt.Sprintf("%s  %-30s  %-24s  %-9s  %s", at.UTC().Format(time.RFC3339),
		progress.Clean(pod), progress.Clean(user), progress.Clean(event), progress.Cause(reason, message))
	return strings.TrimRight(text, " ")
}
