package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// AttentionVariant is how Attention puts distances between values into weights.
type AttentionVariant int

// The variants. All are softmax attention at p = 2 with any diagonal but
// ExcludedDiagonal.
const (
	// NormalizedAttention multiplies each weight by r^(p-2) and makes rows sum to 1.
	NormalizedAttention AttentionVariant = iota
	// UnnormalizedAttention leaves the sum of rows as it becomes, so that the output
	// is of degree p-1 in the values.
	UnnormalizedAttention
	// GraphGradientAttention raises each weight to the power p/2 besides, as where
	// the gradient on an edge of weight w is sqrt(w)(v_i-v_j) (Fu, Zhao and Bian,
	// ICML 2022), and makes rows sum to 1.
	GraphGradientAttention
)

// AttentionDiagonal is what the factor r^(p-2) of a token with itself is.
type AttentionDiagonal int

// The diagonals.
const (
	LiteralDiagonal  AttentionDiagonal = iota // eps^(p-2), what the formula says
	NeutralDiagonal                           // 1
	ExcludedDiagonal                          // 0: no token attends to itself
)

// AttentionConfig says what Attention computes.
type AttentionConfig struct {
	Heads    int
	Variant  AttentionVariant
	Diagonal AttentionDiagonal
	Causal   bool // token i attends to tokens j <= i alone

	// P holds p, above 0, of all heads or of each; nil where p is a node.
	P []float64
	// Eps keeps distances from zero: absolute, or Relative to the root mean square
	// distance of the head's values. Not needed where P is 2.
	Eps      float64
	Relative bool
	// Mu is the weight of fidelity; 0 for none.
	Mu float64
}

// minEps is the smallest eps, whose square is a normal float32 by far.
const minEps = 1e-15

// Attention adds multi-head self-attention with the p-Laplacian factor (p-LaT,
// after Nguyen et al., arXiv 2311.03235): each row of qkv (B,3C,R,n) is a sequence
// of n tokens with C queries, C keys and C values, of which head h of heads has the
// d = C/heads from h*d on. With tokens i and j of a sequence,
//
//	s_ij = <q_i,k_j>/sqrt(d), -Inf for j > i if causal
//	r_ij = sqrt(|v_i-v_j|^2 + eps_i^2)
//	A_ij = exp(s_ij) / sum over l of exp(s_il)
//	M_ij = A_ij r_ij^(p-2),  or A_ij^(p/2) r_ij^(p-2) for GraphGradientAttention
//	z_i  = sum over j of M_ij
//	out_i = sum over j of M_ij v_j / z_i                                   (B,C,R,n)
//
// without the division for UnnormalizedAttention. The factor of j = i is as
// Diagonal says. A normalised row without any weight, as the first of a causal
// sequence with the diagonal excluded, keeps its value: out_i = v_i.
//
// With fidelity to f, the minimiser of the energy with the penalty mu |u-f|^2 is
// approached instead (normalised variants alone):
//
//	alpha_i = 1/(z_i + 2 mu/p),  beta_i = alpha_i 2 mu/p
//	out_i = alpha_i sum over j of M_ij v_j + beta_i f_i
//
// f is fidelity (B,C,R,n), or the last C channels of fidelity (B,3C,R,n), such as
// the qkv of another layer; the values themselves where that is nil.
//
// p (heads), where not nil, holds p of each head in place of cfg.P and has a
// gradient; it must stay above 0. Eps if Relative is
//
//	eps_i = Eps * sqrt(mean of |v_j-v_l|^2 over pairs j != l)
//
// over the sequence, over tokens up to i if causal; the gradient takes it for a
// constant. Where all those tokens coincide the root counts as 1.
//
// Channels come first, as in all operations here: queries, keys and values are
// one convolution of size 1, layer normalisation, Gelu and residuals work as they
// are, no node transposes, and a head's rows are operands of products as they lie.
// (1,C,B,n) holds B sequences in rows, and makes each linear layer one product.
//
// No n x n matrix is kept or made: output and logarithms of row sums, n numbers a
// head, are, and the backward pass computes tiles of 64 x 64 pairs again. It needs
// memory of O(n d) for each thread. Distances come from inner products of values
// less their mean; those that are small beside the values are taken again by
// differences. The distance of a token to itself, and one that rounds to zero, have
// no gradient. At p = 2, if p is no node, the factor is 1 and distances are left out.
func Attention(e *Env, cfg AttentionConfig, qkv, p, fidelity *G.Node) (*G.Node, error) {
	in := []*G.Node{qkv}
	if p != nil {
		in = append(in, p)
	}
	if fidelity != nil {
		in = append(in, fidelity)
	}
	return applyAny(e, newSelfAttention[float32](cfg, p != nil, fidelity != nil), newSelfAttention[float64](cfg, p != nil, fidelity != nil), in...)
}

type selfAttention[T kernel.Float] struct {
	cfg           AttentionConfig
	learned, data bool // p is an input; f is one
	own           int  // channels of f before its values

	batch, channels, rows, n, heads, depth int

	lse, lseS []T // (B,R,heads,n): logarithms of the sums over j of M_ij and of exp(s_ij)
	dp        []float64
	work      []headWork[T]
}

func newSelfAttention[T kernel.Float](cfg AttentionConfig, learned, data bool) *selfAttention[T] {
	return &selfAttention[T]{cfg: cfg, learned: learned, data: data, heads: cfg.Heads}
}

func (f *selfAttention[T]) String() string {
	return fmt.Sprintf("attention(%d heads)", f.cfg.Heads)
}

func (f *selfAttention[T]) wants() []bool {
	w := []bool{true}
	if f.learned {
		w = append(w, true)
	}
	if f.data {
		w = append(w, true)
	}
	return w
}

// check reports what of the configuration has no meaning.
func (f *selfAttention[T]) check() error {
	c := f.cfg
	softmax := true
	switch {
	case c.Heads < 1:
		return fmt.Errorf("heads is %d, expected at least 1", c.Heads)
	case c.Variant < NormalizedAttention || c.Variant > GraphGradientAttention:
		return fmt.Errorf("variant is %d, expected 0 to 2", c.Variant)
	case c.Diagonal < LiteralDiagonal || c.Diagonal > ExcludedDiagonal:
		return fmt.Errorf("diagonal is %d, expected 0 to 2", c.Diagonal)
	case f.learned && c.P != nil:
		return fmt.Errorf("p is given both as a number and as a node")
	case !f.learned && len(c.P) != 1 && len(c.P) != c.Heads:
		return fmt.Errorf("p has %d values, expected 1 or one for each of %d heads", len(c.P), c.Heads)
	case !(c.Mu >= 0) || math.IsInf(c.Mu, 0):
		return fmt.Errorf("mu is %g, expected a number that is not negative", c.Mu)
	case c.Mu > 0 && c.Variant == UnnormalizedAttention:
		return fmt.Errorf("mu is %g, expected 0 for attention that is not normalised", c.Mu)
	case f.data && c.Mu == 0:
		return fmt.Errorf("mu is 0, expected a weight for the fidelity given")
	}
	for _, p := range c.P {
		if !(p > 0) || math.IsInf(p, 0) {
			return fmt.Errorf("p is %g, expected a number above 0", p)
		}
		softmax = softmax && p == 2
	}
	if f.learned {
		softmax = false
	}
	if !softmax && (!(c.Eps >= minEps) || math.IsInf(c.Eps, 0)) {
		return fmt.Errorf("eps is %g, expected at least %g where p is not 2", c.Eps, minEps)
	}
	return nil
}

func (f *selfAttention[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := f.check(); err != nil {
		return nil, err
	}
	if err := rank("queries, keys and values", x, 4); err != nil {
		return nil, err
	}
	if x[0] < 1 || x[1] < 1 || x[2] < 1 || x[3] < 1 {
		return nil, fmt.Errorf("queries, keys and values have shape %v, expected no empty dimension", x)
	}
	if x[1]%3 != 0 || x[1]/3%f.heads != 0 {
		return nil, fmt.Errorf("queries, keys and values have %d channels in all, expected three times a multiple of %d heads", x[1], f.heads)
	}
	f.batch, f.channels, f.rows, f.n = x[0], x[1]/3, x[2], x[3]
	f.depth = f.channels / f.heads
	out := tensor.Shape{f.batch, f.channels, f.rows, f.n}
	if f.learned {
		if err := sameShape("p", in[1], tensor.Shape{f.heads}); err != nil {
			return nil, err
		}
	}
	if f.data {
		s := in[len(in)-1]
		f.own = 0
		if s.Eq(x) {
			f.own = 2 * f.channels
		} else if err := sameShape("fidelity", s, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// head is one head of one sequence.
type head[T kernel.Float] struct {
	item         int // its place in (B,R,heads)
	stride       int // from a channel to the next
	q, k, v, out int // where its first channels are
	fidelity     int // likewise, in the fidelity's data
	p, h, kappa  T   // p, (p-2)/2 and the power of exp(s)
	far          bool
	pull         T // 2 mu/p
}

func (f *selfAttention[T]) head(item int, in [][]T) head[T] {
	index, seq := item%f.heads, item/f.heads
	b, r := seq/f.rows, seq%f.rows
	stride := f.rows * f.n
	first := index*f.depth*stride + r*f.n
	image := f.channels * stride
	hd := head[T]{
		item: item, stride: stride,
		q: 3*b*image + first, k: (3*b+1)*image + first, v: (3*b+2)*image + first, out: b*image + first,
		kappa: 1,
	}
	switch {
	case f.learned:
		hd.p = in[1][index]
	case len(f.cfg.P) == 1:
		hd.p = T(f.cfg.P[0])
	default:
		hd.p = T(f.cfg.P[index])
	}
	hd.h = (hd.p - 2) / 2
	hd.far = f.learned || hd.h != 0
	if f.cfg.Variant == GraphGradientAttention {
		hd.kappa = hd.p / 2
	}
	hd.pull = T(2*f.cfg.Mu) / hd.p
	hd.fidelity = hd.v
	if f.data {
		hd.fidelity = b*(f.own+f.channels)*stride + f.own*stride + first
	}
	return hd
}

// fidelityData returns the data f is part of.
func (f *selfAttention[T]) fidelityData(in [][]T) []T {
	if f.data {
		return in[len(in)-1]
	}
	return in[0]
}

func (f *selfAttention[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	items := f.batch * f.rows * f.heads
	if f.lse == nil && !e.Inference {
		f.lse = make([]T, items*f.n)
		if f.twice() {
			f.lseS = make([]T, items*f.n)
		}
	}
	workers := f.prepare(s, e.Workers, false)
	kernel.Parallel(workers, items, func(worker, lo, hi int) {
		for i := lo; i < hi; i++ {
			f.forwardHead(&f.work[worker], f.head(i, in), in, out)
		}
	})
}

func (f *selfAttention[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	items := f.batch * f.rows * f.heads
	if f.dp == nil {
		f.dp = make([]float64, items)
	}
	if f.data {
		clear(din[len(din)-1]) // but for values there may be more channels
	}
	workers := f.prepare(s, e.Workers, true)
	kernel.Parallel(workers, items, func(worker, lo, hi int) {
		for i := lo; i < hi; i++ {
			f.dp[i] = f.backwardHead(&f.work[worker], f.head(i, in), in, out, dout, din)
		}
	})
	if f.learned {
		for h := range f.heads {
			var sum float64
			for i := h; i < items; i += f.heads {
				sum += f.dp[i]
			}
			din[1][h] = T(sum)
		}
	}
}

// twice says that the sum of exp(s) is needed beside that of weights.
func (f *selfAttention[T]) twice() bool { return f.cfg.Mu > 0 }
