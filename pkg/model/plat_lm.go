package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// platLM is a causal language model (Radford et al., "Language models are
// unsupervised multitask learners", 2019) whose attention has the p-Laplacian
// factor:
//
//	t = table[symbols] + positions
//	t <- layers(t)                      see platNet; each token sees those before it
//	logits = head(norm(t))
type platLM struct{ *platNet }

var platLMArchitecture = architecture{
	kind: Language,
	presets: map[string]Config{
		"default": platPreset(4, 4, Plat{Width: 64, Mu: .4, Context: 64, Symbols: 98}),
		"tiny":    platPreset(2, 2, Plat{Width: 8, Mu: .4, P: []float64{1.5, 2.5}, Context: 7, Symbols: 5}),
	},
	uses:  func(key string) bool { return key == "plat.context" || key == "plat.symbols" || usesPlat(key) },
	check: checkPlat,
	build: newLM,
}

func newLM(cfg Config, seed uint64) (Model, error) {
	n := &platNet{cfg: cfg, params: nn.NewParams(), causal: true}
	t := cfg.Plat
	// Sums of 2*blocks branches start as large as one.
	p := platInit{n, rand.New(rand.NewPCG(seed, 0x706c61746c6d)), 1 / math.Sqrt(2*float64(cfg.Blocks))} // "platlm"
	n.params.Add("table", truncatedNormal(p.rng, platStd), t.Symbols, t.Width)
	p.positions(t.Context)
	p.layers(t.Symbols)
	return platLM{n}, nil
}

func (n platLM) Symbols() int { return n.cfg.Plat.Symbols }
func (n platLM) Context() int { return n.cfg.Plat.Context }

func (n platLM) Predict(b *nn.Builder, symbols *G.Node) (*G.Node, error) {
	t := n.cfg.Plat
	if s := symbols.Shape(); s.Dims() != 2 || s[0] < 1 || s[1] < 1 || s[1] > t.Context {
		return nil, fmt.Errorf("symbols: found shape %v, expected (B,n) with n at most model.plat.context, %d", s, t.Context)
	}
	x, err := op.Embed(b.Env, b.Param("table"), symbols)
	if err == nil && t.Positions == "learned" {
		x, err = op.Tokens(b.Env, x, nil, b.Param("positions"))
	}
	if err == nil {
		x, err = n.body(b, x)
	}
	if err != nil {
		return nil, err
	}
	return n.head(b, x)
}
