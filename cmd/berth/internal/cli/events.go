package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events"
)

// eventsFlags is the command line of events.
type eventsFlags struct {
	pod                 string
	types               []string
	all, life, noFollow bool
}

func (a *app) events() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow what happens to pods",
		Long: `Follow the log over NATS: a line for each thing that happens to a pod, with time
(UTC), pod, user, event, reason and message. With --json the CloudEvents as they
are, one a line.

It goes on until ctrl-C, which is its regular end and exit code 0. A server that
is restarted is waited for; a log that was made anew is read from its start.`,
		Example: `  berth events --nats-url nats://127.0.0.1:4222
  berth events --user alice@example.org --type ready,failed
  berth events --pod notebook-alice-example-org --since-start --no-follow
  berth events --all --json | jq -r 'select(.data.reason) | .data.reason'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runEvents(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.pod, "pod", "", "only the pod of this `NAME`")
	flags.StringSliceVar(&f.types, "type", nil, "only these events, with commas between: ready,failed")
	flags.BoolVar(&f.life, "since-start", false, "begin where the newest pod of each name began")
	flags.BoolVar(&f.all, "all", false, "begin with everything that the log still has")
	flags.BoolVar(&f.noFollow, "no-follow", false, "end when the past has been read")
	cmd.MarkFlagsMutuallyExclusive("since-start", "all")
	return completes(cmd, map[string]cobra.CompletionFunc{"type": completeTypes, "pod": a.completePods(0)})
}

// errPast ends the reading of the past.
var errPast = errors.New("the past has been read")

func (a *app) runEvents(ctx context.Context, f eventsFlags) error {
	q := follow.Query{Cluster: a.cluster, Pod: f.pod, User: a.user}
	var err error
	if q.Types, err = checkTypes(f.types); err != nil {
		return err
	}
	switch {
	case a.natsURL == "":
		return usage("where is the log? Set --nats-url or NATS_URL")
	case f.noFollow && !f.all && !f.life:
		return usage("--no-follow shows the past: add --all or --since-start")
	case a.user != "":
		err = checkUser(a.user)
	}
	if err == nil && f.pod != "" {
		err = checkPod(f.pod)
	}
	if err != nil {
		return err
	}
	switch {
	case f.all:
		q.From = follow.FromStart
	case f.life:
		q.From = follow.FromLife
	}

	// The log closes its connections when this ends.
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	notice := a.newDisplay("").notice
	log, err := a.log(ctx, notice)
	var wrong *failure
	switch {
	case errors.As(err, &wrong):
		return err
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return &failure{code: ExitUnavailable, reason: codeUnreachable, message: err.Error()}
	}
	defer log.Close()
	err = log.Read(ctx, q, follow.Reader{
		Message: func(m follow.Message) error { return a.writeEvent(m) },
		CaughtUp: func() error {
			if f.noFollow {
				return errPast
			}
			return nil
		},
		Anew: func() { notice("the log was made anew; reading it from its start") },
	})
	if ctx.Err() != nil || errors.Is(err, errPast) {
		return nil
	}
	return &failure{code: ExitFailed, reason: codeFailed, message: "follow the log: " + err.Error()}
}

// writeEvent writes a message of the log. One that this version cannot read is
// shown as far as its subject tells.
func (a *app) writeEvent(m follow.Message) error {
	if a.json {
		var line bytes.Buffer
		if err := json.Compact(&line, m.Data); err != nil {
			fmt.Fprintf(a.Stderr, "berth: left out message %d, which is no JSON\n", m.Sequence)
			return nil
		}
		line.WriteByte('\n')
		_, err := a.Stdout.Write(line.Bytes())
		return err
	}
	at, reason, message := m.Time, events.Reason(""), ""
	if e, err := events.Parse(m.Data); err == nil && e.Record != nil {
		at, reason, message = e.Time, e.Record.Reason, e.Record.Message
	}
	_, err := fmt.Fprintln(a.Stdout, eventLine(at, m.Key.Pod, m.Key.User, string(m.Key.Event), reason, message))
	return err
}
