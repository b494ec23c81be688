package explain

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// tensorValue is a copy of a node's value.
type tensorValue struct {
	shape []int
	data  []float32
}

// observed is what one block computed.
type observed struct {
	next, state *tensorValue
	parts       map[string]*tensorValue // by the names of nn.Builder.Observe
}

// runBlock runs block t of net on an estimate x, samples y and mask (C,h,w) and
// the state of the block before.
func runBlock(net model.Network, t, h, w, workers int, x, y, mask []float32, state *tensorValue) (*observed, error) {
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewInferenceEnv(workers), net.Params())
	values := map[string]*G.Value{}
	read := func(name string, n *G.Node) {
		op.Keep(n)
		v := new(G.Value)
		G.Read(n, v)
		values[name] = v
	}
	b.Observe = func(_ int, part string, n *G.Node) { read(part, n) }
	c := net.Channels()
	in := func(name string, data []float32) *G.Node {
		return b.Input(name, append([]float32(nil), data...), 1, c, h, w)
	}
	xn, yn, mn := in("x", x), in("y", y), in("mask", mask)
	var sn *G.Node
	if state != nil {
		sn = b.Input("state", state.data, state.shape...)
	}
	next, nextState, err := net.Block(b, t, xn, yn, mn, sn)
	if err != nil {
		return nil, err
	}
	read("next", next)
	if ch, _ := net.State(t); ch > 0 {
		read("state", nextState)
	}
	vm := G.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		return nil, err
	}
	seen := &observed{parts: map[string]*tensorValue{}}
	for name, v := range values {
		data, ok := (*v).Data().([]float32)
		if !ok {
			return nil, fmt.Errorf("%s: found values of type %T, expected float32", name, (*v).Data())
		}
		seen.parts[name] = &tensorValue{append([]int(nil), (*v).Shape()...), append([]float32(nil), data...)}
	}
	seen.next, seen.state = seen.parts["next"], seen.parts["state"]
	return seen, nil
}

// weights reads the operator of one graph, stored as graph.Weights writes it.
type weights struct {
	grid     *graph.Grid
	directed bool
	omega    []float32 // (planes,PlaneLen)
}

// at returns the weights of the pixel (x, y), those of neighbours outside left
// out, in reading order of the neighbours.
func (g *weights) at(x, y int) []Weight {
	var out []Weight
	for _, forward := range []bool{false, true} {
		for k := range g.grid.Forward {
			t := k
			if !forward {
				t = len(g.grid.Forward) - 1 - k // opposites run backwards
			}
			o := g.grid.Forward[t]
			dy, dx := o[0], o[1]
			at := g.grid.Base + y*g.grid.Stride + x
			plane := t
			if !forward {
				dy, dx = -dy, -dx
				if g.directed {
					plane += len(g.grid.Forward)
				} else {
					at += dy*g.grid.Stride + dx // stored where the edge begins
				}
			}
			if nx, ny := x+dx, y+dy; nx < 0 || ny < 0 || nx >= g.grid.W || ny >= g.grid.H {
				continue
			}
			out = append(out, Weight{dx, dy, g.omega[plane*g.grid.PlaneLen+at]})
		}
	}
	return out
}

// Shares returns the weights divided by their sum; zeros if there is none.
func Shares(row []Weight) []float64 {
	var sum float64
	for _, w := range row {
		sum += math.Abs(float64(w.Value))
	}
	out := make([]float64, len(row))
	for i, w := range row {
		if sum > 0 {
			out[i] = math.Abs(float64(w.Value)) / sum
		}
	}
	return out
}

// neighbours returns how many neighbours the shares stand for: 1/sum p^2, which
// is n for n equal shares and 1 for a single one; 0 without neighbours.
func neighbours(shares []float64) float64 {
	var sum float64
	for _, p := range shares {
		sum += p * p
	}
	if sum == 0 {
		return 0
	}
	return 1 / sum
}

// shapeSteps is the number of places along the longer side of the window at
// which shapes are taken.
const shapeSteps = 24

// heads reports the graphs of block t and what was solved on them.
func (r *Report) heads(net model.Network, t int, seen *observed) ([]Head, error) {
	cfg := net.Config()
	h, w := r.Size()
	norm, err := graph.ParseNormalization(cfg.Normalization)
	if err != nil {
		return nil, err
	}
	grid := graph.NewGrid(h, w, cfg.Neighbours())
	planes := norm.Planes(grid) * grid.PlaneLen
	omega := seen.parts["graph"]
	if omega == nil {
		return nil, fmt.Errorf("found no graph, expected the network to report one")
	}
	if len(omega.data) != cfg.Heads*planes {
		return nil, fmt.Errorf("found a graph of %v, expected %d heads of %d values", omega.shape, cfg.Heads, planes)
	}
	shares := softmax(seen.parts["scores"], cfg.Heads)
	step := max((max(h, w)+shapeSteps-1)/shapeSteps, 2*grid.Radius+1)
	heads := make([]Head, cfg.Heads)
	for k := range heads {
		g := &weights{grid, norm.Directed(), omega.data[k*planes:][:planes]}
		head := &heads[k]
		head.Reach = make([]float32, h*w)
		for y := range h {
			for x := range w {
				row := g.at(x, y)
				p := Shares(row)
				head.Reach[y*w+x] = float32(neighbours(p))
				if y%step == step/2 && x%step == step/2 {
					s := Shape{X: x, Y: y}
					for i, q := range p {
						dx, dy := float64(row[i].DX), float64(row[i].DY)
						s.XX += q * dx * dx
						s.XY += q * dx * dy
						s.YY += q * dy * dy
					}
					head.Shape = append(head.Shape, s)
				}
			}
		}
		for _, p := range r.Pixels {
			head.Rows = append(head.Rows, g.at(p.X, p.Y))
		}
		if shares != nil {
			head.Share = shares[k*h*w:][:h*w]
		}
		head.PSNR = math.NaN()
		if z := seen.parts["solutions"]; z != nil && r.Original != nil {
			nc := net.Channels()
			n := nc * h * w
			if len(z.data) != cfg.Heads*n {
				return nil, fmt.Errorf("found solutions of %v, expected %d heads of %d values", z.shape, cfg.Heads, n)
			}
			head.PSNR = r.stage(shown(z.data[k*n:][:n], nc, r.C)).PSNR
		}
		head.HeadCoefficients = headCoefficients(net, t, k)
	}
	return heads, nil
}

// softmax returns the shares of heads (heads,H,W) from their scores
// (1,heads,H,W); nil for nil.
func softmax(scores *tensorValue, heads int) []float32 {
	if scores == nil {
		return nil
	}
	n := len(scores.data) / heads
	out := make([]float32, len(scores.data))
	for i := range n {
		top := math.Inf(-1)
		for k := range heads {
			top = max(top, float64(scores.data[k*n+i]))
		}
		var sum float64
		for k := range heads {
			sum += math.Exp(float64(scores.data[k*n+i]) - top)
		}
		for k := range heads {
			out[k*n+i] = float32(math.Exp(float64(scores.data[k*n+i])-top) / sum)
		}
	}
	return out
}
