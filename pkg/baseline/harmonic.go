package baseline

import (
	"errors"
	"fmt"
	"math"
)

const (
	harmonicRadius    = 2    // a 5x5 window: 24 neighbours
	harmonicTolerance = 1e-6 // of the residual, relative to the right-hand side
)

// harmonic fills missing samples so that each is the mean of its neighbours:
// every pixel is joined to the 24 others of its 5x5 window with weight 1 (edges
// that leave the image are dropped), and the combinatorial Laplacian L = D - W
// is zero at every missing pixel while known samples stay. With U the missing
// and K the known pixels that is L_UU x_U = W_UK y_K, solved per channel, with
// the channel's own mask, by conjugate gradients in float64 until the residual
// is below 1e-6 of the right-hand side.
//
// The graph of an image is connected, so one sample determines a channel. A
// channel without any takes the mean of the other channels' results; if no
// channel has one, that is an error.
func harmonic(y, mask []float32, c, h, w int) ([]float32, error) {
	n := h * w
	out := make([]float32, c*n)
	solver := newLaplace(h, w)
	solved := make([]bool, c)
	count := 0
	for k := range c {
		ok, err := solver.fill(out[k*n:(k+1)*n], y[k*n:(k+1)*n], mask[k*n:(k+1)*n])
		if err != nil {
			return nil, fmt.Errorf("channel %d: %w", k, err)
		}
		if solved[k] = ok; ok {
			count++
		}
	}
	if count == 0 {
		return nil, errors.New("found no known sample in any channel, expected at least one")
	}
	if count == c {
		return out, nil
	}
	mean := make([]float64, n)
	for k := range c {
		if solved[k] {
			for i, v := range out[k*n : (k+1)*n] {
				mean[i] += float64(v)
			}
		}
	}
	for k := range c {
		if !solved[k] {
			for i := range n {
				out[k*n+i] = float32(mean[i] / float64(count))
			}
		}
	}
	return out, nil
}

// laplace holds the work space of a solver for one image size.
type laplace struct {
	h, w       int
	rowN, colN []float64 // window sizes, clipped by the image: degree + 1 = rowN * colN
	x, r, p, q []float64 // (h,w), zero at known pixels
	sums       []float64 // ring of the last five rows of horizontal sums: (5, w)
	acc        []float64 // (w)
}

func newLaplace(h, w int) *laplace {
	s := &laplace{h: h, w: w, rowN: make([]float64, w), colN: make([]float64, h)}
	for _, v := range []*[]float64{&s.x, &s.r, &s.p, &s.q} {
		*v = make([]float64, h*w)
	}
	s.sums, s.acc = make([]float64, (2*harmonicRadius+1)*w), make([]float64, w)
	for i := range s.rowN {
		s.rowN[i] = float64(min(w-1, i+harmonicRadius) - max(0, i-harmonicRadius) + 1)
	}
	for i := range s.colN {
		s.colN[i] = float64(min(h-1, i+harmonicRadius) - max(0, i-harmonicRadius) + 1)
	}
	return s
}

// apply computes dst = L src for a plane (h,w): the window size times the pixel
// less the window's sum, the pixel itself cancelling.
//
//	dst[i] = deg[i]*src[i] - sum over the 24 neighbours j inside of src[j]
//
// Window sums are made of the same five row sums for every pixel, added in one
// order, not by a running total, so that no rounding travels along the image.
func (s *laplace) apply(dst, src []float64) {
	const ring = 2*harmonicRadius + 1
	h, w := s.h, s.w
	next := 0 // first row without a sum
	for y := range h {
		for ; next < h && next <= y+harmonicRadius; next++ {
			rowSums(s.sums[next%ring*w:][:w], src[next*w:(next+1)*w])
		}
		acc := s.acc
		clear(acc)
		for r := max(0, y-harmonicRadius); r <= min(h-1, y+harmonicRadius); r++ {
			line := s.sums[r%ring*w:][:len(acc)]
			for x, v := range line {
				acc[x] += v
			}
		}
		in, out, nc := src[y*w:(y+1)*w], dst[y*w:(y+1)*w], s.colN[y]
		for x, nr := range s.rowN {
			out[x] = nr*nc*in[x] - acc[x]
		}
	}
}

// rowSums is the sum of the five values around each, fewer at the ends.
func rowSums(dst, src []float64) {
	w := len(src)
	edge := func(x int) {
		var v float64
		for _, u := range src[max(0, x-harmonicRadius):min(w, x+harmonicRadius+1)] {
			v += u
		}
		dst[x] = v
	}
	if w <= 2*harmonicRadius {
		for x := range w {
			edge(x)
		}
		return
	}
	for x := range harmonicRadius {
		edge(x)
		edge(w - 1 - x)
	}
	for x := harmonicRadius; x < w-harmonicRadius; x++ {
		dst[x] = src[x-2] + src[x-1] + src[x] + src[x+1] + src[x+2]
	}
}

// fill solves one channel; false if it has no known sample (out stays zero).
func (s *laplace) fill(out, y, mask []float32) (bool, error) {
	var mean float64
	known := 0
	for i, m := range mask {
		if m == 1 {
			mean += float64(y[i])
			known++
		}
	}
	if known == 0 {
		return false, nil
	}
	if known == len(mask) {
		copy(out, y)
		return true, nil
	}
	// Everything is relative to the mean, so that the start is a sensible one;
	// L of a constant is zero.
	mean /= float64(known)

	// Right-hand side: W_UK (y_K - mean) = -(L applied to the known part) at U.
	for i, m := range mask {
		s.x[i] = 0
		if m == 1 {
			s.x[i] = float64(y[i]) - mean
		}
	}
	s.apply(s.r, s.x)
	var bb float64
	for i, m := range mask {
		if m == 1 {
			s.r[i], s.p[i] = 0, 0
			continue
		}
		s.r[i] = -s.r[i]
		s.p[i] = s.r[i]
		bb += s.r[i] * s.r[i]
	}
	clear(s.x)
	rr := bb
	// In exact arithmetic as many steps as unknowns are enough; rounding can ask
	// for some more.
	limit := 2*(len(mask)-known) + 100
	for it := 0; rr > harmonicTolerance*harmonicTolerance*bb; it++ {
		if it == limit {
			return false, fmt.Errorf("conjugate gradients: found a relative residual of %.3g after %d iterations, expected at most %g", math.Sqrt(rr/bb), it, harmonicTolerance)
		}
		s.apply(s.q, s.p)
		var pq float64
		for i, m := range mask {
			if m == 0 {
				pq += s.p[i] * s.q[i]
			}
		}
		alpha := rr / pq
		var next float64
		for i, m := range mask {
			if m == 0 {
				s.x[i] += alpha * s.p[i]
				s.r[i] -= alpha * s.q[i]
				next += s.r[i] * s.r[i]
			}
		}
		beta := next / rr
		rr = next
		for i := range s.p { // both are zero at known pixels
			s.p[i] = s.r[i] + beta*s.p[i]
		}
	}
	for i, m := range mask {
		if m == 1 {
			out[i] = y[i]
		} else {
			out[i] = float32(s.x[i] + mean)
		}
	}
	return true, nil
}
