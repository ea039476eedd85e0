package offline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/jsontext"
)

// MaxLine bounds a line, in bytes. A longer one is answered with an error.
const MaxLine = 16 << 20

// batchSize is how much text is answered at a time, in bytes; a long line makes more.
const batchSize = 64 << 10

// answer appends the answer to a line, without its end.
type answer func(to, line []byte) []byte

// byteOrderMark is what some editors write before a text in UTF-8.
var byteOrderMark = []byte("\ufeff") //nolint:gochecknoglobals // A constant.

// each answers all lines of in, some at a time and in their order, and holds only
// those in memory. A line that is there is answered before more is waited for, also
// where the next one has begun. A byte order mark at the beginning is left out. It
// returns when in is at its end, when reading or writing fails, or, with its cause,
// when ctx ends; then one more read of in may be under way.
func each(ctx context.Context, in io.Reader, out io.Writer, answer answer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The capacity bounds how many batches are worked on.
	batches := make(chan *batch, runtime.GOMAXPROCS(0))
	go read(ctx, bufio.NewReaderSize(in, batchSize), batches, answer)
	for {
		var next *batch
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next = <-batches:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-next.done:
		}
		if len(next.answers) > 0 {
			if _, err := out.Write(next.answers); err != nil {
				return fmt.Errorf("write answers: %w", err)
			}
		}
		switch {
		case errors.Is(next.end, io.EOF):
			return nil
		case next.end != nil:
			return fmt.Errorf("read cases: %w", next.end)
		}
	}
}

// batch is some lines and their answers.
type batch struct {
	text []byte
	// ends are where the lines in text end; a line that is too long is noLine.
	ends    []int
	answers []byte
	// end is why no batch follows, nil if one does.
	end error
	// done is closed when there are answers.
	done chan struct{}
}

const noLine = -1

// read sends batches until in or ctx ends, and has them answered.
func read(ctx context.Context, in *bufio.Reader, batches chan<- *batch, answer answer) {
	for first := true; ; first = false {
		next := &batch{done: make(chan struct{})}
		next.fill(in, first)
		select {
		case <-ctx.Done():
			return
		case batches <- next:
		}
		go next.answer(answer)
		if next.end != nil {
			return
		}
	}
}

// fill reads lines until there are enough, or until the next would have to be waited for. first says that
// the input begins here.
func (b *batch) fill(in *bufio.Reader, first bool) {
	for len(b.text) < batchSize {
		start, size := len(b.text), 0
		for {
			part, err := in.ReadSlice('\n')
			if first {
				part, first = bytes.TrimPrefix(part, byteOrderMark), false
			}
			if size += len(part); size <= MaxLine+1 {
				b.text = append(b.text, part...)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				b.end = err
				break
			}
		}
		if b.end != nil && size == 0 {
			return
		}
		if line := bytes.TrimSuffix(b.text[start:], []byte("\n")); size > MaxLine+1 || len(line) > MaxLine {
			b.text, b.ends = b.text[:start], append(b.ends, noLine)
		} else {
			b.ends = append(b.ends, len(b.text))
		}
		if b.end != nil || !lineReady(in) {
			return
		}
	}
}

// lineReady says that a whole line can be read without waiting.
func lineReady(in *bufio.Reader) bool {
	there, err := in.Peek(in.Buffered())
	return err == nil && bytes.IndexByte(there, '\n') >= 0
}

// answer answers the lines.
func (b *batch) answer(answer answer) {
	defer close(b.done)
	start := 0
	for _, end := range b.ends {
		if end == noLine {
			b.answers = appendError(b.answers, nil, fmt.Sprintf("the line is longer than %d bytes", MaxLine))
		} else {
			b.answers = answer(b.answers, b.text[start:end])
			start = end
		}
		b.answers = append(b.answers, '\n')
	}
}

var errNoObject = errors.New("the line is not a JSON object")

// caseOf returns the object that a line is.
func caseOf(line []byte) ([]byte, error) {
	object, err := rawjson.Trim(line)
	if err != nil {
		return nil, err
	}
	if rawjson.Of(object) != rawjson.Object {
		return nil, errNoObject
	}
	return object, nil
}

// whole refuses a case with half a character: names and texts that differ would count as the same.
func whole(object []byte) error {
	if wrong := jsontext.Broken(object); wrong != "" {
		return fmt.Errorf("the line has %s: write the whole one", wrong)
	}
	return nil
}

// appendError appends the answer to a case that has none; id is its JSON, or nil.
func appendError(to, id []byte, message string) []byte {
	to = appendID(to, id)
	to = append(to, `,"error":`...)
	to = rawjson.AppendString(to, message)
	return append(to, '}')
}

// appendID appends the beginning of an answer.
func appendID(to, id []byte) []byte {
	to = append(to, `{"id":`...)
	if len(id) == 0 {
		return append(to, "null"...)
	}
	return rawjson.AppendCompact(to, id)
}
