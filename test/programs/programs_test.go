package programs_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"berth/test/programs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is the program of Berth that is linked fastest.
const small = "berth/pkg/events/internal/docgen"

// TestBuild: who builds at the same time as others has programs that run.
func TestBuild(t *testing.T) {
	t.Parallel()
	var group errgroup.Group
	for range 3 {
		dir := t.TempDir()
		group.Go(func() error {
			if err := programs.Build(t.Context(), dir, small); err != nil {
				return err
			}
			return exec.CommandContext(t.Context(), filepath.Join(dir, "docgen"), "-h").Run()
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nobody waits"))
	for name, tc := range map[string]struct {
		ctx     context.Context //nolint:containedctx // Of one case.
		program string
		want    string
	}{
		"no such program": {t.Context(), "berth/services/nobody", "berth/services/nobody"},
		"given up":        {gone, small, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := programs.Build(tc.ctx, t.TempDir(), tc.program); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
		})
	}
}
