package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/term"

	"berth/cmd/berth/internal/progress"
)

// manner is how progress is shown.
type manner int

const (
	// silent shows nothing.
	silent manner = iota
	// plain writes a line for each change.
	plain
	// live writes a line for each phase that is over, and keeps the one for the
	// phase under way up to date.
	live
)

const (
	// redrawEvery is how often the live line is written anew.
	redrawEvery = 100 * time.Millisecond
	// erase clears the line that the cursor is in.
	erase = "\r\x1b[K"
	// defaultColumns is for terminals that do not tell their width.
	defaultColumns = 80
)

// display shows how one pod gets on. It is safe for concurrent use.
type display struct {
	out     io.Writer
	manner  manner
	columns func() int

	mu       sync.Mutex
	name     string
	timeline progress.Timeline
	// finished is how many phases that are over have been dealt with, repeated
	// whether some of them were not written.
	finished int
	repeated bool
	// moving says that there is a live line.
	moving bool
}

// newDisplay returns a display on stderr.
func (a *app) newDisplay(name string) *display {
	d := &display{out: a.Stderr, manner: plain, name: name, columns: func() int { return defaultColumns }}
	file, ok := a.Stderr.(*os.File)
	switch {
	case a.quiet || a.json:
		d.manner = silent
	case ok && term.IsTerminal(int(file.Fd())) && a.getenv("TERM") != "dumb":
		d.manner = live
		d.columns = func() int {
			if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
				return columns
			}
			return defaultColumns
		}
	}
	return d
}

// start keeps a live line moving until the function returned is called, which
// removes it. It can be started again after that.
func (d *display) start() (stop func()) {
	if d.manner != live {
		return func() {}
	}
	d.move(true)
	done := make(chan struct{})
	var redraw sync.WaitGroup
	redraw.Go(func() {
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				d.above(func() {})
			}
		}
	})
	return func() {
		close(done)
		redraw.Wait()
		d.move(false)
	}
}

// move begins or removes the live line.
func (d *display) move(moving bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moving = moving
	fmt.Fprint(d.out, erase)
}

// rename says what the pod is called.
func (d *display) rename(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.name = name
}

// show takes in what became known.
func (d *display) show(changes []progress.Change) {
	d.above(func() {
		for _, c := range changes {
			next, news := d.timeline.With(c)
			if d.timeline = next; !news {
				continue
			}
			switch {
			case d.manner == live:
				d.finish(next.Done())
			// What a pod is called is known a little later.
			case d.manner == plain && c.Event != progress.Requested:
				fmt.Fprintln(d.out, progress.Entered(d.name, next.Began(), c))
			}
		}
	})
}

// finish writes the phases that are over by now. One that came before, as those
// of a container that crashes again and again, is not written again.
func (d *display) finish(spans []progress.Span) {
	for i := d.finished; i < len(spans); i++ {
		if slices.ContainsFunc(spans[:i], func(before progress.Span) bool {
			return before.Event == spans[i].Event && before.Reason == spans[i].Reason
		}) {
			d.repeated = true
			continue
		}
		fmt.Fprintln(d.out, progress.Finished(spans[i]))
	}
	d.finished = len(spans)
}

// summary is how long each phase took, where the lines do not say so.
func (d *display) summary() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.manner == plain || d.manner == live && d.repeated {
		return progress.Summary(d.timeline)
	}
	return ""
}

// notice tells what else a person should know.
func (d *display) notice(text string) {
	if d.manner != silent {
		d.above(func() { fmt.Fprintln(d.out, "berth:", progress.Clean(text)) })
	}
}

// above writes something where the live line is, and that below it.
func (d *display) above(write func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moving {
		fmt.Fprint(d.out, erase)
	}
	write()
	if d.moving {
		// A full last column would make some terminals begin another line.
		fmt.Fprint(d.out, progress.Live(d.timeline, time.Now(), d.columns()-1))
	}
}

// seen is what has been shown.
func (d *display) seen() progress.Timeline {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timeline
}
