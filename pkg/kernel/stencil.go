package kernel

// Stencil describes a weighted pixel graph on padded planes. A plane is Rows
// rows of Stride elements; pixel (r, c) is at Base + r*Stride + c. Kernels may
// compute, and write, any column c < Padded, where Cols <= Padded <= Stride and
// Padded is a multiple of 16; so every plane needs valid memory for all Offsets
// around those pixels. Callers keep padding at zero, and edge weights that touch
// padding at zero, so what is written there is zero again.
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
//	    dst[p*PlaneLen+i] = diag[i]*x[p*PlaneLen+i] - sum over taps t, in order, of w[Edge[t]+i] * x[p*PlaneLen+i+Offset[t]]
//
// Symmetric graphs store each edge once: the tap towards the neighbour at -o has
// Edge = (plane of o) - o. Transposed directed graphs differ only in Edge.
func Apply[T Float](s *Stencil, dst, diag, w, x []T, planes int) {
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
	outerGeneric(s, dw, ddiag, p, v, planes, scale, symmetric)
}

// Distance computes squared feature distances along every tap:
//
//	for taps t, every pixel i:
//	    dst[Edge[t]+i] = sum over d < planes, in order, of (g[d*PlaneLen+i] - g[d*PlaneLen+i+Offset[t]])^2
func Distance[T Float](s *Stencil, dst, g []T, planes int) {
	distanceGeneric(s, dst, g, planes)
}

func applyGeneric[T Float](s *Stencil, dst, diag, w, x []T, planes int) {
	for p := range planes {
		xp, dp := x[p*s.PlaneLen:], dst[p*s.PlaneLen:]
		for r := range s.Rows {
			for c := range s.Padded {
				i := s.Base + r*s.Stride + c
				sum := diag[i] * xp[i]
				for t, o := range s.Offset {
					sum -= w[s.Edge[t]+i] * xp[i+o]
				}
				dp[i] = sum
			}
		}
	}
}

func outerGeneric[T Float](s *Stencil, dw, ddiag, p, v []T, planes int, scale T, symmetric bool) {
	for r := range s.Rows {
		for c := range s.Padded {
			i := s.Base + r*s.Stride + c
			var sum T
			for q := range planes {
				sum += p[q*s.PlaneLen+i] * v[q*s.PlaneLen+i]
			}
			ddiag[i] += scale * sum
			for t, o := range s.Offset {
				var sum T
				for q := range planes {
					a := q*s.PlaneLen + i
					sum += p[a] * v[a+o]
					if symmetric {
						sum += p[a+o] * v[a]
					}
				}
				dw[s.Edge[t]+i] -= scale * sum
			}
		}
	}
}

func distanceGeneric[T Float](s *Stencil, dst, g []T, planes int) {
	for r := range s.Rows {
		for c := range s.Padded {
			i := s.Base + r*s.Stride + c
			for t, o := range s.Offset {
				var sum T
				for d := range planes {
					diff := g[d*s.PlaneLen+i] - g[d*s.PlaneLen+i+o]
					sum += diff * diff
				}
				dst[s.Edge[t]+i] = sum
			}
		}
	}
}
