package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tailBytes bounds what an error shows of a log.
const tailBytes = 2048

// note identifies a process beyond its number, which the kernel gives to another one later.
type note struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // In clock ticks since the machine started.
	Exe   string `json:"exe"`
}

// EndLeftovers kills the processes that the notes in dir identify, with their groups, and removes the notes. A process that is another one
// with the same number is left alone.
func EndLeftovers(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list process notes: %w", err)
	}
	var errs []error
	for _, path := range paths {
		if err := endLeftover(path); err != nil {
			errs = append(errs, fmt.Errorf("end process of %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func endLeftover(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var was note
	// A note that was cut off while it was written says nothing.
	if json.Unmarshal(data, &was) == nil && was.running() {
		if err := syscall.Kill(-was.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err := was.waitGone(); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (n note) running() bool {
	now, err := identify(n.PID)
	return err == nil && now == n
}

// waitGone polls, since nobody tells when a process ends that is not a child.
func (n note) waitGone() error {
	end := time.NewTimer(killWait)
	defer end.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for n.running() {
		select {
		case <-end.C:
			return fmt.Errorf("process %d is still there after SIGKILL", n.PID)
		case <-poll.C:
		}
	}
	return nil
}

func writeNote(path string, pid int) error {
	n, err := identify(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		// It has ended already.
		return nil
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// identify fails for a process that does not exist, and for one that has ended and was not reaped, which has no program any more.
func identify(pid int) (note, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return note{}, err
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return note{}, err
	}
	// The program's name, in parentheses, may contain anything; the start time is field 22, the 20th after the name (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return note{}, fmt.Errorf("read start time of process %d: %d fields", pid, len(fields))
	}
	return note{PID: pid, Start: fields[19], Exe: strings.TrimSuffix(exe, " (deleted)")}, nil
}

// tail returns the last lines of a log, or why it cannot.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	from := max(0, info.Size()-tailBytes)
	data := make([]byte, info.Size()-from)
	n, err := file.ReadAt(data, from)
	if err != nil && n == 0 {
		return err.Error()
	}
	if text := strings.TrimSpace(string(data[:n])); text != "" {
		return text
	}
	return "(nothing)"
}
