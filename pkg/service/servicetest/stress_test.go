package servicetest_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"berth/pkg/service"
	"berth/pkg/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStress(t *testing.T) {
	t.Parallel()
	servicetest.Stress(t, 50, func() servicetest.Service {
		var l *service.Lifecycle
		l = service.NewLifecycle("stressed", zerolog.Nop(), func(ctx context.Context) error {
			server, err := service.Listen(ctx, "127.0.0.1:0", http.NotFoundHandler(), zerolog.Nop())
			if err != nil {
				return err
			}
			l.OnStop("close listener", func(context.Context) error { return server.Close() })
			l.Go("serve", server.Serve)
			l.Go("wait", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			return nil
		})
		return l
	})
}

// recorder notes that a test would have failed.
type recorder struct {
	testing.TB
	failed chan struct{}
}

func (r recorder) Helper() {}

func (r recorder) Errorf(string, ...any) {
	select {
	case r.failed <- struct{}{}:
	default:
	}
}

func TestStressFails(t *testing.T) {
	t.Parallel()
	tests := map[string]func() servicetest.Service{
		"a start that fails": func() servicetest.Service {
			return service.NewLifecycle("failing", zerolog.Nop(), func(context.Context) error { return errors.New("broken") })
		},
		"a service that starts again": func() servicetest.Service { return restartable{} },
	}
	for name, newService := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recorder{TB: t, failed: make(chan struct{}, 1)}
			servicetest.Stress(r, 20, newService)
			if len(r.failed) == 0 {
				t.Error("Stress has found nothing")
			}
		})
	}
}

type restartable struct{}

func (restartable) Start(context.Context) error { return nil }
func (restartable) Stop(context.Context) error  { return nil }
