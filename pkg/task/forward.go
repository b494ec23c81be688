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

// forwardCache keeps the graphs of a network for the image sizes in use, for
// validation while a network trains: whole images at once, no tiles. Graphs read
// the parameters where the network keeps them, so they stay valid as these
// change.
type forwardCache struct {
	mu   sync.Mutex
	net  model.Network
	idle map[[2]int][]*forward // by height and width
}

// restorer returns a Restorer of net that may be called concurrently.
func (f *forwardCache) restorer(net model.Network) Restorer {
	f.mu.Lock()
	if f.net != net {
		f.net, f.idle = net, map[[2]int][]*forward{}
	}
	f.mu.Unlock()
	return func(y, mask []float32, c, h, w int) ([]float32, error) {
		m, err := f.take(net, c, h, w)
		if err != nil {
			return nil, err
		}
		out, err := m.run(y, mask)
		f.mu.Lock()
		f.idle[[2]int{h, w}] = append(f.idle[[2]int{h, w}], m)
		f.mu.Unlock()
		return out, err
	}
}

// take returns a graph nobody uses, building it if need be; building is
// serialised because Gorgonia keeps some nodes process-wide.
func (f *forwardCache) take(net model.Network, c, h, w int) (*forward, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]int{h, w}
	if l := f.idle[key]; len(l) > 0 {
		f.idle[key] = l[:len(l)-1]
		return l[len(l)-1], nil
	}
	return newForward(net, c, h, w)
}

// forward is a compiled graph of a network for one image size.
type forward struct {
	vm      G.VM
	y, mask []float32
	out     *outOp
}

func newForward(net model.Network, c, h, w int) (*forward, error) {
	if c != net.Channels() {
		return nil, fmt.Errorf("image has %d channels, expected the network's %d", c, net.Channels())
	}
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewInferenceEnv(1), net.Params())
	f := &forward{y: make([]float32, c*h*w), mask: make([]float32, c*h*w)}
	y, mask := b.Input("y", f.y, 1, c, h, w), b.Input("mask", f.mask, 1, c, h, w)
	x, err := net.Forward(b, y, mask)
	if err != nil {
		return nil, err
	}
	f.out = &outOp{typ: hm.NewFnType(x.Type(), tensor.Float32), id: outs.Add(1)}
	end, err := G.ApplyOp(f.out, x)
	if err != nil {
		return nil, err
	}
	prog, regs, err := G.CompileFunction(g, G.Nodes{y, mask}, G.Nodes{end})
	if err != nil {
		return nil, err
	}
	f.vm = G.NewTapeMachine(g, G.WithPrecompiled(prog, regs))
	return f, nil
}

func (f *forward) run(y, mask []float32) ([]float32, error) {
	copy(f.y, y)
	copy(f.mask, mask)
	f.out.dst = make([]float32, len(y))
	defer f.vm.Reset()
	if err := f.vm.RunAll(); err != nil {
		return nil, err
	}
	return f.out.dst, nil
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
		return nil, fmt.Errorf("restored image is %T, expected a dense tensor", vs[0])
	}
	if n := copy(o.dst, t.Float32s()); n != len(o.dst) {
		return nil, fmt.Errorf("restored image has %d values, expected %d", n, len(o.dst))
	}
	return G.NewF32(0), nil
}
