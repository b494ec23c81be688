package model

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// platMachine returns a machine that runs forward and backward of one batch, and
// the floating-point operations of the products of that: of tokens with each
// matrix, and of attention, with distances unless p is 2.
func platMachine(tb testing.TB, cfg Config, batch int) (vm G.VM, work float64) {
	tb.Helper()
	m, err := Build(cfg, 1)
	if err != nil {
		tb.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), m.Params())
	var out, labels *G.Node
	tokens := 0
	switch m := m.(type) {
	case Classifier:
		c, h, w := m.Input()
		x, y := make([]float32, batch*c*h*w), make([]float32, batch)
		for i := range x {
			x[i] = rng.Float32()
		}
		labels = b.Input("labels", y, 1, batch)
		out, err = m.Classify(b, b.Input("x", x, batch, c, h, w))
		t := m.Config().Plat
		tokens = h / t.Patch[0] * (w / t.Patch[1])
		if t.Pool == "token" {
			tokens++
		}
	case LanguageModel:
		tokens = m.Context()
		x := make([]float32, batch*tokens)
		for i := range x {
			x[i] = float32(rng.IntN(m.Symbols()))
		}
		labels = b.Input("labels", x, batch, tokens)
		out, err = m.Predict(b, b.Input("x", x, batch, tokens))
	}
	if err != nil {
		tb.Fatal(err)
	}
	loss, err := op.CrossEntropy(b.Env, out, labels, .1)
	if err != nil {
		tb.Fatal(err)
	}
	nodes, params := b.Learnables()
	grads, err := G.Grad(loss, nodes...)
	if err != nil {
		tb.Fatal(err)
	}
	var inputs G.Nodes
	for _, n := range b.Graph.AllNodes() {
		if n.IsVar() {
			inputs = append(inputs, n)
		}
	}
	prog, loc, err := G.CompileFunction(b.Graph, inputs, append(G.Nodes{loss}, grads...))
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range params {
		if strings.HasSuffix(p.Name, ".weight") && len(p.Shape) == 4 {
			count := tokens
			if p.Name == "head.weight" {
				count = out.Shape().TotalSize() / batch / p.Shape[0]
			}
			work += 3 * 2 * float64(batch*count*len(p.Data))
		}
	}
	c := m.Config()
	products := 2. + 5
	for _, p := range c.Plat.P {
		if p != 2 {
			products = 3 + 8
		}
	}
	pairs := float64(tokens * tokens)
	if c.Kind() == Language {
		pairs = float64(tokens*(tokens+1)) / 2
	}
	work += products * 2 * float64(batch*c.Blocks*c.Plat.Width) * pairs
	return G.NewTapeMachine(b.Graph, G.WithPrecompiled(prog, loc)), work
}

// BenchmarkPlat measures the processor time of a training step without the
// optimiser, and what of the processor's peak its matrix products make of it.
func BenchmarkPlat(b *testing.B) {
	for _, c := range []struct {
		name  string
		cfg   Config
		batch int
	}{
		{"lm/p2", Config{Type: "plat-lm"}, 8},
		{"lm/p1.5", Config{Type: "plat-lm", Plat: Plat{P: []float64{1.5}}}, 8},
		{"vit/p2", Config{Type: "plat-vit"}, 32},
		{"deit-tiny/p2", Config{Type: "plat-vit", Preset: "deit-tiny"}, 1},
	} {
		b.Run(fmt.Sprintf("%s/B%d", c.name, c.batch), func(b *testing.B) {
			vm, work := platMachine(b, c.cfg, c.batch)
			defer vm.Close()
			if err := vm.RunAll(); err != nil { // the first allocates
				b.Fatal(err)
			}
			vm.Reset()
			b.ReportAllocs()
			start := processorTime(b)
			for b.Loop() {
				if err := vm.RunAll(); err != nil {
					b.Fatal(err)
				}
				vm.Reset()
			}
			used := (processorTime(b) - start) / float64(b.N)
			levels := kernel.Available()
			b.ReportMetric(1000*used, "cpu-ms/step")
			b.ReportMetric(work/used/1e9, "GFLOP/s")
			b.ReportMetric(100*work/used/kernel.Peak(levels[len(levels)-1]), "%peak")
		})
	}
}
