package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/graph"
	G "gorgonia.org/gorgonia"
)

// reweightCase is a solver with re-weighting on random inputs.
type reweightCase struct {
	h, w     int
	prior    graph.Prior
	reweight graph.Reweighting
	flat     bool // all of x and y the same: every D_ij is 0
}

// solution adds edge weights and the solver over ins: features, metric, x, y,
// mask, alpha, beta, then what the case has of colour, slope and exponent.
func (c reweightCase) solution(e *Env, in []*G.Node, layers, steps int) (*G.Node, error) {
	grid := graph.NewGrid(c.h, c.w, window(2))
	omega, err := EdgeWeights(e, grid, graph.SoftmaxSymmetric, graph.Limit{Clip: 11.5, Soft: true}, in[0], in[1])
	if err != nil {
		return nil, err
	}
	rest := in[7:]
	next := func(have bool) (n *G.Node) {
		if have {
			n, rest = rest[0], rest[1:]
		}
		return n
	}
	colour, slope, exponent := next(c.prior.Coupled), next(c.prior.Slope), next(c.reweight.Learned)
	cfg := SolverConfig{Grid: grid, Layers: layers, Steps: steps, Prior: c.prior, Normalization: graph.SoftmaxSymmetric, Reweight: c.reweight}
	return ReweightedConjugateGradient(e, cfg, in[2], in[3], in[4], omega, in[5], in[6], colour, slope, exponent)
}

func (c reweightCase) inputs(rng *rand.Rand, layers, steps int) (ins []input, size int) {
	const batch, heads, dim = 2, 2, 2
	channels := 1
	if c.prior.Coupled {
		channels = 3
	}
	x, y, mask := random(rng, 0, 1, batch, channels, c.h, c.w), random(rng, 0, 1, batch, channels, c.h, c.w), random(rng, 0, 1, batch, channels, c.h, c.w)
	for i, v := range mask.data {
		mask.data[i] = math.Round(v)
		if c.flat {
			x.data[i], y.data[i] = .3, .3
		}
	}
	ins = []input{random(rng, -1, 1, batch, heads*dim, c.h, c.w), random(rng, -1, 1, heads, dim, dim), x, y.fixed(), mask.fixed(),
		random(rng, .3, .7, heads, layers, steps), random(rng, .1, .5, heads, layers, steps)}
	if c.prior.Coupled {
		ins = append(ins, random(rng, -1, 1, heads, 3, 3))
	}
	if c.prior.Slope {
		ins = append(ins, random(rng, -1, 1, heads, 2))
	}
	if c.reweight.Learned {
		ins = append(ins, random(rng, -1.5, 1.5, heads))
	}
	return ins, batch * heads * channels * c.h * c.w
}

// TestReweightedGradients holds every gradient of the re-weighted solver, through
// the edge weights to the features, to central differences: borders, odd sizes,
// one pixel wide, and images whose differences are all 0.
func TestReweightedGradients(t *testing.T) {
	const layers, steps = 3, 2
	for _, c := range []reweightCase{
		{h: 5, w: 7, reweight: graph.Reweighting{Learned: true, Epsilon: .1}},
		{h: 5, w: 4, prior: graph.Prior{Slope: true}, reweight: graph.Reweighting{P: 1.2, Epsilon: .2}},
		{h: 4, w: 5, prior: graph.Prior{Coupled: true}, reweight: graph.Reweighting{Learned: true, Epsilon: .3}},
		{h: 5, w: 3, prior: graph.Prior{Coupled: true, Slope: true}, reweight: graph.Reweighting{Learned: true, Epsilon: .1}},
		{h: 3, w: 5, prior: graph.Prior{Coupled: true, Slope: true}, reweight: graph.Reweighting{P: 1.05, Epsilon: .1}},
		{h: 1, w: 9, prior: graph.Prior{Slope: true}, reweight: graph.Reweighting{Learned: true, Epsilon: .1}},
		{h: 7, w: 1, prior: graph.Prior{Slope: true}, reweight: graph.Reweighting{Learned: true, Epsilon: .1}},
		{h: 4, w: 5, prior: graph.Prior{Coupled: true, Slope: true}, reweight: graph.Reweighting{Learned: true, Epsilon: .1}, flat: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			ins, size := c.inputs(rand.New(rand.NewPCG(12, 12)), layers, steps)
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return c.solution(e, in, layers, steps) }, size, ins...)
		})
	}
}

// TestReweightedEdgeGradients holds the gradient of the weights themselves, of
// every edge, to central differences.
func TestReweightedEdgeGradients(t *testing.T) {
	const h, w = 3, 4
	rng := rand.New(rand.NewPCG(13, 13))
	grid := graph.NewGrid(h, w, window(1))
	norm := graph.SoftmaxSymmetric
	omega := input{shape: []int{1, 1, norm.Planes(grid), grid.PlaneLen}, data: make([]float64, norm.Planes(grid)*grid.PlaneLen)}
	var edges []int
	for t, o := range grid.Forward {
		for r := range h {
			for c := range w {
				if r2, c2 := r+o[0], c+o[1]; r2 < h && c2 >= 0 && c2 < w {
					at := t*grid.PlaneLen + grid.Base + r*grid.Stride + c
					omega.data[at] = .02 + .1*rng.Float64()
					edges = append(edges, at)
				}
			}
		}
	}
	x, mask := random(rng, 0, 1, 1, 1, h, w), random(rng, 0, 1, 1, 1, h, w)
	for i, v := range mask.data {
		mask.data[i] = math.Round(v)
	}
	ins := []input{x, x.fixed(), mask.fixed(), omega, random(rng, .3, .7, 1, 2, 3), random(rng, .1, .5, 1, 2, 3)}
	build := func(e *Env, in []*G.Node) (*G.Node, error) {
		return ConjugateGradient(e, SolverConfig{Grid: grid, Layers: 2, Steps: 3, Normalization: norm, Reweight: graph.Reweighting{P: 1.3, Epsilon: .1}},
			in[0], in[1], in[2], in[3], in[4], in[5], nil, nil)
	}
	r := random(rng, -1, 1, h*w).data
	_, grads, _ := run(t, build, ins, r, true)
	inside := map[int]bool{}
	for _, at := range edges {
		inside[at] = true
		const step = 1e-5
		old := omega.data[at]
		omega.data[at] = old + step
		up, _, _ := run(t, build, ins, r, false)
		omega.data[at] = old - step
		down, _, _ := run(t, build, ins, r, false)
		omega.data[at] = old
		want := (up - down) / (2 * step)
		if got := grads[1][at]; !(math.Abs(got-want) <= 1e-6*math.Max(1, math.Abs(want))) {
			t.Errorf("edge at %d: gradient %.10g, central difference %.10g", at, got, want)
		}
	}
	for at, v := range grads[1] {
		if v != 0 && !inside[at] {
			t.Errorf("gradient %g at %d, where there is no edge", v, at)
		}
	}
}

// TestExponentTwoIsTheQuadraticSolver checks that p = 2 gives the bits of the
// solver without re-weighting, values and gradients, and that an exponent a hair
// below, which does go through the re-weighting, gives nearly those.
func TestExponentTwoIsTheQuadraticSolver(t *testing.T) {
	const layers, steps = 3, 2
	for _, prior := range []graph.Prior{{}, {Slope: true}, {Coupled: true, Slope: true}} {
		plain := reweightCase{h: 5, w: 6, prior: prior}
		ins, size := plain.inputs(rand.New(rand.NewPCG(14, 14)), layers, steps)
		r := random(rand.New(rand.NewPCG(15, 15)), -1, 1, size).data
		with := func(rw graph.Reweighting) ([][]float64, []float64) {
			c := plain
			c.reweight = rw
			_, grads, out := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return c.solution(e, in, layers, steps) }, ins, r, true)
			return grads, out
		}
		grads, out := with(graph.Reweighting{})
		for _, c := range []struct{ p, tolerance float64 }{{2, 0}, {2 - 1e-9, 1e-7}} {
			gp, op := with(graph.Reweighting{P: c.p, Epsilon: .1})
			same := func(what string, got, want []float64) {
				for i := range want {
					if !(math.Abs(got[i]-want[i]) <= c.tolerance) {
						t.Fatalf("%+v, p = %g: %s %d is %.17g, expected %.17g", prior, c.p, what, i, got[i], want[i])
					}
				}
			}
			same("solution", op, out)
			for k := range grads {
				same(fmt.Sprintf("gradient %d of element", k), gp[k], grads[k])
			}
		}
		if _, op := with(graph.Reweighting{P: 1.5, Epsilon: .1}); fmt.Sprint(op) == fmt.Sprint(out) {
			t.Errorf("%+v: p = 1.5 gives the solution of p = 2", prior)
		}
	}
}

// TestReweightingRefuses checks what the solver cannot re-weight.
func TestReweightingRefuses(t *testing.T) {
	c := reweightCase{h: 3, w: 3}
	ins, _ := c.inputs(rand.New(rand.NewPCG(1, 1)), 1, 1)
	g := G.NewGraph()
	in := make([]*G.Node, len(ins))
	for i := range ins {
		in[i] = G.NewTensor(g, G.Float64, len(ins[i].shape), G.WithShape(ins[i].shape...), G.WithName(fmt.Sprint("in", i)))
	}
	for _, rw := range []graph.Reweighting{{P: 1, Epsilon: .1}, {P: 2.5, Epsilon: .1}, {P: math.NaN(), Epsilon: .1}, {P: 1.5}, {P: 1.5, Epsilon: -1}} {
		c.reweight = rw
		if _, err := c.solution(NewEnv(1), in, 1, 1); err == nil {
			t.Errorf("%+v: no error", rw)
		}
	}
	grid := graph.NewGrid(3, 3, window(2))
	for _, norm := range []graph.Normalization{graph.Symmetric, graph.RandomWalk} {
		omega, err := EdgeWeights(NewEnv(1), grid, norm, graph.Limit{}, in[0], in[1])
		if err != nil {
			t.Fatal(err)
		}
		cfg := SolverConfig{Grid: grid, Layers: 1, Steps: 1, Normalization: norm, Reweight: graph.Reweighting{P: 1.5, Epsilon: .1}}
		if _, err := ConjugateGradient(NewEnv(1), cfg, in[2], in[3], in[4], omega, in[5], in[6], nil, nil); err == nil {
			t.Errorf("normalisation %d: no error", norm)
		}
	}
}
