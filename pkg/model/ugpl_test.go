package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

func init() {
	variants["ugpl"] = Config{Type: "ugpl", Preset: "tiny"}
	variants["ugpl one channel"] = Config{Type: "ugpl", Preset: "tiny", Channels: 1, P: 1.1, PLearned: ptr(false), PEpsilon: .05}
	variants["ugpl plain"] = Config{Type: "ugpl", Preset: "tiny", Color: "independent", Slope: ptr(false), P: 1.3, Mixing: "average", CGLayers: 3}
}

// TestExponentTwoIsUGLR checks that ugpl with p = 2 is uglr to the bit, in the
// precision networks run in: the loss and every gradient.
func TestExponentTwoIsUGLR(t *testing.T) {
	step := func(cfg Config) []float32 {
		n, err := New(cfg, 8)
		if err != nil {
			t.Fatal(err)
		}
		const h, w = 11, 13
		g := G.NewGraph()
		b := nn.NewBuilder(g, op.NewEnv(1), n.Params())
		c := n.Channels()
		rng := rand.New(rand.NewPCG(5, 6))
		x, y, m := make([]float32, 2*c*h*w), make([]float32, 2*c*h*w), make([]float32, 2*c*h*w)
		for i := range x {
			x[i] = rng.Float32()
			if rng.IntN(3) == 0 {
				y[i], m[i] = x[i], 1
			}
		}
		out, err := n.Forward(b, b.Input("y", y, 2, c, h, w), b.Input("mask", m, 2, c, h, w))
		if err != nil {
			t.Fatal(err)
		}
		loss, err := op.L2Loss(b.Env, out, b.Input("target", x, 2, c, h, w))
		if err != nil {
			t.Fatal(err)
		}
		nodes, _ := b.Learnables()
		grads, err := G.Grad(loss, nodes...)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]G.Value, 1+len(grads))
		G.Read(out, &values[0])
		for i := range grads {
			G.Read(grads[i], &values[1+i])
		}
		vm := G.NewTapeMachine(g)
		defer vm.Close()
		if err := vm.RunAll(); err != nil {
			t.Fatal(err)
		}
		var all []float32
		for _, v := range values {
			all = append(all, v.Data().([]float32)...)
		}
		return all
	}
	for _, c := range []Config{
		{Preset: "tiny", CGLayers: 2},
		{Preset: "tiny", CGLayers: 3, CGSteps: 2, Channels: 1},
		{Preset: "tiny", CGLayers: 2, Color: "independent", Slope: ptr(false)},
	} {
		a := c
		a.Type, a.P, a.PLearned, a.CGSteps = "ugpl", 2, ptr(false), max(c.CGSteps, 4)
		c.Type, c.CGSteps = "uglr", a.CGSteps
		got, want := step(a), step(c)
		if len(got) != len(want) {
			t.Fatalf("%+v: %d values, expected %d", c, len(got), len(want))
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%+v: value %d is %g, expected %g", c, i, got[i], want[i])
			}
		}
		a.P = 1.9
		if fmt.Sprint(step(a)) == fmt.Sprint(want) {
			t.Errorf("%+v: p = 1.9 gives the same", c)
		}
	}
}

// TestUGPLParameters checks that the learned exponents start at p, and are alone
// in what the network has beyond uglr's parameters.
func TestUGPLParameters(t *testing.T) {
	n, err := New(Config{Type: "ugpl", P: 1.25}, 1)
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{CGLayers: 2, CGSteps: 4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	extra := 0
	for _, p := range n.Params().All() {
		if q := u.Params().Get(p.Name); q != nil {
			continue
		}
		extra += len(p.Data)
		if !strings.HasSuffix(p.Name, ".p") || !p.Solver || !p.NoDecay {
			t.Errorf("parameter %s: Solver %v, NoDecay %v", p.Name, p.Solver, p.NoDecay)
		}
		for _, rho := range p.Data {
			if got := 1 + 1/(1+math.Exp(-float64(rho))); math.Abs(got-1.25) > 1e-6 {
				t.Errorf("%s starts at p = %g, expected 1.25", p.Name, got)
			}
		}
	}
	if want := n.Config().Blocks * n.Config().Heads; extra != want || n.Params().Count() != u.Params().Count()+want {
		t.Errorf("%d parameters beyond uglr's, expected %d", extra, want)
	}
	if c := n.Params().Count(); c > 330000 {
		t.Errorf("%d parameters, expected at most 330,000", c)
	}
}

func TestUGPLErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct {
		want string
		cfg  Config
	}{
		{"model.p: found 1, expected more than 1, at most 2", Config{P: 1}},
		{"model.p: found 2.5, expected more than 1, at most 2", Config{P: 2.5}},
		{"model.p: found NaN", Config{P: math.NaN()}},
		{"model.p: found -1", Config{P: -1}},
		{"model.p_epsilon: found -0.1, expected more than 0", Config{PEpsilon: -.1}},
		{"model.normalization: found \"symmetric\", expected softmax_symmetric", Config{Normalization: "symmetric"}},
		{"model.normalization: found \"random_walk\", expected softmax_symmetric", Config{Normalization: "random_walk"}},
		{"model.gamma: found for type ugpl", Config{Gamma: 1}},
		{"model.preset: found \"paper\"", Config{Preset: "paper"}},
	} {
		c.cfg.Type = "ugpl"
		if _, err := New(c.cfg, 1); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: error %v, expected %q", c.cfg, err, c.want)
		}
	}
	if _, err := New(Config{Type: "uglr", P: 1.5}, 1); err == nil || !strings.HasPrefix(err.Error(), "model.p: found for type uglr") {
		t.Errorf("p for uglr: error %v", err)
	}
}
