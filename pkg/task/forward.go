package task

import (
	"fmt"
	"hash"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/chewxy/hm"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// forwardCache keeps the graphs of a network for the input sizes in use, for
// validation while a network trains: whole images at once, no tiles. Graphs read
// the parameters where the network keeps them, so they stay valid as these
// change.
type forwardCache struct {
	mu   sync.Mutex
	net  model.Model
	idle map[[2]int][]*forward // by what tells sizes apart
}

// run computes what a graph of net for a size gives for inputs and stores it in
// dst; build makes such a graph. It may be called concurrently.
func (f *forwardCache) run(net model.Model, size [2]int, build func() (*forward, error), dst []float32, inputs ...[]float32) error {
	m, err := f.take(net, size, build)
	if err != nil {
		return err
	}
	err = m.run(dst, inputs)
	f.mu.Lock()
	if f.net == net {
		f.idle[size] = append(f.idle[size], m)
	}
	f.mu.Unlock()
	return err
}

// take returns a graph nobody uses, building it if need be; building is
// serialised because Gorgonia keeps some nodes process-wide.
func (f *forwardCache) take(net model.Model, size [2]int, build func() (*forward, error)) (*forward, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.net != net || f.idle == nil {
		f.net, f.idle = net, map[[2]int][]*forward{}
	}
	if l := f.idle[size]; len(l) > 0 {
		f.idle[size] = l[:len(l)-1]
		return l[len(l)-1], nil
	}
	return build()
}

// restorer returns a Restorer of net that may be called concurrently.
func (f *forwardCache) restorer(net model.Network) Restorer {
	return func(y, mask []float32, c, h, w int) ([]float32, error) {
		if c != net.Channels() {
			return nil, fmt.Errorf("image has %d channels, expected the network's %d", c, net.Channels())
		}
		out := make([]float32, len(y))
		err := f.run(net, [2]int{h, w}, func() (*forward, error) {
			return newForward(net, func(b *nn.Builder, in []*G.Node) (*G.Node, error) {
				return net.Forward(b, in[0], in[1])
			}, Input{Name: "y", Shape: []int{c, h, w}}.whole(1), Input{Name: "mask", Shape: []int{c, h, w}}.whole(1))
		}, out, y, mask)
		return out, err
	}
}

// whole is the input of n examples at once.
func (x Input) whole(n int) Input { return Input{Name: x.Name, Shape: x.Of(n)} }

// forward is a compiled graph of a network for one size of its inputs.
type forward struct {
	vm     G.VM
	inputs [][]float32
	out    *outOp
}

// newForward compiles what add makes of inputs of the given shapes.
func newForward(net model.Model, add func(b *nn.Builder, in []*G.Node) (*G.Node, error), inputs ...Input) (*forward, error) {
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewInferenceEnv(1), net.Params())
	f := &forward{}
	var in G.Nodes
	for _, x := range inputs {
		data := make([]float32, x.Size())
		f.inputs = append(f.inputs, data)
		in = append(in, b.Input(x.Name, data, x.Shape...))
	}
	x, err := add(b, in)
	if err != nil {
		return nil, err
	}
	f.out = &outOp{typ: hm.NewFnType(x.Type(), tensor.Float32), id: outs.Add(1)}
	end, err := G.ApplyOp(f.out, x)
	if err != nil {
		return nil, err
	}
	prog, regs, err := G.CompileFunction(g, in, G.Nodes{end})
	if err != nil {
		return nil, err
	}
	f.vm = G.NewTapeMachine(g, G.WithPrecompiled(prog, regs))
	return f, nil
}

func (f *forward) run(dst []float32, inputs [][]float32) error {
	for i, x := range inputs {
		copy(f.inputs[i], x)
	}
	f.out.dst = dst
	defer f.vm.Reset()
	return f.vm.RunAll()
}

// outOp copies a result out of the machine while its buffer is still its own.
type outOp struct {
	typ hm.Type
	id  uint64
	dst []float32
}

var outs atomic.Uint64

func (o *outOp) Arity() int                                     { return 1 }
func (o *outOp) Type() hm.Type                                  { return o.typ }
func (o *outOp) InferShape(...G.DimSizer) (tensor.Shape, error) { return tensor.ScalarShape(), nil }
func (o *outOp) ReturnsPtr() bool                               { return false }
func (o *outOp) CallsExtern() bool                              { return false }
func (o *outOp) OverwritesInput() int                           { return -1 }
func (o *outOp) String() string                                 { return "out" }
func (o *outOp) WriteHash(h hash.Hash)                          { fmt.Fprintf(h, "out#%d", o.id) }
func (o *outOp) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// Do implements gorgonia.Op.
func (o *outOp) Do(vs ...G.Value) (G.Value, error) {
	t, ok := vs[0].(*tensor.Dense)
	if !ok {
		return nil, fmt.Errorf("result is %T, expected a dense tensor", vs[0])
	}
	if n := len(t.Float32s()); n != len(o.dst) {
		return nil, fmt.Errorf("result has %d values, expected %d", n, len(o.dst))
	}
	copy(o.dst, t.Float32s())
	return G.NewF32(0), nil
}
