package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is a place in the log that stays unique when the log is wiped and
// made anew: the stream's creation and the sequence in it.
type Position struct {
	// Created is when the stream was made, in Unix nanoseconds.
	Created int64
	// Sequence is the message's sequence in the stream, from 1.
	Sequence uint64
}

// At returns the position of a sequence in a stream made at created.
func At(created time.Time, sequence uint64) Position {
	return Position{Created: created.UnixNano(), Sequence: sequence}
}

// String returns <created>-<sequence>; [ParsePosition] reads it.
func (p Position) String() string {
	return strconv.FormatInt(p.Created, 10) + "-" + strconv.FormatUint(p.Sequence, 10)
}

// ParsePosition reads what [Position.String] wrote.
func ParsePosition(s string) (Position, error) {
	created, sequence, ok := strings.Cut(s, "-")
	if !ok {
		return Position{}, fmt.Errorf("position %q: want <created>-<sequence>", s)
	}
	c, err := strconv.ParseInt(created, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: %w", s, err)
	}
	n, err := strconv.ParseUint(sequence, 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: %w", s, err)
	}
	return Position{Created: c, Sequence: n}, nil
}
