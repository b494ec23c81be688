package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// What plat-vit and plat-lm share: the keys of model.plat and the layers.

// fill gives every value of t left out that of p.
func (t *Plat) fill(p Plat) {
	orDefault(&t.Width, p.Width)
	orDefault(&t.MLP, p.MLP)
	if len(t.P) == 0 {
		t.P = p.P
	}
	orDefault(&t.PLearned, p.PLearned)
	orDefault(&t.Variant, p.Variant)
	orDefault(&t.Diagonal, p.Diagonal)
	orDefault(&t.Eps, p.Eps)
	orDefault(&t.EpsRelative, p.EpsRelative)
	orDefault(&t.Fidelity, p.Fidelity)
	switch t.Fidelity {
	case "", "none":
	case "neutreno":
		orDefault(&t.Mu, p.Mu) // the published lambda
	default:
		orDefault(&t.Mu, .1)
	}
	orDefault(&t.Positions, p.Positions)
	if len(t.Image) == 0 {
		t.Image = p.Image
	}
	if len(t.Patch) == 0 {
		t.Patch = p.Patch
	}
	orDefault(&t.Pool, p.Pool)
	orDefault(&t.Classes, p.Classes)
	orDefault(&t.Context, p.Context)
	orDefault(&t.Symbols, p.Symbols)
}

// usesPlat says whether plat-vit and plat-lm both have a key.
func usesPlat(key string) bool {
	switch key {
	case "plat.width", "plat.mlp", "plat.p", "plat.p_learned", "plat.variant", "plat.diagonal", "plat.eps", "plat.eps_relative",
		"plat.fidelity", "plat.mu", "plat.positions":
		return true
	}
	return false
}

// checkPlat holds the keys that both have against each other.
func checkPlat(c Config) error {
	t := c.Plat
	if t.Width%c.Heads != 0 {
		return fmt.Errorf("model.plat.width: found %d, expected a multiple of the %d heads", t.Width, c.Heads)
	}
	if t.hidden() < 1 {
		return fmt.Errorf("model.plat.mlp: found %g, expected at least one hidden channel for each of %d", t.MLP, t.Width)
	}
	if len(t.P) != 1 && len(t.P) != c.Heads {
		return fmt.Errorf("model.plat.p: found %d numbers, expected one for all heads or one for each of the %d", len(t.P), c.Heads)
	}
	for _, p := range t.P {
		if !(p > 0 && p <= 8) {
			return fmt.Errorf("model.plat.p: found %g, expected more than 0, at most 8", p)
		}
	}
	if t.Fidelity != "none" && t.Mu == 0 {
		return fmt.Errorf("model.plat.mu: found 0, expected more, the weight of fidelity %q", t.Fidelity)
	}
	if t.Fidelity == "none" && t.Mu != 0 {
		return fmt.Errorf("model.plat.mu: found %g beside model.plat.fidelity none, expected values | first | neutreno", t.Mu)
	}
	if (t.Fidelity == "values" || t.Fidelity == "first") && t.Variant == "unnormalized" {
		return fmt.Errorf("model.plat.fidelity: found %q for the variant unnormalized, expected none | neutreno", t.Fidelity)
	}
	if t.Positions == "rotary" && t.Width/c.Heads%2 != 0 {
		return fmt.Errorf("model.plat.positions: found rotary, expected learned for heads of %d channels, an odd number", t.Width/c.Heads)
	}
	return nil
}

// hidden returns the channels between the two layers of an MLP.
func (t Plat) hidden() int { return int(math.Round(t.MLP * float64(t.Width))) }

// tables returns how many vectors as wide as a token a network holds beside its
// layers: of patches or symbols, positions and classes.
func (t Plat) tables(channels int) float64 {
	n := float64(2*t.Symbols + t.Context + t.Classes)
	if len(t.Image) == 2 && len(t.Patch) == 2 {
		area := float64(t.Patch[0]) * float64(t.Patch[1])
		n += area*float64(channels) + float64(t.Image[0])*float64(t.Image[1])/max(area, 1)
	}
	return n
}

// attention returns what the attention of a layer computes; fidelity to the
// first layer's values begins with the second.
func (c Config) attention(causal bool, layer int) op.AttentionConfig {
	t := c.Plat
	a := op.AttentionConfig{Heads: c.Heads, Causal: causal, Eps: t.Eps, Relative: *t.EpsRelative}
	a.Variant = map[string]op.AttentionVariant{
		"normalized": op.NormalizedAttention, "unnormalized": op.UnnormalizedAttention, "graph_gradient": op.GraphGradientAttention,
	}[t.Variant]
	a.Diagonal = map[string]op.AttentionDiagonal{
		"literal": op.LiteralDiagonal, "neutral": op.NeutralDiagonal, "excluded": op.ExcludedDiagonal,
	}[t.Diagonal]
	if !*t.PLearned {
		a.P = t.P
	}
	if t.Fidelity == "values" || t.Fidelity == "first" && layer > 0 {
		a.Mu = t.Mu
	}
	return a
}

// platPreset is a transformer of softmax attention, the member p = 2 of its family,
// with what any other p needs besides.
func platPreset(layers, heads int, t Plat) Config {
	t.MLP, t.PLearned, t.Variant, t.Diagonal, t.Eps, t.EpsRelative, t.Fidelity = 4, ptr(false), "normalized", "literal", .1, ptr(true), "none"
	orDefault(&t.Positions, "learned")
	if len(t.P) == 0 {
		t.P = []float64{2}
	}
	return Config{Blocks: layers, Heads: heads, Plat: t}
}

// platNet is the body of plat-vit and plat-lm: tokens (1,C,B,n) through layers
//
//	t <- t + proj(attention(qkv(norm(t))))
//	t <- t + fc2(gelu(fc1(norm(t))))
//
// where positions are rotary, queries and keys of qkv turned by them, and with
// neutreno what goes to proj is attention(qkv) + mu (v_first - v), v_first being the
// values of the first layer, which itself is without.
type platNet struct {
	cfg    Config
	params *nn.Params
	causal bool
}

func (n *platNet) Config() Config     { return n.cfg }
func (n *platNet) Params() *nn.Params { return n.params }

// platInit adds parameters: biases of zero, and matrices from the truncated normal
// distribution of deviation 1/sqrt(inputs), so that a layer hands on numbers as large
// as it got: the 0.02 that wide transformers begin with (Touvron et al.) leaves one
// of 64 channels all but idle for its first thousand steps. What each layer adds to
// its tokens comes from proj and fc2, whose deviation is times residual. Positions
// begin about as large as patches. Weight decay leaves all but the matrices alone.
// p is a coefficient like those of solvers: few numbers, which may learn at the rate
// of those.
type platInit struct {
	*platNet
	rng      *rand.Rand
	residual float64
}

func (n platInit) free(name string, init func(int) float32, shape ...int) {
	n.params.Add(name, init, shape...).NoDecay = true
}

func (n platInit) norm(name string) {
	n.free(name+".weight", nn.Constant(1), n.cfg.Plat.Width)
	n.free(name+".bias", nn.Constant(0), n.cfg.Plat.Width)
}

// linear adds a matrix, whose deviation is times scale, and its bias.
func (n platInit) linear(name string, in, out int, scale float64) {
	n.params.Add(name+".weight", truncatedNormal(n.rng, scale/math.Sqrt(float64(in))), out, in, 1, 1)
	n.free(name+".bias", nn.Constant(0), out)
}

// positions adds the table of n positions, if they are learned.
func (n platInit) positions(tokens int) {
	if n.cfg.Plat.Positions == "learned" {
		n.free("positions", truncatedNormal(n.rng, positionStd), n.cfg.Plat.Width, tokens)
	}
}

// Deviations at the start: of the class token and the table of symbols, and of
// positions, of which a symbol in its place is the sum.
const platStd, positionStd = .02, .3

// layers adds the parameters of all layers, of the norm after them and of the
// head.
func (n platInit) layers(outputs int) {
	t := n.cfg.Plat
	for l := range n.cfg.Blocks {
		layer := fmt.Sprintf("layer%d.", l)
		n.norm(layer + "norm1")
		n.linear(layer+"qkv", t.Width, 3*t.Width, 1)
		if *t.PLearned {
			q := n.params.Add(layer+"p", func(i int) float32 { return float32(op.RawPositive(t.P[i%len(t.P)])) }, n.cfg.Heads)
			q.NoDecay, q.Solver = true, true
		}
		n.linear(layer+"proj", t.Width, t.Width, n.residual)
		n.norm(layer + "norm2")
		n.linear(layer+"fc1", t.Width, t.hidden(), 1)
		n.linear(layer+"fc2", t.hidden(), t.Width, n.residual)
	}
	n.norm("norm")
	n.linear("head", t.Width, outputs, 1)
}

// body adds all layers to tokens x and the norm after them. Watched are
// (-1,"tokens"), x; and of each layer l (l,"qkv"), positions in it,
// (l,"attention"), what goes to proj, and (l,"tokens"), its result.
func (n *platNet) body(b *nn.Builder, x *G.Node) (*G.Node, error) {
	b.Watch(-1, "tokens", x)
	var first *G.Node // qkv of the first layer, where others are held to it
	for l := range n.cfg.Blocks {
		var err error
		if x, first, err = n.layer(b, l, x, first); err != nil {
			return nil, fmt.Errorf("layer %d: %w", l, err)
		}
		b.Watch(l, "tokens", x)
	}
	return op.LayerNorm(b.Env, x, b.Param("norm.weight"), b.Param("norm.bias"))
}

// layer adds layer l. It is two operations; where what lies between their steps is
// needed outside, the first is taken apart, which gives the same bits.
func (n *platNet) layer(b *nn.Builder, l int, x, first *G.Node) (next, nextFirst *G.Node, err error) {
	e, t, name := b.Env, n.cfg.Plat, fmt.Sprintf("layer%d.", l)
	weight := func(part string) (w, bias *G.Node) {
		return b.Param(name + part + ".weight"), b.Param(name + part + ".bias")
	}
	norm := func(part string) op.Step { return op.NormStep(weight(part)) }
	linear := func(part string) op.Step { return op.ConvStep(weight(part)) }
	attention := n.cfg.attention(n.causal, l)
	var p, fidelity *G.Node
	if *t.PLearned {
		if p, err = op.Positive(e, b.Param(name+"p")); err != nil {
			return nil, nil, err
		}
	}
	if t.Fidelity == "first" && l > 0 {
		fidelity = first
	}
	rotary := t.Positions == "rotary"
	if apart := b.Observe != nil || t.Fidelity == "neutreno" || t.Fidelity == "first" && l == 0; apart {
		var qkv, h *G.Node
		w, bias := weight("norm1")
		qkv, err = op.LayerNorm(e, x, w, bias)
		if err == nil {
			w, bias = weight("qkv")
			qkv, err = op.Conv(e, qkv, w, bias, 1, false)
		}
		if err == nil && rotary {
			qkv, err = op.Rotary(e, qkv, n.cfg.Heads)
		}
		if err != nil {
			return nil, nil, err
		}
		b.Watch(l, "qkv", qkv)
		if l == 0 {
			first = qkv
		}
		h, err = op.Attention(e, attention, qkv, p, fidelity)
		if err == nil && t.Fidelity == "neutreno" && l > 0 {
			h, err = op.NeuTRENO(e, h, qkv, first, t.Mu)
		}
		if err != nil {
			return nil, nil, err
		}
		b.Watch(l, "attention", h)
		w, bias = weight("proj")
		h, err = op.Conv(e, h, w, bias, 1, false)
		if err == nil {
			x, err = op.Sum(e, h, x)
		}
	} else {
		steps := []op.Step{norm("norm1"), linear("qkv")}
		if rotary {
			steps = append(steps, op.RotaryStep(n.cfg.Heads))
		}
		x, err = op.Residual(e, x, append(steps, op.SelfAttentionStep(attention, p, fidelity), linear("proj"))...)
	}
	if err == nil {
		x, err = op.Residual(e, x, norm("norm2"), linear("fc1"), op.GeluStep(), linear("fc2"))
	}
	return x, first, err
}

// head adds the last linear layer.
func (n *platNet) head(b *nn.Builder, x *G.Node) (*G.Node, error) {
	return op.Conv(b.Env, x, b.Param("head.weight"), b.Param("head.bias"), 1, false)
}

// Exponents returns p of each layer and head of a p-Laplacian transformer, as
// learned or as configured; nil for other networks.
func Exponents(m Model) [][]float64 {
	c := m.Config()
	if c.Type != "plat-vit" && c.Type != "plat-lm" {
		return nil
	}
	all := make([][]float64, c.Blocks)
	for l := range all {
		all[l] = make([]float64, c.Heads)
		raw := m.Params().Get(fmt.Sprintf("layer%d.p", l))
		for h := range all[l] {
			if raw != nil {
				all[l][h] = op.PositiveOf(float64(raw.Data[h]))
			} else {
				all[l][h] = c.Plat.P[h%len(c.Plat.P)]
			}
		}
	}
	return all
}
