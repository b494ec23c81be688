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

// variants are tiny networks that between them use every option.
var variants = map[string]Config{
	"default":         {Preset: "tiny"},
	"one channel":     {Preset: "tiny", Channels: 1},
	"paper":           {Preset: "paper", Blocks: 2, Heads: 2, FeatureDim: 3, CGLayers: 2, CGSteps: 3, Features: Features{Layers: 2, Channels: 6}},
	"random walk":     {Preset: "tiny", Normalization: "random_walk", DistanceLimit: "hard"},
	"carry":           {Preset: "tiny", Features: Features{Carry: ptr(true)}},
	"average":         {Preset: "tiny", Mixing: "average", BlockSkip: ptr(true)},
	"full resolution": {Preset: "tiny", Features: Features{Pack: 1, Layers: 3, Skip: "none", Detail: ptr(0), PixelGain: ptr(0.)}},
	"small window":    {Preset: "tiny", Window: 3, Color: "independent", Slope: ptr(false), MaskInput: ptr(false)},
	"offsets":         {Preset: "tiny", Offsets: []Offset{{0, 1}, {1, 0}, {3, -2}, {-1, 0}}, Consistency: "none"},
}

// network runs the network n in float64 on a fixed odd-sized image; with values,
// those replace the parameters.
func network(t *testing.T, n Network, values map[string][]float64, grads bool) (loss float64, d map[string][]float64) {
	t.Helper()
	const batch, h, w = 2, 7, 9
	c := n.Channels()
	g := G.NewGraph()
	b := nn.NewDoubleBuilder(g, op.NewEnv(1), n.Params())
	for k, v := range values {
		copy(b.Double[k], v)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	size := batch * c * h * w
	x, y, m := make([]float64, size), make([]float64, size), make([]float64, size)
	for i := range x {
		x[i] = rng.Float64()
		if rng.IntN(3) == 0 {
			y[i], m[i] = x[i], 1
		}
	}
	out, err := n.Forward(b, b.Input("y", y, batch, c, h, w), b.Input("mask", m, batch, c, h, w))
	if err != nil {
		t.Fatal(err)
	}
	cost, err := op.L2Loss(b.Env, out, b.Input("target", x, batch, c, h, w))
	if err != nil {
		t.Fatal(err)
	}
	var costValue G.Value
	G.Read(cost, &costValue)
	nodes, params := b.Learnables()
	var gs G.Nodes
	if grads {
		if gs, err = G.Grad(cost, nodes...); err != nil {
			t.Fatal(err)
		}
	}
	vs := make([]G.Value, len(gs))
	for i := range gs {
		G.Read(gs[i], &vs[i])
	}
	vm := G.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	d = map[string][]float64{}
	for i, v := range vs {
		d[params[i].Name] = append([]float64(nil), v.Data().([]float64)...)
	}
	return costValue.Data().(float64), d
}

// TestVariantGradients holds every option's whole network to central
// differences, two elements of every parameter.
func TestVariantGradients(t *testing.T) {
	for name, cfg := range variants {
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
					v[i] = float64(x) + .02*rng.NormFloat64() // away from the symmetric start
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
					if math.Abs(g[i]-want) > 1e-8+1e-5*math.Abs(want) {
						t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", p.Name, i, g[i], want)
					}
				}
			}
		})
	}
}

// TestVariantsSurviveTheirFile writes and reads every variant: same bytes for the
// same network, same parameters and configuration back.
func TestVariantsSurviveTheirFile(t *testing.T) {
	for name, cfg := range variants {
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

// TestLoadRefuses checks that files that do not fit their own description are
// errors that say what is wrong.
func TestLoadRefuses(t *testing.T) {
	n, err := New(Config{Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		damage     func(f *checkpoint.File)
	}{
		{"no metadata", "no \"unrollnet.model\"", func(f *checkpoint.File) { delete(f.Metadata, MetaModel) }},
		{"other format", "found \"2\"", func(f *checkpoint.File) { f.Metadata[MetaFormat] = "2" }},
		{"bad json", MetaModel, func(f *checkpoint.File) { f.Metadata[MetaModel] = "{" }},
		{"unknown key", "unknown field", func(f *checkpoint.File) { f.Metadata[MetaModel] = `{"depth":3}` }},
		{"bad key", "model.heads", func(f *checkpoint.File) {
			f.Metadata[MetaModel] = strings.Replace(f.Metadata[MetaModel], `"heads":2`, `"heads":-2`, 1)
		}},
		{"huge", "parameters", func(f *checkpoint.File) {
			f.Metadata[MetaModel] = `{"blocks":64,"features":{"channels":1024,"layers":16}}`
		}},
		{"missing tensor", "missing", func(f *checkpoint.File) { f.Tensors = f.Tensors[1:] }},
		{"extra tensor", "not part", func(f *checkpoint.File) { f.Add("extra", []int{1}, []float32{1}) }},
		{"shape", "expected", func(f *checkpoint.File) { f.Tensors[0].Shape = append([]int{1}, f.Tensors[0].Shape...) }},
		{"NaN", "block0", func(f *checkpoint.File) {
			d := append([]float32(nil), f.Tensors[0].Data...)
			d[0] = float32(math.NaN())
			f.Tensors[0].Data = d
		}},
	} {
		f := Save(n, "{}", nil)
		f.Name = "w.safetensors"
		c.damage(f)
		_, err := Load(f)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "w.safetensors") {
			t.Errorf("%s: error %v, expected one that names the file and %q", c.name, err, c.want)
		}
	}
}

// TestSameSeedSameNetwork checks initialisation, and the size promised for the
// embedded networks.
func TestSameSeedSameNetwork(t *testing.T) {
	a, _ := New(Config{}, 3)
	b, _ := New(Config{}, 3)
	c, _ := New(Config{}, 4)
	differs := false
	for i, p := range a.Params().All() {
		for j, v := range p.Data {
			if v != b.Params().All()[i].Data[j] {
				t.Fatalf("%s differs for the same seed", p.Name)
			}
			differs = differs || v != c.Params().All()[i].Data[j]
		}
	}
	if !differs {
		t.Error("another seed gives the same network")
	}
	if n := a.Params().Count(); n > 330000 {
		t.Errorf("the default network has %d parameters, expected at most 330,000", n)
	}
}

// TestConfigErrorsNameTheKey feeds a bad value for each key.
func TestConfigErrorsNameTheKey(t *testing.T) {
	for key, cfg := range map[string]Config{
		"model.type":                {Type: "unet"},
		"model.preset":              {Preset: "large"},
		"model.channels":            {Channels: 2},
		"model.blocks":              {Blocks: -1},
		"model.heads":               {Heads: 65},
		"model.feature_dim":         {FeatureDim: 1000},
		"model.window":              {Window: 4},
		"model.offsets":             {Offsets: []Offset{{0, 0}}},
		"model.features.layers":     {Features: Features{Layers: 99}},
		"model.features.pack":       {Features: Features{Pack: 3}},
		"model.features.skip":       {Features: Features{Skip: "dense"}},
		"model.features.detail":     {Features: Features{Detail: ptr(-1)}},
		"model.features.pixel_gain": {Features: Features{PixelGain: ptr(math.NaN())}},
		"model.cg_steps":            {CGSteps: 1000},
		"model.cg_layers":           {CGLayers: -3},
		"model.normalization":       {Normalization: "softmax"},
		"model.distance_clip":       {DistanceClip: 100},
		"model.distance_limit":      {DistanceLimit: "none"},
		"model.color":               {Color: "rgb"},
		"model.mixing":              {Mixing: "max"},
		"model.consistency":         {Consistency: "soft"},
		"model.features.channels":   {Features: Features{Channels: 5000}},
	} {
		if _, err := New(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: error %v", key, err)
		}
	}
}
