package model

import (
	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// uglr is the unrolled graph Laplacian regulariser of Do, Eftekhar, Hosseini,
// Cheung and Chou, "Interpretable Lightweight Transformer via Unrolling of
// Learned Graph Smoothness Priors" (NeurIPS 2024), as published (preset paper)
// and with a prior that couples colours and sees slopes (preset default).
//
// The samples y of an image are completed by minimising a quadratic form of the
// graph, x' A x subject to Hx = y. Every block learns its graphs anew from the
// estimate so far (graphNet), then low-passes:
//
//	z_h = conjugate gradient on graph h      samples kept, a few steps, learned step sizes
//
// All that is learned: the CNN, the metric factors A_h, step sizes, c, and the
// colour and slope coefficients of the prior.
type uglr struct{}

var uglrArchitecture = architecture{
	kind:    Restore,
	presets: map[string]Config{"default": uglrDefault(), "paper": uglrPaper(), "tiny": tiny(uglrDefault())},
	uses:    func(key string) bool { return graphKeys[key] },
	check:   func(Config) error { return nil },
	build:   newUGLR,
}

func uglrDefault() Config {
	return Config{
		Channels: 3, Blocks: 4, Heads: 2, FeatureDim: 12, Window: 5, CGLayers: 1, CGSteps: 8,
		Features:      Features{Layers: 4, Channels: 48, Skip: "scaled", Pack: 2, Carry: ptr(false), Detail: ptr(12), PixelGain: ptr(10.)},
		Normalization: "softmax_symmetric", DistanceClip: 11.5, DistanceLimit: "soft", Color: "coupled",
		Slope: ptr(true), MaskInput: ptr(true), BlockSkip: ptr(false), Mixing: "pixel", Consistency: "hard",
	}
}

func uglrPaper() Config {
	return Config{
		Channels: 3, Blocks: 5, Heads: 4, FeatureDim: 12, Window: 5, CGLayers: 5, CGSteps: 10,
		Features:      Features{Layers: 4, Channels: 48, Skip: "scaled", Pack: 1, Carry: ptr(false), Detail: ptr(0), PixelGain: ptr(0.)},
		Normalization: "symmetric", DistanceClip: -1, DistanceLimit: "hard", Color: "independent",
		Slope: ptr(false), MaskInput: ptr(false), BlockSkip: ptr(false), Mixing: "average", Consistency: "none",
	}
}

func newUGLR(cfg Config, seed uint64) (Model, error) { return newGraphNet(cfg, seed, uglr{}) }

func (uglr) params(c Config, add func(part string, init func(int) float32, shape ...int)) {
	addStepSizes(c, add)
	addPrior(c, add)
}

// addStepSizes adds the step sizes of c.CGLayers runs of c.CGSteps iterations.
func addStepSizes(c Config, add func(part string, init func(int) float32, shape ...int)) {
	add("alpha", nn.Constant(.5), c.Heads, c.CGLayers, c.CGSteps)
	add("beta", nn.Constant(.3), c.Heads, c.CGLayers, c.CGSteps)
}

// addPrior adds the coefficients of the prior: how it couples colours, and what
// it thinks of slopes.
func addPrior(c Config, add func(part string, init func(int) float32, shape ...int)) {
	if c.Color == "coupled" {
		start := [9]float32{1, -1, 0, 0, -1, 1, .35, .35, .35}
		add("color", func(i int) float32 { return start[i%9] }, c.Heads, 3, 3)
	}
	if *c.Slope {
		// Heads begin as two kinds, one after slopes and one after values.
		start := [4]float32{-.5, .5, .5, -1.5}
		add("slope", func(i int) float32 { return start[i%4] }, c.Heads, 2)
	}
}

// prior returns what the configuration says of the prior, with the nodes of its
// coefficients, nil where it has none.
func prior(c Config, param func(part string) *G.Node) (p graph.Prior, color, slope *G.Node) {
	p = graph.Prior{Coupled: c.Color == "coupled", Slope: *c.Slope}
	if p.Coupled {
		color = param("color")
	}
	if p.Slope {
		slope = param("slope")
	}
	return p, color, slope
}

func (uglr) apply(n *graphNet, b *nn.Builder, grid *graph.Grid, x, y, mask, omega *G.Node, param func(part string) *G.Node) (*G.Node, error) {
	p, color, slope := prior(n.cfg, param)
	solver := op.SolverConfig{Grid: grid, Layers: n.cfg.CGLayers, Steps: n.cfg.CGSteps, Normalization: n.norm, Prior: p}
	return op.ConjugateGradient(b.Env, solver, x, y, mask, omega, param("alpha"), param("beta"), color, slope)
}

// reach: every product with A is one neighbourhood (and a difference) away.
func (uglr) reach(c Config) int { return c.CGLayers * c.CGSteps * c.stepReach() }

// stepReach returns how far one product with A looks.
func (c Config) stepReach() int {
	if *c.Slope {
		return c.radius() + 1
	}
	return c.radius()
}
