package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// swinNet is a conventional transformer for the tasks of the graph networks: the
// residual groups of Swin layers of Liang, Cao, Sun, Zhang, Van Gool and Timofte,
// "SwinIR: Image Restoration Using Swin Transformer" (ICCVW 2021), on tokens of
// 2x2 pixels. It knows neither graph nor solver.
//
//	x0  initial interpolation of the samples
//	f0  = conv3x3(pack(x0, mask))                     embed maps of half the height and width
//	f_t = f_{t-1} + conv3x3(layers(f_{t-1}))          group t of blocks
//	x   = x0 + unpack(conv3x3(f0 + conv3x3(norm(f))))
//
// and samples put back, if consistency is hard. A layer is
//
//	f <- f + proj(attention(qkv(norm(f))))            windows, in every second layer shifted by half of one
//	f <- f + fc2(gelu(fc1(norm(f))))
//
// A group is a block: it hands its maps to the next as state and x0 on as the
// estimate, which the last replaces.
type swinNet struct {
	cfg    Config
	params *nn.Params
}

var swinArchitecture = architecture{
	kind: Restore,
	presets: map[string]Config{
		"default": swinPreset(3, 6, Swin{Embed: 48, Layers: 4, Window: 8, MLP: 1.75}),
		"base":    swinPreset(4, 6, Swin{Embed: 60, Layers: 6, Window: 8, MLP: 2}),
		"tiny":    swinPreset(2, 2, Swin{Embed: 8, Layers: 2, Window: 4, MLP: 2}),
	},
	uses: func(key string) bool {
		switch key {
		case "swin.embed", "swin.layers", "swin.window", "swin.mlp":
			return true
		}
		return false
	},
	check: checkSwin,
	build: newSwin,
}

func swinPreset(groups, heads int, s Swin) Config {
	return Config{Channels: 3, Blocks: groups, Heads: heads, MaskInput: ptr(true), Consistency: "hard", Swin: s}
}

func checkSwin(c Config) error {
	s := c.Swin
	switch {
	case s.Embed%c.Heads != 0:
		return fmt.Errorf("model.swin.embed: found %d, expected a multiple of the %d heads", s.Embed, c.Heads)
	case s.Window%2 != 0:
		return fmt.Errorf("model.swin.window: found %d, expected an even number", s.Window)
	case c.hidden() < 1:
		return fmt.Errorf("model.swin.mlp: found %g, expected at least one hidden channel for each of %d", s.MLP, s.Embed)
	}
	return nil
}

// hidden returns the channels between the two layers of an MLP.
func (c Config) hidden() int { return int(math.Round(c.Swin.MLP * float64(c.Swin.Embed))) }

// swinPack is the side of the block of pixels that is one token.
const swinPack = 2

func newSwin(cfg Config, seed uint64) (Model, error) {
	n := &swinNet{cfg: cfg, params: nn.NewParams()}
	rng := rand.New(rand.NewPCG(seed, 0x7377696e)) // "swin"
	p, s := n.params, cfg.Swin
	zero, one := nn.Constant(0), nn.Constant(1)
	free := func(name string, init func(int) float32, shape ...int) { p.Add(name, init, shape...).NoDecay = true }
	norm := func(name string) {
		free(name+".weight", one, s.Embed)
		free(name+".bias", zero, s.Embed)
	}
	linear := func(name string, in, out int) {
		p.Add(name+".weight", truncatedNormal(rng, .02), out, in, 1, 1)
		free(name+".bias", zero, out)
	}
	conv := func(name string, in, out int) {
		bound := 1 / math.Sqrt(float64(9*in))
		p.Add(name+".weight", nn.Uniform(rng, bound), out, in, 3, 3)
		free(name+".bias", nn.Uniform(rng, bound), out)
	}
	conv("shallow", n.seen()*swinPack*swinPack, s.Embed)
	for t := range cfg.Blocks {
		for l := range s.Layers {
			layer := fmt.Sprintf("block%d.layer%d.", t, l)
			norm(layer + "norm1")
			linear(layer+"qkv", s.Embed, 3*s.Embed)
			free(layer+"position", truncatedNormal(rng, .02), cfg.Heads, (2*s.Window-1)*(2*s.Window-1))
			linear(layer+"proj", s.Embed, s.Embed)
			norm(layer + "norm2")
			linear(layer+"fc1", s.Embed, cfg.hidden())
			linear(layer+"fc2", cfg.hidden(), s.Embed)
		}
		conv(fmt.Sprintf("block%d.conv", t), s.Embed, s.Embed)
	}
	norm("norm")
	conv("conv", s.Embed, s.Embed)
	// Small: training starts at about x0.
	p.Add("output.weight", truncatedNormal(rng, .001), cfg.Channels*swinPack*swinPack, s.Embed, 3, 3)
	free("output.bias", zero, cfg.Channels*swinPack*swinPack)
	return n, nil
}

// truncatedNormal is an initialiser that draws from the normal distribution of
// deviation std, numbers beyond two deviations drawn again.
func truncatedNormal(rng *rand.Rand, std float64) func(int) float32 {
	return func(int) float32 {
		for {
			if v := rng.NormFloat64(); math.Abs(v) <= 2 {
				return float32(v * std)
			}
		}
	}
}

func (n *swinNet) Config() Config     { return n.cfg }
func (n *swinNet) Params() *nn.Params { return n.params }
func (n *swinNet) Channels() int      { return n.cfg.Channels }
func (n *swinNet) Blocks() int        { return n.cfg.Blocks }

// Align returns the pixels of a window: attention sees the same windows in a tile
// as in the image.
func (n *swinNet) Align() int { return swinPack * n.cfg.Swin.Window }

func (n *swinNet) State(t int) (channels, factor int) {
	if t < 0 || t >= n.cfg.Blocks-1 {
		return 0, 1
	}
	return n.cfg.Swin.Embed, swinPack
}

// Reach follows a token back through the group: one token for a 3x3 convolution;
// to the far end of a window for the last layer; then, as windows of successive
// layers overlap by half, half a window for each layer before.
func (n *swinNet) Reach(t int) int {
	s := n.cfg.Swin
	tokens := 1 + s.Window - 1 + (s.Layers-1)*s.Window/2
	if t == 0 {
		tokens++ // shallow
	}
	if t == n.cfg.Blocks-1 {
		tokens += 2 // conv, output
	}
	return swinPack*tokens + swinPack - 1
}

// seen returns the channels of a pixel the network sees: estimate and mask.
func (n *swinNet) seen() int {
	if *n.cfg.MaskInput {
		return 2 * n.cfg.Channels
	}
	return n.cfg.Channels
}

func (n *swinNet) Forward(b *nn.Builder, y, mask *G.Node) (*G.Node, error) {
	x, err := op.Initial(b.Env, y, mask)
	if err != nil {
		return nil, err
	}
	shallow, err := n.shallow(b, x, mask)
	if err != nil {
		return nil, err
	}
	f := shallow
	for t := range n.cfg.Blocks {
		if f, err = n.group(b, t, f); err != nil {
			return nil, err
		}
	}
	return n.reconstruct(b, x, y, mask, f, shallow)
}

func (n *swinNet) Block(b *nn.Builder, t int, x, y, mask, state *G.Node) (next, nextState *G.Node, err error) {
	first, last := t == 0, t == n.cfg.Blocks-1
	var shallow *G.Node
	if first || last {
		if shallow, err = n.shallow(b, x, mask); err != nil {
			return nil, nil, err
		}
	}
	f := state
	if first {
		f = shallow
	}
	if f, err = n.group(b, t, f); err != nil {
		return nil, nil, err
	}
	if !last {
		return x, f, nil
	}
	next, err = n.reconstruct(b, x, y, mask, f, shallow)
	return next, nil, err
}

// shallow adds the first convolution: x0 and the mask (B,C,H,W) to tokens
// (B,embed,H/2,W/2).
func (n *swinNet) shallow(b *nn.Builder, x, mask *G.Node) (*G.Node, error) {
	images, constants := []*G.Node{x}, 0
	if *n.cfg.MaskInput {
		images, constants = append(images, mask), 1
	}
	f, err := op.Pack(b.Env, swinPack, images, constants)
	if err != nil {
		return nil, err
	}
	return op.Conv(b.Env, f, b.Param("shallow.weight"), b.Param("shallow.bias"), 1, false)
}

// group adds residual group t.
func (n *swinNet) group(b *nn.Builder, t int, f *G.Node) (*G.Node, error) {
	s, e, h := n.cfg.Swin, b.Env, f
	for l := range s.Layers {
		layer := fmt.Sprintf("block%d.layer%d.", t, l)
		norm := func(name string) op.Step {
			return op.NormStep(b.Param(layer+name+".weight"), b.Param(layer+name+".bias"))
		}
		linear := func(name string) op.Step {
			return op.ConvStep(b.Param(layer+name+".weight"), b.Param(layer+name+".bias"))
		}
		var err error
		h, err = op.Residual(e, h, norm("norm1"), linear("qkv"),
			op.AttentionStep(b.Param(layer+"position"), s.Window, l%2*s.Window/2), linear("proj"))
		if err == nil {
			h, err = op.Residual(e, h, norm("norm2"), linear("fc1"), op.GeluStep(), linear("fc2"))
		}
		if err != nil {
			return nil, fmt.Errorf("block %d, layer %d: %w", t, l, err)
		}
	}
	name := fmt.Sprintf("block%d.conv", t)
	h, err := op.Conv(e, h, b.Param(name+".weight"), b.Param(name+".bias"), 1, false)
	if err == nil {
		h, err = op.Sum(e, h, f)
	}
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", t, err)
	}
	return h, nil
}

// reconstruct adds what turns tokens back into the image x.
func (n *swinNet) reconstruct(b *nn.Builder, x, y, mask, f, shallow *G.Node) (*G.Node, error) {
	e := b.Env
	f, err := op.LayerNorm(e, f, b.Param("norm.weight"), b.Param("norm.bias"))
	if err == nil {
		f, err = op.Conv(e, f, b.Param("conv.weight"), b.Param("conv.bias"), 1, false)
	}
	if err == nil {
		f, err = op.Sum(e, f, shallow)
	}
	if err == nil {
		f, err = op.Conv(e, f, b.Param("output.weight"), b.Param("output.bias"), 1, false)
	}
	if err == nil {
		f, err = op.Unpack(e, swinPack, f, 0, n.cfg.Channels, x.Shape()[2], x.Shape()[3])
	}
	if err == nil {
		f, err = op.Sum(e, f, x)
	}
	if err == nil && n.cfg.Consistency == "hard" {
		f, err = op.Project(e, f, y, mask)
	}
	if err != nil {
		return nil, err
	}
	b.Watch(n.cfg.Blocks-1, "estimate", f)
	return f, nil
}
