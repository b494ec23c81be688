package model

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// ugpl is uglr with a power p of the differences in place of their square: every
// block minimises
//
//	sum over heads' edges of w_ij |x_i - x_j|^p    subject to Hx = y,    1 < p <= 2
//
// by iteratively re-weighted least squares, unrolled: before each of cg_layers
// runs of the conjugate gradient the weights are multiplied by
// ((D_ij + eps^2)/eps^2)^((p-2)/2), D_ij being the squared difference as the prior
// sees it, colours and slopes included (graph.Reweighting). p = 2 is uglr; towards
// p = 1 it becomes total variation, which does not mind one large step more than
// many small ones and so keeps edges. p is fixed, or learned for every block and
// head.
type ugpl struct{}

var ugplKeys = map[string]bool{"p": true, "p_learned": true, "p_epsilon": true}

var ugplArchitecture = architecture{
	kind:    Restore,
	presets: map[string]Config{"default": ugplDefault(), "tiny": ugplTiny()},
	uses:    func(key string) bool { return graphKeys[key] || ugplKeys[key] },
	check:   checkUGPL,
	build:   func(cfg Config, seed uint64) (Model, error) { return newGraphNet(cfg, seed, ugpl{}) },
}

func ugplDefault() Config {
	c := uglrDefault()
	c.CGLayers, c.CGSteps = 2, 4
	c.P, c.PLearned, c.PEpsilon = 1.5, ptr(true), .02
	return c
}

func ugplTiny() Config {
	c := tiny(ugplDefault())
	c.CGSteps = 2
	return c
}

func checkUGPL(c Config) error {
	if c.Normalization != "softmax_symmetric" {
		return fmt.Errorf("model.normalization: found %q, expected softmax_symmetric for type ugpl, which re-weights differences of neighbours; the others do not measure those alike at both ends", c.Normalization)
	}
	return nil
}

func (ugpl) params(c Config, add func(part string, init func(int) float32, shape ...int)) {
	uglr{}.params(c, add)
	if *c.PLearned {
		add("p", nn.Constant(float32(graph.RawExponent(c.P))), c.Heads)
	}
}

func (ugpl) apply(n *graphNet, b *nn.Builder, grid *graph.Grid, x, y, mask, omega *G.Node, param func(part string) *G.Node) (*G.Node, error) {
	c := n.cfg
	p, color, slope := prior(c, param)
	solver := op.SolverConfig{Grid: grid, Layers: c.CGLayers, Steps: c.CGSteps, Normalization: n.norm, Prior: p,
		Reweight: graph.Reweighting{P: c.P, Learned: *c.PLearned, Epsilon: c.PEpsilon}}
	var exponent *G.Node
	if *c.PLearned {
		exponent = param("p")
	}
	return op.ReweightedConjugateGradient(b.Env, solver, x, y, mask, omega, param("alpha"), param("beta"), color, slope, exponent)
}

// reach is that of uglr: the new weights of an edge look no further than the
// product with A that they are for.
func (ugpl) reach(c Config) int { return uglr{}.reach(c) }
