// Package op holds the differentiable operations networks are made of, as
// Gorgonia nodes: each a coarse step (a convolution, a graph's edge weights, a
// solver of many iterations) with a hand-derived backward pass over the kernels
// of pkg/kernel and pkg/graph.
//
// An operation is a function[T] in a file of its own, forward and backward next
// to each other; this file is the bridge to Gorgonia. All operations compute in
// float32 or float64, by the type of their first input.
package op

import (
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"sync/atomic"

	"github.com/chewxy/hm"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Env is what the operations of one graph share: temporary memory and the
// number of threads a kernel may use. One replica, one goroutine at a time.
type Env struct {
	Workers int // threads inside a kernel, at least 1

	// Inference says that no graph of this Env runs backward: operations keep
	// nothing but their output, and give that back, for other operations to
	// write to, once all that read it have run. Outputs that are read from
	// outside the graph must be told by Keep.
	Inference bool

	free32 [][]float32 // buffers of outputs that are done with
	free64 [][]float64

	scratch32 kernel.Scratch[float32]
	scratch64 kernel.Scratch[float64]
}

// NewEnv returns an Env whose kernels use workers threads.
func NewEnv(workers int) *Env { return &Env{Workers: max(workers, 1)} }

// NewInferenceEnv returns an Env with Inference set.
func NewInferenceEnv(workers int) *Env {
	e := NewEnv(workers)
	e.Inference = true
	return e
}

// ScratchBytes returns the temporary memory held, in bytes.
func (e *Env) ScratchBytes() int64 { return e.scratch32.Bytes() + e.scratch64.Bytes() }

func scratch[T kernel.Float](e *Env) *kernel.Scratch[T] {
	var s any = &e.scratch32
	if _, ok := any(T(0)).(float64); ok {
		s = &e.scratch64
	}
	return s.(*kernel.Scratch[T])
}

// function is the mathematics of an operation, free of Gorgonia. Slices are
// dense and row-major, with the shapes given to shape.
type function[T kernel.Float] interface {
	// String names the operation in errors and graph dumps.
	String() string
	// shape checks the inputs' shapes and returns the output's.
	shape(in []tensor.Shape) (tensor.Shape, error)
	// wants says for each input whether the operation has a gradient for it.
	wants() []bool
	// forward computes out, whose content on entry is that of the previous run.
	forward(e *Env, in [][]T, out []T)
	// backward computes the gradients of the inputs, overwriting din; din[i] is
	// nil where wants()[i] is false. It is called after forward on the same
	// input, and may use what forward kept.
	backward(e *Env, in [][]T, out, dout []T, din [][]T)
}

// examiner is a function whose inputs may be wrong in ways that shapes do not
// show, such as symbols that no table has.
type examiner[T kernel.Float] interface {
	// examine is called before forward, which is not called if there is an error.
	examine(in [][]T) error
}

// apply adds f as a node over the inputs.
func apply[T kernel.Float](e *Env, f function[T], in ...*G.Node) (*G.Node, error) {
	shapes := make([]tensor.Shape, len(in))
	for i, n := range in {
		if n.Dtype() != dtypeOf[T]() {
			return nil, fmt.Errorf("%v: input %d is %v, expected %v", f, i, n.Dtype(), dtypeOf[T]())
		}
		shapes[i] = n.Shape().Clone()
	}
	out, err := f.shape(shapes)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	o := &forwardOp[T]{node: newNode[T](f.String(), in, out), env: e, f: f, in: shapes}
	if e.Inference {
		for _, n := range in {
			if p, ok := n.Op().(*forwardOp[T]); ok {
				p.readers++
				o.producers = append(o.producers, p)
			}
		}
	}
	return G.ApplyOp(o, in...)
}

// applyAny is apply for a function that exists in both precisions.
func applyAny(e *Env, f32 function[float32], f64 function[float64], in ...*G.Node) (*G.Node, error) {
	if len(in) > 0 && in[0].Dtype() == tensor.Float64 {
		return apply(e, f64, in...)
	}
	return apply(e, f32, in...)
}

func dtypeOf[T kernel.Float]() tensor.Dtype {
	if _, ok := any(T(0)).(float64); ok {
		return tensor.Float64
	}
	return tensor.Float32
}

// serial makes every operation's hash its own: Gorgonia merges nodes by a
// 32-bit hash alone, and an operation owns its output buffer, so two nodes must
// never share one.
var serial atomic.Uint64

// node implements what Gorgonia asks of any operation. The operation owns its
// output and returns the same tensor every run, so that a step allocates nothing.
type node[T kernel.Float] struct {
	name string
	id   uint64
	typ  hm.Type
	out  tensor.Shape
	n    int
}

func newNode[T kernel.Float](name string, in []*G.Node, out tensor.Shape) node[T] {
	types := make([]hm.Type, 0, len(in)+1)
	for _, n := range in {
		types = append(types, n.Type())
	}
	var t hm.Type = dtypeOf[T]()
	if out.Dims() > 0 {
		t = G.TensorType{Dims: out.Dims(), Of: dtypeOf[T]()}
	}
	return node[T]{name: name, id: serial.Add(1), typ: hm.NewFnType(append(types, t)...), out: out, n: len(in)}
}

func (o *node[T]) Arity() int                                     { return o.n }
func (o *node[T]) Type() hm.Type                                  { return o.typ }
func (o *node[T]) InferShape(...G.DimSizer) (tensor.Shape, error) { return o.out.Clone(), nil }
func (o *node[T]) ReturnsPtr() bool                               { return true }
func (o *node[T]) CallsExtern() bool                              { return false }
func (o *node[T]) OverwritesInput() int                           { return -1 }
func (o *node[T]) String() string                                 { return o.name }
func (o *node[T]) WriteHash(h hash.Hash)                          { fmt.Fprintf(h, "%s#%d", o.name, o.id) }
func (o *node[T]) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// value is an output an operation owns: a tensor, or a scalar for shape ().
type value[T kernel.Float] struct {
	data []T
	v    G.Value
}

func (v *value[T]) init(s tensor.Shape) {
	if v.v != nil {
		return
	}
	if s.Dims() == 0 {
		v.data = make([]T, 1)
		return
	}
	v.data = make([]T, s.TotalSize())
	v.v = tensor.New(tensor.WithShape(s.Clone()...), tensor.WithBacking(v.data))
}

// get returns the value; scalars are boxed anew because Gorgonia keeps them.
func (v *value[T]) get() G.Value {
	if v.v != nil {
		return v.v
	}
	if d, ok := any(v.data).([]float32); ok {
		return G.NewF32(d[0])
	}
	return G.NewF64(any(v.data).([]float64)[0])
}

// slicesOf returns the data of vs; a scalar becomes a slice of one.
func slicesOf[T kernel.Float](vs []G.Value, dst [][]T) ([][]T, error) {
	dst = dst[:0]
	for i, v := range vs {
		switch d := v.Data().(type) {
		case []T:
			dst = append(dst, d)
		case T:
			dst = append(dst, []T{d})
		default:
			return nil, fmt.Errorf("input %d holds %T", i, d)
		}
	}
	return dst, nil
}

// forwardOp runs a function forward.
type forwardOp[T kernel.Float] struct {
	node[T]
	env    *Env
	f      function[T]
	in     []tensor.Shape
	result value[T]
	args   [][]T

	// With Env.Inference: the operations whose outputs this one reads, and how
	// many read this one's, in all and still to come in this run.
	producers        []*forwardOp[T]
	readers, waiting int
}

// Keep says that n is read from outside the graph, so that its value stays valid
// after a run.
func Keep(n *G.Node) {
	switch o := n.Op().(type) {
	case *forwardOp[float32]:
		o.readers++
	case *forwardOp[float64]:
		o.readers++
	}
}

// Do implements gorgonia.Op.
func (o *forwardOp[T]) Do(vs ...G.Value) (G.Value, error) {
	if o.env.Inference && o.result.data == nil {
		o.result = recycled[T](o.env, o.out)
	}
	o.result.init(o.out)
	var err error
	if o.args, err = slicesOf(vs, o.args); err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	if f, ok := o.f.(examiner[T]); ok {
		if err := f.examine(o.args); err != nil {
			return nil, fmt.Errorf("%s: %w", o.name, err)
		}
	}
	o.f.forward(o.env, o.args, o.result.data)
	v := o.result.get()
	o.waiting = o.readers
	for _, p := range o.producers {
		if p.waiting--; p.waiting == 0 {
			list := free[T](o.env)
			*list = append(*list, p.result.data)
			p.result = value[T]{}
		}
	}
	return v, nil
}

func free[T kernel.Float](e *Env) *[][]T {
	var f any = &e.free32
	if _, ok := any(T(0)).(float64); ok {
		f = &e.free64
	}
	return f.(*[][]T)
}

// recycled returns an output of shape s in the smallest buffer put aside that is
// large enough, but not twice as large as needed; the zero value if there is none.
func recycled[T kernel.Float](e *Env, s tensor.Shape) (v value[T]) {
	n, list, best := s.TotalSize(), free[T](e), -1
	for i, b := range *list {
		if cap(b) >= n && cap(b) <= 2*n && (best < 0 || cap(b) < cap((*list)[best])) {
			best = i
		}
	}
	if best < 0 || s.Dims() == 0 {
		return v
	}
	v.data = (*list)[best][:n]
	*list = slices.Delete(*list, best, best+1)
	v.v = tensor.New(tensor.WithShape(s.Clone()...), tensor.WithBacking(v.data))
	return v
}

// DiffWRT implements gorgonia.SDOp.
func (o *forwardOp[T]) DiffWRT(int) []bool { return o.f.wants() }

// SymDiff implements gorgonia.SDOp: one node computes all gradients in one pass
// and is the gradient of the first input that has one; the others read theirs
// from it.
func (o *forwardOp[T]) SymDiff(inputs G.Nodes, output, grad *G.Node) (G.Nodes, error) {
	wants := o.f.wants()
	args := append(append(G.Nodes{}, inputs...), output, grad)
	var back *backwardOp[T]
	var first *G.Node
	grads := make(G.Nodes, len(inputs))
	for i := range inputs {
		if !wants[i] {
			continue
		}
		if back == nil {
			back = &backwardOp[T]{node: newNode[T](o.name+"'", args, o.in[i]), fwd: o, first: i}
			back.grads = make([]value[T], len(inputs))
			n, err := G.ApplyOp(back, args...)
			if err != nil {
				return nil, fmt.Errorf("gradient of %s: %w", o.name, err)
			}
			first = n
			grads[i] = n
			continue
		}
		side := &sideOp[T]{node: newNode[T](fmt.Sprintf("%s'[%d]", o.name, i), []*G.Node{first}, o.in[i]), back: back, i: i}
		n, err := G.ApplyOp(side, first)
		if err != nil {
			return nil, fmt.Errorf("gradient of %s: %w", o.name, err)
		}
		grads[i] = n
	}
	return grads, nil
}

// backwardOp computes all gradients of a forwardOp and returns the first.
type backwardOp[T kernel.Float] struct {
	node[T]
	fwd   *forwardOp[T]
	first int
	grads []value[T]
	args  [][]T
	din   [][]T
}

// Do implements gorgonia.Op.
func (o *backwardOp[T]) Do(vs ...G.Value) (G.Value, error) {
	if o.din == nil {
		o.din = make([][]T, len(o.grads))
		for i, want := range o.fwd.f.wants() {
			if want {
				o.grads[i].init(o.fwd.in[i])
				o.din[i] = o.grads[i].data
			}
		}
	}
	var err error
	if o.args, err = slicesOf(vs, o.args); err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	k := len(o.args) - 2
	o.fwd.f.backward(o.fwd.env, o.args[:k], o.args[k], o.args[k+1], o.din)
	return o.grads[o.first].get(), nil
}

// sideOp returns one more gradient that a backwardOp has computed.
type sideOp[T kernel.Float] struct {
	node[T]
	back *backwardOp[T]
	i    int
}

// Do implements gorgonia.Op.
func (o *sideOp[T]) Do(...G.Value) (G.Value, error) { return o.back.grads[o.i].get(), nil }

// sameShape reports shapes that differ.
func sameShape(what string, got, want tensor.Shape) error {
	if !got.Eq(want) {
		return fmt.Errorf("%s has shape %v, expected %v", what, got, want)
	}
	return nil
}

// rank reports an input of another number of dimensions.
func rank(what string, s tensor.Shape, dims int) error {
	if s.Dims() != dims {
		return fmt.Errorf("%s has shape %v, expected %d dimensions", what, s, dims)
	}
	return nil
}
