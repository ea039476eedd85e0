package v1

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"berth/pkg/events"
)

// begin sends the header, once.
func (s *stream) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	header := s.w.Header()
	header.Set("Content-Type", eventStream)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Accel-Buffering", "no") // What nginx asks for, lest it keeps events back.
	// The server's own limits are for requests that do not wait. Without a read
	// deadline it still notices when the client goes away.
	if err := http.NewResponseController(s.w).SetReadDeadline(time.Time{}); err != nil {
		s.h.Log.Debug().Err(err).Msg("Cannot lift the time limit of a stream")
	}
	s.w.WriteHeader(http.StatusOK)
	s.out = fmt.Appendf(s.out, "retry: %d\n\n", retryHint.Milliseconds())
	return s.flush()
}

const eventStream = "text/event-stream"

// event puts an event into the buffer. With the zero position the client keeps the
// one that it has; one without a sequence is the beginning of a log.
func (s *stream) event(name string, id events.Position, data []byte) {
	s.out = append(s.out, "event: "+name+"\n"...)
	if id.Created != 0 {
		s.out = append(s.out, "id: "+id.String()+"\n"...)
	}
	// JSON has no line breaks.
	s.out = append(append(append(s.out, "data: "...), data...), "\n\n"...)
}

// spill sends the buffer when it is large.
func (s *stream) spill() error {
	if len(s.out) < 32<<10 {
		return nil
	}
	return s.flush()
}

// flush sends the buffer. Whoever does not take it in time is cut.
func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	control := http.NewResponseController(s.w)
	if err := control.SetWriteDeadline(time.Now().Add(s.h.writeLimit())); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("limit the time of a stream: %w", err)
	}
	_, err := s.w.Write(s.out)
	s.out = s.out[:0]
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}

func mustJSON(value any) []byte {
	var text strings.Builder
	if err := json.NewEncoder(&text).Encode(value); err != nil {
		return []byte("{}") // The values are structs of texts.
	}
	return []byte(strings.TrimSpace(text.String()))
}
