package model

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// ugtv is the unrolled graph total variation of the same paper as uglr, as
// published (preset paper) and with the prior of uglr's default (preset default).
//
// The samples y of an image are completed by minimising the sum of absolute
// differences along the edges of the graph, ||C x||_1 subject to Hx = y: flat
// regions stay flat and edges stay sharp. That is a linear programme, solved by a
// few layers of ADMM whose steps are closed forms, but for one linear system:
//
//	z_h = ADMM on graph h      a conjugate gradient of learned step sizes in every layer
//
// All that is learned: what uglr learns, and the ADMM's penalties gamma.
type ugtv struct{ constraint graph.Constraint }

var ugtvArchitecture = architecture{
	kind:    Restore,
	presets: map[string]Config{"default": ugtvDefault(), "paper": ugtvPaper(), "tiny": tiny(ugtvDefault())},
	uses: func(key string) bool {
		return graphKeys[key] || key == "gamma" || key == "constraint" || key == "slack_start"
	},
	check: checkUGTV,
	build: newUGTV,
}

func ugtvDefault() Config {
	c := uglrDefault()
	c.CGLayers, c.CGSteps = 2, 4
	// From slacks of zero, an edge is one to the second layer where its weighted
	// difference is above 1/gamma: 0.02. Untrained, photographs come out within
	// a tenth of a decibel of each other for 50 to 2500.
	c.Gamma, c.Constraint, c.SlackStart = 50, "exact", "zero"
	return c
}

func ugtvPaper() Config {
	c := uglrPaper()
	c.Normalization = "random_walk"
	c.Gamma, c.Constraint, c.SlackStart = 10, "multiplier", "estimate"
	return c
}

func checkUGTV(c Config) error {
	if c.Normalization == "symmetric" {
		return fmt.Errorf("model.normalization: found symmetric for type ugtv, expected softmax_symmetric | random_walk")
	}
	if c.Gamma < graph.MinGamma {
		return fmt.Errorf("model.gamma: found %g, expected at least %g", c.Gamma, graph.MinGamma)
	}
	return nil
}

func newUGTV(cfg Config, seed uint64) (Model, error) {
	constraint, err := graph.ParseConstraint(cfg.Constraint)
	if err != nil {
		return nil, fmt.Errorf("model.%w", err)
	}
	return newGraphNet(cfg, seed, ugtv{constraint})
}

func (ugtv) params(c Config, add func(part string, init func(int) float32, shape ...int)) {
	addStepSizes(c, add)
	add("gamma", nn.Constant(float32(c.Gamma)), c.CGLayers)
	addPrior(c, add)
}

func (f ugtv) apply(n *graphNet, b *nn.Builder, grid *graph.Grid, x, y, mask, omega *G.Node, param func(part string) *G.Node) (*G.Node, error) {
	p, color, slope := prior(n.cfg, param)
	admm := op.TVConfig{Grid: grid, Layers: n.cfg.CGLayers, Steps: n.cfg.CGSteps, Normalization: n.norm, Prior: p, Constraint: f.constraint, FromZero: n.cfg.SlackStart == "zero"}
	return op.TotalVariation(b.Env, admm, x, y, mask, omega, param("alpha"), param("beta"), param("gamma"), color, slope)
}

// reach: a product with C'C reaches as far as uglr's A, and so does the right-hand
// side, which is part of the first product.
func (ugtv) reach(c Config) int { return uglr{}.reach(c) }
