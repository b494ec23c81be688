package op

import (
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

func dense(data []float32, shape ...int) *tensor.Dense {
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
}

// With Env.Inference a chain of operations runs in two buffers and gives the same
// values, run after run, and what Keep names is not written over.
func TestInferenceGivesBuffersBack(t *testing.T) {
	const n, steps = 24, 9
	build := func(e *Env) (vm G.VM, x []float32, atThird, atLast *G.Value) {
		g := G.NewGraph()
		x = make([]float32, n)
		in := G.NewTensor(g, G.Float32, 4, G.WithShape(1, 2, 3, 4), G.WithName("x"), G.WithValue(dense(x, 1, 2, 3, 4)))
		p := G.NewTensor(g, G.Float32, 1, G.WithShape(1), G.WithName("p"), G.WithValue(dense([]float32{.75}, 1)))
		node, kept, last := in, new(G.Value), new(G.Value)
		for i := range steps {
			var err error
			if node, err = Blend(e, node, in, p); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				Keep(node)
				G.Read(node, kept)
			}
		}
		Keep(node)
		G.Read(node, last)
		return G.NewTapeMachine(g), x, kept, last
	}
	lean := NewInferenceEnv(1)
	a, xa, keptA, lastA := build(NewEnv(1))
	b, xb, keptB, lastB := build(lean)
	for run := range 3 {
		for i := range xa {
			xa[i] = float32((i*7+run*11)%13) / 13
			xb[i] = xa[i]
		}
		for _, vm := range []G.VM{a, b} {
			if err := vm.RunAll(); err != nil {
				t.Fatal(err)
			}
			vm.Reset()
		}
		for _, pair := range [][2]*G.Value{{keptA, keptB}, {lastA, lastB}} {
			want, got := (*pair[0]).Data().([]float32), (*pair[1]).Data().([]float32)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("run %d: element %d is %v, expected %v", run, i, got[i], want[i])
				}
			}
		}
	}
	if len(lean.free32) > 3 {
		t.Errorf("%d buffers were put aside, expected at most 3 for a chain", len(lean.free32))
	}
}
