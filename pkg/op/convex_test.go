package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
)

// convexHeads are heads of every mechanism, on small odd shapes, linear and with
// two gates, per token and pooled.
func convexHeads() map[string]ConvexHead {
	heads := map[string]ConvexHead{}
	for _, base := range []ConvexHead{
		{Mechanism: SelfAttention, Tokens: 5, Channels: 3, Outputs: 2},
		{Mechanism: Mixer, Tokens: 5, Channels: 3, Outputs: 2},
		{Mechanism: Fourier, Tokens: 5, Channels: 3, Outputs: 2},
		{Mechanism: Fourier, Tokens: 6, Channels: 3, Outputs: 2, Height: 2, Width: 3},
		{Mechanism: BlockFourier, Tokens: 5, Channels: 6, Outputs: 4, Blocks: 2},
		{Mechanism: BlockFourier, Tokens: 5, Channels: 6, Outputs: 4, Blocks: 2, Strict: true},
		{Mechanism: Perceptron, Tokens: 5, Channels: 3, Outputs: 2},
		{Mechanism: Linear, Tokens: 5, Channels: 3, Outputs: 2},
	} {
		for _, pooled := range []bool{false, true} {
			for _, gates := range []int{1, 2} {
				if base.Mechanism == Linear && gates > 1 {
					continue
				}
				h := base
				h.Pooled, h.Gates, h.Scale = pooled, gates, 0.7
				name := fmt.Sprintf("%s/blocks%d,strict=%v,grid%dx%d/pooled=%v/gates%d", h.Mechanism, h.Blocks, h.Strict, h.Height, h.Width, pooled, gates)
				heads[name] = h
			}
		}
	}
	return heads
}

// headData draws examples and gates; a single gate is of zeros.
func headData(rng *rand.Rand, h ConvexHead, n int) (x, gates input) {
	a, _ := h.BlockShape()
	x = random(rng, -1, 1, n, h.Tokens, h.Channels).fixed()
	gates = random(rng, -1, 1, h.BlockCount(), a).fixed()
	if h.Gates == 1 {
		clear(gates.data)
	}
	return x, gates
}

// definition evaluates one head of a network from the matrices of its
// definition: sigma(X W1 X^T) X W2, sigma(W1 X) W2, sigma(circ(X) w) v^T,
// sigma(X w) v^T, where sigma multiplies by 1{z(gate) >= 0} or is max(., 0).
func definition(h ConvexHead, j int, relu bool, x, gate, w, v []float64) []float64 {
	s, d, c := h.Tokens, h.Channels, h.Outputs
	mul := func(a [][]float64, b [][]float64) [][]float64 {
		out := make([][]float64, len(a))
		for i := range a {
			out[i] = make([]float64, len(b[0]))
			for k := range b {
				for q := range b[k] {
					out[i][q] += a[i][k] * b[k][q]
				}
			}
		}
		return out
	}
	matrix := func(v []float64, rows, cols int) [][]float64 {
		out := make([][]float64, rows)
		for i := range out {
			out[i] = v[i*cols:][:cols]
		}
		return out
	}
	transposed := func(a [][]float64) [][]float64 {
		out := make([][]float64, len(a[0]))
		for i := range out {
			for k := range a {
				out[i] = append(out[i], a[k][i])
			}
		}
		return out
	}
	X := matrix(x, s, d)
	first := func(w []float64) [][]float64 {
		switch h.Mechanism {
		case SelfAttention:
			return mul(mul(X, matrix(w, d, d)), transposed(X))
		case Mixer:
			return mul(matrix(w, s, s), X)
		case Fourier, BlockFourier:
			b := max(h.Blocks, 1)
			e, g := d/b, j%b
			var circ [][]float64
			for t := range s {
				var row []float64
				for u := range s {
					from := ((t-u)%s + s) % s
					if h.Height > 0 {
						y := ((t/h.Width-u/h.Width)%h.Height + h.Height) % h.Height
						z := ((t%h.Width-u%h.Width)%h.Width + h.Width) % h.Width
						from = y*h.Width + z
					}
					row = append(row, X[from][g*e:][:e]...)
				}
				circ = append(circ, row)
			}
			return mul(circ, matrix(w, len(w), 1))
		}
		return mul(X, matrix(w, d, 1))
	}
	z, q := first(w), first(gate)
	for t := range z {
		for u := range z[t] {
			if relu && z[t][u] < 0 || !relu && q[t][u] < 0 {
				z[t][u] = 0
			}
		}
	}
	var f [][]float64
	switch h.Mechanism {
	case SelfAttention:
		f = mul(z, mul(X, matrix(v, d, c)))
	case Mixer:
		f = mul(z, matrix(v, d, c))
	default:
		f = mul(z, matrix(v, 1, len(v)))
		if h.Strict {
			for t := range f {
				row := make([]float64, c)
				copy(row[j%h.Blocks*len(v):], f[t])
				f[t] = row
			}
		}
	}
	out := make([]float64, h.Rows()*c)
	for t := range f {
		for p, y := range f[t] {
			if h.Pooled {
				out[p] += h.Scale * y / float64(s)
			} else {
				out[t*c+p] += h.Scale * y
			}
		}
	}
	return out
}

func outputs(t *testing.T, build func(e *Env, in []*G.Node) (*G.Node, error), size int, ins ...input) []float64 {
	t.Helper()
	_, _, o := run(t, build, ins, make([]float64, size), false)
	return o
}

// An outer product of layers as weights of the convex head gives the network's
// output, which the definition gives, too.
func TestConvexRankOne(t *testing.T) {
	const n, m = 3, 2
	for name, h := range convexHeads() {
		rng := rand.New(rand.NewPCG(3, 9))
		x, gates := headData(rng, h, n)
		a, b := h.BlockShape()
		J, row := h.BlockCount(), h.Rows()*h.Outputs
		w1, w2 := random(rng, -1, 1, J, m, a), random(rng, -1, 1, J, m, b)
		for _, relu := range []bool{false, true} {
			want := make([]float64, n*row)
			for i := range n {
				for j := range J {
					for r := range m {
						k := j*m + r
						for p, v := range definition(h, j, relu, x.data[i*h.Tokens*h.Channels:][:h.Tokens*h.Channels], gates.data[j*a:][:a], w1.data[k*a:][:a], w2.data[k*b:][:b]) {
							want[i*row+p] += v
						}
					}
				}
			}
			got := outputs(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				return ConvexNetwork(e, h, relu, in[0], in[1], in[2], in[3])
			}, n*row, x, gates, w1, w2)
			if d := farthest(got, want); d > 1e-13 {
				t.Errorf("%s, relu %v: network differs from its definition by %g", name, relu, d)
			}
			if relu {
				continue
			}
			z := input{shape: []int{h.Size()}, data: make([]float64, h.Size())}
			for k := range J * m {
				for i, u := range w1.data[k*a:][:a] {
					for q, v := range w2.data[k*b:][:b] {
						z.data[k/m*a*b+i*b+q] += u * v
					}
				}
			}
			product := outputs(t, func(e *Env, in []*G.Node) (*G.Node, error) { return FactorProduct(e, h, in[0], in[1]) }, h.Size(), w1, w2)
			if d := farthest(product, z.data); d > 1e-14 {
				t.Errorf("%s: product of the layers is wrong by %g", name, d)
			}
			phi := input{shape: []int{n, h.Rows(), h.Features()}, data: make([]float64, n*h.Rows()*h.Features()), frozen: true}
			ConvexFeatures(h, 1, n, x.data, gates.data, phi.data)
			product = outputs(t, func(e *Env, in []*G.Node) (*G.Node, error) { return ConvexProduct(e, h, in[0], in[1]) }, n*row, phi, z)
			if d := farthest(product, want); d > 1e-13 {
				t.Errorf("%s: convex head differs from the network by %g", name, d)
			}
		}
	}
}

func farthest(a, b []float64) (d float64) {
	for i, v := range a {
		d = max(d, math.Abs(v-b[i]))
		if math.IsNaN(v) {
			return math.NaN()
		}
	}
	if len(a) != len(b) {
		return math.Inf(1)
	}
	return d
}

// <A z, r> = <z, A* r>; the matrix-free operator has the bits of the product,
// for any number of threads and any number of examples at a time.
func TestConvexAdjoint(t *testing.T) {
	const n = 7
	for name, h := range convexHeads() {
		rng := rand.New(rand.NewPCG(4, 9))
		x, gates := headData(rng, h, n)
		z := random(rng, -1, 1, h.Size())
		size := n * h.Rows() * h.Outputs
		r := random(rng, -1, 1, size).data
		phi := input{shape: []int{n, h.Rows(), h.Features()}, data: make([]float64, n*h.Rows()*h.Features()), frozen: true}
		ConvexFeatures(h, 3, n, x.data, gates.data, phi.data)
		value, grads, out := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return ConvexProduct(e, h, in[0], in[1])
		}, []input{phi, z}, r, true)
		var inner float64
		for i, v := range z.data {
			inner += v * grads[0][i]
		}
		if math.Abs(inner-value) > 1e-12*math.Max(1, math.Abs(value)) {
			t.Errorf("%s: <A z, r> = %.17g, <z, A* r> = %.17g", name, value, inner)
		}
		for _, chunk := range []int{1, 3, 7} {
			_, g2, o2 := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
				e.Workers = 3
				f := &convexOperator[float64]{convexProduct: convexProduct[float64]{h: h}}
				node, err := apply(e, f, in...)
				f.chunk = chunk
				f.phi = make([]float64, chunk*h.Rows()*h.Features())
				return node, err
			}, []input{x, gates, z}, r, true)
			for i, v := range out {
				if o2[i] != v {
					t.Fatalf("%s, %d examples at a time: output %d is %v, expected %v", name, chunk, i, o2[i], v)
				}
			}
			for i, v := range grads[0] {
				if g2[0][i] != v {
					t.Fatalf("%s, %d examples at a time: gradient %d is %v, expected %v", name, chunk, i, g2[0][i], v)
				}
			}
		}
		value3, _, _ := run(t, func(e *Env, in []*G.Node) (*G.Node, error) {
			return ConvexOperator(e, h, in[0], in[1], in[2])
		}, []input{x, gates, z}, r, false)
		if value3 != value {
			t.Errorf("%s: matrix-free operator gives %v, expected %v", name, value3, value)
		}
	}
}

func TestConvexNetworkGradient(t *testing.T) {
	const n, m = 2, 2
	for name, h := range convexHeads() {
		if h.Gates == 1 && h.Mechanism != Linear {
			continue
		}
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 9))
			x, gates := headData(rng, h, n)
			a, b := h.BlockShape()
			w1, w2 := random(rng, -1, 1, h.BlockCount(), m, a), random(rng, -1, 1, h.BlockCount(), m, b)
			checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return FactorProduct(e, h, in[0], in[1]) }, h.Size(), w1, w2)
			for _, relu := range []bool{false, true} {
				checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
					e.Workers = 2
					return ConvexNetwork(e, h, relu, in[0], in[1], in[2], in[3])
				}, n*h.Rows()*h.Outputs, x, gates, w1, w2)
			}
		})
	}
}

func TestConvexLossGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 9))
	x, y := random(rng, -2, 2, 3, 2, 5), random(rng, -2, 2, 3, 2, 5).fixed()
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SquaredError(e, in[0], in[1], 0.3) }, 0, x, y)
	labels := input{shape: []int{3, 2}, data: []float64{0, 4, 2, 1, 3, 3}, frozen: true}
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SoftmaxError(e, in[0], in[1], 0.3) }, 0, x, labels)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		loss, err := SquaredError(e, in[0], in[3], 1)
		if err != nil {
			return nil, err
		}
		return WeightDecay(e, loss, in[1], in[2], 0.7)
	}, 0, x, random(rng, -1, 1, 2, 3), random(rng, -1, 1, 3, 2), y)

	// Values by hand, large logits included.
	o := input{shape: []int{2, 1, 3}, data: []float64{1000, 1000, 1000, 0, math.Log(2), math.Log(3)}}
	l := input{shape: []int{2, 1}, data: []float64{1, 2}, frozen: true}
	got, _, _ := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SoftmaxError(e, in[0], in[1], 2) }, []input{o, l}, nil, false)
	if want := 2 * (math.Log(3) + math.Log(2)); math.Abs(got-want) > 1e-12 {
		t.Errorf("softmax error is %v, expected %v", got, want)
	}
	l.data[0] = 3
	if got, _, _ = run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return SoftmaxError(e, in[0], in[1], 2) }, []input{o, l}, nil, false); !math.IsNaN(got) {
		t.Errorf("softmax error of a label that is no class is %v, expected NaN", got)
	}
}

func TestConvexHeadErrors(t *testing.T) {
	good := ConvexHead{Mechanism: BlockFourier, Tokens: 4, Channels: 4, Outputs: 2, Gates: 1, Blocks: 2, Strict: true, Scale: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(h *ConvexHead){
		"mechanism: found \"gru\"":                        func(h *ConvexHead) { h.Mechanism, h.Blocks, h.Strict = "gru", 0, false },
		"blocks: found 3, expected a divisor of the 4 ch": func(h *ConvexHead) { h.Blocks = 3 },
		"expected a divisor of the 3 outputs":             func(h *ConvexHead) { h.Outputs = 3 },
		"grid: found 3 x 1, expected the 4 tokens":        func(h *ConvexHead) { h.Height, h.Width = 3, 1 },
		"gates: found 0":                                  func(h *ConvexHead) { h.Gates = 0 },
		"scale: found NaN":                                func(h *ConvexHead) { h.Scale = math.NaN() },
		"blocks: found 2 for mlp":                         func(h *ConvexHead) { h.Mechanism = Perceptron },
		"strict: found for mlp":                           func(h *ConvexHead) { h.Mechanism, h.Blocks = Perceptron, 0 },
	} {
		h := good
		change(&h)
		if err := h.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found error %v, expected %q", err, want)
		}
	}
	if _, err := SquareGrid(15); err == nil || !strings.Contains(err.Error(), "15 tokens form no square") {
		t.Errorf("15 tokens as a square: %v", err)
	}
	if n, err := SquareGrid(16); n != 4 || err != nil {
		t.Errorf("16 tokens as a square: %d, %v", n, err)
	}
}
