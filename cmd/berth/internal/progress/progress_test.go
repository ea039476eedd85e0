package progress_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/events"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a change so many milliseconds after the start.
func at(ms int, event events.Type, cause ...string) progress.Change {
	c := progress.Change{Event: event, At: start.Add(time.Duration(ms) * time.Millisecond)}
	if len(cause) > 0 {
		c.Reason = events.Reason(cause[0])
	}
	if len(cause) > 1 {
		c.Message = cause[1]
	}
	return c
}

// life is a create that waits for a node and an image, and tells some things twice.
func life() []progress.Change {
	return []progress.Change{
		at(0, progress.Requested),
		at(20, events.Claimed),
		at(25, events.Licensed),
		at(40, events.Launching),
		at(190, events.Launched),
		at(400, events.Waiting, "UNSCHEDULABLE", "0/3 nodes are available"),
		at(900, events.Waiting, "UNSCHEDULABLE", "0/3 nodes are available"),
		at(2400, events.Waiting, "UNSCHEDULABLE", "0/4 nodes are available"),
		at(62_400, events.Waiting, "PULLING", "image \"jupyter\" is being pulled"),
		at(64_000, events.Waiting, "UNSCHEDULABLE", ""),
		at(65_000, events.Running, "NOT_READY"),
		at(66_500, events.Ready),
	}
}

func build(changes []progress.Change) (progress.Timeline, []progress.Change) {
	var t progress.Timeline
	var news []progress.Change
	for _, c := range changes {
		var isNews bool
		if t, isNews = t.With(c); isNews {
			news = append(news, c)
		}
	}
	return t, news
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	timeline, news := build(life())
	var lines []string
	for _, c := range news {
		lines = append(lines, progress.Entered("notebook-alice", timeline.Began(), c))
	}
	want := `notebook-alice    +0.0s  requested
notebook-alice    +0.0s  claimed
notebook-alice    +0.0s  licensed
notebook-alice    +0.0s  launching
notebook-alice    +0.2s  launched
notebook-alice    +0.4s  waiting    UNSCHEDULABLE: 0/3 nodes are available
notebook-alice    +2.4s  waiting    UNSCHEDULABLE: 0/4 nodes are available
notebook-alice   +1m02s  waiting    PULLING: image "jupyter" is being pulled
notebook-alice   +1m04s  waiting    UNSCHEDULABLE
notebook-alice   +1m05s  running    NOT_READY
notebook-alice   +1m07s  ready`
	if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	wantSummary := "requested 0.0s, claimed 0.0s, licensed 0.0s, launching 0.1s, launched 0.2s, " +
		"waiting (UNSCHEDULABLE) 1m03s, waiting (PULLING) 1.6s, running (NOT_READY) 1.5s"
	if diff := cmp.Diff(wantSummary, progress.Summary(timeline)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestLiveLines(t *testing.T) {
	t.Parallel()
	timeline, _ := build(life()[:9])
	var lines []string
	for _, s := range timeline.Done() {
		lines = append(lines, progress.Finished(s))
	}
	now := start.Add(62_400 * time.Millisecond)
	for range 5 {
		lines = append(lines, progress.Live(timeline, now, 60))
		now = now.Add(200 * time.Millisecond)
	}
	lines = append(lines, progress.Live(timeline, now, 34))
	want := `  requested    0.0s
  claimed      0.0s
  licensed     0.0s
  launching    0.1s
  launched     0.2s
  waiting     1m02s  UNSCHEDULABLE: 0/4 nodes are available
| waiting      0.0s  PULLING: image "jupyter" is being pull…
/ waiting      0.2s  PULLING: image "jupyter" is being pull…
- waiting      0.4s  PULLING: image "jupyter" is being pull…
\ waiting      0.6s  PULLING: image "jupyter" is being pull…
| waiting      0.8s  PULLING: image "jupyter" is being pull…
/ waiting      1.0s  PULLING: ima…`
	if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestEmptyTimeline(t *testing.T) {
	t.Parallel()
	var timeline progress.Timeline
	if got := progress.Live(timeline, start, 80) + progress.Summary(timeline); got != "" {
		t.Errorf("an empty timeline shows %q", got)
	}
	if got := timeline.Spans(start); got != nil {
		t.Errorf("spans %v, want none", got)
	}
	if !timeline.Began().IsZero() {
		t.Errorf("began %s, want the zero time", timeline.Began())
	}
}

func TestTimelineIsAValue(t *testing.T) {
	t.Parallel()
	first, _ := build([]progress.Change{at(0, events.Claimed), at(5, events.Licensed)})
	one, _ := first.With(at(10, events.Ready))
	other, _ := first.With(at(10, events.Failed))
	if one.Last().Event != events.Ready || other.Last().Event != events.Failed || first.Last().Event != events.Licensed {
		t.Errorf("last events %s, %s, %s: one timeline has changed another", one.Last().Event, other.Last().Event, first.Last().Event)
	}
}

func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	timeline, _ := build([]progress.Change{at(5000, progress.Requested), at(100, events.Claimed), at(200, events.Ready)})
	for _, s := range timeline.Spans(start) {
		if s.Took != 0 {
			t.Errorf("%s took %s, want 0s", s.Event, s.Took)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := map[time.Duration]string{
		-time.Second:                          "0.0s",
		0:                                     "0.0s",
		440 * time.Millisecond:                "0.4s",
		59*time.Second + 949*time.Millisecond: "59.9s",
		59*time.Second + 950*time.Millisecond: "1m00s",
		time.Minute:                           "1m00s",
		185 * time.Second:                     "3m05s",
		time.Hour - 501*time.Millisecond:      "59m59s",
		time.Hour - 500*time.Millisecond:      "1h00m",
		2*time.Hour + 7*time.Minute:           "2h07m",
		24*time.Hour - time.Second:            "1d0h",
		76*time.Hour + 59*time.Minute:         "3d5h",
	}
	for d, want := range tests {
		if got := progress.Duration(d); got != want {
			t.Errorf("Duration(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"plain":                  "plain",
		" two\nlines\t ":         "two lines",
		"\x1b[31mred\x07":        "\uFFFD[31mred\uFFFD",
		"c1 \u009b31m":           "c1 \uFFFD31m",
		"turned \u202Egnorw":     "turned \uFFFDgnorw",
		"not \xff UTF-8":         "not \uFFFD UTF-8",
		"Æblegrød · 日本":          "Æblegrød · 日本",
		"next line \u0085 there": "next line   there",
	}
	for in, want := range tests {
		if got := progress.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCause(t *testing.T) {
	t.Parallel()
	tests := []struct {
		reason        events.Reason
		message, want string
	}{
		{"", "", ""},
		{"", "why", "why"},
		{events.Pulling, "", "PULLING"},
		{events.Pulling, "image\nx", "PULLING: image x"},
	}
	for _, tt := range tests {
		if got := progress.Cause(tt.reason, tt.message); got != tt.want {
			t.Errorf("Cause(%q, %q) = %q, want %q", tt.reason, tt.message, got, tt.want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		columns int
		want    string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdef", 5, "abcd…"},
		{"abcdef", 1, "…"},
		{"abcdef", 0, ""},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"a\u0301bc", 3, "a\u0301bc"},
		{"bad\xff\xff", 4, "bad…"},
	}
	for _, tt := range tests {
		if got := progress.Clip(tt.text, tt.columns); got != tt.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tt.text, tt.columns, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	got := progress.Table([]string{"NAME", "STATUS", "REASON"}, [][]string{
		{"notebook-alice", "ready", ""},
		{"b", "", "PULLING: image\x1b[2J"},
	})
	want := "NAME            STATUS  REASON\n" +
		"notebook-alice  ready   -\n" +
		"b               -       PULLING: image\uFFFD[2J\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func FuzzLinesStayOneLine(f *testing.F) {
	f.Add("waiting", "PULLING", "image \x1b[2J\nof \u202E", 40)
	f.Add("", "", "", -1)
	f.Fuzz(func(t *testing.T, event, reason, message string, columns int) {
		c := progress.Change{Event: events.Type(event), Reason: events.Reason(reason), Message: message, At: start}
		timeline, _ := build([]progress.Change{c})
		for _, text := range []string{
			progress.Live(timeline, start.Add(time.Second), columns), progress.Entered(message, start, c),
			progress.Finished(progress.Span{Change: c}),
		} {
			if strings.ContainsAny(text, "\n\r\x1b\x07\x08\u202E\u2066") {
				t.Errorf("%q would steer a terminal", text)
			}
		}
		if got := progress.Live(timeline, start, columns); columns < 0 && got != "" {
			t.Errorf("%q in %d columns", got, columns)
		}
	})
}
