package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// ConvexNetwork adds the two-layer network itself: the outputs (n,R,c) of m heads
// for each block of h with first layers w1 (J,m,a) and second layers w2 (J,m,b),
// a x b being h.BlockShape(), on examples x (n,s,d):
//
//	f(X) = sum_j sum_r B(sigma_j(z(w1[j,r])), w2[j,r])
//
// where z is the pre-activation and B, per mechanism and head (c' outputs of the
// block's group),
//
//	attention  z = X W1 X^T,  B = sigma(z) X W2     W1 (d,d), W2 (d,c)
//	mixer      z = W1 X,      B = sigma(z) W2       W1 (s,s), W2 (d,c)
//	others     z (s),         B = sigma(z) v^T      v (c')
//
// and sigma_j(z) = M_j .* z with the pattern of gates (J,a), a constant, or with
// relu max(z, 0), whose gradient at 0 is 0. Pooling and h.Scale are as in
// ConvexHead. For relu = false it equals the convex head at
// Z_j = sum_r w1[j,r] w2[j,r]^T: these are its Burer-Monteiro factors.
//
// Only w1 and w2 have gradients. Pre-activations are computed again backward;
// nothing of the size of n is kept.
func ConvexNetwork(e *Env, h ConvexHead, relu bool, x, gates, w1, w2 *G.Node) (*G.Node, error) {
	return applyAny(e, &convexNetwork[float32]{h: h, relu: relu}, &convexNetwork[float64]{h: h, relu: relu}, x, gates, w1, w2)
}

type convexNetwork[T kernel.Float] struct {
	h    ConvexHead
	relu bool
	n, m int
}

func (f *convexNetwork[T]) String() string {
	return fmt.Sprintf("convexNetwork(%s, relu %v)", f.h.Mechanism, f.relu)
}

func (f *convexNetwork[T]) wants() []bool { return []bool{false, false, true, true} }

func (f *convexNetwork[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	n, err := checkTokens(f.h, in[0], in[1])
	if err != nil {
		return nil, err
	}
	if err := rank("first layers", in[2], 3); err != nil {
		return nil, err
	}
	a, b := f.h.BlockShape()
	f.n, f.m = n, in[2][1]
	if err := sameShape("first layers", in[2], tensor.Shape{f.h.BlockCount(), f.m, a}); err != nil {
		return nil, err
	}
	return tensor.Shape{n, f.h.Rows(), f.h.Outputs}, sameShape("second layers", in[3], tensor.Shape{f.h.BlockCount(), f.m, b})
}

// netWork is the temporary memory of one head on one example.
type netWork[T kernel.Float] struct {
	m          *gateMask
	mask       []T
	z, dz      []T // hidden
	work       []T // (s,d)
	mix, dmix  []T // (s,c): X W2
	pool, dout []T // (max(s,d)), (s,c)
}

func (f *convexNetwork[T]) newWork() *netWork[T] {
	h := &f.h
	s, q := h.Tokens, h.hidden()
	sc := s * h.Outputs
	return &netWork[T]{
		m: newGateMask(h), mask: make([]T, q), z: make([]T, q), dz: make([]T, q),
		work: make([]T, s*h.Channels), mix: make([]T, sc), dmix: make([]T, sc),
		pool: make([]T, max(s, h.Channels)), dout: make([]T, sc),
	}
}

// activate applies sigma_j to w.z.
func (f *convexNetwork[T]) activate(w *netWork[T]) {
	if f.relu {
		for i, v := range w.z {
			if v < 0 {
				w.z[i] = 0
			}
		}
		return
	}
	for i, m := range w.mask {
		w.z[i] *= m
	}
}

func (f *convexNetwork[T]) forward(e *Env, in [][]T, out []T) {
	h := &f.h
	a, b := h.BlockShape()
	sd, row := h.Tokens*h.Channels, h.Rows()*h.Outputs
	kernel.Parallel(e.Workers, f.n, func(_, lo, hi int) {
		w := f.newWork()
		for i := lo; i < hi; i++ {
			x, o := in[0][i*sd:][:sd], out[i*row:][:row]
			clear(o)
			for j := range h.BlockCount() {
				g := j % h.groups()
				if !f.relu {
					pattern(w.m, h, g, x, in[1][j*a:][:a], w.mask)
				}
				for r := range f.m {
					k := j*f.m + r
					preactivation(h, g, x, in[2][k*a:][:a], w.z, w.work)
					f.activate(w)
					f.mix(w, g, x, in[3][k*b:][:b], o)
				}
			}
			for p := range o {
				o[p] *= f.factor()
			}
		}
	})
}

// factor is what outputs are multiplied by.
func (f *convexNetwork[T]) factor() T {
	if f.h.Pooled {
		return T(f.h.Scale / float64(f.h.Tokens))
	}
	return T(f.h.Scale)
}

// mix adds B(w.z, v), summed over tokens if pooled, to o.
func (f *convexNetwork[T]) mix(w *netWork[T], g int, x, v, o []T) {
	h := &f.h
	s, d, c := h.Tokens, h.Channels, h.Outputs
	switch h.Mechanism {
	case SelfAttention:
		if h.Pooled { // (1^T sigma X) W2
			column := w.pool[:s]
			clear(column)
			for t := range s {
				axpy(1, w.z[t*s:][:s], column)
			}
			for l := range d {
				var q T
				for u := range s {
					q += column[u] * x[u*d+l]
				}
				axpy(q, v[l*c:][:c], o)
			}
			return
		}
		f.values(w, x, v)
		for t := range s {
			for u := range s {
				axpy(w.z[t*s+u], w.mix[u*c:][:c], o[t*c:][:c])
			}
		}
	case Mixer:
		for t := range s {
			to := o[:c]
			if !h.Pooled {
				to = o[t*c:][:c]
			}
			for l := range d {
				axpy(w.z[t*d+l], v[l*c:][:c], to)
			}
		}
	default:
		n := h.blockOutputs()
		at := 0
		if h.Strict {
			at = g * n
		}
		for t := range s {
			to := o
			if !h.Pooled {
				to = o[t*c:][:c]
			}
			axpy(w.z[t], v, to[at:][:n])
		}
	}
}

// values computes w.mix = X W2.
func (f *convexNetwork[T]) values(w *netWork[T], x, v []T) {
	s, d, c := f.h.Tokens, f.h.Channels, f.h.Outputs
	clear(w.mix)
	for u := range s {
		for l := range d {
			axpy(x[u*d+l], v[l*c:][:c], w.mix[u*c:][:c])
		}
	}
}

// backward goes head by head, so that each gradient is summed over the examples
// in their order by one goroutine.
func (f *convexNetwork[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	h := &f.h
	a, b := h.BlockShape()
	s, c, sd, row := h.Tokens, h.Outputs, h.Tokens*h.Channels, h.Rows()*h.Outputs
	kernel.Parallel(e.Workers, h.BlockCount()*f.m, func(_, lo, hi int) {
		w := f.newWork()
		for k := lo; k < hi; k++ {
			clear(din[2][k*a:][:a])
			clear(din[3][k*b:][:b])
		}
		for i := range f.n {
			x := in[0][i*sd:][:sd]
			// The gradient of f(X) before pooling and scale.
			for t := range s {
				r := dout[i*row:][:c]
				if !h.Pooled {
					r = dout[i*row+t*c:][:c]
				}
				for p, v := range r {
					w.dout[t*c+p] = f.factor() * v
				}
			}
			last := -1
			for k := lo; k < hi; k++ {
				j := k / f.m
				g := j % h.groups()
				if j != last && !f.relu {
					pattern(w.m, h, g, x, in[1][j*a:][:a], w.mask)
					last = j
				}
				w1, w2 := in[2][k*a:][:a], in[3][k*b:][:b]
				preactivation(h, g, x, w1, w.z, w.work)
				if f.relu {
					for q, v := range w.z {
						w.mask[q] = 0
						if v > 0 {
							w.mask[q] = 1
						}
					}
				}
				f.activate(w)
				f.mixBack(w, g, x, w2, din[3][k*b:][:b])
				for q, m := range w.mask {
					w.dz[q] *= m
				}
				preactivationBack(h, g, x, w.dz, din[2][k*a:][:a], w.work)
			}
		}
	})
}

// mixBack adds the gradient of B with respect to v to dv and writes that with
// respect to w.z to w.dz, from w.dout (s,c).
func (f *convexNetwork[T]) mixBack(w *netWork[T], g int, x, v, dv []T) {
	h := &f.h
	s, d, c := h.Tokens, h.Channels, h.Outputs
	switch h.Mechanism {
	case SelfAttention:
		f.values(w, x, v)
		clear(w.dmix)
		for t := range s {
			do := w.dout[t*c:][:c]
			for u := range s {
				w.dz[t*s+u] = dot(do, w.mix[u*c:][:c])
				axpy(w.z[t*s+u], do, w.dmix[u*c:][:c])
			}
		}
		for u := range s {
			for l := range d {
				axpy(x[u*d+l], w.dmix[u*c:][:c], dv[l*c:][:c])
			}
		}
	case Mixer:
		for t := range s {
			do := w.dout[t*c:][:c]
			for l := range d {
				w.dz[t*d+l] = dot(do, v[l*c:][:c])
				axpy(w.z[t*d+l], do, dv[l*c:][:c])
			}
		}
	default:
		n := h.blockOutputs()
		at := 0
		if h.Strict {
			at = g * n
		}
		for t := range s {
			do := w.dout[t*c+at:][:n]
			w.dz[t] = dot(do, v)
			axpy(w.z[t], do, dv)
		}
	}
}

// preactivationBack adds the gradient of preactivation with respect to w to dw,
// given dz. work holds s*d elements.
func preactivationBack[T kernel.Float](h *ConvexHead, g int, x, dz, dw, work []T) {
	s, d := h.Tokens, h.Channels
	switch h.Mechanism {
	case SelfAttention: // dW1 = X^T dz X
		clear(work[:s*d])
		for t := range s {
			for u := range s {
				if v := dz[t*s+u]; v != 0 {
					axpy(v, x[u*d:][:d], work[t*d:][:d])
				}
			}
			for k, v := range x[t*d:][:d] {
				axpy(v, work[t*d:][:d], dw[k*d:][:d])
			}
		}
	case Mixer:
		for t := range s {
			for k := range s {
				dw[t*s+k] += dot(dz[t*d:][:d], x[k*d:][:d])
			}
		}
	case Fourier, BlockFourier:
		e := d / h.groups()
		for t, v := range dz {
			if v == 0 {
				continue
			}
			for u := range s {
				axpy(v, x[h.shift(t, u)*d+g*e:][:e], dw[u*e:][:e])
			}
		}
	default:
		for t, v := range dz {
			axpy(v, x[t*d:][:d], dw)
		}
	}
}
