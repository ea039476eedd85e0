package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxInput is the size of a file that a command reads, in bytes, at the most.
const maxInput = 4 << 20

// errInterrupted says that ctrl-C came before an input was at its end.
var errInterrupted = errors.New("interrupted")

// input reads a file; - is stdin. A terminal and a pipe may never come to their end, so ctrl-C ends the wait for it; the
// read may go on until the process ends.
func (a *app) input(name string) ([]byte, error) {
	type outcome struct {
		text []byte
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		text, err := a.readInput(name)
		read <- outcome{text, err}
	}()
	select {
	case o := <-read:
		return o.text, o.err
	case <-a.interrupted:
		return nil, errInterrupted
	}
}

func (a *app) readInput(name string) ([]byte, error) {
	from := a.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	} else if name = "stdin"; from == nil {
		from = strings.NewReader("")
	}
	text, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(text) > maxInput:
		return nil, fmt.Errorf("%s is larger than 4 MiB", name)
	}
	return text, nil
}

// unread is the failure of an input that a flag names.
func unread(flag string, err error) *failure {
	if errors.Is(err, errInterrupted) {
		return &failure{code: ExitInterrupted, reason: codeInterrupted, message: flag + ": interrupted"}
	}
	return usage("%s: %s", flag, err)
}
