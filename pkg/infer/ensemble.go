package infer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/unrollnet/unrollnet/pkg/data"
)

// Ensembles are the values of Options.Ensemble other than 0.
var Ensembles = []int{1, 2, 4, 8}

// turn is one of the eight ways to lay a picture down: mirrored left to right,
// then top to bottom, then transposed.
type turn struct{ columns, rows, transpose bool }

// turns are all of them. The first n are a group: as they are; and transposed;
// and both turned by 180 degrees; and all of those mirrored.
var turns = [8]turn{
	{}, {transpose: true},
	{columns: true, rows: true}, {columns: true, rows: true, transpose: true},
	{columns: true}, {columns: true, transpose: true}, {rows: true}, {rows: true, transpose: true},
}

// size returns the height and width of a turned picture of h x w pixels.
func (t turn) size(h, w int) (int, int) {
	if t.transpose {
		return w, h
	}
	return h, w
}

// row calls do for every pixel of row y of a picture of h x w pixels with the
// pixel's index in the turned picture.
func (t turn) row(y, h, w int, do func(x, to int)) {
	if t.rows {
		y = h - 1 - y
	}
	at, step := y*w, 1
	if t.transpose {
		at, step = y, h
	}
	if t.columns {
		at, step = at+(w-1)*step, -step
	}
	for x := range w {
		do(x, at+x*step)
	}
}

// checkEnsemble says whether a picture of a task can be restored in n
// orientations.
func checkEnsemble(n int, trained data.Degradation) error {
	if n != 0 && !slices.Contains(Ensembles, n) {
		return fmt.Errorf("ensemble: found %d, expected 1, 2, 4 or 8", n)
	}
	if n > 2 && trained.Task == data.Scale {
		return fmt.Errorf("ensemble: found %d, expected 1 or 2 for scaling, whose samples begin at the first row and column and do not when mirrored", n)
	}
	return nil
}

// ensemble restores s in several orientations and returns the mean, in which
// samples that every orientation keeps are kept to the bit.
func (n *Network) ensemble(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	c, h, w, plane := s.c, s.h, s.w, s.h*s.w
	known := newSamples(s.mask, c*h, w)
	known.keep(s.y, w)
	if s.owned {
		s.y, s.mask = nil, nil
	}
	count := opt.Ensemble
	opt.Ensemble = 1
	// What is held here beside the restoration of one orientation: the sum, the
	// samples and their bits.
	held := 4*int64(c*plane) + 4*int64(len(known.values)) + 8*int64(len(known.known)+len(known.first))
	if opt.held += held; opt.MaxMemory > 0 {
		if held >= opt.MaxMemory {
			return nil, &MemoryError{MaxMemory: opt.MaxMemory, Need: held + 1, For: fmt.Sprintf("%d channels of %dx%d in %d orientations", c, w, h, count)}
		}
		opt.MaxMemory -= held
	}
	progress := opt.Progress
	sum, share := make([]float32, c*plane), 1/float32(count)
	y, mask := make([]float32, w), make([]float32, w)
	for i, t := range turns[:count] {
		if progress != nil {
			opt.Progress = func(done, total int) { progress(i*total+done, count*total) }
		}
		m := &signal{y: make([]float32, c*plane), mask: make([]float32, c*plane), c: c, owned: true}
		m.h, m.w = t.size(h, w)
		for r := range c * h {
			known.read(y, mask, r, 0)
			dy, dmask := m.y[r/h*plane:][:plane], m.mask[r/h*plane:][:plane]
			t.row(r%h, h, w, func(x, to int) { dy[to], dmask[to] = y[x], mask[x] })
		}
		out, err := n.once(ctx, m, opt)
		if small := (*MemoryError)(nil); errors.As(err, &small) {
			small.MaxMemory, small.Need = small.MaxMemory+held, small.Need+held
		}
		if err != nil {
			return nil, err
		}
		for r := range c * h {
			dst, src := sum[r*w:][:w], out[r/h*plane:][:plane]
			t.row(r%h, h, w, func(x, from int) { dst[x] += share * src[from] })
		}
		if 4*len(sum) >= collectBytes {
			out = nil
			debug.FreeOSMemory()
		}
	}
	if n.net.Config().Consistency == "hard" {
		// The mean of equal numbers is that number, unrounded.
		for r := range c * h {
			known.read(y, mask, r, 0)
			for x, m := range mask {
				if m != 0 {
					sum[r*w+x] = y[x]
				}
			}
		}
	}
	return sum, nil
}
