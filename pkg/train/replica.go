package train

import (
	"fmt"
	"hash"
	"hash/fnv"
	"sync/atomic"

	"github.com/chewxy/hm"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	"github.com/unrollnet/unrollnet/pkg/task"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// replica is a graph of loss and gradients of one micro-batch with the machine
// that runs it. All replicas of a run read the same parameters; each belongs to
// one goroutine at a time.
type replica struct {
	vm     G.VM
	env    *op.Env
	inputs [][]float32 // storage of the graph's inputs, in the task's order
	sink   *sinkOp
	nodes  int // of the whole graph
}

// newReplica builds the graph of t's loss of net on micro examples, its kernels
// using workers threads. Parameters are read where net keeps them. Only what
// loss and gradients need is compiled, so that gradients nobody asked for cost
// nothing. Replicas must be built one after the other: Gorgonia keeps some
// nodes process-wide.
func newReplica(net model.Model, t task.Task, micro, workers int) (*replica, error) {
	// The tape merges nodes whose 32-bit hashes agree. Operations number
	// themselves, so another try draws other hashes.
	var err error
	for range 3 {
		var r *replica
		if r, err = buildReplica(net, t, micro, workers); err == nil {
			if err = distinctHashes(r.sink.graph); err == nil {
				return r, nil
			}
			continue
		}
		return nil, err
	}
	return nil, err
}

func buildReplica(net model.Model, t task.Task, micro, workers int) (*replica, error) {
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewEnv(workers), net.Params())
	r := &replica{env: b.Env}
	var in G.Nodes
	for _, x := range t.Inputs() {
		data := make([]float32, micro*x.Size())
		r.inputs = append(r.inputs, data)
		in = append(in, b.Input(x.Name, data, x.Of(micro)...))
	}
	loss, err := t.Loss(b, net, in)
	if err != nil {
		return nil, fmt.Errorf("building the loss: %w", err)
	}
	nodes, params := b.Learnables()
	if all := net.Params().All(); len(params) != len(all) {
		used := map[string]bool{}
		for _, p := range params {
			used[p.Name] = true
		}
		for _, p := range all {
			if !used[p.Name] {
				return nil, fmt.Errorf("parameter %s does not enter the loss", p.Name)
			}
		}
	}
	grads, err := G.Grad(loss, nodes...)
	if err != nil {
		return nil, fmt.Errorf("differentiating the loss: %w", err)
	}
	for i, n := range grads {
		if !n.Shape().Eq(nodes[i].Shape()) {
			return nil, fmt.Errorf("gradient of %s has shape %v, expected %v", params[i].Name, n.Shape(), nodes[i].Shape())
		}
	}
	out := append(G.Nodes{loss}, grads...)
	r.sink = newSink(g, out)
	end, err := G.ApplyOp(r.sink, out...)
	if err != nil {
		return nil, fmt.Errorf("collecting gradients: %w", err)
	}
	prog, regs, err := G.CompileFunction(g, in, G.Nodes{end})
	if err != nil {
		return nil, fmt.Errorf("compiling the graph: %w", err)
	}
	r.vm = G.NewTapeMachine(g, G.WithPrecompiled(prog, regs))
	r.nodes = len(g.AllNodes())
	return r, nil
}

// run computes loss and gradients of the examples in r.inputs at the present
// parameters. grads, in the order of the parameters, is overwritten.
func (r *replica) run(grads [][]float32) (loss float64, err error) {
	r.sink.dst = grads
	defer r.vm.Reset()
	if err := r.vm.RunAll(); err != nil {
		return 0, err
	}
	return float64(r.sink.loss), nil
}

// distinctHashes checks that no two nodes of g share a hash.
func distinctHashes(g *G.ExprGraph) error {
	seen := map[uint32]*G.Node{}
	for _, n := range g.AllNodes() {
		if o, dup := seen[n.Hashcode()]; dup && o != n {
			return fmt.Errorf("graph nodes %v and %v share the hash %08x", o, n, n.Hashcode())
		}
		seen[n.Hashcode()] = n
	}
	return nil
}

// sinkOp ends a graph: it copies a scalar loss and the gradients after it out of
// the machine while their buffers are still theirs. (A tape may reuse a buffer
// once its last reader has run, so values are not to be read off nodes later.)
type sinkOp struct {
	graph *G.ExprGraph
	typ   hm.Type
	arity int
	id    uint64

	loss float32
	dst  [][]float32 // where gradient i goes
}

var sinks atomic.Uint64

func newSink(g *G.ExprGraph, in G.Nodes) *sinkOp {
	var types []hm.Type
	for _, n := range in {
		types = append(types, n.Type())
	}
	return &sinkOp{graph: g, typ: hm.NewFnType(append(types, tensor.Float32)...), arity: len(in), id: sinks.Add(1)}
}

func (o *sinkOp) Arity() int                                     { return o.arity }
func (o *sinkOp) Type() hm.Type                                  { return o.typ }
func (o *sinkOp) InferShape(...G.DimSizer) (tensor.Shape, error) { return tensor.ScalarShape(), nil }
func (o *sinkOp) ReturnsPtr() bool                               { return false }
func (o *sinkOp) CallsExtern() bool                              { return false }
func (o *sinkOp) OverwritesInput() int                           { return -1 }
func (o *sinkOp) String() string                                 { return "sink" }
func (o *sinkOp) WriteHash(h hash.Hash)                          { fmt.Fprintf(h, "sink#%d", o.id) }
func (o *sinkOp) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// Do implements gorgonia.Op.
func (o *sinkOp) Do(vs ...G.Value) (G.Value, error) {
	switch d := vs[0].Data().(type) {
	case float32:
		o.loss = d
	case []float32:
		o.loss = d[0]
	default:
		return nil, fmt.Errorf("loss holds %T, expected float32", d)
	}
	for i, v := range vs[1:] {
		t, ok := v.(*tensor.Dense)
		if !ok {
			return nil, fmt.Errorf("gradient %d is %T, expected a dense tensor", i, v)
		}
		if n := copy(o.dst[i], t.Float32s()); n != len(o.dst[i]) {
			return nil, fmt.Errorf("gradient %d has %d elements, expected %d", i, n, len(o.dst[i]))
		}
	}
	return G.NewF32(o.loss), nil
}
