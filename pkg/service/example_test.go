package service_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rs/zerolog"

	"berth/pkg/service"
)

// App is a service: it has Start, Stop and Run from its Lifecycle.
type App struct {
	*service.Lifecycle

	handler http.Handler
}

// New wires; it opens nothing.
func New(log zerolog.Logger, handler http.Handler) *App {
	a := &App{handler: handler}
	a.Lifecycle = service.NewLifecycle("example", log, a.start)
	return a
}

// start opens. Each thing is registered as soon as it is there, and goes in the reverse order.
func (a *App) start(ctx context.Context) error {
	a.OnStop("close connection", func(context.Context) error {
		fmt.Println("connection closed")
		return nil
	})
	server, err := service.Listen(ctx, "127.0.0.1:0", a.handler, *zerolog.Ctx(ctx))
	if err != nil {
		return err
	}
	a.OnStop("close listener", func(context.Context) error { return server.Close() })
	a.Go("serve", func(ctx context.Context) error {
		defer fmt.Println("server drained")
		return server.Serve(ctx)
	})
	return nil
}

func ExampleLifecycle() {
	app := New(zerolog.Nop(), http.NotFoundHandler())
	err := app.Start(context.Background())
	fmt.Println("started:", err)
	fmt.Println("ready:", app.Ready(context.Background()))
	err = app.Stop(context.Background())
	fmt.Println("stopped:", err)
	fmt.Println("ready:", app.Ready(context.Background()))

	// Output:
	// started: <nil>
	// ready: <nil>
	// server drained
	// connection closed
	// stopped: <nil>
	// ready: stopping: service has been stopped
}
