// Package baseline holds the classical methods that a trained network has to
// beat: bilinear, Malvar-He-Cutler and Menon demosaicking, bicubic and bilinear
// scaling of decimated images, and the harmonic fill of missing pixels (the
// graph solver without anything learned).
//
// All of them take samples and a mask and nothing else; the Bayer phase or the
// sampling grid is read off the mask. Known samples are returned as they came.
// Results are not clamped to [0,1].
package baseline

import (
	"fmt"
	"sort"
	"strings"
)

// Method restores an image from its known samples.
type Method interface {
	Name() string
	Task() string
	// Restore fills in what is missing. y and mask are (c,h,w); mask is 1 where
	// y is a known sample and 0 where it is missing (y is ignored there). The
	// result is a new slice. An error says what of the mask or of the sizes the
	// method cannot handle; no mask or size panics.
	Restore(y, mask []float32, c, h, w int) ([]float32, error)
}

type method struct {
	name, task string
	restore    func(y, mask []float32, c, h, w int) ([]float32, error)
}

func (m method) Name() string { return m.name }
func (m method) Task() string { return m.task }

func (m method) Restore(y, mask []float32, c, h, w int) ([]float32, error) {
	if err := check(y, mask, c, h, w); err != nil {
		return nil, fmt.Errorf("%s %s: %w", m.task, m.name, err)
	}
	out, err := m.restore(y, mask, c, h, w)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", m.task, m.name, err)
	}
	return out, nil
}

// methods in the order of increasing strength within a task.
var methods = []method{
	{"bilinear", "demosaic", demosaicWith(bilinearBayer)},
	{"malvar", "demosaic", demosaicWith(malvar)},
	{"menon", "demosaic", demosaicWith(menon)},
	{"bilinear", "scale", bilinearScale},
	{"bicubic", "scale", bicubicScale},
	{"harmonic", "fill", harmonic},
}

// Tasks lists the tasks that have baselines.
func Tasks() []string { return []string{"demosaic", "scale", "fill"} }

// Names lists the methods of a task from the simplest to the strongest; nil
// for a task there is none for.
func Names(task string) []string {
	var out []string
	for _, m := range methods {
		if m.task == task {
			out = append(out, m.name)
		}
	}
	return out
}

// Lookup finds a method by task and name. The error of a wrong one lists the
// right ones and points at the nearest.
func Lookup(task, name string) (Method, error) {
	for _, m := range methods {
		if m.task == task && m.name == name {
			return m, nil
		}
	}
	known := Names(task)
	if known == nil {
		return nil, fmt.Errorf("task: found %q, expected one of %s%s", task, strings.Join(Tasks(), ", "), suggest(task, Tasks()))
	}
	sort.Strings(known)
	return nil, fmt.Errorf("baseline for task %s: found %q, expected one of %s%s", task, name, strings.Join(known, ", "), suggest(name, known))
}

// suggest is "; did you mean X?" for the candidate within an edit distance of
// a third of its length, "" if there is none.
func suggest(name string, candidates []string) string {
	best, dist := "", 0
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(name), c); d <= max(1, len(c)/3) && (best == "" || d < dist) {
			best, dist = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d++
			}
			diag = row[j+1]
			row[j+1] = min(d, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}

func check(y, mask []float32, c, h, w int) error {
	if c < 1 || h < 1 || w < 1 {
		return fmt.Errorf("found a shape of (%d,%d,%d), expected at least (1,1,1)", c, h, w)
	}
	if n := c * h * w; len(y) != n || len(mask) != n {
		return fmt.Errorf("found %d samples and %d mask values, expected %d x %d x %d of each", len(y), len(mask), c, h, w)
	}
	for i, m := range mask {
		if m == 1 {
			if v := y[i]; v-v != 0 {
				return fmt.Errorf("found %v %s, expected finite samples", v, where(i, h, w))
			}
		} else if m != 0 {
			return fmt.Errorf("found mask value %v %s, expected 0 or 1", m, where(i, h, w))
		}
	}
	return nil
}

func where(i, h, w int) string {
	n := h * w
	return fmt.Sprintf("in channel %d at column %d, row %d", i/n, i%n%w, i%n/w)
}

// mirror reflects an index into [0,n) without repeating the edge sample:
// -1 -> 1, n -> n-2. It keeps the parity for n >= 2, so that a reflected sample
// of a mosaic has the colour its place calls for.
func mirror(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i %= period
	if i < 0 {
		i += period
	}
	if i >= n {
		i = period - i
	}
	return i
}
