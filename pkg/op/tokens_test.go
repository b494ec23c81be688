package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// symbols returns rows of whole numbers below limit, without a gradient; few
// enough of them that some repeat.
func symbols(rng *rand.Rand, limit, rows, n int) input {
	in := input{shape: []int{rows, n}, data: make([]float64, rows*n), frozen: true}
	for i := range in.data {
		in.data[i] = float64(rng.IntN(limit))
	}
	return in
}

// holds compares what build gives with want, in float64 to rounding.
func holds(t *testing.T, name string, build func(e *Env, in []*G.Node) (*G.Node, error), want []float64, ins ...input) {
	t.Helper()
	_, _, got := run(t, build, ins, make([]float64, len(want)), false)
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= 1e-12*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %g, expected %g", name, i, got[i], want[i])
		}
	}
}

func TestPatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 1))
	for _, s := range [][6]int{{2, 3, 6, 10, 2, 5}, {1, 1, 4, 4, 4, 4}, {3, 2, 3, 7, 1, 1}, {2, 1, 9, 3, 3, 1}} {
		batch, channels, h, w, ph, pw := s[0], s[1], s[2], s[3], s[4], s[5]
		x := random(rng, 0, 1, batch, channels, h, w)
		want := make([]float64, len(x.data))
		n := h / ph * (w / pw)
		for b := range batch {
			for c := range channels {
				for y := range h {
					for z := range w {
						channel, token := (c*ph+y%ph)*pw+z%pw, y/ph*(w/pw)+z/pw
						want[(channel*batch+b)*n+token] = 2*x.data[((b*channels+c)*h+y)*w+z] - 1
					}
				}
			}
		}
		build := func(e *Env, in []*G.Node) (*G.Node, error) { return Patches(e, in[0], ph, pw) }
		holds(t, fmt.Sprint(s), build, want, x)
		checkGradient(t, build, len(want), x)
	}
}

func TestTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(42, 1))
	for _, s := range [][4]int{{5, 3, 7, 9}, {1, 1, 1, 2}, {4, 2, 1, 2}} { // channels, sequences, tokens, positions
		channels, batch, n, table := s[0], s[1], s[2], s[3]
		x, class, positions := random(rng, -1, 1, 1, channels, batch, n), random(rng, -1, 1, channels), random(rng, -1, 1, channels, table)
		for _, with := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
			ins, before := []input{x}, 0
			if with[0] {
				ins, before = append(ins, class), 1
			}
			if with[1] {
				ins = append(ins, positions)
			}
			build := func(e *Env, in []*G.Node) (*G.Node, error) {
				var c, p *G.Node
				if with[0] {
					c = in[1]
				}
				if with[1] {
					p = in[len(in)-1]
				}
				return Tokens(e, in[0], c, p)
			}
			want := make([]float64, channels*batch*(n+before))
			for c := range channels {
				for b := range batch {
					for i := range n + before {
						v := 0.
						if i < before {
							v = class.data[c]
						} else {
							v = x.data[(c*batch+b)*n+i-before]
						}
						if with[1] {
							v += positions.data[c*table+i]
						}
						want[(c*batch+b)*(n+before)+i] = v
					}
				}
			}
			name := fmt.Sprint(s, with)
			holds(t, name, build, want, ins...)
			checkGradient(t, build, len(want), ins...)
		}
	}
}

func TestPoolTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(43, 1))
	for _, s := range [][3]int{{5, 3, 7}, {1, 1, 1}, {3, 2, 1}} {
		channels, batch, n := s[0], s[1], s[2]
		x := random(rng, -1, 1, 1, channels, batch, n)
		for _, first := range []bool{false, true} {
			want := make([]float64, channels*batch)
			for i := range want {
				for j := range n {
					if first && j == 0 {
						want[i] = x.data[i*n]
					} else if !first {
						want[i] += x.data[i*n+j] / float64(n)
					}
				}
			}
			build := func(e *Env, in []*G.Node) (*G.Node, error) { return PoolTokens(e, in[0], first) }
			holds(t, fmt.Sprint(s, first), build, want, x)
			checkGradient(t, build, len(want), x)
		}
	}
}

func TestEmbed(t *testing.T) {
	rng := rand.New(rand.NewPCG(44, 1))
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return Embed(e, in[0], in[1]) }
	for _, s := range [][4]int{{4, 5, 3, 7}, {1, 1, 1, 1}, {300, 3, 2, 3}} { // symbols, channels, rows, n
		count, channels, rows, n := s[0], s[1], s[2], s[3]
		table, sy := random(rng, -1, 1, count, channels), symbols(rng, count, rows, n)
		want := make([]float64, channels*rows*n)
		for i, v := range sy.data {
			for c := range channels {
				want[c*rows*n+i] = table.data[int(v)*channels+c]
			}
		}
		holds(t, fmt.Sprint(s), build, want, table, sy)
		checkGradient(t, build, len(want), table, sy)
		// The gradient of a row is the sum over its places, of others zero.
		r := random(rng, -1, 1, len(want)).data
		_, grads, _ := run(t, build, []input{table, sy}, r, true)
		sum := make([]float64, len(table.data))
		for i, v := range sy.data {
			for c := range channels {
				sum[int(v)*channels+c] += r[c*rows*n+i]
			}
		}
		for i := range sum {
			if !(math.Abs(grads[0][i]-sum[i]) <= 1e-12) {
				t.Fatalf("%v: gradient %d is %g, expected %g", s, i, grads[0][i], sum[i])
			}
		}
	}
}

func TestRotary(t *testing.T) {
	rng := rand.New(rand.NewPCG(45, 1))
	for _, s := range [][5]int{{2, 3, 2, 5, 6}, {1, 1, 1, 1, 2}, {1, 2, 3, 9, 4}} { // batch, heads, rows, n, depth
		batch, heads, rows, n, depth := s[0], s[1], s[2], s[3], s[4]
		channels := heads * depth
		x := random(rng, -1, 1, batch, 3*channels, rows, n)
		want := append([]float64(nil), x.data...)
		for b := range batch {
			for part := range 2 {
				for h := range heads {
					for k := range depth / 2 {
						for r := range rows {
							for i := range n {
								at := ((b*3*channels+part*channels+h*depth+2*k)*rows+r)*n + i
								next := at + rows*n
								sin, cos := math.Sincos(float64(i) * math.Pow(10000, -2*float64(k)/float64(depth)))
								want[at] = x.data[at]*cos - x.data[next]*sin
								want[next] = x.data[at]*sin + x.data[next]*cos
							}
						}
					}
				}
			}
		}
		build := func(e *Env, in []*G.Node) (*G.Node, error) { return Rotary(e, in[0], heads) }
		holds(t, fmt.Sprint(s), build, want, x)
		checkGradient(t, build, len(want), x)
	}
}

// TestRotaryCountsDifferences: tokens that are alike have products that depend on
// how far they are apart, not where they are.
func TestRotaryCountsDifferences(t *testing.T) {
	const depth, n = 8, 12
	rng := rand.New(rand.NewPCG(46, 1))
	x := input{shape: []int{1, 3 * depth, 1, n}, data: make([]float64, 3*depth*n)}
	for c := range 3 * depth {
		v := rng.NormFloat64()
		for i := range n {
			x.data[c*n+i] = v
		}
	}
	_, _, y := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return Rotary(e, in[0], 1) }, []input{x}, make([]float64, len(x.data)), false)
	score := func(i, j int) (s float64) {
		for c := range depth {
			s += y[c*n+i] * y[(depth+c)*n+j]
		}
		return s
	}
	for gap := range 7 {
		for i := range n - gap {
			if d := math.Abs(score(i+gap, i) - score(gap, 0)); d > 1e-12 {
				t.Errorf("tokens %d and %d: product differs by %g from that of %d and 0", i+gap, i, d, gap)
			}
		}
	}
	if math.Abs(score(0, 0)-score(1, 0)) < 1e-6 {
		t.Error("neighbours have the product of a token with itself")
	}
}

func TestNeuTRENO(t *testing.T) {
	rng := rand.New(rand.NewPCG(47, 1))
	const batch, channels, rows, n, lambda = 2, 5, 3, 7, .6
	image := channels * rows * n
	out, qkv, first := random(rng, -1, 1, batch, channels, rows, n), random(rng, -1, 1, batch, 3*channels, rows, n), random(rng, -1, 1, batch, 3*channels, rows, n)
	want := make([]float64, len(out.data))
	for b := range batch {
		for i := range image {
			v := (3*b + 2) * image
			want[b*image+i] = out.data[b*image+i] + lambda*(first.data[v+i]-qkv.data[v+i])
		}
	}
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return NeuTRENO(e, in[0], in[1], in[2], lambda) }
	holds(t, "neutreno", build, want, out, qkv, first)
	checkGradient(t, build, len(want), out, qkv, first)
}

func TestPositive(t *testing.T) {
	x := input{shape: []int{7}, data: []float64{-800, -30, -1, 0, 1, 30, 800}}
	want := make([]float64, 7)
	for i, v := range x.data {
		want[i] = v
		if v < 700 {
			want[i] = math.Log1p(math.Exp(v))
		}
		if want[i] == 0 {
			want[i] = 1e-30
		}
	}
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return Positive(e, in[0]) }
	holds(t, "positive", build, want, x)
	checkGradient(t, build, 7, x)
	for _, p := range []float64{1e-9, .01, 1, 1.5, 2, 2.5, 8, 100} {
		if got := PositiveOf(RawPositive(p)); !(math.Abs(got-p) <= 1e-12*p) {
			t.Errorf("%g becomes %g", p, got)
		}
		// What a parameter in float32 makes of it.
		if got := PositiveOf(float64(float32(RawPositive(p)))); !(math.Abs(got-p) <= 3e-6*p) {
			t.Errorf("%g becomes %g by way of float32", p, got)
		}
	}
	f, out := &positive[float32]{}, make([]float32, 3)
	f.forward(NewEnv(1), [][]float32{{-1e30, -200, 0}}, out)
	for _, v := range out {
		if !(v > 0) {
			t.Errorf("%g is not positive", v)
		}
	}
}

// entropyReference is CrossEntropy as its comment says, and its gradient.
func entropyReference(x, labels []float64, classes int, smoothing float64) (loss float64, dx []float64) {
	places := len(labels)
	dx = make([]float64, len(x))
	for i, y := range labels {
		top := math.Inf(-1)
		for k := range classes {
			top = max(top, x[k*places+i])
		}
		sum := 0.
		for k := range classes {
			sum += math.Exp(x[k*places+i] - top)
		}
		for k := range classes {
			logp := x[k*places+i] - top - math.Log(sum)
			share := smoothing / float64(classes)
			if k == int(y) {
				share += 1 - smoothing
			}
			loss -= share * logp / float64(places)
			dx[k*places+i] = (math.Exp(logp) - share) / float64(places)
		}
	}
	return loss, dx
}

func TestCrossEntropy(t *testing.T) {
	rng := rand.New(rand.NewPCG(48, 1))
	for _, s := range [][3]int{{5, 3, 7}, {1, 1, 1}, {10, 1, 33}, {3, 9, 71}} { // beyond one block of places, too
		classes, rows, n := s[0], s[1], s[2]
		x, labels := random(rng, -9, 9, 1, classes, rows, n), symbols(rng, classes, rows, n)
		for _, smoothing := range []float64{0, .1} {
			build := func(e *Env, in []*G.Node) (*G.Node, error) { return CrossEntropy(e, in[0], in[1], smoothing) }
			want, grad := entropyReference(x.data, labels.data, classes, smoothing)
			got, grads, _ := run(t, build, []input{x, labels}, nil, true)
			if !(math.Abs(got-want) <= 1e-12*(1+want)) {
				t.Errorf("%v, smoothing %g: %.15g, expected %.15g", s, smoothing, got, want)
			}
			for i := range grad {
				if !(math.Abs(grads[0][i]-grad[i]) <= 1e-12) {
					t.Fatalf("%v, smoothing %g: gradient %d is %g, expected %g", s, smoothing, i, grads[0][i], grad[i])
				}
			}
			checkGradient(t, build, 0, x, labels)
			for _, level := range kernel.Available() {
				restore := kernel.Force(level)
				f := &crossEntropy[float32]{smoothing: smoothing}
				if _, err := f.shape([]tensor.Shape{x.shape, labels.shape}); err != nil {
					t.Fatal(err)
				}
				in, out, dx := [][]float32{narrow(x.data), narrow(labels.data)}, []float32{0}, make([]float32, len(x.data))
				f.forward(NewEnv(1), in, out)
				f.backward(NewEnv(1), in, out, []float32{1}, [][]float32{dx, nil})
				restore()
				if !(math.Abs(float64(out[0])-want) <= 1e-6*(1+want)) {
					t.Errorf("%v, %v: %g, expected %g", level, s, out[0], want)
				}
				for i := range grad {
					if !(math.Abs(float64(dx[i])-grad[i]) <= 1e-6/float64(rows*n)) {
						t.Fatalf("%v, %v: gradient %d is %g, expected %g", level, s, i, dx[i], grad[i])
					}
				}
			}
		}
	}
}

// TestCrossEntropyOfLargeLogits: exponentials neither overflow nor vanish into NaN,
// and a logit that is NaN shows.
func TestCrossEntropyOfLargeLogits(t *testing.T) {
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return CrossEntropy(e, in[0], in[1], 0) }
	labels := input{shape: []int{1, 2}, data: []float64{0, 1}, frozen: true}
	got, grads, _ := run(t, build, []input{{shape: []int{1, 2, 1, 2}, data: []float64{1e4, 1e4, -1e4, -1e4}}, labels}, nil, true)
	if got != 1e4 || grads[0][0] != 0 || grads[0][1] != .5 || grads[0][3] != -.5 {
		t.Errorf("loss %g, gradient %v", got, grads[0])
	}
	got, _, _ = run(t, build, []input{{shape: []int{1, 2, 1, 2}, data: []float64{1, 1, math.NaN(), 1}}, labels}, nil, false)
	if !math.IsNaN(got) {
		t.Errorf("loss %g of logits with NaN", got)
	}
}

// TestTokenShapes feeds what has no meaning to each operation.
func TestTokenShapes(t *testing.T) {
	g, e := G.NewGraph(), NewEnv(1)
	node := func(shape ...int) *G.Node {
		return G.NewTensor(g, tensor.Float32, len(shape), G.WithShape(shape...), G.WithName(fmt.Sprint("n", serial.Add(1))))
	}
	none := func(n *G.Node, err error) error { return err }
	for name, err := range map[string]error{
		"patches do not divide":     none(Patches(e, node(1, 3, 7, 8), 2, 4)),
		"patches of no pixels":      none(Patches(e, node(1, 3, 8, 8), 0, 4)),
		"patches of 3 dimensions":   none(Patches(e, node(3, 8, 8), 2, 4)),
		"tokens of two images":      none(Tokens(e, node(2, 3, 4, 5), nil, nil)),
		"class of another width":    none(Tokens(e, node(1, 3, 4, 5), node(4), nil)),
		"too few positions":         none(Tokens(e, node(1, 3, 4, 5), node(3), node(3, 5))),
		"positions of other width":  none(Tokens(e, node(1, 3, 4, 5), nil, node(4, 5))),
		"pool of two images":        none(PoolTokens(e, node(2, 3, 4, 5), false)),
		"embed of a flat table":     none(Embed(e, node(3), node(1, 2))),
		"embed of flat symbols":     none(Embed(e, node(3, 4), node(2))),
		"rotary of odd heads":       none(Rotary(e, node(1, 18, 2, 5), 2)),
		"rotary without heads":      none(Rotary(e, node(1, 12, 2, 5), 0)),
		"neutreno of other width":   none(NeuTRENO(e, node(1, 3, 2, 5), node(1, 9, 2, 5), node(1, 6, 2, 5), 1)),
		"neutreno by NaN":           none(NeuTRENO(e, node(1, 3, 2, 5), node(1, 9, 2, 5), node(1, 9, 2, 5), math.NaN())),
		"entropy, labels elsewhere": none(CrossEntropy(e, node(1, 4, 2, 5), node(5, 2), 0)),
		"entropy of two images":     none(CrossEntropy(e, node(2, 4, 2, 5), node(2, 5), 0)),
		"smoothing of all":          none(CrossEntropy(e, node(1, 4, 2, 5), node(2, 5), 1)),
		"smoothing below 0":         none(CrossEntropy(e, node(1, 4, 2, 5), node(2, 5), -.1)),
		"attention as last step": none(Residual(e, node(1, 12, 2, 5),
			SelfAttentionStep(AttentionConfig{Heads: 1, P: []float64{2}}, nil, nil))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestSymbolsOutside: symbols and labels that are none are errors of the run, which
// say where; the next run goes on.
func TestSymbolsOutside(t *testing.T) {
	for name, build := range map[string]func(e *Env, g *G.ExprGraph, symbols *G.Node) (*G.Node, error){
		"symbol": func(e *Env, g *G.ExprGraph, s *G.Node) (*G.Node, error) {
			return Embed(e, G.NewTensor(g, tensor.Float32, 2, G.WithShape(4, 3), G.WithName("t"), G.WithValue(dense(make([]float32, 12), 4, 3))), s)
		},
		"label": func(e *Env, g *G.ExprGraph, s *G.Node) (*G.Node, error) {
			return CrossEntropy(e, G.NewTensor(g, tensor.Float32, 4, G.WithShape(1, 4, 2, 3), G.WithName("t"), G.WithValue(dense(make([]float32, 24), 1, 4, 2, 3))), s, 0)
		},
	} {
		for _, e := range []*Env{NewEnv(1), NewInferenceEnv(1)} {
			g, data := G.NewGraph(), make([]float32, 6)
			out, err := build(e, g, G.NewTensor(g, tensor.Float32, 2, G.WithShape(2, 3), G.WithName("s"), G.WithValue(dense(data, 2, 3))))
			if err != nil {
				t.Fatal(err)
			}
			Keep(out)
			vm := G.NewTapeMachine(g)
			defer vm.Close()
			for _, bad := range []float64{4, -1, .5, math.NaN(), math.Inf(1), 1e30} {
				data[5] = float32(bad)
				err := vm.RunAll()
				if err == nil || !strings.Contains(err.Error(), name+" 2 of row 1 is ") || !strings.Contains(err.Error(), "expected a whole number from 0 to 3") {
					t.Errorf("%s %g: error %v", name, bad, err)
				}
				vm.Reset()
				data[5] = 3
				if err := vm.RunAll(); err != nil {
					t.Errorf("%s 3 after %g: %v", name, bad, err)
				}
				vm.Reset()
			}
		}
	}
}

// TestSelfAttentionStep holds a branch with attention to its operations one by one,
// and its gradient, that of p and of fidelity included, to central differences.
func TestSelfAttentionStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(49, 1))
	const channels, heads, rows, n = 4, 2, 2, 5
	cfg := AttentionConfig{Heads: heads, Causal: true, Eps: .3, Mu: .2}
	ins := []input{
		random(rng, -1, 1, 1, channels, rows, n), random(rng, .5, 1.5, channels), random(rng, -1, 1, channels),
		random(rng, -1, 1, 3*channels, channels, 1, 1), random(rng, -1, 1, 3*channels), random(rng, 1, 3, heads), random(rng, -1, 1, 1, 3*channels, rows, n),
		random(rng, -1, 1, channels, channels, 1, 1), random(rng, -1, 1, channels),
	}
	branch := func(e *Env, in []*G.Node) (*G.Node, error) {
		return Residual(e, in[0], NormStep(in[1], in[2]), ConvStep(in[3], in[4]), RotaryStep(heads), SelfAttentionStep(cfg, in[5], in[6]), ConvStep(in[7], in[8]))
	}
	apart := func(e *Env, in []*G.Node) (*G.Node, error) {
		x, err := LayerNorm(e, in[0], in[1], in[2])
		if err == nil {
			x, err = Conv(e, x, in[3], in[4], 1, false)
		}
		if err == nil {
			x, err = Rotary(e, x, heads)
		}
		if err == nil {
			x, err = Attention(e, cfg, x, in[5], in[6])
		}
		if err == nil {
			x, err = Conv(e, x, in[7], in[8], 1, false)
		}
		if err != nil {
			return nil, err
		}
		return Sum(e, x, in[0])
	}
	size := channels * rows * n
	checkGradient(t, branch, size, ins...)
	r := random(rng, -1, 1, size).data
	_, grads, got := run(t, branch, ins, r, true)
	_, wantGrads, want := run(t, apart, ins, r, true)
	_, _, lean := run(t, func(e *Env, in []*G.Node) (*G.Node, error) { return branch(NewInferenceEnv(1), in) }, ins, r, false)
	for i := range want {
		if got[i] != want[i] || lean[i] != want[i] {
			t.Fatalf("element %d: %g, in inference %g, expected %g", i, got[i], lean[i], want[i])
		}
	}
	for i := range grads {
		for j := range grads[i] {
			if !(math.Abs(grads[i][j]-wantGrads[i][j]) <= 1e-12*(1+math.Abs(wantGrads[i][j]))) {
				t.Fatalf("gradient %d of input %d: %g, expected %g", j, i, grads[i][j], wantGrads[i][j])
			}
		}
	}
}
