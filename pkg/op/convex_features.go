package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	"gonum.org/v1/gonum/blas/blas64"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// preactivation writes z(w) of one example x (s,d) for a block of channel group
// g, w being a vector of BlockShape's rows:
//
//	attention  z[t,u] = sum_{k',k} x[t,k'] w[k',k] x[u,k]   (s,s)
//	mixer      z[t,l] = sum_k w[t,k] x[k,l]                 (s,d)
//	fno        z[t] = sum_{u,l} x[t-u,l] w[u,l]             (s), l in the group
//	mlp        z[t] = sum_l x[t,l] w[l]                     (s)
//
// work holds s*d elements.
func preactivation[T kernel.Float](h *ConvexHead, g int, x, w, z, work []T) {
	s, d := h.Tokens, h.Channels
	switch h.Mechanism {
	case SelfAttention:
		clear(work[:s*d])
		for t := range s {
			row := work[t*d:][:d]
			for k, v := range x[t*d:][:d] {
				axpy(v, w[k*d:][:d], row)
			}
			for u := range s {
				z[t*s+u] = dot(row, x[u*d:][:d])
			}
		}
	case Mixer:
		clear(z[:s*d])
		for t := range s {
			for k := range s {
				axpy(w[t*s+k], x[k*d:][:d], z[t*d:][:d])
			}
		}
	case Fourier, BlockFourier:
		e := d / h.groups()
		for t := range s {
			var sum T
			for u := range s {
				sum += dot(x[h.shift(t, u)*d+g*e:][:e], w[u*e:][:e])
			}
			z[t] = sum
		}
	default:
		for t := range s {
			z[t] = dot(x[t*d:][:d], w[:d])
		}
	}
}

func dot[T kernel.Float](a, b []T) (s T) {
	b = b[:len(a)]
	for i, v := range a {
		s += v * b[i]
	}
	return s
}

// axpy adds k*x to y.
func axpy[T kernel.Float](k T, x, y []T) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += k * v
	}
}

// gateMask finds the patterns of gates, always in float64, so that float32
// networks see the same.
type gateMask struct {
	x, w, z, work []float64
}

func newGateMask(h *ConvexHead) *gateMask {
	a, _ := h.BlockShape()
	return &gateMask{
		x: make([]float64, h.Tokens*h.Channels), w: make([]float64, a),
		z: make([]float64, h.hidden()), work: make([]float64, h.Tokens*h.Channels),
	}
}

// ones reports whether a gate has the pattern of ones for every example.
func ones[T kernel.Float](gate []T) bool {
	for _, v := range gate {
		if v != 0 {
			return false
		}
	}
	return true
}

// pattern writes 1{z(gate) >= 0} of a block of group g on x to mask (hidden
// elements of 0 or 1). all says that it is all ones.
func pattern[T kernel.Float](m *gateMask, h *ConvexHead, g int, x, gate, mask []T) (all bool) {
	if ones(gate) {
		for i := range mask {
			mask[i] = 1
		}
		return true
	}
	for i, v := range x {
		m.x[i] = float64(v)
	}
	for i, v := range gate {
		m.w[i] = float64(v)
	}
	preactivation(h, g, m.x, m.w, m.z, m.work)
	all = true
	for i, v := range m.z {
		mask[i] = 1
		if !(v >= 0) {
			mask[i] = 0
			all = false
		}
	}
	return all
}

// ConvexMask writes the pattern of gate on one example x (s,d), of channel group
// g, to mask: s*s (attention; row t is what token t attends to), s*d (mixer) or
// s elements of 0 and 1.
func ConvexMask(h ConvexHead, g int, x, gate []float64, mask []float64) {
	pattern(newGateMask(&h), &h, g, x, gate, mask)
}

// MaskSize returns the length of ConvexMask's result.
func (h ConvexHead) MaskSize() int { return h.hidden() }

// ConvexFeatures writes the features phi of the n examples x (n,s,d), for gates
// (J,a), to dst (n, R, J*F), R = h.Rows(). In them the head is linear: for block
// j, viewed as the matrix Z_j (F,c') in the memory it has anyway,
//
//	f[i,r,p] = sum_j sum_f dst[i,r,j*F+f] Z_j[f,p]
//
// with, per block (M the gate's pattern, not pooled),
//
//	attention  dst[t,(k',k,l)] = x[t,k'] sum_u M[t,u] x[u,k] x[u,l]
//	mixer      dst[t,(k,l)] = M[t,l] x[k,l], for rows t*s*d.. of Z_j
//	fno        dst[t,(u,l)] = M[t] x[t-u,l]
//	mlp        dst[t,l] = M[t] x[t,l]
//
// times h.Scale; if pooled, the mean over t (mixer: (t,k,l) over s), one row. It
// runs on workers threads; the bits do not depend on them.
func ConvexFeatures[T kernel.Float](h ConvexHead, workers, n int, x, gates, dst []T) {
	a, _ := h.BlockShape()
	width, block, sd := h.Features(), h.blockFeatures(), h.Tokens*h.Channels
	kernel.Parallel(workers, n, func(_, lo, hi int) {
		f := newFeaturizer[T](&h)
		for i := lo; i < hi; i++ {
			for j := range h.BlockCount() {
				f.block(x[i*sd:][:sd], gates[j*a:][:a], j%h.groups(), dst[i*h.Rows()*width+j*block:], width)
			}
		}
	})
}

type featurizer[T kernel.Float] struct {
	h    *ConvexHead
	m    *gateMask
	mask []T
	gram []T // (d,d), or (s,d)
}

func newFeaturizer[T kernel.Float](h *ConvexHead) *featurizer[T] {
	return &featurizer[T]{
		h: h, m: newGateMask(h), mask: make([]T, h.hidden()),
		gram: make([]T, h.Channels*max(h.Channels, h.Tokens)),
	}
}

// block writes the features of one block of an example; rows are ld apart.
func (f *featurizer[T]) block(x, gate []T, g int, dst []T, ld int) {
	h := f.h
	s, d, n := h.Tokens, h.Channels, h.blockFeatures()
	pattern(f.m, h, g, x, gate, f.mask)
	k := T(h.Scale)
	if h.Pooled {
		k = T(h.Scale / float64(s))
		clear(dst[:n])
	}
	row := func(t int) []T {
		if h.Pooled {
			return dst[:n]
		}
		r := dst[t*ld:][:n]
		clear(r)
		return r
	}
	switch h.Mechanism {
	case SelfAttention:
		if h.Pooled {
			f.attentionPooled(x, k, dst[:n])
			return
		}
		for t := range s {
			gram := f.gram[:d*d]
			clear(gram)
			for u := range s {
				if f.mask[t*s+u] == 0 {
					continue
				}
				xu := x[u*d:][:d]
				for a, v := range xu {
					axpy(v, xu, gram[a*d:][:d])
				}
			}
			r := row(t)
			for a, v := range x[t*d:][:d] {
				axpy(k*v, gram, r[a*d*d:][:d*d])
			}
		}
	case Mixer:
		for t := range s {
			r := row(t)
			if h.Pooled {
				r = r[t*s*d:][:s*d]
			}
			m := f.mask[t*d:][:d]
			for u := range s {
				for l, v := range x[u*d:][:d] {
					r[u*d+l] = k * m[l] * v
				}
			}
		}
	case Fourier, BlockFourier:
		e := d / h.groups()
		for t := range s {
			r := row(t)
			if f.mask[t] == 0 {
				continue
			}
			for u := range s {
				axpy(k, x[h.shift(t, u)*d+g*e:][:e], r[u*e:][:e])
			}
		}
	default:
		for t := range s {
			r := row(t)
			if f.mask[t] != 0 {
				axpy(k, x[t*d:][:d], r)
			}
		}
	}
}

// attentionPooled adds k sum_t x[t,k'] sum_u M[t,u] x[u,k] x[u,l], in the order
// sum_u (sum_t M[t,u] x[t,k']) x[u,k] x[u,l].
func (f *featurizer[T]) attentionPooled(x []T, k T, dst []T) {
	s, d := f.h.Tokens, f.h.Channels
	sums := f.gram[:s*d] // (u,k')
	clear(sums)
	for t := range s {
		for u, m := range f.mask[t*s:][:s] {
			if m != 0 {
				axpy(k, x[t*d:][:d], sums[u*d:][:d])
			}
		}
	}
	for u := range s {
		xu := x[u*d:][:d]
		for a, r := range sums[u*d:][:d] {
			for b, v := range xu {
				axpy(r*v, xu[b:], dst[(a*d+b)*d+b:][:d-b]) // (b,l) for l >= b
			}
		}
	}
	for a := range d { // G is symmetric
		for b := range d {
			for l := range b {
				dst[(a*d+b)*d+l] = dst[(a*d+l)*d+b]
			}
		}
	}
}

// piece is a matrix product that a head is made of: some rows of the features,
// some of their columns, the weights these meet and the outputs they add to.
type piece struct {
	row, step    int // rows row, row+step, ...
	col, cols    int
	weight       int // first of cols x outs weights, row-major
	out, outs    int
	rowsPerBatch int // rows of this piece in one example
}

// pieces returns the products of h.
func (h ConvexHead) pieces() []piece {
	f, a := h.blockFeatures(), h.Rows()
	var ps []piece
	switch {
	case h.Mechanism == Mixer && !h.Pooled:
		for j := range h.BlockCount() {
			for t := range h.Tokens {
				ps = append(ps, piece{row: t, step: a, col: j * f, cols: f, weight: (j*a + t) * f * h.Outputs, outs: h.Outputs, rowsPerBatch: 1})
			}
		}
	case h.Strict:
		for j := range h.BlockCount() {
			n := h.blockOutputs()
			ps = append(ps, piece{step: 1, col: j * f, cols: f, weight: j * f * n, out: j % h.Blocks * n, outs: n, rowsPerBatch: a})
		}
	default:
		// The blocks' weights lie one after another, as do their features.
		ps = append(ps, piece{step: 1, cols: h.Features(), outs: h.Outputs, rowsPerBatch: a})
	}
	return ps
}

// featureBlock is how many features are multiplied at a time, so that the
// weights they meet stay in the cache.
const featureBlock = 256

// forwardPiece adds phi Z of n examples to out (n*R, c). zt holds the weights of
// each piece transposed (outs, cols).
func forwardPiece[T kernel.Float](h *ConvexHead, p piece, workers, n int, phi, zt, out []T) {
	ld, c := h.Features(), h.Outputs
	kernel.Parallel(workers, n*p.rowsPerBatch, func(_, lo, hi int) {
		for b := 0; b < p.cols; b += featureBlock {
			k := min(featureBlock, p.cols-b)
			for i := lo; i < hi; i++ {
				r := p.row + i*p.step
				x := phi[r*ld+p.col+b:][:k]
				o := out[r*c+p.out:][:p.outs]
				for q := range o {
					o[q] += fastDot(x, zt[p.weight+q*p.cols+b:][:k])
				}
			}
		}
	})
}

// backwardPiece adds phi^T dout of n examples to dzt, laid out like zt.
func backwardPiece[T kernel.Float](h *ConvexHead, p piece, workers, n int, phi, dout, dzt []T) {
	ld, c := h.Features(), h.Outputs
	blocks := (p.cols + featureBlock - 1) / featureBlock
	kernel.Parallel(workers, blocks, func(_, lo, hi int) {
		for b := lo * featureBlock; b < min(hi*featureBlock, p.cols); b += featureBlock {
			k := min(featureBlock, p.cols-b)
			for i := range n * p.rowsPerBatch {
				r := p.row + i*p.step
				x := phi[r*ld+p.col+b:][:k]
				for q, v := range dout[r*c+p.out:][:p.outs] {
					fastAxpy(v, x, dzt[p.weight+q*p.cols+b:][:k])
				}
			}
		}
	})
}

func fastDot[T kernel.Float](x, y []T) T {
	if a, ok := any(x).([]float64); ok {
		return T(blas64.Dot(blas64.Vector{N: len(a), Data: a, Inc: 1}, blas64.Vector{N: len(a), Data: any(y).([]float64), Inc: 1}))
	}
	return dot(x, y)
}

func fastAxpy[T kernel.Float](k T, x, y []T) {
	if a, ok := any(x).([]float64); ok {
		blas64.Axpy(float64(k), blas64.Vector{N: len(a), Data: a, Inc: 1}, blas64.Vector{N: len(a), Data: any(y).([]float64), Inc: 1})
		return
	}
	axpy(k, x, y)
}

// transposePieces writes the weights z, piece by piece, transposed to zt, or
// back if back is set.
func transposePieces[T kernel.Float](ps []piece, z, zt []T, back bool) {
	for _, p := range ps {
		for i := range p.cols {
			for q := range p.outs {
				a, b := &z[p.weight+i*p.outs+q], &zt[p.weight+q*p.cols+i]
				if back {
					*a = *b
				} else {
					*b = *a
				}
			}
		}
	}
}

// ConvexProduct adds the outputs (n,R,c) of h for weights z (h.Size()), on
// features phi (n,R,h.Features()) made by ConvexFeatures; R = h.Rows(). The
// features have no gradient.
func ConvexProduct(e *Env, h ConvexHead, phi, z *G.Node) (*G.Node, error) {
	return applyAny(e, &convexProduct[float32]{h: h}, &convexProduct[float64]{h: h}, phi, z)
}

type convexProduct[T kernel.Float] struct {
	h      ConvexHead
	n      int
	pieces []piece
	zt     []T // the weights, or their gradient, transposed
}

func (f *convexProduct[T]) String() string { return fmt.Sprintf("convexProduct(%s)", f.h.Mechanism) }

func (f *convexProduct[T]) wants() []bool { return []bool{false, true} }

func (f *convexProduct[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := f.h.Check(); err != nil {
		return nil, err
	}
	if err := rank("features", in[0], 3); err != nil {
		return nil, err
	}
	f.n = in[0][0]
	if err := sameShape("features", in[0], tensor.Shape{f.n, f.h.Rows(), f.h.Features()}); err != nil {
		return nil, err
	}
	f.pieces, f.zt = f.h.pieces(), make([]T, f.h.Size())
	return tensor.Shape{f.n, f.h.Rows(), f.h.Outputs}, sameShape("weights", in[1], tensor.Shape{f.h.Size()})
}

func (f *convexProduct[T]) forward(e *Env, in [][]T, out []T) {
	transposePieces(f.pieces, in[1], f.zt, false)
	clear(out)
	for _, p := range f.pieces {
		forwardPiece(&f.h, p, e.Workers, f.n, in[0], f.zt, out)
	}
}

func (f *convexProduct[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(f.zt)
	for _, p := range f.pieces {
		backwardPiece(&f.h, p, e.Workers, f.n, in[0], dout, f.zt)
	}
	transposePieces(f.pieces, din[1], f.zt, true)
}

// ConvexOperator is ConvexProduct on the features of x (n,s,d) and gates (J,a),
// which are made a few examples at a time, forward and backward, and never held
// as a whole. x and gates have no gradient. The bits are those of ConvexProduct.
func ConvexOperator(e *Env, h ConvexHead, x, gates, z *G.Node) (*G.Node, error) {
	return applyAny(e, &convexOperator[float32]{convexProduct: convexProduct[float32]{h: h}},
		&convexOperator[float64]{convexProduct: convexProduct[float64]{h: h}}, x, gates, z)
}

// operatorElements is how many features ConvexOperator makes at a time, unless
// one example has more.
const operatorElements = 1 << 19

type convexOperator[T kernel.Float] struct {
	convexProduct[T]
	chunk int
	phi   []T
}

func (f *convexOperator[T]) String() string {
	return fmt.Sprintf("convexOperator(%s)", f.h.Mechanism)
}

func (f *convexOperator[T]) wants() []bool { return []bool{false, false, true} }

func (f *convexOperator[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	n, err := checkTokens(f.h, in[0], in[1])
	if err != nil {
		return nil, err
	}
	per := f.h.Rows() * f.h.Features()
	f.n, f.pieces, f.zt = n, f.h.pieces(), make([]T, f.h.Size())
	f.chunk = min(max(operatorElements/per, 1), n)
	f.phi = make([]T, f.chunk*per)
	return tensor.Shape{n, f.h.Rows(), f.h.Outputs}, sameShape("weights", in[2], tensor.Shape{f.h.Size()})
}

// checkTokens checks the shapes of examples and gates and returns n.
func checkTokens(h ConvexHead, x, gates tensor.Shape) (int, error) {
	if err := h.Check(); err != nil {
		return 0, err
	}
	if err := rank("tokens", x, 3); err != nil {
		return 0, err
	}
	if err := sameShape("tokens", x, tensor.Shape{x[0], h.Tokens, h.Channels}); err != nil {
		return 0, err
	}
	a, _ := h.BlockShape()
	return x[0], sameShape("gates", gates, tensor.Shape{h.BlockCount(), a})
}

// chunks calls do with the features of examples lo, lo+1, ..., lo+n-1.
func (f *convexOperator[T]) chunks(e *Env, x, gates []T, do func(lo, n int)) {
	sd := f.h.Tokens * f.h.Channels
	for lo := 0; lo < f.n; lo += f.chunk {
		n := min(f.chunk, f.n-lo)
		ConvexFeatures(f.h, e.Workers, n, x[lo*sd:], gates, f.phi)
		do(lo, n)
	}
}

func (f *convexOperator[T]) forward(e *Env, in [][]T, out []T) {
	transposePieces(f.pieces, in[2], f.zt, false)
	clear(out)
	row := f.h.Rows() * f.h.Outputs
	f.chunks(e, in[0], in[1], func(lo, n int) {
		for _, p := range f.pieces {
			forwardPiece(&f.h, p, e.Workers, n, f.phi, f.zt, out[lo*row:])
		}
	})
}

func (f *convexOperator[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(f.zt)
	row := f.h.Rows() * f.h.Outputs
	f.chunks(e, in[0], in[1], func(lo, n int) {
		for _, p := range f.pieces {
			backwardPiece(&f.h, p, e.Workers, n, f.phi, dout[lo*row:], f.zt)
		}
	})
	transposePieces(f.pieces, din[2], f.zt, true)
}
