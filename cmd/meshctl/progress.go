package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// tally is what a progress line shows.
type tally struct {
	resolved                      bool
	targets, done, failed, active int
	waiting                       int // neither begun nor ended
}

func tallyOf(c *course) tally {
	t := tally{resolved: c.state.Resolved, targets: c.state.TargetCount, done: c.state.CompletedCount, active: c.state.InFlight}
	for _, i := range c.nodes {
		if ended(i.Status) && i.Status != "Success" {
			t.failed++
		}
	}
	t.waiting = max(t.targets-t.done-t.active, 0)
	return t
}

// barWidth is the number of columns of the bar itself.
const barWidth = 24

// progressLine is one line of at most width columns.
func progressLine(t tally, since time.Duration, width int) string {
	var line strings.Builder
	if t.targets == 0 {
		line.WriteString("finding the nodes")
	} else {
		filled := barWidth * min(t.done, t.targets) / t.targets
		fmt.Fprintf(&line, "[%s%s] %d/%d done", strings.Repeat("#", filled), strings.Repeat("-", barWidth-filled), t.done, t.targets)
	}
	for _, part := range []struct {
		n    int
		name string
	}{{t.failed, "failed"}, {t.active, "running"}, {t.waiting, "waiting"}} {
		if part.n > 0 {
			fmt.Fprintf(&line, ", %d %s", part.n, part.name)
		}
	}
	seconds := int(since.Seconds())
	fmt.Fprintf(&line, "  %d:%02d", seconds/60, seconds%60)
	if width > 1 {
		return text.Trim(line.String(), width-1) // a full line would wrap
	}
	return line.String()
}

// progress repaints one line on a terminal, until it is stopped. Elsewhere it
// writes nothing.
type progress struct {
	tallies chan tally
	talk    chan string
	end     chan struct{}
	gone    chan struct{}
}

// clearLine goes back to the beginning of the line and empties it.
const clearLine = "\r\x1b[K"

// startProgress paints on stderr. Whoever starts it stops it, and until then
// leaves stderr to it.
func (a *app) startProgress() *progress {
	p := &progress{tallies: make(chan tally), talk: make(chan string), end: make(chan struct{}), gone: make(chan struct{})}
	var line io.Writer = io.Discard
	if a.errTerminal {
		line = a.err
	}
	go p.paint(line, a.err, a.width)
	return p
}

func (p *progress) paint(w, talk io.Writer, width int) {
	defer close(p.gone)
	begun := time.Now()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var t tally
	for {
		fmt.Fprint(w, clearLine, progressLine(t, time.Since(begun), width))
		select {
		case t = <-p.tallies:
		case text := <-p.talk:
			fmt.Fprint(w, clearLine)
			fmt.Fprintln(talk, text)
		case <-p.end:
			fmt.Fprint(w, clearLine)
			return
		case <-second.C:
		}
	}
}

func (p *progress) show(c *course) { p.tallies <- tallyOf(c) }

// say writes a line of talk above the progress line.
func (p *progress) say(text string) { p.talk <- text }

// stop takes the line away and waits until that is done.
func (p *progress) stop() {
	close(p.end)
	<-p.gone
}
