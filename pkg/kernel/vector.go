package kernel

import "math"

// LinearCombination computes dst[i] = sum over j, in order, of coef[j]*src[j][i]
// for i < len(dst). Every src[j] must have at least len(dst) elements; dst may be
// one of the sources exactly, but must not overlap one at another offset.
func LinearCombination[T Float](dst []T, coef []T, src ...[]T) {
	linearCombinationGeneric(dst, coef, src)
}

// Mul computes dst[i] = a[i]*b[i] for i < len(dst). dst may be a or b.
func Mul[T Float](dst, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

// MulAdd computes dst[i] += scale*a[i]*b[i] for i < len(dst).
func MulAdd[T Float](dst []T, scale T, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] += scale * a[i] * b[i]
	}
}

// Axpy computes y[i] += alpha*x[i] for i < len(y).
func Axpy[T Float](alpha T, x, y []T) {
	x = x[:len(y)]
	for i := range y {
		y[i] += alpha * x[i]
	}
}

// Scale computes x[i] *= alpha.
func Scale[T Float](alpha T, x []T) {
	for i := range x {
		x[i] *= alpha
	}
}

// Dot returns the sum of x[i]*y[i] for i < len(x) in float64: products and
// partial sums may be in T over at most 256 elements a lane, beyond that in
// float64, in a fixed order.
func Dot[T Float](x, y []T) float64 {
	y = y[:len(x)]
	var s float64
	for i := range x {
		s += float64(x[i]) * float64(y[i])
	}
	return s
}

// Sum returns the sum of x in float64, with the rounding promised by Dot.
func Sum[T Float](x []T) float64 {
	var s float64
	for i := range x {
		s += float64(x[i])
	}
	return s
}

// Exp computes dst[i] = exp(x[i]) for i < len(dst): relative error below 3e-7 in
// float32, +Inf above 88.73, 0 below -103.98 (subnormal results may be flushed
// to 0), NaN for NaN. dst may be x.
func Exp[T Float](dst, x []T) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = T(math.Exp(float64(x[i])))
	}
}

// Log computes dst[i] = log(x[i]) for i < len(dst): relative error below 3e-7 in
// float32 away from x = 1 and absolute error below 1e-7 near it; -Inf at 0, NaN
// below 0. dst may be x.
func Log[T Float](dst, x []T) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = T(math.Log(float64(x[i])))
	}
}

// ExpNegClip computes the edge weight of a squared distance,
// dst[i] = exp(-min(x[i], clip)) for i < len(dst). NaN stays NaN. dst may be x.
func ExpNegClip[T Float](dst, x []T, clip T) {
	x = x[:len(dst)]
	for i := range dst {
		v := x[i]
		if v > clip {
			v = clip
		}
		dst[i] = T(math.Exp(-float64(v)))
	}
}

// Reciprocal computes dst[i] = 1/x[i], and 0 where x[i] is 0. dst may be x.
func Reciprocal[T Float](dst, x []T) {
	x = x[:len(dst)]
	for i, v := range x {
		if v == 0 {
			dst[i] = 0
		} else {
			dst[i] = 1 / v
		}
	}
}

// Rsqrt computes dst[i] = 1/sqrt(x[i]), and 0 where x[i] is 0. dst may be x.
func Rsqrt[T Float](dst, x []T) {
	x = x[:len(dst)]
	for i, v := range x {
		if v == 0 {
			dst[i] = 0
		} else {
			dst[i] = 1 / T(math.Sqrt(float64(v)))
		}
	}
}

// ReLU computes dst[i] = max(0, x[i]); NaN stays NaN. dst may be x.
func ReLU[T Float](dst, x []T) {
	x = x[:len(dst)]
	for i, v := range x {
		if v < 0 {
			v = 0
		}
		dst[i] = v
	}
}

// ReLUGrad computes dx[i] = dy[i] where y[i] > 0 and 0 elsewhere, y being the
// output of the ReLU. dx may be dy.
func ReLUGrad[T Float](dx, y, dy []T) {
	y, dy = y[:len(dx)], dy[:len(dx)]
	for i := range dx {
		if y[i] > 0 {
			dx[i] = dy[i]
		} else {
			dx[i] = 0
		}
	}
}

func linearCombinationGeneric[T Float](dst []T, coef []T, src [][]T) {
	for i := range dst {
		var s T
		for j, c := range coef {
			s += c * src[j][i]
		}
		dst[i] = s
	}
}
