// Package nn holds the named parameters of a network and the small layers that
// architectures share.
package nn

import (
	"fmt"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Param is a learned array. Data is its only storage: graphs read it by
// reference and optimisers write it.
type Param struct {
	Name    string
	Shape   []int
	Data    []float32
	NoDecay bool // weight decay leaves it alone: biases, step sizes, mixing weights
	Solver  bool // a coefficient of a solver (step size, mixing weight, ...): few, and may learn at a rate of their own
}

// Params are the parameters of a network in the order of their creation.
type Params struct {
	list   []*Param
	byName map[string]*Param
}

// NewParams returns an empty set.
func NewParams() *Params { return &Params{byName: map[string]*Param{}} }

// Add creates a parameter whose elements are set by init(i), i being the flat
// row-major index. A second parameter of the same name panics.
func (p *Params) Add(name string, init func(i int) float32, shape ...int) *Param {
	if _, dup := p.byName[name]; dup {
		panic("nn: parameter " + name + " exists already")
	}
	n := 1
	for _, d := range shape {
		n *= d
	}
	q := &Param{Name: name, Shape: shape, Data: make([]float32, n)}
	for i := range q.Data {
		q.Data[i] = init(i)
	}
	p.list = append(p.list, q)
	p.byName[name] = q
	return q
}

// All returns the parameters in the order of their creation.
func (p *Params) All() []*Param { return p.list }

// Get returns the parameter called name, or nil.
func (p *Params) Get(name string) *Param { return p.byName[name] }

// Count returns the number of scalars.
func (p *Params) Count() int {
	n := 0
	for _, q := range p.list {
		n += len(q.Data)
	}
	return n
}

// Constant is an initialiser that sets every element to v.
func Constant(v float32) func(int) float32 { return func(int) float32 { return v } }

// Uniform is an initialiser that draws from [-bound, bound).
func Uniform(rng *rand.Rand, bound float64) func(int) float32 {
	return func(int) float32 { return float32((2*rng.Float64() - 1) * bound) }
}

// Builder adds a network to a graph: it turns parameters into nodes that read
// them in place.
type Builder struct {
	Graph  *G.ExprGraph
	Env    *op.Env
	Params *Params

	// Double, when set, builds the network in float64 on copies of the
	// parameters kept here by name; for checking values and gradients.
	Double map[string][]float64

	// Observe, when set, is told of nodes inside a network that explain what it
	// does: "graph", the edge weights of block t, "solutions", "scores", "estimate".
	Observe func(t int, part string, n *G.Node)

	nodes map[string]*G.Node
}

// Watch reports a node inside block t to Observe, where that is set.
func (b *Builder) Watch(t int, part string, n *G.Node) {
	if b.Observe != nil {
		b.Observe(t, part, n)
	}
}

// NewBuilder returns a builder of float32 networks.
func NewBuilder(g *G.ExprGraph, env *op.Env, params *Params) *Builder {
	return &Builder{Graph: g, Env: env, Params: params, nodes: map[string]*G.Node{}}
}

// NewDoubleBuilder returns a builder of float64 networks, on float64 copies of
// the parameters.
func NewDoubleBuilder(g *G.ExprGraph, env *op.Env, params *Params) *Builder {
	b := NewBuilder(g, env, params)
	b.Double = map[string][]float64{}
	for _, p := range params.All() {
		d := make([]float64, len(p.Data))
		for i, v := range p.Data {
			d[i] = float64(v)
		}
		b.Double[p.Name] = d
	}
	return b
}

// Dtype returns the precision the network is built in.
func (b *Builder) Dtype() tensor.Dtype {
	if b.Double != nil {
		return tensor.Float64
	}
	return tensor.Float32
}

// Param returns the node of a parameter, the same one each time. An unknown
// name is a bug of the model and panics.
func (b *Builder) Param(name string) *G.Node {
	if n, ok := b.nodes[name]; ok {
		return n
	}
	p := b.Params.Get(name)
	if p == nil {
		panic(fmt.Sprintf("nn: no parameter %q", name))
	}
	var data any = p.Data
	if b.Double != nil {
		data = b.Double[name]
	}
	// A header of its own: graphs may transpose headers in place while others run.
	t := tensor.New(tensor.WithShape(p.Shape...), tensor.WithBacking(data))
	n := G.NewTensor(b.Graph, b.Dtype(), len(p.Shape), G.WithShape(p.Shape...), G.WithName(name), G.WithValue(t))
	b.nodes[name] = n
	return n
}

// Input adds a named input of the given shape, bound to data by reference:
// []float32, or []float64 for a double builder.
func (b *Builder) Input(name string, data any, shape ...int) *G.Node {
	t := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	return G.NewTensor(b.Graph, b.Dtype(), len(shape), G.WithShape(shape...), G.WithName(name), G.WithValue(t))
}

// Learnables returns the nodes of the parameters the network has used, in the
// order of Params.All, with those parameters.
func (b *Builder) Learnables() (G.Nodes, []*Param) {
	var nodes G.Nodes
	var params []*Param
	for _, p := range b.Params.All() {
		if n, ok := b.nodes[p.Name]; ok {
			nodes = append(nodes, n)
			params = append(params, p)
		}
	}
	return nodes, params
}
