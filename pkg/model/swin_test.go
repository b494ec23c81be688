package model

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// swinVariants are tiny transformers that between them use every option.
var swinVariants = map[string]Config{
	"tiny":         {Type: "swin", Preset: "tiny"},
	"one channel":  {Type: "swin", Preset: "tiny", Channels: 1},
	"one group":    {Type: "swin", Preset: "tiny", Blocks: 1, Swin: Swin{Layers: 3}},
	"three groups": {Type: "swin", Preset: "tiny", Blocks: 3, Heads: 3, Swin: Swin{Embed: 6, Layers: 1, Window: 2, MLP: 1.5}},
	"no mask":      {Type: "swin", Preset: "tiny", MaskInput: ptr(false), Consistency: "none"},
}

// TestSwinSizes holds the presets to the sizes they are compared at: that of the
// default graph network, and of RST-B with 931,763 parameters.
func TestSwinSizes(t *testing.T) {
	for _, c := range []struct {
		preset      string
		channels    int
		least, most int
		counted     int
	}{
		{"default", 3, 320_000, 330_000, 328_596},
		{"default", 1, 310_000, 330_000, 318_220},
		{"base", 3, 900_000, 940_000, 921_372},
		{"base", 1, 900_000, 940_000, 908_404},
		{"tiny", 3, 0, 10_000, 7_172},
		{"tiny", 1, 0, 10_000, 5_436},
	} {
		n, err := New(Config{Type: "swin", Preset: c.preset, Channels: c.channels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := n.Params().Count()
		if got < c.least || got > c.most {
			t.Errorf("%s, %d channels: %d parameters, expected %d to %d", c.preset, c.channels, got, c.least, c.most)
		}
		// Counted from the description in the type's comment.
		cfg := n.Config()
		e, s, hidden := cfg.Swin.Embed, cfg.Swin, cfg.hidden()
		conv := func(in, out int) int { return 9*in*out + out }
		linear := func(in, out int) int { return in*out + out }
		layer := 4*e + linear(e, 3*e) + cfg.Heads*(2*s.Window-1)*(2*s.Window-1) + linear(e, e) + linear(e, hidden) + linear(hidden, e)
		want := conv(8*c.channels, e) + cfg.Blocks*(s.Layers*layer+conv(e, e)) + 2*e + conv(e, e) + conv(e, 4*c.channels)
		if got != want || got != c.counted {
			t.Errorf("%s, %d channels: %d parameters, expected %d", c.preset, c.channels, got, want)
		}
	}
}

// TestSwinDecay checks that weight decay acts on the kernels of convolutions and
// linear layers, and on nothing else.
func TestSwinDecay(t *testing.T) {
	n, err := New(swinVariants["tiny"], 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range n.Params().All() {
		kernel := strings.HasSuffix(p.Name, ".weight") && !strings.Contains(p.Name, "norm")
		if p.NoDecay == kernel || p.Solver {
			t.Errorf("%s: decays %v, of a solver %v", p.Name, !p.NoDecay, p.Solver)
		}
	}
}

func TestSwinGradients(t *testing.T) {
	for name, cfg := range swinVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := New(cfg, 5)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(6, 6))
			values := map[string][]float64{}
			for _, p := range n.Params().All() {
				v := make([]float64, len(p.Data))
				for i, x := range p.Data {
					v[i] = float64(x) + .2*rng.NormFloat64()
				}
				values[p.Name] = v
			}
			_, grads := network(t, n, values, true)
			for _, p := range n.Params().All() {
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
					up, _ := network(t, n, values, false)
					v[i] = old - e
					down, _ := network(t, n, values, false)
					v[i] = old
					want := (up - down) / (2 * e)
					if !(math.Abs(g[i]-want) <= 1e-8+1e-5*math.Abs(want)) {
						t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", p.Name, i, g[i], want)
					}
				}
			}
		})
	}
}

// evaluate runs build in float32 on inputs drawn from a seed, as whole network or
// block by block.
func evaluate(t *testing.T, n Network, h, w int, build func(b *nn.Builder, y, mask *G.Node) (*G.Node, error)) (out, y, mask []float32) {
	t.Helper()
	c := n.Channels()
	rng := rand.New(rand.NewPCG(8, 9))
	y, mask = make([]float32, c*h*w), make([]float32, c*h*w)
	for i := range y {
		if rng.IntN(3) == 0 {
			y[i], mask[i] = rng.Float32(), 1
		}
	}
	b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), n.Params())
	x, err := build(b, b.Input("y", y, 1, c, h, w), b.Input("mask", mask, 1, c, h, w))
	if err != nil {
		t.Fatal(err)
	}
	var v G.Value
	G.Read(x, &v)
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), v.Data().([]float32)...), y, mask
}

// TestSwinBlocksAreItsForward checks, on sizes that no window divides, that the
// blocks one after another are the network bit by bit, that samples stay, and
// that the start is near the initial interpolation.
func TestSwinBlocksAreItsForward(t *testing.T) {
	for name, cfg := range swinVariants {
		n, err := New(cfg, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range [][2]int{{16, 16}, {13, 22}, {1, 1}, {3, 40}} {
			h, w := size[0], size[1]
			whole, y, mask := evaluate(t, n, h, w, n.Forward)
			blocks, _, _ := evaluate(t, n, h, w, func(b *nn.Builder, y, mask *G.Node) (*G.Node, error) {
				x, err := op.Initial(b.Env, y, mask)
				var state *G.Node
				for k := range n.Blocks() {
					if err == nil {
						x, state, err = n.Block(b, k, x, y, mask, state)
					}
				}
				return x, err
			})
			start, _, _ := evaluate(t, n, h, w, func(b *nn.Builder, y, mask *G.Node) (*G.Node, error) { return op.Initial(b.Env, y, mask) })
			for i := range whole {
				if blocks[i] != whole[i] {
					t.Fatalf("%s, %dx%d: element %d is %g by blocks, %g as a whole", name, h, w, i, blocks[i], whole[i])
				}
				if mask[i] == 1 && n.Config().Consistency == "hard" && whole[i] != y[i] {
					t.Fatalf("%s, %dx%d: sample %d is %g, expected %g", name, h, w, i, whole[i], y[i])
				}
				if !(math.Abs(float64(whole[i]-start[i])) < .05) {
					t.Fatalf("%s, %dx%d: element %d starts at %g, the interpolation is %g", name, h, w, i, whole[i], start[i])
				}
			}
		}
	}
}

func TestSwinSurvivesItsFile(t *testing.T) {
	for name, cfg := range swinVariants {
		n, err := New(cfg, 7)
		if err != nil {
			t.Fatal(err)
		}
		first, err := Save(n, `{"task":"demosaic"}`, nil).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := checkpoint.ReadBytes(first, name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Load(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := Save(m, `{"task":"demosaic"}`, nil).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Errorf("%s: a network read back saves to other bytes", name)
		}
	}
}

func TestSwinConfigErrorsNameTheKey(t *testing.T) {
	for key, cfgs := range map[string][]Config{
		"model.swin.embed":    {{Swin: Swin{Embed: 50}}, {Swin: Swin{Embed: -6}}, {Heads: 5}},
		"model.swin.window":   {{Swin: Swin{Window: 7}}, {Swin: Swin{Window: 64}}},
		"model.swin.layers":   {{Swin: Swin{Layers: 100}}},
		"model.swin.mlp":      {{Swin: Swin{MLP: -1}}, {Swin: Swin{MLP: math.NaN()}}, {Swin: Swin{MLP: .001}}},
		"model.heads":         {{Heads: -1}},
		"model.window":        {{Window: 5}},
		"model.features.pack": {{Features: Features{Pack: 2}}},
		"model.preset":        {{Preset: "paper"}},
	} {
		for _, cfg := range cfgs {
			cfg.Type = "swin"
			if _, err := New(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
				t.Errorf("%s: error %v", key, err)
			}
		}
	}
	if _, err := New(Config{Swin: Swin{Embed: 48}}, 1); err == nil || !strings.HasPrefix(err.Error(), "model.swin.embed:") {
		t.Errorf("model.swin.embed for uglr: error %v", err)
	}
}
