package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/graph"
)

// Config is the `model` section of an experiment: an architecture and its
// hyper-parameters. Zero values stand for those of the preset.
type Config struct {
	Type     string `yaml:"type" json:"type"`         // uglr | ugtv | ugpl | swin | plat-vit | plat-lm
	Preset   string `yaml:"preset" json:"preset"`     // default | paper | tiny
	Channels int    `yaml:"channels" json:"channels"` // of the signal: 3 (RGB sharing one graph) | 1

	Blocks     int      `yaml:"blocks" json:"blocks"`           // graph learning module + solver, in series
	Heads      int      `yaml:"heads" json:"heads"`             // graphs in parallel
	FeatureDim int      `yaml:"feature_dim" json:"feature_dim"` // features per pixel and head
	Window     int      `yaml:"window" json:"window"`           // side of the neighbourhood, odd
	Offsets    []Offset `yaml:"offsets" json:"offsets"`         // instead of window: neighbours (dy, dx); the opposite of each belongs too
	Features   Features `yaml:"features" json:"features"`       // the CNN that features come from
	CGLayers   int      `yaml:"cg_layers" json:"cg_layers"`     // restarts of the conjugate gradient
	CGSteps    int      `yaml:"cg_steps" json:"cg_steps"`       // iterations of each

	Normalization string  `yaml:"normalization" json:"normalization"`   // symmetric (the paper's) | softmax_symmetric | random_walk
	DistanceClip  float64 `yaml:"distance_clip" json:"distance_clip"`   // largest squared feature distance; negative for none
	DistanceLimit string  `yaml:"distance_limit" json:"distance_limit"` // how the clip is reached: soft (c d/(c+d), gradients never die) | hard (min(d, c))
	Color         string  `yaml:"color" json:"color"`                   // independent (the paper's) | coupled
	Slope         *bool   `yaml:"slope" json:"slope"`                   // smooth slopes as well as values; the paper's is false
	MaskInput     *bool   `yaml:"mask_input" json:"mask_input"`         // show the sampling mask to the CNN; the paper's is false
	BlockSkip     *bool   `yaml:"block_skip" json:"block_skip"`         // x <- p new + (1-p) old with p learned
	Mixing        string  `yaml:"mixing" json:"mixing"`                 // of heads: average (learned weights, the paper's) | pixel (softmax of CNN outputs)
	Consistency   string  `yaml:"consistency" json:"consistency"`       // with the samples after mixing: hard (put back exactly) | none (the paper's)

	// ugtv: the ADMM of total variation.
	Gamma      float64 `yaml:"gamma" json:"gamma,omitempty"`             // start of its penalties, more than 0
	Constraint string  `yaml:"constraint" json:"constraint,omitempty"`   // how its x-step holds the samples: exact | multiplier (the paper's)
	SlackStart string  `yaml:"slack_start" json:"slack_start,omitempty"` // of a block: zero (its first layer smooths as uglr does) | estimate (the slacks of the estimate)

	// ugpl: the exponent of the prior.
	P        float64 `yaml:"p" json:"p,omitempty"`                 // more than 1, at most 2; where learned, its start
	PLearned *bool   `yaml:"p_learned" json:"p_learned,omitempty"` // one p for each block and head
	PEpsilon float64 `yaml:"p_epsilon" json:"p_epsilon,omitempty"` // differences well below it are smoothed as with p = 2; signals are in [0,1]

	// swin: a transformer with no graph.
	Swin Swin `yaml:"swin" json:"swin,omitzero"`

	// plat-vit, plat-lm: transformers with p-Laplacian attention.
	Plat Plat `yaml:"plat" json:"plat,omitzero"`
}

// Plat is the size of a p-Laplacian transformer and what its attention computes;
// Config.Blocks is the number of its layers and Config.Heads that of its
// attention heads.
type Plat struct {
	Width int     `yaml:"width" json:"width"` // channels of a token, a multiple of heads
	MLP   float64 `yaml:"mlp" json:"mlp"`     // hidden channels of the MLP over width

	P           []float64 `yaml:"p" json:"p"`                       // exponent of all heads, or of each; where learned, its start
	PLearned    *bool     `yaml:"p_learned" json:"p_learned"`       // one p for each layer and head
	Variant     string    `yaml:"variant" json:"variant"`           // normalized | unnormalized | graph_gradient
	Diagonal    string    `yaml:"diagonal" json:"diagonal"`         // the factor of a token with itself: literal | neutral | excluded
	Eps         float64   `yaml:"eps" json:"eps"`                   // keeps distances from zero
	EpsRelative *bool     `yaml:"eps_relative" json:"eps_relative"` // eps is in units of the rms distance of a head
	Fidelity    string    `yaml:"fidelity" json:"fidelity"`         // what outputs are held to: none | values | first (the first layer's values) | neutreno (the same, Nguyen et al.)
	Mu          float64   `yaml:"mu" json:"mu"`                     // weight of fidelity; of neutreno its lambda

	Positions string `yaml:"positions" json:"positions"` // learned | rotary

	Image   []int  `yaml:"image" json:"image,omitempty"`     // plat-vit: rows and columns of its images
	Patch   []int  `yaml:"patch" json:"patch,omitempty"`     // plat-vit: rows and columns of pixels that are a token
	Pool    string `yaml:"pool" json:"pool,omitempty"`       // plat-vit: what is classified: mean (of all tokens) | token (one of its own)
	Classes int    `yaml:"classes" json:"classes,omitempty"` // plat-vit

	Context int `yaml:"context" json:"context,omitempty"` // plat-lm: symbols it looks at
	Symbols int `yaml:"symbols" json:"symbols,omitempty"` // plat-lm: of its vocabulary
}

// Swin is the size of a window-attention transformer; Config.Blocks is the
// number of its residual groups and Config.Heads that of its attention heads.
type Swin struct {
	Embed  int     `yaml:"embed" json:"embed"`   // channels of a token, a multiple of heads
	Layers int     `yaml:"layers" json:"layers"` // attention + MLP pairs of a group; every second one's windows are shifted
	Window int     `yaml:"window" json:"window"` // side of a window in tokens of 2x2 pixels
	MLP    float64 `yaml:"mlp" json:"mlp"`       // hidden channels of the MLP over embed
}

// Offset is a neighbour's place relative to a pixel: rows down, columns right.
type Offset = graph.Offset

// Features is the shallow CNN of a block.
type Features struct {
	Layers    int      `yaml:"layers" json:"layers"`         // 3x3 convolutions
	Channels  int      `yaml:"channels" json:"channels"`     // maps of each
	Skip      string   `yaml:"skip" json:"skip"`             // scaled (h <- a h + b relu(conv h), a and b learned) | none
	Pack      int      `yaml:"pack" json:"pack"`             // 1: full resolution (the paper's) | 2: on 2x2 blocks of pixels packed into channels
	Carry     *bool    `yaml:"carry" json:"carry"`           // hand the CNN state of a block to the next
	Detail    *int     `yaml:"detail" json:"detail"`         // maps of a second, two-layer CNN at full resolution, added to the first; 0 for none
	PixelGain *float64 `yaml:"pixel_gain" json:"pixel_gain"` // start of a linear map of the pixel's colour added to its features, so that edges begin as colour differences; 0 for none
}

// defaultType is the architecture of a configuration that names none.
const defaultType = "uglr"

func ptr[T any](v T) *T { return &v }

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Resolved returns c with every zero value filled in from its preset, or an
// error that names the key, what was found and what was expected.
func (c Config) Resolved() (Config, error) {
	orDefault(&c.Type, defaultType)
	orDefault(&c.Preset, "default")
	a, ok := architectures[c.Type]
	if !ok {
		return c, oneOf("model.type", c.Type, Types)
	}
	p, ok := a.presets[c.Preset]
	if !ok {
		return c, oneOf("model.preset", c.Preset, PresetsOf(c.Type))
	}
	for key, set := range c.set() {
		if set && !a.has(key) {
			return c, fmt.Errorf("model.%s: found for type %s, which has no such key", key, c.Type)
		}
	}
	orDefault(&c.Channels, p.Channels)
	orDefault(&c.Blocks, p.Blocks)
	orDefault(&c.Heads, p.Heads)
	orDefault(&c.MaskInput, p.MaskInput)
	orDefault(&c.Consistency, p.Consistency)
	orDefault(&c.FeatureDim, p.FeatureDim)
	orDefault(&c.Features.Layers, p.Features.Layers)
	orDefault(&c.Features.Channels, p.Features.Channels)
	orDefault(&c.Features.Skip, p.Features.Skip)
	orDefault(&c.Features.Pack, p.Features.Pack)
	orDefault(&c.Features.Carry, p.Features.Carry)
	orDefault(&c.Features.Detail, p.Features.Detail)
	orDefault(&c.Features.PixelGain, p.Features.PixelGain)
	orDefault(&c.CGLayers, p.CGLayers)
	orDefault(&c.CGSteps, p.CGSteps)
	orDefault(&c.Normalization, p.Normalization)
	orDefault(&c.DistanceClip, p.DistanceClip)
	orDefault(&c.DistanceLimit, p.DistanceLimit)
	orDefault(&c.Color, p.Color)
	orDefault(&c.Slope, p.Slope)
	orDefault(&c.BlockSkip, p.BlockSkip)
	orDefault(&c.Mixing, p.Mixing)
	orDefault(&c.Gamma, p.Gamma)
	orDefault(&c.Constraint, p.Constraint)
	orDefault(&c.SlackStart, p.SlackStart)
	orDefault(&c.P, p.P)
	orDefault(&c.PLearned, p.PLearned)
	orDefault(&c.PEpsilon, p.PEpsilon)
	orDefault(&c.Swin.Embed, p.Swin.Embed)
	orDefault(&c.Swin.Layers, p.Swin.Layers)
	orDefault(&c.Swin.Window, p.Swin.Window)
	orDefault(&c.Swin.MLP, p.Swin.MLP)
	c.Plat.fill(p.Plat)
	if c.Channels == 1 && c.Color != "" {
		c.Color = "independent" // nothing to couple
	}
	if len(c.Offsets) == 0 {
		orDefault(&c.Window, p.Window)
	}
	if err := c.validate(a.has); err != nil {
		return c, err
	}
	return c, a.check(c)
}

// set says of each key that is not common to all types whether it has a value.
func (c Config) set() map[string]bool {
	f, t := c.Features, c.Plat
	return map[string]bool{
		"channels": c.Channels != 0, "mask_input": c.MaskInput != nil, "consistency": c.Consistency != "",
		"feature_dim": c.FeatureDim != 0, "window": c.Window != 0, "offsets": len(c.Offsets) > 0,
		"features.layers": f.Layers != 0, "features.channels": f.Channels != 0, "features.skip": f.Skip != "", "features.pack": f.Pack != 0,
		"features.carry": f.Carry != nil, "features.detail": f.Detail != nil, "features.pixel_gain": f.PixelGain != nil,
		"cg_layers": c.CGLayers != 0, "cg_steps": c.CGSteps != 0, "normalization": c.Normalization != "",
		"distance_clip": c.DistanceClip != 0, "distance_limit": c.DistanceLimit != "", "color": c.Color != "", "slope": c.Slope != nil,
		"block_skip": c.BlockSkip != nil, "mixing": c.Mixing != "",
		"gamma": c.Gamma != 0, "constraint": c.Constraint != "", "slack_start": c.SlackStart != "",
		"p": c.P != 0, "p_learned": c.PLearned != nil, "p_epsilon": c.PEpsilon != 0,
		"swin.embed": c.Swin.Embed != 0, "swin.layers": c.Swin.Layers != 0, "swin.window": c.Swin.Window != 0, "swin.mlp": c.Swin.MLP != 0,
		"plat.width": t.Width != 0, "plat.mlp": t.MLP != 0, "plat.p": len(t.P) > 0, "plat.p_learned": t.PLearned != nil, "plat.variant": t.Variant != "",
		"plat.diagonal": t.Diagonal != "", "plat.eps": t.Eps != 0, "plat.eps_relative": t.EpsRelative != nil, "plat.fidelity": t.Fidelity != "",
		"plat.mu": t.Mu != 0, "plat.positions": t.Positions != "", "plat.image": len(t.Image) > 0, "plat.patch": len(t.Patch) > 0,
		"plat.pool": t.Pool != "", "plat.classes": t.Classes != 0, "plat.context": t.Context != 0, "plat.symbols": t.Symbols != 0,
	}
}

// Uses says whether the architecture c.Type knows a key, such as "gamma" or
// "features.pack"; of a section, whether it knows any key in it.
func (c Config) Uses(key string) bool {
	a, ok := architectures[c.Type]
	if !ok {
		return true
	}
	inside, section := false, false
	for k := range c.set() {
		if k == key {
			return a.has(key)
		}
		if strings.HasPrefix(k, key+".") {
			section = true
			inside = inside || a.has(k)
		}
	}
	return inside || !section // what is not in set is common to all
}

// Align returns what the side of a patch must be a multiple of: 2 where blocks of
// 2x2 pixels are packed into channels, else 1.
func (c Config) Align() int {
	if c.Type == "swin" || c.Features.Pack == 2 {
		return 2
	}
	return 1
}

// validate checks the keys the architecture uses one by one.
func (c Config) validate(uses func(key string) bool) error {
	detail, gain := 0, 0.
	if c.Features.Detail != nil {
		detail = *c.Features.Detail
	}
	if c.Features.PixelGain != nil {
		gain = *c.Features.PixelGain
	}
	for _, k := range []struct {
		key         string
		v, min, max int
	}{
		{"blocks", c.Blocks, 1, 64}, {"heads", c.Heads, 1, 64}, {"feature_dim", c.FeatureDim, 1, 256},
		{"features.layers", c.Features.Layers, 1, 16}, {"features.channels", c.Features.Channels, 1, 1024},
		{"features.pack", c.Features.Pack, 1, 2}, {"features.detail", detail, 0, 1024}, {"cg_layers", c.CGLayers, 1, 64}, {"cg_steps", c.CGSteps, 1, 256},
		{"plat.width", c.Plat.Width, 1, 4096}, {"plat.classes", c.Plat.Classes, 2, 100_000}, {"plat.context", c.Plat.Context, 1, 1 << 16}, {"plat.symbols", c.Plat.Symbols, 2, 1 << 17},
		{"swin.embed", c.Swin.Embed, 1, 1024}, {"swin.layers", c.Swin.Layers, 1, 64}, {"swin.window", c.Swin.Window, 2, 32},
	} {
		if (k.v < k.min || k.v > k.max) && c.Uses(k.key) {
			return fmt.Errorf("model.%s: found %d, expected %d to %d", k.key, k.v, k.min, k.max)
		}
	}
	if c.Channels != 1 && c.Channels != 3 && uses("channels") {
		return fmt.Errorf("model.channels: found %d, expected 1 or 3", c.Channels)
	}
	if len(c.Offsets) > 0 {
		if c.Window != 0 {
			return fmt.Errorf("model.offsets: found beside model.window, expected one of them")
		}
		for _, o := range c.Offsets {
			if o == (Offset{}) || max(o[0], -o[0], o[1], -o[1]) > 7 {
				return fmt.Errorf("model.offsets: found %v, expected neighbours other than [0,0] at most 7 away", o)
			}
		}
	} else if uses("window") && (c.Window < 3 || c.Window > 15 || c.Window%2 == 0) {
		return fmt.Errorf("model.window: found %d, expected an odd number from 3 to 15", c.Window)
	}
	if !(gain >= 0 && gain <= 1000) {
		return fmt.Errorf("model.features.pixel_gain: found %g, expected 0 to 1000", gain)
	}
	if c.DistanceClip > 80 {
		return fmt.Errorf("model.distance_clip: found %g, expected at most 80, or negative for none", c.DistanceClip)
	}
	for _, k := range []struct {
		key     string
		v       float64
		ok      bool
		allowed string
	}{
		{"gamma", c.Gamma, c.Gamma > 0 && c.Gamma <= 1e6, "more than 0, at most 1e6"},
		{"p", c.P, c.P > 1 && c.P <= 2, "more than 1, at most 2"},
		{"p_epsilon", c.PEpsilon, c.PEpsilon > 0 && c.PEpsilon <= 1, "more than 0, at most 1"},
		{"swin.mlp", c.Swin.MLP, c.Swin.MLP > 0 && c.Swin.MLP <= 16, "more than 0, at most 16"},
		{"plat.mlp", c.Plat.MLP, c.Plat.MLP > 0 && c.Plat.MLP <= 16, "more than 0, at most 16"},
		{"plat.eps", c.Plat.Eps, c.Plat.Eps > 0 && c.Plat.Eps <= 1e6, "more than 0, at most 1e6"},
		{"plat.mu", c.Plat.Mu, c.Plat.Mu >= 0 && c.Plat.Mu <= 1e6, "0 to 1e6"},
	} {
		if !k.ok && uses(k.key) {
			return fmt.Errorf("model.%s: found %g, expected %s", k.key, k.v, k.allowed)
		}
	}
	for _, k := range []struct {
		key, v  string
		allowed []string
	}{
		{"features.skip", c.Features.Skip, []string{"scaled", "none"}},
		{"normalization", c.Normalization, []string{"symmetric", "softmax_symmetric", "random_walk"}},
		{"distance_limit", c.DistanceLimit, []string{"soft", "hard"}},
		{"color", c.Color, []string{"independent", "coupled"}},
		{"mixing", c.Mixing, []string{"average", "pixel"}},
		{"consistency", c.Consistency, []string{"hard", "none"}},
		{"constraint", c.Constraint, []string{"exact", "multiplier"}},
		{"slack_start", c.SlackStart, []string{"zero", "estimate"}},
		{"plat.variant", c.Plat.Variant, []string{"normalized", "unnormalized", "graph_gradient"}},
		{"plat.diagonal", c.Plat.Diagonal, []string{"literal", "neutral", "excluded"}},
		{"plat.fidelity", c.Plat.Fidelity, []string{"none", "values", "first", "neutreno"}},
		{"plat.positions", c.Plat.Positions, []string{"learned", "rotary"}},
		{"plat.pool", c.Plat.Pool, []string{"mean", "token"}},
	} {
		if !slices.Contains(k.allowed, k.v) && c.Uses(k.key) {
			return oneOf("model."+k.key, k.v, k.allowed)
		}
	}
	return nil
}

func oneOf(key, found string, allowed []string) error {
	return fmt.Errorf("%s: found %q, expected %s", key, found, strings.Join(allowed, " | "))
}

// offsets returns the neighbours of which each pair (o, -o) appears once, in
// the order of the window, row by row.
func (c Config) forwardOffsets() []Offset {
	var all []Offset
	if len(c.Offsets) > 0 {
		all = c.Offsets
	} else {
		r := c.Window / 2
		for dy := -r; dy <= r; dy++ {
			for dx := -r; dx <= r; dx++ {
				if dy != 0 || dx != 0 {
					all = append(all, Offset{dy, dx})
				}
			}
		}
	}
	var half []Offset
	for _, o := range all {
		if o[0] < 0 || o[0] == 0 && o[1] < 0 {
			o = Offset{-o[0], -o[1]}
		}
		if !slices.Contains(half, o) {
			half = append(half, o)
		}
	}
	slices.SortFunc(half, func(a, b Offset) int {
		if a[0] != b[0] {
			return a[0] - b[0]
		}
		return a[1] - b[1]
	})
	return half
}

// radius returns the reach of the neighbourhood in pixels.
func (c Config) radius() int {
	r := 0
	for _, o := range c.forwardOffsets() {
		r = max(r, o[0], o[1], -o[1])
	}
	return r
}
