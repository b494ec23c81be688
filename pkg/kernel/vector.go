package kernel

import "math"

// LinearCombination computes dst[i] = sum over j, in order, of coef[j]*src[j][i]
// for i < len(dst). Every src[j] must have at least len(dst) elements; dst may be
// one of the sources exactly, but must not overlap one at another offset.
func LinearCombination[T Float](dst []T, coef []T, src ...[]T) {
	if len(coef) != len(src) {
		panic("kernel: LinearCombination of unequal numbers of coefficients and sources")
	}
	for _, s := range src {
		_ = s[:len(dst)]
	}
	if len(src) == 0 {
		clear(dst)
		return
	}
	if d, ok := any(dst).([]float32); ok {
		c, s := any(coef).([]float32), any(src).([][]float32)
		if linearCombinationFast(d, &c[0], &s[0], len(s)) {
			return
		}
	}
	linearCombinationGeneric(dst, coef, src)
}

// Mul computes dst[i] = a[i]*b[i] for i < len(dst). dst may be a or b.
func Mul[T Float](dst, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	if d, ok := any(dst).([]float32); ok && mulFast(d, any(a).([]float32), any(b).([]float32)) {
		return
	}
	mulGeneric(dst, a, b)
}

// MulAdd computes dst[i] += scale*a[i]*b[i] for i < len(dst), the product of
// scale and a first. dst may be a or b.
func MulAdd[T Float](dst []T, scale T, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	if d, ok := any(dst).([]float32); ok && mulAddFast(d, float32(scale), any(a).([]float32), any(b).([]float32)) {
		return
	}
	mulAddGeneric(dst, scale, a, b)
}

// Axpy computes y[i] += alpha*x[i] for i < len(y). y may be x.
func Axpy[T Float](alpha T, x, y []T) {
	x = x[:len(y)]
	if d, ok := any(y).([]float32); ok && axpyFast(d, float32(alpha), any(x).([]float32)) {
		return
	}
	axpyGeneric(alpha, x, y)
}

// Scale computes x[i] *= alpha.
func Scale[T Float](alpha T, x []T) {
	if d, ok := any(x).([]float32); ok && scaleFast(d, float32(alpha)) {
		return
	}
	scaleGeneric(alpha, x)
}

// Dot returns the sum of x[i]*y[i] for i < len(x) in float64: products and
// partial sums may be in T over at most 256 elements a lane, beyond that in
// float64, in a fixed order.
func Dot[T Float](x, y []T) float64 {
	y = y[:len(x)]
	if a, ok := any(x).([]float32); ok {
		if s, ok := dotFast(a, any(y).([]float32)); ok {
			return s
		}
	}
	return dotGeneric(x, y)
}

// Sum returns the sum of x in float64, with the rounding promised by Dot.
func Sum[T Float](x []T) float64 {
	if a, ok := any(x).([]float32); ok {
		if s, ok := sumFast(a); ok {
			return s
		}
	}
	return sumGeneric(x)
}

// Exp computes dst[i] = exp(x[i]) for i < len(dst): relative error below 1e-7
// in float32 where the result is a normal number and within one step of the
// subnormal ones, +Inf above 88.73, 0 below -103.98, NaN for NaN. dst may be x.
func Exp[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && expFast(d, any(x).([]float32)) {
		return
	}
	expGeneric(dst, x)
}

// Log computes dst[i] = log(x[i]) for i < len(dst): relative error below 1e-7
// in float32, near 1 as well; subnormal x are exact arguments like any other;
// -Inf at 0 and -0, +Inf at +Inf, NaN below 0 and for NaN. dst may be x.
func Log[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && logFast(d, any(x).([]float32)) {
		return
	}
	logGeneric(dst, x)
}

// ExpNegClip computes the edge weight of a squared distance,
// dst[i] = exp(-min(x[i], clip)) for i < len(dst), with the precision of Exp.
// NaN stays NaN; a clip of NaN clips nothing. dst may be x.
func ExpNegClip[T Float](dst, x []T, clip T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && expNegClipFast(d, float32(clip), any(x).([]float32)) {
		return
	}
	expNegClipGeneric(dst, x, clip)
}

// Reciprocal computes dst[i] = 1/x[i] correctly rounded, and 0 where x[i] is 0.
// dst may be x.
func Reciprocal[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && reciprocalFast(d, any(x).([]float32)) {
		return
	}
	reciprocalGeneric(dst, x)
}

// Rsqrt computes dst[i] = 1/sqrt(x[i]), root and quotient each correctly rounded,
// and 0 where x[i] is 0; NaN below 0. dst may be x.
func Rsqrt[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && rsqrtFast(d, any(x).([]float32)) {
		return
	}
	rsqrtGeneric(dst, x)
}

// ReLU computes dst[i] = max(0, x[i]); NaN stays NaN and -0 stays -0. dst may be
// x.
func ReLU[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && reluFast(d, any(x).([]float32)) {
		return
	}
	reluGeneric(dst, x)
}

// ReLUGrad computes dx[i] = dy[i] where y[i] > 0 and 0 elsewhere, y being the
// output of the ReLU. dx may be dy.
func ReLUGrad[T Float](dx, y, dy []T) {
	y, dy = y[:len(dx)], dy[:len(dx)]
	if d, ok := any(dx).([]float32); ok && reluGradFast(d, any(y).([]float32), any(dy).([]float32)) {
		return
	}
	reluGradGeneric(dx, y, dy)
}

// genericBlock is how many elements the generic loops sum at a time, in an array
// on the stack: the loop over terms can then be the outer one.
const genericBlock = 64

func linearCombinationGeneric[T Float](dst []T, coef []T, src [][]T) {
	var sums [genericBlock]T
	for lo := 0; lo < len(dst); lo += genericBlock {
		sum := sums[:min(genericBlock, len(dst)-lo)]
		clear(sum)
		for j, c := range coef {
			a := src[j][lo:][:len(sum)]
			for i := range sum {
				sum[i] += c * a[i]
			}
		}
		copy(dst[lo:], sum)
	}
}

func mulGeneric[T Float](dst, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

func mulAddGeneric[T Float](dst []T, scale T, a, b []T) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] += scale * a[i] * b[i]
	}
}

func axpyGeneric[T Float](alpha T, x, y []T) {
	x = x[:len(y)]
	for i := range y {
		y[i] += alpha * x[i]
	}
}

func scaleGeneric[T Float](alpha T, x []T) {
	for i := range x {
		x[i] *= alpha
	}
}

func dotGeneric[T Float](x, y []T) float64 {
	y = y[:len(x)]
	var s float64
	for i := range x {
		s += float64(x[i]) * float64(y[i])
	}
	return s
}

func sumGeneric[T Float](x []T) float64 {
	var s float64
	for i := range x {
		s += float64(x[i])
	}
	return s
}

func expGeneric[T Float](dst, x []T) {
	for i := range dst {
		dst[i] = T(math.Exp(float64(x[i])))
	}
}

func logGeneric[T Float](dst, x []T) {
	for i := range dst {
		dst[i] = T(math.Log(float64(x[i])))
	}
}

func expNegClipGeneric[T Float](dst, x []T, clip T) {
	for i := range dst {
		v := x[i]
		if v > clip {
			v = clip
		}
		dst[i] = T(math.Exp(-float64(v)))
	}
}

func reciprocalGeneric[T Float](dst, x []T) {
	for i, v := range x[:len(dst)] {
		if v == 0 {
			dst[i] = 0
		} else {
			dst[i] = 1 / v
		}
	}
}

func rsqrtGeneric[T Float](dst, x []T) {
	for i, v := range x[:len(dst)] {
		if v == 0 {
			dst[i] = 0
		} else {
			dst[i] = 1 / T(math.Sqrt(float64(v)))
		}
	}
}

func reluGeneric[T Float](dst, x []T) {
	for i, v := range x[:len(dst)] {
		if v < 0 {
			v = 0
		}
		dst[i] = v
	}
}

func reluGradGeneric[T Float](dx, y, dy []T) {
	y, dy = y[:len(dx)], dy[:len(dx)]
	for i := range dx {
		if y[i] > 0 {
			dx[i] = dy[i]
		} else {
			dx[i] = 0
		}
	}
}
