package natsbus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Audit appends a record to the audit stream. The record's cluster is filled in.
func (b *Bus) Audit(ctx context.Context, record events.AuditRecord) error {
	record.Cluster = b.cluster
	e := b.event(ctx)
	e.Audit = &record
	data, err := e.Marshal()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return b.askMade(ctx, "publish "+record.Subject(), func(ctx context.Context) error {
		_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: record.Subject(), Data: data}, jetstream.WithExpectStream(events.AuditStream))
		return err
	})
}
