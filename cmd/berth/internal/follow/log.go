// Package follow reads the log of Berth over NATS: what has happened to pods,
// and what happens to them now.
//
// It only reads: it makes no stream, and leaves behind on the server nothing
// but a consumer in memory that the server forgets by itself.
package follow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

const (
	// connectTimeout bounds the first connection, requestTimeout one request to JetStream.
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
)

// Log is a connection to the server that keeps the log. It is safe for
// concurrent use.
type Log struct {
	nc *nats.Conn
	js jetstream.JetStream
	// notice tells a person what the connection goes through.
	notice func(text string)
}

// Open connects to the NATS servers at url (several are separated by commas).
// It returns an error when none answers, or there is no log; after that the
// connection is made again for as long as it takes, until ctx ends. notice is
// called with what a person should know meanwhile, from any goroutine.
//
// No error and no notice holds the URL, which may have a password in it.
func Open(ctx context.Context, url, name string, notice func(text string)) (*Log, error) {
	nc, err := nats.Connect(url,
		nats.SetCustomDialer(dialer(func(network, address string) (net.Conn, error) { return dial(ctx, network, address) })),
		nats.Name(name),
		nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(),
		// A request fails at once while there is no connection; it is made again.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) {
			if !nc.IsClosed() && ctx.Err() == nil {
				notice("lost the connection to NATS; trying again")
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { notice("connected to NATS again") }),
		// Errors of subscriptions come back where the log is read.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", hide(err))
	}
	l := &Log{nc: nc, notice: notice}
	if l.js, err = jetstream.New(nc); err != nil {
		l.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	if _, err := l.info(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the connection.
func (l *Log) Close() { l.nc.Close() }

// info asks the leader for the state of the log.
func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := l.js.Stream(ctx, events.LogStream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("the NATS server has no stream %s: %w", events.LogStream, err)
	case err != nil:
		return nil, fmt.Errorf("ask for stream %s: %w", events.LogStream, err)
	}
	return stream.CachedInfo(), nil
}

// dialer makes connections for NATS.
type dialer func(network, address string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// dial makes a connection that is closed when ctx ends, so that nothing waits
// for a server that does not answer.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // It may be closed already.
	return conn, nil
}

// hide replaces an error that may quote the URL.
func hide(err error) error {
	for _, known := range []error{nats.ErrNoServers, nats.ErrTimeout, nats.ErrAuthorization} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the server cannot be reached, or its URL is malformed")
}
