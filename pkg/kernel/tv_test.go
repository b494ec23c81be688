package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// tvCase is a solve of n edges: signals at both ends and gradients of the right
// hand sides at both ends.
type tvCase[T Float] struct {
	c            TV[T]
	w            []T
	a, b, ga, gb [][]T
}

// newTVCase draws n edges of a solve of some layers; slices come from take. No
// edge is within 1e-4 of a kink in any layer, and both sides of every kink occur.
func newTVCase[T Float](rng *rand.Rand, n, layers int, take func(k int) []T) tvCase[T] {
	z := tvCase[T]{c: TV[T]{Mu: 0.1}, w: take(n)}
	for l := range layers {
		z.c.Gamma = append(z.c.Gamma, T(0.8+1.5*rng.Float64()+0.1*float64(l)))
		z.a, z.b = append(z.a, take(n)), append(z.b, take(n))
		z.ga, z.gb = append(z.ga, take(n)), append(z.gb, take(n))
	}
	for i := range n {
		for {
			z.w[i] = T(0.2 + 0.8*rng.Float64())
			scale := math.Exp(2 * rng.NormFloat64())
			for l := range layers {
				z.a[l][i], z.b[l][i] = T(scale*rng.NormFloat64()), T(scale*rng.NormFloat64())
				z.ga[l][i], z.gb[l][i] = T(rng.NormFloat64()), T(rng.NormFloat64())
			}
			if z.kink(i) > 1e-4 {
				break
			}
		}
	}
	return z
}

// kink returns how near edge i comes to a kink: the smallest argument of a
// maximum.
func (z *tvCase[T]) kink(i int) float64 {
	near := math.Inf(1)
	arg := func(x float64) float64 {
		near = min(near, math.Abs(x))
		return max(0, x)
	}
	w := float64(z.w[i])
	e := w * (float64(z.a[0][i]) - float64(z.b[0][i]))
	phi, delta, p1, p2 := e, e, arg(-e), arg(e)
	for l := 1; l < len(z.a); l++ {
		g, after := float64(z.c.Gamma[l-1]), float64(z.c.Gamma[l])
		d := phi - w*(float64(z.a[l][i])-float64(z.b[l][i]))
		p1, p2 = arg(p1+d/4-1/(4*g)), arg(p2-d/4-1/(4*g))
		phi, delta = p2-p1+g/after*(d+p2-p1-delta), p2-p1
	}
	return near
}

// wideTV returns z in float64.
func wideTV(z tvCase[float32]) tvCase[float64] {
	all := func(x [][]float32) (y [][]float64) {
		for _, s := range x {
			y = append(y, widen(s))
		}
		return y
	}
	return tvCase[float64]{
		c: TV[float64]{Gamma: widen(z.c.Gamma), Mu: float64(z.c.Mu)}, w: widen(z.w),
		a: all(z.a), b: all(z.b), ga: all(z.ga), gb: all(z.gb),
	}
}

func take64(n int) []float64 { return make([]float64, n) }

// loss returns the sum over k and i of (ga - gb) w phi_{k+1}, whose gradients
// TVFluxGrad computes.
func (z *tvCase[T]) loss() float64 {
	var s float64
	flux := make([]T, len(z.w))
	for k := range z.a {
		TVFlux(&z.c, flux, z.w, z.a[:k+1], z.b[:k+1])
		for i, f := range flux {
			s += float64(z.ga[k][i]-z.gb[k][i]) * float64(f)
		}
	}
	return s
}

// tvTextbook computes phi_1..phi_L of one edge by the updates of bound, slacks
// and multipliers that TV's comment states, before any elimination.
func tvTextbook(c *TV[float64], e []float64) []float64 {
	phis := []float64{e[0]}
	var m, s1, s2 float64
	for l := 1; l < len(e); l++ {
		g := c.Gamma[l-1]
		var z, q1, q2, low1, low2 float64
		if l == 1 {
			t1, t2 := max(0, -2*e[0]), max(0, 2*e[0])
			z = -1/g - 2*c.Mu/g + (t1+t2)/2
			q1, q2 = (z-e[1])/2+t1/2, (z+e[1])/2+t2/2
			low1, low2, m = c.Mu/g, c.Mu/g, c.Mu
		} else {
			r := c.Gamma[l-2] / g
			low1, low2 = r*min(0, s1), r*min(0, s2)
			a1, a2 := max(0, s1)-low1, max(0, s2)-low2
			z = (a1+a2)/2 - 1/(2*g)
			q1, q2 = (z-e[l])/2+(m/g+a1)/2, (z+e[l])/2+((-1-m)/g+a2)/2
		}
		s1, s2, m = q1+low1, q2+low2, m+g*(z-e[l]-q1)
		next := c.Gamma[l]
		r := g / next
		a1, a2 := max(0, s1)-r*min(0, s1), max(0, s2)-r*min(0, s2)
		phis = append(phis, (2*m+1)/(2*next)-a1/2+a2/2)
	}
	return phis
}

// The short recurrence is the ADMM, for any start of the multipliers.
func TestTVFluxIsTheADMM(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 1))
	const n = 400
	for _, layers := range []int{1, 2, 3, 5, 8, 11} {
		z := newTVCase(rng, n, layers, take64)
		for _, mu := range []float64{0.1, 0, 1.7} {
			z.c.Mu = mu
			flux, e := make([]float64, n), make([]float64, layers)
			for k := range layers {
				TVFlux(&z.c, flux, z.w, z.a[:k+1], z.b[:k+1])
				for i := range n {
					for j := range e {
						e[j] = z.w[i] * (z.a[j][i] - z.b[j][i])
					}
					want := z.w[i] * tvTextbook(&z.c, e)[k]
					size := 1.
					for _, v := range e {
						size += math.Abs(v)
					}
					if !(math.Abs(flux[i]-want) <= 1e-13*size*float64(layers)) {
						t.Fatalf("layer %d of %d, mu %g, edge %d: flux %g, want %g", k+1, layers, mu, i, flux[i], want)
					}
				}
			}
		}
	}
}

// Both sides of every kink must have been taken for the checks to mean much.
func TestTVCasesMeetBothSides(t *testing.T) {
	z := newTVCase(rand.New(rand.NewPCG(21, 2)), 2000, 5, take64)
	var count [5][4]int
	for i := range z.w {
		e := z.w[i] * (z.a[0][i] - z.b[0][i])
		phi, delta, p1, p2 := e, e, max(0, -e), max(0, e)
		for l := 1; l < 5; l++ {
			g := z.c.Gamma[l-1]
			d := phi - z.w[i]*(z.a[l][i]-z.b[l][i])
			p1, p2 = max(0, p1+d/4-1/(4*g)), max(0, p2-d/4-1/(4*g))
			phi, delta = p2-p1+g/z.c.Gamma[l]*(d+p2-p1-delta), p2-p1
			side := 0
			if p1 > 0 {
				side++
			}
			if p2 > 0 {
				side += 2
			}
			count[l][side]++
		}
	}
	for l := 1; l < 5; l++ {
		for side, k := range count[l] {
			if k < 20 {
				t.Errorf("layer %d: %d edges of 2000 on side %d: %v", l, k, side, count[l])
			}
		}
	}
}

func TestTVFluxGradFiniteDifferences(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 1))
	const n, h = 23, 1e-6
	for _, layers := range []int{1, 2, 3, 5, 8, 11} {
		z := newTVCase(rng, n, layers, take64)
		slope := func(x *float64) float64 {
			at := *x
			*x = at + h
			up := z.loss()
			*x = at - h
			down := z.loss()
			*x = at
			return (up - down) / (2 * h)
		}
		check := func(what string, got, want float64) {
			t.Helper()
			if !(math.Abs(got-want) <= 1e-6*(1+math.Abs(want))) {
				t.Errorf("%d layers: gradient of %s is %g, differences say %g", layers, what, got, want)
			}
		}
		dst := make([]float64, n)
		for l := layers - 1; l >= 0; l-- {
			// Old content of dst must not matter, that of dw and dgamma must stay.
			dw, dgamma := make([]float64, n), make([]float64, layers)
			for i := range dst {
				dst[i], dw[i] = 99, 3
			}
			for k := range dgamma {
				dgamma[k] = 5
			}
			TVFluxGrad(&z.c, l, dst, dw, dgamma, z.w, z.a, z.b, z.ga, z.gb)
			for i := range n {
				check(fmt.Sprintf("a[%d][%d]", l, i), dst[i], slope(&z.a[l][i]))
				check(fmt.Sprintf("b[%d][%d]", l, i), -dst[i], slope(&z.b[l][i]))
				if want := 3 + slope(&z.w[i]); l == 0 {
					check(fmt.Sprintf("w[%d]", i), dw[i], want)
				} else if dw[i] != 3 {
					t.Errorf("layer %d touched dw", l)
				}
			}
			for k := range dgamma {
				if l == 0 {
					check(fmt.Sprintf("gamma %d", k), dgamma[k]-5, slope(&z.c.Gamma[k]))
				} else if dgamma[k] != 5 {
					t.Errorf("layer %d touched dgamma", l)
				}
			}
		}
	}
}

// The gradient for layer l reads no gradients below l, and needs no dw.
func TestTVFluxGradReadsFromItsLayerOn(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		z := newTVCase(rand.New(rand.NewPCG(22, 2)), 50, 4, func(n int) []float32 { return make([]float32, n) })
		want, dst := make([]float32, 50), make([]float32, 50)
		TVFluxGrad(&z.c, 2, want, nil, nil, z.w, z.a, z.b, z.ga, z.gb)
		z.ga[0], z.ga[1], z.gb[0], z.gb[1] = nil, nil, nil, nil
		TVFluxGrad(&z.c, 2, dst, nil, nil, z.w, z.a, z.b, z.ga, z.gb)
		for i := range dst {
			if !equalBits(dst[i], want[i]) || want[i] == 0 {
				t.Fatalf("edge %d: %g without, %g with the gradients below", i, dst[i], want[i])
			}
		}
	})
}

// tvResult is all that a case gives: the flux of every layer, the gradients with
// respect to the signals, the weights and the penalties.
type tvResult[T Float] struct {
	flux, signal [][]T
	weight       []T
	gamma        []float64
}

func (z *tvCase[T]) run(flux func(c *TV[T], dst, w []T, a, b [][]T),
	grad func(c *TV[T], l int, dst, dw []T, dgamma []float64, w []T, a, b, ga, gb [][]T), take func(n int) []T) tvResult[T] {
	n, layers := len(z.w), len(z.a)
	r := tvResult[T]{weight: take(n), gamma: make([]float64, layers)}
	for i := range r.weight {
		r.weight[i] = 0.25
	}
	for l := range layers {
		f, s := take(n), take(n)
		flux(&z.c, f, z.w, z.a[:l+1], z.b[:l+1])
		grad(&z.c, l, s, r.weight, r.gamma, z.w, z.a, z.b, z.ga, z.gb)
		r.flux, r.signal = append(r.flux, f), append(r.signal, s)
	}
	return r
}

// tvSizes are those of a vector and a half at either level, of groups of vectors
// and beyond a block of sums.
var tvSizes = []int{1, 2, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 63, 64, 65, 79, 100, 129, 5120, 9001}

func TestTVMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(23, 1))
		for _, layers := range []int{1, 2, 3, 4, 5, 8, 9} {
			for _, n := range tvSizes {
				if n > 200 && layers != 2 && layers != 5 {
					continue
				}
				what := fmt.Sprintf("%d layers, n %d", layers, n)
				shift := 0
				var checks []func(t *testing.T, what string)
				take := func(k int) []float32 {
					shift++
					s, check := banded(k, shift%7)
					checks = append(checks, check)
					return s
				}
				z := newTVCase(rng, n, layers, take)
				got := z.run(TVFlux[float32], TVFluxGrad[float32], take)
				for _, check := range checks {
					check(t, what)
				}
				wide := wideTV(z)
				want := wide.run(tvFluxGeneric[float64], tvFluxGradGeneric[float64], take64)
				for i := range n {
					// The size of what is added up on the edge, once for fluxes and
					// once for gradients.
					signal, incoming := 0.25, 0.
					for k := range layers {
						signal += math.Abs(wide.a[k][i]) + math.Abs(wide.b[k][i])
						incoming += math.Abs(wide.ga[k][i]) + math.Abs(wide.gb[k][i])
					}
					near := func(name string, got float32, want, size float64) {
						t.Helper()
						if !(math.Abs(float64(got)-want) <= 2e-6*size) {
							t.Fatalf("%s: %s of edge %d is %g, want %g", what, name, i, got, want)
						}
					}
					for k := range layers {
						near(fmt.Sprintf("flux %d", k+1), got.flux[k][i], want.flux[k][i], signal)
						near(fmt.Sprintf("gradient of signal %d", k), got.signal[k][i], want.signal[k][i], incoming)
					}
					near("gradient of the weight", got.weight[i], want.weight[i], 0.25+signal*incoming)
				}
				for k, g := range got.gamma {
					size := 0.
					for i := range n {
						for j := range layers {
							size += (1 + math.Abs(wide.a[j][i]-wide.b[j][i])) * math.Abs(wide.ga[j][i]-wide.gb[j][i])
						}
					}
					if !(math.Abs(g-want.gamma[k]) <= 1e-6*size) {
						t.Fatalf("%s: gradient of penalty %d is %g, want %g", what, k, g, want.gamma[k])
					}
				}
			}
		}
	})
}

// Edges alone, or in other company, have the bits they have among others; and
// the same call has the same bits at other addresses.
func TestTVIsPositionIndependent(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(24, 1))
		take := func(n int) []float32 { return make([]float32, n) }
		for _, layers := range []int{1, 2, 5, 8} {
			const n = 211
			z := newTVCase(rng, n, layers, take)
			whole := z.run(TVFlux[float32], TVFluxGrad[float32], take)
			for _, m := range []int{1, 3, 20, 70} {
				for lo := 0; lo+m <= n; lo += 1 + m/2 {
					cut := func(x [][]float32) (y [][]float32) {
						for _, s := range x {
							y = append(y, s[lo:lo+m])
						}
						return y
					}
					part := tvCase[float32]{c: z.c, w: z.w[lo : lo+m], a: cut(z.a), b: cut(z.b), ga: cut(z.ga), gb: cut(z.gb)}
					got := part.run(TVFlux[float32], TVFluxGrad[float32], take)
					for j := range m {
						same := equalBits(got.weight[j], whole.weight[lo+j])
						for k := range layers {
							same = same && equalBits(got.flux[k][j], whole.flux[k][lo+j]) && equalBits(got.signal[k][j], whole.signal[k][lo+j])
						}
						if !same {
							t.Fatalf("%d layers: edge %d has other bits among %d", layers, lo+j, m)
						}
					}
				}
			}
			moved := z
			moved.w = append(make([]float32, 3), z.w...)[3:]
			again := moved.run(TVFlux[float32], TVFluxGrad[float32], take)
			for k := range layers {
				if again.gamma[k] != whole.gamma[k] {
					t.Errorf("%d layers: the gradient of penalty %d depends on the address", layers, k)
				}
			}
		}
	})
}

// Edges of weight 0, the padding of a plane, have no flux and no gradients, even
// where the gradients of their neighbours are large.
func TestTVOfPadding(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(25, 1))
		take := func(n int) []float32 { return make([]float32, n) }
		z := newTVCase(rng, 77, 5, take)
		clear(z.w)
		r := z.run(TVFlux[float32], TVFluxGrad[float32], take)
		for i := range z.w {
			for k := range z.a {
				if r.flux[k][i] != 0 || r.signal[k][i] != 0 {
					t.Fatalf("edge %d, layer %d: flux %g, gradient %g", i, k, r.flux[k][i], r.signal[k][i])
				}
			}
			if r.weight[i] != 0.25 {
				t.Fatalf("edge %d: gradient of the weight %g", i, r.weight[i]-0.25)
			}
		}
		for k, g := range r.gamma {
			if g != 0 {
				t.Errorf("gradient of penalty %d: %g", k, g)
			}
		}
	})
}

// Where the generic twin gives NaN or Inf the assembly gives the same; an edge
// with hostile signals leaves its neighbours alone.
func TestTVOfHostileSignals(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(26, 1))
		take := func(n int) []float32 { return make([]float32, n) }
		values := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
		const n, layers = 77, 4
		for range 200 {
			z := newTVCase(rng, n, layers, take)
			clean := z.run(TVFlux[float32], TVFluxGrad[float32], take)
			at, k := rng.IntN(n), rng.IntN(layers)
			v := values[rng.IntN(len(values))]
			switch rng.IntN(5) {
			case 0:
				z.a[k][at] = v
			case 1:
				z.b[k][at] = v
			case 2:
				z.ga[k][at] = v
			case 3:
				z.gb[k][at] = v
			case 4:
				z.w[at] = v
			}
			got := z.run(TVFlux[float32], TVFluxGrad[float32], take)
			want := z.run(tvFluxGeneric[float32], tvFluxGradGeneric[float32], take)
			bad := false
			for i := range n {
				same := func(what string, got, want, clean float32) {
					t.Helper()
					if i != at {
						want = clean
					} else if x := float64(want); x-x != 0 {
						bad = true
					} else {
						return // rounding, held to its bounds by another test
					}
					if !equalBits(got, want) {
						t.Fatalf("%s of edge %d is %g with %g at edge %d, want %g", what, i, got, v, at, want)
					}
				}
				for l := range layers {
					same(fmt.Sprintf("flux %d", l+1), got.flux[l][i], want.flux[l][i], clean.flux[l][i])
					same(fmt.Sprintf("gradient of signal %d", l), got.signal[l][i], want.signal[l][i], clean.signal[l][i])
				}
				same("gradient of the weight", got.weight[i], want.weight[i], clean.weight[i])
			}
			for l := range layers {
				if math.IsNaN(got.gamma[l]) != math.IsNaN(want.gamma[l]) || math.IsInf(got.gamma[l], 0) != math.IsInf(want.gamma[l], 0) {
					t.Fatalf("gradient of penalty %d is %g with %g at edge %d, want %g", l, got.gamma[l], v, at, want.gamma[l])
				}
			}
			if !bad {
				t.Fatalf("%g at edge %d, layer %d went unnoticed", v, at, k)
			}
		}
	})
}

// Signals are views of one padded plane, some apart by a shift: they overlap.
func TestTVOfShiftedViews(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(27, 1))
		take := func(n int) []float32 { return make([]float32, n) }
		const n, layers, shift = 150, 3, 5
		apart := newTVCase(rng, n, layers, take)
		views := apart
		views.a, views.b = nil, nil
		for l := range layers {
			plane := make([]float32, n+shift)
			for i := range plane {
				plane[i] = rng.Float32()
			}
			views.a, views.b = append(views.a, plane[:n]), append(views.b, plane[shift:])
			copy(apart.a[l], plane)
			copy(apart.b[l], plane[shift:])
		}
		got, want := views.run(TVFlux[float32], TVFluxGrad[float32], take), apart.run(TVFlux[float32], TVFluxGrad[float32], take)
		for i := range n {
			for l := range layers {
				if !equalBits(got.flux[l][i], want.flux[l][i]) || !equalBits(got.signal[l][i], want.signal[l][i]) {
					t.Fatalf("edge %d, layer %d differs", i, l)
				}
			}
		}
	})
}

// On a kink the derivative of the maximum is 0. Every number here is exact: with
// penalties 1, e_0 = 1 and e_1 = -2 leave p2 = max(0, 1 - 3/4 - 1/4) on its kink
// and p1 = 1/2; equal signals leave both on theirs at the start.
func TestTVOnKinks(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		const n = 35
		fill := func(x float32) []float32 {
			s := make([]float32, n)
			for i := range s {
				s[i] = x
			}
			return s
		}
		take := func(n int) []float32 { return make([]float32, n) }
		for _, k := range []struct {
			e0, e1 float32
			flux   [2]float32
			signal [2]float32 // gradients, of the second flux
			weight float32
			gamma  [2]float64
		}{
			// phi_2 = Delta_1 + r (d + Delta_1 - e_0), Delta_1 = -p1 = -(d/4 - 1/(4 g_1)), d = e_0 - e_1.
			{1, -2, [2]float32{1, 1}, [2]float32{-0.5, -0.5}, 1 - 0.5 + 1, [2]float64{-0.5 + 1.5, -1.5}},
			// phi_2 = -e_1 r, as nothing rises above the threshold.
			{0, 0, [2]float32{0, 0}, [2]float32{0, -1}, 0, [2]float64{}},
		} {
			z := tvCase[float32]{c: TV[float32]{Gamma: []float32{1, 1}, Mu: 0.1}, w: fill(1),
				a: [][]float32{fill(k.e0), fill(k.e1)}, b: [][]float32{fill(0), fill(0)},
				ga: [][]float32{fill(0), fill(1)}, gb: [][]float32{fill(0), fill(0)}}
			got := z.run(TVFlux[float32], TVFluxGrad[float32], take)
			for i := range n {
				for l := range 2 {
					if got.flux[l][i] != k.flux[l] || got.signal[l][i] != k.signal[l] {
						t.Fatalf("e %g, %g: edge %d, layer %d: flux %g, gradient %g, want %g and %g",
							k.e0, k.e1, i, l, got.flux[l][i], got.signal[l][i], k.flux[l], k.signal[l])
					}
				}
				if got.weight[i] != 0.25+k.weight {
					t.Fatalf("e %g, %g: gradient of weight %d is %g, want %g", k.e0, k.e1, i, got.weight[i]-0.25, k.weight)
				}
			}
			for l, g := range got.gamma {
				if g != n*k.gamma[l] {
					t.Errorf("e %g, %g: gradient of penalty %d is %g, want %g", k.e0, k.e1, l, g, n*k.gamma[l])
				}
			}
		}
	})
}

// The levels of assembly do the same operations on an edge.
func TestTVAgreesBetweenLevels(t *testing.T) {
	levels := Available()
	if len(levels) < 3 {
		t.Skip("fewer than two levels of assembly on this machine")
	}
	const n, layers = 500, 6
	take := func(n int) []float32 { return make([]float32, n) }
	z := newTVCase(rand.New(rand.NewPCG(30, 1)), n, layers, take)
	var r [2]tvResult[float32]
	for k, l := range levels[1:3] {
		restore := Force(l)
		r[k] = z.run(TVFlux[float32], TVFluxGrad[float32], take)
		restore()
	}
	for i := range n {
		same := equalBits(r[0].weight[i], r[1].weight[i])
		for l := range layers {
			same = same && equalBits(r[0].flux[l][i], r[1].flux[l][i]) && equalBits(r[0].signal[l][i], r[1].signal[l][i])
		}
		if !same {
			t.Fatalf("edge %d differs between %v and %v", i, levels[1], levels[2])
		}
	}
}

func TestTVAllocatesNothing(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		z := newTVCase(rand.New(rand.NewPCG(28, 1)), 50, maxTVLayers, func(n int) []float32 { return make([]float32, n) })
		dst, dw, dgamma := make([]float32, 50), make([]float32, 50), make([]float64, maxTVLayers)
		if k := testing.AllocsPerRun(10, func() {
			TVFlux(&z.c, dst, z.w, z.a, z.b)
			TVFluxGrad(&z.c, 3, dst, nil, nil, z.w, z.a, z.b, z.ga, z.gb)
			TVFluxGrad(&z.c, 0, dst, dw, dgamma, z.w, z.a, z.b, z.ga, z.gb)
		}); k != 0 {
			t.Errorf("%v allocations", k)
		}
	})
}

func TestTVChecksArguments(t *testing.T) {
	long, short := make([]float32, 20), make([]float32, 19)
	two, mixed, one := [][]float32{long, long}, [][]float32{long, short}, [][]float32{long}
	c := &TV[float32]{Gamma: []float32{1, 1}}
	dgamma := make([]float64, 2)
	TVFlux(c, nil, nil, [][]float32{nil}, [][]float32{nil})
	TVFluxGrad(c, 0, nil, nil, dgamma, nil, [][]float32{nil}, [][]float32{nil}, [][]float32{nil}, [][]float32{nil})
	for name, f := range map[string]func(){
		"no signals":      func() { TVFlux(c, long, long, nil, nil) },
		"fewer b":         func() { TVFlux(c, long, long, two, one) },
		"fewer penalties": func() { TVFlux(&TV[float32]{Gamma: []float32{1}}, long, long, two, two) },
		"short w":         func() { TVFlux(c, long, short, two, two) },
		"short signal":    func() { TVFlux(c, long, long, two, mixed) },
		"layer beyond":    func() { TVFluxGrad(c, 2, long, long, dgamma, long, two, two, two, two) },
		"layer below":     func() { TVFluxGrad(c, -1, long, long, dgamma, long, two, two, two, two) },
		"fewer gradients": func() { TVFluxGrad(c, 1, long, long, dgamma, long, two, two, one, one) },
		"short gradient":  func() { TVFluxGrad(c, 1, long, long, dgamma, long, two, two, two, mixed) },
		"short dw":        func() { TVFluxGrad(c, 0, long, short, dgamma, long, two, two, two, two) },
		"short dgamma":    func() { TVFluxGrad(c, 0, long, long, dgamma[:1], long, two, two, two, two) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkTV(b *testing.B) {
	const n = 5120
	for _, layers := range []int{2, 5} {
		// Slices as far apart as the planes of an image: n is a multiple of 4096
		// bytes, and dozens of streams must not share the places of the cache.
		memory := make([]float32, (4*layers+3)*(n+80))
		take := func(n int) []float32 {
			s := memory[:n:n]
			memory = memory[n+80:]
			return s
		}
		z := newTVCase(rand.New(rand.NewPCG(1, 1)), n, layers, take)
		dst, dw, dgamma := take(n), take(n), make([]float64, layers)
		for name, f := range map[string]func(){
			"Flux":      func() { TVFlux(&z.c, dst, z.w, z.a, z.b) },
			"FluxGrad1": func() { TVFluxGrad(&z.c, 1, dst, nil, nil, z.w, z.a, z.b, z.ga, z.gb) },
			"FluxGrad0": func() { TVFluxGrad(&z.c, 0, dst, dw, dgamma, z.w, z.a, z.b, z.ga, z.gb) },
		} {
			b.Run(fmt.Sprintf("%s/layers%d", name, layers), func(b *testing.B) { benchmarkLevels(b, n, f) })
		}
	}
}
