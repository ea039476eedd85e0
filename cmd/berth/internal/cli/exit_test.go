package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"berth/cmd/berth/internal/silo"
	"berth/pkg/events"
)

func TestFailed(t *testing.T) {
	t.Parallel()
	live := t.Context()
	late, cancel := context.WithTimeoutCause(t.Context(), 0, errTimeout)
	t.Cleanup(cancel)
	interrupted, stop := context.WithCancelCause(t.Context())
	stop(errors.New("interrupt signal received"))
	tests := map[string]struct {
		ctx    context.Context //nolint:containedctx // A case of the table.
		err    error
		code   int
		reason string
	}{
		"not found":        {live, &silo.Error{Status: 404, Reason: events.NotFound}, ExitNotFound, "NOT_FOUND"},
		"malformed":        {live, &silo.Error{Status: 400, Reason: events.RequestInvalid}, ExitUsage, "REQUEST_INVALID"},
		"refused":          {live, &silo.Error{Status: 500, Reason: events.ImagePull}, ExitFailed, "IMAGE_PULL"},
		"bad manifest URL": {live, &silo.Error{Status: 502, Reason: events.ManifestUnreachable}, ExitFailed, "MANIFEST_UNREACHABLE"},
		"unavailable":      {live, &silo.Error{Status: 503, Reason: events.Unavailable}, ExitUnavailable, "UNAVAILABLE"},
		"expired":          {live, &silo.Error{Status: 503, Reason: events.Expired}, ExitUnavailable, "EXPIRED"},
		"a proxy":          {live, &silo.Error{Status: 502}, ExitUnavailable, "UNREACHABLE"},
		"nobody there":     {live, &silo.Error{Err: io.EOF}, ExitUnavailable, "UNREACHABLE"},
		"anything else":    {live, io.EOF, ExitFailed, "FAILED"},
		"a failure":        {live, fmt.Errorf("x: %w", usage("y")), ExitUsage, "USAGE"},
		"too late":         {late, &silo.Error{Err: errTimeout}, ExitTimeout, "WAIT_TIMEOUT"},
		"busy too long":    {late, &silo.Error{Status: 503, Reason: events.Unavailable}, ExitUnavailable, "UNAVAILABLE"},
		"interrupted":      {interrupted, &silo.Error{Err: io.EOF}, ExitInterrupted, "INTERRUPTED"},
		"interrupted late": {interrupted, &silo.Error{Status: 503}, ExitInterrupted, "INTERRUPTED"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := failed(tt.ctx, "do it", tt.err)
			if f.code != tt.code || f.reason != tt.reason {
				t.Errorf("code %d %s, want %d %s (%s)", f.code, f.reason, tt.code, tt.reason, f.message)
			}
		})
	}
}
