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
