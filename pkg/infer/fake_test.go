package infer

import (
	"fmt"
	"hash"
	"hash/fnv"
	"math"
	"sync/atomic"
	"testing"

	"github.com/chewxy/hm"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// fake is a network whose blocks are plain loops with everything an engine can
// get wrong: a border treatment of their own, features on 2x2 cells (cut at odd
// borders), a state handed on, and a reach of exactly the pixels they claim.
type fake struct {
	channels, blocks, reach int
	stateful                bool
	spoil                   int // block that gives NaN where x is largest; -1 for none
	params                  *nn.Params
}

func newFake(channels, blocks, reach int, stateful bool) *fake {
	p := nn.NewParams()
	p.Add("w", func(i int) float32 { return float32(i+1) / 7 }, 5)
	return &fake{channels: channels, blocks: blocks, reach: reach, stateful: stateful, spoil: -1, params: p}
}

func (f *fake) Config() model.Config { return model.Config{Channels: f.channels, Blocks: f.blocks} }
func (f *fake) Params() *nn.Params   { return f.params }
func (f *fake) Channels() int        { return f.channels }
func (f *fake) Blocks() int          { return f.blocks }
func (f *fake) Reach(t int) int      { return f.reach + t }
func (f *fake) Align() int           { return 2 }

func (f *fake) State(t int) (int, int) {
	if f.stateful && t >= 0 && t < f.blocks-1 {
		return 2, 2
	}
	return 0, 1
}

func (f *fake) Block(b *nn.Builder, t int, x, y, mask, state *G.Node) (next, nextState *G.Node, err error) {
	s := x.Shape()
	h, w := s[2], s[3]
	in := []*G.Node{x, y, mask}
	if state != nil {
		in = append(in, state)
	}
	next, err = apply(s.Clone(), func(in [][]float32, out []float32) { f.estimate(t, h, w, in, out) }, in...)
	if err != nil {
		return nil, nil, err
	}
	if ch, _ := f.State(t); ch > 0 {
		nextState, err = apply(tensor.Shape{1, ch, (h + 1) / 2, (w + 1) / 2}, func(in [][]float32, out []float32) { f.cells(h, w, in, out) }, in...)
	}
	return next, nextState, err
}

func (f *fake) Forward(*nn.Builder, *G.Node, *G.Node) (*G.Node, error) {
	return nil, fmt.Errorf("the fake has no whole forward")
}

// estimate: the pixels at the corners and along the axes of the square of side
// 2 reach + 1 (replicated at the border) are mixed with the 2x2 cell's mean and
// the state's cell.
func (f *fake) estimate(t, h, w int, in [][]float32, out []float32) {
	x, y, mask, wt := in[0], in[1], in[2], f.params.Get("w").Data
	r := f.Reach(t)
	for c := range f.channels {
		at := func(i, j int) float32 {
			return x[(c*h+min(max(i, 0), h-1))*w+min(max(j, 0), w-1)]
		}
		for i := range h {
			for j := range w {
				k := (c*h+i)*w + j
				if mask[k] != 0 {
					out[k] = y[k]
					continue
				}
				v := at(i-r, j-r)*wt[0] + at(i-r, j+r)*wt[1] + at(i+r, j-r)*wt[2] + at(i+r, j+r)*wt[3]
				for d := -r; d <= r; d++ {
					v += at(i+d, j)*wt[4] - at(i, j+d)*wt[0]
				}
				v += cellMean(x[c*h*w:], h, w, i/2, j/2)
				if len(in) > 3 {
					v += in[3][(i/2)*((w+1)/2)+j/2]
				}
				v = float32(math.Sin(float64(v)))
				if t == f.spoil && i == h/2 {
					v = float32(math.NaN())
				}
				out[k] = v
			}
		}
	}
}

// cells: two maps of the mean of each cell of channel 0, its right neighbour
// added, and the state before.
func (f *fake) cells(h, w int, in [][]float32, out []float32) {
	ch, cw := (h+1)/2, (w+1)/2
	for i := range ch {
		for j := range cw {
			v := cellMean(in[0], h, w, i, j) - 0.3*cellMean(in[0], h, w, i, min(j+1, cw-1))
			if len(in) > 3 {
				v += 0.5 * in[3][ch*cw+i*cw+max(j-1, 0)]
			}
			out[i*cw+j], out[ch*cw+i*cw+j] = v, v*v
		}
	}
}

func cellMean(x []float32, h, w, i, j int) float32 {
	var v float32
	for a := 2 * i; a < min(2*i+2, h); a++ {
		for b := 2 * j; b < min(2*j+2, w); b++ {
			v += x[a*w+b]
		}
	}
	return v / 4
}

// whole is what the engine must compute: all blocks on the whole image, without
// a graph.
func (f *fake) whole(y, mask []float32, h, w int) []float32 {
	x := make([]float32, len(y))
	graph.Initial(x, y, mask, f.channels, h, w)
	var state []float32
	for t := range f.blocks {
		in := [][]float32{x, y, mask}
		if state != nil {
			in = append(in, state)
		}
		next := make([]float32, len(x))
		f.estimate(t, h, w, in, next)
		state = nil
		if ch, _ := f.State(t); ch > 0 {
			state = make([]float32, ch*((h+1)/2)*((w+1)/2))
			f.cells(h, w, in, state)
		}
		x = next
	}
	return x
}

func (f *fake) network(task string) *Network {
	d := data.Degradation{Task: task}
	if task == data.Fill {
		d.Missing = 0.5
	}
	d, err := d.Resolved()
	if err != nil {
		panic(err)
	}
	return New("fake-"+task, f, d)
}

// loop is a Gorgonia operation around a plain function.
type loop struct {
	f   func(in [][]float32, out []float32)
	out *tensor.Dense
	n   int
	typ hm.Type
	id  uint64
}

var serial atomic.Uint64

func apply(shape tensor.Shape, f func(in [][]float32, out []float32), in ...*G.Node) (*G.Node, error) {
	var types []hm.Type
	for _, n := range in {
		types = append(types, n.Type())
	}
	types = append(types, G.TensorType{Dims: shape.Dims(), Of: tensor.Float32})
	o := &loop{f: f, n: len(in), typ: hm.NewFnType(types...), id: serial.Add(1),
		out: tensor.New(tensor.WithShape(shape...), tensor.Of(tensor.Float32))}
	return G.ApplyOp(o, in...)
}

func (o *loop) Arity() int                                     { return o.n }
func (o *loop) Type() hm.Type                                  { return o.typ }
func (o *loop) InferShape(...G.DimSizer) (tensor.Shape, error) { return o.out.Shape().Clone(), nil }
func (o *loop) ReturnsPtr() bool                               { return true }
func (o *loop) CallsExtern() bool                              { return false }
func (o *loop) OverwritesInput() int                           { return -1 }
func (o *loop) String() string                                 { return "loop" }
func (o *loop) WriteHash(h hash.Hash)                          { fmt.Fprintf(h, "loop#%d", o.id) }
func (o *loop) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

func (o *loop) Do(vs ...G.Value) (G.Value, error) {
	var in [][]float32
	for _, v := range vs {
		in = append(in, v.Data().([]float32))
	}
	o.f(in, o.out.Data().([]float32))
	return o.out, nil
}

// scene is a smooth coloured picture with edges, (C,H,W) in [0,1].
func scene(c, h, w int) []float32 {
	p := make([]float32, c*h*w)
	for k := range c {
		for i := range h {
			for j := range w {
				v := 0.5 + 0.25*math.Sin(float64(i)/5+float64(k))*math.Cos(float64(j)/7) + 0.1*math.Sin(float64(i*j)/31)
				if (i/9+j/13)%2 == 0 {
					v += 0.15
				}
				p[(k*h+i)*w+j] = float32(math.Round(v*255) / 255)
			}
		}
	}
	return p
}

// degraded returns samples of the scene.
func degraded(t testing.TB, d data.Degradation, c, h, w int) (y, mask []float32) {
	t.Helper()
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	return d.Apply(scene(c, h, w), c, h, w, data.Rand(1, 0, 0))
}

// different returns the first index at which two slices differ in their bits,
// or -1.
func different(a, b []float32) int {
	if len(a) != len(b) {
		return 0
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}
