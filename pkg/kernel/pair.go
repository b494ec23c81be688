package kernel

import "math"

// The kernels of this file serve attention that goes over its pairs of tokens tile
// by tile, keys by queries: tiles x (rows,cols) are dense, keys go down and queries
// along, and cols is a multiple of WindowAlign.

// RowLanes is how many partial sums of a row PairGrad keeps.
const RowLanes = 16

// PairDistances turns inner products of tokens into squared distances plus what
// keeps them from zero. g (rows) and q (cols) hold the squared norms:
//
//	d = g[i] + q[j] - 2*x[i*cols+j]
//	x[i*cols+j] = d+add[j], or -add[j] where d <= 0
//	low[j] = min over i of |x[i*cols+j]| - near*(g[i]+q[j])
//
// A negative x marks a distance that was rounded to zero: it counts as add, and
// PairGrad gives it no gradient. A negative low says which columns have distances
// too small beside the norms for this form to be precise. add is positive. NaN in x
// stays; low is of any value then.
func PairDistances[T Float](x, g, q, add, low []T, near T, rows, cols int) {
	if checkTile(rows, cols) {
		return
	}
	x, g, q, add, low = x[:rows*cols], g[:rows], q[:cols], add[:cols], low[:cols]
	if d, ok := any(x).([]float32); ok && pairDistancesFast(d, asFloat32(g), asFloat32(q), asFloat32(add), asFloat32(low), float32(near), rows, cols) {
		return
	}
	pairDistancesGeneric(x, g, q, add, low, near, rows, cols)
}

// PairScores computes s[i] = kappa*s[i] + h*log|r[i]| over tiles, the logarithm with
// the precision of Log for normal numbers and NaN where r is not finite.
func PairScores[T Float](s, r []T, kappa, h T, rows, cols int) {
	if checkTile(rows, cols) {
		return
	}
	s, r = s[:rows*cols], r[:rows*cols]
	if d, ok := any(s).([]float32); ok && pairScoresFast(d, asFloat32(r), float32(kappa), float32(h), rows, cols) {
		return
	}
	pairScoresGeneric(s, r, kappa, h)
}

// SoftmaxStep goes on with the softmax of columns by one tile (Milakov and
// Gimelshein, arXiv 1805.02867). top and sum (cols) hold the largest element so far,
// -Inf at first, and the sum of exponentials less it, 0 at first:
//
//	m = max(top[j], max over i of x[i*cols+j])
//	scale[j] = exp(top[j]-m)
//	x[i*cols+j] = exp(x[i*cols+j]-m)
//	sum[j] = sum[j]*scale[j] + sum over i, in order, of x[i*cols+j]
//	top[j] = m
//
// so that what was summed with the old exponentials is to be multiplied by scale.
// Exponents below -87 give 0; as long as m is -Inf all exponentials and scale are 0.
// A column with NaN or +Inf has the sum NaN.
func SoftmaxStep[T Float](x, top, sum, scale []T, rows, cols int) {
	if checkTile(rows, cols) {
		return
	}
	x, top, sum, scale = x[:rows*cols], top[:cols], sum[:cols], scale[:cols]
	if d, ok := any(x).([]float32); ok && softmaxStepFast(d, asFloat32(top), asFloat32(sum), asFloat32(scale), rows, cols) {
		return
	}
	softmaxStepGeneric(x, top, sum, scale, rows, cols)
}

// PairGrad computes a tile of a softmax again and its gradients. s holds scores, r
// what PairDistances made, dw the gradient of the softmax w, lse and t (cols) the
// logarithm of its denominator and what is taken from dw:
//
//	l = log|r[i,j]|
//	w = exp(kappa*s[i,j] + h*l - lse[j])
//	p = w * (dw[i,j]-t[j])
//	e = h*p/r[i,j], or 0 where r[i,j] < 0
//	dp[j] += p*l; colE[j] += e; rowE[i*RowLanes + j%RowLanes] += e
//	s[i,j] = w; dw[i,j] = p; r[i,j] = e
//
// with the exponential of SoftmaxStep, at most exp(88), and the logarithm of
// PairScores. Without distances r is nil: l and h count as 0, and dp, colE and rowE
// are not used.
func PairGrad[T Float](s, r, dw, lse, t, dp, colE, rowE []T, kappa, h T, rows, cols int) {
	if checkTile(rows, cols) {
		return
	}
	s, dw, lse, t = s[:rows*cols], dw[:rows*cols], lse[:cols], t[:cols]
	if r != nil {
		r, dp, colE, rowE = r[:rows*cols], dp[:cols], colE[:cols], rowE[:rows*RowLanes]
	}
	if d, ok := any(s).([]float32); ok && pairGradFast(d, asFloat32(r), asFloat32(dw), asFloat32(lse), asFloat32(t),
		asFloat32(dp), asFloat32(colE), asFloat32(rowE), float32(kappa), float32(h), rows, cols) {
		return
	}
	pairGradGeneric(s, r, dw, lse, t, dp, colE, rowE, kappa, h, rows, cols)
}

// checkTile reports an empty tile.
func checkTile(rows, cols int) bool {
	if rows <= 0 || cols <= 0 {
		return true
	}
	if cols%WindowAlign != 0 {
		panic("kernel: the columns of a tile are no multiple of WindowAlign")
	}
	return false
}

// pairLog is log|x|, and NaN where x is not finite.
func pairLog[T Float](x T) T { return T(math.Log(math.Abs(float64(x)))) + (x - x) }

// pairExp is exp(min(x,88)), and 0 below -87.
func pairExp[T Float](x T) T {
	if x < -87 {
		return 0
	}
	return T(math.Exp(math.Min(float64(x), 88)))
}

func pairDistancesGeneric[T Float](x, g, q, add, low []T, near T, rows, cols int) {
	for j := range low {
		low[j] = T(math.Inf(1))
	}
	for i := range rows {
		for j, v := range x[i*cols:][:cols] {
			sum := g[i] + q[j]
			d := sum - 2*v
			size := d + add[j]
			x[i*cols+j] = size
			if d <= 0 {
				size = add[j]
				x[i*cols+j] = -size
			}
			low[j] = min(low[j], size-near*sum)
		}
	}
}

func pairScoresGeneric[T Float](s, r []T, kappa, h T) {
	for i := range s {
		s[i] = kappa*s[i] + h*pairLog(r[i])
	}
}

func softmaxStepGeneric[T Float](x, top, sum, scale []T, rows, cols int) {
	for j := range cols {
		m := top[j]
		for i := range rows {
			m = max(m, x[i*cols+j])
		}
		shift := max(m, -3e38)
		scale[j] = pairExp(top[j] - shift)
		s := sum[j] * scale[j]
		for i := range rows {
			e := pairExp(x[i*cols+j] - shift)
			x[i*cols+j] = e
			s += e
		}
		sum[j], top[j] = s, m
	}
}

func pairGradGeneric[T Float](s, r, dw, lse, t, dp, colE, rowE []T, kappa, h T, rows, cols int) {
	for i := range rows {
		for j := range cols {
			at := i*cols + j
			x := kappa * s[at]
			var l T
			if r != nil {
				l = pairLog(r[at])
				x += h * l
			}
			w := pairExp(x - lse[j])
			p := w * (dw[at] - t[j])
			s[at], dw[at] = w, p
			if r == nil {
				continue
			}
			var e T
			if !(r[at] < 0) {
				e = h * p / r[at]
			}
			r[at] = e
			dp[j] += p * l
			colE[j] += e
			rowE[i*RowLanes+j%RowLanes] += e
		}
	}
}
