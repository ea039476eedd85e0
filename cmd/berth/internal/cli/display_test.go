package cli

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is what a terminal shows after a text with erased lines.
func screen(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if at := strings.LastIndex(line, erase); at >= 0 {
			line = line[at+len(erase):]
		}
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func TestLiveDisplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := &display{out: &out, manner: live, name: "n", columns: func() int { return 44 }}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if diff := cmp.Diff(want, screen(out.String())); diff != "" {
				t.Errorf("screen (-want +got):\n%s", diff)
			}
		}
		// after lets time pass, and the line be written anew.
		after := func(pause time.Duration) { <-time.After(pause) }

		stop := d.start()
		d.show([]progress.Change{{Event: progress.Requested, At: time.Now()}})
		expect("| requested    0.0s")
		after(1300 * time.Millisecond)
		expect("- requested    1.3s")
		d.above(func() { out.WriteString("n\n") })
		stop()
		expect("n\n")
		after(time.Second)
		expect("n\n")
		stop = d.start()
		d.show([]progress.Change{
			{Event: events.Claimed, At: time.Now()},
			{Event: events.Waiting, Reason: events.Pulling, Message: "image x is being pulled", At: time.Now()},
		})
		after(700 * time.Millisecond)
		expect(`n
  requested    2.3s
  claimed      0.0s
\ waiting      0.7s  PULLING: image x is b…`)
		// A phase that comes again is in the summary alone.
		d.show([]progress.Change{
			{Event: events.Running, Reason: events.Crashed, At: time.Now()},
			{Event: events.Waiting, Reason: events.Pulling, At: time.Now()},
		})
		after(200 * time.Millisecond)
		d.notice("the service\nis away")
		d.show([]progress.Change{{Event: events.Ready, At: time.Now()}})
		stop()
		d.show(nil)
		expect(`n
  requested    2.3s
  claimed      0.0s
  waiting      0.7s  PULLING: image x is being pulled
  running      0.0s  CRASHED
berth: the service is away
`)
		want := "requested 2.3s, claimed 0.0s, waiting (PULLING) 0.9s, running (CRASHED) 0.0s"
		if diff := cmp.Diff(want, d.summary()); diff != "" {
			t.Errorf("summary (-want +got):\n%s", diff)
		}
	})
}

func TestSilentDisplay(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, a := range []*app{{Process: Process{Stderr: &out}, quiet: true}, {Process: Process{Stderr: &out}, json: true}} {
		d := a.newDisplay("n")
		stop := d.start()
		d.show([]progress.Change{{Event: events.Claimed}, {Event: events.Ready}})
		d.notice("hello")
		stop()
		if got := d.seen().Last().Event; got != events.Ready {
			t.Errorf("seen %q, want ready", got)
		}
	}
	if out.Len() > 0 {
		t.Errorf("written: %s", &out)
	}
}
