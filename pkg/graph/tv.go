package graph

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Constraint says how the x-step of TotalVariation holds the samples.
type Constraint int

const (
	// Exact solves for the missing entries alone: samples never change.
	Exact Constraint = iota
	// Multiplier is the paper's: H'H joins the matrix and a multiplier pulls the
	// samples to their values, which a few layers do not quite reach.
	Multiplier
)

// ParseConstraint returns the constraint called name: exact or multiplier.
func ParseConstraint(name string) (Constraint, error) {
	switch name {
	case "exact":
		return Exact, nil
	case "multiplier":
		return Multiplier, nil
	}
	return 0, fmt.Errorf("constraint: found %q, expected exact | multiplier", name)
}

const (
	// MultiplierStart is the value all multipliers of the ADMM start at (uGTV 5.3).
	MultiplierStart = .1
	// MinGamma is the smallest penalty in effect: a learned one below it counts as
	// MinGamma, with no gradient. A penalty divides, and its threshold 1/(2 gamma)
	// would long be beyond any difference of signals in [0,1].
	MinGamma = .01
)

// TotalVariation runs the unrolled ADMM of one graph (uGTV, eqs 11-22) on
//
//	minimise ||C x||_1 subject to Hx = y
//
// C has a row w (u_i - u_j) for every edge of the graph and every plane of
// u = sqrt(a_k) That F_k x: the filters F_k, strengths a_k and colour matrix of
// Prior, That being T with columns of unit length. The edges are those of the
// operator omega that Weights computes:
//
//	RandomWalk        every ordered pair of neighbours, w = wbar_ij       (the paper's)
//	SoftmaxSymmetric  every pair once, w = sqrt(omega_ij), so that C'C is the Laplacian itself
//
// With u^l the planes of the signal after l solves and e_l = w (u^l_i - u^l_j),
// kernel.TV defines the flux phi_l(e_0..e_{l-1}) of an edge, to which all its
// multipliers and slacks come down. Layer l = 1..Layers solves
//
//	A x = b_l,   A = C'C,         b_l = C' phi_l                            on missing entries (Exact)
//	             A = C'C + H'H,   b_l = C' phi_l + H'(y - mu_l / gamma_l)   everywhere (Multiplier)
//
// with mu_1 = MultiplierStart and mu_{l+1} = mu_l + gamma_l (H x_l - y), by Steps
// conjugate gradient iterations with learned step sizes, starting from x_{l-1}:
//
//	g = A x - b; v = g; repeat: x -= alpha v; g -= alpha A v; v = g + beta v
type TotalVariation[T kernel.Float] struct {
	Grid          *Grid
	Channels      int // C
	Layers, Steps int
	Prior         Prior
	Normalization Normalization // RandomWalk or SoftmaxSymmetric
	Constraint    Constraint

	// FromZero starts the slacks of the ADMM at 0 instead of those of the estimate
	// x: e_0 = 0. The first layer is then a Laplacian solve as uGLR's, where from
	// the slacks of x (the paper's, as far as known) an Exact one moves nothing.
	FromZero bool

	// Kept for Backward when Keep is set, without padding. All that belongs to
	// edges is computed again.
	Keep bool
	v    []T // (Layers,Steps,C,H,W): search directions
	x    []T // (Layers,C,H,W): the signal before each layer
	s    []T // (Layers,2,C,H,W): the two parts of the gathered flux; of coupled or sloped priors only
}

// TVCoefficients are the learned scalars of one graph, or their gradients: those
// of the conjugate gradient and the prior, and the penalties Gamma (Layers).
type TVCoefficients[T kernel.Float] struct {
	Coefficients[T]
	Gamma []T
}

// arrow is a plane of edges: from pixel i to pixel i+shift, weights at plane.
type arrow struct{ plane, shift int }

func (s *TotalVariation[T]) arrows() []arrow {
	g := s.Grid
	var a []arrow
	for t, o := range g.Forward {
		a = append(a, arrow{t * g.PlaneLen, g.shift(o)})
	}
	if s.Normalization.Directed() {
		for t, o := range g.Forward {
			a = append(a, arrow{(len(g.Forward) + t) * g.PlaneLen, -g.shift(o)})
		}
	}
	return a
}

func (s *TotalVariation[T]) dense() int { return s.Channels * s.Grid.H * s.Grid.W }

// scaled says whether there are strengths or a colour matrix to learn.
func (s *TotalVariation[T]) scaled() bool { return s.Prior.Coupled || s.Prior.Slope }

// admm is one run of TotalVariation: the operator C'C as a system, C itself, and
// temporaries.
type admm[T kernel.Float] struct {
	*system[T]
	tv      *TotalVariation[T]
	mask    []T // 1 on samples (C,PlaneLen); nil for Exact
	w       []T // of edges (arrows,PlaneLen)
	inverse []T // 1/w, of SoftmaxSymmetric only
	arrows  []arrow
	that    [9]float64 // T with columns of unit length
	norm    [3]float64 // the columns' lengths
	r0, r1  T          // sqrt(a_0), sqrt(a_1)
	edge    kernel.TV[T]

	u        [][]T // planes of the signals before each layer (Layers)(filters*C,PlaneLen)
	flux     []T   // of one plane (arrows,PlaneLen)
	d        []T   // div of every plane (filters*C,PlaneLen)
	s0, s1   []T   // d gathered by filters (C,PlaneLen)
	colour   []T   // (C,PlaneLen)
	a, b     [][]T // arguments of the kernels
	ga, gb   [][]T
	sources  [][]T
	plusDiff []T // 1, -1, 1, -1, ...
}

// newADMM prepares a run. missing is overwritten with what is solved for: mask's
// complement (Exact) or the whole image.
func (s *TotalVariation[T]) newADMM(sc *kernel.Scratch[T], mask, omega []T, c TVCoefficients[T]) *admm[T] {
	g, n := s.Grid, s.Channels*s.Grid.PlaneLen
	p := &admm[T]{tv: s, arrows: s.arrows()}

	unknown := sc.TakeZero(n)
	for ch := range s.Channels {
		for r := range g.H {
			i := ch*g.PlaneLen + g.Base + r*g.Stride
			for x := i; x < i+g.W; x++ {
				if s.Constraint == Multiplier || mask[x] == 0 {
					unknown[x] = 1
				}
			}
		}
	}
	if s.Constraint == Multiplier {
		p.mask = mask
	}

	nf, pl := len(g.Forward), g.PlaneLen
	laplacian := omega
	if s.Normalization.Directed() {
		// Weights of C'C: wbar_ij^2 + wbar_ji^2.
		p.w = omega[:2*nf*pl]
		laplacian = sc.TakeZero((nf + 1) * pl)
		for t, o := range g.Forward {
			to, back := rows(g, p.w[t*pl:][:pl], 0), rows(g, p.w[(nf+t)*pl:][:pl], g.shift(o))
			out := rows(g, laplacian[t*pl:][:pl], 0)
			kernel.Mul(out, to, to)
			kernel.MulAdd(out, 1, back, back)
		}
		(&Weights[T]{Grid: g}).degree(sc, laplacian[nf*pl:][:pl], laplacian)
	} else {
		p.w, p.inverse = sc.Take(nf*pl), sc.Take(nf*pl)
		kernel.Rsqrt(p.inverse, omega[:nf*pl])
		kernel.Mul(p.w, omega[:nf*pl], p.inverse)
	}
	solver := &Solver[T]{Grid: g, Channels: s.Channels, Layers: s.Layers, Steps: s.Steps, Prior: s.Prior, Normalization: SoftmaxSymmetric}
	p.system = solver.newSystem(sc, laplacian, unknown, c.Coefficients)

	p.that = [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	if s.Prior.Coupled {
		_, p.norm = coupling(c.T)
		for i := range p.that {
			p.that[i] = float64(c.T[i]) / p.norm[i%3]
		}
	}
	p.r0, p.r1 = T(math.Sqrt(float64(p.a0))), T(math.Sqrt(float64(p.a1)))
	p.edge = kernel.TV[T]{Gamma: make([]T, s.Layers), Mu: MultiplierStart}
	for l, v := range c.Gamma {
		p.edge.Gamma[l] = v
		if !(v > MinGamma) {
			p.edge.Gamma[l] = MinGamma
		}
	}

	nu := p.filters() * n
	for range s.Layers {
		p.u = append(p.u, sc.TakeZero(nu))
	}
	p.flux = sc.TakeZero(len(p.arrows) * pl)
	p.d = sc.TakeZero(nu)
	p.s0, p.s1, p.colour = sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n)
	p.a, p.b = make([][]T, s.Layers), make([][]T, s.Layers)
	p.ga, p.gb = make([][]T, s.Layers), make([][]T, s.Layers)
	p.sources = make([][]T, 2*len(p.arrows))
	p.plusDiff = make([]T, 2*len(p.arrows))
	for t := range p.arrows {
		p.plusDiff[2*t], p.plusDiff[2*t+1] = 1, -1
	}
	return p
}

// rotate computes dst = That src over channels, or That' src.
func (p *admm[T]) rotate(dst, src []T, transposed bool) {
	if !p.Prior.Coupled {
		copy(dst, src)
		return
	}
	pl := p.Grid.PlaneLen
	for c := range 3 {
		k := [3]T{T(p.that[3*c]), T(p.that[3*c+1]), T(p.that[3*c+2])}
		if transposed {
			k = [3]T{T(p.that[c]), T(p.that[3+c]), T(p.that[6+c])}
		}
		kernel.LinearCombination(dst[c*pl:(c+1)*pl], k[:], src[:pl], src[pl:2*pl], src[2*pl:3*pl])
	}
}

// planes computes dst (filters*C,PlaneLen) = sqrt(a_k) F_k That x of a signal x
// (C,PlaneLen); That x is left in p.colour.
func (p *admm[T]) planes(dst, x []T) {
	n := p.Channels * p.Grid.PlaneLen
	p.rotate(p.colour, x[:n], false)
	p.stack(dst, p.colour)
	if p.Prior.Slope {
		kernel.Scale(p.r0, dst[:n])
		kernel.Scale(p.r1, dst[n:3*n])
	}
}

// gather computes from planes d (filters*C,PlaneLen) the parts s0 = d_0 and s1 =
// sum over k > 0 of F_k' d_k. C' is That'(sqrt(a_0) s0 + sqrt(a_1) s1).
func (p *admm[T]) gather() {
	g, n := p.Grid, p.Channels*p.Grid.PlaneLen
	copy(p.s0, p.d[:n])
	if !p.Prior.Slope {
		return
	}
	p.clearLast(p.d)
	dx, dy := p.d[n:2*n], p.d[2*n:3*n]
	kernel.LinearCombination(p.inner(p.s1, 0), []T{1, -1, 1, -1}, p.inner(dx, -1), p.inner(dx, 0), p.inner(dy, -g.Stride), p.inner(dy, 0))
}

// combine computes dst = That'(sqrt(a_0) s0 + sqrt(a_1) s1) of what gather left.
func (p *admm[T]) combine(dst []T) {
	if !p.Prior.Slope {
		p.rotate(dst, p.s0, true)
		return
	}
	kernel.LinearCombination(p.colour, []T{p.r0, p.r1}, p.s0, p.s1)
	p.rotate(dst, p.colour, true)
}

// divergence computes plane q of d from p.flux, the flux f of every edge of that
// plane: at each pixel, the sum over edges (i,j) of f_ij less that over (j,i).
func (p *admm[T]) divergence(q int) {
	g := p.Grid
	for t, a := range p.arrows {
		f := p.flux[t*g.PlaneLen:][:g.PlaneLen]
		p.sources[2*t], p.sources[2*t+1] = rows(g, f, 0), rows(g, f, -a.shift)
	}
	kernel.LinearCombination(rows(g, p.d[q*g.PlaneLen:][:g.PlaneLen], 0), p.plusDiff, p.sources...)
}

// ends points a and b at both ends of the edges of arrow t on plane q of each of
// the stacks in u.
func (p *admm[T]) ends(a, b, u [][]T, q int, t arrow) {
	g := p.Grid
	for k := range u {
		plane := u[k][q*g.PlaneLen:][:g.PlaneLen]
		a[k], b[k] = rows(g, plane, 0), rows(g, plane, t.shift)
	}
}

// forwardFlux computes d = div(w phi_l) of every plane from u[:l].
func (p *admm[T]) forwardFlux(l int) {
	g := p.Grid
	for q := range p.filters() * p.Channels {
		for t, a := range p.arrows {
			p.ends(p.a[:l], p.b[:l], p.u[:l], q, a)
			kernel.TVFlux(&p.edge, rows(g, p.flux[t*g.PlaneLen:][:g.PlaneLen], 0), rows(g, p.w[a.plane:][:g.PlaneLen], 0), p.a[:l], p.b[:l])
		}
		p.divergence(q)
	}
}

// backwardFlux computes d, the gradients of the planes u[l] through the fluxes of
// the layers above l, from the gradients gu[l:] of the divergences of those
// fluxes. With l = 0 the gradients of w and of the penalties are added to dw and
// dgamma.
func (p *admm[T]) backwardFlux(l int, gu [][]T, dw []T, dgamma []float64) {
	g := p.Grid
	for q := range p.filters() * p.Channels {
		for t, a := range p.arrows {
			p.ends(p.a, p.b, p.u, q, a)
			p.ends(p.ga[l:], p.gb[l:], gu[l:], q, a)
			kernel.TVFluxGrad(&p.edge, l, rows(g, p.flux[t*g.PlaneLen:][:g.PlaneLen], 0), rows(g, dw[t*g.PlaneLen:][:g.PlaneLen], 0), dgamma,
				rows(g, p.w[a.plane:][:g.PlaneLen], 0), p.a, p.b, p.ga, p.gb)
		}
		p.divergence(q)
	}
}

// multiply computes dst = A v on what is solved for; v is the whole signal, or 0
// on samples (Exact).
func (p *admm[T]) multiply(dst, v []T) {
	p.times(dst, v)
	if p.mask != nil {
		kernel.MulAdd(dst, 1, p.mask, v)
	}
}

// Forward runs the layers on the signal x (C,PlaneLen) in place, samples in place
// (Exact). y (C,PlaneLen) holds the samples and 0 elsewhere, and is read by
// Multiplier only; mask (C,PlaneLen) is 1 on samples and 0 on missing entries and
// padding; omega is the operator of Weights.
func (s *TotalVariation[T]) Forward(sc *kernel.Scratch[T], x, y, mask, omega []T, c TVCoefficients[T]) {
	m := sc.Mark()
	defer sc.Release(m)
	p := s.newADMM(sc, mask, omega, c)
	n, d := s.Channels*s.Grid.PlaneLen, s.dense()
	if s.Keep && s.v == nil {
		s.v = make([]T, s.Layers*s.Steps*d)
		s.x = make([]T, s.Layers*d)
		if s.scaled() {
			s.s = make([]T, 2*s.Layers*d)
		}
	}
	b, g, v, av := sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n)
	var mu []T
	if p.mask != nil {
		mu = sc.TakeZero(n)
		kernel.Axpy(MultiplierStart, p.mask[:n], mu)
	}
	for l := range s.Layers {
		if s.Keep {
			Unpad(s.Grid, s.x[l*d:][:d], x)
		}
		if l > 0 || !s.FromZero {
			p.planes(p.u[l], x)
		}
		p.forwardFlux(l + 1)
		p.gather()
		if s.Keep && s.scaled() {
			Unpad(s.Grid, s.s[2*l*d:][:d], p.s0)
			if s.Prior.Slope {
				Unpad(s.Grid, s.s[(2*l+1)*d:][:d], p.s1)
			}
		}
		p.combine(b)
		if p.mask != nil {
			kernel.Axpy(1, y[:n], b)
			kernel.Axpy(-1/p.edge.Gamma[l], mu, b)
		}
		p.multiply(g, x)
		kernel.MulAdd(g, -1, p.u0(), b)
		copy(v, g)
		for k := range s.Steps {
			i := l*s.Steps + k
			if s.Keep {
				Unpad(s.Grid, s.v[i*d:][:d], v)
			}
			kernel.Axpy(-c.Alpha[i], v, x[:n])
			if k == s.Steps-1 {
				break
			}
			p.multiply(av, v)
			kernel.Axpy(-c.Alpha[i], av, g)
			kernel.LinearCombination(v, []T{1, c.Beta[i]}, g, v)
		}
		if p.mask != nil {
			kernel.MulAdd(mu, p.edge.Gamma[l], p.mask, x)
			kernel.Axpy(-p.edge.Gamma[l], y[:n], mu)
		}
	}
}

// u0 is 1 on what is solved for and 0 elsewhere (C,PlaneLen).
func (p *admm[T]) u0() []T { return p.system.u }

// Backward computes, from the gradient dx (C,PlaneLen) of the solution, that of
// the starting signal (in place, samples included), of omega (added to domega,
// zeroed by the caller) and of the coefficients (added to dc). y, mask and omega
// are those of Forward, whose x Backward kept. The adjoint of a solve runs its
// steps backwards as that of Solver does; it starts from g = A x - b, so the
// gradient of b is minus that of g. From there kernel.TVFluxGrad goes back to all
// earlier signals, so what a layer's signal is due is complete only once all
// layers above it are done.
func (s *TotalVariation[T]) Backward(sc *kernel.Scratch[T], dx, y, mask, omega, domega []T, c, dc TVCoefficients[T]) {
	m := sc.Mark()
	defer sc.Release(m)
	p := s.newADMM(sc, mask, omega, c)
	grid, pl := s.Grid, s.Grid.PlaneLen
	n, d, nf := s.Channels*pl, s.dense(), len(s.Grid.Forward)

	// The gradient of the Laplacian's weights, and of w.
	dlaplacian, dw := domega, domega[:len(p.arrows)*pl]
	if s.Normalization.Directed() {
		dlaplacian = sc.TakeZero((nf + 1) * pl)
	} else {
		dw = sc.TakeZero(nf * pl)
	}
	a := &adjoint[T]{system: p.system, domega: dlaplacian}
	a.w, a.zw, a.out = sc.TakeZero(n), sc.TakeZero(p.filters()*n), sc.TakeZero(n)
	gb, vb, v := sc.TakeZero(n), sc.TakeZero(n), sc.TakeZero(n)
	x, part := sc.TakeZero(n), sc.TakeZero(n)
	var gu [][]T // gradients of the divergences of each layer
	for l := range s.Layers {
		gu = append(gu, sc.TakeZero(p.filters()*n))
		if l > 0 || !s.FromZero {
			Pad(grid, x, s.x[l*d:][:d])
			p.planes(p.u[l], x)
		}
	}
	dgamma := make([]float64, s.Layers)
	var dthat [9]float64
	var dr0, dr1 float64
	var mu, dmu []T
	if p.mask != nil {
		mu, dmu = sc.TakeZero(s.Layers*n), sc.TakeZero(n)
		kernel.Axpy(MultiplierStart, p.mask[:n], mu[:n])
		for l := 1; l < s.Layers; l++ {
			next := mu[l*n:][:n]
			Pad(grid, x, s.x[l*d:][:d])
			kernel.LinearCombination(next, []T{1, -p.edge.Gamma[l-1]}, mu[(l-1)*n:][:n], y[:n])
			kernel.MulAdd(next, p.edge.Gamma[l-1], p.mask, x)
		}
	}

	for l := s.Layers - 1; l >= 0; l-- {
		if p.mask != nil && l+1 < s.Layers {
			// mu_{l+1} = mu_l + gamma_l (mask x_{l+1} - y), all layers counted from 0.
			Pad(grid, x, s.x[(l+1)*d:][:d])
			kernel.MulAdd(dx[:n], p.edge.Gamma[l], p.mask, dmu)
			dgamma[l] += kernel.Dot(dmu, x) - kernel.Dot(dmu, y[:n])
		}
		clear(gb)
		clear(vb)
		for k := s.Steps - 1; k >= 0; k-- {
			i := l*s.Steps + k
			Pad(grid, v, s.v[i*d:][:d])
			if k == s.Steps-1 {
				dc.Alpha[i] -= T(kernel.Dot(dx[:n], v))
				kernel.Axpy(-c.Alpha[i], dx[:n], vb)
				continue
			}
			kernel.Axpy(1, vb, gb)
			dc.Beta[i] += T(kernel.Dot(vb, v))
			p.adjointProduct(a, gb, v, -c.Alpha[i])
			kernel.Mul(a.out, a.out, p.u0())
			dc.Alpha[i] -= T(kernel.Dot(a.out, v) + kernel.Dot(dx[:n], v))
			kernel.LinearCombination(vb, []T{c.Beta[i], -c.Alpha[i], -c.Alpha[i]}, vb, a.out, dx[:n])
		}
		kernel.Axpy(1, vb, gb)
		Pad(grid, x, s.x[l*d:][:d])
		p.adjointProduct(a, gb, x, 1)
		kernel.Axpy(1, a.out, dx[:n])
		kernel.Scale(-1, gb) // now the gradient of b

		if p.mask != nil {
			// b has -mask mu / gamma.
			r := 1 / float64(p.edge.Gamma[l])
			here := mu[l*n:][:n]
			dgamma[l] += r * r * kernel.Dot(gb, here) // mu is 0 off samples
			kernel.MulAdd(dmu, T(-r), p.mask, gb)
		}
		p.planes(gu[l], gb) // leaves That gb
		if s.Prior.Slope {
			Pad(grid, part, s.s[2*l*d:][:d])
			dr0 += kernel.Dot(part, p.colour)
			Pad(grid, p.s1, s.s[(2*l+1)*d:][:d])
			dr1 += kernel.Dot(p.s1, p.colour)
			kernel.LinearCombination(part, []T{p.r0, p.r1}, part, p.s1)
		} else if s.Prior.Coupled {
			Pad(grid, part, s.s[2*l*d:][:d])
		}
		p.rotation(&dthat, part, gb)

		p.backwardFlux(l, gu, dw, dgamma)
		if l == 0 && s.FromZero {
			break // e_0 depends on nothing
		}
		p.gather()
		if s.Prior.Slope {
			p.rotate(part, x, false)
			dr0 += kernel.Dot(p.s0, part)
			dr1 += kernel.Dot(p.s1, part)
			kernel.LinearCombination(part, []T{p.r0, p.r1}, p.s0, p.s1)
		} else {
			copy(part, p.s0)
		}
		p.rotation(&dthat, part, x)
		p.rotate(v, part, true)
		kernel.Axpy(1, v, dx[:n])
	}

	if s.Normalization.Directed() {
		// laplacian_ij = w_ij^2 + w_ji^2, in both ends' diagonals too.
		diag, sum := dlaplacian[nf*pl:][:pl], sc.TakeZero(pl)
		for t, o := range grid.Forward {
			off := grid.shift(o)
			total := rows(grid, sum, 0)
			kernel.LinearCombination(total, []T{1, 1, 1}, rows(grid, dlaplacian[t*pl:][:pl], 0), rows(grid, diag, 0), rows(grid, diag, off))
			kernel.MulAdd(rows(grid, domega[t*pl:][:pl], 0), 2, total, rows(grid, p.w[t*pl:][:pl], 0))
			kernel.MulAdd(rows(grid, domega[(nf+t)*pl:][:pl], off), 2, total, rows(grid, p.w[(nf+t)*pl:][:pl], off))
		}
	} else {
		kernel.MulAdd(domega[:nf*pl], .5, dw, p.inverse)
	}
	for l, v := range c.Gamma {
		if v > MinGamma {
			dc.Gamma[l] += T(dgamma[l])
		}
	}
	if s.Prior.Coupled {
		couplingGrad(c.T, a.dq, dc.T)
		columnsGrad(c.T, p.norm, dthat, dc.T)
	}
	if s.Prior.Slope {
		da0, da1 := a.da0, a.da1
		if p.r0 > 0 {
			da0 += dr0 / (2 * float64(p.r0))
		}
		if p.r1 > 0 {
			da1 += dr1 / (2 * float64(p.r1))
		}
		dc.Slope[0] += T(da0 * sigmoid(float64(c.Slope[0])))
		dc.Slope[1] += T(da1 * sigmoid(float64(c.Slope[1])) / 4)
	}
}

// adjointProduct is adjoint.product for A = C'C, plus H'H with Multiplier.
func (p *admm[T]) adjointProduct(a *adjoint[T], gb, v []T, scale T) {
	a.product(gb, v, scale)
	if p.mask != nil {
		kernel.MulAdd(a.out, 1, p.mask, gb)
	}
}

// rotation adds to d the gradient of <s, That x>, for s and x (C,PlaneLen).
func (p *admm[T]) rotation(d *[9]float64, s, x []T) {
	if !p.Prior.Coupled {
		return
	}
	pl := p.Grid.PlaneLen
	for r := range 3 {
		for c := range 3 {
			d[3*r+c] += kernel.Dot(s[r*pl:(r+1)*pl], x[c*pl:(c+1)*pl])
		}
	}
}

// columnsGrad adds to dt the gradient of T given that of That, T with columns
// scaled to unit length.
func columnsGrad[T kernel.Float](t []T, norm [3]float64, dthat [9]float64, dt []T) {
	for c := range 3 {
		var along float64
		for r := range 3 {
			along += dthat[3*r+c] * float64(t[3*r+c]) / norm[c]
		}
		for r := range 3 {
			dt[3*r+c] += T((dthat[3*r+c] - along*float64(t[3*r+c])/norm[c]) / norm[c])
		}
	}
}
