package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

func TestNormAndGeluGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for _, c := range [][2]int{{3, 5}, {17, 19}, {1, 1}} { // beyond one block of pixels, too
		h, w := c[0], c[1]
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return LayerNorm(e, in[0], in[1], in[2]) },
			2*5*h*w, random(rng, -1, 2, 2, 5, h, w), random(rng, .5, 1.5, 5), random(rng, -1, 1, 5))
		checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Gelu(e, in[0]) }, 2*5*h*w, random(rng, -4, 4, 2, 5, h, w))
	}
}

// TestLayerNormMatchesReference holds the values to the formula, in float64 and
// at every float32 level, with and without what training keeps.
func TestLayerNormMatchesReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	const batch, channels, h, w = 2, 7, 19, 17
	x, gain, bias := random(rng, -1, 4, batch, channels, h, w), random(rng, .5, 1.5, channels), random(rng, -1, 1, channels)
	want := make([]float64, len(x.data))
	for b := range batch {
		for i := range h * w {
			at := func(c int) int { return (b*channels+c)*h*w + i }
			mean, variance := 0., 0.
			for c := range channels {
				mean += x.data[at(c)] / channels
			}
			for c := range channels {
				variance += (x.data[at(c)] - mean) * (x.data[at(c)] - mean) / channels
			}
			for c := range channels {
				want[at(c)] = gain.data[c]*(x.data[at(c)]-mean)/math.Sqrt(variance+1e-5) + bias.data[c]
			}
		}
	}
	_, _, got := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return LayerNorm(e, in[0], in[1], in[2]) },
		[]input{x, gain, bias}, want, false)
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= 1e-12) {
			t.Fatalf("element %d: %g, expected %g", i, got[i], want[i])
		}
	}
	for _, level := range kernel.Available() {
		for _, e := range []*Env{NewEnv(1), NewInferenceEnv(1)} {
			restore := kernel.Force(level)
			f := &layerNorm[float32]{}
			if _, err := f.shape([]tensor.Shape{x.shape, gain.shape, bias.shape}); err != nil {
				t.Fatal(err)
			}
			out := make([]float32, len(want))
			f.forward(e, [][]float32{narrow(x.data), narrow(gain.data), narrow(bias.data)}, out)
			restore()
			for i := range want {
				if !(math.Abs(float64(out[i])-want[i]) <= 1e-5) {
					t.Fatalf("%v: element %d: %g, expected %g", level, i, out[i], want[i])
				}
			}
		}
	}
}

// TestResidual holds a branch to the operations it is made of, and its gradient
// to central differences, in training and in inference.
func TestResidual(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	const channels, heads, window, h, w = 4, 2, 4, 5, 7
	side := 2*window - 1
	ins := []input{
		random(rng, -1, 1, 2, channels, h, w), random(rng, .5, 1.5, channels), random(rng, -1, 1, channels),
		random(rng, -1, 1, 3*channels, channels, 1, 1), random(rng, -1, 1, 3*channels), random(rng, -1, 1, heads, side*side),
		random(rng, -1, 1, channels, channels, 1, 1), random(rng, -1, 1, channels),
	}
	branch := func(e *Env, in []*G.Node) (*G.Node, error) {
		return Residual(e, in[0], NormStep(in[1], in[2]), ConvStep(in[3], in[4]), AttentionStep(in[5], window, 2), GeluStep(), ConvStep(in[6], in[7]))
	}
	checkGradient(t, branch, 2*channels*h*w, ins...)
	r := random(rng, -1, 1, 2*channels*h*w).data
	_, _, got := run(t, branch, ins, r, false)
	_, _, want := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		x, err := LayerNorm(e, in[0], in[1], in[2])
		if err == nil {
			x, err = Conv(e, x, in[3], in[4], 1, false)
		}
		if err == nil {
			x, err = WindowAttention(e, x, in[5], window, 2)
		}
		if err == nil {
			x, err = Gelu(e, x)
		}
		if err == nil {
			x, err = Conv(e, x, in[6], in[7], 1, false)
		}
		if err != nil {
			return nil, err
		}
		return Sum(e, x, in[0])
	}, ins, r, false)
	_, _, lean := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return branch(NewInferenceEnv(1), in) }, ins, r, false)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-12 || got[i] != lean[i] {
			t.Fatalf("element %d: %g, in inference %g, expected %g", i, got[i], lean[i], want[i])
		}
	}
}

func TestResidualRefuses(t *testing.T) {
	g := G.NewGraph()
	node := func(name string, shape ...int) *G.Node {
		return G.NewTensor(g, tensor.Float32, len(shape), G.WithShape(shape...), G.WithName(name))
	}
	x, w, b := node("x", 1, 3, 4, 4), node("w", 2, 3, 1, 1), node("b", 2)
	for name, steps := range map[string][]Step{
		"no steps":    nil,
		"other shape": {ConvStep(w, b)},
		"bad step":    {GeluStep(), NormStep(b, b)},
	} {
		if _, err := Residual(NewEnv(1), x, steps...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkLayerNorm(b *testing.B) {
	const batch, channels, hw = 4, 48, 1024
	rng := rand.New(rand.NewPCG(1, 1))
	x := narrow(random(rng, -1, 1, batch, channels, 32, 32).data)
	gain, out, dx, dgain := make([]float32, channels), make([]float32, len(x)), make([]float32, len(x)), make([]float32, channels)
	f := &layerNorm[float32]{}
	if _, err := f.shape([]tensor.Shape{{batch, channels, 32, 32}, {channels}, {channels}}); err != nil {
		b.Fatal(err)
	}
	e := NewEnv(1)
	for _, back := range []bool{false, true} {
		b.Run(fmt.Sprintf("backward=%v", back), func(b *testing.B) {
			for b.Loop() {
				if back {
					f.backward(e, [][]float32{x, gain, gain}, out, x, [][]float32{dx, dgain, dgain})
				} else {
					f.forward(e, [][]float32{x, gain, gain}, out)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/patch")
		})
	}
}
