package graph

import (
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Prior says which quadratic form of the signal is minimised:
//
//	R(x) = sum over k of a_k sum over edges of w_ij || T ((F_k x)_i - (F_k x)_j) ||^2
//
// with F_0 the identity and, with Slope, F_1 and F_2 the forward differences
// along rows and columns (0 in the last column, the last row). T (3,3) couples
// the colours; Q = T'T is scaled to unit diagonal. Without Coupled, Q = I;
// without Slope, only k = 0 with a_0 = 1.
type Prior struct {
	Coupled bool
	Slope   bool
}

// Solver runs the unrolled conjugate gradient of one graph (uGLR A.7) on
//
//	A x = U (sum over k of a_k F_k' (Q (x) L) F_k) x,   U = 1 on missing entries, 0 on samples
//
// with learned step sizes: restarted Layers times,
//
//	g = A x; v = g; repeat Steps times: x -= alpha v; g -= alpha A v; v = g + beta v
//
// so samples never change, and no step needs a sum over the image. With Reweight,
// L has other weights in every layer: those the signal at its start gives.
type Solver[T kernel.Float] struct {
	Grid          *Grid
	Channels      int // C
	Layers, Steps int
	Prior         Prior
	Normalization Normalization
	Reweight      Reweighting

	// Kept for Backward when Keep is set, without padding.
	Keep bool
	v    []T // (Layers,Steps,C,H,W)
	x    []T // (Layers,C,H,W): the signal at each restart
}

// Coefficients are the learned scalars of one graph. Layers*Steps step sizes
// Alpha and Beta; T (3,3) if the prior is Coupled; Slope (2), from which a_0 =
// softplus(Slope[0]) and a_1 = a_2 = softplus(Slope[1])/4, if it has Slope;
// Exponent (1) if the Reweighting is Learned. The same struct holds their
// gradients. The last Beta of a layer has no effect.
type Coefficients[T kernel.Float] struct {
	Alpha, Beta []T
	T           []T
	Slope       []T
	Exponent    []T
}

// strength returns a_0 and a_1 of the slope parameters.
func (p Prior) strength(slope0, slope1 float64) (a0, a1 float64) {
	if !p.Slope {
		return 1, 0
	}
	return softplus(slope0), softplus(slope1) / 4
}

func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return math.Log1p(math.Exp(x))
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// coupling returns Q = T'T scaled to unit diagonal, row-major (C,C), and the
// column norms of T.
func coupling[T kernel.Float](t []T) (q [9]float64, norm [3]float64) {
	for a := range 3 {
		for k := range 3 {
			norm[a] += float64(t[3*k+a]) * float64(t[3*k+a])
		}
		norm[a] = math.Sqrt(norm[a] + 1e-12)
	}
	for a := range 3 {
		for b := range 3 {
			for k := range 3 {
				q[3*a+b] += float64(t[3*k+a]) * float64(t[3*k+b])
			}
			q[3*a+b] /= norm[a] * norm[b]
		}
	}
	return q, norm
}

// couplingGrad adds to dt the gradient of T given that of Q.
func couplingGrad[T kernel.Float](t []T, dq [9]float64, dt []T) {
	_, norm := coupling(t)
	// Q_ab = u_a . u_b with u_a = t_a / |t_a|, t_a the columns of T.
	for a := range 3 {
		var du [3]float64
		var along float64
		for k := range 3 {
			for b := range 3 {
				du[k] += (dq[3*a+b] + dq[3*b+a]) * float64(t[3*k+b]) / norm[b]
			}
			along += du[k] * float64(t[3*k+a]) / norm[a]
		}
		for k := range 3 {
			dt[3*k+a] += T((du[k] - along*float64(t[3*k+a])/norm[a]) / norm[a])
		}
	}
}

// dense returns the elements of a signal without padding.
func (s *Solver[T]) dense() int { return s.Channels * s.Grid.H * s.Grid.W }

// filters returns the number of filters F_k.
func (s *Solver[T]) filters() int {
	if s.Prior.Slope {
		return 3
	}
	return 1
}

// system is the operator A of one graph with its temporaries.
type system[T kernel.Float] struct {
	*Solver[T]
	omega  []T // edges, then the diagonal
	u      []T // 1 on missing entries (C,PlaneLen)
	q      [9]float64
	a0, a1 T

	z, t, s []T // (filters*C,PlaneLen) twice, (C,PlaneLen)
}

func (s *Solver[T]) newSystem(sc *kernel.Scratch[T], omega, u []T, c Coefficients[T]) *system[T] {
	y := &system[T]{Solver: s, omega: omega, u: u}
	n := s.Channels * s.Grid.PlaneLen
	y.z = sc.TakeZero(s.filters() * n)
	y.t = sc.TakeZero(s.filters() * n)
	y.s = sc.TakeZero(n)
	if s.Prior.Coupled {
		y.q, _ = coupling(c.T)
	}
	a0, a1 := 1., 0.
	if s.Prior.Slope {
		a0, a1 = s.Prior.strength(float64(c.Slope[0]), float64(c.Slope[1]))
	}
	y.a0, y.a1 = T(a0), T(a1)
	return y
}

// inner returns the part of C stacked planes from the first pixel of the first
// to the last row of the last, moved by shift.
func (s *Solver[T]) inner(planes []T, shift int) []T {
	g := s.Grid
	n := s.Channels * g.PlaneLen
	lo := g.Base + shift
	return planes[lo : lo+n-g.PlaneLen+g.H*g.Stride]
}

// mix computes dst = Q src over channels; dst and src are (C,PlaneLen).
func (y *system[T]) mix(dst, src []T) {
	pl := y.Grid.PlaneLen
	if !y.Prior.Coupled {
		copy(dst, src)
		return
	}
	for c := range 3 {
		k := [3]T{T(y.q[3*c]), T(y.q[3*c+1]), T(y.q[3*c+2])}
		kernel.LinearCombination(dst[c*pl:(c+1)*pl], k[:], src[:pl], src[pl:2*pl], src[2*pl:3*pl])
	}
}

// stack writes v, F_1 v and F_2 v (as the prior has them) to dst (filters*C,PlaneLen).
func (y *system[T]) stack(dst, v []T) {
	g := y.Grid
	n := y.Channels * g.PlaneLen
	copy(dst[:n], v[:n])
	if !y.Prior.Slope {
		return
	}
	difference := []T{1, -1}
	kernel.LinearCombination(y.inner(dst[n:2*n], 0), difference, y.inner(v, 1), y.inner(v, 0))
	kernel.LinearCombination(y.inner(dst[2*n:3*n], 0), difference, y.inner(v, g.Stride), y.inner(v, 0))
	y.clearLast(dst)
}

// clearLast zeroes, in a stack of filtered planes, the differences that would
// leave the image, and all that was computed on padding.
func (y *system[T]) clearLast(stack []T) {
	g := y.Grid
	for c := range y.Channels {
		dx := stack[(y.Channels+c)*g.PlaneLen:][:g.PlaneLen]
		clearColumns(g, dx, g.W-1)
		clear(dx[g.Base+g.H*g.Stride:])
		clear(dx[:g.Base])
		dy := stack[(2*y.Channels+c)*g.PlaneLen:][:g.PlaneLen]
		clear(dy[g.Base+(g.H-1)*g.Stride:])
		clear(dy[:g.Base])
	}
}

// apply computes t = L z on every filtered plane, then s = sum over k of
// a_k F_k' t_k; with reverse, L' instead of L.
func (y *system[T]) apply(z, t, s []T, reverse bool) {
	g := y.Grid
	n := y.Channels * g.PlaneLen
	st := &g.undirected
	if y.Normalization.Directed() {
		st = &g.directed
		if reverse {
			st = &g.transposed
		}
	}
	edges := (y.Normalization.Planes(g) - 1) * g.PlaneLen
	kernel.Apply(st, t, y.omega[edges:edges+g.PlaneLen], y.omega[:edges], z, y.filters()*y.Channels)
	if !y.Prior.Slope {
		copy(s, t[:n])
		return
	}
	y.clearLast(t)
	k := []T{y.a0, y.a1, -y.a1, y.a1, -y.a1}
	kernel.LinearCombination(y.inner(s, 0), k, y.inner(t[:n], 0),
		y.inner(t[n:2*n], -1), y.inner(t[n:2*n], 0), y.inner(t[2*n:3*n], -g.Stride), y.inner(t[2*n:3*n], 0))
}

// times computes dst = A v for v zero on samples, or A's rows of the whole
// signal v.
func (y *system[T]) times(dst, v []T) {
	y.stack(y.z, v)
	y.apply(y.z, y.t, y.s, false)
	y.mix(dst, y.s)
	kernel.Mul(dst, dst, y.u)
}

// Forward solves for the signal x (C,PlaneLen), samples in place, in place. omega
// is the operator of Weights, missing (C,PlaneLen) is 1 on missing entries of
// the image and 0 on samples and padding.
func (s *Solver[T]) Forward(sc *kernel.Scratch[T], x, missing, omega []T, c Coefficients[T]) {
	m := sc.Mark()
	defer sc.Release(m)
	y := s.newSystem(sc, omega, missing, c)
	n := s.Channels * s.Grid.PlaneLen
	if s.Keep && s.v == nil {
		s.v = make([]T, s.Layers*s.Steps*s.dense())
		s.x = make([]T, s.Layers*s.dense())
	}
	g, v, av := sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n)
	rw := y.newReweighter(sc, c, false)
	for l := range s.Layers {
		if s.Keep {
			Unpad(s.Grid, s.x[l*s.dense():][:s.dense()], x)
		}
		if rw != nil {
			rw.forward(x)
		}
		y.times(g, x)
		copy(v, g)
		for k := range s.Steps {
			i := l*s.Steps + k
			if s.Keep {
				Unpad(s.Grid, s.v[i*s.dense():][:s.dense()], v)
			}
			kernel.Axpy(-c.Alpha[i], v, x[:n])
			if k == s.Steps-1 {
				break
			}
			y.times(av, v)
			kernel.Axpy(-c.Alpha[i], av, g)
			b := [2]T{1, c.Beta[i]}
			kernel.LinearCombination(v, b[:], g, v)
		}
	}
}

// Backward computes, from the gradient dx (C,PlaneLen) of the solution, that of
// the starting signal (in place, samples included), of omega (added to domega,
// zeroed by the caller) and of the coefficients (added to dc). It uses what
// Forward kept. The adjoint runs the steps backwards (uGLR, checked against
// elementary autodiff): with xb, gb, vb the gradients of x, g, v,
//
//	gb += vb; dbeta = <vb, v>; vb = beta vb; dalpha = -<A'gb, v> - <xb, v>; vb -= alpha (A'gb + xb)
//
// and every product A v leaves -alpha gb_i v_j on the weights.
func (s *Solver[T]) Backward(sc *kernel.Scratch[T], dx, missing, omega, domega []T, c, dc Coefficients[T]) {
	m := sc.Mark()
	defer sc.Release(m)
	y := s.newSystem(sc, omega, missing, c)
	n := s.Channels * s.Grid.PlaneLen
	a := &adjoint[T]{system: y, domega: domega}
	a.w, a.zw, a.out = sc.TakeZero(n), sc.TakeZero(s.filters()*n), sc.TakeZero(n)
	gb, vb, v := sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n)
	rw := y.newReweighter(sc, c, true)
	var dp float64
	for l := s.Layers - 1; l >= 0; l-- {
		clear(gb)
		clear(vb)
		if rw != nil {
			Pad(s.Grid, v, s.x[l*s.dense():][:s.dense()])
			rw.forward(v)
			clear(rw.grad)
			a.domega = rw.grad
		}
		for k := s.Steps - 1; k >= 0; k-- {
			i := l*s.Steps + k
			Pad(s.Grid, v, s.v[i*s.dense():][:s.dense()])
			if k == s.Steps-1 {
				// x -= alpha v only: g and v of the next step do not exist.
				dc.Alpha[i] -= T(kernel.Dot(dx[:n], v))
				kernel.Axpy(-c.Alpha[i], dx[:n], vb)
				continue
			}
			kernel.Axpy(1, vb, gb)
			dc.Beta[i] += T(kernel.Dot(vb, v))
			a.product(gb, v, -c.Alpha[i])
			kernel.Mul(a.out, a.out, missing) // v is zero on samples
			dc.Alpha[i] -= T(kernel.Dot(a.out, v) + kernel.Dot(dx[:n], v))
			b := [3]T{c.Beta[i], -c.Alpha[i], -c.Alpha[i]}
			kernel.LinearCombination(vb, b[:], vb, a.out, dx[:n])
		}
		kernel.Axpy(1, vb, gb)
		Pad(s.Grid, v, s.x[l*s.dense():][:s.dense()])
		a.product(gb, v, 1) // samples are part of this x
		kernel.Axpy(1, a.out, dx[:n])
		if rw != nil {
			dp += rw.backward(a, v, dx, domega)
		}
	}
	if s.Reweight.Learned {
		p := sigmoid(float64(c.Exponent[0]))
		dc.Exponent[0] += T(dp * p * (1 - p))
	}
	if s.Prior.Coupled {
		couplingGrad(c.T, a.dq, dc.T)
	}
	if s.Prior.Slope {
		dc.Slope[0] += T(a.da0 * sigmoid(float64(c.Slope[0])))
		dc.Slope[1] += T(a.da1 * sigmoid(float64(c.Slope[1])) / 4)
	}
}

// adjoint is a system with the gradients it gathers.
type adjoint[T kernel.Float] struct {
	*system[T]
	domega   []T
	w, zw    []T // Q v, and its filtered stack
	out      []T // A'p, before the mask of the unknowns
	dq       [9]float64
	da0, da1 float64
}

// product handles one product A v on the way back: from the gradient p of the
// result it leaves out = A'p (unmasked) and adds scale times the gradients of
// <p, A v> to those of omega, Q, a_0 and a_1. p is masked in place by u.
func (a *adjoint[T]) product(p, v []T, scale T) {
	g := a.Grid
	n := a.Channels * g.PlaneLen
	kernel.Mul(p, p, a.u)
	a.stack(a.z, p)
	a.apply(a.z, a.t, a.s, true) // s = S'p
	a.mix(a.out, a.s)
	a.mix(a.w, v)
	a.stack(a.zw, a.w)
	if a.Prior.Coupled {
		a.gatherCoupling(v, scale)
	}
	if a.Prior.Slope {
		a.gatherSlope(scale)
		kernel.Scale(a.a0, a.z[:n])
		kernel.Scale(a.a1, a.z[n:3*n])
	}
	st, directed := &g.half, a.Normalization.Directed()
	if directed {
		st = &g.outward
	}
	edges := (a.Normalization.Planes(g) - 1) * g.PlaneLen
	kernel.Outer(st, a.domega[:edges], a.domega[edges:edges+g.PlaneLen], a.z, a.zw, a.filters()*a.Channels, scale, !directed)
}

// gatherCoupling adds scale times the gradient of Q, from s = S'p and v.
func (a *adjoint[T]) gatherCoupling(v []T, scale T) {
	pl := a.Grid.PlaneLen
	for c := range 3 {
		for d := range 3 {
			a.dq[3*c+d] += float64(scale) * kernel.Dot(a.s[c*pl:(c+1)*pl], v[d*pl:(d+1)*pl])
		}
	}
}

// gatherSlope adds scale times the gradients of a_0 and a_1, from t = L'(F p) and
// zw = F Q v.
func (a *adjoint[T]) gatherSlope(scale T) {
	n := a.Channels * a.Grid.PlaneLen
	a.da0 += float64(scale) * kernel.Dot(a.t[:n], a.zw[:n])
	a.da1 += float64(scale) * kernel.Dot(a.t[n:3*n], a.zw[n:3*n])
}
