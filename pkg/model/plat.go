package model

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/op"
)

// What plat-vit and plat-lm share: the keys of model.plat and the layer.

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
	if t.Fidelity != "none" {
		orDefault(&t.Mu, p.Mu)
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
