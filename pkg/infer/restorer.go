package infer

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/baseline"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

// Tasks are the kinds of restoration: a one-channel colour mosaic to RGB,
// missing rows and columns (an image s times larger), missing pixels.
var Tasks = []string{"demosaic", "scale", "fill"}

// Restorer fills in missing samples: a trained network or a classical method,
// under one name.
type Restorer struct {
	Name    string
	Task    string   // demosaic, scale or fill
	Params  int      // learned scalars, 0 for a classical method
	Network *Network // nil for a classical method

	method baseline.Method
}

// Resolve returns the restorer called name for a task: an embedded network, a
// classical method (see baseline.Names) or, by its path, a weight file. An
// unknown name gives a *NotFoundError, a network of another task a *TaskError.
// With task "" a network decides; a classical method must then have a name that
// only one task knows, or an *AmbiguousError says which do.
func Resolve(task, name string) (*Restorer, error) {
	if task != "" && !slices.Contains(Tasks, task) {
		return nil, fmt.Errorf("task: found %q, expected %s", task, strings.Join(Tasks, " | "))
	}
	if !slices.Contains(weights.Names(), name) {
		var found []string
		for _, t := range Tasks {
			if (task == "" || t == task) && slices.Contains(baseline.Names(t), name) {
				found = append(found, t)
			}
		}
		switch {
		case len(found) == 1:
			m, err := baseline.Lookup(found[0], name)
			if err != nil {
				return nil, err
			}
			return &Restorer{Name: name, Task: found[0], method: m}, nil
		case len(found) > 1:
			return nil, &AmbiguousError{Name: name, Tasks: found}
		}
		for _, t := range Tasks {
			if !isFile(name) && slices.Contains(baseline.Names(t), name) {
				return nil, &TaskError{Name: name, Task: t, Want: task}
			}
		}
		if !isFile(name) {
			return nil, notFound(task, name, Names(task))
		}
	}
	n, err := Open(name)
	if err != nil {
		return nil, err
	}
	if task != "" && n.Task() != task {
		return nil, &TaskError{Name: name, Task: n.Task(), Want: task}
	}
	return n.Restorer(), nil
}

// Names returns the names that Resolve knows for a task, or for all with task
// "": embedded networks, then classical methods, each sorted.
func Names(task string) []string {
	var nets, methods []string
	for _, name := range weights.Names() {
		if task == "" {
			nets = append(nets, name)
			continue
		}
		if n, err := Open(name); err == nil && n.Task() == task {
			nets = append(nets, name)
		}
	}
	for _, t := range Tasks {
		if task == "" || t == task {
			methods = append(methods, baseline.Names(t)...)
		}
	}
	sort.Strings(methods)
	return append(nets, slices.Compact(methods)...)
}

// Default returns the name of the embedded network for a task, and whether
// there is one: the best there is, its time considered. Scale counts for task
// scale alone.
func Default(task string, scale int) (string, bool) {
	name := weights.Default(purpose(task, scale))
	return name, name != ""
}

// DefaultExplained is Default among networks that package explain can show.
func DefaultExplained(task string, scale int) (string, bool) {
	name := weights.DefaultExplained(purpose(task, scale))
	return name, name != ""
}

// purpose is what package weights calls a task.
func purpose(task string, scale int) string {
	if task == "scale" {
		return fmt.Sprintf("x%d", scale)
	}
	return task
}

// RestorePlanar fills in what is missing of y (C,H,W) under mask (C,H,W), as
// Network.RestorePlanar does; a classical method uses none of the options.
func (r *Restorer) RestorePlanar(ctx context.Context, y, mask []float32, c, h, w int, opt Options) ([]float32, error) {
	return r.restore(ctx, &signal{y: y, mask: mask, c: c, h: h, w: w}, opt)
}

// Restore is RestorePlanar with default options.
func (r *Restorer) Restore(ctx context.Context, y, mask []float32, c, h, w int) ([]float32, error) {
	return r.RestorePlanar(ctx, y, mask, c, h, w, Options{})
}

func (r *Restorer) restore(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	if r.Network != nil {
		return r.Network.restore(ctx, s, opt)
	}
	if _, err := opt.resolved(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	out, err := r.method.Restore(s.y, s.mask, s.c, s.h, s.w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Name, err)
	}
	if i := notFinite(out); i >= 0 {
		c, y, x := place(i, s.h, s.w)
		return nil, fmt.Errorf("%s: found %v at channel %d, pixel (%d,%d), expected a finite number", r.Name, out[i], c, x, y)
	}
	if opt.Progress != nil {
		opt.Progress(1, 1)
	}
	return out, nil
}

// NotFoundError says that a name is no network, no classical method and no file.
// It matches fs.ErrNotExist.
type NotFoundError struct {
	Name    string
	Task    string   // the task asked for, or ""
	Known   []string // the names there are
	Nearest string   // the most similar of them, or "" if none is similar
}

// Error names what was asked for and what there is.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "model %q: no file and no known name", e.Name)
	if e.Task != "" {
		fmt.Fprintf(&b, " for %s", e.Task)
	}
	if e.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %q?", e.Nearest)
	}
	known := "none"
	if len(e.Known) > 0 {
		known = strings.Join(e.Known, ", ")
	}
	fmt.Fprintf(&b, " (known: %s)", known)
	return b.String()
}

// Is reports whether target is fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// AmbiguousError says that a name is known to several tasks and none was given.
type AmbiguousError struct {
	Name  string
	Tasks []string
}

// Error names the tasks.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("model %q exists for the tasks %s: say which", e.Name, strings.Join(e.Tasks, ", "))
}

// TaskError says that a restorer serves another task than the one asked for.
type TaskError struct{ Name, Task, Want string }

// Error names both tasks.
func (e *TaskError) Error() string {
	return fmt.Sprintf("model %q: found a restorer for %s, expected one for %s", e.Name, e.Task, e.Want)
}

func notFound(task, name string, known []string) error {
	e := &NotFoundError{Name: name, Task: task, Known: known}
	best := max(2, len(name)/3) + 1
	for _, k := range known {
		if d := editDistance(name, k); d < best {
			best, e.Nearest = d, k
		}
	}
	return e
}

// editDistance is Levenshtein's: the number of bytes to insert, delete or
// replace to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// isFile reports whether path names something that can be opened, so that an
// unreadable file gets the error of opening it.
func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil || !os.IsNotExist(err)
}
