package service

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// ParseLevel reads trace, debug, info, warn or error. Other texts are an error that lists these.
func ParseLevel(text string) (zerolog.Level, error) {
	switch level, err := zerolog.ParseLevel(text); {
	case err == nil && level >= zerolog.TraceLevel && level <= zerolog.ErrorLevel && text == level.String():
		return level, nil
	default:
		return zerolog.NoLevel, fmt.Errorf("log level %q is unknown: use trace, debug, info, warn or error", text)
	}
}

// NewLogger returns a logger that writes one JSON object a line, with time (UTC, milliseconds),
// service and instance. w must be safe for concurrent writes, as files are.
func NewLogger(w io.Writer, level zerolog.Level, id Identity) zerolog.Logger {
	return zerolog.New(w).Level(level).Hook(clock{}).With().
		Str("service", id.Service).
		Str("instance", id.Instance).
		Logger()
}

// clock stamps records. zerolog's own stamp has its format in a global variable.
type clock struct{}

func (clock) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// warnings is where libraries with a printf logger write, one record a call.
type warnings struct {
	log    zerolog.Logger
	source string
}

func (w warnings) Write(text []byte) (int, error) {
	w.log.Warn().Str("source", w.source).Bytes("text", text).Msg("Library warned")
	return len(text), nil
}
