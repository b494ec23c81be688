package model

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// stepMachine returns a machine that runs forward, and backward if train, of one
// batch of RGGB-sampled noise.
func stepMachine(tb testing.TB, cfg Config, batch, size int, train bool) G.VM {
	tb.Helper()
	n, err := New(cfg, 1)
	if err != nil {
		tb.Fatal(err)
	}
	g := G.NewGraph()
	env := op.NewInferenceEnv(1)
	if train {
		env = op.NewEnv(1)
	}
	b := nn.NewBuilder(g, env, n.Params())
	c := n.Channels()
	rng := rand.New(rand.NewPCG(1, 2))
	x, y, m := make([]float32, batch*c*size*size), make([]float32, batch*c*size*size), make([]float32, batch*c*size*size)
	for i := range x {
		x[i] = rng.Float32()
		ch, r, q := i/(size*size)%c, i/size%size, i%size
		if ch == r%2+q%2 {
			y[i], m[i] = x[i], 1
		}
	}
	out, err := n.Forward(b, b.Input("y", y, batch, c, size, size), b.Input("mask", m, batch, c, size, size))
	if err != nil {
		tb.Fatal(err)
	}
	outputs := G.Nodes{out}
	if train {
		loss, err := op.L1Loss(b.Env, out, b.Input("target", x, batch, c, size, size))
		if err != nil {
			tb.Fatal(err)
		}
		nodes, _ := b.Learnables()
		grads, err := G.Grad(loss, nodes...)
		if err != nil {
			tb.Fatal(err)
		}
		outputs = append(G.Nodes{loss}, grads...)
	}
	var inputs G.Nodes
	for _, n := range g.AllNodes() {
		if n.IsVar() {
			inputs = append(inputs, n)
		}
	}
	prog, loc, err := G.CompileFunction(g, inputs, outputs)
	if err != nil {
		tb.Fatal(err)
	}
	return G.NewTapeMachine(g, G.WithPrecompiled(prog, loc))
}

func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		name  string
		cfg   Config
		batch int
	}{
		{"paper", Config{Preset: "paper"}, 1},
		{"default", Config{}, 4},
		{"full24", Config{FeatureDim: 12, Features: Features{Channels: 24, Pack: 1}}, 4},
		{"full48x4", Config{Heads: 4, Features: Features{Channels: 48, Pack: 1}}, 4},
	} {
		for _, train := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/train=%v", c.name, train), func(b *testing.B) {
				vm := stepMachine(b, c.cfg, c.batch, 64, train)
				defer vm.Close()
				b.ReportAllocs()
				for b.Loop() {
					if err := vm.RunAll(); err != nil {
						b.Fatal(err)
					}
					vm.Reset()
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*c.batch*64*64), "us/pixel")
			})
		}
	}
}
