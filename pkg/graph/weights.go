package graph

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Normalization turns edge affinities w_ij into the operator L = diag - Omega.
type Normalization int

const (
	// Symmetric is the paper's L_n = I - D^-1/2 W D^-1/2. It does not keep
	// constants where neighbouring degrees differ.
	Symmetric Normalization = iota
	// SoftmaxSymmetric has omega_ij = (wbar_ij + wbar_ji)/2 with wbar the softmax
	// of -d over a pixel's neighbours, and L = diag(Omega 1) - Omega: symmetric,
	// keeps constants, degrees near 1.
	SoftmaxSymmetric
	// RandomWalk is L = I - D^-1 W, the softmax weights of attention: keeps
	// constants, not symmetric.
	RandomWalk
)

// ParseNormalization returns the normalisation called name: symmetric,
// softmax_symmetric or random_walk.
func ParseNormalization(name string) (Normalization, error) {
	switch name {
	case "symmetric":
		return Symmetric, nil
	case "softmax_symmetric":
		return SoftmaxSymmetric, nil
	case "random_walk":
		return RandomWalk, nil
	}
	return 0, fmt.Errorf("normalization: found %q, expected symmetric | softmax_symmetric | random_walk", name)
}

// Directed says whether the operator is not symmetric.
func (n Normalization) Directed() bool { return n == RandomWalk }

// Planes returns the number of padded planes of an operator on g: one per
// stored edge, then the diagonal.
func (n Normalization) Planes(g *Grid) int {
	if n.Directed() {
		return 2*len(g.Forward) + 1
	}
	return len(g.Forward) + 1
}

// Weights computes the operator of one graph from features (uGLR section 3.3,
// eqs 25-26):
//
//	g_i  = A' f_i
//	d_ij = |g_i - g_j|^2, limited
//	w_ij = exp(-d_ij), 0 where j is outside the image
//	S_i  = sum over neighbours j of w_ij
//
// and Omega, diag as the normalisation says, written to omega
// (Planes(g),PlaneLen), edges in the order of g.Forward (then their opposites),
// the diagonal last. f is (D,H,W), a is (D,D). A pixel without neighbours gets
// a diagonal of 0.
type Weights[T kernel.Float] struct {
	Grid          *Grid
	Dim           int
	Limit         Limit
	Normalization Normalization
	Inference     bool // keep nothing for Backward

	// Kept for Backward.
	feat   []T // g, padded (D,PlaneLen)
	w      []T // affinities (edges,PlaneLen)
	root   []T // 1/S, or 1/sqrt(S) for Symmetric
	floorW T   // hard limit: the affinity of a clipped distance
	rise   []T // soft limit: c/(c+d) of each edge (edges,PlaneLen)
	ones   []T // (PlaneLen)
}

// Limit keeps the affinities of a pixel from vanishing all at once.
type Limit struct {
	Clip float64 // the largest squared distance c; <= 0 for no limit
	Soft bool    // c d/(c+d), which has a gradient everywhere, instead of min(d, c)
}

// Forward computes omega from features f (D,H,W) and metric factor a (D,D). It
// relies on the padding of omega being zero on first use.
func (w *Weights[T]) Forward(s *kernel.Scratch[T], omega, f, a []T) {
	g, n := w.Grid, len(w.Grid.Forward)
	pl, hw := g.PlaneLen, g.H*g.W
	m := s.Mark()
	defer s.Release(m)
	if w.feat == nil {
		alloc := func(n int) []T { return make([]T, n) }
		if w.Inference {
			alloc = s.TakeZero
			defer func() { w.feat, w.w, w.root, w.rise, w.ones = nil, nil, nil, nil, nil }()
		}
		w.feat = alloc(w.Dim * pl)
		w.w = alloc(n * pl)
		w.root = alloc(pl)
		if w.soft() {
			w.ones = alloc(g.H * g.Stride)
			for i := range w.ones {
				w.ones[i] = 1
			}
			if w.Inference {
				w.rise = alloc(pl) // one plane, used edge by edge
			} else {
				w.rise = alloc(n * pl)
			}
		}
	}
	dense := s.Take(w.Dim * hw)
	kernel.Gemm(s, 1, true, false, w.Dim, hw, w.Dim, a, w.Dim, f, hw, dense, hw, kernel.Epilogue[T]{})
	Pad(g, w.feat, dense)

	kernel.Distance(&g.half, w.w, w.feat, w.Dim)
	clip := T(w.Limit.Clip)
	if clip <= 0 {
		clip = 1e30
	}
	one := [1]T{clip}
	kernel.ExpNegClip(one[:], one[:], clip)
	w.floorW = one[0]
	for t, o := range g.Forward {
		p := w.w[t*pl:][:pl]
		if w.soft() {
			// c d/(c+d) = d q with q = c/(c+d).
			rise := w.rise
			if !w.Inference {
				rise = w.rise[t*pl:][:pl]
			}
			q := rows(g, rise, 0)
			kernel.LinearCombination(q, []T{1, clip}, rows(g, p, 0), w.ones)
			kernel.Reciprocal(q, q)
			kernel.Scale(clip, q)
			kernel.Mul(rows(g, p, 0), rows(g, p, 0), q)
		}
		kernel.ExpNegClip(rows(g, p, 0), rows(g, p, 0), clip)
		clearOutside(g, p, o)
	}

	sum := s.TakeZero(pl)
	w.degree(s, sum, w.w)
	if w.Normalization == Symmetric {
		kernel.Rsqrt(w.root, sum)
	} else {
		kernel.Reciprocal(w.root, sum)
	}

	r := rows(g, w.root, 0)
	diag := omega[(w.Normalization.Planes(g)-1)*pl:][:pl]
	half := []T{.5, .5}
	for t, o := range g.Forward {
		off := g.shift(o)
		a := rows(g, w.w[t*pl:][:pl], 0)
		out := rows(g, omega[t*pl:][:pl], 0)
		rn := rows(g, w.root, off)
		switch w.Normalization {
		case Symmetric:
			kernel.Mul(out, r, rn)
			kernel.Mul(out, out, a)
		case SoftmaxSymmetric:
			kernel.LinearCombination(out, half, r, rn)
			kernel.Mul(out, out, a)
		case RandomWalk:
			kernel.Mul(out, r, a)
			back := rows(g, omega[(n+t)*pl:][:pl], 0)
			kernel.Mul(back, r, rows(g, w.w[t*pl:][:pl], -off))
		}
	}
	if w.Normalization == SoftmaxSymmetric {
		w.degree(s, diag, omega)
		return
	}
	for y := range g.H {
		i := g.Base + y*g.Stride
		for x := range g.W {
			diag[i+x] = 0
			if w.root[i+x] != 0 {
				diag[i+x] = 1
			}
		}
	}
}

func (w *Weights[T]) soft() bool { return w.Limit.Clip > 0 && w.Limit.Soft }

// degree computes dst_i = sum over both directions of every edge plane.
func (w *Weights[T]) degree(s *kernel.Scratch[T], dst, planes []T) {
	g := w.Grid
	n := len(g.Forward)
	src := make([][]T, 0, 2*n)
	coef := make([]T, 2*n)
	for t, o := range g.Forward {
		p := planes[t*g.PlaneLen:][:g.PlaneLen]
		src = append(src, rows(g, p, 0), rows(g, p, -g.shift(o)))
		coef[2*t], coef[2*t+1] = 1, 1
	}
	kernel.LinearCombination(rows(g, dst, 0), coef, src...)
}

// Backward computes df (D,H,W) and da (D,D), overwriting them, from the gradient
// domega of omega. It uses what Forward kept, and the same f and a.
func (w *Weights[T]) Backward(s *kernel.Scratch[T], domega, f, a, df, da []T) {
	g, n := w.Grid, len(w.Grid.Forward)
	pl, hw := g.PlaneLen, g.H*g.W
	m := s.Mark()
	defer s.Release(m)

	dw := s.TakeZero(n * pl) // gradient of the affinities through omega, S held fixed
	p := s.TakeZero(n * pl)  // terms of the gradient of root, then M
	droot := s.TakeZero(pl)  // gradient of root, then of S
	tmp := s.TakeZero(pl)
	floor := s.TakeZero(pl)
	r := rows(g, w.root, 0)
	half, three, minus := []T{.5, .5}, []T{1, 1, 1}, []T{-1, 1}
	ddiag := domega[n*pl:][:pl] // of SoftmaxSymmetric only
	for t, o := range g.Forward {
		off := g.shift(o)
		aw := rows(g, w.w[t*pl:][:pl], 0)
		out := rows(g, dw[t*pl:][:pl], 0)
		pt := rows(g, p[t*pl:][:pl], 0)
		rn := rows(g, w.root, off)
		do := rows(g, domega[t*pl:][:pl], 0)
		x := rows(g, tmp, 0)
		switch w.Normalization {
		case Symmetric:
			// omega = w r_i r_j: p = domega w; droot_i += p r_j, droot_j += p r_i.
			kernel.Mul(pt, do, aw)
			kernel.Mul(x, r, rn)
			kernel.Mul(out, do, x)
			kernel.MulAdd(rows(g, droot, 0), 1, pt, rn)
			kernel.MulAdd(rows(g, droot, off), 1, pt, r)
		case SoftmaxSymmetric:
			// omega = w (r_i + r_j)/2, and both ends' diagonals hold omega.
			kernel.LinearCombination(x, three, do, rows(g, ddiag, 0), rows(g, ddiag, off))
			kernel.LinearCombination(out, half, r, rn)
			kernel.Mul(out, out, x)
			kernel.Mul(pt, x, aw)
			kernel.Axpy(.5, pt, rows(g, droot, 0))
			kernel.Axpy(.5, pt, rows(g, droot, off))
		case RandomWalk:
			// omega_ij = w r_i and omega_ji = w r_j, the latter stored at j.
			dback := rows(g, domega[(n+t)*pl:][:pl], off)
			kernel.Mul(out, do, r)
			kernel.MulAdd(out, 1, dback, rn)
			kernel.MulAdd(rows(g, droot, 0), 1, do, aw)
			kernel.MulAdd(rows(g, droot, off), 1, dback, aw)
		}
	}
	// root to S: d(1/S) = -root^2, d(S^-1/2) = -root^3/2.
	d := rows(g, droot, 0)
	kernel.Mul(d, d, r)
	kernel.Mul(d, d, r)
	if w.Normalization == Symmetric {
		kernel.Mul(d, d, r)
		kernel.Scale(-.5, d)
	} else {
		kernel.Scale(-1, d)
	}
	// S to w, w to d, d to the features: dg_i = sum over j of 2 (dL/dd_ij) (g_i - g_j),
	// a graph operator whose weights are M_ij = 2 dL/dd_ij = -2 w dw.
	for i := range floor {
		floor[i] = w.floorW
	}
	M := p
	for t, o := range g.Forward {
		aw := rows(g, w.w[t*pl:][:pl], 0)
		x := rows(g, dw[t*pl:][:pl], 0)
		out := rows(g, M[t*pl:][:pl], 0)
		kernel.LinearCombination(x, three, x, d, rows(g, droot, g.shift(o)))
		kernel.Mul(out, x, aw)
		if w.soft() {
			q := rows(g, w.rise[t*pl:][:pl], 0) // d(c d/(c+d)) = q^2
			kernel.Mul(out, out, q)
			kernel.Mul(out, out, q)
		} else {
			// Clipped distances have no gradient.
			above := rows(g, tmp, 0)
			kernel.LinearCombination(above, minus, rows(g, floor, 0), aw)
			kernel.ReLUGrad(out, above, out)
		}
		kernel.Scale(-2, out)
	}
	diag := tmp
	w.degree(s, diag, M)
	dfeat := s.TakeZero(w.Dim * pl)
	kernel.Apply(&g.undirected, dfeat, diag, M, w.feat, w.Dim)
	dense := s.Take(w.Dim * hw)
	Unpad(g, dense, dfeat)
	kernel.Gemm(s, 1, false, false, w.Dim, hw, w.Dim, a, w.Dim, dense, hw, df, hw, kernel.Epilogue[T]{})
	kernel.Gemm(s, 1, false, true, w.Dim, w.Dim, hw, f, hw, dense, hw, da, w.Dim, kernel.Epilogue[T]{})
}

// Affinity returns w_ij of pixel (r, c) and its neighbour at o after Forward, 0
// where the neighbour is outside the image.
func (w *Weights[T]) Affinity(r, c int, o Offset) T {
	i := w.Grid.Base + r*w.Grid.Stride + c
	for t, f := range w.Grid.Forward {
		switch o {
		case f:
			return w.w[t*w.Grid.PlaneLen+i]
		case Offset{-f[0], -f[1]}:
			return w.w[t*w.Grid.PlaneLen+i-w.Grid.shift(f)]
		}
	}
	return 0
}

// Apply computes y = L x for one padded plane x (PlaneLen), omega being what
// Forward computed.
func (w *Weights[T]) Apply(y, omega, x []T) {
	st := &w.Grid.undirected
	if w.Normalization.Directed() {
		st = &w.Grid.directed
	}
	edges := (w.Normalization.Planes(w.Grid) - 1) * w.Grid.PlaneLen
	kernel.Apply(st, y, omega[edges:], omega[:edges], x, 1)
}
