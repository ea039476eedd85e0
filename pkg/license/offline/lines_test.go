package offline_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/offline"
)

// ids makes n lines of cases, and those of their answers up to the end of the id.
func ids(n int) (lines string, starts []string) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"id\":%d,\"settings\":{\"x\":\"%s\"}}\n", i, strings.Repeat("x", i%997))
		starts = append(starts, fmt.Sprintf(`{"id":%d,"quota"`, i))
	}
	return b.String(), starts
}

func TestOrderIsKept(t *testing.T) {
	t.Parallel()
	lines, want := ids(5000)
	for name, in := range map[string]string{"a last line with an end": lines, "one without": strings.TrimSuffix(lines, "\n")} {
		out := new(bytes.Buffer)
		if err := offline.ComputeQuotas(t.Context(), strings.NewReader(in), out); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			start, _, _ := strings.Cut(line, `:{"network"`)
			got = append(got, start)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: answers (-want +got):\n%s", name, diff)
		}
	}
}

func TestNoLines(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	if err := offline.ComputeQuotas(t.Context(), strings.NewReader(""), out); err != nil || out.Len() > 0 {
		t.Errorf("error %v, output %q, want none", err, out)
	}
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	line := func(id string, size int) string {
		head, tail := `{"id":"`+id+`","settings":{"x":"`, `"}}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	for name, in := range map[string]string{
		"last with an end": "\n", "last without": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := []string{line("short", 100), line("longest", offline.MaxLine), line("longer", offline.MaxLine+1), line("next", 100), line("last", offline.MaxLine)}
			out := new(bytes.Buffer)
			if err := offline.ComputeQuotas(t.Context(), strings.NewReader(strings.Join(lines, "\n")+in), out); err != nil {
				t.Fatal(err)
			}
			var got []string
			for answer := range strings.Lines(out.String()) {
				start, _, _ := strings.Cut(strings.TrimSuffix(answer, "\n"), `:{"network"`)
				got = append(got, start)
			}
			want := []string{
				`{"id":"short","quota"`, `{"id":"longest","quota"`, `{"id":null,"error":"the line is longer than 16777216 bytes"}`,
				`{"id":"next","quota"`, `{"id":"last","quota"`,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// Who writes a case and waits for its answer gets it, without the end of the input.
func TestAnswersBeforeMoreIsAsked(t *testing.T) {
	t.Parallel()
	cases, in := io.Pipe()
	out, answers := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- offline.ComputeQuotas(t.Context(), cases, answers)
		_ = answers.Close()
	}()
	lines := bufio.NewScanner(out)
	for i := range 3 {
		fmt.Fprintf(in, "{\"id\":%d}\n", i)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), fmt.Sprintf(`{"id":%d,`, i)) {
			t.Fatalf("answer %d is %q", i, lines.Text())
		}
	}
	_ = in.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A line is answered while the next one is being written, and is not lost where that never ends.
func TestAnswersBeforeTheNextLineEnds(t *testing.T) {
	t.Parallel()
	cases, in := io.Pipe()
	t.Cleanup(func() { _ = in.Close() }) // Lets the last read go.
	out, answers := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- offline.ComputeQuotas(ctx, cases, answers)
		_ = answers.Close()
	}()
	lines := bufio.NewScanner(out)
	for _, part := range []struct {
		text    string
		answers []string
	}{
		{"{\"id\":0}\n{\"id\"", []string{"0"}},
		{":1}\n{\"id\":2}\n", []string{"1", "2"}},
		{"{\"id\":3}\n{", []string{"3"}},
	} {
		fmt.Fprint(in, part.text)
		for _, id := range part.answers {
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"id":`+id+`,`) {
				t.Fatalf("answer %s is %q", id, lines.Text())
			}
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// A byte order mark is left out at the beginning of the input, and nowhere else.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"before a case":        {mark + "{\"id\":1}\n{\"id\":2}\n", []string{`{"id":1,"quota"`, `{"id":2,"quota"`}},
		"alone":                {mark, nil},
		"before an empty line": {mark + "\n", []string{`{"id":null,"error":"the line is not a JSON object"}`}},
		"twice":                {mark + mark + `{"id":1}`, []string{`{"id":null,"error":"parse JSON: invalid character`}},
		"later":                {"{\"id\":1}\n" + mark + "{\"id\":2}", []string{`{"id":1,"quota"`, `{"id":null,"error":"parse JSON: invalid character`}},
		"a part of one":        {mark[:2], []string{`{"id":null,"error":"parse JSON: the text is not UTF-8"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := new(bytes.Buffer)
			if err := offline.ComputeQuotas(t.Context(), strings.NewReader(test.in), out); err != nil {
				t.Fatal(err)
			}
			var got []string
			for answer := range strings.Lines(out.String()) {
				got = append(got, strings.TrimSuffix(answer, "\n"))
			}
			if len(got) != len(test.want) {
				t.Fatalf("answers %q, want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("answer %d is %s, want %s…", i, got[i], want)
				}
			}
		})
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk is full") }

func TestWriteFails(t *testing.T) {
	t.Parallel()
	lines, _ := ids(5000)
	err := offline.ComputeQuotas(t.Context(), strings.NewReader(lines), failing{})
	if want := "write answers: disk is full"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestReadFails(t *testing.T) {
	t.Parallel()
	cases, in := io.Pipe()
	go func() {
		fmt.Fprint(in, "{\"id\":1}\n")
		in.CloseWithError(errors.New("cable is out"))
	}()
	out := new(bytes.Buffer)
	err := offline.ComputeQuotas(t.Context(), cases, out)
	if want := "read cases: cable is out"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if !strings.HasPrefix(out.String(), `{"id":1,"quota"`) {
		t.Errorf("output %q, want the answer to what was read", out)
	}
}

// An interrupt ends it also while it waits for input.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	cases, in := io.Pipe()
	t.Cleanup(func() { _ = in.Close() }) // Lets the last read go.
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	done := make(chan error, 1)
	go func() { done <- offline.ComputeQuotas(ctx, cases, io.Discard) }()
	fmt.Fprint(in, "{\"id\":1}\n")
	cancel(interrupted)
	if err := <-done; !errors.Is(err, interrupted) {
		t.Errorf("error %v, want %v", err, interrupted)
	}
}
