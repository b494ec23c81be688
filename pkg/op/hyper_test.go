package op

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// golden is a file of testdata/terminator: values and gradients of the plain
// PyTorch reference in float64. The gradients are those of the sum over all
// outputs k and elements i of out_k[i] goldenWeight(9+k, i).
type golden struct {
	Inputs map[string]struct {
		Shape []int
		V     []float64
	}
	Outputs []struct {
		Shape []int
		V     []float64
	}
	Loss  float64
	Grads map[string][]float64
}

func goldenWeight(tag float64, i int) float64 {
	x := float64(i)
	return math.Sin(.7*x*x + 1.3*x + tag)
}

func goldenWeights(tag float64, n int) []float64 {
	r := make([]float64, n)
	for i := range r {
		r[i] = goldenWeight(tag, i)
	}
	return r
}

func readGolden(t *testing.T, name string) golden {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "terminator", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(name, err)
	}
	return g
}

// near fails unless got and want agree to tol of the largest of want, or of 1.
func near(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	size := 1.
	for _, v := range want {
		size = max(size, math.Abs(v))
	}
	for i, v := range want {
		if !(math.Abs(got[i]-v) <= tol*size) {
			t.Fatalf("%s element %d: %.12g, want %.12g", what, i, got[i], v)
		}
	}
}

// evaluation is what evaluate found.
type evaluation struct {
	out   []float64
	grads map[int][]float64 // by input
}

// evaluate runs build in either precision and returns its output and, unless r is
// nil, the gradients of <out, r>.
func evaluate[T kernel.Float](t *testing.T, e *Env, build func(e *Env, in []*G.Node) (*G.Node, error), ins []input, r []float64) evaluation {
	t.Helper()
	values := func(x []float64) []T {
		d := make([]T, len(x))
		for i, v := range x {
			d[i] = T(v)
		}
		return d
	}
	g := G.NewGraph()
	typ := dtypeOf[T]()
	nodes := make([]*G.Node, len(ins))
	var wrt G.Nodes
	var which []int
	for i, in := range ins {
		v := tensor.New(tensor.WithShape(in.shape...), tensor.WithBacking(values(in.data)))
		nodes[i] = G.NewTensor(g, typ, len(in.shape), G.WithShape(in.shape...), G.WithName(fmt.Sprint("in", i)), G.WithValue(v))
		if !in.frozen {
			wrt, which = append(wrt, nodes[i]), append(which, i)
		}
	}
	out, err := build(e, nodes)
	if err != nil {
		t.Fatal(err)
	}
	var outValue G.Value
	G.Read(out, &outValue)
	gradValues := make([]G.Value, len(wrt))
	if r != nil {
		cost := out
		if out.Dims() > 0 {
			w := G.NewTensor(g, typ, out.Dims(), G.WithShape(out.Shape()...), G.WithName("r"),
				G.WithValue(tensor.New(tensor.WithShape(out.Shape()...), tensor.WithBacking(values(r)))))
			cost = G.Must(G.Sum(G.Must(G.HadamardProd(w, out))))
		}
		grads, err := G.Grad(cost, wrt...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range grads {
			G.Read(grads[i], &gradValues[i])
		}
	}
	m := G.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	wide := func(v G.Value) []float64 {
		d, err := slicesOf[T]([]G.Value{v}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := make([]float64, len(d[0]))
		for i, x := range d[0] {
			w[i] = float64(x)
		}
		return w
	}
	res := evaluation{out: wide(outValue), grads: map[int][]float64{}}
	for k, i := range which {
		if r != nil {
			res.grads[i] = wide(gradValues[k])
		}
	}
	return res
}

// slowParams makes the parameters of a slow network from nodes by the names of
// the golden files.
func slowParams(in map[string]*G.Node, prefix string) LocalSlowNet {
	var p LocalSlowNet
	p.Out, p.OutBias, p.Offset = in[prefix+"ow"], in[prefix+"ob"], in[prefix+"bp"]
	p.Reduce, p.ReduceBias, p.Query, p.QueryBias = in[prefix+"rw"], in[prefix+"rb"], in[prefix+"qw"], in[prefix+"qb"]
	list := func(name string) (l []*G.Node) {
		for i := 0; in[fmt.Sprintf("%s%s.%d", prefix, name, i)] != nil; i++ {
			l = append(l, in[fmt.Sprintf("%s%s.%d", prefix, name, i)])
		}
		return l
	}
	p.Filters, p.Phases, p.Mixers, p.Biases, p.Scores, p.ScoreBiases = list("fw"), list("fb"), list("lw"), list("lb"), list("xw"), list("xb")
	return p
}

type builder func(e *Env, in map[string]*G.Node) (*G.Node, error)

func gatedParams(in map[string]*G.Node) Gated {
	return Gated{Key: in["k.w"], KeyBias: in["k.b"], Value: in["v.w"], ValueBias: in["v.b"], Query: in["q.w"], QueryBias: in["q.b"],
		Out: in["y.w"], OutBias: in["y.b"], Offset: in["bp"]}
}

// goldenCases are the operations by golden file.
var goldenCases = map[string]builder{
	"adaptive_pool_7_to_3":          func(e *Env, in map[string]*G.Node) (*G.Node, error) { return AdaptivePool(e, in["x"], 3, 3) },
	"adaptive_pool_4_to_9_upsample": func(e *Env, in map[string]*G.Node) (*G.Node, error) { return AdaptivePool(e, in["x"], 9, 9) },
	"istd": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return Standardise(e, in["x"], InstanceStatistics)
	},
	"bstd": func(e *Env, in map[string]*G.Node) (*G.Node, error) { return Standardise(e, in["x"], BatchStatistics) },
	"gibs_24ch": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return Standardise(e, in["x"], AlternatingStatistics)
	},
	"depthwise3":        func(e *Env, in map[string]*G.Node) (*G.Node, error) { return Depthwise(e, in["x"], in["k"]) },
	"depthwise9_on_4x4": func(e *Env, in map[string]*G.Node) (*G.Node, error) { return Depthwise(e, in["x"], in["k"]) },
	"hci": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		y, err := HyperChannel(e, in["x"], in["hk"])
		if err != nil {
			return nil, err
		}
		return Standardise(e, y, InstanceStatistics)
	},
	"hyper_interact": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return HyperInteraction(e, in["x"], in["o"], in["hk"], in["hs"])
	},
	"mfn_global_2d": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return SlowNetwork(e, slowParams(in, "").SlowNet)
	},
	"mfn_channel_1d": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return SlowNetwork(e, slowParams(in, "").SlowNet)
	},
	"mfn_local_detach": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		c, err := ContextMean(e, in["x"], 3, 3)
		if err != nil {
			return nil, err
		}
		return LocalSlowNetwork(e, c, slowParams(in, ""))
	},
	"mfn_local_nodetach": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		c, err := ContextMean(e, in["x"], 3, 3)
		if err != nil {
			return nil, err
		}
		p := slowParams(in, "")
		p.Attached = true
		return LocalSlowNetwork(e, c, p)
	},
	"rgu": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return RecursiveGatedUnit(e, in["x"], gatedParams(in))
	},
	"slow_loss_channel_sum": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return SlowLoss(e, in["K0"], in["K1"], in["K2"])
	},
	"zzw_2e": func(e *Env, in map[string]*G.Node) (*G.Node, error) { return HyperSquare(e, in["y"], in["h"]) },
	"zzw_global": func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		z, err := Modulate(e, in["x"], in["K"])
		if err != nil {
			return nil, err
		}
		return GlobalProduct(e, MatrixProduct, z, in["V"])
	},
}

// reshaped gives an input of a golden file the shape the operation has it in.
func reshaped(name, in string, shape []int) []int {
	if strings.HasPrefix(name, "depthwise") && in == "k" {
		return []int{shape[0], shape[2], shape[3]}
	}
	return shape
}

// arguments returns the inputs of a golden file in the order of their names, and
// build with them by name.
func (g golden) arguments(name string, build builder) ([]string, []input, func(e *Env, in []*G.Node) (*G.Node, error)) {
	var names []string
	for k := range g.Inputs {
		names = append(names, k)
	}
	sort.Strings(names)
	ins := make([]input, len(names))
	for i, k := range names {
		ins[i] = input{shape: reshaped(name, k, g.Inputs[k].Shape), data: g.Inputs[k].V}
	}
	return names, ins, func(e *Env, in []*G.Node) (*G.Node, error) {
		byName := map[string]*G.Node{}
		for i, k := range names {
			byName[k] = in[i]
		}
		return build(e, byName)
	}
}

func TestHyperGolden(t *testing.T) {
	for name, build := range goldenCases {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			names, ins, f := g.arguments(name, build)
			want := g.Outputs[0].V
			r := goldenWeights(9, len(want))
			got := evaluate[float64](t, NewEnv(2), f, ins, r)
			near(t, "output", got.out, want, 1e-11)
			for i, k := range names {
				d := got.grads[i]
				if strings.HasPrefix(name, "slow_loss") { // a scalar: evaluate has no weight for it
					for j := range d {
						d[j] *= r[0]
					}
				}
				near(t, "gradient of "+k, d, g.Grads[k], 1e-10)
			}
			// The same in float32, whose rounding the sums hold down.
			single := evaluate[float32](t, NewEnv(1), f, ins, r)
			near(t, "float32 output", single.out, want, 2e-6)
			for i, k := range names {
				d := single.grads[i]
				if strings.HasPrefix(name, "slow_loss") {
					for j := range d {
						d[j] *= r[0]
					}
				}
				near(t, "float32 gradient of "+k, d, g.Grads[k], 1e-5)
			}
		})
	}
}

// TestGoldenIsComplete sees that no golden file is left aside.
func TestGoldenIsComplete(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "terminator", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	elsewhere := map[string]bool{"label_smooth_ce_eps009": true}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if goldenCases[name] == nil && !elsewhere[name] {
			t.Errorf("%s is read by no test", f)
		}
	}
}

// TestGoldenCrossEntropy holds CrossEntropy to its golden file: logits by example,
// labels 1, 3 and 0.
func TestGoldenCrossEntropy(t *testing.T) {
	g := readGolden(t, "label_smooth_ce_eps009")
	z := g.Inputs["z"] // (3,4)
	x := make([]float64, 12)
	want := make([]float64, 12)
	for i := range 3 {
		for k := range 4 {
			x[k*3+i], want[k*3+i] = z.V[i*4+k], g.Grads["z"][i*4+k]/goldenWeight(9, 0)
		}
	}
	got := evaluate[float64](t, NewEnv(1), func(e *Env, in []*G.Node) (*G.Node, error) {
		return CrossEntropy(e, in[0], in[1], .09)
	}, []input{{shape: []int{1, 4, 1, 3}, data: x}, input{shape: []int{1, 3}, data: []float64{1, 3, 0}}.fixed()}, []float64{1})
	near(t, "loss", got.out, g.Outputs[0].V, 1e-11)
	near(t, "gradient", got.grads[0], want, 1e-10)
}

// slowInputs returns random parameters of a slow network by name, with low
// frequencies: at thousands of turns differences say nothing.
func slowInputs(rng *rand.Rand, grid []int, hidden, outputs, layers, channels int) map[string]input {
	size := func(shape ...int) input { return random(rng, -.8, .8, shape...) }
	in := map[string]input{"ow": size(outputs, hidden), "ob": size(outputs), "bp": size(grid...)}
	for i := range layers + 1 {
		in[fmt.Sprint("fw.", i)], in[fmt.Sprint("fb.", i)] = random(rng, -2, 2, hidden, len(grid)), size(hidden)
		if i > 0 {
			in[fmt.Sprint("lw.", i-1)], in[fmt.Sprint("lb.", i-1)] = size(hidden, hidden), size(hidden)
			if channels > 0 {
				in[fmt.Sprint("xw.", i-1)], in[fmt.Sprint("xb.", i-1)] = size(hidden, hidden), size(hidden)
			}
		}
	}
	if channels > 0 {
		in["rw"], in["rb"], in["qw"], in["qb"] = size(hidden, channels), size(hidden), size(hidden, hidden), size(hidden)
		in["x"] = size(append([]int{2, channels}, pair(grid)...)...)
	}
	return in
}

// pair is the grid as rows and columns.
func pair(grid []int) []int {
	if len(grid) == 1 {
		return []int{1, grid[0]}
	}
	return grid
}

// named orders inputs by name, for checkGradient.
func named(in map[string]input, build builder) (func(e *Env, in []*G.Node) (*G.Node, error), []input) {
	var names []string
	for k := range in {
		names = append(names, k)
	}
	sort.Strings(names)
	var ins []input
	for _, k := range names {
		ins = append(ins, in[k])
	}
	return func(e *Env, nodes []*G.Node) (*G.Node, error) {
		byName := map[string]*G.Node{}
		for i, k := range names {
			byName[k] = nodes[i]
		}
		return build(e, byName)
	}, ins
}

// TestSlowNetworkGradients checks slow networks in one and two dimensions, with
// and without a context, by differences; with a context attached, since detached
// the gradient is not the derivative.
func TestSlowNetworkGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(61, 1))
	for _, c := range []struct {
		grid                              []int
		hidden, outputs, layers, channels int
	}{{[]int{3, 4}, 3, 2, 1, 0}, {[]int{5}, 2, 1, 3, 0}, {[]int{1}, 2, 3, 0, 0}, {[]int{3, 3}, 3, 2, 2, 2}, {[]int{5}, 2, 3, 1, 4}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			points := 1
			for _, n := range c.grid {
				points *= n
			}
			build, ins := named(slowInputs(rng, c.grid, c.hidden, c.outputs, c.layers, c.channels), func(e *Env, in map[string]*G.Node) (*G.Node, error) {
				p := slowParams(in, "")
				if c.channels == 0 {
					return SlowNetwork(e, p.SlowNet)
				}
				p.Attached = true
				size := pair(c.grid)
				context, err := ContextMean(e, in["x"], size[0], size[1])
				if err != nil {
					return nil, err
				}
				return LocalSlowNetwork(e, context, p)
			})
			checkGradient(t, build, c.outputs*points, ins...)
		})
	}
}

// TestDetachedGradient holds the detached gradient to its definition: that of a
// network whose identity path is a constant, fed with its values. With W the
// identity, one layer and one unit, the output is (u + 0.1 u/|u|)*t, and its
// gradient with respect to P, which u alone has, is 0.1 of the normalised path.
func TestDetachedGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(62, 1))
	in := slowInputs(rng, []int{3, 3}, 1, 1, 1, 1)
	r := random(rng, -1, 1, 9).data
	grad := func(attached bool, name string) []float64 {
		build, ins := named(in, func(e *Env, in map[string]*G.Node) (*G.Node, error) {
			p := slowParams(in, "")
			p.Attached = attached
			c, err := ContextMean(e, in["x"], 3, 3)
			if err != nil {
				return nil, err
			}
			return LocalSlowNetwork(e, c, p)
		})
		var names []string
		for k := range in {
			names = append(names, k)
		}
		sort.Strings(names)
		return evaluate[float64](t, NewEnv(1), build, ins, r).grads[sort.SearchStrings(names, name)]
	}
	// Plain numbers: u, t and the gradient through the normalised path alone.
	at := func(name string) []float64 { return in[name].data }
	u, tt := make([]float64, 9), make([]float64, 9)
	var norm, dot float64
	for i := range u {
		row, col := float64(i/3)-1, float64(i%3)-1
		wave := func(k string) float64 {
			return math.Sin(at("fw." + k)[0]*row + at("fw." + k)[1]*col + at("fb." + k)[0])
		}
		u[i] = wave("1")*(at("lw.0")[0]*wave("0")+at("lb.0")[0]) + at("bp")[i]
		x := (at("x")[i] + at("x")[9+i]) / 2
		q := at("qw")[0]*(at("rw")[0]*x+at("rb")[0]) + at("qb")[0]
		tt[i] = at("xw.0")[0]*(q*.5*math.Erfc(-q/math.Sqrt2)) + at("xb.0")[0]
		norm += u[i] * u[i]
	}
	norm = math.Sqrt(norm)
	for i := range u {
		dot += r[i] * at("ow")[0] * tt[i] * u[i] / norm
	}
	normalised, whole := make([]float64, 9), make([]float64, 9)
	for i := range u {
		dv := r[i] * at("ow")[0] * tt[i]
		normalised[i] = .1 / norm * (dv - u[i]/norm*dot)
		whole[i] = normalised[i] + dv
	}
	near(t, "detached gradient of the offsets", grad(false, "bp"), normalised, 1e-12)
	near(t, "attached gradient of the offsets", grad(true, "bp"), whole, 1e-12)
}

// TestSlowNetworkResolution: without offsets a network is a function of the
// coordinates, so a grid of 2n-1 points holds the values of one of n.
func TestSlowNetworkResolution(t *testing.T) {
	rng := rand.New(rand.NewPCG(63, 1))
	in := slowInputs(rng, []int{32}, 4, 2, 2, 0)
	values := func(n int, offset float64) []float64 {
		in["bp"] = input{shape: []int{n}, data: constant(make([]float64, n), offset)}
		build, ins := named(in, func(e *Env, in map[string]*G.Node) (*G.Node, error) {
			return SlowNetwork(e, slowParams(in, "").SlowNet)
		})
		return evaluate[float64](t, NewEnv(1), build, ins, nil).out
	}
	coarse, fine := values(32, 0), values(63, 0)
	for c := range 2 {
		for i := range 32 {
			if d := math.Abs(coarse[c*32+i] - fine[c*63+2*i]); d > 1e-13 {
				t.Errorf("output %d point %d differs by %g", c, i, d)
			}
		}
	}
}

// TestSlowNetworkPhases: frequencies of tens of thousands of radians keep their
// phase in float32, since arguments of sines are in float64.
func TestSlowNetworkPhases(t *testing.T) {
	rng := rand.New(rand.NewPCG(64, 1))
	in := slowInputs(rng, []int{32, 32}, 16, 3, 2, 0)
	for i := range 3 {
		f := in[fmt.Sprint("fw.", i)].data
		for j := range f {
			f[j] = float64(float32(f[j] * 5e4)) // what float32 holds
		}
	}
	for _, p := range in {
		for j, v := range p.data {
			p.data[j] = float64(float32(v))
		}
	}
	build, ins := named(in, func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return SlowNetwork(e, slowParams(in, "").SlowNet)
	})
	wide := evaluate[float64](t, NewEnv(1), build, ins, nil).out
	near(t, "float32", evaluate[float32](t, NewEnv(1), build, ins, nil).out, wide, 1e-6)
}

func TestHyperGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(65, 1))
	image := func(c, h, w int) input { return random(rng, -1, 1, 2, c, h, w) }
	for _, hw := range [][2]int{{3, 3}, {1, 5}, {4, 2}} {
		h, w := hw[0], hw[1]
		n := 2 * 3 * h * w
		for _, k := range [][2]int{{3, 3}, {2, 5}, {9, 1}} {
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return AdaptivePool(e, in[0], k[0], k[1]) }, 2*3*k[0]*k[1], image(3, h, w))
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return ContextMean(e, in[0], k[0], k[1]) }, 3*k[0]*k[1], image(3, h, w))
		}
		for _, stat := range []Statistics{InstanceStatistics, BatchStatistics} {
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], stat) }, n, image(3, h, w))
		}
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], AlternatingStatistics) }, 2*24*h*w, image(24, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Modulate(e, in[0], in[1]) }, n, image(3, h, w), random(rng, -1, 1, 3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return GlobalProduct(e, ElementwiseProduct, in[0], in[1], in[2])
		}, 2*n, image(3, h, w), image(3, h, w), image(3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return HyperChannel(e, in[0], in[1]) }, n, image(3, h, w), random(rng, -9, 9, 1, 3))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return HyperInteraction(e, in[0], in[1], in[2], in[3])
		}, n, image(3, h, w), image(3, h, w), random(rng, -9, 9, 3), random(rng, -9, 9, 1, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SiGLU(e, in[0]) }, n, image(3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return GeluShift(e, in[0], in[1]) }, n, image(3, h, w), random(rng, -1, 1, 1))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return RecurrentGate(e, in[0], in[1], in[2]) }, n, image(3, h, w), image(3, h, w), random(rng, -1, 1, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return ScaleChannels(e, in[0], in[1]) }, n, image(3, h, w), random(rng, 0, 2, 2, 3).fixed())
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return NormalizeChannels(e, in[0], []float64{.5, 0, -1}, []float64{2, .25, 1})
		}, n, image(3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return GlobalMean(e, in[0]) }, 6, image(3, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1}, Part{X: in[3], Copies: 3}, Part{X: in[4], Copies: 1})
		}, 2*4*h*w, random(rng, -1, 1, 4, 3+3*2+1), random(rng, -1, 1, 4), image(3, h, w), image(2, h, w), image(1, h, w))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 2, Stack: 3}, Part{X: in[3], Copies: 1})
		}, 2*4*h*w, random(rng, -1, 1, 4, 3*2*2+1), random(rng, -1, 1, 4), random(rng, -1, 1, 6, 2, h, w), image(1, h, w))
		for _, k := range [][]int{{3, 3, 3}, {3, 5, 9}, {3, 3}} {
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Depthwise(e, in[0], in[1]) }, n, image(3, h, w), random(rng, -1, 1, k...))
		}
	}
	for _, n := range []int{1, 3, 5, 34} { // below, and beyond, what a small product is padded to
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return GlobalProduct(e, MatrixProduct, in[0], in[1], in[2], in[3])
		}, 3*2*2*n*n, image(2, n, n), image(2, n, n), image(2, n, n), image(2, n, n))
	}
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return GlobalProduct(e, FoldProduct, in[0], in[1]) }, 2*2*16, image(2, 1, 16), image(2, 1, 16))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return HyperSquare(e, in[0], in[1]) }, 8, random(rng, -1, 1, 2, 4), random(rng, -1, 1, 4))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SlowLoss(e, in...) }, 0,
		random(rng, -1, 1, 2, 3, 4), random(rng, -1, 1, 5, 3, 4), random(rng, -1, 1, 1, 3, 4))
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return NormPenalty(e, []float64{1, 2e-3}, in...) }, 0,
		random(rng, -1, 1, 2, 3, 4), random(rng, -1, 1, 5))
}

// TestNormPenaltyOfZero: a bias that is 0 has no gradient, rather than 0/0.
func TestNormPenaltyOfZero(t *testing.T) {
	got := evaluate[float64](t, NewEnv(1), func(e *Env, in []*G.Node) (*G.Node, error) { return NormPenalty(e, []float64{3, 5}, in...) },
		[]input{{shape: []int{3}, data: make([]float64, 3)}, {shape: []int{2}, data: []float64{3, -4}}}, []float64{1})
	near(t, "penalty", got.out, []float64{25}, 1e-15)
	near(t, "gradient of zeros", got.grads[0], []float64{0, 0, 0}, 0)
	near(t, "gradient", got.grads[1], []float64{3, -4}, 1e-15)
}
