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

// windowGroup is the windows of one size: rows x cols tokens, the first of each
// at row y, column x of the image.
type windowGroup struct {
	rows, cols int
	at         [][2]int
}

// attentionWork is what a thread needs for windows of n tokens.
type attentionWork[T kernel.Float] struct {
	scratch          kernel.Scratch[T]
	q, k, v, o       []T // (depth,n)
	dq, dk, dv, dy   []T
	bias, dbias      []T // (n,n) of a head
	p, dp            []T // (n,n), queries by keys: scores, then softmax; its gradient
	reversed, dTable []T // the table of a head back to front; its gradient in order
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
	f.groups = append(f.groups, windowGroup{rows: rows[1], cols: cols[1], at: [][2]int{at}})
}

// prepare makes memory for as many threads as there may be. A head belongs to
// one thread, whatever their number: the order of sums does not depend on it.
func (f *windowAttention[T]) prepare(workers int, backward bool) int {
	workers = max(1, min(workers, f.heads))
	for len(f.work) < workers {
		f.work = append(f.work, attentionWork[T]{})
	}
	n, table := f.window*f.window, (2*f.window-1)*(2*f.window-1)
	for i := range f.work[:workers] {
		w := &f.work[i]
		if w.q == nil {
			w.q, w.k, w.v, w.o = make([]T, f.depth*n), make([]T, f.depth*n), make([]T, f.depth*n), make([]T, f.depth*n)
			w.bias, w.p, w.reversed = make([]T, n*n), make([]T, n*n), make([]T, table)
		}
		if backward && w.dq == nil {
			w.dq, w.dk, w.dv, w.dy = make([]T, f.depth*n), make([]T, f.depth*n), make([]T, f.depth*n), make([]T, f.depth*n)
			w.dbias, w.dp, w.dTable = make([]T, n*n), make([]T, n*n), make([]T, table)
		}
	}
	return workers
}

func (f *windowAttention[T]) forward(e *Env, in [][]T, out []T) {
	workers := f.prepare(e.Workers, false)
	kernel.Parallel(workers, f.heads, func(worker, lo, hi int) {
		w := &f.work[worker]
		for h := lo; h < hi; h++ {
			f.forwardHead(w, h, in[0], in[1], out)
		}
	})
}

func (f *windowAttention[T]) forwardHead(w *attentionWork[T], h int, qkv, table, out []T) {
	w.reverse(table, h)
	for _, g := range f.groups {
		n := g.rows * g.cols
		f.spread(w, g)
		for b := range f.batch {
			for _, at := range g.at {
				f.softmax(w, g, b, h, at, qkv)
				f.gather(w.v, qkv, 3*b*f.channels+2*f.channels+h*f.depth, g, at)
				// o = v p', (depth,n)
				kernel.Gemm(&w.scratch, 1, false, true, f.depth, n, n, w.v, n, w.p, n, w.o, n, kernel.Epilogue[T]{})
				f.scatter(out, w.o, b*f.channels+h*f.depth, g, at)
			}
		}
	}
}

// softmax computes the attention w.p of head h in a window of image b, and
// leaves its queries, divided by sqrt(d), and keys in w.q and w.k.
func (f *windowAttention[T]) softmax(w *attentionWork[T], g windowGroup, b, h int, at [2]int, qkv []T) {
	n := g.rows * g.cols
	f.gather(w.q, qkv, 3*b*f.channels+h*f.depth, g, at)
	f.gather(w.k, qkv, 3*b*f.channels+f.channels+h*f.depth, g, at)
	kernel.Scale(f.scale(), w.q[:f.depth*n])
	copy(w.p[:n*n], w.bias)
	kernel.Gemm(&w.scratch, 1, true, false, n, n, f.depth, w.q, n, w.k, n, w.p, n, kernel.Epilogue[T]{Accumulate: true})
	kernel.SoftmaxRows(w.p, w.p, n, n)
}

func (f *windowAttention[T]) scale() T { return T(1 / math.Sqrt(float64(f.depth))) }

func (f *windowAttention[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	workers := f.prepare(e.Workers, true)
	side := 2*f.window - 1
	kernel.Parallel(workers, f.heads, func(worker, lo, hi int) {
		w := &f.work[worker]
		for h := lo; h < hi; h++ {
			clear(w.dTable)
			f.backwardHead(w, h, in[0], in[1], dout, din[0])
			copy(din[1][h*side*side:][:side*side], w.dTable)
		}
	})
}

// With p the softmax and y the output: dv = dy p, dp = dy' v,
// ds = p*(dp - sum over j of p*dp), dq = k ds'/sqrt(d), dk = q ds/sqrt(d).
func (f *windowAttention[T]) backwardHead(w *attentionWork[T], h int, qkv, table, dout, dqkv []T) {
	w.reverse(table, h)
	for _, g := range f.groups {
		n := g.rows * g.cols
		f.spread(w, g)
		clear(w.dbias[:n*n])
		for b := range f.batch {
			first := 3*b*f.channels + h*f.depth
			for _, at := range g.at {
				f.softmax(w, g, b, h, at, qkv)
				f.gather(w.v, qkv, first+2*f.channels, g, at)
				f.gather(w.dy, dout, b*f.channels+h*f.depth, g, at)
				gemm := func(transA, transB bool, m, k int, a []T, lda int, b, c []T) {
					kernel.Gemm(&w.scratch, 1, transA, transB, m, n, k, a, lda, b, n, c, n, kernel.Epilogue[T]{})
				}
				gemm(false, false, f.depth, n, w.dy, n, w.p, w.dv)
				gemm(true, false, n, f.depth, w.dy, n, w.v, w.dp)
				kernel.SoftmaxRowsGrad(w.dp, w.p, w.dp, n, n)
				kernel.Axpy(1, w.dp[:n*n], w.dbias[:n*n])
				gemm(false, true, f.depth, n, w.k, n, w.dp, w.dq)
				gemm(false, false, f.depth, n, w.q, n, w.dp, w.dk)
				kernel.Scale(f.scale(), w.dq[:f.depth*n])
				f.scatter(dqkv, w.dq, first, g, at)
				f.scatter(dqkv, w.dk, first+f.channels, g, at)
				f.scatter(dqkv, w.dv, first+2*f.channels, g, at)
			}
		}
		f.collect(w, g)
	}
}

// gather copies a window of depth planes of x, from plane on, to dst (depth,n).
func (f *windowAttention[T]) gather(dst, x []T, plane int, g windowGroup, at [2]int) {
	to := 0
	for c := range f.depth {
		from := ((plane+c)*f.h+at[0])*f.w + at[1]
		for range g.rows {
			copy(dst[to:to+g.cols], x[from:])
			to, from = to+g.cols, from+f.w
		}
	}
}

// scatter is the inverse of gather.
func (f *windowAttention[T]) scatter(x, src []T, plane int, g windowGroup, at [2]int) {
	from := 0
	for c := range f.depth {
		to := ((plane+c)*f.h+at[0])*f.w + at[1]
		for range g.rows {
			copy(x[to:to+g.cols], src[from:])
			to, from = to+f.w, from+g.cols
		}
	}
}

// reverse sets w.reversed to head h of the table.
func (w *attentionWork[T]) reverse(table []T, h int) {
	n := len(w.reversed)
	for i, v := range table[h*n:][:n] {
		w.reversed[n-1-i] = v
	}
}

// spread sets w.bias to the biases of each pair of tokens of a window. Back to
// front a table goes along its rows as the keys of a window do.
func (f *windowAttention[T]) spread(w *attentionWork[T], g windowGroup) {
	f.pairs(g, func(pair, entry int) { copy(w.bias[pair:pair+g.cols], w.reversed[entry:]) })
}

// collect adds the gradient w.dbias of the biases of each pair to w.dTable.
func (f *windowAttention[T]) collect(w *attentionWork[T], g windowGroup) {
	last := len(w.dTable) - 1
	f.pairs(g, func(pair, entry int) {
		for u, d := range w.dbias[pair : pair+g.cols] {
			w.dTable[last-entry-u] += d
		}
	})
}

// pairs calls do for each token of a window as query and each row of it as keys:
// with the index of the first of these pairs in (n,n), and that of its bias in
// the reversed table.
func (f *windowAttention[T]) pairs(g windowGroup, do func(pair, entry int)) {
	side := 2*f.window - 1
	pair := 0
	for y := range g.rows {
		for x := range g.cols {
			for v := range g.rows {
				do(pair, (v-y+f.window-1)*side+f.window-1-x)
				pair += g.cols
			}
		}
	}
}
