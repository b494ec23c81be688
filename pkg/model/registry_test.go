package model

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// addLoss adds a network of any kind on inputs drawn from a seed, and a loss.
func addLoss(t testing.TB, b *nn.Builder, m Model) (out, loss *G.Node) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	input := func(name string, v func() float64, shape ...int) *G.Node {
		n := 1
		for _, d := range shape {
			n *= d
		}
		f32, f64 := make([]float32, n), make([]float64, n)
		for i := range f64 {
			f64[i] = v()
			f32[i] = float32(f64[i])
		}
		if b.Double != nil {
			return b.Input(name, f64, shape...)
		}
		return b.Input(name, f32, shape...)
	}
	below := func(n int) func() float64 { return func() float64 { return float64(rng.IntN(n)) } }
	var err error
	switch m := m.(type) {
	case Network:
		c := m.Channels()
		y := input("y", rng.Float64, 2, c, 7, 9)
		if out, err = m.Forward(b, y, input("mask", below(2), 2, c, 7, 9)); err == nil {
			loss, err = op.L2Loss(b.Env, out, input("target", rng.Float64, 2, c, 7, 9))
		}
	case Classifier:
		c, h, w := m.Input()
		if out, err = m.Classify(b, input("x", rng.Float64, 3, c, h, w)); err == nil {
			loss, err = op.CrossEntropy(b.Env, out, input("labels", below(m.Classes()), 1, 3), .1)
		}
	case LanguageModel:
		n := m.Context() - 1
		if out, err = m.Predict(b, input("symbols", below(m.Symbols()), 3, n)); err == nil {
			loss, err = op.CrossEntropy(b.Env, out, input("next", below(m.Symbols()), 3, n), 0)
		}
	default:
		t.Fatalf("%T is of no kind", m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, loss
}

// step runs m on the inputs of addLoss in float32: loss, output and gradients.
func step(t testing.TB, m Model, e *op.Env, train bool) (values [][]float32) {
	t.Helper()
	b := nn.NewBuilder(G.NewGraph(), e, m.Params())
	out, loss := addLoss(t, b, m)
	read := G.Nodes{loss, out}
	if train {
		nodes, params := b.Learnables()
		if len(params) != len(m.Params().All()) {
			t.Fatalf("%d parameters are used of %d", len(params), len(m.Params().All()))
		}
		grads, err := G.Grad(loss, nodes...)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, grads...)
	}
	vs := make([]G.Value, len(read))
	for i, n := range read {
		op.Keep(n)
		G.Read(n, &vs[i])
	}
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		switch d := v.Data().(type) {
		case float32:
			values = append(values, []float32{d})
		case []float32:
			values = append(values, append([]float32(nil), d...))
		}
	}
	return values
}

func sameBits(a, b [][]float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if len(a[i]) != len(b[i]) {
			return false
		}
		for j := range a[i] {
			if math.Float32bits(a[i][j]) != math.Float32bits(b[i][j]) {
				return false
			}
		}
	}
	return true
}

// doubleLoss is the loss of addLoss in float64, at values of parameters, and its
// gradient if grads.
func doubleLoss(t *testing.T, m Model, values map[string][]float64, grads bool) (float64, map[string][]float64) {
	t.Helper()
	b := nn.NewDoubleBuilder(G.NewGraph(), op.NewEnv(1), m.Params())
	for k, v := range values {
		copy(b.Double[k], v)
	}
	_, loss := addLoss(t, b, m)
	var cost G.Value
	G.Read(loss, &cost)
	nodes, params := b.Learnables()
	var gs G.Nodes
	if grads {
		var err error
		if gs, err = G.Grad(loss, nodes...); err != nil {
			t.Fatal(err)
		}
	}
	vs := make([]G.Value, len(gs))
	for i := range gs {
		G.Read(gs[i], &vs[i])
	}
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	d := map[string][]float64{}
	for i, v := range vs {
		d[params[i].Name] = append([]float64(nil), v.Data().([]float64)...)
	}
	return cost.Data().(float64), d
}

// checkNetworkGradient holds the gradient of a whole network to central
// differences, two elements of every parameter, around a point where noise is
// added to its start.
func checkNetworkGradient(t *testing.T, cfg Config, noise float64) {
	t.Helper()
	m, err := Build(cfg, 5)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(6, 6))
	values := map[string][]float64{}
	for _, p := range m.Params().All() {
		v := make([]float64, len(p.Data))
		for i, x := range p.Data {
			v[i] = float64(x) + noise*rng.NormFloat64()
		}
		values[p.Name] = v
	}
	_, grads := doubleLoss(t, m, values, true)
	for _, p := range m.Params().All() {
		g, ok := grads[p.Name]
		if !ok {
			t.Fatalf("%s is not used", p.Name)
		}
		for range 2 {
			i := rng.IntN(len(g))
			const e = 1e-5
			v := values[p.Name]
			old := v[i]
			v[i] = old + e
			up, _ := doubleLoss(t, m, values, false)
			v[i] = old - e
			down, _ := doubleLoss(t, m, values, false)
			v[i] = old
			want := (up - down) / (2 * e)
			if !(math.Abs(g[i]-want) <= 1e-8+1e-5*math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", p.Name, i, g[i], want)
			}
		}
	}
}

// TestEveryArchitecture takes the tiny network of each type through what any must
// survive: its gradient, its file, the same bits for the same seed whatever the
// workers and with or without a backward pass.
func TestEveryArchitecture(t *testing.T) {
	for _, typ := range Types {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Type: typ, Preset: "tiny"}
			build := func(seed uint64) Model {
				m, err := Build(cfg, seed)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			m := build(7)
			if k := m.Config().Kind(); k != cfg.Kind() || k == "" {
				t.Errorf("kind %q, expected %q", k, cfg.Kind())
			}
			noise := .2
			if m.Config().Kind() == Restore && typ != "swin" {
				noise = .02 // solvers diverge far from their start
			}
			fixed := cfg
			if cfg.Kind() != Restore {
				fixed.Plat.EpsRelative = ptr(false) // gradients take a relative eps for constant
			}
			checkNetworkGradient(t, fixed, noise)
			got := step(t, m, op.NewEnv(1), true)
			for _, v := range got {
				for _, x := range v {
					if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
						t.Fatal("a value is not finite")
					}
				}
			}
			if !sameBits(got, step(t, build(7), op.NewEnv(3), true)) {
				t.Error("the same seed gives other bits with 3 workers")
			}
			if !sameBits(got[:2], step(t, m, op.NewInferenceEnv(2), false)) {
				t.Error("inference gives other bits than training")
			}
			if sameBits(got, step(t, build(8), op.NewEnv(1), true)) {
				t.Error("another seed gives the same network")
			}
			first, err := Save(m, "{}", nil).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			f, err := checkpoint.ReadBytes(first, typ)
			if err != nil {
				t.Fatal(err)
			}
			back, err := LoadModel(f)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Save(back, "{}", nil).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, again) {
				t.Error("a network read back saves to other bytes")
			}
			if !sameBits(got, step(t, back, op.NewEnv(1), true)) {
				t.Error("a network read back gives other bits")
			}
		})
	}
}
