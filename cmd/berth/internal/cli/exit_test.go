package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"berth/pkg/client"
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
		"not found":        {live, &client.Problem{Status: 404, Reason: "NOT_FOUND"}, ExitNotFound, "NOT_FOUND"},
		"malformed":        {live, &client.Problem{Status: 400, Reason: "REQUEST_INVALID"}, ExitUsage, "REQUEST_INVALID"},
		"refused":          {live, &client.Problem{Status: 422, Reason: "IMAGE_PULL"}, ExitFailed, "IMAGE_PULL"},
		"bad manifest URL": {live, &client.Problem{Status: 502, Reason: "MANIFEST_UNREACHABLE"}, ExitFailed, "MANIFEST_UNREACHABLE"},
		"no credentials":   {live, &client.Problem{Status: 401, Reason: "UNAUTHORIZED"}, ExitFailed, "UNAUTHORIZED"},
		"unavailable":      {live, &client.Problem{Status: 503, Reason: "UNAVAILABLE"}, ExitUnavailable, "UNAVAILABLE"},
		"expired":          {live, &client.Problem{Status: 503, Reason: "EXPIRED"}, ExitUnavailable, "EXPIRED"},
		"unknown":          {live, &client.Problem{Status: 504, Reason: "UNAVAILABLE"}, ExitUnavailable, "UNAVAILABLE"},
		"a proxy":          {live, &client.Problem{Status: 502}, ExitUnavailable, "UNREACHABLE"},
		"another service":  {live, fmt.Errorf("%w: x", client.ErrForeign), ExitUnavailable, "UNREACHABLE"},
		"nobody there":     {live, fmt.Errorf("%w: %w", client.ErrNoAnswer, io.EOF), ExitUnavailable, "UNREACHABLE"},
		"anything else":    {live, io.EOF, ExitFailed, "FAILED"},
		"a failure":        {live, fmt.Errorf("x: %w", usage("y")), ExitUsage, "USAGE"},
		"too late":         {late, fmt.Errorf("%w: %w", client.ErrNoAnswer, errTimeout), ExitTimeout, "WAIT_TIMEOUT"},
		"never reached":    {late, fmt.Errorf("%w: %w", client.ErrNoAnswer, &net.OpError{Op: "dial", Err: io.EOF}), ExitUnavailable, "UNREACHABLE"},
		"busy too long":    {late, &client.Problem{Status: 503, Reason: "UNAVAILABLE"}, ExitUnavailable, "UNAVAILABLE"},
		"interrupted":      {interrupted, fmt.Errorf("%w: %w", client.ErrNoAnswer, io.EOF), ExitInterrupted, "INTERRUPTED"},
		"interrupted late": {interrupted, &client.Problem{Status: 503}, ExitInterrupted, "INTERRUPTED"},
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
