// Command unrollnet fills in missing samples of images with small interpretable
// networks, and trains, measures and inspects such networks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/train"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitOK          = 0
	exitUnexpected  = 1
	exitUsage       = 2   // wrong flags or config
	exitSomeFailed  = 3   // several inputs, finished, some failed
	exitRejected    = 4   // the only input was rejected
	exitNoSpace     = 5   // no space or memory
	exitNotFound    = 10  // model or checkpoint not found
	exitLocked      = 11  // run directory locked
	exitDamaged     = 12  // checkpoint damaged and no older valid one
	exitStopped     = 75  // stopped on request with state saved
	exitInterrupted = 130 // interrupted
)

// app is the outside world as commands see it.
type app struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	terminal bool // err is a terminal
	now      func() time.Time
}

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: term.IsTerminal(int(os.Stderr.Fd())), now: time.Now}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	err := kernel.CheckEnvironment()
	if err != nil {
		err = &usageError{err.Error()}
	} else {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	if msg := oneLine(err); msg != "" {
		fmt.Fprintf(a.err, "unrollnet: %s\n", msg)
	}
	return exitCode(err)
}

// oneLine is the message of an error on one line, "" for those already told.
func oneLine(err error) string {
	var some *someFailed
	switch {
	case errors.As(err, &some):
		return some.Error()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	var told *toldError
	if errors.As(err, &told) {
		return ""
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
}

// usageError is a wrong command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// someFailed says that of several inputs some failed.
type someFailed struct{ failed, total int }

func (e *someFailed) Error() string {
	return fmt.Sprintf("%d of %d inputs failed", e.failed, e.total)
}

// toldError is an error whose message has been written already.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// rejected is an input that is not what it should be.
type rejected struct{ err error }

func (e *rejected) Error() string { return e.err.Error() }
func (e *rejected) Unwrap() error { return e.err }

// damaged is a file of weights that cannot be used.
type damaged struct{ err error }

func (e *damaged) Error() string { return e.err.Error() }
func (e *damaged) Unwrap() error { return e.err }

// outputError is a result that could not be written.
type outputError struct{ err error }

func (e *outputError) Error() string { return e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// exitCode is the one place that maps errors to exit codes.
func exitCode(err error) int {
	var (
		usage    *usageError
		conf     *config.Error
		some     *someFailed
		reject   *rejected
		format   *imageio.FormatError
		notFound *infer.NotFoundError
		taskErr  *infer.TaskError
		which    *infer.AmbiguousError
		damage   *damaged
		output   *outputError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, train.ErrStopped):
		return exitStopped
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &some):
		return exitSomeFailed
	case noSpace(err):
		return exitNoSpace
	case errors.As(err, &output):
		return exitUnexpected
	case errors.As(err, &usage), errors.As(err, &conf), errors.As(err, &taskErr), errors.As(err, &which):
		return exitUsage
	case errors.Is(err, checkpoint.ErrLocked):
		return exitLocked
	case errors.As(err, &notFound), errors.Is(err, checkpoint.ErrNotFound):
		return exitNotFound
	case errors.As(err, &damage), errors.Is(err, checkpoint.ErrDamaged):
		return exitDamaged
	case errors.As(err, &reject):
		return exitRejected
	case errors.As(err, &format):
		return exitRejected
	}
	return exitUnexpected
}

// noSpace reports whether disk or memory ran out.
func noSpace(err error) bool {
	var mem *infer.MemoryError
	return checkpoint.IsNoSpace(err) || errors.Is(err, syscall.ENOMEM) || errors.As(err, &mem)
}
