// Package lab is what the programs under scripts that train and measure have in
// common: a work folder whose files are whole or absent, processes of one thread
// whose processor time is counted, several at a time, and trainings that continue
// where they were stopped.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// WriteFile writes a file whole or not at all, with the folders it needs.
func WriteFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Save keeps a result as JSON.
func Save(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}

// Load reads what Save kept; ok is false where there is nothing.
func Load(path string, v any) (ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s: %w; remove it to do it again", path, err)
	}
	return true, nil
}

// FileName makes a label one that can name a file.
func FileName(label string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		}
		return '_'
	}, label)
}

// Lab runs processes and says what happens.
type Lab struct {
	Work           string // folder of everything that is kept
	Program        string // the unrollnet to run; "" to have Build make one
	Jobs           int    // processes at a time
	Stdout, Stderr io.Writer

	mu sync.Mutex // of Stdout
}

// Say writes a line.
func (l *Lab) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.Stdout, format+"\n", args...)
}

// Build returns the program that trains and measures: the one given, or one built
// once into the work folder and kept, so that a change of the sources does not show
// in the middle.
func (l *Lab) Build(ctx context.Context) (string, error) {
	if l.Program != "" {
		return l.Program, nil
	}
	path, err := filepath.Abs(filepath.Join(l.Work, "bin", "unrollnet"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		l.Say("building %s", path)
		c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/unrollnet")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		c.Stderr = l.Stderr
		if err := c.Run(); err != nil {
			return "", fmt.Errorf("go build ./cmd/unrollnet: %w", err)
		}
	}
	l.Program = path
	return path, nil
}

// Command prepares a process with one thread, which a stop asks to end.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	apart(c)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c
}

// Parallel runs n jobs, l.Jobs at a time. One that fails does not stop the others;
// the error is that of all that failed.
func (l *Lab) Parallel(ctx context.Context, n int, job func(ctx context.Context, i int) error) error {
	next := make(chan int)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for range min(l.Jobs, n) {
		wg.Go(func() {
			for i := range next {
				if errs[i] = job(ctx, i); errs[i] != nil {
					l.Say("failed: %v", errs[i])
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// Train trains an experiment with settings over those of its file, in a run folder
// of its own, or continues there, and returns the CPU minutes of all processes the
// training took. One that was stopped and saved is an error that says so.
func Train(ctx context.Context, program, config, dir string, sets []string) (minutes float64, err error) {
	args := []string{"train", config, "--quiet", "--run-dir", dir}
	for _, v := range sets {
		args = append(args, "--set", v)
	}
	c := Command(ctx, program, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err = c.Run()
	name := filepath.Base(dir)
	if c.ProcessState != nil {
		used := (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Minutes()
		if err := addCPU(dir+".cpu", used); err != nil {
			return 0, err
		}
		if c.ProcessState.Success() {
			err = nil // asked to stop when it had just finished
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 75 {
		return 0, fmt.Errorf("%s: stopped and saved; the same command continues it", name)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return readCPU(dir + ".cpu")
}

// addCPU notes the CPU minutes of one process of a training.
func addCPU(path string, minutes float64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%g\n", minutes)
	return errors.Join(err, f.Close())
}

// readCPU adds up what addCPU noted.
func readCPU(path string) (sum float64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Fields(string(b)) {
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		sum += v
	}
	return sum, nil
}
