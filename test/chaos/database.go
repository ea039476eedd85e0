package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"berth/pkg/database"
	"berth/pkg/database/local"
	"berth/test/chaos/link"
)

// server is a PostgreSQL that can be killed and started again. It is safe for concurrent use.
type server struct {
	options local.Options
	// pool is for hubs and observers; no fault touches it but the death of the server.
	pool *pgxpool.Pool

	mu      sync.Mutex
	running *local.Server
	url     string
}

// startDatabase starts PostgreSQL, with the tables of Berth and of a hub.
func (s *site) startDatabase(ctx context.Context, _ Plan) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	d := &server{options: local.Options{Dir: filepath.Join(s.dir, "postgres")}}
	if d.options.Port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	s.database = d
	s.closers = append(s.closers, d.close)
	if _, err := database.Migrate(ctx, d.url, func(string) {}); err != nil {
		return err
	}
	if d.pool, err = pgxpool.New(ctx, d.url); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	return nil
}

func (d *server) start(ctx context.Context) error {
	running, err := local.Start(ctx, d.options)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.url = running, running.URL
	return nil
}

func (d *server) kill() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	running := d.running
	d.running = nil
	if running == nil {
		return nil
	}
	return running.Kill()
}

func (d *server) close() error {
	if d.pool != nil {
		d.pool.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		return nil
	}
	select {
	case <-d.running.Done():
		return errors.Join(errEnded, d.running.Err(), d.running.Stop())
	default:
		return d.running.Stop()
	}
}

// through returns the address of the database behind a link.
func (d *server) through(ctx context.Context) (address string, l *link.TCP, err error) {
	parsed, err := url.Parse(d.url)
	if err != nil {
		return "", nil, fmt.Errorf("read the address of the database: %w", err)
	}
	if l, err = link.NewTCP(ctx, parsed.Host); err != nil {
		return "", nil, err
	}
	parsed.Host = l.Addr
	return parsed.String(), l, nil
}

// crash kills the database and starts it again.
func (d *server) crash(ctx context.Context, f Planned) error {
	if err := d.kill(); err != nil {
		return err
	}
	pause(ctx, f.For)
	return d.start(context.WithoutCancel(ctx)) // It has a limit of its own.
}
