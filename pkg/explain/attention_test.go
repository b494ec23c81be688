package explain

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/model"
)

// transformer returns a small network with weights large enough that attention is
// far from uniform.
func transformer(t *testing.T, cfg model.Config) model.Model {
	t.Helper()
	m, err := model.Build(cfg, 11)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for _, p := range m.Params().All() {
		if p.Solver {
			continue // learned p
		}
		for i := range p.Data {
			p.Data[i] += float32(rng.NormFloat64()) / 2
		}
	}
	return m
}

// inputs are n random inputs for m.
func inputs(m model.Model, n int) [][]float32 {
	rng := rand.New(rand.NewPCG(5, 6))
	var out [][]float32
	for range n {
		var x []float32
		switch net := m.(type) {
		case model.Classifier:
			c, h, w := net.Input()
			x = make([]float32, c*h*w)
			for i := range x {
				x[i] = rng.Float32()
			}
		case model.LanguageModel:
			x = make([]float32, net.Context())
			for i := range x {
				x[i] = float32(rng.IntN(net.Symbols()))
			}
		}
		out = append(out, x)
	}
	return out
}

func vision(p ...float64) model.Config {
	return model.Config{Type: "plat-vit", Preset: "tiny", Plat: model.Plat{P: p, Image: []int{12, 16}}}
}

// What the weights say is what the network computed: weights times values are the
// output of its attention.
func TestWatchedWeightsGiveTheAttention(t *testing.T) {
	for _, cfg := range []model.Config{vision(1.5, 2.5), {Type: "plat-lm", Preset: "tiny"}, {Type: "plat-lm", Preset: "tiny", Plat: model.Plat{Positions: "rotary", Variant: "graph_gradient"}}} {
		m := transformer(t, cfg)
		in := inputs(m, 1)[0]
		w, err := newWatcher(m, 1, len(in))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.run(in); err != nil {
			t.Fatal(err)
		}
		n, depth := w.tokens, w.channels/w.heads
		for l := range w.layers {
			qkv, out := w.value(l, "qkv"), w.value(l, "attention")
			for h := range w.heads {
				weights := w.weights(l, h)
				for c := h * depth; c < (h+1)*depth; c++ {
					for i := range n {
						want := 0.
						for j := range n {
							want += weights[i*n+j] * float64(qkv[(2*w.channels+c)*n+j])
						}
						if got := float64(out[c*n+i]); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
							t.Fatalf("%s: layer %d, channel %d, token %d: found %v, expected %v", cfg.Type, l, c, i, got, want)
						}
					}
				}
			}
		}
	}
}

// In every row log W - S is (p-2) log r up to a constant: the slope of one against
// the other is p-2, for each head.
func TestSlopeOfWeightsAgainstDistanceIsPMinus2(t *testing.T) {
	learned := true
	cfg := vision(1.3, 2.7)
	cfg.Plat.PLearned = &learned
	for _, cfg := range []model.Config{vision(1.5, 2.5), vision(1, 2), cfg, {Type: "plat-lm", Preset: "tiny"}} {
		m := transformer(t, cfg)
		in := inputs(m, 1)[0]
		w, err := newWatcher(m, 1, len(in))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.run(in); err != nil {
			t.Fatal(err)
		}
		c := m.Config()
		n, depth := w.tokens, w.channels/w.heads
		for l := range w.layers {
			qkv := w.value(l, "qkv")
			at := func(part, h, k, i int) float64 { return float64(qkv[(part*w.channels+h*depth+k)*n+i]) }
			for h := range w.heads {
				weights := w.weights(l, h)
				distance := func(i, j int) (d float64) {
					for k := range depth {
						d += math.Pow(at(2, h, k, i)-at(2, h, k, j), 2)
					}
					return d
				}
				var xy, xx float64
				for i := range n {
					seen := n
					if c.Type == "plat-lm" {
						seen = i + 1
					}
					rms, pairs := 0., 0.
					for j := range seen {
						for k := range j {
							rms += distance(j, k)
							pairs++
						}
					}
					eps := c.Plat.Eps
					if pairs > 0 {
						eps *= math.Sqrt(rms / pairs)
					}
					var xs, ys []float64
					for j := range seen {
						if j == i {
							continue
						}
						s := 0.
						for k := range depth {
							s += at(0, h, k, i) * at(1, h, k, j)
						}
						xs = append(xs, math.Log(distance(i, j)+eps*eps)/2)
						ys = append(ys, math.Log(weights[i*n+j])-s/math.Sqrt(float64(depth)))
					}
					mx, my := mean(xs), mean(ys)
					for k := range xs {
						xy += (xs[k] - mx) * (ys[k] - my)
						xx += (xs[k] - mx) * (xs[k] - mx)
					}
				}
				want := model.Exponents(m)[l][h] - 2
				if got := xy / xx; math.Abs(got-want) > 1e-9 {
					t.Errorf("%s, layer %d, head %d: slope %v, expected %v", c.Type, l, h, got, want)
				}
			}
		}
	}
}

func mean(x []float64) (m float64) {
	for _, v := range x {
		m += v
	}
	return m / max(float64(len(x)), 1)
}

// The diagnostics are what their comments say, over all inputs.
func TestAttentionDiagnostics(t *testing.T) {
	ctx := context.Background()
	for _, cfg := range []model.Config{vision(1.5, 2.5), {Type: "plat-lm", Preset: "tiny"}} {
		m := transformer(t, cfg)
		in := inputs(m, 3)
		d, err := Attention(ctx, m, 1, in...)
		if err != nil {
			t.Fatal(err)
		}
		if d.Inputs != 3 || len(d.Layers) != m.Config().Blocks {
			t.Fatalf("found %+v", d)
		}
		var cosine, self, entropy float64
		const l, h = 1, 0
		for _, x := range in {
			w, err := newWatcher(m, 2, len(x))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.run(x); err != nil {
				t.Fatal(err)
			}
			n, tokens := w.tokens, w.value(l, "tokens")
			sum := 0.
			for i := range n {
				for j := range n {
					if i == j {
						continue
					}
					var xy, xx, yy float64
					for c := range w.channels {
						a, b := float64(tokens[c*n+i]), float64(tokens[c*n+j])
						xy, xx, yy = xy+a*b, xx+a*a, yy+b*b
					}
					sum += xy / math.Sqrt(xx*yy)
				}
			}
			cosine += sum / float64(n*(n-1)) / 3
			for i, v := range w.weights(l, h) {
				if i%n == i/n {
					self += v / float64(n) / 3
				}
				if v > 0 {
					entropy -= v * math.Log(v) / float64(n) / 3
				}
			}
		}
		got := d.Layers[l]
		for _, c := range []struct {
			name      string
			got, want float64
		}{{"cosine", float64(got.Cosine), cosine}, {"self weight", got.Heads[h].Self, self}, {"entropy", got.Heads[h].Entropy, entropy}, {"p", got.Heads[h].P, model.Exponents(m)[l][h]}} {
			if math.Abs(c.got-c.want) > 1e-9 {
				t.Errorf("%s: %s is %v, expected %v", cfg.Type, c.name, c.got, c.want)
			}
		}
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
	}
}

func TestAttentionRefuses(t *testing.T) {
	ctx := context.Background()
	m := transformer(t, vision(2))
	if _, err := Attention(ctx, m, 1); err == nil {
		t.Error("no inputs: expected an error")
	}
	if _, err := Attention(ctx, m, 1, make([]float32, 3)); err == nil {
		t.Error("three samples: expected an error")
	}
	x := inputs(m, 1)[0]
	if _, err := Attention(ctx, m, 1, x, x[:7]); err == nil {
		t.Error("inputs of different lengths: expected an error")
	}
	restorer, err := model.Build(model.Config{Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var none *NoAttentionError
	if _, err := Attention(ctx, restorer, 1, x); !errors.As(err, &none) {
		t.Errorf("a restorer: %v", err)
	}
	if b, err := Number(math.NaN()).MarshalJSON(); err != nil || string(b) != "null" {
		t.Errorf("no number: %s, %v", b, err)
	}
}
