package graph

import (
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Reweighting turns the quadratic form a Solver minimises into a power of the
// differences, by iteratively re-weighted least squares (Bougleux, Elmoataz and
// Melkemi 2009 call the form p-Dirichlet energy):
//
//	R_p(x) = sum over edges of omega_ij (D_ij + eps^2)^(p/2),   1 < p <= 2
//	D_ij   = sum over k of a_k || That ((F_k x)_i - (F_k x)_j) ||^2
//
// That being T with columns of unit length, so that That'That is the Q of Prior;
// without Coupled That = I, and with one channel and no slopes D_ij is
// (x_i - x_j)^2. A quadratic form with the weights
//
//	omega_ij phi_ij,   phi_ij = ((D_ij + eps^2) / eps^2)^((p-2)/2)
//
// lies above R_p, up to constants, and touches it at the signal D_ij was taken
// from: lowering one lowers the other, and a signal that minimises its own form
// minimises R_p, which is convex. The factor eps^(2-p) in phi changes neither and
// keeps phi in (0,1], so that the step sizes of p = 2 stay stable.
//
// The zero value re-weights nothing. It needs the normalisation
// SoftmaxSymmetric: the operator is that of an energy of differences.
type Reweighting struct {
	P       float64 // the exponent, unless Learned
	Learned bool    // p = Exponent(Coefficients.Exponent[0])
	Epsilon float64 // differences well below it are smoothed as with p = 2; more than 0
}

// Exponent maps any number to an exponent, p = 1 + sigmoid(rho), in (1,2).
func Exponent(rho float64) float64 { return 1 + sigmoid(rho) }

// RawExponent is the inverse of Exponent. Where p is within 1/100 of 1 or 2 it
// returns that of 1.01 or 1.99: closer to an end sigmoid has next to no gradient.
func RawExponent(p float64) float64 {
	s := min(max(p-1, .01), .99)
	return math.Log(s / (1 - s))
}

// half returns (p-2)/2.
func (r Reweighting) half(rho float64) float64 {
	if r.Learned {
		return (sigmoid(rho) - 1) / 2
	}
	return (r.P - 2) / 2
}

// reweighter computes the re-weighted operator of one graph, and its adjoint.
type reweighter[T kernel.Float] struct {
	*system[T]
	base    []T     // omega as the weights gave it
	half    float64 // (p-2)/2, less than 0
	epsilon float64

	filter [][]T // rows of sqrt(a_k)/eps That, by k: (C,C)
	look   []T   // sqrt(a_k)/eps That F_k x: (filters*C,PlaneLen)
	ones   []T   // a row of the image's extent
	weight []T   // omega phi, then the diagonal
	logs   []T   // log((D+eps^2)/eps^2) of each edge; backward only
	grad   []T   // gradient of weight; backward only
}

// newReweighter returns the re-weighting of y, or nil if there is none: p = 2
// leaves every weight as it is, to the bit.
func (y *system[T]) newReweighter(sc *kernel.Scratch[T], c Coefficients[T], backward bool) *reweighter[T] {
	r := y.Reweight
	if r.Epsilon == 0 {
		return nil
	}
	rho := 0.
	if r.Learned {
		rho = float64(c.Exponent[0])
	}
	w := &reweighter[T]{system: y, base: y.omega, half: r.half(rho), epsilon: r.Epsilon}
	if w.half == 0 {
		return nil
	}
	g := y.Grid
	edges := len(g.Forward) * g.PlaneLen
	w.look = sc.TakeZero(y.filters() * y.Channels * g.PlaneLen)
	w.weight = sc.TakeZero(edges + g.PlaneLen)
	w.ones = sc.Take(g.H * g.Stride)
	for i := range w.ones {
		w.ones[i] = 1
	}
	if backward {
		w.logs, w.grad = sc.TakeZero(edges), sc.Take(edges+g.PlaneLen)
	}
	var norm [3]float64
	if y.Prior.Coupled {
		_, norm = coupling(c.T)
	}
	for k := range y.filters() {
		a := float64(y.a0)
		if k > 0 {
			a = float64(y.a1)
		}
		a = math.Sqrt(a) / w.epsilon
		f := make([]T, y.Channels*y.Channels)
		for i := range f {
			row, col := i/y.Channels, i%y.Channels
			switch {
			case y.Prior.Coupled:
				f[i] = T(a * float64(c.T[i]) / norm[col])
			case row == col:
				f[i] = T(a)
			}
		}
		w.filter = append(w.filter, f)
	}
	return w
}

// forward sets the operator of the system to the weights that the signal x
// (C,PlaneLen) gives.
func (w *reweighter[T]) forward(x []T) {
	g, pl, ch := w.Grid, w.Grid.PlaneLen, w.Channels
	w.stack(w.z, x)
	for k, f := range w.filter {
		in, out := w.z[k*ch*pl:], w.look[k*ch*pl:]
		for c := range ch {
			dst := out[c*pl:][:pl]
			switch {
			case w.Prior.Coupled:
				kernel.LinearCombination(dst, f[3*c:][:3], in[:pl], in[pl:2*pl], in[2*pl:3*pl])
			default:
				kernel.LinearCombination(dst, f[c*ch+c:][:1], in[c*pl:][:pl])
			}
		}
	}
	edges := len(g.Forward) * pl
	kernel.Distance(&g.half, w.weight[:edges], w.look, w.filters()*ch)
	h := T(w.half)
	for t := range g.Forward {
		v := rows(g, w.weight[t*pl:][:pl], 0)
		kernel.LinearCombination(v, []T{1, 1}, v, w.ones)
		kernel.Log(v, v)
		if w.logs != nil {
			copy(rows(g, w.logs[t*pl:][:pl], 0), v)
		}
		kernel.Scale(h, v)
		kernel.Exp(v, v)
		kernel.Mul(v, v, rows(g, w.base[t*pl:][:pl], 0))
	}
	(&Weights[T]{Grid: g}).degree(nil, w.weight[edges:], w.weight)
	w.omega = w.weight
}

// backward follows forward(x) of the same signal: from w.grad, the gradient of the
// re-weighted operator, it adds the gradients of the weights to domega, of the
// signal to dx, of Q, a_0 and a_1 to those a gathers, and returns that of p.
//
// With G_ij = (dL/d weight_ij) weight_ij, the diagonal's part included,
//
//	d omega_ij = (dL/d weight_ij) phi_ij
//	d p        = sum of G_ij log((D_ij+eps^2)/eps^2) / 2
//	M_ij       = dL/dD_ij = G_ij (p-2)/2 / (D_ij+eps^2)
//
// and since the sum of M_ij D_ij is x'A x with the weights M, the rest is what a
// product with A leaves: 2 A x on the signal.
func (w *reweighter[T]) backward(a *adjoint[T], x, dx, domega []T) (dp float64) {
	g, pl, n := w.Grid, w.Grid.PlaneLen, w.Channels*w.Grid.PlaneLen
	edges := len(g.Forward) * pl
	ddiag := w.grad[edges:]
	three := []T{1, 1, 1}
	for t, o := range g.Forward {
		plane := func(of []T) []T { return rows(g, of[t*pl:][:pl], 0) }
		d, log, weight := plane(w.grad), plane(w.logs), plane(w.weight)
		kernel.LinearCombination(d, three, d, rows(g, ddiag, 0), rows(g, ddiag, g.shift(o)))
		clearOutside(g, w.grad[t*pl:][:pl], o)
		kernel.Mul(weight, weight, d) // G
		dp += kernel.Dot(weight, log) / 2
		phi := rows(g, w.look[:pl], 0) // free until the next forward
		copy(phi, log)
		kernel.Scale(T(w.half), phi)
		kernel.Exp(phi, phi)
		kernel.MulAdd(plane(domega), 1, phi, d)
		kernel.Scale(-1, log)
		kernel.Exp(log, log)
		kernel.Mul(weight, weight, log)
		kernel.Scale(T(w.half/(w.epsilon*w.epsilon)), weight) // M
	}
	(&Weights[T]{Grid: g}).degree(nil, w.weight[edges:], w.weight)
	w.stack(w.z, x)
	w.apply(w.z, w.t, w.s, false)
	w.mix(a.out, w.s)
	kernel.Axpy(2, a.out, dx[:n])
	if w.Prior.Coupled {
		a.gatherCoupling(x, 1)
	}
	if w.Prior.Slope {
		w.mix(a.w, x)
		w.stack(a.zw, a.w)
		a.gatherSlope(1)
	}
	return dp
}
