package kernel

// TV is what the edges of a graph total variation share in the linearised ADMM
// of an unrolled solver: the penalties Gamma[0], Gamma[1], ... > 0 of its layers
// and the start Mu of all its multipliers.
//
// The problem is min sum of |w (u_i - u_j)| over the edges, as a linear programme
// in bounds z with slacks q1 = z - e and q2 = z + e. On an edge everything is
// scalar: with e_0, e_1, ... the signals e = w (u_i - u_j) before the first layer
// and after each, and g_l = Gamma[l-1], layer l gives its linear system the flux
//
//	phi_1 = e_0
//	phi_l = (2m + 1)/(2 g_l) + (A2 - A1)/2,  A = max(0, s) - r min(0, s),  r = g_{l-1}/g_l
//
// and, once it has solved it for e_l, renews bound, slacks and multiplier:
//
//	z  = (A1 + A2)/2 - 1/(2 g_l)
//	q1 = (z - e_l)/2 + (m/g_l + A1)/2,  q2 = (z + e_l)/2 + ((-1-m)/g_l + A2)/2
//	s <- q + r min(0, s),  m <- m + g_l (z - e_l - q1)
//
// where layer 1 has z = |e_0| - (1 + 2 Mu)/g_1, q1 = (z-e_1)/2 + max(0, -e_0),
// q2 = (z+e_1)/2 + max(0, e_0), s = q + Mu/g_1, m = Mu + g_1 (z - e_1 - q1).
//
// Eliminating z, q and m leaves a short recurrence, in which Mu cancels (it
// matters to the multipliers of the samples alone, which are not an edge's). With
// p = max(0, s)/2 and Delta = p2 - p1:
//
//	phi_1 = Delta_0 = e_0,  p1 = max(0, -e_0),  p2 = max(0, e_0)
//	d_l  = phi_l - e_l
//	p1  <- max(0, p1 + d_l/4 - 1/(4 g_l))
//	p2  <- max(0, p2 - d_l/4 - 1/(4 g_l))
//	phi_{l+1} = Delta_l + g_l/g_{l+1} (d_l + Delta_l - Delta_{l-1})
//
// The kernels recompute it from the signals wherever they need it: a layer costs
// a dozen operations, less than keeping its state in memory.
type TV[T Float] struct {
	Gamma []T
	Mu    T
}

// maxTVLayers is the longest recurrence the assembly computes, and the longest
// for which the generic twin allocates nothing.
const maxTVLayers = 8

// tvStep holds the constants of the step from phi_l to phi_{l+1}.
type tvStep[T Float] struct {
	shrink T // 1/(4 g_l)
	ratio  T // g_l/g_{l+1}
}

// steps returns the constants of l = 1..layers-1 at their index, in buf if it is
// long enough.
func (c *TV[T]) steps(buf []tvStep[T], layers int) []tvStep[T] {
	if layers > len(buf) {
		buf = make([]tvStep[T], layers)
	}
	buf = buf[:layers]
	for l := 1; l < layers; l++ {
		g, next := c.Gamma[l-1], c.Gamma[l]
		buf[l] = tvStep[T]{shrink: 1 / (4 * g), ratio: g / next}
	}
	return buf
}

// TVFlux computes dst[i] = w[i] phi_L(e_0..e_{L-1}), the weighted flux of the
// edges in layer L = len(a) = len(b) >= 1, from e_k = w[i] (a[k][i] - b[k][i]):
//
//	e := w[i] * (a[0][i] - b[0][i])
//	phi, delta, p1, p2 := e, e, max(0, -e), max(0, e)
//	for l := 1; l < L; l++ {
//		g, next := Gamma[l-1], Gamma[l]
//		d := phi - w[i]*(a[l][i]-b[l][i])
//		p1 = max(0, p1 - 1/(4*g) + d/4)
//		p2 = max(0, p2 - 1/(4*g) - d/4)
//		phi, delta = p2-p1 + g/next*(d-delta + p2-p1), p2-p1
//	}
//	dst[i] = w[i] * phi
//
// w and every a[k] and b[k] must have the length of dst, and Gamma at least L
// elements. Slices of a and b may overlap each other, dst overlaps nothing. An
// edge of weight 0 between finite signals has flux 0.
func TVFlux[T Float](c *TV[T], dst, w []T, a, b [][]T) {
	checkTV(c, len(dst), w, a, b)
	if len(dst) == 0 {
		return
	}
	if d, ok := any(dst).([]float32); ok &&
		tvFluxFast(any(c).(*TV[float32]), d, any(w).([]float32), any(a).([][]float32), any(b).([][]float32)) {
		return
	}
	tvFluxGeneric(c, dst, w, a, b)
}

// TVFluxGrad is the adjoint of the L = len(a) = len(b) fluxes of a whole solve.
// For k = l..L-1, ga[k][i] and gb[k][i] are the gradients of the loss with
// respect to what the flux of layer k+1 was added to and subtracted from, so that
// f_k = ga[k][i] - gb[k][i] is that with respect to w[i] phi_{k+1}; entries below
// l are not read. The loss depends on
//
//	ebar_l = sum over k >= l of d phi_{k+1} / d e_l * w[i] f_k
//
// and dst[i] = w[i] ebar_l is its gradient with respect to a[l][i], minus that
// with respect to b[l][i]. With l = 0, the last call of a solve, and only then,
// it also adds the gradients of the weights and of the penalties:
//
//	dw[i]     += sum over k of phi_{k+1} f_k + ebar_k (a[k][i] - b[k][i])
//	dgamma[k] += sum over i of the gradient with respect to Gamma[k]
//
// The derivative of max(0, x) at 0 is taken to be 0. dgamma is summed in a fixed
// order: over at most 256 elements a lane in T, beyond that in float64. The other
// conditions are those of TVFlux; dst and dw must be apart from each other and
// from the rest.
func TVFluxGrad[T Float](c *TV[T], l int, dst, dw []T, dgamma []float64, w []T, a, b, ga, gb [][]T) {
	checkTV(c, len(dst), w, a, b)
	if l < 0 || l >= len(a) || len(ga) != len(a) || len(gb) != len(a) {
		panic("kernel: TVFluxGrad of a layer or of gradients that do not fit the signals")
	}
	for k := l; k < len(a); k++ {
		if len(ga[k]) != len(dst) || len(gb[k]) != len(dst) {
			panic("kernel: TVFluxGrad of gradients of unequal lengths")
		}
	}
	if l == 0 && (len(dw) != len(dst) || len(dgamma) < len(a)) {
		panic("kernel: TVFluxGrad into gradients that are too short")
	}
	if len(dst) == 0 {
		return
	}
	if d, ok := any(dst).([]float32); ok &&
		tvFluxGradFast(any(c).(*TV[float32]), l, d, any(dw).([]float32), dgamma, any(w).([]float32),
			any(a).([][]float32), any(b).([][]float32), any(ga).([][]float32), any(gb).([][]float32)) {
		return
	}
	tvFluxGradGeneric(c, l, dst, dw, dgamma, w, a, b, ga, gb)
}

func checkTV[T Float](c *TV[T], n int, w []T, a, b [][]T) {
	if len(a) == 0 || len(b) != len(a) || len(c.Gamma) < len(a) {
		panic("kernel: TVFlux of unequal numbers of signals, or of fewer penalties")
	}
	if len(w) != n {
		panic("kernel: TVFlux of slices of unequal lengths")
	}
	for k := range a {
		if len(a[k]) != n || len(b[k]) != n {
			panic("kernel: TVFlux of slices of unequal lengths")
		}
	}
}

// positive returns max(0, x); NaN stays NaN.
func positive[T Float](x T) T {
	if x < 0 {
		return 0
	}
	return x
}

func tvFluxGeneric[T Float](c *TV[T], dst, w []T, a, b [][]T) {
	var buf [maxTVLayers]tvStep[T]
	steps := c.steps(buf[:], len(a))
	for i := range dst {
		e := w[i] * (a[0][i] - b[0][i])
		phi, delta, p1, p2 := e, e, positive(-e), positive(e)
		for l := 1; l < len(steps); l++ {
			s := steps[l]
			d := phi - w[i]*(a[l][i]-b[l][i])
			p1 = positive(p1 - s.shrink + d/4)
			p2 = positive(p2 - s.shrink - d/4)
			next := p2 - p1
			phi, delta = next+s.ratio*(d-delta+next), next
		}
		dst[i] = w[i] * phi
	}
}

// tvState is what the adjoint needs of layer l of an edge.
type tvState[T Float] struct {
	p1, p2 T
	jump   T // d_l + Delta_l - Delta_{l-1}
	phi    T // phi_{l+1}
}

func tvFluxGradGeneric[T Float](c *TV[T], l int, dst, dw []T, dgamma []float64, w []T, a, b, ga, gb [][]T) {
	layers := len(a)
	var stepBuf [maxTVLayers]tvStep[T]
	var stateBuf [maxTVLayers]tvState[T]
	var sumBuf [maxTVLayers]tvSums
	steps, state, sums := c.steps(stepBuf[:], layers), stateBuf[:], sumBuf[:]
	if layers > maxTVLayers {
		state, sums = make([]tvState[T], layers), make([]tvSums, layers)
	}
	for i := range dst {
		e := w[i] * (a[0][i] - b[0][i])
		delta := e
		state[0] = tvState[T]{p1: positive(-e), p2: positive(e), phi: e}
		for k := 1; k < layers; k++ {
			s, before := steps[k], state[k-1]
			d := before.phi - w[i]*(a[k][i]-b[k][i])
			p1 := positive(before.p1 - s.shrink + d/4)
			p2 := positive(before.p2 - s.shrink - d/4)
			next := p2 - p1
			jump := d - delta + next
			state[k] = tvState[T]{p1: p1, p2: p2, jump: jump, phi: next + s.ratio*jump}
			delta = next
		}
		// Gradients with respect to phi_{k+1}, p1 and p2 after layer k and, but for
		// the sign, to Delta_k of the step after it.
		var phi, p1, p2, delta1, weight T
		phi = w[i] * (ga[layers-1][i] - gb[layers-1][i])
		for k := layers - 1; k >= max(l, 1); k-- {
			now := state[k]
			jump := steps[k].ratio * phi
			next := phi - delta1 + jump
			delta1 = jump
			p1 -= next
			p2 += next
			if !(now.p1 > 0) {
				p1 = 0
			}
			if !(now.p2 > 0) {
				p2 = 0
			}
			d := jump + (p1-p2)/4
			if k == l {
				dst[i] = -w[i] * d
			}
			if l == 0 {
				weight += now.phi*(ga[k][i]-gb[k][i]) - d*(a[k][i]-b[k][i])
				sums[k].ratio += float64(phi * now.jump)
				sums[k].shrink -= float64(p1 + p2)
			}
			if k > l {
				phi = d + w[i]*(ga[k-1][i]-gb[k-1][i])
			}
		}
		if l == 0 {
			start := phi - delta1
			if state[0].p2 > 0 {
				start += p2
			}
			if state[0].p1 > 0 {
				start -= p1
			}
			dst[i] = w[i] * start
			dw[i] += weight + state[0].phi*(ga[0][i]-gb[0][i]) + start*(a[0][i]-b[0][i])
		}
	}
	if l == 0 {
		c.addGamma(dgamma, sums[:layers])
	}
}

// tvSums are the gradients with respect to the constants of a step.
type tvSums struct{ shrink, ratio float64 }

// addGamma adds to dgamma what the gradients of shrink = 1/(4 g_l) and ratio =
// g_l/g_{l+1} of the steps l >= 1 say of the penalties.
func (c *TV[T]) addGamma(dgamma []float64, sums []tvSums) {
	for l := 1; l < len(sums); l++ {
		s, g, next := sums[l], float64(c.Gamma[l-1]), float64(c.Gamma[l])
		dgamma[l-1] += s.ratio/next - s.shrink/(4*g*g)
		dgamma[l] -= s.ratio * g / (next * next)
	}
}
