package op

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// plain is attention of one head written down as matrices of all pairs, with
// distances by differences and the gradients of every element spelled out: what
// Attention is held to, and timed against.
type plain[T kernel.Float] struct {
	cfg        AttentionConfig
	n, d       int
	p, mu      float64
	eps        []T // by query, not squared
	q, k, v, f []T // n x d
	s, r, a, w []T // n x n: scores, squared distances plus eps^2, softmax of s, weights
	z          []T
	o, out     []T
}

func (a *plain[T]) kappa() T {
	if a.cfg.Variant == GraphGradientAttention {
		return T(a.p / 2)
	}
	return 1
}

func (a *plain[T]) forward() {
	n, d, h := a.n, a.d, (a.p-2)/2
	a.s, a.r, a.a, a.w = make([]T, n*n), make([]T, n*n), make([]T, n*n), make([]T, n*n)
	a.z, a.o, a.out = make([]T, n), make([]T, n*d), make([]T, n*d)
	kernel.Gemm[T](nil, 1, false, true, n, n, d, a.q, d, a.k, d, a.s, n, kernel.Epilogue[T]{})
	for i := range n {
		row := a.s[i*n:][:n]
		for j := range row {
			row[j] /= T(math.Sqrt(float64(d)))
			if a.cfg.Causal && j > i {
				row[j] = T(math.Inf(-1))
			}
			var sum T
			for c := range d {
				t := a.v[i*d+c] - a.v[j*d+c]
				sum += t * t
			}
			a.r[i*n+j] = sum + a.eps[i]*a.eps[i]
		}
	}
	kernel.SoftmaxRows(a.a, a.s, n, n)
	for i := range n {
		var z T
		for j := range n {
			f := T(math.Pow(float64(a.r[i*n+j]), h))
			if i == j && a.cfg.Diagonal == NeutralDiagonal {
				f = 1
			}
			if i == j && a.cfg.Diagonal == ExcludedDiagonal {
				f = 0
			}
			m := a.a[i*n+j]
			if k := a.kappa(); k != 1 {
				m = T(math.Pow(float64(m), float64(k)))
			}
			a.w[i*n+j] = m * f
			z += m * f
		}
		a.z[i] = z
		if a.cfg.Variant != UnnormalizedAttention && z != 0 {
			for j := range n {
				a.w[i*n+j] /= z
			}
		}
	}
	kernel.Gemm[T](nil, 1, false, false, n, d, n, a.w, n, a.v, d, a.o, d, kernel.Epilogue[T]{})
	for i := range n {
		alpha, beta := T(1), T(0)
		c := T(2 * a.mu / a.p)
		if a.mu > 0 {
			alpha, beta = a.z[i]/(a.z[i]+c), c/(a.z[i]+c)
		}
		for l := range d {
			a.out[i*d+l] = alpha*a.o[i*d+l] + beta*a.f[i*d+l]
			if a.mu == 0 {
				a.out[i*d+l] = a.o[i*d+l]
			}
			if a.z[i] == 0 && a.mu == 0 && a.cfg.Variant != UnnormalizedAttention {
				a.out[i*d+l] = a.v[i*d+l]
			}
		}
	}
}

// backward returns the gradients of q, k, v, f, p. It goes by the unnormalised
// weights m = A^kappa r^(p-2), which all variants share.
func (a *plain[T]) backward(dout []T) (dq, dk, dv, df []T, dp T) {
	n, d, h := a.n, a.d, T((a.p-2)/2)
	dq, dk, dv, df = make([]T, n*d), make([]T, n*d), make([]T, n*d), make([]T, n*d)
	ds, e, do := make([]T, n*n), make([]T, n*n), make([]T, n*d)
	normalized := a.cfg.Variant != UnnormalizedAttention
	c := T(2 * a.mu / a.p)
	var dc T
	dz := make([]T, n)
	for i := range n {
		z := a.z[i]
		for l := range d {
			g := dout[i*d+l]
			switch {
			case a.mu > 0:
				do[i*d+l] = g * z / (z + c)
				df[i*d+l] = g * c / (z + c)
				dz[i] += g * c / (z + c) / (z + c) * (a.o[i*d+l] - a.f[i*d+l])
				dc += g * z / (z + c) / (z + c) * (a.f[i*d+l] - a.o[i*d+l])
			case normalized && z == 0:
				dv[i*d+l] += g
			default:
				do[i*d+l] = g
			}
		}
	}
	dp = dc * T(-2*a.mu/a.p/a.p)
	dw := make([]T, n*n)
	kernel.Gemm[T](nil, 1, false, true, n, n, d, do, d, a.v, d, dw, n, kernel.Epilogue[T]{})
	kernel.Gemm[T](nil, 1, true, false, n, d, n, a.w, n, do, d, dv, d, kernel.Epilogue[T]{Accumulate: true})
	for i := range n {
		var delta T
		for l := range d {
			delta += do[i*d+l] * a.o[i*d+l]
		}
		var through T // sum over j of the gradient of log A
		for j := range n {
			w, x := a.w[i*n+j], dw[i*n+j]
			pij := w * x
			if normalized {
				pij = w * (x - delta + a.z[i]*dz[i])
			}
			if w == 0 {
				pij = 0
			}
			ds[i*n+j] = a.kappa() * pij
			through += ds[i*n+j]
			r := a.r[i*n+j]
			if i != j {
				e[i*n+j] = h * pij / r
			}
			if pij != 0 && (i != j || a.cfg.Diagonal == LiteralDiagonal) {
				dp += pij * T(math.Log(float64(r))) / 2
			}
			if pij != 0 && a.cfg.Variant == GraphGradientAttention {
				dp += pij * T(math.Log(float64(a.a[i*n+j]))) / 2
			}
		}
		for j := range n {
			ds[i*n+j] = (ds[i*n+j] - a.a[i*n+j]*through) / T(math.Sqrt(float64(d)))
		}
	}
	kernel.Gemm[T](nil, 1, false, false, n, d, n, ds, n, a.k, d, dq, d, kernel.Epilogue[T]{})
	kernel.Gemm[T](nil, 1, true, false, n, d, n, ds, n, a.q, d, dk, d, kernel.Epilogue[T]{})
	for i := range n {
		for j := range n {
			if e[i*n+j] == 0 {
				continue
			}
			for l := range d {
				t := 2 * e[i*n+j] * (a.v[i*d+l] - a.v[j*d+l])
				dv[i*d+l] += t
				dv[j*d+l] -= t
			}
		}
	}
	return dq, dk, dv, df, dp
}

// trial is an attention with its arguments, channels first: qkv (B,3C,R,n), f
// (B,C,R,n) or as qkv.
type trial struct {
	cfg        AttentionConfig
	b, rows, n int
	depth      int
	learned    bool
	qkv, p, f  []float64
	dout       []float64
	workers    int
	inference  bool
	env        *Env
}

func (x *trial) channels() int { return x.cfg.Heads * x.depth }

func newTrial(rng *rand.Rand, cfg AttentionConfig, b, rows, n, depth int) *trial {
	x := &trial{cfg: cfg, b: b, rows: rows, n: n, depth: depth, workers: 1}
	normal := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return v
	}
	x.qkv, x.dout = normal(3*b*x.channels()*rows*n), normal(b*x.channels()*rows*n)
	return x
}

// value is where channel c of the value of token i of the first sequence is.
func (x *trial) value(c, i int) int { return (2*x.channels()+c)*x.rows*x.n + i }

// duplicate makes the value of token j that of token i, but for distance.
func (x *trial) duplicate(i, j int, distance float64) {
	for h := range x.cfg.Heads {
		for c := range x.depth {
			x.qkv[x.value(h*x.depth+c, j)] = x.qkv[x.value(h*x.depth+c, i)]
		}
		x.qkv[x.value(h*x.depth, j)] += distance
	}
}

func (x *trial) function(t testing.TB) (*selfAttention[float64], *selfAttention[float32]) {
	t.Helper()
	cfg := x.cfg
	if x.learned {
		x.p, cfg.P = cfg.P, nil
	}
	a, b := newSelfAttention[float64](cfg, x.learned, x.f != nil), newSelfAttention[float32](cfg, x.learned, x.f != nil)
	shapes := []tensor.Shape{{x.b, 3 * x.channels(), x.rows, x.n}}
	if x.learned {
		shapes = append(shapes, tensor.Shape{len(x.p)})
	}
	if x.f != nil {
		shapes = append(shapes, tensor.Shape{x.b, len(x.f) / x.b / x.rows / x.n, x.rows, x.n})
	}
	for _, f := range []interface {
		shape([]tensor.Shape) (tensor.Shape, error)
	}{a, b} {
		if _, err := f.shape(shapes); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func convert[D, S kernel.Float](x []S) []D {
	y := make([]D, len(x))
	for i, v := range x {
		y[i] = D(v)
	}
	return y
}

type outcome struct {
	out, dqkv, dp, df []float64
	lse               []float64
}

// run computes the attention and, if there is dout, its gradients, in T.
func runTrial[T kernel.Float](t testing.TB, x *trial) outcome {
	t.Helper()
	if x.env == nil {
		x.env = NewEnv(1)
	}
	e := x.env
	e.Workers, e.Inference = x.workers, x.inference
	a, b := x.function(t)
	var f function[T]
	var lse *[]T
	if g, ok := any(a).(*selfAttention[T]); ok {
		f, lse = g, &g.lse
	} else {
		g := any(b).(*selfAttention[T])
		f, lse = g, &g.lse
	}
	in := [][]T{convert[T](x.qkv)}
	if x.learned {
		in = append(in, convert[T](x.p))
	}
	if x.f != nil {
		in = append(in, convert[T](x.f))
	}
	out := make([]T, x.b*x.channels()*x.rows*x.n)
	f.forward(e, in, out)
	o := outcome{out: convert[float64](out), lse: convert[float64](*lse)}
	if x.dout == nil || x.inference {
		return o
	}
	din := make([][]T, len(in))
	for i := range din {
		din[i] = make([]T, len(in[i]))
		for j := range din[i] {
			din[i][j] = T(math.NaN()) // must be overwritten
		}
	}
	f.backward(e, in, out, convert[T](x.dout), din)
	o.dqkv = convert[float64](din[0])
	if x.learned {
		o.dp = convert[float64](din[1])
	}
	if x.f != nil {
		o.df = convert[float64](din[len(din)-1])
	}
	return o
}

// head returns a matrix tokens by depth of head h of a sequence of x, of which
// there are channels in all and the head's begin at first.
func (x *trial) head(data []float64, b, r, channels, first int) []float64 {
	m := make([]float64, x.n*x.depth)
	for i := range x.n {
		for c := range x.depth {
			m[i*x.depth+c] = data[((b*channels+first+c)*x.rows+r)*x.n+i]
		}
	}
	return m
}

// epsilons returns eps by token for values v.
func (x *trial) epsilons(v []float64) []float64 {
	eps := make([]float64, x.n)
	var sum, all float64 // over pairs of tokens up to one, and of all
	for i := range eps {
		for j := range i {
			for c := range x.depth {
				d := v[i*x.depth+c] - v[j*x.depth+c]
				sum += d * d
			}
		}
		eps[i] = x.cfg.Eps
		if x.cfg.Relative && sum > 0 {
			eps[i] *= math.Sqrt(2 * sum / float64(i*(i+1)))
		}
		all = eps[i]
	}
	for i := range eps {
		if !x.cfg.Causal {
			eps[i] = all
		}
	}
	return eps
}

// plain returns head h of a sequence in plain form.
func (x *trial) plain(b, r, h int) *plain[float64] {
	C := x.channels()
	a := &plain[float64]{cfg: x.cfg, n: x.n, d: x.depth, mu: x.cfg.Mu}
	a.q, a.k, a.v = x.head(x.qkv, b, r, 3*C, h*x.depth), x.head(x.qkv, b, r, 3*C, C+h*x.depth), x.head(x.qkv, b, r, 3*C, 2*C+h*x.depth)
	a.f = a.v
	if x.f != nil {
		all := len(x.f) / x.b / x.rows / x.n
		a.f = x.head(x.f, b, r, all, all-C+h*x.depth)
	}
	ps := x.cfg.P
	a.p = ps[h%len(ps)]
	a.eps = x.epsilons(a.v)
	return a
}

// compare holds an outcome to the plain form, with tol relative to the largest
// element of each array.
func (x *trial) compare(t *testing.T, got outcome, tol float64) {
	t.Helper()
	C := x.channels()
	check := func(what string, got, want []float64) {
		t.Helper()
		scale, worst := .1, 0. // what is zero is a difference of terms of about 1
		for i := range want {
			scale = math.Max(scale, math.Abs(want[i]))
			if d := math.Abs(got[i] - want[i]); !(d <= worst) {
				worst = d
			}
		}
		if !(worst <= tol*scale) {
			t.Errorf("%s differs by %.2g of %.3g", what, worst, scale)
		}
	}
	dp := make([]float64, x.cfg.Heads)
	for b := range x.b {
		for r := range x.rows {
			for h := range x.cfg.Heads {
				a := x.plain(b, r, h)
				a.forward()
				check("output", x.head(got.out, b, r, C, h*x.depth), a.out)
				if got.dqkv == nil {
					continue
				}
				dq, dk, dv, df, p := a.backward(x.head(x.dout, b, r, C, h*x.depth))
				dp[h] += p
				if x.f == nil {
					for i := range dv {
						dv[i] += df[i]
					}
				} else {
					all := len(x.f) / x.b / x.rows / x.n
					check("gradient of fidelity", x.head(got.df, b, r, all, all-C+h*x.depth), df)
					for c := range all - C {
						for i := range x.n {
							if g := got.df[((b*all+c)*x.rows+r)*x.n+i]; g != 0 {
								t.Fatalf("channel %d of fidelity has the gradient %g, want none", c, g)
							}
						}
					}
				}
				check("gradient of queries", x.head(got.dqkv, b, r, 3*C, h*x.depth), dq)
				check("gradient of keys", x.head(got.dqkv, b, r, 3*C, C+h*x.depth), dk)
				check("gradient of values", x.head(got.dqkv, b, r, 3*C, 2*C+h*x.depth), dv)
			}
		}
	}
	if x.learned {
		check("gradient of p", got.dp, dp)
	}
}

var variantNames = []string{"N", "U", "G"}
var attentionVariants = map[string]AttentionVariant{"N": NormalizedAttention, "U": UnnormalizedAttention, "G": GraphGradientAttention}
var attentionDiagonals = map[string]AttentionDiagonal{"literal": LiteralDiagonal, "neutral": NeutralDiagonal, "excluded": ExcludedDiagonal}

// TestAttentionGolden holds every variant to the vectors of
// testdata/plat/golden.txt: weights (by the logarithm of their sum, which is all
// that is kept), output, loss, and gradients, p's among them; eps, which has none
// here, by differences of the loss.
func TestAttentionGolden(t *testing.T) {
	Q := []float64{.5, -.25, 1, .75, -.5, .25, 0, 1}
	K := []float64{.25, .5, -1, .5, .75, -.75, .5, .25}
	V := []float64{1, 0, 1.1, .1, -1, .5, 0, -2}
	T := []float64{1, 0, 0, 1, -1, .5, .5, -1}
	var qkv []float64
	for _, m := range [][]float64{Q, K, V} {
		for c := range 2 {
			for i := range 4 {
				qkv = append(qkv, m[2*i+c])
			}
		}
	}
	var dout []float64
	for c := range 2 {
		for i := range 4 {
			dout = append(dout, T[2*i+c])
		}
	}
	file, err := os.Open("testdata/plat/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	numbers := func(s string) (v []float64) {
		for _, w := range strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(s)) {
			var x float64
			if _, err := fmt.Sscan(w, &x); err != nil {
				t.Fatalf("number %q: %v", w, err)
			}
			v = append(v, x)
		}
		return v
	}
	var x *trial
	var got outcome
	cases := 0
	near := func(what string, got, want []float64) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s has %d numbers, want %d", what, len(got), len(want))
		}
		for i := range want {
			if !(math.Abs(got[i]-want[i]) <= 2e-10*math.Max(1, math.Abs(want[i]))) {
				t.Errorf("%s: number %d is %.12g, want %.12g", what, i, got[i], want[i])
			}
		}
	}
	loss := func(x *trial) (l float64) {
		for i, v := range runTrial[float64](t, x).out {
			l += v * x.dout[i]
		}
		return l
	}
	part := func(k int) []float64 { return x.head(got.dqkv, 0, 0, 6, 2*k) }
	scan := bufio.NewScanner(file)
	name := ""
	for scan.Scan() {
		key, rest, _ := strings.Cut(scan.Text(), " ")
		switch key {
		case "--":
			name = rest
			cfg := AttentionConfig{Heads: 1, P: []float64{2}, Eps: .1}
			for _, w := range strings.Fields(rest) {
				if v, ok := attentionVariants[w]; ok {
					cfg.Variant = v
				} else if d, ok := attentionDiagonals[strings.TrimPrefix(w, "diag=")]; ok {
					cfg.Diagonal = d
				} else if p, ok := strings.CutPrefix(w, "p="); ok {
					fmt.Sscan(p, &cfg.P[0])
				} else if w == "causal" {
					cfg.Causal = true
				} else if w != "softmax" && w != "(p=2)" {
					t.Fatalf("case %q: %q means nothing", rest, w)
				}
			}
			x = &trial{cfg: cfg, b: 1, rows: 1, n: 4, depth: 2, learned: true, qkv: qkv, dout: dout, workers: 1}
			got = runTrial[float64](t, x)
			cases++
		case "W:":
			near(name+": W", weights(x, got.lse), numbers(rest))
		case "O:":
			near(name+": O", x.head(got.out, 0, 0, 2, 0), numbers(rest))
		case "loss":
			f := strings.Fields(rest) // <T,O> = L dp = D deps = E
			near(name+": loss", []float64{loss(x)}, numbers(f[2]))
			near(name+": dp", got.dp, numbers(f[5]))
			eps := func(d float64) float64 {
				y := *x
				y.cfg.Eps += d
				return loss(&y)
			}
			const step = 1e-3
			slope := (8*(eps(step)-eps(-step)) - (eps(2*step) - eps(-2*step))) / (12 * step)
			if want := numbers(f[8])[0]; !(math.Abs(slope-want) <= 1e-5*math.Max(1, math.Abs(want))) {
				t.Errorf("%s: slope of the loss along eps is %.10g, want %.10g", name, slope, want)
			}
		case "dQ:":
			near(name+": dQ", part(0), numbers(rest))
		case "dK:":
			near(name+": dK", part(1), numbers(rest))
		case "dV:":
			near(name+": dV", part(2), numbers(rest))
		}
	}
	if scan.Err() != nil || cases != 12 {
		t.Errorf("%d cases, want 12; %v", cases, scan.Err())
	}
}

// weights returns those of the first head of the first sequence, n x n, given the
// logarithms of their sums.
func weights(x *trial, lse []float64) []float64 {
	a := x.plain(0, 0, 0)
	a.forward()
	w := make([]float64, x.n*x.n)
	for i := range x.n {
		for j := range x.n {
			b := (a.p - 2) / 2 * math.Log(a.r[i*x.n+j])
			if i == j && x.cfg.Diagonal == NeutralDiagonal {
				b = 0
			}
			if i == j && x.cfg.Diagonal == ExcludedDiagonal {
				b = math.Inf(-1)
			}
			w[i*x.n+j] = math.Exp(float64(a.kappa())*a.s[i*x.n+j] + b - lse[i])
		}
	}
	return w
}

// everyAttention calls do for every variant and diagonal, causal or not.
func everyAttention(do func(name string, cfg AttentionConfig)) {
	for _, v := range variantNames {
		for _, d := range []string{"literal", "neutral", "excluded"} {
			for _, causal := range []bool{false, true} {
				do(fmt.Sprintf("%s/%s/causal=%v", v, d, causal), AttentionConfig{Variant: attentionVariants[v], Diagonal: attentionDiagonals[d], Causal: causal})
			}
		}
	}
}

// TestAttentionMatchesPlain holds the streaming form to matrices of all pairs, for
// lengths on both sides of a tile, in both precisions at every kernel level.
func TestAttentionMatchesPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 61))
	everyAttention(func(name string, cfg AttentionConfig) {
		cfg.Heads, cfg.P, cfg.Eps = 2, []float64{1.5, 2.5}, .2
		for i, c := range []struct{ b, rows, n, d int }{{1, 1, 1, 3}, {2, 2, 2, 1}, {1, 2, 33, 5}, {1, 1, 130, 8}} {
			cfg := cfg
			cfg.Relative = i%2 == 1
			if cfg.Variant != UnnormalizedAttention && i != 1 {
				cfg.Mu = .3
			}
			x := newTrial(rng, cfg, c.b, c.rows, c.n, c.d)
			x.learned = i != 2
			switch i {
			case 0:
				if cfg.Mu > 0 {
					x.f = newTrial(rng, cfg, c.b, c.rows, c.n, c.d).dout
				}
			case 3:
				x.duplicate(3, 70, 1e-3)
				x.duplicate(3, 71, 0)
				if cfg.Mu > 0 {
					x.f = newTrial(rng, cfg, c.b, c.rows, c.n, c.d).qkv
				}
			}
			t.Run(fmt.Sprintf("%s/%+v", name, c), func(t *testing.T) {
				x.compare(t, runTrial[float64](t, x), 2e-11)
				if c.n > 100 {
					return
				}
				for _, l := range kernel.Available() {
					restore := kernel.Force(l)
					x.compare(t, runTrial[float32](t, x), 2e-5)
					restore()
				}
			})
		}
	})
}

// TestAttentionGradient holds gradients to central differences of fourth order,
// with a pair of values a thousandth apart and one of equal values.
func TestAttentionGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 62))
	check := func(name string, cfg AttentionConfig) {
		t.Run(name, func(t *testing.T) {
			cfg.Heads = 1
			x := newTrial(rng, cfg, 1, 1, 6, 3)
			x.learned = true
			if cfg.Mu > 0 {
				x.f = newTrial(rng, cfg, 1, 1, 6, 3).dout
			}
			x.duplicate(0, 1, 1e-3)
			x.duplicate(2, 4, 0)
			got := runTrial[float64](t, x)
			y := *x
			y.inference = true
			loss := func() (l float64) {
				for i, v := range runTrial[float64](t, &y).out {
					l += v * x.dout[i]
				}
				return l
			}
			slope := func(v *float64, step float64) float64 {
				old := *v
				at := func(d float64) float64 {
					*v = old + d
					l := loss()
					*v = old
					return l
				}
				return (8*(at(step)-at(-step)) - (at(2*step) - at(-2*step))) / (12 * step)
			}
			compare := func(what string, v []float64, got []float64, step func(i int) float64) {
				var worst, scale float64
				for i := range v {
					want := slope(&v[i], step(i))
					scale = math.Max(scale, math.Abs(want))
					worst = math.Max(worst, math.Abs(got[i]-want))
				}
				if !(worst <= 2e-6*math.Max(scale, 1e-3)) {
					t.Errorf("%s: gradient differs from central differences by %.2g of %.3g", what, worst, scale)
				}
			}
			third := len(x.qkv) / 3
			compare("queries, keys and values", x.qkv, got.dqkv, func(i int) float64 {
				if i < 2*third {
					return 1e-3
				}
				return 2e-5
			})
			compare("p", x.cfg.P, got.dp, func(int) float64 { return 1e-3 })
			if x.f != nil {
				compare("fidelity", x.f, got.df, func(int) float64 { return 1e-3 })
			}
		})
	}
	for _, p := range []float64{1, 1.25, 1.5, 2, 2.5, 3, 4} {
		for _, eps := range []float64{.1, 1e-3} {
			check(fmt.Sprintf("N/p=%g/eps=%g", p, eps), AttentionConfig{P: []float64{p}, Eps: eps})
		}
	}
	for _, p := range []float64{1.25, 3} {
		everyAttention(func(name string, cfg AttentionConfig) {
			cfg.P, cfg.Eps = []float64{p}, .1
			if cfg.Variant != UnnormalizedAttention && cfg.Causal {
				cfg.Mu = .5
			}
			check(fmt.Sprintf("%s/p=%g", name, p), cfg)
		})
	}
}

// TestAttentionNode runs the operation as a node, for its wiring.
func TestAttentionNode(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 63))
	qkv, f := random(rng, -1, 1, 2, 12, 2, 5), random(rng, -1, 1, 2, 4, 2, 5)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return Attention(e, AttentionConfig{Heads: 2, Eps: .3, Mu: .2}, in[0], in[1], in[2])
	}, 2*4*2*5, qkv, random(rng, 1, 3, 2), f)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return Attention(e, AttentionConfig{Heads: 2, P: []float64{2, 1.5}, Eps: .3, Causal: true}, in[0], nil, nil)
	}, 2*4*2*5, qkv)
	checkGradient(t, func(e *Env, in []*G.Node) (*G.Node, error) {
		return Attention(e, AttentionConfig{Heads: 4, P: []float64{1.2}, Eps: .3, Mu: 1}, in[0], nil, nil)
	}, 2*4*2*5, qkv)
}

// TestAttentionSoftmax holds p = 2 to softmax attention, whether distances are left
// out or, p being a node, computed: for any eps, and not with the diagonal excluded.
func TestAttentionSoftmax(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 64))
	for _, n := range []int{5, 70} {
		x := newTrial(rng, AttentionConfig{Heads: 2, P: []float64{2, 2}}, 1, 1, n, 4)
		x.duplicate(0, 1, 0)
		want := make([]float64, 8*n)
		for h := range 2 {
			a := x.plain(0, 0, h)
			a.forward()
			o := make([]float64, n*4)
			kernel.Gemm[float64](nil, 1, false, false, n, 4, n, a.a, n, a.v, 4, o, 4, kernel.Epilogue[float64]{})
			for i := range n {
				for c := range 4 {
					want[(h*4+c)*n+i] = o[i*4+c]
				}
			}
		}
		base := runTrial[float64](t, x)
		largest := func(got []float64) (worst float64) {
			for i := range want {
				if d := math.Abs(got[i] - want[i]); !(d <= worst) {
					worst = d
				}
			}
			return worst
		}
		if d := largest(base.out); !(d <= 2e-15) {
			t.Errorf("%d tokens: differs from softmax attention by %g", n, d)
		}
		if d := largest(runTrial[float32](t, x).out); !(d <= 2e-6) {
			t.Errorf("%d tokens: differs from softmax attention by %g in float32", n, d)
		}
		for _, v := range variantNames {
			variant := attentionVariants[v]
			for d, diagonal := range attentionDiagonals {
				for _, eps := range []float64{1e-6, .1, 10} {
					y := *x
					y.learned = true
					y.cfg.P = []float64{2, 2}
					y.cfg.Variant, y.cfg.Diagonal, y.cfg.Eps = variant, diagonal, eps
					got := runTrial[float64](t, &y)
					diff := largest(got.out)
					if d == "excluded" {
						if !(diff > 1e-3) {
							t.Errorf("%s, diagonal %s: differs by only %g from softmax attention", v, d, diff)
						}
						continue
					}
					if diff > 2e-15 {
						t.Errorf("%s, diagonal %s, eps %g: differs from softmax attention by %g", v, d, eps, diff)
					}
					for i := range base.dqkv {
						if g := math.Abs(got.dqkv[i] - base.dqkv[i]); !(g <= 1e-13) {
							t.Fatalf("%s, diagonal %s, eps %g: gradient %d is %g with distances, %g without", v, d, eps, i, got.dqkv[i], base.dqkv[i])
						}
					}
				}
			}
		}
	}
}

// TestAttentionSymmetries: adding a vector to all values adds it to the output,
// permuting tokens permutes it, rotating values rotates it, and scaling values and
// eps scales it to the power 1, or p-1 if not normalised.
func TestAttentionSymmetries(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 65))
	const n, d = 70, 3
	for _, v := range variantNames {
		variant := attentionVariants[v]
		for _, p := range []float64{1.25, 3} {
			for _, relative := range []bool{false, true} {
				cfg := AttentionConfig{Heads: 1, Variant: variant, P: []float64{p}, Eps: .1, Relative: relative}
				x := newTrial(rng, cfg, 1, 1, n, d)
				base := runTrial[float64](t, x).out
				check := func(what string, y *trial, want func(c, i int) float64) {
					t.Helper()
					got := runTrial[float64](t, y).out
					var worst, scale float64
					for c := range d {
						for i := range n {
							worst = math.Max(worst, math.Abs(got[c*n+i]-want(c, i)))
							scale = math.Max(scale, math.Abs(want(c, i)))
						}
					}
					if !(worst <= 3e-14*math.Max(scale, 1)) {
						t.Errorf("%s, p %g, relative %v: %s is off by %g of %g", v, p, relative, what, worst, scale)
					}
				}
				clone := func() *trial {
					y := *x
					y.qkv = append([]float64(nil), x.qkv...)
					return &y
				}
				if variant != UnnormalizedAttention {
					y, shift := clone(), []float64{1, -2, .5}
					for c := range d {
						for i := range n {
							y.qkv[x.value(c, i)] += shift[c]
						}
					}
					check("translation", y, func(c, i int) float64 { return base[c*n+i] + shift[c] })
				}
				y, perm := clone(), rng.Perm(n)
				for c := range 3 * d {
					for i := range n {
						y.qkv[c*n+i] = x.qkv[c*n+perm[i]]
					}
				}
				check("permutation", y, func(c, i int) float64 { return base[c*n+perm[i]] })
				y = clone()
				s, k := math.Sincos(.7)
				turn := [d][d]float64{{k, -s, 0}, {s * .6, k * .6, -.8}, {s * .8, k * .8, .6}}
				rotated := func(at func(c, i int) float64, c, i int) (r float64) {
					for l := range d {
						r += turn[c][l] * at(l, i)
					}
					return r
				}
				for c := range d {
					for i := range n {
						y.qkv[x.value(c, i)] = rotated(func(c, i int) float64 { return x.qkv[x.value(c, i)] }, c, i)
					}
				}
				check("rotation", y, func(c, i int) float64 { return rotated(func(c, i int) float64 { return base[c*n+i] }, c, i) })
				y = clone()
				for c := range d {
					for i := range n {
						y.qkv[x.value(c, i)] *= 4
					}
				}
				if !relative {
					y.cfg.Eps *= 4
				}
				degree := 1.
				if variant == UnnormalizedAttention {
					degree = p - 1
				}
				check("scale", y, func(c, i int) float64 { return math.Pow(4, degree) * base[c*n+i] })
			}
		}
	}
}

// TestAttentionCausal: no bit of an output comes from a later token, in either
// precision, eps relative or not, near pairs or not.
func TestAttentionCausal(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 66))
	const n, d = 140, 4
	for _, v := range variantNames {
		variant := attentionVariants[v]
		for _, relative := range []bool{false, true} {
			x := newTrial(rng, AttentionConfig{Heads: 1, Variant: variant, P: []float64{1.5}, Eps: .1, Relative: relative, Causal: true}, 1, 1, n, d)
			x.inference = true
			x.duplicate(3, 90, 1e-4)
			for _, from := range []int{1, 40, 64, 65, 100} {
				y := *x
				y.qkv = append([]float64(nil), x.qkv...)
				for c := range 3 * d {
					for i := from; i < n; i++ {
						y.qkv[c*n+i] = 100 * rng.NormFloat64()
					}
				}
				for precision, outs := range map[string][2]outcome{
					"float64": {runTrial[float64](t, x), runTrial[float64](t, &y)},
					"float32": {runTrial[float32](t, x), runTrial[float32](t, &y)},
				} {
					changed := 0
					for c := range d {
						for i := range n {
							same := outs[0].out[c*n+i] == outs[1].out[c*n+i]
							if i < from && !same {
								t.Fatalf("%s, relative %v, %s: output %d changes with tokens from %d on", v, relative, precision, i, from)
							}
							if !same {
								changed++
							}
						}
					}
					if changed < (n-from)*d/2 {
						t.Errorf("%s: tokens from %d on change only %d outputs", v, from, changed)
					}
				}
			}
		}
	}
}

// TestAttentionSumOfGradients: distances do not change when all values move, and
// rows sum to 1, so the gradients of values and those of outputs have one sum.
func TestAttentionSumOfGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 67))
	const n, d = 80, 4
	everyAttention(func(name string, cfg AttentionConfig) {
		if cfg.Variant == UnnormalizedAttention {
			return
		}
		cfg.Heads, cfg.P, cfg.Eps = 1, []float64{1.25}, .01
		x := newTrial(rng, cfg, 1, 1, n, d)
		x.duplicate(0, 1, 1e-4)
		x.duplicate(0, 2, 0)
		dv := runTrial[float64](t, x).dqkv[2*d*n:]
		for c := range d {
			var in, out float64
			for i := range n {
				in += dv[c*n+i]
				out += x.dout[c*n+i]
			}
			if !(math.Abs(in-out) <= 1e-11) {
				t.Errorf("%s: channel %d: gradients of values sum to %g, of outputs to %g", name, c, in, out)
			}
		}
	})
}

// frozen returns attention with scores of tokens x (n x d) times scale, and values x.
func frozen(x []float64, n, d int, scale float64, cfg AttentionConfig) *trial {
	cfg.Heads = 1
	t := &trial{cfg: cfg, b: 1, rows: 1, n: n, depth: d, workers: 1, inference: true, qkv: make([]float64, 3*d*n)}
	for c := range d {
		for i := range n {
			s := math.Sqrt(scale) * x[i*d+c]
			t.qkv[c*n+i], t.qkv[(d+c)*n+i], t.qkv[t.value(c, i)] = s, s, x[i*d+c]
		}
	}
	return t
}

// step puts the output in the place of the values.
func (x *trial) step(t testing.TB) { copy(x.qkv[2*x.depth*x.n:], runTrial[float64](t, x).out) }

// TestAttentionEnergy: with a symmetric kernel that stays, a step does not increase
// 1/p sum of k_ij (|v_i-v_j|^2+eps^2)^(p/2) for p <= 2, however wild the values;
// for p = 4 it does now and then, which shows that the test would see it.
func TestAttentionEnergy(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 68))
	const eps = .05
	energy := func(x *trial, p float64) (e float64) {
		a := x.plain(0, 0, 0)
		a.forward()
		for i, s := range a.s {
			e += math.Exp(s) * math.Pow(a.r[i], p/2) / p
		}
		return e
	}
	count := func(n, d, steps int, wild bool, p float64) (up int) {
		tokens := make([]float64, n*d)
		for i := range tokens {
			tokens[i] = rng.NormFloat64()
			if wild {
				tokens[i] *= tokens[i] * tokens[i]
			}
		}
		// Scores of wild tokens are those of tame ones: exp must not overflow.
		x := frozen(tokens, n, d, 1, AttentionConfig{P: []float64{p}, Eps: eps})
		if wild {
			for i := range 2 * d * n {
				x.qkv[i] = math.Cbrt(x.qkv[i])
			}
		}
		last := energy(x, p)
		for range steps {
			x.step(t)
			e := energy(x, p)
			if !(e <= last*(1+1e-12)) {
				up++
			}
			last = e
		}
		return up
	}
	for _, p := range []float64{.5, 1, 1.5, 2} {
		up := 0
		for range 5 {
			up += count(24, 4, 40, false, p)
		}
		for i := range 60 {
			up += count(3+i%6, 2, 20, true, p)
		}
		if up > 0 {
			t.Errorf("p = %g: the energy rose %d times, want 0", p, up)
		}
	}
	up := 0
	for i := range 60 {
		up += count(3+i%6, 2, 20, true, 4)
	}
	if up == 0 {
		t.Error("p = 4: the energy never rose in steps that need not lower it")
	}
}

// TestAttentionSharpening: without scores, weights fall with distance for p < 2 and
// rise for p > 2, by the table for tokens on a line at 0, .25, .5, 1, 2, 4.
func TestAttentionSharpening(t *testing.T) {
	tokens := []float64{0, .25, .5, 1, 2, 4}
	for p, want := range map[float64][]float64{
		1:   {.5741, .2132, .1126, .0571, .0287, .0143},
		1.5: {.3637, .2217, .1611, .1147, .0813, .0575},
		2:   {.1667, .1667, .1667, .1667, .1667, .1667},
		2.5: {.0530, .0870, .1197, .1680, .2371, .3352},
		3:   {.0127, .0341, .0646, .1274, .2539, .5073},
	} {
		x := frozen(tokens, 6, 1, 0, AttentionConfig{P: []float64{p}, Eps: .1})
		x.inference = false
		w := weights(x, runTrial[float64](t, x).lse)
		var sum float64
		for j := range want {
			sum += w[j] * tokens[j]
			if !(math.Abs(w[j]-want[j]) <= 5.1e-5) {
				t.Errorf("p = %g: weight %d is %.5f, want %.4f", p, j, w[j], want[j])
			}
		}
		if out := runTrial[float64](t, x).out[0]; !(math.Abs(out-sum) <= 1e-14) {
			t.Errorf("p = %g: output %g, want the mean by weights %g", p, out, sum)
		}
	}
}

// TestAttentionClusters: clusters of tokens stay apart the longer the smaller p is,
// while tokens of one cluster become one. The table is of the same experiment done
// apart, with other random numbers: a factor of 2.5 is what those may make, where
// entries span ten decades.
func TestAttentionClusters(t *testing.T) {
	const n, clusters, d, seeds = 64, 8, 16, 6
	ps, steps := []float64{1, 1.25, 1.5, 1.75, 2, 2.5, 3}, []int{1, 2, 4, 8}
	table := [][]float64{
		{.647, .485, .259, .054}, {.486, .278, .079, 3.5e-3}, {.315, .116, .013, 5e-5}, {.169, .034, 1.3e-3, 1e-6},
		{.072, .0077, 1.4e-4, 8e-8}, {.0065, 3e-4, 5e-6, 3e-9}, {.0071, 4e-5, 4e-7, 2e-10},
	}
	between := make([][]float64, len(ps))
	within := make([]float64, len(ps))
	// measure returns mean squared distances between centres of clusters and within.
	measure := func(x *trial) (apart, inside float64) {
		centre := make([]float64, clusters*d)
		for i := range n {
			for c := range d {
				centre[i%clusters*d+c] += x.qkv[x.value(c, i)] * clusters / n
			}
		}
		for i := range n {
			for c := range d {
				inside += math.Pow(x.qkv[x.value(c, i)]-centre[i%clusters*d+c], 2) / n
			}
		}
		for a := range clusters {
			for b := range a {
				for c := range d {
					apart += math.Pow(centre[a*d+c]-centre[b*d+c], 2) * 2 / clusters / (clusters - 1)
				}
			}
		}
		return apart, inside
	}
	for k, p := range ps {
		between[k] = make([]float64, len(steps))
		for seed := range seeds {
			rng := rand.New(rand.NewPCG(9, uint64(seed)))
			tokens := make([]float64, n*d)
			for i := range clusters * d {
				tokens[i] = rng.NormFloat64()
			}
			for i := n*d - 1; i >= 0; i-- {
				tokens[i] = tokens[i%(clusters*d)] + .1*rng.NormFloat64()
			}
			x := frozen(tokens, n, d, .25, AttentionConfig{P: []float64{p}, Eps: .05, Relative: true})
			x.cfg.Eps = x.epsilons(tokens)[0] // as it is at first
			x.cfg.Relative = false
			first, inside := measure(x)
			done := 0
			for s, until := range steps {
				for ; done < until; done++ {
					x.step(t)
				}
				apart, _ := measure(x)
				between[k][s] += apart / first / seeds
				if until == 4 {
					_, now := measure(x)
					within[k] += now / inside / seeds
				}
			}
		}
		t.Logf("p = %g: left between clusters after %v steps %.3g, within after 4 %.2g", p, steps, between[k], within[k])
	}
	for k := range ps {
		for s, want := range table[k] {
			if got := between[k][s]; !(got > want/2.5 && got < want*2.5) {
				t.Errorf("p = %g: %.3g is left between clusters after %d steps, want about %.3g", ps[k], got, steps[s], want)
			}
		}
		if k > 0 && ps[k] <= 2 {
			for s := range steps {
				if !(between[k][s] < .8*between[k-1][s]) {
					t.Errorf("after %d steps p = %g keeps %.3g between clusters, p = %g %.3g: want clearly less", steps[s], ps[k], between[k][s], ps[k-1], between[k-1][s])
				}
			}
		}
		if ps[k] < 2 && !(within[k] < 1e-2) {
			t.Errorf("p = %g: %.2g is left within clusters after 4 steps, want below .01", ps[k], within[k])
		}
	}
}

// TestAttentionPrecision holds gradients in float32 to those in float64 at a small
// eps, with values that are near, equal, far from zero together, and clustered. At
// p = 1 a row with a near pair consists of that pair, and <dy,v_j-out_i> is what
// rounding leaves of <dy,v_j>: p_j is off by up to about 2^-24 |dy||v|, and the
// gradient by that times the largest r/(r^2+eps^2), 1/(2 eps).
func TestAttentionPrecision(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 70))
	const n, d = 100, 64
	for _, c := range []struct {
		name    string
		prepare func(x *trial)
	}{
		{"random", func(x *trial) {}},
		{"near", func(x *trial) {
			for i := range 10 {
				x.duplicate(i, 50+i, math.Pow(10, -float64(i)/2))
			}
			x.duplicate(0, 99, 0)
			x.duplicate(1, 98, 0)
		}},
		{"offset", func(x *trial) {
			for c := range d {
				for i := range n {
					x.qkv[x.value(c, i)] += 10
				}
			}
		}},
		{"clusters", func(x *trial) {
			for c := range d {
				for i := range n {
					v := &x.qkv[x.value(c, i)]
					*v = x.qkv[x.value(c, i%5)] + .01*float64(i/5)**v/10
				}
			}
		}},
	} {
		name := c.name
		for _, p := range []float64{1, 1.5, 2.5} {
			for _, causal := range []bool{false, true} {
				x := newTrial(rng, AttentionConfig{Heads: 1, P: []float64{p}, Eps: 1e-4, Causal: causal}, 1, 1, n, d)
				x.learned = true
				c.prepare(x)
				for _, a := range [][]float64{x.qkv, x.dout} {
					for i, v := range a {
						a[i] = float64(float32(v))
					}
				}
				want := runTrial[float64](t, x)
				for _, l := range kernel.Available() {
					restore := kernel.Force(l)
					got := runTrial[float32](t, x)
					restore()
					worst, scale := 0., 0.
					for i := 2 * d * n; i < 3*d*n; i++ {
						scale = math.Max(scale, math.Abs(want.dqkv[i]))
						if e := math.Abs(got.dqkv[i] - want.dqkv[i]); !(e <= worst) {
							worst = e
						}
					}
					t.Logf("%s, p %g, causal %v, %v: dV off by %.2g of %.3g, dp %g for %g", name, p, causal, l, worst/scale, scale, got.dp[0], want.dp[0])
					want := 1e-5 * scale
					if p == 1 && name == "near" {
						want = d * math.Pow(2, -24) / (2 * x.cfg.Eps)
					}
					if !(worst <= want) {
						t.Errorf("%s, p %g, causal %v, %v: gradient of values is off by %.2g of %.3g, want %.2g", name, p, causal, l, worst, scale, want)
					}
				}
			}
		}
	}
}

// TestAttentionEqualTokens: where all values are equal the output is that value and
// gradients are those of softmax attention, with eps relative to nothing.
func TestAttentionEqualTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 71))
	for _, n := range []int{1, 3, 66} {
		for _, causal := range []bool{false, true} {
			x := newTrial(rng, AttentionConfig{Heads: 1, P: []float64{1}, Eps: .1, Relative: true, Causal: causal}, 1, 1, n, 2)
			for i := 1; i < n; i++ {
				x.duplicate(0, i, 0)
			}
			soft := *x
			soft.cfg.P = []float64{2}
			got, want := runTrial[float32](t, x), runTrial[float32](t, &soft)
			for i := range got.out {
				if !(math.Abs(got.out[i]-x.qkv[x.value(i/n, i%n)]) <= 1e-6) {
					t.Fatalf("%d tokens: output %d is %g, want %g", n, i, got.out[i], x.qkv[x.value(i/n, i%n)])
				}
			}
			for i := range got.dqkv {
				if !(math.Abs(got.dqkv[i]-want.dqkv[i]) <= 1e-5) {
					t.Fatalf("%d tokens, causal %v: gradient %d is %g, want %g", n, causal, i, got.dqkv[i], want.dqkv[i])
				}
			}
		}
	}
}

// TestAttentionKeepsBits: neither the number of threads nor other sequences nor
// what runs before change a bit; inference gives the same.
func TestAttentionKeepsBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 72))
	x := newTrial(rng, AttentionConfig{Heads: 3, P: []float64{1.5, 2, 3}, Eps: .1, Mu: .1, Variant: GraphGradientAttention}, 2, 2, 70, 5)
	x.learned = true
	base := runTrial[float32](t, x)
	y := *x
	y.workers, y.cfg.P = 4, x.p
	many := runTrial[float32](t, &y)
	y.inference, y.cfg.P = true, x.p
	lean := runTrial[float32](t, &y)
	for _, c := range []struct {
		what      string
		got, want []float64
	}{{"output", many.out, base.out}, {"gradient", many.dqkv, base.dqkv}, {"gradient of p", many.dp, base.dp}, {"inference", lean.out, base.out}} {
		for i := range c.want {
			if c.got[i] != c.want[i] {
				t.Fatalf("%s: element %d is %g, want %g", c.what, i, c.got[i], c.want[i])
			}
		}
	}
}

// TestAttentionMemory: temporary memory grows with the length, not its square, and
// warmed up a step makes none.
func TestAttentionMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 73))
	bytes := func(n int) int64 {
		x := newTrial(rng, AttentionConfig{Heads: 2, P: []float64{1.5}, Eps: .1, Relative: true, Causal: true}, 1, 1, n, 32)
		_, f := x.function(t)
		e := NewEnv(1)
		in, out := [][]float32{convert[float32](x.qkv)}, make([]float32, len(x.dout))
		dout, din := convert[float32](x.dout), [][]float32{make([]float32, len(x.qkv))}
		f.forward(e, in, out)
		f.backward(e, in, out, dout, din)
		if a := testing.AllocsPerRun(2, func() {
			f.forward(e, in, out)
			f.backward(e, in, out, dout, din)
		}); n < 500 && a > 20 {
			t.Errorf("a step allocates %v times", a)
		}
		return e.ScratchBytes()
	}
	short, long := bytes(400), bytes(1600)
	if long > 5*short {
		t.Errorf("%d bytes for 400 tokens, %d for 1600: want about four times", short, long)
	}
}

func TestAttentionRefuses(t *testing.T) {
	good := AttentionConfig{Heads: 2, P: []float64{1.5}, Eps: .1}
	shape := tensor.Shape{1, 12, 1, 5}
	for name, c := range map[string]struct {
		change        func(c *AttentionConfig)
		learned, data bool
		in            []tensor.Shape
		want          string
	}{
		"heads":      {func(c *AttentionConfig) { c.Heads = 3 }, false, false, []tensor.Shape{shape}, "multiple of 3 heads"},
		"no heads":   {func(c *AttentionConfig) { c.Heads = 0 }, false, false, []tensor.Shape{shape}, "heads is 0"},
		"channels":   {func(c *AttentionConfig) {}, false, false, []tensor.Shape{{1, 13, 1, 5}}, "13 channels"},
		"rank":       {func(c *AttentionConfig) {}, false, false, []tensor.Shape{{12, 5}}, "expected 4 dimensions"},
		"empty":      {func(c *AttentionConfig) {}, false, false, []tensor.Shape{{1, 12, 1, 0}}, "no empty dimension"},
		"p":          {func(c *AttentionConfig) { c.P[0] = 0 }, false, false, []tensor.Shape{shape}, "p is 0"},
		"p NaN":      {func(c *AttentionConfig) { c.P[0] = math.NaN() }, false, false, []tensor.Shape{shape}, "p is NaN"},
		"no p":       {func(c *AttentionConfig) { c.P = nil }, false, false, []tensor.Shape{shape}, "p has 0 values"},
		"p of three": {func(c *AttentionConfig) { c.P = []float64{2, 2, 2} }, false, false, []tensor.Shape{shape}, "p has 3 values"},
		"two p":      {func(c *AttentionConfig) {}, true, false, []tensor.Shape{shape, {2}}, "both"},
		"p node":     {func(c *AttentionConfig) { c.P = nil }, true, false, []tensor.Shape{shape, {3}}, "p has shape (3)"},
		"eps":        {func(c *AttentionConfig) { c.Eps = 0 }, false, false, []tensor.Shape{shape}, "eps is 0"},
		"eps below":  {func(c *AttentionConfig) { c.Eps = -.1 }, false, false, []tensor.Shape{shape}, "eps is -0.1"},
		"mu":         {func(c *AttentionConfig) { c.Mu = -1 }, false, false, []tensor.Shape{shape}, "mu is -1"},
		"mu and U":   {func(c *AttentionConfig) { c.Mu, c.Variant = 1, UnnormalizedAttention }, false, false, []tensor.Shape{shape}, "not normalised"},
		"no mu":      {func(c *AttentionConfig) {}, false, true, []tensor.Shape{shape, shape}, "mu is 0"},
		"fidelity":   {func(c *AttentionConfig) { c.Mu = 1 }, false, true, []tensor.Shape{shape, {1, 8, 1, 5}}, "fidelity has shape"},
		"variant":    {func(c *AttentionConfig) { c.Variant = 3 }, false, false, []tensor.Shape{shape}, "variant is 3"},
		"diagonal":   {func(c *AttentionConfig) { c.Diagonal = -1 }, false, false, []tensor.Shape{shape}, "diagonal is -1"},
	} {
		cfg := good
		cfg.P = append([]float64(nil), good.P...)
		c.change(&cfg)
		if _, err := newSelfAttention[float32](cfg, c.learned, c.data).shape(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	if _, err := newSelfAttention[float32](AttentionConfig{Heads: 2, P: []float64{2}}, false, false).shape([]tensor.Shape{shape}); err != nil {
		t.Errorf("p = 2 without eps: %v", err)
	}
}
