package kernel

import "fmt"

// Stencil describes a weighted pixel graph on padded planes. A plane is Rows
// rows of Stride elements; pixel (r, c) is at Base + r*Stride + c. Kernels may
// compute, and write, any column c < Padded, where Cols <= Padded <= Stride and
// Padded is a multiple of 16; so every plane needs valid memory for all Offsets
// around those pixels. Callers keep padding at zero, and edge weights that touch
// padding at zero, so what is written there is zero again.
//
// Elements are independent: a kernel gives each the same bits whatever the
// column, the row, the size of the plane and the number of planes computed with
// it. (Outer's sums over planes are one exception: they are rounded in groups of
// planes that depend on planes and level.)
type Stencil struct {
	Rows, Cols, Padded int
	Stride, Base       int
	PlaneLen           int   // elements from one plane to the next
	Edge               []int // tap t: offset into the weights of pixel i's edge: w[Edge[t]+i]
	Offset             []int // tap t: offset of the neighbour: x[i+Offset[t]]
}

// Apply computes the graph operator diag - W on each of planes planes:
//
//	for p < planes, every pixel i:
//	    dst[p*PlaneLen+i] = diag[i]*x[p*PlaneLen+i] - sum over taps t of w[Edge[t]+i] * x[p*PlaneLen+i+Offset[t]]
//
// The order of the sum is fixed by s: by ascending offset in assembly (as listed,
// beyond 48 taps), as listed in the generic twin.
// Symmetric graphs store each edge once: the tap towards the neighbour at -o has
// Edge = (plane of o) - o. Transposed directed graphs differ only in Edge.
func Apply[T Float](s *Stencil, dst, diag, w, x []T, planes int) {
	if planes <= 0 || s.empty() {
		return
	}
	s.check("diag", len(diag), 1, false, false)
	s.check("w", len(w), 1, true, false)
	s.check("x", len(x), planes, false, true)
	s.check("dst", len(dst), planes, false, false)
	if d, ok := any(dst).([]float32); ok && applyFast(s, d, any(diag).([]float32), any(w).([]float32), any(x).([]float32), planes) {
		return
	}
	applyGeneric(s, dst, diag, w, x, planes)
}

// Outer adds to dw and ddiag the gradient of scale*<p, Apply(v)> with respect
// to w and diag, over all planes. The taps are those of one direction:
//
//	for every pixel i:
//	    ddiag[i] += scale * sum over q < planes of p[q,i]*v[q,i]
//	    directed:  dw[Edge[t]+i] -= scale * sum over q of p[q,i]*v[q,i+Offset[t]]
//	    symmetric: dw[Edge[t]+i] -= scale * sum over q of p[q,i]*v[q,i+Offset[t]] + p[q,i+Offset[t]]*v[q,i]
//
// where [q,i] means q*PlaneLen+i.
func Outer[T Float](s *Stencil, dw, ddiag, p, v []T, planes int, scale T, symmetric bool) {
	if planes <= 0 || s.empty() {
		return
	}
	s.check("ddiag", len(ddiag), 1, false, false)
	s.check("dw", len(dw), 1, true, false)
	s.check("p", len(p), planes, false, symmetric)
	s.check("v", len(v), planes, false, true)
	if d, ok := any(dw).([]float32); ok && outerFast(s, d, any(ddiag).([]float32), any(p).([]float32), any(v).([]float32), planes, float32(scale), symmetric) {
		return
	}
	outerGeneric(s, dw, ddiag, p, v, planes, scale, symmetric)
}

// Distance computes squared feature distances along every tap:
//
//	for taps t, every pixel i:
//	    dst[Edge[t]+i] = sum over d < planes, in order, of (g[d*PlaneLen+i] - g[d*PlaneLen+i+Offset[t]])^2
func Distance[T Float](s *Stencil, dst, g []T, planes int) {
	if s.empty() {
		return
	}
	s.check("dst", len(dst), 1, true, false)
	if planes > 0 {
		s.check("g", len(g), planes, false, true)
	}
	if d, ok := any(dst).([]float32); ok && planes > 0 && distanceFast(s, d, any(g).([]float32), planes) {
		return
	}
	distanceGeneric(s, dst, g, planes)
}

func (s *Stencil) empty() bool { return s.Rows <= 0 || s.Padded <= 0 }

// check panics unless a slice of n elements covers every pixel of planes planes,
// at the edges' offsets (edge) or the neighbours' as well (neighbours): assembly
// has no bounds checks of its own.
func (s *Stencil) check(name string, n, planes int, edge, neighbours bool) {
	if s.Padded%16 != 0 || s.Padded > s.Stride || len(s.Edge) != len(s.Offset) {
		panic(fmt.Sprintf("kernel: stencil with Padded %d (multiples of 16), Stride %d, %d edges, %d offsets", s.Padded, s.Stride, len(s.Edge), len(s.Offset)))
	}
	var lo, hi int
	switch {
	case edge && len(s.Edge) == 0:
		return
	case edge:
		lo, hi = s.Edge[0], s.Edge[0]
		for _, e := range s.Edge {
			lo, hi = min(lo, e), max(hi, e)
		}
	case neighbours:
		for _, o := range s.Offset {
			lo, hi = min(lo, o), max(hi, o)
		}
	}
	last := (planes - 1) * s.PlaneLen
	lo += s.Base + min(0, last)
	hi += s.Base + max(0, last) + (s.Rows-1)*s.Stride + s.Padded
	if lo < 0 || hi > n {
		panic(fmt.Sprintf("kernel: stencil reaches elements %d to %d of %s, which has %d", lo, hi-1, name, n))
	}
}

func applyGeneric[T Float](s *Stencil, dst, diag, w, x []T, planes int) {
	n := s.Padded
	for p := range planes {
		for r := range s.Rows {
			i := s.Base + r*s.Stride
			a := p*s.PlaneLen + i
			d := dst[a:][:n]
			for c, v := range x[a:][:n] {
				d[c] = diag[i+c] * v
			}
			for t, o := range s.Offset {
				e, v := w[s.Edge[t]+i:][:n], x[a+o:][:n]
				for c := range d {
					d[c] -= e[c] * v[c]
				}
			}
		}
	}
}

func outerGeneric[T Float](s *Stencil, dw, ddiag, p, v []T, planes int, scale T, symmetric bool) {
	var sums [genericBlock]T
	for r := range s.Rows {
		for c := 0; c < s.Padded; c += genericBlock {
			i := s.Base + r*s.Stride + c
			sum := sums[:min(genericBlock, s.Padded-c)]
			clear(sum)
			for q := range planes {
				addProducts(sum, p[q*s.PlaneLen+i:], v[q*s.PlaneLen+i:])
			}
			for k, g := range sum {
				ddiag[i+k] += scale * g
			}
			for t, o := range s.Offset {
				clear(sum)
				for q := range planes {
					a := q*s.PlaneLen + i
					addProducts(sum, p[a:], v[a+o:])
					if symmetric {
						addProducts(sum, p[a+o:], v[a:])
					}
				}
				d := dw[s.Edge[t]+i:][:len(sum)]
				for k, g := range sum {
					d[k] -= scale * g
				}
			}
		}
	}
}

func addProducts[T Float](sum, a, b []T) {
	a, b = a[:len(sum)], b[:len(sum)]
	for k := range sum {
		sum[k] += a[k] * b[k]
	}
}

func distanceGeneric[T Float](s *Stencil, dst, g []T, planes int) {
	n := s.Padded
	for r := range s.Rows {
		i := s.Base + r*s.Stride
		for t, o := range s.Offset {
			sum := dst[s.Edge[t]+i:][:n]
			clear(sum)
			for d := range planes {
				a, b := g[d*s.PlaneLen+i:][:n], g[d*s.PlaneLen+i+o:][:n]
				for c := range sum {
					diff := a[c] - b[c]
					sum[c] += diff * diff
				}
			}
		}
	}
}
