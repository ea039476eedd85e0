// Package service is the process kit: what every service of Berth needs around its own work.
//
//   - [Program] is a whole main function: flags, environment, configuration, logger, signals, exit codes.
//   - [Reloads] hands a configuration that was changed to the services while they run.
//   - [Lifecycle] starts and stops a service: supervised goroutines and named clean-ups.
//   - [Health] answers /livez, /readyz and /metrics; [Server] is an HTTP server with limits that drains,
//     over TLS with a [Certificate].
//   - [Tracing] makes and exports spans; [InjectTrace] and [ExtractTrace] carry their context.
//
// A Program alone touches flags, the environment and signals. A service gets what it needs from
// its [Process] or its own options, so that another program can hold many of them.
//
// # A service
//
// Its app embeds a Lifecycle, and so has Start, Stop and Run:
//
//	type App struct {
//		*service.Lifecycle
//		opts Options
//	}
//
//	func New(opts Options) (*App, error) {
//		a := &App{opts: opts}
//		a.Lifecycle = service.NewLifecycle("creator", opts.Log, a.start)
//		return a, nil
//	}
//
//	func (a *App) start(ctx context.Context) error {
//		health := service.NewHealth(a.opts.Identity)
//		health.Check("service", a.Ready)
//		server, err := service.Listen(ctx, a.opts.Listen, health.Handler(), a.opts.Log)
//		if err != nil {
//			return err
//		}
//		a.OnStop("close listener", func(context.Context) error { return server.Close() })
//		a.Go("serve health", server.Serve)
//		// Connections, readers and consumers follow, in the order in which they need one another.
//		return nil
//	}
//
// and its main.go is
//
//	func main() { os.Exit(service.Main("creator", app.Run)) }
//
// where app.Run makes an App from a Process and calls its Run.
package service
