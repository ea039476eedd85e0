package cli

import (
	"fmt"
	"io"
	"os"
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
	// finished is how many phases that are over have been written.
	finished int
	over     bool
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
// removes it.
func (d *display) start() (stop func()) {
	done := make(chan struct{})
	var redraw sync.WaitGroup
	if d.manner == live {
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
	}
	return func() {
		close(done)
		redraw.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.over = true; d.manner == live {
			fmt.Fprint(d.out, erase)
		}
	}
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
			switch d.manner {
			case plain:
				fmt.Fprintln(d.out, progress.Entered(d.name, next.Began(), c))
			case live:
				spans := next.Done()
				for _, span := range spans[d.finished:] {
					fmt.Fprintln(d.out, progress.Finished(span))
				}
				d.finished = len(spans)
			case silent:
			}
		}
	})
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
	if d.manner == live && !d.over {
		fmt.Fprint(d.out, erase)
	}
	write()
	if d.manner == live && !d.over {
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
