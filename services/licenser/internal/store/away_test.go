package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"berth/pkg/database"
	"berth/pkg/database/local"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// TestAway: a store opens without a database, says what is missing, and recovers by itself when the server is killed and started again.
func TestAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	server, err := local.Start(ctx, local.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	port, url := server.Port, server.URL
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	isAway := func() {
		t.Helper()
		for what, err := range map[string]error{
			"ready":   s.Ready(ctx),
			"check":   s.Check(ctx, start(projectA, 1), greedy),
			"read":    second(s.License(ctx, licenseA)),
			"project": second(s.Project(ctx, projectA)),
			"free":    s.FreeSeats(ctx, cluster, "pod", generation(1), time.Time{}),
		} {
			if !errors.Is(err, store.ErrAway) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s = %v, want %v in one line", what, err, store.ErrAway)
			}
		}
	}
	isAway()
	if server, err = local.Start(ctx, local.Options{Dir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Ready(ctx); !errors.Is(err, database.ErrNotMigrated) {
		t.Errorf("ready = %v, want %v", err, database.ErrNotMigrated)
	}
	if err := s.Check(ctx, start(projectA, 1), greedy); !errors.Is(err, store.ErrAway) {
		t.Errorf("check before the migration = %v, want %v", err, store.ErrAway)
	}
	if _, err := database.Migrate(ctx, url, func(string) {}); err != nil {
		t.Fatal(err)
	}
	serves := func() {
		t.Helper()
		limit := 1
		if err := errors.Join(
			s.Ready(ctx), s.Check(ctx, start(projectA, 1), greedy),
			second(s.PutLicense(ctx, wire.License{ID: licenseA, RunLimit: &limit}, "")),
			s.Attach(ctx, wire.Attachment{License: licenseA, Project: projectA}),
		); err != nil {
			t.Error(err)
		}
	}
	serves()
	// Killed in the middle of transactions.
	inside, killed := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- s.Check(ctx, start(projectA, 2), func(f store.Facts) (store.Decision, error) {
			close(inside)
			<-killed
			return greedy(f)
		})
	}()
	<-inside
	if err := server.Kill(); err != nil {
		t.Error(err)
	}
	close(killed)
	if err := <-done; !errors.Is(err, store.ErrAway) {
		t.Errorf("check under way = %v, want %v", err, store.ErrAway)
	}
	isAway()
	if server, err = local.Start(ctx, local.Options{Dir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	serves()
}

// TestInterrupted: the end of the caller's context is not taken for the database's.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.attach(t, projectA)
	ctx, cancel := context.WithCancel(t.Context())
	if err := f.Check(ctx, start(projectA, 1), func(store.Facts) (store.Decision, error) {
		cancel()
		return store.Decision{Write: true}, nil
	}); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrAway) {
		t.Errorf("check = %v, want %v", err, context.Canceled)
	}
	// A lock that somebody else holds for too long passes.
	tx, err := f.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO projects (project_id) VALUES ($1)`, projectA); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Check(short, start(projectA, 1), greedy); !errors.Is(err, store.ErrAway) {
		t.Errorf("check = %v, want %v", err, store.ErrAway)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.check(t, start(projectA, 1))
}
