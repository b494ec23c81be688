package model

import (
	"fmt"
	"hash"
	"hash/fnv"
	"sync/atomic"

	"github.com/chewxy/hm"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// convexGraph is a compiled graph that ends in a scalar and tensors beside it.
type convexGraph[T float32 | float64] struct {
	graph *G.ExprGraph
	env   *op.Env
	in    G.Nodes
	sink  *convexSink[T]
	vm    G.VM
}

// newConvexGraph compiles what build adds: it returns the scalar and the tensors
// to be read, in the order of run's arguments.
func newConvexGraph[T float32 | float64](workers int, build func(c *convexGraph[T]) (G.Nodes, error)) (*convexGraph[T], error) {
	// The tape merges nodes whose 32-bit hashes agree. Operations number
	// themselves, so another try draws other hashes.
	var err error
	for range 3 {
		c := &convexGraph[T]{graph: G.NewGraph(), env: op.NewEnv(workers)}
		ends, e := build(c)
		if e != nil {
			return nil, e
		}
		if err = c.compile(ends); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (c *convexGraph[T]) compile(ends G.Nodes) error {
	var types []hm.Type
	for _, n := range ends {
		types = append(types, n.Type())
	}
	c.sink = &convexSink[T]{typ: hm.NewFnType(append(types, dtype[T]())...), arity: len(ends), id: convexSinks.Add(1)}
	end, err := G.ApplyOp(c.sink, ends...)
	if err != nil {
		return fmt.Errorf("collecting results: %w", err)
	}
	seen := map[uint32]*G.Node{}
	for _, n := range c.graph.AllNodes() {
		if o, dup := seen[n.Hashcode()]; dup && o != n {
			return fmt.Errorf("graph nodes %v and %v share the hash %08x", o, n, n.Hashcode())
		}
		seen[n.Hashcode()] = n
	}
	prog, regs, err := G.CompileFunction(c.graph, c.in, G.Nodes{end})
	if err != nil {
		return fmt.Errorf("compiling the graph: %w", err)
	}
	c.vm = G.NewTapeMachine(c.graph, G.WithPrecompiled(prog, regs))
	return nil
}

// input adds a tensor bound to data by reference.
func (c *convexGraph[T]) input(name string, data []T, shape ...int) *G.Node {
	t := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	n := G.NewTensor(c.graph, dtype[T](), len(shape), G.WithShape(shape...), G.WithName(name), G.WithValue(t))
	c.in = append(c.in, n)
	return n
}

// gradients returns loss, others and the gradients of loss.
func gradients(loss *G.Node, others G.Nodes, wrt ...*G.Node) (G.Nodes, error) {
	g, err := G.Grad(loss, wrt...)
	if err != nil {
		return nil, fmt.Errorf("differentiating the loss: %w", err)
	}
	return append(append(G.Nodes{loss}, others...), g...), nil
}

// only returns out behind a scalar of no meaning, for graphs without a loss.
func (c *convexGraph[T]) only(out *G.Node) (G.Nodes, error) {
	op.Keep(out)
	none := G.NewScalar(c.graph, dtype[T](), G.WithName("none"), G.WithValue(T(0)))
	c.in = append(c.in, none)
	return G.Nodes{none, out}, nil
}

// run computes the scalar and writes the tensors to dst.
func (c *convexGraph[T]) run(dst ...[]T) (T, error) {
	if len(dst) != c.sink.arity-1 {
		return 0, fmt.Errorf("found room for %d results, expected %d", len(dst), c.sink.arity-1)
	}
	c.sink.dst = dst
	defer c.vm.Reset()
	if err := c.vm.RunAll(); err != nil {
		return 0, err
	}
	return c.sink.scalar, nil
}

// convexSink copies results out of the machine while their buffers are still
// theirs.
type convexSink[T float32 | float64] struct {
	typ    hm.Type
	arity  int
	id     uint64
	scalar T
	dst    [][]T
}

var convexSinks atomic.Uint64

func (o *convexSink[T]) Arity() int    { return o.arity }
func (o *convexSink[T]) Type() hm.Type { return o.typ }
func (o *convexSink[T]) InferShape(...G.DimSizer) (tensor.Shape, error) {
	return tensor.ScalarShape(), nil
}
func (o *convexSink[T]) ReturnsPtr() bool      { return false }
func (o *convexSink[T]) CallsExtern() bool     { return false }
func (o *convexSink[T]) OverwritesInput() int  { return -1 }
func (o *convexSink[T]) String() string        { return "convexSink" }
func (o *convexSink[T]) WriteHash(h hash.Hash) { fmt.Fprintf(h, "convexSink#%d", o.id) }
func (o *convexSink[T]) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// Do implements gorgonia.Op.
func (o *convexSink[T]) Do(vs ...G.Value) (G.Value, error) {
	switch d := vs[0].Data().(type) {
	case T:
		o.scalar = d
	case []T:
		o.scalar = d[0]
	default:
		return nil, fmt.Errorf("the first result holds %T, expected a scalar", d)
	}
	for i, v := range vs[1:] {
		d, ok := v.Data().([]T)
		if !ok || len(d) != len(o.dst[i]) {
			return nil, fmt.Errorf("result %d holds %T of shape %v, expected %d elements", i, v.Data(), v.Shape(), len(o.dst[i]))
		}
		copy(o.dst[i], d)
	}
	if s, ok := any(o.scalar).(float64); ok {
		return G.NewF64(s), nil
	}
	return G.NewF32(any(o.scalar).(float32)), nil
}
