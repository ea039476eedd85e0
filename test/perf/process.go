package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"berth/test/programs"
)

// buildAPI builds the api as its users have it.
func buildAPI(ctx context.Context, dir string) (path string, err error) {
	return filepath.Join(dir, "api"), programs.Build(ctx, dir, "berth/services/api")
}

// apiProcess is an api that runs in a process of its own.
type apiProcess struct {
	*berth
	command  *exec.Cmd
	instance string
	// tookReady is from the start of the process until it said that it is ready.
	tookReady time.Duration
	ended     chan error
	read      chan struct{} // Closed when its log has been read to its end.
}

// readyLimit bounds the start of an api.
const readyLimit = time.Minute

// startAPI starts an api on a log and returns when it is ready.
func startAPI(ctx context.Context, path, natsURL string, connections int) (*apiProcess, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	a := &apiProcess{command: exec.Command(path), ended: make(chan error, 1), read: make(chan struct{})}
	a.command.Env = append(os.Environ(), "NATS_URL="+natsURL, "LOG_LEVEL=info")
	a.command.Stderr = in
	a.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun, started := time.Now(), make(chan error, 1)
	go func() {
		// The kernel kills the process with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := a.command.Start()
		started <- err
		if err == nil {
			a.ended <- a.command.Wait()
		}
	}()
	err = <-started
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start the api: %w", err)
	}
	log := bufio.NewScanner(out)
	address, err := a.listening(log)
	go func() {
		defer close(a.read)
		defer out.Close()
		for log.Scan() { // An api that nobody reads from would stop.
		}
	}()
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	a.berth = newBerth("http://"+address, "", nil, "", connections)
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("the api is not ready after %s", readyLimit))
	defer cancel()
	err = poll(ctx, time.Millisecond, func() (bool, error) {
		_, err := a.get(ctx, "/readyz")
		return err == nil, nil
	})
	a.tookReady = time.Since(begun)
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// listening reads from the process's log where it listens.
func (a *apiProcess) listening(log *bufio.Scanner) (address string, err error) {
	for log.Scan() {
		var line struct {
			Message  string `json:"message"`
			Address  string `json:"address"`
			Instance string `json:"instance"`
		}
		if json.Unmarshal(log.Bytes(), &line) == nil && line.Message == "Listening" {
			a.instance = line.Instance
			return line.Address, nil
		}
	}
	return "", errors.Join(errors.New("the api does not say where it listens"), log.Err())
}

// stop ends the process and waits for it.
func (a *apiProcess) stop() error {
	if a.berth != nil {
		a.close()
	}
	if err := a.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the api: %w", err)
	}
	kill := time.AfterFunc(stopLimit, func() { _ = a.command.Process.Kill() })
	defer kill.Stop()
	defer func() { <-a.read }()
	if err := <-a.ended; err != nil {
		return fmt.Errorf("stop the api: %w", err)
	}
	return nil
}

// used is what the process has used so far.
func (a *apiProcess) used() (used, error) { return readProcess(strconv.Itoa(a.command.Process.Pid)) }
