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
	Type     string `yaml:"type" json:"type"`         // uglr
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

// Types and Presets name what Config.Type and Config.Preset may be.
var (
	Types   = []string{"uglr"}
	Presets = []string{"default", "paper", "tiny"}
)

func ptr[T any](v T) *T { return &v }

// preset returns the values a preset stands for.
func preset(name string) (Config, bool) {
	switch name {
	case "default":
		return Config{
			Channels: 3, Blocks: 4, Heads: 2, FeatureDim: 12, Window: 5, CGLayers: 1, CGSteps: 8,
			Features:      Features{Layers: 4, Channels: 48, Skip: "scaled", Pack: 2, Carry: ptr(false), Detail: ptr(12), PixelGain: ptr(10.)},
			Normalization: "softmax_symmetric", DistanceClip: 11.5, DistanceLimit: "soft", Color: "coupled",
			Slope: ptr(true), MaskInput: ptr(true), BlockSkip: ptr(false), Mixing: "pixel", Consistency: "hard",
		}, true
	case "paper":
		return Config{
			Channels: 3, Blocks: 5, Heads: 4, FeatureDim: 12, Window: 5, CGLayers: 5, CGSteps: 10,
			Features:      Features{Layers: 4, Channels: 48, Skip: "scaled", Pack: 1, Carry: ptr(false), Detail: ptr(0), PixelGain: ptr(0.)},
			Normalization: "symmetric", DistanceClip: -1, DistanceLimit: "hard", Color: "independent",
			Slope: ptr(false), MaskInput: ptr(false), BlockSkip: ptr(false), Mixing: "average", Consistency: "none",
		}, true
	case "tiny":
		c, _ := preset("default")
		c.Blocks, c.FeatureDim, c.CGSteps = 2, 4, 4
		c.Features.Layers, c.Features.Channels, c.Features.Detail = 2, 8, ptr(4)
		return c, true
	}
	return Config{}, false
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Resolved returns c with every zero value filled in from its preset, or an
// error that names the key, what was found and what was expected.
func (c Config) Resolved() (Config, error) {
	orDefault(&c.Type, "uglr")
	orDefault(&c.Preset, "default")
	if !slices.Contains(Types, c.Type) {
		return c, oneOf("model.type", c.Type, Types)
	}
	p, ok := preset(c.Preset)
	if !ok {
		return c, oneOf("model.preset", c.Preset, Presets)
	}
	orDefault(&c.Channels, p.Channels)
	orDefault(&c.Blocks, p.Blocks)
	orDefault(&c.Heads, p.Heads)
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
	orDefault(&c.MaskInput, p.MaskInput)
	orDefault(&c.BlockSkip, p.BlockSkip)
	orDefault(&c.Mixing, p.Mixing)
	orDefault(&c.Consistency, p.Consistency)
	if c.Channels == 1 {
		c.Color = "independent" // nothing to couple
	}
	if len(c.Offsets) == 0 {
		orDefault(&c.Window, p.Window)
	}
	return c, c.validate()
}

func (c Config) validate() error {
	for _, k := range []struct {
		key         string
		v, min, max int
	}{
		{"blocks", c.Blocks, 1, 64}, {"heads", c.Heads, 1, 64}, {"feature_dim", c.FeatureDim, 1, 256},
		{"features.layers", c.Features.Layers, 1, 16}, {"features.channels", c.Features.Channels, 1, 1024},
		{"features.pack", c.Features.Pack, 1, 2}, {"features.detail", *c.Features.Detail, 0, 1024}, {"cg_layers", c.CGLayers, 1, 64}, {"cg_steps", c.CGSteps, 1, 256},
	} {
		if k.v < k.min || k.v > k.max {
			return fmt.Errorf("model.%s: found %d, expected %d to %d", k.key, k.v, k.min, k.max)
		}
	}
	if c.Channels != 1 && c.Channels != 3 {
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
	} else if c.Window < 3 || c.Window > 15 || c.Window%2 == 0 {
		return fmt.Errorf("model.window: found %d, expected an odd number from 3 to 15", c.Window)
	}
	if v := *c.Features.PixelGain; !(v >= 0 && v <= 1000) {
		return fmt.Errorf("model.features.pixel_gain: found %g, expected 0 to 1000", v)
	}
	if c.DistanceClip > 80 {
		return fmt.Errorf("model.distance_clip: found %g, expected at most 80, or negative for none", c.DistanceClip)
	}
	for _, k := range []struct {
		key, v  string
		allowed []string
	}{
		{"model.features.skip", c.Features.Skip, []string{"scaled", "none"}},
		{"model.normalization", c.Normalization, []string{"symmetric", "softmax_symmetric", "random_walk"}},
		{"model.distance_limit", c.DistanceLimit, []string{"soft", "hard"}},
		{"model.color", c.Color, []string{"independent", "coupled"}},
		{"model.mixing", c.Mixing, []string{"average", "pixel"}},
		{"model.consistency", c.Consistency, []string{"hard", "none"}},
	} {
		if !slices.Contains(k.allowed, k.v) {
			return oneOf(k.key, k.v, k.allowed)
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
