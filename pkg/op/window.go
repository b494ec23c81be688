package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// WindowAttention adds the multi-head dot-product attention of Swin transformers
// (Liu et al., ICCV 2021) within windows of window x window tokens. qkv
// (B,3C,H,W) holds queries, keys and values, C channels each, of which head h of
// heads has the d = C/heads from h*d on; position (heads,(2*window-1)^2) is the
// table of relative position biases. Windows start at multiples of window, less
// shift, 0 <= shift < window. With tokens i = (y,x) and j = (v,u) of one window,
//
//	s_ij = <q_i, k_j>/sqrt(d) + position[h, (y-v+window-1)*(2*window-1) + x-u+window-1]
//	out_i = sum over j of softmax_j(s_ij) v_j                                   (B,C,H,W)
//
// Where a window reaches beyond the image it is what lies inside: no token
// outside takes part. For an image of whole windows that is the cyclic shift with
// its mask, by which the windows cut off on one side and on the other, though
// computed as one, do not see each other.
//
// Nothing is kept: the backward pass computes the softmax again. A token's bits
// depend on its window's tokens and their places in it alone.
func WindowAttention(e *Env, qkv, position *G.Node, window, shift int) (*G.Node, error) {
	return applyAny(e, &windowAttention[float32]{window: window, shift: shift},
		&windowAttention[float64]{window: window, shift: shift}, qkv, position)
}

type windowAttention[T kernel.Float] struct {
	window, shift int

	batch, channels, heads, depth, h, w int
	groups                              []windowGroup
	work                                []attentionWork[T] // one for each thread
}

// windowGroup is the windows of one size: rows x cols tokens, n in all, the first
// of each at row y, column x of the image. In memory of its own a window's tokens
// take pitch elements, n rounded up for the kernels.
type windowGroup struct {
	rows, cols, n, pitch int
	at                   [][2]int
}

// attentionWork is what a thread needs for a window of n tokens. Of every row of
// pitch elements what is beyond n is finite and has no influence.
type attentionWork[T kernel.Float] struct {
	q, k, v, y     []T // (depth,pitch): queries divided by sqrt(d), keys, values, output
	dq, dk, dv, dy []T
	bias           []T // (n,pitch) of a head; forward keys by queries, backward queries by keys
	p, dp          []T // (n,pitch) likewise: scores, then softmax; its gradient
	dbias, turned  []T // (n,pitch): gradient of bias; dp transposed (pitch,pitch)
	scale          []T // (pitch): inverse sums of the softmax
	table          []T // that of a head, backward back to front, so that a row of bias is a piece of it
	dtable         []T // its gradient, in the order of table
}

func (f *windowAttention[T]) String() string {
	return fmt.Sprintf("windowAttention(%d, shift %d)", f.window, f.shift)
}

func (f *windowAttention[T]) wants() []bool { return []bool{true, true} }

func (f *windowAttention[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x, table := in[0], in[1]
	if err := rank("queries, keys and values", x, 4); err != nil {
		return nil, err
	}
	if err := rank("position", table, 2); err != nil {
		return nil, err
	}
	if f.window < 1 || f.shift < 0 || f.shift >= f.window {
		return nil, fmt.Errorf("window is %d and shift %d, expected 0 <= shift < window", f.window, f.shift)
	}
	side := 2*f.window - 1
	f.batch, f.heads, f.h, f.w = x[0], table[0], x[2], x[3]
	f.channels = x[1] / 3
	if err := sameShape("position", table, tensor.Shape{f.heads, side * side}); err != nil {
		return nil, err
	}
	if x[1]%3 != 0 || f.heads < 1 || f.channels%f.heads != 0 {
		return nil, fmt.Errorf("queries, keys and values have %d channels in all, expected three times a multiple of %d heads", x[1], f.heads)
	}
	f.depth = f.channels / f.heads
	f.groups = nil
	for _, rows := range windowSpans(f.h, f.window, f.shift) {
		for _, cols := range windowSpans(f.w, f.window, f.shift) {
			f.place(rows, cols)
		}
	}
	return tensor.Shape{x[0], f.channels, f.h, f.w}, nil
}

// windowSpans cuts [0,n) at multiples of window, less shift, and returns the
// start and length of each part.
func windowSpans(n, window, shift int) [][2]int {
	var spans [][2]int
	for lo := -shift; lo < n; lo += window {
		if a, b := max(lo, 0), min(lo+window, n); b > a {
			spans = append(spans, [2]int{a, b - a})
		}
	}
	return spans
}

// place adds a window to the group of its size.
func (f *windowAttention[T]) place(rows, cols [2]int) {
	at := [2]int{rows[0], cols[0]}
	for i := range f.groups {
		if g := &f.groups[i]; g.rows == rows[1] && g.cols == cols[1] {
			g.at = append(g.at, at)
			return
		}
	}
	n := rows[1] * cols[1]
	pitch := (n + kernel.WindowAlign - 1) / kernel.WindowAlign * kernel.WindowAlign
	f.groups = append(f.groups, windowGroup{rows: rows[1], cols: cols[1], n: n, pitch: pitch, at: [][2]int{at}})
}

// prepare makes memory for as many threads as there may be, and returns their
// number. A head belongs to one thread: the order of sums does not depend on how
// many there are.
func (f *windowAttention[T]) prepare(workers int, backward bool) int {
	workers = max(1, min(workers, f.heads))
	for len(f.work) < workers {
		f.work = append(f.work, attentionWork[T]{})
	}
	pitch, square := 0, 0
	for _, g := range f.groups {
		pitch, square = max(pitch, g.pitch), max(square, g.n*g.pitch)
	}
	table := (2*f.window - 1) * (2*f.window - 1)
	for i := range f.work[:workers] {
		w := &f.work[i]
		if w.q == nil {
			for _, b := range []*[]T{&w.q, &w.k, &w.v, &w.y} {
				*b = make([]T, f.depth*pitch)
			}
			w.bias, w.p, w.scale, w.table = make([]T, square), make([]T, square), make([]T, pitch), make([]T, table)
		}
		if backward && w.dq == nil {
			for _, b := range []*[]T{&w.dq, &w.dk, &w.dv, &w.dy} {
				*b = make([]T, f.depth*pitch)
			}
			w.dp, w.dbias, w.turned, w.dtable = make([]T, pitch*pitch), make([]T, square), make([]T, pitch*pitch), make([]T, table)
		}
	}
	return workers
}

// clean clears what other windows have left, so that no NaN of another image comes
// back from beyond a window's tokens.
func (w *attentionWork[T]) clean() {
	for _, b := range [][]T{w.q, w.k, w.v, w.y, w.dq, w.dk, w.dv, w.dy, w.dp} {
		clear(b)
	}
}

// scaling returns 1/sqrt(d).
func (f *windowAttention[T]) scaling() T { return T(1 / math.Sqrt(float64(f.depth))) }

func (f *windowAttention[T]) forward(e *Env, in [][]T, out []T) {
	workers := f.prepare(e.Workers, false)
	kernel.Parallel(workers, f.heads, func(worker, lo, hi int) {
		for h := lo; h < hi; h++ {
			f.forwardHead(&f.work[worker], h, in[0], in[1], out)
		}
	})
}

// forwardHead lays scores out as keys by queries: the softmax then goes down the
// columns and the sum over keys is a product without transposition.
func (f *windowAttention[T]) forwardHead(w *attentionWork[T], h int, qkv, table, out []T) {
	copy(w.table, table[h*len(w.table):])
	for _, g := range f.groups {
		w.clean()
		f.spread(w, g, 0)
		for b := range f.batch {
			first := 3*b*f.channels + h*f.depth
			for _, at := range g.at {
				f.gather(w.q, qkv, first, g, at)
				f.gather(w.k, qkv, first+f.channels, g, at)
				f.gather(w.v, qkv, first+2*f.channels, g, at)
				kernel.Scale(f.scaling(), w.q[:f.depth*g.pitch])
				kernel.SmallGemm(g.n, g.pitch, f.depth, w.k, 1, g.pitch, w.q, w.bias, w.p)
				kernel.SoftmaxColumns(w.p, w.scale, g.n, g.pitch)
				kernel.SmallGemm(f.depth, g.pitch, g.n, w.v, g.pitch, 1, w.p, nil, w.y)
				for c := range f.depth {
					y := w.y[c*g.pitch:][:g.n]
					kernel.Mul(y, y, w.scale)
				}
				f.scatter(out, w.y, b*f.channels+h*f.depth, g, at)
			}
		}
	}
}

func (f *windowAttention[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	workers := f.prepare(e.Workers, true)
	kernel.Parallel(workers, f.heads, func(worker, lo, hi int) {
		w := &f.work[worker]
		for h := lo; h < hi; h++ {
			f.backwardHead(w, h, in[0], in[1], dout, din[0])
			turn(din[1][h*len(w.dtable):][:len(w.dtable)], w.dtable)
		}
	})
}

// turn copies src back to front.
func turn[T kernel.Float](dst, src []T) {
	for i, v := range src {
		dst[len(dst)-1-i] = v
	}
}

// backwardHead lays scores s and softmax p out as queries by keys. With dy the
// gradient of the output, dv = dy p, dp = dy' v, ds = p*(dp - sum over keys of
// p*dp), dk = q ds and dq = k ds', q being divided by sqrt(d) before and dq after.
func (f *windowAttention[T]) backwardHead(w *attentionWork[T], h int, qkv, table, dout, dqkv []T) {
	turn(w.table, table[h*len(w.table):][:len(w.table)])
	clear(w.dtable)
	for _, g := range f.groups {
		w.clean()
		f.spread(w, g, T(math.Inf(-1))) // keys beyond the window get no attention
		square := g.n * g.pitch
		clear(w.dbias[:square])
		for b := range f.batch {
			first := 3*b*f.channels + h*f.depth
			for _, at := range g.at {
				f.gather(w.q, qkv, first, g, at)
				f.gather(w.k, qkv, first+f.channels, g, at)
				f.gather(w.v, qkv, first+2*f.channels, g, at)
				f.gather(w.dy, dout, b*f.channels+h*f.depth, g, at)
				kernel.Scale(f.scaling(), w.q[:f.depth*g.pitch])
				kernel.SmallGemm(g.n, g.pitch, f.depth, w.q, 1, g.pitch, w.k, w.bias, w.p)
				kernel.SoftmaxRows(w.p, w.p, g.n, g.pitch)
				kernel.SmallGemm(g.n, g.pitch, f.depth, w.dy, 1, g.pitch, w.v, nil, w.dp)
				kernel.SoftmaxRowsGrad(w.dp, w.p, w.dp, g.n, g.pitch)
				kernel.Axpy(1, w.dp[:square], w.dbias[:square])
				kernel.Transpose(w.turned, w.dp, g.pitch, g.pitch)
				kernel.SmallGemm(f.depth, g.pitch, g.n, w.dy, g.pitch, 1, w.p, nil, w.dv)
				kernel.SmallGemm(f.depth, g.pitch, g.n, w.q, g.pitch, 1, w.dp, nil, w.dk)
				kernel.SmallGemm(f.depth, g.pitch, g.n, w.k, g.pitch, 1, w.turned, nil, w.dq)
				kernel.Scale(f.scaling(), w.dq[:f.depth*g.pitch])
				f.scatter(dqkv, w.dq, first, g, at)
				f.scatter(dqkv, w.dk, first+f.channels, g, at)
				f.scatter(dqkv, w.dv, first+2*f.channels, g, at)
			}
		}
		f.pairs(g, func(pair, entry int) {
			for u, d := range w.dbias[pair : pair+g.cols] {
				w.dtable[entry+u] += d
			}
		})
	}
}

// gather copies a window of depth planes of x, from plane on, to dst
// (depth,pitch).
func (f *windowAttention[T]) gather(dst, x []T, plane int, g windowGroup, at [2]int) {
	for c := range f.depth {
		kernel.CopyRows(dst[c*g.pitch:], g.cols, x[((plane+c)*f.h+at[0])*f.w+at[1]:], f.w, g.rows, g.cols)
	}
}

// scatter is the inverse of gather.
func (f *windowAttention[T]) scatter(x, src []T, plane int, g windowGroup, at [2]int) {
	for c := range f.depth {
		kernel.CopyRows(x[((plane+c)*f.h+at[0])*f.w+at[1]:], f.w, src[c*g.pitch:], g.cols, g.rows, g.cols)
	}
}

// spread sets w.bias to the biases of each pair of tokens of a window, and to
// beyond after the tokens of a row.
func (f *windowAttention[T]) spread(w *attentionWork[T], g windowGroup, beyond T) {
	for i := range g.n {
		for j := g.n; j < g.pitch; j++ {
			w.bias[i*g.pitch+j] = beyond
		}
	}
	f.pairs(g, func(pair, entry int) { copy(w.bias[pair:pair+g.cols], w.table[entry:]) })
}

// pairs calls do for each token (y,x) of a window and each row v of it: with the
// index in (n,pitch) of the token's first pair with that row, and that of its
// bias in w.table. From there both go on along the row: forward, where the token
// is the key and the row queries, table entries are those of (v-y, 0-x) and on;
// backward, where the token is the query, the same with the table back to front.
func (f *windowAttention[T]) pairs(g windowGroup, do func(pair, entry int)) {
	side := 2*f.window - 1
	for y := range g.rows {
		for x := range g.cols {
			token := y*g.cols + x
			for v := range g.rows {
				do(token*g.pitch+v*g.cols, (v-y+f.window-1)*side+f.window-1-x)
			}
		}
	}
}
