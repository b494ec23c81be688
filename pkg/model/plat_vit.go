package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// platViT is a vision transformer (Dosovitskiy et al., ICLR 2021; deit-tiny is that
// of Touvron et al., ICML 2021) whose attention has the p-Laplacian factor:
//
//	t = patch(2x-1) + positions         tokens, before them one of its own if pool is token
//	t <- layers(t)                      see platNet
//	logits = head(pool(norm(t)))        the mean of tokens, or the first
//
// Rotary positions count tokens row by row.
type platViT struct{ *platNet }

var platViTArchitecture = architecture{
	kind: Classify,
	presets: map[string]Config{
		"default":   vitPreset(1, 4, 4, Plat{Width: 64, Image: []int{28, 28}, Patch: []int{4, 4}, Pool: "mean", Classes: 10}),
		"deit-tiny": vitPreset(3, 12, 3, Plat{Width: 192, Image: []int{224, 224}, Patch: []int{16, 16}, Pool: "token", Classes: 1000}),
		"tiny":      vitPreset(1, 2, 2, Plat{Width: 8, P: []float64{1.5, 2.5}, Image: []int{6, 8}, Patch: []int{2, 4}, Pool: "token", Classes: 3}),
	},
	uses: func(key string) bool {
		switch key {
		case "channels", "plat.image", "plat.patch", "plat.pool", "plat.classes":
			return true
		}
		return usesPlat(key)
	},
	check: checkViT,
	build: newViT,
}

func vitPreset(channels, layers, heads int, t Plat) Config {
	t.Mu = .6
	c := platPreset(layers, heads, t)
	c.Channels = channels
	return c
}

// maxImageSide and maxTokens are the largest side of an image and the most tokens of one.
const maxImageSide, maxTokens = 4096, 1 << 16

func checkViT(c Config) error {
	t := c.Plat
	for _, k := range []struct {
		key  string
		v    []int
		most int
	}{{"image", t.Image, maxImageSide}, {"patch", t.Patch, maxImageSide}} {
		if len(k.v) != 2 || k.v[0] < 1 || k.v[1] < 1 || k.v[0] > k.most || k.v[1] > k.most {
			return fmt.Errorf("model.plat.%s: found %v, expected [rows, columns], each 1 to %d", k.key, k.v, k.most)
		}
	}
	if t.Image[0]%t.Patch[0] != 0 || t.Image[1]%t.Patch[1] != 0 {
		return fmt.Errorf("model.plat.patch: found %v, expected divisors of model.plat.image, %v", t.Patch, t.Image)
	}
	if n := t.Image[0] / t.Patch[0] * (t.Image[1] / t.Patch[1]); n > maxTokens {
		return fmt.Errorf("model.plat.patch: found %v, which makes %d tokens of images of %v, expected at most %d", t.Patch, n, t.Image, maxTokens)
	}
	return checkPlat(c)
}

func newViT(cfg Config, seed uint64) (Model, error) {
	n := &platNet{cfg: cfg, params: nn.NewParams()}
	t := cfg.Plat
	p := platInit{n, rand.New(rand.NewPCG(seed, 0x706c6174766974)), 1} // "platvit"
	inputs := cfg.Channels * t.Patch[0] * t.Patch[1]
	// Like a convolution, as which DeiT initialises it: a patch is few numbers, and
	// 0.02 would leave it behind its position.
	n.params.Add("patch.weight", nn.Uniform(p.rng, 1/math.Sqrt(float64(inputs))), t.Width, inputs, 1, 1)
	p.free("patch.bias", nn.Constant(0), t.Width)
	tokens := t.Image[0] / t.Patch[0] * (t.Image[1] / t.Patch[1])
	if t.Pool == "token" {
		p.free("class", truncatedNormal(p.rng, platStd), t.Width)
		tokens++
	}
	p.positions(tokens)
	p.layers(t.Classes)
	return platViT{n}, nil
}

func (n platViT) Input() (channels, height, width int) {
	return n.cfg.Channels, n.cfg.Plat.Image[0], n.cfg.Plat.Image[1]
}

func (n platViT) Classes() int { return n.cfg.Plat.Classes }

func (n platViT) Classify(b *nn.Builder, x *G.Node) (*G.Node, error) {
	t := n.cfg.Plat
	c, h, w := n.Input()
	if s := x.Shape(); s.Dims() != 4 || s[0] < 1 || s[1] != c || s[2] != h || s[3] != w {
		return nil, fmt.Errorf("images: found shape %v, expected (B,%d,%d,%d)", s, c, h, w)
	}
	var class, positions *G.Node
	if t.Pool == "token" {
		class = b.Param("class")
	}
	if t.Positions == "learned" {
		positions = b.Param("positions")
	}
	x, err := op.Patches(b.Env, x, t.Patch[0], t.Patch[1])
	if err == nil {
		x, err = op.Conv(b.Env, x, b.Param("patch.weight"), b.Param("patch.bias"), 1, false)
	}
	if err == nil && (class != nil || positions != nil) {
		x, err = op.Tokens(b.Env, x, class, positions)
	}
	if err == nil {
		x, err = n.body(b, x)
	}
	if err == nil {
		x, err = op.PoolTokens(b.Env, x, t.Pool == "token")
	}
	if err != nil {
		return nil, err
	}
	return n.head(b, x)
}
