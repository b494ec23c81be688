package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows on a terminal how many images are done, images per second and
// the time that remains; elsewhere it is silent. A nil progress shows nothing.
type progress struct {
	bar *progressbar.ProgressBar
	app *app
}

// newProgress starts a display of total items.
func newProgress(a *app, what string, total int, quiet bool) *progress {
	if quiet || !a.terminal || total < 2 {
		return nil
	}
	return &progress{app: a, bar: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(what),
		progressbar.OptionSetItsString("images"), progressbar.OptionShowIts(), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())}
}

// tiles returns a function that shows how much of one image is done, nil where
// nothing is shown.
func tiles(a *app, quiet bool) func(done, total int) {
	if quiet || !a.terminal {
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total int) {
		if bar == nil {
			bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription("restoring"),
				progressbar.OptionSetItsString("tiles"), progressbar.OptionShowIts(), progressbar.OptionShowCount(),
				progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionClearOnFinish())
		}
		_ = bar.Set(done)
	}
}

// add counts one item. What cannot be drawn is no reason to stop.
func (p *progress) add() {
	if p != nil {
		_ = p.bar.Add(1)
	}
}

// line writes a line of its own, above the bar where there is one.
func (p *progress) line(a *app, format string, args ...any) {
	if p != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(a.err, format+"\n", args...)
}

// end takes the display away.
func (p *progress) end() {
	if p != nil {
		_ = p.bar.Finish()
	}
}
