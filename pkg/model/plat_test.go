package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// platVariants are tiny transformers that between them use every option, with eps
// absolute: gradients take a relative one for constant.
var platVariants = map[string]Config{
	"vit":            {Type: "plat-vit", Plat: Plat{P: []float64{2.5}}},
	"vit mean":       {Type: "plat-vit", Channels: 3, Plat: Plat{Pool: "mean", Patch: []int{3, 2}, P: []float64{2}}},
	"vit rotary":     {Type: "plat-vit", Plat: Plat{Positions: "rotary", Diagonal: "neutral", PLearned: ptr(true)}},
	"vit one token":  {Type: "plat-vit", Plat: Plat{Pool: "mean", Patch: []int{6, 8}, Positions: "rotary", Variant: "graph_gradient"}},
	"vit neutreno":   {Type: "plat-vit", Blocks: 3, Plat: Plat{Fidelity: "neutreno"}},
	"lm":             {Type: "plat-lm"},
	"lm learned":     {Type: "plat-lm", Plat: Plat{PLearned: ptr(true), P: []float64{1.5}}},
	"lm rotary":      {Type: "plat-lm", Plat: Plat{Positions: "rotary", Variant: "unnormalized", MLP: 1.5}},
	"lm excluded":    {Type: "plat-lm", Plat: Plat{Diagonal: "excluded"}},
	"lm values":      {Type: "plat-lm", Plat: Plat{Fidelity: "values", Mu: .5}},
	"lm first":       {Type: "plat-lm", Blocks: 3, Plat: Plat{Fidelity: "first", PLearned: ptr(true)}},
	"lm neutreno":    {Type: "plat-lm", Blocks: 3, Plat: Plat{Fidelity: "neutreno", Positions: "rotary", P: []float64{2}}},
	"lm one symbol":  {Type: "plat-lm", Plat: Plat{Context: 2}}, // tests leave one out
	"lm one head":    {Type: "plat-lm", Heads: 1, Plat: Plat{P: []float64{3}}},
	"lm eight heads": {Type: "plat-lm", Heads: 8, Plat: Plat{P: []float64{1, 1.5, 2, 2.5, 3, 4, .5, 8}}},
}

func platVariant(name string) Config {
	c := platVariants[name]
	c.Preset, c.Plat.EpsRelative = "tiny", ptr(false)
	if c.Heads == 1 || c.Heads == 8 || len(c.Plat.P) > 0 {
		return c
	}
	c.Plat.P = []float64{1.5, 2.5}
	return c
}

func TestPlatGradients(t *testing.T) {
	for name := range platVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkNetworkGradient(t, platVariant(name), .2)
		})
	}
}

// TestPlatSizes holds the presets to published and counted numbers of parameters.
func TestPlatSizes(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want int
	}{
		{Config{Type: "plat-vit", Preset: "deit-tiny"}, 5_717_416}, // DeiT-tiny
		{Config{Type: "plat-lm"}, 216_802},
		{Config{Type: "plat-lm", Plat: Plat{PLearned: ptr(true), P: []float64{1.5}}}, 216_802 + 4*4},
		{Config{Type: "plat-lm", Plat: Plat{Positions: "rotary"}}, 216_802 - 64*64},
		{Config{Type: "plat-vit"}, (16*64 + 64) + 49*64 + 4*(4*64+64*192+192+64*64+64+2*4*64*64+5*64) + 2*64 + 64*10 + 10},
	} {
		m, err := Build(c.cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Params().Count(); got != c.want {
			t.Errorf("%+v: %d parameters, expected %d", c.cfg, got, c.want)
		}
	}
}

// TestPlatDecay checks that weight decay acts on matrices alone, and that exponents,
// and nothing else, learn at the rate of solvers' coefficients.
func TestPlatDecay(t *testing.T) {
	for _, typ := range []string{"plat-vit", "plat-lm"} {
		m, err := Build(Config{Type: typ, Preset: "tiny", Plat: Plat{PLearned: ptr(true)}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params().All() {
			matrix := strings.HasSuffix(p.Name, ".weight") && !strings.Contains(p.Name, "norm") || p.Name == "table"
			if p.NoDecay == matrix {
				t.Errorf("%s %s: decays %v", typ, p.Name, !p.NoDecay)
			}
			if exponent := strings.HasSuffix(p.Name, ".p"); p.Solver != exponent {
				t.Errorf("%s %s: of a solver %v", typ, p.Name, p.Solver)
			}
			if strings.HasSuffix(p.Name, ".bias") && slices.Max(p.Data) != 0 {
				t.Errorf("%s %s does not start at zero", typ, p.Name)
			}
		}
	}
}

// TestPlatWatched: looking at what lies inside changes no bit of the result, and
// each part is told of once, in order and with its shape.
func TestPlatWatched(t *testing.T) {
	for name := range platVariants {
		m, err := Build(platVariant(name), 3)
		if err != nil {
			t.Fatal(err)
		}
		want := step(t, m, op.NewEnv(1), false)
		e := op.NewEnv(1)
		b := nn.NewBuilder(G.NewGraph(), e, m.Params())
		var seen []string
		var tokens *G.Node
		b.Observe = func(l int, part string, n *G.Node) {
			seen = append(seen, fmt.Sprint(l, part))
			if tokens == nil {
				tokens = n
			}
			s := tokens.Shape().Clone()
			if part == "qkv" {
				s[1] *= 3
			}
			if !n.Shape().Eq(s) {
				t.Errorf("%s: layer %d, %s has shape %v, expected %v", name, l, part, n.Shape(), s)
			}
		}
		out, _ := addLoss(t, b, m)
		var v G.Value
		G.Read(out, &v)
		vm := G.NewTapeMachine(b.Graph)
		if err := vm.RunAll(); err != nil {
			t.Fatal(err)
		}
		vm.Close()
		if !sameBits(want[1:], [][]float32{v.Data().([]float32)}) {
			t.Errorf("%s: observed, the network gives other bits", name)
		}
		expected := []string{"-1tokens"}
		for l := range m.Config().Blocks {
			expected = append(expected, fmt.Sprint(l, "qkv"), fmt.Sprint(l, "attention"), fmt.Sprint(l, "tokens"))
		}
		if !slices.Equal(seen, expected) {
			t.Errorf("%s: watched %v, expected %v", name, seen, expected)
		}
	}
}

// TestPlatExponentTwo: with p = 2 the network is that of softmax attention, here
// written out, whatever eps, and a learned p of 2, which goes the way of distances,
// gives the same to rounding.
func TestPlatExponentTwo(t *testing.T) {
	for _, typ := range []string{"plat-vit", "plat-lm"} {
		build := func(t2 Plat) Model {
			t2.EpsRelative = ptr(false)
			m, err := Build(Config{Type: typ, Preset: "tiny", Plat: t2}, 9)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := build(Plat{P: []float64{2}})
		want := step(t, m, op.NewEnv(1), true)
		for _, variant := range []string{"normalized", "unnormalized", "graph_gradient"} {
			got, want := step(t, build(Plat{P: []float64{2, 2}, Eps: 3, Variant: variant, Diagonal: "neutral"}), op.NewEnv(1), true), want
			if variant == "unnormalized" { // whose backward pass sums in another order
				got, want = got[:2], want[:2]
			}
			if !sameBits(got, want) {
				t.Errorf("%s, %s: p = 2 gives other bits", typ, variant)
			}
		}
		loss, grads := doubleLoss(t, m, nil, true)
		learned := build(Plat{P: []float64{2}, PLearned: ptr(true)})
		values := map[string][]float64{}
		for _, p := range learned.Params().All() {
			if q := m.Params().Get(p.Name); q != nil {
				copy(p.Data, q.Data)
			} else {
				values[p.Name] = []float64{op.RawPositive(2), op.RawPositive(2)} // to more digits than float32
			}
		}
		got, gotGrads := doubleLoss(t, learned, values, true)
		if !(math.Abs(got-loss) <= 1e-12) {
			t.Errorf("%s: loss %.15g with a learned p of 2, %.15g with softmax", typ, got, loss)
		}
		for name, g := range grads {
			for i := range g {
				if !(math.Abs(g[i]-gotGrads[name][i]) <= 1e-11) {
					t.Fatalf("%s: %s[%d] has gradient %g, with softmax %g", typ, name, i, gotGrads[name][i], g[i])
				}
			}
		}

		// Softmax attention of the first layer, from its queries, keys and values.
		b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), m.Params())
		var qkv, attention G.Value
		b.Observe = func(l int, part string, n *G.Node) {
			if l == 0 && part == "qkv" {
				G.Read(n, &qkv)
			}
			if l == 0 && part == "attention" {
				G.Read(n, &attention)
			}
		}
		addLoss(t, b, m)
		vm := G.NewTapeMachine(b.Graph)
		if err := vm.RunAll(); err != nil {
			t.Fatal(err)
		}
		vm.Close()
		checkSoftmax(t, typ, m.Config(), qkv.Data().([]float32), attention.Data().([]float32), attention.Shape()[2], attention.Shape()[3])
	}
}

// checkSoftmax holds attention (1,C,B,n) to the softmax attention of qkv (1,3C,B,n).
func checkSoftmax(t *testing.T, name string, c Config, qkv, attention []float32, batch, n int) {
	t.Helper()
	width, depth := c.Plat.Width, c.Plat.Width/c.Heads
	at := func(part, channel, b, i int) float64 { return float64(qkv[((part*width+channel)*batch+b)*n+i]) }
	for b := range batch {
		for h := range c.Heads {
			for i := range n {
				seen := n
				if c.Kind() == Language {
					seen = i + 1
				}
				w, sum := make([]float64, seen), 0.
				for j := range w {
					for k := h * depth; k < (h+1)*depth; k++ {
						w[j] += at(0, k, b, i) * at(1, k, b, j)
					}
					w[j] = math.Exp(w[j] / math.Sqrt(float64(depth)))
					sum += w[j]
				}
				for k := h * depth; k < (h+1)*depth; k++ {
					want := 0.
					for j, v := range w {
						want += v / sum * at(2, k, b, j)
					}
					if got := float64(attention[(k*batch+b)*n+i]); !(math.Abs(got-want) <= 1e-5*(1+math.Abs(want))) {
						t.Fatalf("%s: channel %d of token %d: %g, softmax attention gives %g", name, k, i, got, want)
					}
				}
			}
		}
	}
}

// predict returns the logits of m for rows of symbols.
func predict(t *testing.T, m Model, rows [][]float32) []float32 {
	t.Helper()
	b := nn.NewBuilder(G.NewGraph(), op.NewInferenceEnv(1), m.Params())
	out, err := m.(LanguageModel).Predict(b, b.Input("s", slices.Concat(rows...), len(rows), len(rows[0])))
	if err != nil {
		t.Fatal(err)
	}
	op.Keep(out)
	var v G.Value
	G.Read(out, &v)
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), v.Data().([]float32)...)
}

// TestPlatLMIsCausal: what follows a symbol, whether other symbols, none or another
// text beside it, changes no bit of the logits up to it; a symbol before does.
func TestPlatLMIsCausal(t *testing.T) {
	const n = 71 // beyond one tile of tokens
	rng := rand.New(rand.NewPCG(5, 5))
	for name, p := range map[string]Plat{
		"softmax": {P: []float64{2}}, "1.5": {P: []float64{1.5}}, "learned": {PLearned: ptr(true)},
		"rotary": {Positions: "rotary", P: []float64{2.5}}, "first": {Fidelity: "first"}, "neutreno": {Fidelity: "neutreno"},
	} {
		p.Context, p.Symbols = n+1, 9
		m, err := Build(Config{Type: "plat-lm", Preset: "tiny", Plat: p}, 2)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]float32, n)
		for i := range text {
			text[i] = float32(rng.IntN(9))
		}
		whole := predict(t, m, [][]float32{text})
		for _, cut := range []int{1, 2, 40, 64, 65, 70} {
			other := slices.Clone(text)
			for i := cut; i < n; i++ {
				other[i] = float32(int(other[i]+1) % 9)
			}
			changed := predict(t, m, [][]float32{other, text})
			short := predict(t, m, [][]float32{text[:cut]})
			for k := range 9 {
				for i := range cut {
					if v := whole[k*n+i]; v != changed[2*k*n+i] || v != changed[(2*k+1)*n+i] || v != short[k*cut+i] {
						t.Fatalf("%s: logit %d of symbol %d is %g, after %d other symbols follow %g, alone %g", name, k, i, v, n-cut, changed[2*k*n+i], short[k*cut+i])
					}
				}
			}
		}
		text[0] = float32(int(text[0]+1) % 9)
		before, same := predict(t, m, [][]float32{text}), true
		for k := range 9 {
			same = same && before[k*n+n-1] == whole[k*n+n-1]
		}
		if same {
			t.Errorf("%s: the last logits do not depend on the first symbol", name)
		}
	}
}

func TestExponents(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want []float64
	}{
		{Config{Type: "plat-lm", Plat: Plat{P: []float64{1.5, 2.5}}}, []float64{1.5, 2.5}},
		{Config{Type: "plat-vit", Plat: Plat{P: []float64{3}}}, []float64{3, 3}},
		{Config{Type: "plat-lm", Plat: Plat{P: []float64{1.25, 4}, PLearned: ptr(true)}}, []float64{1.25, 4}},
		{Config{Type: "uglr"}, nil},
	} {
		c.cfg.Preset = "tiny"
		m, err := Build(c.cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := Exponents(m)
		if c.want == nil && got == nil {
			continue
		}
		if len(got) != m.Config().Blocks {
			t.Fatalf("%d layers, expected %d", len(got), m.Config().Blocks)
		}
		for _, p := range got {
			for h := range p {
				if !(math.Abs(p[h]-c.want[h]) <= 1e-6*c.want[h]) {
					t.Errorf("%v, expected %v", p, c.want)
				}
			}
		}
	}
	// What is learned shows.
	m, err := Build(Config{Type: "plat-lm", Preset: "tiny", Plat: Plat{PLearned: ptr(true)}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	m.Params().Get("layer1.p").Data[0] = -50
	if p := Exponents(m); !(p[1][0] > 0 && p[1][0] < 1e-20) || p[0][0] < 1 {
		t.Errorf("exponents %v", p)
	}
}

func TestPlatConfigErrorsNameTheKey(t *testing.T) {
	nan := math.NaN()
	for key, cfgs := range map[string][]Config{
		"model.plat.width":     {{Heads: 3}, {Plat: Plat{Width: -8}}, {Plat: Plat{Width: 5000}}, {Plat: Plat{Width: 66}}},
		"model.plat.mlp":       {{Plat: Plat{MLP: -1}}, {Plat: Plat{MLP: nan}}, {Plat: Plat{MLP: 1e-4}}},
		"model.plat.p":         {{Plat: Plat{P: []float64{0}}}, {Plat: Plat{P: []float64{-1}}}, {Plat: Plat{P: []float64{nan}}}, {Plat: Plat{P: []float64{2, 2}}}, {Plat: Plat{P: []float64{9}}}},
		"model.plat.eps":       {{Plat: Plat{Eps: -.1}}, {Plat: Plat{Eps: nan}}, {Plat: Plat{Eps: -.1, P: []float64{1.5}}}},
		"model.plat.variant":   {{Plat: Plat{Variant: "softmax"}}},
		"model.plat.diagonal":  {{Plat: Plat{Diagonal: "zero"}}},
		"model.plat.fidelity":  {{Plat: Plat{Fidelity: "last"}}, {Plat: Plat{Fidelity: "first", Variant: "unnormalized"}}},
		"model.plat.mu":        {{Plat: Plat{Mu: .1}}, {Plat: Plat{Fidelity: "values", Mu: -1}}},
		"model.plat.positions": {{Plat: Plat{Positions: "none"}}, {Heads: 2, Plat: Plat{Width: 6, Positions: "rotary"}}},
		"model.heads":          {{Heads: -1}, {Heads: 65}},
		"model.blocks":         {{Blocks: -1}},
		"model.window":         {{Window: 5}},
		"model.swin.embed":     {{Swin: Swin{Embed: 6}}},
	} {
		for _, typ := range []string{"plat-vit", "plat-lm"} {
			for _, cfg := range cfgs {
				cfg.Type = typ
				if _, err := Build(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
					t.Errorf("%s, %s: error %v", typ, key, err)
				}
			}
		}
	}
	for key, cfgs := range map[string][]Config{
		"model.plat.image":   {{Plat: Plat{Image: []int{28}}}, {Plat: Plat{Image: []int{0, 28}}}, {Plat: Plat{Image: []int{28, 1 << 20}}}},
		"model.plat.patch":   {{Plat: Plat{Patch: []int{5, 4}}}, {Plat: Plat{Patch: []int{4, -4}}}, {Plat: Plat{Patch: []int{4, 4, 4}}}, {Plat: Plat{Image: []int{4096, 4096}, Patch: []int{1, 1}}}},
		"model.plat.pool":    {{Plat: Plat{Pool: "max"}}},
		"model.plat.classes": {{Plat: Plat{Classes: 1}}, {Plat: Plat{Classes: 1 << 20}}},
		"model.channels":     {{Channels: 2}},
		"model.plat.context": {{Plat: Plat{Context: 8}}},
		"model.plat.symbols": {{Plat: Plat{Symbols: 8}}},
	} {
		for _, cfg := range cfgs {
			cfg.Type = "plat-vit"
			if _, err := Build(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
				t.Errorf("plat-vit, %s: error %v", key, err)
			}
		}
	}
	for key, cfg := range map[string]Config{
		"model.plat.context": {Plat: Plat{Context: 1 << 20}},
		"model.plat.symbols": {Plat: Plat{Symbols: 1}},
		"model.plat.image":   {Plat: Plat{Image: []int{8, 8}}},
		"model.channels":     {Channels: 3},
	} {
		cfg.Type = "plat-lm"
		if _, err := Build(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("plat-lm, %s: error %v", key, err)
		}
	}
	if _, err := New(Config{Type: "plat-lm"}, 1); err == nil || !strings.Contains(err.Error(), "expected one that restores images") {
		t.Errorf("a language model as restoring network: error %v", err)
	}
}

// TestPlatInputErrors: inputs of other sizes are errors that name both.
func TestPlatInputErrors(t *testing.T) {
	vit, err := Build(Config{Type: "plat-vit", Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	lm, err := Build(Config{Type: "plat-lm", Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range [][]int{{2, 1, 8, 6}, {2, 3, 6, 8}, {1, 6, 8}} {
		b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), vit.Params())
		n := 1
		for _, d := range shape {
			n *= d
		}
		if _, err := vit.(Classifier).Classify(b, b.Input("x", make([]float32, n), shape...)); err == nil || !strings.Contains(err.Error(), "expected (B,1,6,8)") {
			t.Errorf("images %v: error %v", shape, err)
		}
	}
	b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), lm.Params())
	if _, err := lm.(LanguageModel).Predict(b, b.Input("s", make([]float32, 16), 2, 8)); err == nil || !strings.Contains(err.Error(), "model.plat.context, 7") {
		t.Errorf("8 symbols: error %v", err)
	}
}

// TestPlatLoadRefuses: a file that describes a network it does not hold, or one of
// absurd size, is an error before any memory is taken for it.
func TestPlatLoadRefuses(t *testing.T) {
	m, err := Build(Config{Type: "plat-lm", Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"type":"plat-lm","blocks":64,"heads":1,"plat":{"width":4096}}`:                 "parameters",
		`{"type":"plat-lm","plat":{"symbols":131072,"width":4096}}`:                      "parameters",
		`{"type":"plat-vit","plat":{"image":[4096,4096],"patch":[16,16],"width":4096}}`:  "parameters",
		`{"type":"plat-vit","plat":{"image":[4096,4096],"patch":[4096,4096],"width":4}}`: "parameters",
		`{"type":"plat-vit","plat":{"image":[9223372036854775807,2],"patch":[1,1]}}`:     "model.plat.image",
		`{"type":"plat-vit","plat":{"image":[4,4],"patch":[-4611686018427387904,4]}}`:    "model.plat.patch",
		`{"type":"plat-lm","preset":"tiny","plat":{"p":[1e999]}}`:                        MetaModel,
		`{"type":"plat-lm","preset":"tiny","plat":{"context":8}}`:                        "positions",
		`{"type":"plat-lm","preset":"tiny","plat":{"p_learned":true}}`:                   "layer0.p",
		`{"type":"plat-lm","preset":"tiny","plat":{"positions":"rotary"}}`:               "not part",
		`{"type":"plat-lm","preset":"tiny","plat":{"depth":3}}`:                          "unknown field",
		`{"type":"plat-lm","preset":"tiny","channels":3}`:                                "model.channels",
		`{"type":"plat-vit","preset":"tiny","plat":{"pool":"mean"}}`:                     "missing",
	} {
		f := Save(m, "{}", nil)
		f.Name, f.Metadata[MetaModel] = "w.safetensors", text
		if _, err := LoadModel(f); err == nil || !strings.HasPrefix(err.Error(), "w.safetensors: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, expected one that names the file and %q", text, err, want)
		}
	}
	f := Save(m, "{}", nil)
	f.Name = "w.safetensors"
	if _, err := Load(f); err == nil || !strings.Contains(err.Error(), "expected one that restores images") {
		t.Errorf("loaded as a restoring network: error %v", err)
	}
}
