package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
)

// hyperOp is an operation on inputs of given shapes, for tests that go over all.
type hyperOp struct {
	name  string
	ins   []input
	build func(e *Env, in []*G.Node) (*G.Node, error)
	size  int // of the output
}

// hyperOps returns every operation at a size beyond its vector lengths.
func hyperOps(rng *rand.Rand) []hyperOp {
	const B, C, n = 3, 12, 33
	image := func() input { return random(rng, -1, 1, B, C, n, n) }
	size := B * C * n * n
	slow, slowIns := named(slowInputs(rng, []int{n, n}, 24, C, 2, 0), func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		return SlowNetwork(e, slowParams(in, "").SlowNet)
	})
	local, localIns := named(slowInputs(rng, []int{5, 7}, 24, C, 2, C), func(e *Env, in map[string]*G.Node) (*G.Node, error) {
		c, err := ContextMean(e, in["x"], 5, 7)
		if err != nil {
			return nil, err
		}
		return LocalSlowNetwork(e, c, slowParams(in, ""))
	})
	one := func(f func(e *Env, x *G.Node) (*G.Node, error)) func(e *Env, in []*G.Node) (*G.Node, error) {
		return func(e *Env, in []*G.Node) (*G.Node, error) { return f(e, in[0]) }
	}
	return []hyperOp{
		{"slow network", slowIns, slow, C * n * n},
		{"local slow network", localIns, local, C * 35},
		{"adaptive pool", []input{image()}, one(func(e *Env, x *G.Node) (*G.Node, error) { return AdaptivePool(e, x, 7, 9) }), B * C * 63},
		{"context mean", []input{image()}, one(func(e *Env, x *G.Node) (*G.Node, error) { return ContextMean(e, x, 7, 9) }), C * 63},
		{"instance", []input{image()}, one(func(e *Env, x *G.Node) (*G.Node, error) { return Standardise(e, x, InstanceStatistics) }), size},
		{"batch", []input{image()}, one(func(e *Env, x *G.Node) (*G.Node, error) { return Standardise(e, x, BatchStatistics) }), size},
		{"alternating", []input{image()}, one(func(e *Env, x *G.Node) (*G.Node, error) { return Standardise(e, x, AlternatingStatistics) }), size},
		{"modulate", []input{image(), random(rng, -1, 1, C, n, n)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Modulate(e, in[0], in[1]) }, size},
		{"global product", []input{image(), image(), image()}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return GlobalProduct(e, MatrixProduct, in[0], in[1], in[2])
		}, 2 * size},
		{"hyper channel", []input{image(), random(rng, -9, 9, C)}, func(e *Env, in []*G.Node) (*G.Node, error) { return HyperChannel(e, in[0], in[1]) }, size},
		{"hyper interaction", []input{image(), image(), random(rng, -99, 99, C), random(rng, -99, 99, n, n)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return HyperInteraction(e, in[0], in[1], in[2], in[3])
		}, size},
		{"siglu", []input{image()}, one(SiGLU), size},
		{"gelu shift", []input{image(), random(rng, -1, 1, 1)}, func(e *Env, in []*G.Node) (*G.Node, error) { return GeluShift(e, in[0], in[1]) }, size},
		{"gate", []input{image(), image(), random(rng, -1, 1, n, n)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return RecurrentGate(e, in[0], in[1], in[2])
		}, size},
		{"pointwise", []input{random(rng, -1, 1, 20, 3*C), random(rng, -1, 1, 20), image(), image()}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1}, Part{X: in[3], Copies: 2})
		}, B * 20 * n * n},
		{"depthwise", []input{image(), random(rng, -1, 1, C, 9, 9)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Depthwise(e, in[0], in[1]) }, size},
		{"scale channels", []input{image(), random(rng, 0, 2, B, C).fixed()}, func(e *Env, in []*G.Node) (*G.Node, error) { return ScaleChannels(e, in[0], in[1]) }, size},
		{"global mean", []input{image()}, one(GlobalMean), B * C},
		{"slow loss", []input{random(rng, -1, 1, C, n, n), random(rng, -1, 1, 7, n, n)}, func(e *Env, in []*G.Node) (*G.Node, error) { return SlowLoss(e, in...) }, 1},
	}
}

// TestHyperSingle holds every operation in float32 to float64, its bits with three
// threads to those with one, and those for inference to those for training.
func TestHyperSingle(t *testing.T) {
	for _, op := range hyperOps(rand.New(rand.NewPCG(71, 1))) {
		t.Run(op.name, func(t *testing.T) {
			for i := range op.ins { // numbers that float32 holds
				for j, v := range op.ins[i].data {
					op.ins[i].data[j] = float64(float32(v))
				}
			}
			r := goldenWeights(1, op.size)
			for j, v := range r {
				r[j] = float64(float32(v))
			}
			wide := evaluate[float64](t, NewEnv(2), op.build, op.ins, r)
			single := evaluate[float32](t, NewEnv(1), op.build, op.ins, r)
			threads := evaluate[float32](t, NewEnv(3), op.build, op.ins, r)
			inference := evaluate[float32](t, NewInferenceEnv(2), op.build, op.ins, nil)
			near(t, "output", single.out, wide.out, 3e-6)
			if !slices.Equal(single.out, threads.out) || !slices.Equal(single.out, inference.out) {
				t.Error("the output's bits depend on the number of threads or on inference")
			}
			for i, want := range wide.grads {
				near(t, fmt.Sprint("gradient of input ", i), single.grads[i], want, 1e-5)
				if !slices.Equal(single.grads[i], threads.grads[i]) {
					t.Errorf("input %d: the gradient's bits depend on the number of threads", i)
				}
			}
		})
	}
}

// valueOf evaluates in float64.
func valueOf(t *testing.T, build func(e *Env, in []*G.Node) (*G.Node, error), ins ...input) []float64 {
	t.Helper()
	return evaluate[float64](t, NewEnv(1), build, ins, nil).out
}

func TestGlobalProductIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(72, 1))
	const B, C, n = 2, 3, 5
	x, k, v := random(rng, -1, 1, B, C, n, n), random(rng, -1, 1, C, n, n), random(rng, -1, 1, B, C, n, n)
	product := func(e *Env, in []*G.Node) (*G.Node, error) {
		z, err := Modulate(e, in[0], in[1])
		if err != nil {
			return nil, err
		}
		return GlobalProduct(e, MatrixProduct, z, in[2])
	}
	plain := func(a, b []float64) []float64 { // of matrices
		c := make([]float64, n*n)
		for i := range n {
			for j := range n {
				for l := range n {
					c[i*n+j] += a[i*n+l] * b[l*n+j]
				}
			}
		}
		return c
	}
	transposed := func(in input) input {
		out := input{shape: in.shape, data: make([]float64, len(in.data))}
		for i := range in.data {
			at, r, c := i/(n*n)*n*n, i/n%n, i%n
			out.data[at+c*n+r] = in.data[i]
		}
		return out
	}
	ones := input{shape: k.shape, data: constant(make([]float64, C*n*n), 1)}
	got := valueOf(t, product, x, ones, v)
	for i := 0; i < len(x.data); i += n * n {
		near(t, "K = 1", got[i:][:n*n], plain(x.data[i:], v.data[i:]), 1e-14)
	}
	unit := input{shape: v.shape, data: make([]float64, len(v.data))}
	for i := range unit.data {
		if i/n%n == i%n {
			unit.data[i] = 1
		}
	}
	z := make([]float64, len(x.data))
	for i := range z {
		z[i] = x.data[i] * k.data[i%len(k.data)]
	}
	near(t, "V = identity", valueOf(t, product, x, k, unit), z, 1e-15)
	// The transpose of Z V is V^T Z^T.
	zin := input{shape: x.shape, data: z}
	simple := func(e *Env, in []*G.Node) (*G.Node, error) {
		return GlobalProduct(e, MatrixProduct, in[0], in[1])
	}
	forth := input{shape: x.shape, data: valueOf(t, simple, zin, v)}
	near(t, "transposition", valueOf(t, simple, transposed(v), transposed(zin)), transposed(forth).data, 1e-14)
	// Two right factors are two products.
	both := valueOf(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return GlobalProduct(e, MatrixProduct, in[0], in[1], in[2])
	}, zin, v, x)
	near(t, "first factor", both[:len(z)], forth.data, 0)
	near(t, "second factor", both[len(z):], valueOf(t, simple, zin, x), 0)
	// A folded sequence is the matrix of its rows.
	flat := func(in input) input { return input{shape: []int{B, C, 1, n * n}, data: in.data} }
	near(t, "fold", valueOf(t, func(e *Env, in []*G.Node) (*G.Node, error) { return GlobalProduct(e, FoldProduct, in[0], in[1]) }, flat(zin), flat(v)), forth.data, 0)
}

func TestHyperScoreIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(73, 1))
	y, h := random(rng, -1, 1, 2, 4), random(rng, -1, 1, 4)
	square := func(e *Env, in []*G.Node) (*G.Node, error) { return HyperSquare(e, in[0], in[1]) }
	scaled := input{shape: y.shape, data: make([]float64, len(y.data))}
	want := valueOf(t, square, y, h)
	for i, v := range y.data {
		scaled.data[i] = -3 * v
		want[i] *= 9
	}
	near(t, "a square is homogeneous of degree 2", valueOf(t, square, scaled, h), want, 1e-14)

	x, o := random(rng, -1, 1, 2, 4, 3, 5), random(rng, -1, 1, 2, 4, 3, 5)
	half := make([]float64, len(x.data))
	for i, v := range x.data {
		half[i] = v / 2
	}
	zeros := func(shape ...int) input { in := random(rng, 0, 1, shape...); clear(in.data); return in }
	near(t, "without a hyper-kernel a channel is halved", valueOf(t, func(e *Env, in []*G.Node) (*G.Node, error) { return HyperChannel(e, in[0], in[1]) }, x, zeros(4)), half, 0)
	interaction := func(e *Env, in []*G.Node) (*G.Node, error) {
		return HyperInteraction(e, in[0], in[1], in[2], in[3])
	}
	near(t, "without a hyper-kernel of channels an image is halved", valueOf(t, interaction, x, o, zeros(4), random(rng, -1, 1, 3, 5)), half, 0)
	near(t, "without a hyper-kernel of pixels an image is halved", valueOf(t, interaction, x, o, h, zeros(3, 5)), half, 0)
}

func TestStandardiseIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(74, 1))
	const B, C, hw = 3, 24, 5 * 7
	x := random(rng, -40, 60, B, C, 5, 7)
	for _, stat := range []Statistics{InstanceStatistics, BatchStatistics, AlternatingStatistics} {
		t.Run(string(stat), func(t *testing.T) {
			build := func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], stat) }
			r := goldenWeights(2, len(x.data))
			single := evaluate[float32](t, NewEnv(1), build, []input{x}, nil).out
			wide := evaluate[float64](t, NewEnv(1), build, []input{x}, r)
			// moments of the set that channel c of image b belongs to: means of y, y^2,
			// dx and dx y.
			together := func(c int) bool {
				return stat == BatchStatistics || stat == AlternatingStatistics && c/2%2 == 0
			}
			for c := range C {
				for b := range B {
					var sum, square, along, across float64
					var n int
					for i := range B * C * hw {
						if i/hw%C == c && (together(c) || i/hw/C == b) {
							sum += single[i]
							square += single[i] * single[i]
							across += wide.grads[0][i]
							along += wide.grads[0][i] * wide.out[i]
							n++
						}
					}
					if m := sum / float64(n); math.Abs(m) > 1e-6 || math.Abs(square/float64(n)-1) > 1e-4 {
						t.Fatalf("channel %d of image %d: mean %g, mean square %g", c, b, m, square/float64(n))
					}
					// The gradient is orthogonal to 1, and to y up to the epsilon.
					if math.Abs(across) > 1e-12 || math.Abs(along) > 1e-6 {
						t.Fatalf("channel %d of image %d: the gradient has the sum %g and the product %g with the output", c, b, across, along)
					}
				}
			}
			near(t, "idempotence", valueOf(t, build, input{shape: x.shape, data: wide.out}), wide.out, 1e-5)
			moved := input{shape: x.shape, data: make([]float64, len(x.data))}
			minus := make([]float64, len(x.data))
			for i, v := range x.data {
				moved.data[i] = 7 - 2*v
				minus[i] = -wide.out[i]
			}
			near(t, "affine", valueOf(t, build, moved), minus, 1e-7)
		})
	}
}

func TestSlowLossIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(75, 1))
	ks := []input{random(rng, -1, 1, 2, 3, 4), random(rng, -1, 1, 5, 3, 4), random(rng, -1, 1, 1, 3, 4)}
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return SlowLoss(e, in...) }
	sums := make([][]float64, len(ks))
	for i, k := range ks {
		sums[i] = make([]float64, 12)
		for j, v := range k.data {
			sums[i][j%12] += v
		}
	}
	var want float64
	for i := range ks {
		for j := range i {
			for p := range 12 {
				d := sums[i][p] - sums[j][p]
				want += d * d / 12
			}
		}
	}
	got := evaluate[float64](t, NewEnv(1), build, ks, []float64{1})
	near(t, "sum over pairs", got.out, []float64{want}, 1e-14)
	for p := range 12 {
		if s := got.grads[0][p] + got.grads[1][p] + got.grads[2][p]; math.Abs(s) > 1e-15 {
			t.Errorf("point %d: the gradients add up to %g, want 0", p, s)
		}
	}
	near(t, "equal kernels", valueOf(t, build, ks[0], ks[0], ks[0]), []float64{0}, 0)
}

func TestDepthwiseIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(76, 1))
	x := random(rng, -1, 1, 2, 2, 4, 6)
	build := func(e *Env, in []*G.Node) (*G.Node, error) { return Depthwise(e, in[0], in[1]) }
	for _, k := range []int{3, 5, 9} {
		delta := func(u, v int) input {
			w := input{shape: []int{2, k, k}, data: make([]float64, 2*k*k)}
			w.data[u*k+v], w.data[(k+u)*k+v] = 1, 1
			return w
		}
		near(t, "delta", valueOf(t, build, x, delta(k/2, k/2)), x.data, 0)
		// A tap one to the right shows the pixel to the right.
		want := make([]float64, len(x.data))
		for i := range want {
			if i%6 < 5 {
				want[i] = x.data[i+1]
			}
		}
		near(t, "shift", valueOf(t, build, x, delta(k/2, k/2+1)), want, 0)
	}
}

// TestPointwiseConcatenates holds split inputs to one that has their channels one
// after another, copies included.
func TestPointwiseConcatenates(t *testing.T) {
	rng := rand.New(rand.NewPCG(77, 1))
	const B, hw, O = 2, 6, 4
	a, b := random(rng, -1, 1, B, 3, 2, 3), random(rng, -1, 1, B, 2, 2, 3)
	w, bias := random(rng, -1, 1, O, 3+3*2), random(rng, -1, 1, O)
	whole := input{shape: []int{B, 9, 2, 3}}
	for i := range B {
		whole.data = append(whole.data, a.data[i*3*hw:][:3*hw]...)
		for range 3 {
			whole.data = append(whole.data, b.data[i*2*hw:][:2*hw]...)
		}
	}
	r := goldenWeights(3, B*O*hw)
	split := evaluate[float64](t, NewEnv(1), func(e *Env, in []*G.Node) (*G.Node, error) {
		return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1}, Part{X: in[3], Copies: 3})
	}, []input{w, bias, a, b}, r)
	concatenated := evaluate[float64](t, NewEnv(1), func(e *Env, in []*G.Node) (*G.Node, error) {
		return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1})
	}, []input{w, bias, whole}, r)
	near(t, "output", split.out, concatenated.out, 1e-14)
	// The same channels as two stacked images.
	stacked := input{shape: []int{2 * B, 3, 2, 3}, data: slices.Concat(a.data, a.data)}
	ws := input{shape: []int{O, 6}}
	two := make([]float64, 0, O*6)
	for o := range O {
		ws.data = append(ws.data, w.data[o*9:][:6]...)
		two = append(two, w.data[o*9:][:6]...)
	}
	near(t, "stack", valueOf(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1, Stack: 2})
	}, ws, bias, stacked), valueOf(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 2})
	}, input{shape: []int{O, 6}, data: two}, bias, a), 1e-14)
	near(t, "gradient of the weight", split.grads[0], concatenated.grads[0], 1e-14)
	near(t, "gradient of the bias", split.grads[1], concatenated.grads[1], 0)
	for i, v := range split.grads[3] {
		image, c, p := i/(2*hw), i/hw%2, i%hw
		var sum float64
		for copies := range 3 {
			sum += concatenated.grads[2][(image*9+3+copies*2+c)*hw+p]
		}
		if math.Abs(v-sum) > 1e-14 {
			t.Fatalf("gradient of the copied input, element %d: %g, want %g", i, v, sum)
		}
	}
	for o := range O {
		row := split.grads[0][o*9+3:]
		if !slices.Equal(row[:2], row[2:4]) || !slices.Equal(row[:2], row[4:6]) {
			t.Errorf("output %d: the gradients of the copies' weights differ: %v", o, row[:6])
		}
	}
}

// TestBatchCoupling: an order of the batch is only an order, but an image alone is
// another image where the batch has a statistic.
func TestBatchCoupling(t *testing.T) {
	rng := rand.New(rand.NewPCG(78, 1))
	const C, hw = 2, 12
	x := random(rng, -1, 1, 2, C, 3, 4)
	swapped := input{shape: x.shape, data: append(slices.Clone(x.data[C*hw:]), x.data[:C*hw]...)}
	alone := input{shape: []int{1, C, 3, 4}, data: x.data[:C*hw]}
	standard := func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], BatchStatistics) }
	got, turned := valueOf(t, standard, x), valueOf(t, standard, swapped)
	near(t, "swapped batch", append(slices.Clone(turned[C*hw:]), turned[:C*hw]...), got, 1e-14)
	single := valueOf(t, standard, alone)
	var most float64
	for i, v := range single {
		most = max(most, math.Abs(v-got[i]))
	}
	if most < 1e-3 {
		t.Errorf("an image alone differs from itself in a batch by %g at most", most)
	}
	context := func(e *Env, in []*G.Node) (*G.Node, error) { return ContextMean(e, in[0], 3, 3) }
	near(t, "context of a swapped batch", valueOf(t, context, swapped), valueOf(t, context, x), 1e-15)
}

func TestHyperRefusals(t *testing.T) {
	rng := rand.New(rand.NewPCG(79, 1))
	image := func(shape ...int) input { return random(rng, -1, 1, shape...) }
	for _, c := range []struct {
		want  string
		ins   []input
		build func(e *Env, in []*G.Node) (*G.Node, error)
	}{
		{"13 channels, expected a multiple of 12", []input{image(2, 13, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Standardise(e, in[0], AlternatingStatistics)
		}},
		{"more than one value", []input{image(1, 3, 1, 1)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], BatchStatistics) }},
		{"more than one value", []input{image(4, 3, 1, 1)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], InstanceStatistics) }},
		{`statistics are "other"`, []input{image(1, 3, 2, 2)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Standardise(e, in[0], "other") }},
		{"expected square images", []input{image(1, 3, 2, 4)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return GlobalProduct(e, MatrixProduct, in[0], in[0])
		}},
		{"to fold into matrices", []input{image(1, 3, 1, 8)}, func(e *Env, in []*G.Node) (*G.Node, error) { return GlobalProduct(e, FoldProduct, in[0], in[0]) }},
		{"right factor 0 has shape (1, 2, 3, 3)", []input{image(1, 3, 3, 3), image(1, 2, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return GlobalProduct(e, MatrixProduct, in[0], in[1])
		}},
		{`product is "sum"`, []input{image(1, 3, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) { return GlobalProduct(e, "sum", in[0], in[0]) }},
		{"odd sides", []input{image(1, 3, 3, 3), image(3, 3, 4)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Depthwise(e, in[0], in[1]) }},
		{"expected 3 of them", []input{image(1, 3, 3, 3), image(2, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Depthwise(e, in[0], in[1]) }},
		{"expected (O,5)", []input{image(2, 4), image(2), image(1, 1, 3, 3), image(1, 2, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 1}, Part{X: in[3], Copies: 2})
		}},
		{"0 times", []input{image(2, 4), image(2), image(1, 4, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return Pointwise(e, in[0], in[1], Part{X: in[2], Copies: 0})
		}},
		{"hyper-kernel has shape (3, 4, 4)", []input{image(1, 3, 3, 3), image(3, 4, 4)}, func(e *Env, in []*G.Node) (*G.Node, error) { return Modulate(e, in[0], in[1]) }},
		{"expected 9 values, one for each pixel", []input{image(1, 3, 3, 3), image(4, 4)}, func(e *Env, in []*G.Node) (*G.Node, error) {
			return RecurrentGate(e, in[0], in[0], in[1])
		}},
		{"at least 2 to compare", []input{image(3, 3, 3)}, func(e *Env, in []*G.Node) (*G.Node, error) { return SlowLoss(e, in...) }},
		{"hyper-kernel 1 has shape (3, 4, 4)", []input{image(3, 3, 3), image(3, 4, 4)}, func(e *Env, in []*G.Node) (*G.Node, error) { return SlowLoss(e, in...) }},
		{"1 weights for 2 parameters", []input{image(3), image(4)}, func(e *Env, in []*G.Node) (*G.Node, error) { return NormPenalty(e, []float64{1}, in...) }},
	} {
		g := G.NewGraph()
		nodes := make([]*G.Node, len(c.ins))
		for i, in := range c.ins {
			nodes[i] = G.NewTensor(g, dtypeOf[float64](), len(in.shape), G.WithShape(in.shape...), G.WithName(fmt.Sprint("in", i)))
		}
		if _, err := c.build(NewEnv(1), nodes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found error %v, want one with %q", err, c.want)
		}
	}
}

func TestSlowNetworkRefusals(t *testing.T) {
	rng := rand.New(rand.NewPCG(80, 1))
	for _, c := range []struct {
		want   string
		change func(in map[string]input)
	}{
		{"filter 1 has shape (3, 1), expected (3, 2)", func(in map[string]input) { in["fw.1"] = random(rng, 0, 1, 3, 1) }},
		{"hidden weight 2 has shape (3, 2)", func(in map[string]input) { in["lw.1"] = random(rng, 0, 1, 3, 2) }},
		{"score bias 1 has shape (4)", func(in map[string]input) { in["xb.0"] = random(rng, 0, 1, 4) }},
		{"context has shape (2, 3, 3)", func(in map[string]input) { in["bp"] = random(rng, 0, 1, 5, 5) }},
		{"offset has shape (1, 3, 3)", func(in map[string]input) { in["bp"] = random(rng, 0, 1, 1, 3, 3) }},
		{"2 filters", func(in map[string]input) { delete(in, "fw.2") }},
		{"1 score weights", func(in map[string]input) { delete(in, "xw.1") }},
		{"context's weight has shape (3, 3)", func(in map[string]input) { in["rw"] = random(rng, 0, 1, 3, 3) }},
	} {
		ins := slowInputs(rng, []int{3, 3}, 3, 2, 2, 2)
		c.change(ins)
		g := G.NewGraph()
		nodes := map[string]*G.Node{}
		for k, in := range ins {
			nodes[k] = G.NewTensor(g, dtypeOf[float64](), len(in.shape), G.WithShape(in.shape...), G.WithName(k))
		}
		e := NewEnv(1)
		context, err := ContextMean(e, nodes["x"], 3, 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = LocalSlowNetwork(e, context, slowParams(nodes, "")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found error %v, want one with %q", err, c.want)
		}
	}
}
