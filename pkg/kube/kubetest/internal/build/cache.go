package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockPoll is how often a waiting process tries to get the lock. The kernel could wait for us, but not until a context ends.
const lockPoll = 200 * time.Millisecond

// complete tells whether path is a program that can be started and has all its bytes: an ELF file as long as its sections need.
func complete(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o100 == 0 {
		return false
	}
	file, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // It was only read.
	var end uint64
	for _, section := range file.Sections {
		if section.Type != elf.SHT_NOBITS {
			end = max(end, section.Offset+section.FileSize)
		}
	}
	return end > 0 && uint64(info.Size()) >= end //nolint:gosec // A file's size is never negative.
}

// lock takes the lock of the cache, which ends with the process whatever happens to it.
func (c Config) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(c.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open build lock: %w", err)
	}
	if err := c.wait(ctx, file); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the build in %s: %w", c.Cache, err), file.Close())
	}
	// Closing gives the lock back. The file stays: removing it would let two processes lock two files of one name.
	return func() { _ = file.Close() }, nil
}

func (c Config) wait(ctx context.Context, file *os.File) error {
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	tick := time.NewTicker(c.Tick)
	defer tick.Stop()
	begin := time.Now()
	for said := false; ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if !said {
			said = true
			fmt.Fprintf(c.Progress, "waiting for another process that builds in %s\n", c.Cache)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		case <-tick.C:
			fmt.Fprintf(c.Progress, "waiting for another build: %s so far\n", time.Since(begin).Round(time.Second))
		}
	}
}
