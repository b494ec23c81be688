package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/graph"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// input is an argument of an operation under test.
type input struct {
	shape  []int
	data   []float64
	frozen bool // no gradient expected
}

func random(rng *rand.Rand, lo, hi float64, shape ...int) input {
	n := 1
	for _, d := range shape {
		n *= d
	}
	in := input{shape: shape, data: make([]float64, n)}
	for i := range in.data {
		in.data[i] = lo + (hi-lo)*rng.Float64()
	}
	return in
}

func (in input) fixed() input { in.frozen = true; return in }

// run evaluates <out, r> and, if grads, its gradient with respect to every input
// that is not frozen, in float64 through a tape machine.
func run(t *testing.T, build func(e *Env, in []*G.Node) (*G.Node, error), ins []input, r []float64, grads bool) (float64, [][]float64, []float64) {
	t.Helper()
	g := G.NewGraph()
	nodes := make([]*G.Node, len(ins))
	var wrt G.Nodes
	for i, in := range ins {
		v := tensor.New(tensor.WithShape(in.shape...), tensor.WithBacking(append([]float64(nil), in.data...)))
		nodes[i] = G.NewTensor(g, tensor.Float64, len(in.shape), G.WithShape(in.shape...), G.WithName(fmt.Sprint("in", i)), G.WithValue(v))
		if !in.frozen {
			wrt = append(wrt, nodes[i])
		}
	}
	out, err := build(NewEnv(1), nodes)
	if err != nil {
		t.Fatal(err)
	}
	cost := out
	var outValue, costValue G.Value
	if out.Dims() > 0 {
		shape := out.Shape()
		if len(r) != shape.TotalSize() {
			t.Fatalf("output has shape %v, the test weighs %d elements", shape, len(r))
		}
		weights := G.NewTensor(g, tensor.Float64, shape.Dims(), G.WithShape(shape...), G.WithName("r"),
			G.WithValue(tensor.New(tensor.WithShape(shape...), tensor.WithBacking(append([]float64(nil), r...)))))
		cost = G.Must(G.Sum(G.Must(G.HadamardProd(weights, out))))
		G.Read(out, &outValue)
	}
	G.Read(cost, &costValue)
	var dw G.Nodes
	if grads {
		if dw, err = G.Grad(cost, wrt...); err != nil {
			t.Fatal(err)
		}
	}
	values := make([]G.Value, len(dw))
	for i := range dw {
		G.Read(dw[i], &values[i])
	}
	m := G.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	var res [][]float64
	for _, v := range values {
		res = append(res, append([]float64(nil), v.Data().([]float64)...))
	}
	var o []float64
	if outValue != nil {
		o = append(o, outValue.Data().([]float64)...)
	}
	return costValue.Data().(float64), res, o
}

// checkGradient holds the gradients of an operation to central differences in
// float64, on up to 40 elements of each input.
func checkGradient(t *testing.T, build func(e *Env, in []*G.Node) (*G.Node, error), outSize int, ins ...input) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	r := random(rng, -1, 1, max(outSize, 1)).data
	_, grads, _ := run(t, build, ins, r, true)
	k := 0
	for i, in := range ins {
		if in.frozen {
			continue
		}
		got := grads[k]
		k++
		for range min(40, len(in.data)) {
			j := rng.IntN(len(in.data))
			const h = 1e-5
			old := in.data[j]
			in.data[j] = old + h
			up, _, _ := run(t, build, ins, r, false)
			in.data[j] = old - h
			down, _, _ := run(t, build, ins, r, false)
			in.data[j] = old
			want := (up - down) / (2 * h)
			if d := math.Abs(got[j] - want); !(d <= 1e-6*math.Max(1, math.Abs(want))) {
				t.Errorf("input %d element %d: gradient %.10g, central difference %.10g", i, j, got[j], want)
			}
		}
	}
}

func window(radius int) []graph.Offset {
	var half []graph.Offset
	for dy := 0; dy <= radius; dy++ {
		for dx := -radius; dx <= radius; dx++ {
			if dy > 0 || dx > 0 {
				half = append(half, graph.Offset{dy, dx})
			}
		}
	}
	return half
}

func TestConvGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		size, stride int
		relu         bool
		h, w         int
	}{{3, 1, false, 5, 4}, {3, 1, true, 4, 7}, {3, 2, true, 5, 6}, {1, 1, false, 3, 3}, {1, 2, false, 5, 5}, {3, 1, false, 1, 1}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			oh, ow := (c.h+c.stride-1)/c.stride, (c.w+c.stride-1)/c.stride
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				return Conv(e, in[0], in[1], in[2], c.stride, c.relu)
			}, 2*4*oh*ow, random(rng, -1, 1, 2, 3, c.h, c.w), random(rng, -1, 1, 4, 3, c.size, c.size), random(rng, -1, 1, 4))
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				return Conv(e, in[0], in[1], nil, c.stride, c.relu)
			}, 2*4*oh*ow, random(rng, -1, 1, 2, 3, c.h, c.w), random(rng, -1, 1, 4, 3, c.size, c.size))
		})
	}
}

func TestPackGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, p := range []int{1, 2} {
		h, w := (5+p-1)/p, (4+p-1)/p
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pack(e, p, in[:2], 1, in[2])
		}, 2*((2+1)*p*p+3)*h*w, random(rng, -1, 1, 2, 2, 5, 4), random(rng, -1, 1, 2, 1, 5, 4).fixed(), random(rng, -1, 1, 2, 3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Unpack(e, p, in[0], 1, 2, 5, 4)
		}, 2*2*5*4, random(rng, -1, 1, 2, 1+2*p*p+1, h, w))
	}
}

// TestUnpackUndoesPack checks the folding itself.
func TestUnpackUndoesPack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	x := random(rng, -1, 1, 2, 3, 5, 7)
	_, _, got := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		p, err := Pack(e, 2, in[:1], 0)
		if err != nil {
			return nil, err
		}
		return Unpack(e, 2, p, 0, 3, 5, 7)
	}, []input{x}, x.data, false)
	for i, v := range x.data {
		if got[i] != v {
			t.Fatalf("element %d: %g became %g", i, v, got[i])
		}
	}
}

func TestBlendGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	a, b := random(rng, -1, 1, 2, 2, 3, 3), random(rng, -1, 1, 2, 2, 3, 3)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return ConvSkip(e, in[0], in[1], in[2], in[3], 1) }, 36,
		a, random(rng, -1, 1, 2, 2, 3, 3), random(rng, -1, 1, 2), random(rng, -1, 1, 3, 2))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Sum(e, in...) }, 36, a, b, random(rng, -1, 1, 2, 2, 3, 3))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Blend(e, in[0], in[1], in[2]) }, 36, a, b, random(rng, 0, 1, 1))
	mask := random(rng, 0, 1, 2, 2, 3, 3)
	for i, v := range mask.data {
		mask.data[i] = math.Round(v)
	}
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Project(e, in[0], in[1], in[2]) }, 36, a, b.fixed(), mask.fixed())
}

func TestLossGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	x, y := random(rng, -1, 1, 2, 3, 4, 5), random(rng, -1, 1, 2, 3, 4, 5)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return L1Loss(e, in[0], in[1]) }, 0, x, y.fixed())
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return L2Loss(e, in[0], in[1]) }, 0, x, y.fixed())
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return CharbonnierLoss(e, in[0], in[1], 1e-2) }, 0, x, y.fixed())
}

func TestMixGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	z := random(rng, -1, 1, 2, 3, 2, 4, 3)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return MixHeads(e, in[0], in[1]) }, 2*2*12, z, random(rng, 0, 1, 3))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return MixPixels(e, in[0], in[1]) }, 2*2*12, z, random(rng, -2, 2, 2, 3, 4, 3))
}

var normalizations = map[string]graph.Normalization{"symmetric": graph.Symmetric, "softmax_symmetric": graph.SoftmaxSymmetric, "random_walk": graph.RandomWalk}

// TestGraphGradient checks edge weights and solver together, since the operator
// between them lives on padded planes that only they read.
func TestGraphGradient(t *testing.T) {
	const B, heads, D = 2, 2, 3
	for name, norm := range normalizations {
		for _, c := range []struct {
			h, w, radius, channels int
			prior                  graph.Prior
			limit                  graph.Limit
			layers, steps          int
		}{
			{5, 4, 2, 3, graph.Prior{Coupled: true, Slope: true}, graph.Limit{Clip: 2}, 1, 4},
			{4, 6, 1, 3, graph.Prior{Coupled: true}, graph.Limit{Clip: 3, Soft: true}, 2, 3},
			{3, 5, 2, 1, graph.Prior{Slope: true}, graph.Limit{}, 1, 1},
			{6, 3, 2, 1, graph.Prior{}, graph.Limit{Clip: .5}, 2, 2},
			{1, 3, 2, 3, graph.Prior{Slope: true}, graph.Limit{}, 1, 2},
		} {
			t.Run(fmt.Sprintf("%s/%+v", name, c), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(8, 8))
				n := c.channels
				mask := random(rng, 0, 1, B, n, c.h, c.w)
				for i, v := range mask.data {
					mask.data[i] = math.Round(v)
				}
				ins := []input{
					random(rng, 0, 1, B, n, c.h, c.w), random(rng, 0, 1, B, n, c.h, c.w).fixed(), mask.fixed(),
					random(rng, -1, 1, B, heads*D, c.h, c.w), random(rng, -.8, .8, heads, D, D),
					random(rng, .2, .8, heads, c.layers, c.steps), random(rng, .1, .5, heads, c.layers, c.steps),
				}
				if c.prior.Coupled {
					ins = append(ins, random(rng, -1, 1, heads, 3, 3))
				}
				if c.prior.Slope {
					ins = append(ins, random(rng, -1, 1, heads, 2))
				}
				checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
					grid := graph.NewGrid(c.h, c.w, window(c.radius))
					omega, err := EdgeWeights(e, grid, norm, c.limit, in[3], in[4])
					if err != nil {
						return nil, err
					}
					var color, slope *G.Node
					rest := in[7:]
					if c.prior.Coupled {
						color, rest = rest[0], rest[1:]
					}
					if c.prior.Slope {
						slope = rest[0]
					}
					return ConjugateGradient(e, SolverConfig{Grid: grid, Layers: c.layers, Steps: c.steps, Prior: c.prior, Normalization: norm},
						in[0], in[1], in[2], omega, in[5], in[6], color, slope)
				}, B*heads*n*c.h*c.w, ins...)
			})
		}
	}
}
