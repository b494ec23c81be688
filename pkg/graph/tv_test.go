package graph

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
)

// tvCase is a total variation problem of random features, samples and
// coefficients, on dense signals (C,H,W).
type tvCase struct {
	*TotalVariation[float64]
	omega         []float64
	x, y, mask    []float64
	c             TVCoefficients[float64]
	missing, n    int
	name          string
	rng           *rand.Rand
	padY, padMask []float64
}

var tvPriors = []Prior{{}, {Slope: true}, {Coupled: true}, {Coupled: true, Slope: true}}

func newTVCase(h, w int, norm Normalization, constraint Constraint, prior Prior, layers, steps int) *tvCase {
	channels := 1
	if prior.Coupled {
		channels = 3
	}
	ws, omega := operator(h, w, norm, Limit{Clip: 4, Soft: true}, .7)
	c := &tvCase{TotalVariation: &TotalVariation[float64]{Grid: ws.Grid, Channels: channels, Layers: layers, Steps: steps,
		Prior: prior, Normalization: norm, Constraint: constraint}, omega: omega, n: channels * h * w}
	c.name = fmt.Sprintf("%dx%d, normalisation %d, constraint %d, %+v", h, w, norm, constraint, prior)
	c.rng = rand.New(rand.NewPCG(4, uint64(h*100+w)))
	c.x, c.y, c.mask = noise(c.rng, c.n, 1), make([]float64, c.n), make([]float64, c.n)
	for i, v := range noise(c.rng, c.n, 1) {
		if c.rng.IntN(3) == 0 {
			c.y[i], c.mask[i] = v, 1
			if constraint == Exact {
				c.x[i] = v
			}
		} else {
			c.missing++
		}
	}
	uniform := func(n int, lo, hi float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = lo + (hi-lo)*c.rng.Float64()
		}
		return v
	}
	reach := 1. // of the spectrum, so that the steps stay stable
	if prior.Coupled {
		reach *= 3
	}
	if prior.Slope {
		reach *= 4
	}
	c.c.Alpha, c.c.Beta = uniform(layers*steps, .2/reach, .8/reach), uniform(layers*steps, .1, .5)
	c.c.Gamma = uniform(layers, .3, 3)
	if prior.Coupled {
		c.c.T = noise(c.rng, 9, 1)
	}
	if prior.Slope {
		c.c.Slope = noise(c.rng, 2, 1)
	}
	return c
}

func (c *tvCase) pad(dense []float64) []float64 {
	p := make([]float64, c.Channels*c.Grid.PlaneLen)
	Pad(c.Grid, p, dense)
	return p
}

// run returns the solution from c.x.
func (c *tvCase) run() []float64 {
	x, out := c.pad(c.x), make([]float64, c.n)
	c.Forward(nil, x, c.pad(c.y), c.pad(c.mask), c.omega, c.c)
	Unpad(c.Grid, out, x)
	return out
}

func (c *tvCase) published() *Published[float64] {
	return &Published[float64]{C: Incidence(c.Grid, c.Channels, c.Prior, c.Normalization, c.omega, c.c.Coefficients),
		Y: c.y, Mask: c.mask, Gamma: c.c.Gamma, Mu: MultiplierStart, Constraint: c.Constraint, FromZero: c.FromZero}
}

// eachTV calls f on every kind of edge, constraint and prior.
func eachTV(f func(norm Normalization, constraint Constraint, prior Prior)) {
	for _, norm := range []Normalization{RandomWalk, SoftmaxSymmetric} {
		for _, constraint := range []Constraint{Exact, Multiplier} {
			for _, prior := range tvPriors {
				f(norm, constraint, prior)
			}
		}
	}
}

// dense returns an exact x-step by a dense factorisation.
func (p *Published[T]) dense(t *testing.T, n int) func(l int, x, b []float64) {
	q := any(p).(*Published[float64])
	a := mat.NewDense(n, n, nil)
	e, col := make([]float64, n), make([]float64, n)
	for j := range n {
		clear(e)
		e[j] = 1
		q.Times(col, e)
		a.SetCol(j, col)
	}
	if q.Constraint == Exact {
		for i, m := range q.Mask {
			if m != 0 {
				a.Set(i, i, 1)
			}
		}
	}
	var lu mat.LU
	lu.Factorize(a)
	return func(_ int, x, b []float64) {
		rhs := append([]float64(nil), b...)
		if q.Constraint == Exact {
			for i, m := range q.Mask {
				if m != 0 {
					rhs[i] = x[i]
				}
			}
		}
		if err := lu.SolveVecTo(mat.NewVecDense(n, x), false, mat.NewVecDense(n, rhs)); err != nil {
			t.Fatal(err)
		}
	}
}

func distance(a, b []float64) (d float64) {
	for i := range a {
		d = math.Max(d, math.Abs(a[i]-b[i]))
		if math.IsNaN(a[i]) || math.IsNaN(b[i]) {
			return math.Inf(1)
		}
	}
	return d
}

// TestPublishedADMM holds the ADMM to the published form with all multipliers:
// with the same few conjugate gradient steps to rounding, and with systems solved
// to the end by a dense factorisation.
func TestPublishedADMM(t *testing.T) {
	eachTV(func(norm Normalization, constraint Constraint, prior Prior) {
		for _, s := range [][2]int{{1, 1}, {1, 7}, {6, 1}, {4, 5}, {7, 3}} {
			for _, fromZero := range []bool{false, true} {
				c := newTVCase(s[0], s[1], norm, constraint, prior, 5, 3)
				c.FromZero = fromZero
				p := c.published()
				p.Solve = p.Steps(c.Steps, c.c.Alpha, c.c.Beta)
				want := append([]float64(nil), c.x...)
				p.Run(want)
				if d := distance(c.run(), want); !(d <= 1e-11) {
					t.Errorf("%s, from zero %v: %g from the published form", c.name, fromZero, d)
				}
			}
		}
		// Converged steps need a matrix that is well-conditioned.
		const steps = 2000
		c := newTVCase(4, 5, norm, constraint, Prior{}, 4, steps)
		for i := range c.c.Alpha {
			c.c.Alpha[i], c.c.Beta[i] = 1, .8
		}
		p := c.published()
		p.Solve = p.dense(t, c.n)
		want := append([]float64(nil), c.x...)
		p.Run(want)
		if d := distance(c.run(), want); !(d <= 1e-9) {
			t.Errorf("%s: %g from the published form with exact solves", c.name, d)
		}
	})
}

// TestIncidenceAdjoint checks <Cx,e> = <x,C'e>, for random x and one random
// number e for every edge, with edges at every border; that the matrix is that of
// Incidence; and that constants have no variation.
func TestIncidenceAdjoint(t *testing.T) {
	eachTV(func(norm Normalization, _ Constraint, prior Prior) {
		for _, s := range sizes {
			c := newTVCase(s[0], s[1], norm, Exact, prior, 1, 1)
			p := c.newADMM(nil, c.pad(c.mask), c.omega, c.c)
			g := c.Grid
			forward := func(x []float64, edge func(plane, i int, e float64)) {
				p.planes(p.u[0], c.pad(x))
				for q := range p.filters() * c.Channels {
					u := p.u[0][q*g.PlaneLen:][:g.PlaneLen]
					for t, a := range p.arrows {
						for r := range g.H {
							for i := g.Base + r*g.Stride; i < g.Base+r*g.Stride+g.W; i++ {
								if w := p.w[a.plane+i]; w != 0 {
									edge(q*len(p.arrows)+t, i, w*(u[i]-u[i+a.shift]))
								}
							}
						}
					}
				}
			}
			var left, norm1 float64
			e := map[[2]int]float64{}
			forward(c.x, func(plane, i int, v float64) {
				e[[2]int{plane, i}] = c.rng.NormFloat64()
				left += v * e[[2]int{plane, i}]
				norm1 += math.Abs(v)
			})
			for q := range p.filters() * c.Channels {
				clear(p.flux)
				for t := range p.arrows {
					for i := range g.PlaneLen {
						if v, ok := e[[2]int{q*len(p.arrows) + t, i}]; ok {
							p.flux[t*g.PlaneLen+i] = v * p.w[p.arrows[t].plane+i]
						}
					}
				}
				p.divergence(q)
			}
			p.gather()
			ce, back := make([]float64, c.Channels*g.PlaneLen), make([]float64, c.n)
			p.combine(ce)
			Unpad(g, back, ce)
			var right float64
			for i, v := range back {
				right += v * c.x[i]
			}
			if math.Abs(left-right) > 1e-12*float64(1+len(e)) {
				t.Errorf("%s: <Cx,e> = %g, <x,C'e> = %g", c.name, left, right)
			}
			if want := c.published().Norm(c.x); math.Abs(norm1-want) > 1e-12*(1+want) {
				t.Errorf("%s: ||Cx||_1 = %g, by rows %g", c.name, norm1, want)
			}
			one := make([]float64, c.n)
			for i := range one {
				one[i] = .75
			}
			forward(one, func(_, _ int, v float64) {
				if v != 0 {
					t.Fatalf("%s: a constant differs by %g along an edge", c.name, v)
				}
			})
			c.x = one
			for i, m := range c.mask {
				c.y[i] = .75 * m
			}
			if d := distance(c.run(), one); d > 1e-14 {
				t.Errorf("%s: a constant moves by %g", c.name, d)
			}
		}
	})
}

// TestTotalVariationGradients holds every gradient, in every form, to central
// differences.
func TestTotalVariationGradients(t *testing.T) {
	eachTV(func(norm Normalization, constraint Constraint, prior Prior) {
		for _, s := range [][2]int{{1, 1}, {1, 6}, {5, 1}, {3, 4}, {6, 5}} {
			c := newTVCase(s[0], s[1], norm, constraint, prior, 3, 2)
			c.Keep, c.FromZero = true, (s[0]+s[1])%2 == 0
			r := noise(c.rng, c.n, 1)
			c.run()
			dx, domega := c.pad(r), make([]float64, len(c.omega))
			zero := func(v []float64) []float64 { return make([]float64, len(v)) }
			d := TVCoefficients[float64]{Gamma: zero(c.c.Gamma)}
			d.Alpha, d.Beta, d.T, d.Slope = zero(c.c.Alpha), zero(c.c.Beta), zero(c.c.T), zero(c.c.Slope)
			c.Backward(nil, dx, c.pad(c.y), c.pad(c.mask), c.omega, domega, c.c, d)
			dense := make([]float64, c.n)
			Unpad(c.Grid, dense, dx)
			c.Keep = false

			check := func(what string, v []float64, i int, got float64) {
				t.Helper()
				const h = 1e-6
				old, loss := v[i], [2]float64{}
				for k := range loss {
					v[i] = old + h*float64(1-2*k)
					for j, o := range c.run() {
						loss[k] += o * r[j]
					}
				}
				v[i] = old
				want := (loss[0] - loss[1]) / (2 * h)
				if math.Abs(got-want) > 2e-7*math.Max(1, math.Abs(want)) {
					t.Errorf("%s: gradient of %s[%d] %.9g, central difference %.9g", c.name, what, i, got, want)
				}
			}
			some := func(what string, v, got []float64) {
				for range min(6, len(v)) {
					i := c.rng.IntN(len(v))
					check(what, v, i, got[i])
				}
			}
			some("x", c.x, dense)
			some("alpha", c.c.Alpha, d.Alpha)
			some("beta", c.c.Beta, d.Beta)
			some("gamma", c.c.Gamma, d.Gamma)
			some("T", c.c.T, d.T)
			some("slope", c.c.Slope, d.Slope)
			// Weights of edges that exist; those of a random walk have no diagonal.
			var edges []int
			for i, v := range c.omega {
				if v != 0 && !(norm.Directed() && i >= 2*len(c.Grid.Forward)*c.Grid.PlaneLen) {
					edges = append(edges, i)
				}
			}
			for range min(12, len(edges)) {
				i := edges[c.rng.IntN(len(edges))]
				check("omega", c.omega, i, domega[i])
			}
		}
	})
}

// TestTotalVariationSingle holds float32, which runs on other kernels, to float64:
// solutions and every gradient, at every kernel level.
func TestTotalVariationSingle(t *testing.T) {
	single := func(v []float64) []float32 {
		out := make([]float32, len(v))
		for i := range v {
			out[i] = float32(v[i])
		}
		return out
	}
	for _, level := range kernel.Available() {
		restore := kernel.Force(level)
		eachTV(func(norm Normalization, constraint Constraint, prior Prior) {
			c := newTVCase(9, 33, norm, constraint, prior, 3, 2)
			c.Keep = true
			c.run()
			n := c.Channels * c.Grid.PlaneLen
			r := c.pad(noise(c.rng, c.n, 1))
			coefficients := func() TVCoefficients[float64] {
				zero := func(v []float64) []float64 { return make([]float64, len(v)) }
				return TVCoefficients[float64]{Coefficients: Coefficients[float64]{Alpha: zero(c.c.Alpha), Beta: zero(c.c.Beta),
					T: zero(c.c.T), Slope: zero(c.c.Slope)}, Gamma: zero(c.c.Gamma)}
			}
			toSingle := func(v TVCoefficients[float64]) TVCoefficients[float32] {
				return TVCoefficients[float32]{Coefficients: Coefficients[float32]{Alpha: single(v.Alpha), Beta: single(v.Beta),
					T: single(v.T), Slope: single(v.Slope)}, Gamma: single(v.Gamma)}
			}
			s := &TotalVariation[float32]{Grid: c.Grid, Channels: c.Channels, Layers: c.Layers, Steps: c.Steps, Prior: prior,
				Normalization: norm, Constraint: constraint, Keep: true}
			x32 := single(c.pad(c.x))
			y32, mask32, omega32, c32 := single(c.pad(c.y)), single(c.pad(c.mask)), single(c.omega), toSingle(c.c)
			s.Forward(nil, x32, y32, mask32, omega32, c32)

			x, y, mask := c.pad(c.x), c.pad(c.y), c.pad(c.mask)
			c.Forward(nil, x, y, mask, c.omega, c.c)
			dx, domega, d := append([]float64(nil), r...), make([]float64, len(c.omega)), coefficients()
			c.Backward(nil, dx, y, mask, c.omega, domega, c.c, d)
			dx32, domega32, d32 := single(r), make([]float32, len(c.omega)), toSingle(coefficients())
			s.Backward(nil, dx32, y32, mask32, omega32, domega32, c32, d32)

			for _, v := range []struct {
				what string
				got  []float32
				want []float64
			}{
				{"x", x32[:n], x[:n]}, {"dx", dx32, dx}, {"domega", domega32, domega}, {"alpha", d32.Alpha, d.Alpha}, {"beta", d32.Beta, d.Beta},
				{"gamma", d32.Gamma, d.Gamma}, {"T", d32.T, d.T}, {"slope", d32.Slope, d.Slope},
			} {
				var scale, diff float64
				for i, w := range v.want {
					// Weights of edges that do not exist have no use for a gradient.
					if v.what == "domega" && c.omega[i] == 0 {
						continue
					}
					scale, diff = math.Max(scale, math.Abs(w)), math.Max(diff, math.Abs(w-float64(v.got[i])))
					if v.got[i] != v.got[i] {
						diff = math.Inf(1)
					}
				}
				if !(diff <= 1e-4*math.Max(scale, 1e-3)) {
					t.Errorf("%v, %s: %s differs by %g of %g", level, c.name, v.what, diff, scale)
				}
			}
		})
		restore()
	}
}

// TestSmallestGamma checks that a penalty below the smallest counts as that, and
// has no gradient.
func TestSmallestGamma(t *testing.T) {
	c := newTVCase(4, 5, SoftmaxSymmetric, Multiplier, Prior{}, 3, 2)
	c.c.Gamma[1] = MinGamma
	want := c.run()
	for _, v := range []float64{MinGamma / 2, 0, -3, math.Inf(-1)} {
		c.c.Gamma[1] = v
		c.Keep = true
		if d := distance(c.run(), want); d != 0 {
			t.Errorf("gamma %g: %g from that of the smallest", v, d)
		}
		d := TVCoefficients[float64]{Gamma: make([]float64, 3)}
		d.Alpha, d.Beta = make([]float64, 6), make([]float64, 6)
		c.Backward(nil, c.pad(noise(c.rng, c.n, 1)), c.pad(c.y), c.pad(c.mask), c.omega, make([]float64, len(c.omega)), c.c, d)
		if d.Gamma[1] != 0 || d.Gamma[0] == 0 || d.Gamma[2] == 0 {
			t.Errorf("gamma %g: gradients %v, expected none of the second only", v, d.Gamma)
		}
	}
}

// TestLinearProgramme runs hundreds of untrained layers on tiny images: the
// variation of the result is the least there is, by the simplex method.
func TestLinearProgramme(t *testing.T) {
	for _, form := range []struct {
		norm       Normalization
		constraint Constraint
	}{{RandomWalk, Multiplier}, {SoftmaxSymmetric, Exact}} {
		const layers, steps = 700, 20
		c := newTVCase(3, 4, form.norm, form.constraint, Prior{}, layers, steps)
		p := c.published()
		least := simplex(t, p)

		for i := range c.c.Alpha {
			c.c.Alpha[i], c.c.Beta[i] = 1, .5
		}
		for l := range c.c.Gamma {
			c.c.Gamma[l] = 2
		}
		p.Solve = p.dense(t, c.n)
		x := append([]float64(nil), c.x...)
		p.Run(x)
		unrolled := c.run()
		t.Logf("%s: least %.12g, published form %.12g, unrolled %.12g", c.name, least, p.Norm(x), p.Norm(unrolled))
		for name, v := range map[string][]float64{"published form": x, "unrolled": unrolled} {
			if d := p.Norm(v) - least; math.Abs(d) > 1e-5*least {
				t.Errorf("%s: variation of the %s is %g, the least is %g", c.name, name, p.Norm(v), least)
			}
			for i, m := range c.mask {
				if m != 0 && math.Abs(v[i]-c.y[i]) > 1e-5 {
					t.Errorf("%s: sample %d of the %s is %g, expected %g", c.name, i, name, v[i], c.y[i])
				}
			}
		}
	}
}

// simplex returns the minimum of ||Cx||_1 over the missing entries, as the linear
// programme min sum (q1 + q2)/2 with (q2 - q1)/2 = Cx, q1, q2 >= 0.
func simplex(t *testing.T, p *Published[float64]) float64 {
	t.Helper()
	var free []int
	at := map[int]int{}
	for i, m := range p.Mask {
		if m == 0 {
			at[i] = len(free)
			free = append(free, i)
		}
	}
	m, n := len(p.C), len(free)
	cost, rhs := make([]float64, 2*m+2*n), make([]float64, m)
	a := mat.NewDense(m, 2*m+2*n, nil)
	basis := make([]int, m)
	for r, row := range p.C {
		cost[2*r], cost[2*r+1] = .5, .5
		a.Set(r, 2*r, -.5)
		a.Set(r, 2*r+1, .5)
		for _, e := range row {
			if k, ok := at[e.Index]; ok {
				a.Set(r, 2*m+2*k, a.At(r, 2*m+2*k)-e.Value)
				a.Set(r, 2*m+2*k+1, a.At(r, 2*m+2*k+1)+e.Value)
			} else {
				rhs[r] += e.Value * p.Y[e.Index]
			}
		}
		basis[r] = 2 * r
		if rhs[r] >= 0 {
			basis[r] = 2*r + 1
		}
	}
	least, _, err := lp.Simplex(cost, a, rhs, 1e-12, basis)
	if err != nil {
		t.Fatal(err)
	}
	return least
}

// TestGoldenTotalVariation reproduces values of an independent implementation on
// the 6 x 5 grid whose features are a formula.
func TestGoldenTotalVariation(t *testing.T) {
	b, err := os.ReadFile("testdata/ugtv.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		W00   float64 `json:"w00"`
		W22   float64 `json:"w22"`
		L     []any   `json:"Cbar^T Cbar x"`
		Norm  float64 `json:"||Cbar x||_1"`
		Exact []any   `json:"GTV 5 ADMM exact solves"`
		CG    []any   `json:"GTV 5 ADMM x 10 CG"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	const h, w, d = 6, 5, 3
	g := NewGrid(h, w, window(2))
	f, a := make([]float64, d*h*w), make([]float64, d*d)
	for k := range d {
		a[k*d+k] = math.Sqrt(1.5)
		for i := range h * w {
			f[k*h*w+i] = math.Sin(.7*float64(i) + 1.3*float64(k))
		}
	}
	weights := Weights[float64]{Grid: g, Dim: d, Normalization: RandomWalk}
	omega := make([]float64, weights.Normalization.Planes(g)*g.PlaneLen)
	weights.Forward(nil, omega, f, a)
	near := func(what string, got, want, tol float64) {
		t.Helper()
		if !(math.Abs(got-want) <= tol) {
			t.Errorf("%s: %.15g, golden %.15g", what, got, want)
		}
	}
	summary := func(what string, x []float64, want []any) {
		t.Helper()
		var sum, sq float64
		for _, v := range x {
			sum += v
			sq += v * v
		}
		for i := range 5 {
			near(fmt.Sprintf("%s[%d]", what, i), x[i], want[i].(float64), 2e-12)
		}
		near(what+" sum", sum, want[6].(float64), 2e-11)
		near(what+" l2", math.Sqrt(sq), want[8].(float64), 2e-11)
	}
	near("w (0,0)->(0,1)", weights.Affinity(0, 0, Offset{0, 1}), want.W00, 1e-15)
	near("w (2,2)->(4,1)", weights.Affinity(2, 2, Offset{2, -1}), want.W22, 1e-15)

	x, y, mask := make([]float64, h*w), make([]float64, h*w), make([]float64, h*w)
	for i := range x {
		x[i] = math.Cos(.3*float64(i/w)) + .1*float64(i%w)
		if (i/w+i%w)%2 == 1 {
			y[i], mask[i] = x[i], 1
		}
	}
	const layers, steps = 5, 10
	p := &Published[float64]{C: Incidence(g, 1, Prior{}, RandomWalk, omega, Coefficients[float64]{}), Y: y, Mask: mask,
		Gamma: []float64{10, 10, 10, 10, 10}, Mu: .1, Constraint: Multiplier, FromZero: true}
	near("||Cx||_1", p.Norm(x), want.Norm, 1e-13)
	lx := make([]float64, h*w)
	p.Times(lx, x)
	for i, m := range mask {
		lx[i] -= m * x[i]
	}
	summary("C'Cx", lx, want.L)

	p.Solve = p.dense(t, h*w)
	z := append([]float64(nil), y...)
	p.Run(z)
	summary("5 layers, exact solves", z, want.Exact)

	s := &TotalVariation[float64]{Grid: g, Channels: 1, Layers: layers, Steps: steps, Normalization: RandomWalk, Constraint: Multiplier, FromZero: true}
	c := TVCoefficients[float64]{Gamma: p.Gamma}
	for range layers * steps {
		c.Alpha, c.Beta = append(c.Alpha, .5), append(c.Beta, .3)
	}
	p.Solve = p.Steps(steps, c.Alpha, c.Beta)
	copy(z, y)
	p.Run(z)
	summary("5 x 10 steps", z, want.CG)

	pad := func(v []float64) []float64 {
		out := make([]float64, g.PlaneLen)
		Pad(g, out, v)
		return out
	}
	px := pad(y)
	s.Forward(nil, px, pad(y), pad(mask), omega, c)
	Unpad(g, z, px)
	summary("5 x 10 steps, unrolled", z, want.CG)

	s.Steps, c.Alpha, c.Beta = 1000, nil, nil
	for range layers * s.Steps {
		c.Alpha, c.Beta = append(c.Alpha, 1.2), append(c.Beta, .6)
	}
	px = pad(y)
	s.Forward(nil, px, pad(y), pad(mask), omega, c)
	Unpad(g, z, px)
	summary("5 layers, unrolled, to the end", z, want.Exact)
}
