package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const example = "../../testdata/events/ready.json"

func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	want, err := Reference(read(t, example))
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, "../../../../docs/events.md")
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/events.md is stale; run go generate in pkg/events (-want +got):\n%s", diff)
	}
}

func TestReferenceNamesEverything(t *testing.T) {
	t.Parallel()
	b, err := Reference(read(t, example))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, i := range events.Types() {
		if !strings.Contains(page, "| `"+string(i.Type)+"` | "+i.Appended+" | "+i.Means+" |") {
			t.Errorf("the event %s is missing", i.Type)
		}
	}
	for _, i := range events.Reasons() {
		if !strings.Contains(page, "| `"+string(i.Reason)+"` | "+i.Means+" |") {
			t.Errorf("the reason %s is missing", i.Reason)
		}
	}
	for _, s := range events.Stages() {
		if !strings.Contains(page, "| `cmd.main."+string(s)+".*` | ") || strings.Contains(page, "| `cmd.main."+string(s)+".*` |  |") {
			t.Errorf("the stage %s is missing or not described", s)
		}
	}
	if strings.Contains(page, "<no value>") {
		t.Error("something is not filled in")
	}
}

func TestReferenceRefusesOtherExamples(t *testing.T) {
	t.Parallel()
	if _, err := Reference([]byte("{")); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("error %v, want ErrMalformed", err)
	}
	if _, err := Reference(read(t, "../../testdata/events/mark-complete.json")); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("error %v, want ErrMalformed", err)
	}
}
