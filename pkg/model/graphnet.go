package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// graphNet is what uglr, ugtv and ugpl have in common. Every block learns its
// graphs anew from the estimate so far and low-passes it on them:
//
//	features    f  = CNN(x, mask)                        (heads*D maps)
//	edges       w_ij = exp(-|A_h'(f_i - f_j)|^2)         24 neighbours, normalised: self-attention
//	low-pass    z_h = filter(x, y, graph h)              by which the architectures differ
//	mix         x  = sum over heads of c_h z_h
type graphNet struct {
	cfg     Config
	params  *nn.Params
	forward []Offset
	norm    graph.Normalization
	filter  filter
}

// graphKeys are the keys of Config that all of them have.
var graphKeys = map[string]bool{
	"feature_dim": true, "window": true, "offsets": true,
	"features.layers": true, "features.channels": true, "features.skip": true, "features.pack": true,
	"features.carry": true, "features.detail": true, "features.pixel_gain": true,
	"cg_layers": true, "cg_steps": true, "normalization": true, "distance_clip": true, "distance_limit": true,
	"color": true, "slope": true, "block_skip": true, "mixing": true,
}

// tiny returns c made small enough for tests.
func tiny(c Config) Config {
	c.Blocks, c.FeatureDim, c.CGSteps = 2, 4, 4
	c.Features.Layers, c.Features.Channels, c.Features.Detail = 2, 8, ptr(4)
	return c
}

// filter is the low-pass step of a block: a few unrolled iterations of a solver.
type filter interface {
	// params adds the learned coefficients of block t, of which c.Heads graphs
	// are filtered, by calling add.
	params(c Config, add func(part string, init func(int) float32, shape ...int))
	// apply adds the filter of block t: from the estimate x, samples y and mask
	// (B,C,H,W) and the graphs omega (B,heads,planes,PlaneLen) of grid to one
	// solution a head, (B,heads,C,H,W). param returns the node of a coefficient
	// that params has added.
	apply(n *graphNet, b *nn.Builder, grid *graph.Grid, x, y, mask, omega *G.Node, param func(part string) *G.Node) (*G.Node, error)
	// reach returns how many pixels away a solution depends on the signal and on
	// the edge weights.
	reach(c Config) int
}

func newGraphNet(cfg Config, seed uint64, f filter) (Network, error) {
	norm, err := graph.ParseNormalization(cfg.Normalization)
	if err != nil {
		return nil, fmt.Errorf("model.%w", err)
	}
	n := &graphNet{cfg: cfg, params: nn.NewParams(), forward: cfg.forwardOffsets(), norm: norm, filter: f}
	rng := rand.New(rand.NewPCG(seed, 0x75474c52)) // "uGLR"
	for t := range cfg.Blocks {
		n.addBlock(t, rng)
	}
	return n, nil
}

// name returns the name of a parameter of block t.
func name(t int, part string) string { return fmt.Sprintf("block%d.%s", t, part) }

// addBlock creates the parameters of block t.
func (n *graphNet) addBlock(t int, rng *rand.Rand) {
	c, p := n.cfg, n.params
	// One of a few scalars that steer a whole block.
	coefficient := func(part string, init func(int) float32, shape ...int) {
		q := p.Add(name(t, part), init, shape...)
		q.NoDecay, q.Solver = true, true
	}
	conv := func(part string, in, out, size int) {
		bound := 1 / math.Sqrt(float64(in*size*size))
		p.Add(name(t, part+".weight"), nn.Uniform(rng, bound), out, in, size, size)
		p.Add(name(t, part+".bias"), nn.Uniform(rng, bound), out).NoDecay = true
	}
	in := n.inputs(t)
	for l := range c.Features.Layers {
		conv(fmt.Sprintf("conv%d", l), in, c.Features.Channels, 3)
		in = c.Features.Channels
	}
	if c.Features.Skip == "scaled" && c.Features.Layers > 1 {
		coefficient("skip", nn.Constant(.5), c.Features.Layers-1, 2)
	}
	if n.projects() {
		conv("project", in, n.maps()*c.Features.Pack*c.Features.Pack, 1)
	}
	dims := c.Heads * c.FeatureDim
	if d := *c.Features.Detail; d > 0 {
		conv("detail0", n.seen(), d, 3)
		p.Add(name(t, "detail1.weight"), nn.Constant(0), dims, d, 3, 3) // starts without effect
		p.Add(name(t, "detail1.bias"), nn.Constant(0), dims).NoDecay = true
	}
	if gain := *c.Features.PixelGain; gain > 0 {
		std := gain / math.Sqrt(float64(c.FeatureDim))
		p.Add(name(t, "pixel.weight"), func(int) float32 { return float32(rng.NormFloat64() * std) }, dims, c.Channels, 1, 1)
		if n.projects() {
			// Edges begin as colour differences: the CNN starts small beside them.
			k := dims * c.Features.Pack * c.Features.Pack
			w, b := p.Get(name(t, "project.weight")), p.Get(name(t, "project.bias"))
			for i := range w.Data[:k*in] {
				w.Data[i] *= .3
			}
			clear(b.Data[:k])
		}
	}
	// M = A A' = 1.5 I at the start.
	p.Add(name(t, "metric"), func(i int) float32 {
		if i/c.FeatureDim%c.FeatureDim == i%c.FeatureDim {
			return float32(math.Sqrt(1.5))
		}
		return 0
	}, c.Heads, c.FeatureDim, c.FeatureDim).NoDecay = true
	n.filter.params(c, coefficient)
	if c.Mixing == "average" {
		coefficient("mix", nn.Constant(1/float32(c.Heads)), c.Heads)
	}
	if *c.BlockSkip {
		coefficient("block_skip", nn.Constant(.95), 1)
	}
}

// inputs returns the channels the CNN of block t sees.
func (n *graphNet) inputs(t int) int {
	in := n.seen() * n.cfg.Features.Pack * n.cfg.Features.Pack
	if t > 0 {
		s, _ := n.State(t - 1)
		in += s
	}
	return in
}

// seen returns the channels of a pixel a CNN sees: estimate and mask.
func (n *graphNet) seen() int {
	if *n.cfg.MaskInput {
		return 2 * n.cfg.Channels
	}
	return n.cfg.Channels
}

// maps returns the feature maps a block needs at full resolution: D for each
// head, and the scores of per-pixel mixing.
func (n *graphNet) maps() int {
	m := n.cfg.Heads * n.cfg.FeatureDim
	if n.cfg.Mixing == "pixel" {
		m += n.cfg.Heads
	}
	return m
}

// projects says whether a 1x1 convolution makes the maps; the paper's CNN ends
// in them.
func (n *graphNet) projects() bool {
	return n.cfg.Features.Pack > 1 || n.cfg.Features.Channels != n.maps() || n.cfg.Mixing == "pixel"
}

func (n *graphNet) Config() Config     { return n.cfg }
func (n *graphNet) Params() *nn.Params { return n.params }
func (n *graphNet) Channels() int      { return n.cfg.Channels }
func (n *graphNet) Blocks() int        { return n.cfg.Blocks }
func (n *graphNet) Align() int         { return n.cfg.Features.Pack }

func (n *graphNet) State(t int) (channels, factor int) {
	if !*n.cfg.Features.Carry || t < 0 || t >= n.cfg.Blocks-1 {
		return 0, 1
	}
	return n.cfg.Features.Channels, n.cfg.Features.Pack
}

// Reach adds up what one pixel of a block's output depends on: the filter; the
// weights there, which know their neighbours' neighbours; the CNN.
func (n *graphNet) Reach(int) int {
	c := n.cfg
	cnn := (c.Features.Layers + 1) * c.Features.Pack
	if *c.Features.Detail > 0 {
		cnn = max(cnn, 2)
	}
	return n.filter.reach(c) + 2*c.radius() + cnn
}

func (n *graphNet) Forward(b *nn.Builder, y, mask *G.Node) (*G.Node, error) {
	x, err := op.Initial(b.Env, y, mask)
	if err != nil {
		return nil, err
	}
	var state *G.Node
	for t := range n.cfg.Blocks {
		if x, state, err = n.Block(b, t, x, y, mask, state); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (n *graphNet) Block(b *nn.Builder, t int, x, y, mask, state *G.Node) (next, nextState *G.Node, err error) {
	c, e := n.cfg, b.Env
	h, w := x.Shape()[2], x.Shape()[3]
	param := func(part string) *G.Node { return b.Param(name(t, part)) }

	features, scores, hidden, err := n.features(b, t, x, mask, state)
	if err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", t, err)
	}
	grid := graph.NewGrid(h, w, n.forward)
	omega, err := op.EdgeWeights(e, grid, n.norm, graph.Limit{Clip: c.DistanceClip, Soft: c.DistanceLimit == "soft"}, features, param("metric"))
	if err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", t, err)
	}

	z, err := n.filter.apply(n, b, grid, x, y, mask, omega, param)
	if err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", t, err)
	}
	b.Watch(t, "graph", omega)
	b.Watch(t, "solutions", z)

	if c.Mixing == "pixel" {
		next, err = op.MixPixels(e, z, scores)
	} else {
		next, err = op.MixHeads(e, z, param("mix"))
	}
	if err == nil && c.Consistency == "hard" {
		next, err = op.Project(e, next, y, mask)
	}
	if err == nil && *c.BlockSkip {
		next, err = op.Blend(e, next, x, param("block_skip"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", t, err)
	}
	b.Watch(t, "estimate", next)
	if scores != nil {
		b.Watch(t, "scores", scores)
	}
	if s, _ := n.State(t); s > 0 {
		nextState = hidden
	}
	return next, nextState, nil
}

// features adds the CNN of block t: its maps (B,heads*D,H,W), the scores
// (B,heads,H,W) of per-pixel mixing, and its last hidden maps.
func (n *graphNet) features(b *nn.Builder, t int, x, mask, state *G.Node) (maps, scores, hidden *G.Node, err error) {
	c, e := n.cfg, b.Env
	H, W := x.Shape()[2], x.Shape()[3]
	param := func(part string) *G.Node { return b.Param(name(t, part)) }

	images, constants, states := []*G.Node{x}, 0, []*G.Node(nil)
	if *c.MaskInput {
		images, constants = append(images, mask), 1
	}
	if state != nil {
		states = append(states, state)
	}
	h := x
	if len(images) > 1 || len(states) > 0 || c.Features.Pack > 1 {
		if h, err = op.Pack(e, c.Features.Pack, images, constants, states...); err != nil {
			return nil, nil, nil, err
		}
	}
	for l := range c.Features.Layers {
		part := fmt.Sprintf("conv%d", l)
		if l == 0 || c.Features.Skip == "none" {
			h, err = op.Conv(e, h, param(part+".weight"), param(part+".bias"), 1, true)
		} else {
			h, err = op.ConvSkip(e, h, param(part+".weight"), param(part+".bias"), param("skip"), l-1)
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
	p, dims := c.Features.Pack, c.Heads*c.FeatureDim
	maps = h
	if n.projects() {
		out, err := op.Conv(e, h, param("project.weight"), param("project.bias"), 1, false)
		if err != nil {
			return nil, nil, nil, err
		}
		if maps, err = op.Unpack(e, p, out, 0, dims, H, W); err != nil {
			return nil, nil, nil, err
		}
		if c.Mixing == "pixel" {
			if scores, err = op.Unpack(e, p, out, dims*p*p, c.Heads, H, W); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	terms := []*G.Node{maps}
	if *c.Features.Detail > 0 {
		d := x
		if len(images) > 1 {
			if d, err = op.Pack(e, 1, images, constants); err != nil {
				return nil, nil, nil, err
			}
		}
		if d, err = op.Conv(e, d, param("detail0.weight"), param("detail0.bias"), 1, true); err != nil {
			return nil, nil, nil, err
		}
		if d, err = op.Conv(e, d, param("detail1.weight"), param("detail1.bias"), 1, false); err != nil {
			return nil, nil, nil, err
		}
		terms = append(terms, d)
	}
	if *c.Features.PixelGain > 0 {
		d, err := op.Conv(e, x, param("pixel.weight"), nil, 1, false)
		if err != nil {
			return nil, nil, nil, err
		}
		terms = append(terms, d)
	}
	if len(terms) > 1 {
		if maps, err = op.Sum(e, terms...); err != nil {
			return nil, nil, nil, err
		}
	}
	return maps, scores, h, nil
}
