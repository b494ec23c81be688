package op

import (
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// attentionTile is how many tokens a tile has: two such matrices and their product
// stay in the first cache.
const attentionTile = 64

// nearPairs is the squared distance, as a part of the sum of squared norms, below
// which it is taken by differences: above, an inner product in float32 gives it to
// about 1e-5.
const nearPairs = 1e-2

// headWork is what a thread needs for a head. Tokens lie in tiles of attentionTile,
// the last as wide as need be for kernels; tile t of an array of c channels is a
// dense matrix from element t*attentionTile*c on, channels by tokens or, where the
// name ends in T, tokens by channels. Channels are padded to wide, and tokens and
// channels beyond the true ones are zero.
type headWork[T kernel.Float] struct {
	q, k, v, x []T // queries over sqrt(d), keys, values, values less their mean
	norms      []T // of x, squared
	eps        []T // squared, by query
	values     []T // tokens by depth, not centred: set when first needed
	set        bool
	mean       []float64
	spread     []float64 // by query: sum of squares of values up to it, less their mean

	s, r, other          []T // tiles, keys by queries
	acc                  []T // channels by queries of a tile
	top, sum, scale, low []T // by queries of a tile
	topS, sumS           []T
	f                    []T // fidelity data of a tile

	dy, qT, dyT, xT    []T // xT times -2
	dkT, dvT           []T
	dw, accE, turned   []T
	lse, delta, shares []T // by query: what w, dw and A are less or multiplied by
	lseS, beta         []T
	dpairs, colE       []T
	rowE               []T
	near               []nearPair[T]
}

// nearPair is an element of a tile whose distance was taken by differences.
type nearPair[T kernel.Float] struct {
	row, col int
	r        T
}

// wide is the depth rounded up for the kernels.
func (f *selfAttention[T]) wide() int { return roundUp(f.depth, kernel.WindowAlign) }

func roundUp(n, by int) int { return (n + by - 1) / by * by }

// tiles returns the number of tiles.
func (f *selfAttention[T]) tiles() int { return (f.n + attentionTile - 1) / attentionTile }

// tile returns how many tokens tile t has, and how many with padding.
func (f *selfAttention[T]) tile(t int) (count, width int) {
	count = min(attentionTile, f.n-t*attentionTile)
	return count, roundUp(count, kernel.WindowAlign)
}

// prepare takes memory for as many threads as there may be and returns their number.
// A head belongs to one thread: the order of sums does not depend on how many.
func (f *selfAttention[T]) prepare(s *kernel.Scratch[T], workers int, backward bool) int {
	workers = max(1, min(workers, f.batch*f.rows*f.heads))
	for len(f.work) < workers {
		f.work = append(f.work, headWork[T]{mean: make([]float64, f.depth)})
	}
	const square = attentionTile * attentionTile
	n := roundUp(f.n, kernel.WindowAlign)
	all, block := n*f.wide(), attentionTile*f.wide()
	for i := range f.work[:workers] {
		w := &f.work[i]
		for _, b := range []*[]T{&w.q, &w.k, &w.v, &w.x} {
			*b = s.TakeZero(all)
		}
		w.values = s.Take(f.n * f.depth)
		w.norms, w.eps = s.TakeZero(n), s.Take(n)
		for _, b := range []*[]T{&w.s, &w.r, &w.other} {
			*b = s.Take(square)
		}
		w.acc, w.f = s.TakeZero(block), s.Take(block)
		for _, b := range []*[]T{&w.top, &w.sum, &w.scale, &w.low, &w.topS, &w.sumS} {
			*b = s.Take(attentionTile)
		}
		if !backward {
			continue
		}
		w.dy = s.TakeZero(all)
		for _, b := range []*[]T{&w.qT, &w.dyT, &w.xT, &w.dkT, &w.dvT} {
			*b = s.Take(all)
		}
		w.dw, w.accE, w.turned = s.Take(square), s.TakeZero(block), s.Take(block)
		for _, b := range []*[]T{&w.lse, &w.lseS, &w.delta, &w.shares, &w.beta} {
			*b = s.Take(n)
		}
		w.dpairs, w.colE, w.rowE = s.Take(attentionTile), s.Take(attentionTile), s.Take(n*kernel.RowLanes)
	}
	return workers
}

// gather lays the channels of src from at on out in tiles of dst.
func (f *selfAttention[T]) gather(dst, src []T, at, stride int) {
	for t := range f.tiles() {
		count, width := f.tile(t)
		kernel.CopyRows(dst[t*attentionTile*f.wide():], width, src[at+t*attentionTile:], stride, f.depth, count)
	}
}

// scatter writes a tile of channels by tokens back.
func (f *selfAttention[T]) scatter(dst, src []T, t, at, stride int) {
	count, width := f.tile(t)
	kernel.CopyRows(dst[at+t*attentionTile:], stride, src, width, f.depth, count)
}

// load prepares w for a head but for x of a causal one, which depends on the tile.
func (f *selfAttention[T]) load(w *headWork[T], hd head[T], qkv []T) {
	f.gather(w.q, qkv, hd.q, hd.stride)
	f.gather(w.k, qkv, hd.k, hd.stride)
	f.gather(w.v, qkv, hd.v, hd.stride)
	kernel.Scale(T(1/math.Sqrt(float64(f.depth))), w.q)
	w.set = false
	if hd.far {
		f.meanOf(w, hd, qkv)
		f.centre(w, f.tiles())
		f.setEps(w, hd, qkv)
	}
}

// meanOf sets w.mean to the mean of all values.
func (f *selfAttention[T]) meanOf(w *headWork[T], hd head[T], qkv []T) {
	for c := range w.mean {
		w.mean[c] = kernel.Sum(qkv[hd.v+c*hd.stride:][:f.n]) / float64(f.n)
	}
}

// centre sets x and norms of the first tiles to values less w.mean.
func (f *selfAttention[T]) centre(w *headWork[T], tiles int) {
	for t := range tiles {
		count, width := f.tile(t)
		at := t * attentionTile * f.wide()
		g := w.norms[t*attentionTile:][:count]
		clear(g)
		for c, m := range w.mean {
			m := T(m)
			x, v := w.x[at+c*width:][:count], w.v[at+c*width:][:count]
			for i, a := range v {
				x[i] = a - m
			}
			kernel.MulAdd(g, 1, x, x)
		}
	}
}

// setEps sets w.eps to the squares of eps_i, and to 1 beyond the tokens.
func (f *selfAttention[T]) setEps(w *headWork[T], hd head[T], qkv []T) {
	for i := range w.eps {
		w.eps[i] = 1
	}
	eps, square := w.eps[:f.n], f.cfg.Eps*f.cfg.Eps
	switch {
	case !f.cfg.Relative:
		for i := range eps {
			eps[i] = T(square)
		}
	case !f.cfg.Causal:
		var sum float64
		for t := range f.tiles() {
			count, _ := f.tile(t)
			sum += kernel.Sum(w.norms[t*attentionTile:][:count])
		}
		s := f.relative(sum, f.n)
		for i := range eps {
			eps[i] = s
		}
	default:
		// Welford's running sums of squares, a channel at a time.
		if w.spread == nil {
			w.spread = make([]float64, f.n)
		}
		sums := w.spread
		clear(sums)
		for c := range f.depth {
			var mean, sum float64
			for i, v := range qkv[hd.v+c*hd.stride:][:f.n] {
				d := float64(v) - mean
				mean += d / float64(i+1)
				sum += d * (float64(v) - mean)
				sums[i] += sum
			}
		}
		for i, s := range sums {
			eps[i] = f.relative(s, i+1)
		}
	}
}

// relative returns the square of eps where the squared norms of n centred values
// have the sum s: the mean squared distance of pairs is 2 s/(n-1).
func (f *selfAttention[T]) relative(s float64, n int) T {
	square := f.cfg.Eps * f.cfg.Eps
	if e := square * 2 * s / float64(max(n-1, 1)); !(e < minEps*minEps) {
		return T(e)
	}
	return T(square)
}

// scores sets w.s to the scores of keys of tile j by queries of tile i, and w.other
// to a copy if asked for, which still has the diagonal.
func (f *selfAttention[T]) scores(w *headWork[T], i, j int, copied bool) (rows, cols int) {
	at := attentionTile * f.wide()
	rows, width := f.tile(j)
	_, cols = f.tile(i)
	s := w.s[:rows*cols]
	kernel.SmallGemm(rows, cols, f.depth, w.k[j*at:], 1, width, w.q[i*at:], nil, s)
	inf := T(math.Inf(-1))
	if f.cfg.Causal && i == j {
		for r := range rows {
			for c := range r {
				s[r*cols+c] = inf
			}
		}
	}
	if copied {
		copy(w.other, s)
	}
	return rows, cols
}

// exclude takes the diagonal out of w.s.
func (f *selfAttention[T]) exclude(w *headWork[T], rows, cols int, with T) {
	for i := range rows {
		w.s[i*cols+i] = with
	}
}

// distances sets w.r to squared distances plus squares of eps, as PairDistances
// does, and w.near to the pairs taken by differences. Those and the diagonal are
// marked by their sign.
func (f *selfAttention[T]) distances(w *headWork[T], hd head[T], qkv []T, i, j, rows, cols int) {
	at, first := attentionTile*f.wide(), attentionTile
	_, width := f.tile(j)
	r, low := w.r[:rows*cols], w.low[:cols]
	norms, eps := w.norms[i*first:][:cols], w.eps[i*first:][:cols]
	kernel.SmallGemm(rows, cols, f.depth, w.x[j*at:], 1, width, w.x[i*at:], nil, r)
	if i == j {
		for c := range rows {
			r[c*cols+c] = -norms[c] // far, for now
		}
	}
	kernel.PairDistances(r, w.norms[j*first:], norms, eps, low, T(nearPairs), rows, cols)
	w.near = w.near[:0]
	queries, _ := f.tile(i)
	for c := range queries {
		if !(low[c] < 0) {
			continue
		}
		last := rows
		if f.cfg.Causal && i == j {
			last = c + 1
		}
		for row := range last {
			a := &r[row*cols+c]
			if i == j && row == c || !(T(math.Abs(float64(*a))) < nearPairs*(w.norms[j*first+row]+norms[c])) {
				continue
			}
			size := f.difference(w, hd, qkv, j*first+row, i*first+c) + eps[c]
			*a = -size
			w.near = append(w.near, nearPair[T]{row, c, size})
		}
	}
	if i == j {
		for c := range rows {
			r[c*cols+c] = -eps[c]
			if f.cfg.Diagonal == NeutralDiagonal {
				r[c*cols+c] = -1
			}
		}
	}
}

// token returns the value of token i, not centred.
func (f *selfAttention[T]) token(w *headWork[T], hd head[T], qkv []T, i int) []T {
	if !w.set {
		for c := range f.depth {
			for i, v := range qkv[hd.v+c*hd.stride:][:f.n] {
				w.values[i*f.depth+c] = v
			}
		}
		w.set = true
	}
	return w.values[i*f.depth:][:f.depth]
}

// difference returns the squared distance of values i and j.
func (f *selfAttention[T]) difference(w *headWork[T], hd head[T], qkv []T, i, j int) T {
	a, b := f.token(w, hd, qkv, i), f.token(w, hd, qkv, j)
	var sums [4]T
	for c, v := range a {
		d := v - b[c]
		sums[c&3] += d * d
	}
	return (sums[0] + sums[1]) + (sums[2] + sums[3])
}

// last returns how many tiles of keys a tile of queries sees.
func (f *selfAttention[T]) last(i int) int {
	if f.cfg.Causal {
		return i + 1
	}
	return f.tiles()
}

// forwardHead goes over the tiles of keys for each tile of queries, keys down and
// queries along: acc is the sum of weights so far with values, to be divided by sum.
func (f *selfAttention[T]) forwardHead(w *headWork[T], hd head[T], in [][]T, out []T) {
	qkv := in[0]
	f.load(w, hd, qkv)
	at, inf := attentionTile*f.wide(), T(math.Inf(-1))
	unnormalized, excluded := f.cfg.Variant == UnnormalizedAttention, f.cfg.Diagonal == ExcludedDiagonal
	for i := range f.tiles() {
		count, cols := f.tile(i)
		top, sum, scale := w.top[:cols], w.sum[:cols], w.scale[:cols]
		for c := range cols {
			top[c], sum[c], w.topS[c], w.sumS[c] = inf, 0, inf, 0
		}
		acc := w.acc[:f.depth*cols]
		clear(acc)
		if f.cfg.Causal && hd.far {
			f.centreBefore(w, hd, qkv, i)
		}
		for j := range f.last(i) {
			rows, _ := f.scores(w, i, j, f.twice())
			s := w.s[:rows*cols]
			if f.twice() {
				kernel.SoftmaxStep(w.other, w.topS, w.sumS, scale, rows, cols)
			}
			if hd.far {
				f.distances(w, hd, qkv, i, j, rows, cols)
			}
			if i == j && excluded && !unnormalized {
				f.exclude(w, rows, cols, inf)
			}
			if hd.far && !unnormalized {
				kernel.PairScores(s, w.r, hd.kappa, hd.h, rows, cols)
			}
			kernel.SoftmaxStep(s, top, sum, scale, rows, cols)
			if unnormalized {
				if hd.far { // exp(s) times the factor
					factor := w.other[:rows*cols]
					clear(factor)
					kernel.PairScores(factor, w.r, 0, hd.h, rows, cols)
					kernel.Exp(factor, factor)
					kernel.Mul(s, s, factor)
				}
				if i == j && excluded {
					f.exclude(w, rows, cols, 0)
				}
			}
			if j > 0 {
				rescale(acc, scale)
			}
			_, width := f.tile(j)
			kernel.SmallGemm(f.depth, cols, rows, w.v[j*at:], width, 1, s, acc, acc)
		}
		f.finish(w, hd, in, i, count, cols)
		f.scatter(out, acc, i, hd.out, hd.stride)
	}
}

// centreBefore centres the tiles that tile i sees on the mean of the tokens up to
// its first, which all of its queries see: no bit of an output may come from a
// token after it.
func (f *selfAttention[T]) centreBefore(w *headWork[T], hd head[T], qkv []T, i int) {
	n := i*attentionTile + 1
	for c := range w.mean {
		w.mean[c] = kernel.Sum(qkv[hd.v+c*hd.stride:][:n]) / float64(n)
	}
	f.centre(w, i+1)
}

// rescale multiplies each row of acc by scale.
func rescale[T kernel.Float](acc, scale []T) {
	same := true
	for _, v := range scale {
		same = same && v == 1
	}
	if same {
		return
	}
	for ; len(acc) > 0; acc = acc[len(scale):] {
		row := acc[:len(scale)]
		kernel.Mul(row, row, scale)
	}
}

// finish makes a tile's output of the sums in acc, and keeps the logarithms.
func (f *selfAttention[T]) finish(w *headWork[T], hd head[T], in [][]T, i, count, cols int) {
	first := i * attentionTile
	acc, top, sum, scale := w.acc[:f.depth*cols], w.top[:cols], w.sum[:cols], w.scale[:cols]
	fidelity := f.cfg.Mu > 0
	kernel.Reciprocal(scale, sum)
	empty := false
	for c := range count {
		empty = empty || sum[c] == 0
		lse, lseS := logSum(top[c], sum[c]), T(0)
		if fidelity {
			lseS = logSum(w.topS[c], w.sumS[c])
			alphaZ, _, _ := hd.mix(lse, lseS)
			scale[c] *= alphaZ
		}
		if f.lse != nil {
			f.lse[hd.item*f.n+first+c] = lse
		}
		if f.lseS != nil {
			f.lseS[hd.item*f.n+first+c] = lseS
		}
		top[c], w.topS[c] = lse, lseS
	}
	rescale(acc, scale)
	if fidelity {
		for c := range cols {
			sum[c] = 0
			if c < count {
				_, sum[c], _ = hd.mix(top[c], w.topS[c])
			}
		}
		data := f.fidelityData(in)
		for ch := range f.depth {
			row := acc[ch*cols:][:count]
			kernel.MulAdd(row, 1, sum[:count], data[hd.fidelity+ch*hd.stride+first:][:count])
		}
		return
	}
	if !empty || f.cfg.Variant == UnnormalizedAttention {
		return
	}
	for c := range count {
		for ch := range f.depth {
			if sum[c] == 0 {
				acc[ch*cols+c] = in[0][hd.v+ch*hd.stride+first+c]
			}
		}
	}
}

// logSum returns top + log(sum), -Inf for a sum of 0.
func logSum[T kernel.Float](top, sum T) T {
	if sum == 0 {
		return T(math.Inf(-1))
	}
	return top + T(math.Log(float64(sum)))
}

// mix returns alpha*z, beta and alpha of a query whose weights and scores have the
// logarithms of sums lse and lseS.
func (hd head[T]) mix(lse, lseS T) (alphaZ, beta, alpha T) {
	z := T(math.Exp(float64(lse) - float64(hd.kappa*lseS)))
	switch {
	case z == 0:
		return 0, 1, 1 / hd.pull
	case math.IsInf(float64(z), 1):
		return 1, 0, 0
	}
	alpha = 1 / (z + hd.pull)
	return alpha * z, alpha * hd.pull, alpha
}

// backwardHead computes the gradients of a head and returns that of p. With dy the
// gradient of the output and w the weights of a query,
//
//	dw_j = <dy,v_j>, p_j = w_j (dw_j - <dy,out>), the gradient of w's exponent
//	ds_j = kappa p_j, dh = sum of p_j log r_j^2, e_j = h p_j/r_j^2, that of |v_i-v_j|^2
//	dv_j += w_j dy + 2 e_j (v_j-v_i), dv_i += 2 e_j (v_i-v_j)
//
// Where not normalised p_j = w_j dw_j and ds_j = p_j - A_j <dy,out>. With fidelity
// dy counts alpha z, alpha and beta depend on z, whose logarithm is that of the sum
// of weights less kappa times that of exp(s), and df = beta dy.
func (f *selfAttention[T]) backwardHead(w *headWork[T], hd head[T], in [][]T, out, dout []T, din [][]T) float64 {
	qkv := in[0]
	f.load(w, hd, qkv)
	wide := f.wide()
	at := attentionTile * wide
	f.gather(w.dy, dout, hd.out, hd.stride)
	clear(w.dvT)
	clear(w.dkT)
	clear(w.rowE)
	dp := f.shareOut(w, hd, in, out, dout, din)
	for t := range f.tiles() {
		_, width := f.tile(t)
		kernel.Transpose(w.dyT[t*at:], w.dy[t*at:][:wide*width], wide, width)
		kernel.Transpose(w.qT[t*at:], w.q[t*at:][:wide*width], wide, width)
		if hd.far {
			kernel.Transpose(w.xT[t*at:], w.x[t*at:][:wide*width], wide, width)
		}
	}
	if hd.far {
		kernel.Scale(-2, w.xT)
	}
	unnormalized, excluded := f.cfg.Variant == UnnormalizedAttention, f.cfg.Diagonal == ExcludedDiagonal
	power := f.learned && f.cfg.Variant == GraphGradientAttention // kappa depends on p
	both := unnormalized || f.twice()
	back := T(1 / math.Sqrt(float64(f.depth)))
	for i := range f.tiles() {
		_, cols := f.tile(i)
		first := i * attentionTile
		dq, accE, colE, dpairs := w.acc[:f.depth*cols], w.accE[:f.depth*cols], w.colE[:cols], w.dpairs[:cols]
		clear(dq)
		clear(accE)
		clear(colE)
		clear(dpairs)
		for j := range f.last(i) {
			rows, _ := f.scores(w, i, j, both || power)
			_, width := f.tile(j)
			if i == j && excluded {
				f.exclude(w, rows, cols, T(math.Inf(-1)))
			}
			var r []T
			if hd.far {
				f.distances(w, hd, qkv, i, j, rows, cols)
				r = w.r[:rows*cols]
			}
			s, dw := w.s[:rows*cols], w.dw[:rows*cols]
			kernel.SmallGemm(rows, cols, f.depth, w.v[j*at:], 1, width, w.dy[i*at:], nil, dw)
			kernel.PairGrad(s, r, dw, w.lse[first:], w.delta[first:], dpairs, colE, w.rowE[j*attentionTile*kernel.RowLanes:], hd.kappa, hd.h, rows, cols)
			dvT := w.dvT[j*at:][:rows*wide]
			kernel.SmallGemm(rows, wide, cols, s, cols, 1, w.dyT[i*at:], dvT, dvT)
			if hd.far {
				kernel.SmallGemm(rows, wide, cols, r, cols, 1, w.xT[i*at:], dvT, dvT)
				kernel.SmallGemm(f.depth, cols, rows, w.x[j*at:], width, 1, r, accE, accE)
				f.pullNear(w, hd, qkv, dw, i, j, cols)
			}
			if power {
				for a, v := range dw {
					if v != 0 {
						dp += .5 * float64(v) * float64(w.other[a])
					}
				}
			}
			if hd.kappa != 1 {
				kernel.Scale(hd.kappa, dw)
			}
			if both { // plus A times shares
				for row := range rows {
					a := w.other[row*cols:][:cols]
					kernel.LinearCombination(a, []T{1, -1}, a, w.lseS[first:])
					kernel.Exp(a, a)
					kernel.MulAdd(dw[row*cols:][:cols], 1, a, w.shares[first:])
				}
			}
			dkT := w.dkT[j*at:][:rows*wide]
			kernel.SmallGemm(rows, wide, cols, dw, cols, 1, w.qT[i*at:], dkT, dkT)
			kernel.SmallGemm(f.depth, cols, rows, w.k[j*at:], width, 1, dw, dq, dq)
		}
		kernel.Scale(back, dq)
		f.scatter(din[0], dq, i, hd.q, hd.stride)
		if hd.far {
			dp += .5 * kernel.Sum(dpairs)
			f.pullQueries(w, i, cols)
		}
	}
	for j := range f.tiles() {
		rows, width := f.tile(j)
		if hd.far {
			for row := range rows {
				var sum T
				for _, e := range w.rowE[(j*attentionTile+row)*kernel.RowLanes:][:kernel.RowLanes] {
					sum += e
				}
				kernel.Axpy(-sum, w.xT[j*at+row*wide:][:wide], w.dvT[j*at+row*wide:][:wide])
			}
		}
		kernel.Transpose(w.turned, w.dkT[j*at:][:width*wide], width, wide)
		f.scatter(din[0], w.turned, j, hd.k, hd.stride)
		kernel.Transpose(w.turned, w.dvT[j*at:][:width*wide], width, wide)
		f.scatter(din[0], w.turned, j, hd.v, hd.stride)
	}
	return dp
}

// shareOut sets w.lse, w.delta, w.lseS and w.shares, takes fidelity out of w.dy,
// begins dvT with what goes to values past all weights, and returns what goes to p
// by way of fidelity.
func (f *selfAttention[T]) shareOut(w *headWork[T], hd head[T], in [][]T, out, dout []T, din [][]T) (dp float64) {
	inf := T(math.Inf(1))
	delta, lse, lseS, shares := w.delta[:f.n], w.lse, w.lseS, w.shares
	clear(w.delta)
	clear(shares)
	for i := range lse { // weights of no tokens are 0
		lse[i], lseS[i] = inf, inf
	}
	for c := range f.depth {
		kernel.MulAdd(delta, 1, dout[hd.out+c*hd.stride:][:f.n], out[hd.out+c*hd.stride:][:f.n])
	}
	for i, v := range f.lse[hd.item*f.n:][:f.n] {
		lse[i] = v
		if v == -inf {
			lse[i] = inf
		}
	}
	if f.cfg.Variant == UnnormalizedAttention {
		copy(lseS, lse)
		for i, v := range delta {
			shares[i], delta[i] = -v, 0
		}
		return 0
	}
	if f.cfg.Mu == 0 {
		for i := range f.n {
			if lse[i] == inf {
				f.straight(w, i, 1)
			}
		}
		return 0
	}
	data := f.fidelityData(in)
	kept := f.lseS[hd.item*f.n:][:f.n]
	for c := range f.depth {
		kernel.MulAdd(shares[:f.n], -1, dout[hd.out+c*hd.stride:][:f.n], data[hd.fidelity+c*hd.stride:][:f.n])
	}
	for i := range f.n {
		alphaZ, beta, alpha := hd.mix(f.lse[hd.item*f.n+i], kept[i])
		gap := delta[i] + shares[i] // <dy,out-f>
		dp += float64(alpha*gap) * float64(hd.pull/hd.p)
		lseS[i] = kept[i]
		shares[i] = -hd.kappa * beta * gap
		if f.learned && f.cfg.Variant == GraphGradientAttention {
			dp -= .5 * float64(kept[i]) * float64(beta*gap)
		}
		delta[i] *= alphaZ
		w.beta[i] = beta
		if !f.data {
			f.straight(w, i, beta)
		}
		t, col := i/attentionTile, i%attentionTile
		_, width := f.tile(t)
		for c := range f.depth {
			w.dy[t*attentionTile*f.wide()+c*width+col] *= alphaZ
		}
	}
	if f.data {
		df := din[len(din)-1]
		for c := range f.depth {
			kernel.Mul(df[hd.fidelity+c*hd.stride:][:f.n], w.beta[:f.n], dout[hd.out+c*hd.stride:][:f.n])
		}
	}
	return dp
}

// straight adds part times the gradient of output i to that of value i.
func (f *selfAttention[T]) straight(w *headWork[T], i int, part T) {
	t, col := i/attentionTile, i%attentionTile
	_, width := f.tile(t)
	at := t * attentionTile * f.wide()
	for c := range f.depth {
		w.dvT[at+col*f.wide()+c] += part * w.dy[at+c*width+col]
	}
}

// pullNear adds the gradients of the distances taken by differences, p being that
// of the exponents of the tile's weights.
func (f *selfAttention[T]) pullNear(w *headWork[T], hd head[T], qkv, p []T, i, j, cols int) {
	for _, pair := range w.near {
		e := 2 * hd.h * p[pair.row*cols+pair.col] / pair.r
		key, query := j*attentionTile+pair.row, i*attentionTile+pair.col
		a, b := f.token(w, hd, qkv, key), f.token(w, hd, qkv, query)
		da, db := w.dvT[key*f.wide():], w.dvT[query*f.wide():]
		for c, v := range a {
			d := e * (v - b[c])
			da[c] += d
			db[c] -= d
		}
	}
}

// pullQueries adds 2 sum over j of e_ij (v_i-v_j) to the gradients of a tile's
// values, accE and colE being the sums of e_ij x_j and e_ij.
func (f *selfAttention[T]) pullQueries(w *headWork[T], i, cols int) {
	wide := f.wide()
	x := w.x[i*attentionTile*wide:]
	kernel.Scale(-2, w.accE[:f.depth*cols])
	for c := range f.depth {
		kernel.MulAdd(w.accE[c*cols:][:cols], 2, w.colE[:cols], x[c*cols:][:cols])
	}
	kernel.Transpose(w.turned, w.accE[:wide*cols], wide, cols)
	kernel.Axpy(1, w.turned[:wide*cols], w.dvT[i*attentionTile*wide:][:wide*cols])
}
