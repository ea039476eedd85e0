// Package events is the contract between Berth's services and with everybody
// who listens: the subjects of the log and of the commands, the records that
// the log holds, the reasons of failures, and [Next], the one function that
// says what may follow what.
//
// The package is pure. It imports the standard library only; package natsbus
// carries its values over NATS JetStream.
package events

//go:generate go run ./internal/docgen -example testdata/events/ready.json -out ../../docs/events.md
