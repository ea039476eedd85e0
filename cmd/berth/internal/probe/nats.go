package probe

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// broker is a connection to NATS that knows what this user may not do.
type broker struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	cluster string

	mu      sync.Mutex
	denied  map[string]bool
	errands map[*errand]bool
	// deaf says that this user has no inbox, so that nothing is ever answered.
	deaf bool
}

// askNATS looks at the broker and at all that Berth keeps there. The pods are
// looked at when listed is closed.
func askNATS(ctx context.Context, s Site, listed <-chan struct{}) doctor.NATS {
	n := doctor.NATS{Asked: s.NATSURL != ""}
	if !n.Asked {
		return n
	}
	n.Servers = redact(s.NATSURL)
	b := &broker{cluster: s.Cluster, denied: map[string]bool{}, errands: map[*errand]bool{}}
	if err := b.connect(ctx, s.NATSURL); err != nil {
		n.Fault = connectFault(err)
		return n
	}
	defer b.nc.Close()
	n.Version = b.nc.ConnectedServerVersion()
	if rtt, err := b.nc.RTT(); err == nil {
		n.RTT = rtt.Seconds()
	}
	if n.JetStream = b.jetStream(ctx); n.JetStream == "" {
		var timers map[events.Timer]map[string]bool
		var group sync.WaitGroup
		group.Go(func() { n.Watcher = b.listen(ctx) })
		group.Go(func() {
			n.Streams, n.Skew = b.streams(ctx)
			n.Mark = b.mark(ctx, n.Streams)
			n.DeadLetters = b.deadLetters(ctx)
			var queued map[events.Stage][]string
			n.Commands, timers, queued = b.commands(ctx)
			n.Stages = b.stages(ctx, queued)
		})
		group.Go(func() {
			select {
			case <-listed:
			case <-ctx.Done():
			}
			n.Pods = b.pods(ctx)
		})
		group.Wait()
		n.Pods.Armed = timers
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for what := range b.denied {
		n.Denied = append(n.Denied, what)
	}
	slices.Sort(n.Denied)
	return n
}

// connect tries once.
func (b *broker) connect(ctx context.Context, servers string) error {
	timeout := requestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	nc, err := nats.Connect(servers,
		nats.Name("berth-doctor"), nats.Timeout(max(timeout, time.Millisecond)), nats.NoReconnect(),
		nats.CustomInboxPrefix(natsbus.InboxPrefix(natsbus.Operator)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.reported(err) }),
	)
	if err != nil {
		return err
	}
	b.nc = nc
	if b.js, err = jetstream.New(nc); err != nil {
		nc.Close()
	}
	return err
}

func connectFault(err error) string {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return "the server refuses these credentials"
	case errors.Is(err, nats.ErrNoServers):
		return "no server answers there"
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, nats.ErrSecureConnRequired):
		return "the server wants TLS: write tls:// instead of nats://"
	default:
		// Other errors may quote the address with its password.
		return "the server cannot be reached, or its address is malformed"
	}
}

// redact takes the passwords out of a list of addresses.
func redact(servers string) string {
	list := strings.Split(servers, ",")
	for i, server := range list {
		server = strings.TrimSpace(server)
		if u, err := url.Parse(server); err == nil && u.Host != "" {
			u.User = nil
			list[i] = u.String()
			continue
		}
		if at := strings.LastIndex(server, "@"); at >= 0 {
			server = server[at+1:]
		}
		list[i] = server
	}
	return strings.Join(list, ",")
}

var (
	violationForm = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

	errDenied = errors.New("this user may not ask")
	errSlow   = errors.New("no answer in time")
)

// errand is something under way that the server may refuse.
type errand struct {
	// verb is publish or subscription, as the server says it; subject is all that
	// the errand speaks on, or, before a last ">", what that begins with.
	verb, subject string
	cancel        context.CancelCauseFunc
}

func (e *errand) about(verb, subject string) bool {
	prefix, open := strings.CutSuffix(e.subject, ">")
	return e.verb == verb && (e.subject == subject || open && strings.HasPrefix(subject, prefix))
}

// begin remembers an errand until the function returned is called.
func (b *broker) begin(e *errand) (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errands[e] = true
	if b.deaf && e.verb == publish {
		e.cancel(errDenied)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.errands, e)
	}
}

// reported takes in what the server says about a message that it refuses, and
// gives up what waits for its answer.
func (b *broker) reported(err error) {
	found := violationForm.FindStringSubmatch(err.Error())
	if found == nil {
		return
	}
	verb, subject := strings.ToLower(found[1]), found[2]
	inbox := natsbus.InboxPrefix(natsbus.Operator) + "."
	b.mu.Lock()
	defer b.mu.Unlock()
	deaf := verb == subscription && strings.HasPrefix(subject, inbox)
	b.deaf = b.deaf || deaf
	for e := range b.errands {
		if e.about(verb, subject) {
			subject = e.subject
		}
		if e.about(verb, subject) || deaf {
			e.cancel(errDenied)
		}
	}
	if deaf {
		subject = inbox + ">" // Each has a name of its own.
	}
	b.denied[map[string]string{publish: "publish to ", subscription: "subscribe to "}[verb]+subject] = true
}

const publish, subscription = "publish", "subscription"

// ask makes a request on a subject, which [errand] describes.
func (b *broker) ask(ctx context.Context, subject string, request func(context.Context) error) error {
	ctx, stop := context.WithTimeoutCause(ctx, requestTimeout, errSlow)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer b.begin(&errand{publish, subject, cancel})()
	err := request(ctx)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, errDenied):
		return errDenied
	case cause != nil:
		return errSlow
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
		return errors.New("the connection was lost")
	}
	return err
}

// jetStream returns why JetStream cannot be used, or nothing.
func (b *broker) jetStream(ctx context.Context) string {
	err := b.ask(ctx, api+"INFO", func(ctx context.Context) error {
		_, err := b.js.AccountInfo(ctx)
		return err
	})
	switch {
	case err == nil, errors.Is(err, errDenied): // It is seen below whether there are streams.
		return ""
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return "the server has no JetStream"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return "this account has no JetStream"
	default:
		return "JetStream does not answer: " + err.Error()
	}
}

// api is what the subjects of requests to JetStream begin with.
const api = "$JS.API."

// listen listens for watchers.
func (b *broker) listen(ctx context.Context) doctor.Watcher {
	begun := time.Now()
	messages := make(chan *nats.Msg, 64)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	subject := events.HeartbeatSubject(b.cluster)
	defer b.begin(&errand{subscription, subject, cancel})()
	sub, err := b.nc.ChanSubscribe(subject, messages)
	if err != nil {
		return doctor.Watcher{Fault: err.Error()}
	}
	defer func() { _ = sub.Unsubscribe() }() // The connection may be closed.

	beats := map[string]doctor.Beat{}
	end := time.NewTimer(listenTime)
	defer end.Stop()
	w := doctor.Watcher{}
	for over := false; !over; {
		select {
		case m := <-messages:
			now := time.Now()
			h, err := events.ParseHeartbeat(m.Data)
			if err != nil {
				continue
			}
			if len(beats) == 0 {
				end.Reset(moreBeats)
			}
			beat := doctor.Beat{Heartbeat: h}
			if !h.Time.IsZero() {
				// It was sent a moment ago: how long ago is not known, but not a second.
				beat.Skew = skew(h.Time, now.Add(-time.Second), now, 0)
			}
			beats[h.Instance] = beat
		case <-end.C:
			over = true
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errDenied) {
				w.Fault = errDenied.Error()
			}
			over = true
		}
	}
	w.Listened = time.Since(begun).Seconds()
	for _, beat := range beats {
		w.Beats = append(w.Beats, beat)
	}
	slices.SortFunc(w.Beats, func(a, b doctor.Beat) int { return cmp.Compare(a.Instance, b.Instance) })
	return w
}
