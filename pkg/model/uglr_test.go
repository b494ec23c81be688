package model

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// TestPaperParameterCount holds the paper preset to the published counts.
func TestPaperParameterCount(t *testing.T) {
	for channels, want := range map[int]int{3: 323410, 1: 319090} {
		n, err := New(Config{Preset: "paper", Channels: channels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Params().Count(); got != want {
			t.Errorf("%d channels: %d parameters, published %d", channels, got, want)
		}
	}
}

// golden holds values of an independent float64 implementation (see
// testdata/README.md).
type golden struct {
	E2E struct {
		Init, Out []any
		OutPixel  []float64 `json:"out pixel"`
		MSE       float64   `json:"mse"`
		DComb     []float64 `json:"dcomb b0"`
		DAlpha    []float64 `json:"dalpha b0[0][0]"`
		DBeta     []float64 `json:"dbeta b0[0][0]"`
		DA0       float64   `json:"dA b0[0][0][0]"`
		DA4       float64   `json:"dA b4[3][2][2]"`
		DConv1    float64   `json:"dconv1"`
		DConv4    float64   `json:"dconv4"`
		DSkip     []float64 `json:"dskip b0"`
	} `json:"e2e uGLR"`
	W00    float64 `json:"w00"`
	W22    float64 `json:"w22"`
	Deg    []any   `json:"deg"`
	LnX    []any   `json:"L_n x"`
	Exact  []any   `json:"GLR exact x"`
	FromCG []any   `json:"GLR 10 CG from 0"`
}

func loadGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/uglr.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// near reports |got - want| > tol max(|want|, floor).
func near(t *testing.T, what string, got, want, tol, floor float64) {
	t.Helper()
	if d := math.Abs(got - want); !(d <= tol*math.Max(math.Abs(want), floor)) {
		t.Errorf("%s: %.15g, golden %.15g", what, got, want)
	}
}

// summary compares x with a golden list: its first five elements, its sum and
// its l2 norm, given to 12 decimals.
func summary(t *testing.T, what string, x []float64, want []any) {
	t.Helper()
	var sum, sq float64
	for _, v := range x {
		sum += v
		sq += v * v
	}
	for i := range 5 {
		near(t, fmt.Sprintf("%s[%d]", what, i), x[i], want[i].(float64), 2e-12, 1)
	}
	near(t, what+" sum", sum, want[6].(float64), 1e-11, 1)
	near(t, what+" l2", math.Sqrt(sq), want[8].(float64), 1e-11, 1)
}

// TestGoldenOperator reproduces the operator, its exact solution and ten
// conjugate gradient steps on the 6 x 5 grid whose features are a formula.
func TestGoldenOperator(t *testing.T) {
	want := loadGolden(t)
	const h, w, d = 6, 5, 3
	cfg, _ := Config{Preset: "paper"}.Resolved()
	g := graph.NewGrid(h, w, cfg.forwardOffsets())
	f, a := make([]float64, d*h*w), make([]float64, d*d)
	for k := range d {
		a[k*d+k] = math.Sqrt(1.5)
		for i := range h * w {
			f[k*h*w+i] = math.Sin(.7*float64(i) + 1.3*float64(k))
		}
	}
	weights := graph.Weights[float64]{Grid: g, Dim: d, Normalization: graph.Symmetric}
	omega := make([]float64, weights.Normalization.Planes(g)*g.PlaneLen)
	weights.Forward(nil, omega, f, a)

	x := make([]float64, h*w)
	for i := range x {
		x[i] = math.Cos(.3*float64(i/w)) + .1*float64(i%w)
	}
	operator := func(x []float64) []float64 {
		px, py := make([]float64, g.PlaneLen), make([]float64, g.PlaneLen)
		graph.Pad(g, px, x)
		weights.Apply(py, omega, px)
		y := make([]float64, h*w)
		graph.Unpad(g, y, py)
		return y
	}
	near(t, "w (0,0)->(0,1)", weights.Affinity(0, 0, graph.Offset{0, 1}), want.W00, 1e-14, 1)
	near(t, "w (2,2)->(4,1)", weights.Affinity(2, 2, graph.Offset{2, -1}), want.W22, 1e-14, 1)
	deg := make([]float64, h*w)
	for r := range h {
		for c := range w {
			for _, o := range cfg.forwardOffsets() {
				deg[r*w+c] += weights.Affinity(r, c, o) + weights.Affinity(r, c, graph.Offset{-o[0], -o[1]})
			}
		}
	}
	summary(t, "degrees", deg, want.Deg)
	summary(t, "L_n x", operator(x), want.LnX)

	// Samples where r + c is odd.
	missing, y := make([]float64, g.PlaneLen), make([]float64, h*w)
	dense := make([]float64, h*w)
	for i := range y {
		if (i/w+i%w)%2 == 1 {
			y[i] = x[i]
		} else {
			dense[i] = 1
		}
	}
	graph.Pad(g, missing, dense)
	solve := func(steps int, alpha, beta float64) []float64 {
		s := graph.Solver[float64]{Grid: g, Channels: 1, Layers: 1, Steps: steps, Normalization: graph.Symmetric}
		c := graph.Coefficients[float64]{Alpha: make([]float64, steps), Beta: make([]float64, steps)}
		for i := range steps {
			c.Alpha[i], c.Beta[i] = alpha, beta
		}
		px := make([]float64, g.PlaneLen)
		graph.Pad(g, px, y)
		s.Forward(nil, px, missing, omega, c)
		out := make([]float64, h*w)
		graph.Unpad(g, out, px)
		return out
	}
	summary(t, "10 CG steps", solve(10, .5, .3), want.FromCG)
	summary(t, "converged", solve(400, .5, .3), want.Exact)
}

// formulaNetwork runs a paper preset forward and backward on an 8 x 8 RGGB image,
// weights and image being formulas, and returns the initial interpolation, the
// output, the mean squared error and the gradients.
func formulaNetwork(t *testing.T, cfg Config) (init, output []float64, mse float64, grad func(name string) []float64) {
	t.Helper()
	n, err := New(cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	g := G.NewGraph()
	b := nn.NewDoubleBuilder(g, op.NewEnv(1), n.Params())
	for _, p := range n.Params().All() {
		d := b.Double[p.Name]
		var block, layer int
		var part string
		if c, _ := fmt.Sscanf(p.Name, "block%d.conv%d.%s", &block, &layer, &part); c == 3 {
			for i := range d {
				if part == "bias" {
					d[i] = .01 * math.Cos(float64(i))
					continue
				}
				o, in, ky, kx := i/(9*p.Shape[1]), i/9%p.Shape[1], i/3%3, i%3
				scale := .25
				if layer == 0 {
					scale = 1.5
				}
				d[i] = scale * math.Sin(12.9898*float64(o)+78.233*float64(in)+37.719*float64(ky)+4.581*float64(kx)+float64(block)+.2*float64(layer))
			}
			continue
		}
		for i := range d { // constants, in full precision
			switch v := d[i]; {
			case float32(v) == float32(math.Sqrt(1.5)):
				d[i] = math.Sqrt(1.5)
			case float32(v) == .3:
				d[i] = .3
			}
		}
	}
	const s = 8
	x, y, m := make([]float64, 3*s*s), make([]float64, 3*s*s), make([]float64, 3*s*s)
	for i := range x {
		ch, r, c := i/(s*s), i/s%s, i%s
		x[i] = .5 + .4*math.Sin(2.1*float64(r)+1.3*float64(ch+1)*float64(c)+float64(ch))
		if ch == r%2+c%2 {
			y[i], m[i] = x[i], 1
		}
	}
	yn, mn, xn := b.Input("y", y, 1, 3, s, s), b.Input("mask", m, 1, 3, s, s), b.Input("target", x, 1, 3, s, s)
	out, err := n.Forward(b, yn, mn)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := op.L2Loss(b.Env, out, xn)
	if err != nil {
		t.Fatal(err)
	}
	nodes, params := b.Learnables()
	grads, err := G.Grad(loss, nodes...)
	if err != nil {
		t.Fatal(err)
	}
	var outValue, lossValue G.Value
	G.Read(out, &outValue)
	G.Read(loss, &lossValue)
	values := make([]G.Value, len(grads))
	for i := range grads {
		G.Read(grads[i], &values[i])
	}
	vm := G.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	grad = func(name string) []float64 {
		for i, p := range params {
			if p.Name == name {
				return values[i].Data().([]float64)
			}
		}
		t.Fatalf("no gradient of %s", name)
		return nil
	}

	init = make([]float64, len(x))
	graph.Initial(init, y, m, 3, s, s)
	return init, outValue.Data().([]float64), lossValue.Data().(float64), grad
}

// TestGoldenNetwork reproduces output, loss and gradients of the whole paper
// network on an 8 x 8 RGGB image, weights and image being formulas.
func TestGoldenNetwork(t *testing.T) {
	want := loadGolden(t).E2E
	init, o, mse, grad := formulaNetwork(t, Config{Preset: "paper"})
	summary(t, "initial interpolation", init, want.Init)
	summary(t, "output", o, want.Out)
	if len(want.OutPixel) != 3 || len(want.DComb) != 4 || len(want.DSkip) != 6 {
		t.Fatal("testdata/uglr.json lacks values")
	}
	for c, v := range want.OutPixel {
		near(t, fmt.Sprintf("output (%d,3,4)", c), o[(c*8+3)*8+4], v, 1e-11, 1)
	}
	near(t, "loss", mse, want.MSE, 1e-11, 0)
	for h := range 4 {
		near(t, "gradient of mix", grad("block0.mix")[h], want.DComb[h], 1e-7, 0)
		near(t, "gradient of alpha", grad("block0.alpha")[h*50], want.DAlpha[h], 1e-4, 0)
		near(t, "gradient of beta", grad("block0.beta")[h*50], want.DBeta[h], 1e-4, 0)
	}
	near(t, "gradient of metric, block 0", grad("block0.metric")[0], want.DA0, 1e-7, 0)
	near(t, "gradient of metric, block 4", grad("block4.metric")[3*144+2*12+2], want.DA4, 1e-7, 0)
	near(t, "gradient of conv0, block 0", grad("block0.conv0.weight")[0], want.DConv1, 1e-7, 0)
	near(t, "gradient of conv3, block 4", grad("block4.conv3.weight")[(7*48+11)*9+2*3+1], want.DConv4, 1e-7, 0)
	for i, v := range want.DSkip {
		near(t, "gradient of skip", grad("block0.skip")[i], v, 1e-7, 0)
	}
}
