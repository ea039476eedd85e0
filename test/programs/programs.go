// Package programs builds programs of Berth for tests that start them as their users do.
package programs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockPoll is how often it is tried to take the lock of another build.
const lockPoll = 50 * time.Millisecond

// Build puts programs, named by the import paths of their main packages, into dir, a folder that exists. It does so
// quickly where the last build is still right: linking takes far longer than most of the tests, so what was built is kept
// in bin/test of the checkout. What it returns is the caller's own: a build in another process changes nothing of it.
//
// The working directory must be in a checkout, and ctx bounds the wait for other builds too. Build is safe for concurrent
// use, by several processes as well.
func Build(ctx context.Context, dir string, packages ...string) error {
	kept, err := folder(ctx)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(kept, "lock"))
	if err != nil {
		return fmt.Errorf("wait for another build in %s: %w", kept, err)
	}
	defer unlock()
	// Flags as in the Makefile, so that what is compiled for one is for the other. Those of a commit would have it all
	// linked again.
	command := exec.CommandContext(ctx, "go", append([]string{"build", "-buildvcs=false", "-o", kept + "/"}, packages...)...)
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", strings.Join(packages, ", "), err, text)
	}
	for _, one := range packages {
		if err := copyProgram(filepath.Join(dir, path.Base(one)), filepath.Join(kept, path.Base(one))); err != nil {
			return err
		}
	}
	return nil
}

// folder makes the one in which programs are kept.
func folder(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	work := strings.TrimSpace(string(text))
	if work == "" || work == "off" {
		return "", errors.New("find the checkout: no go.work here; run it in a checkout of Berth")
	}
	dir := filepath.Join(filepath.Dir(work), "bin", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for programs: %w", err)
	}
	return dir, nil
}

// lock takes a lock, which ends with the process whatever happens to it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-tick.C:
		}
	}
}

func copyProgram(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	defer source.Close()
	program, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	if _, err := io.Copy(program, source); err != nil {
		return errors.Join(fmt.Errorf("copy program: %w", err), program.Close())
	}
	if err := program.Close(); err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	return nil
}
