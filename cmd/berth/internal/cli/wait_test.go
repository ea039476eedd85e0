package cli

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		app  app
		want string
	}{
		"all from the environment": {
			app{Process: Process{Environ: []string{"BERTH_USER=bob", "BERTH_USER=alice", "BERTH_URL=http://a:1"}}, user: "alice", url: "http://a:1"},
			"berth pods list",
		},
		"the default":        {app{url: defaultURL}, "berth pods list"},
		"all from flags":     {app{user: "alice@dtu.dk", url: "http://a:1/it's"}, `berth pods list --user alice@dtu.dk --url 'http://a:1/it'\''s'`},
		"never the password": {app{url: "http://me:secret@a:1"}, "berth pods list --url http://me:xxxxx@a:1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.app.again("pods list"); got != tt.want {
				t.Errorf("again: %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTimeoutOfZeroIsNone(t *testing.T) {
	t.Parallel()
	ctx, cancel := withTimeout(t.Context(), 0)
	if _, limited := ctx.Deadline(); limited {
		t.Error("there is a deadline")
	}
	cancel()
	if !errors.Is(context.Cause(ctx), errClosed) {
		t.Errorf("cause %v, want the end of the command", context.Cause(ctx))
	}
	limited, cancel := withTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-limited.Done()
	if !errors.Is(context.Cause(limited), errTimeout) {
		t.Errorf("cause %v, want the time-out", context.Cause(limited))
	}
}
