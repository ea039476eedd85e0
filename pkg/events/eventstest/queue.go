package eventstest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Alarm is a durable timer that is set.
type Alarm struct {
	Pod   string
	Timer events.Timer
	At    time.Time
}

// Queued returns the commands that wait for a stage, in the order in which they
// were published. They stay where they are.
func Queued(tb testing.TB, site Site, stage events.Stage) []events.Command {
	tb.Helper()
	var queued []events.Command
	for _, raw := range queue(tb, site) {
		if strings.Contains(raw.Subject, "."+string(stage)+".") && raw.Header.Get(jetstream.ScheduleHeader) == "" {
			queued = append(queued, command(tb, raw))
		}
	}
	return queued
}

// Armed returns the timers that are set, in the order in which they were set.
func Armed(tb testing.TB, site Site) []Alarm {
	tb.Helper()
	var armed []Alarm
	for _, raw := range queue(tb, site) {
		text, ok := strings.CutPrefix(raw.Header.Get(jetstream.ScheduleHeader), "@at ")
		if !ok {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			tb.Fatalf("read the schedule %q: %v", text, err)
		}
		c := command(tb, raw)
		armed = append(armed, Alarm{Pod: c.Pod, Timer: c.Delete.Timer, At: at})
	}
	return armed
}

// QueueSubjects returns the subjects of all commands and timers in the order in
// which they were published.
func QueueSubjects(tb testing.TB, site Site) []string {
	tb.Helper()
	var subjects []string
	for _, raw := range queue(tb, site) {
		subjects = append(subjects, raw.Subject)
	}
	return subjects
}

func command(tb testing.TB, raw *jetstream.RawStreamMsg) events.Command {
	tb.Helper()
	c, err := events.ParseCommand(raw.Data)
	if err != nil {
		tb.Fatalf("read the command on %s: %v", raw.Subject, err)
	}
	return c
}

// DeleteStream loses a stream, as a fault of a disk or of a person does.
func DeleteStream(tb testing.TB, site Site, name string) {
	tb.Helper()
	js, closeConn := connect(tb, site)
	defer closeConn()
	if err := js.DeleteStream(tb.Context(), name); err != nil {
		tb.Fatalf("delete stream %s: %v", name, err)
	}
}

// connect connects behind the services' back, as one who may do everything.
func connect(tb testing.TB, site Site) (js jetstream.JetStream, closeConn func()) {
	tb.Helper()
	opts := site.Options()
	var natsOptions []nats.Option
	if opts.User != "" {
		natsOptions = append(natsOptions, nats.UserInfo(opts.User, opts.Password))
	}
	if opts.InProcess != nil {
		natsOptions = append(natsOptions, nats.InProcessServer(opts.InProcess))
	}
	nc, err := nats.Connect(opts.URL, append(natsOptions, nats.Timeout(startTimeout))...)
	if err != nil {
		tb.Fatalf("connect to NATS: %v", err)
	}
	js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(startTimeout))
	if err != nil {
		nc.Close()
		tb.Fatalf("use JetStream: %v", err)
	}
	return js, nc.Close
}

// queue returns the messages of the work queue.
func queue(tb testing.TB, site Site) []*jetstream.RawStreamMsg {
	tb.Helper()
	js, closeConn := connect(tb, site)
	defer closeConn()
	ctx, cancel := context.WithTimeout(tb.Context(), pollTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, events.CommandStream)
	if err != nil {
		tb.Fatalf("open the work queue: %v", err)
	}
	var messages []*jetstream.RawStreamMsg
	for from := uint64(1); ; {
		raw, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return messages
		}
		if err != nil {
			tb.Fatalf("read the work queue: %v", err)
		}
		messages, from = append(messages, raw), raw.Sequence+1
	}
}
