package kernel

import "math"

// Gelu computes dst[i] = x[i]*Phi(x[i]) for i < len(dst), Phi(x) =
// (1+erf(x/sqrt(2)))/2 the normal distribution: the activation of Hendrycks and
// Gimpel, exact rather than by tanh. In float32 the error is below 5e-8 plus the
// rounding of the result, 6e-8 of its size; NaN stays NaN. dst may be x.
func Gelu[T Float](dst, x []T) {
	x = x[:len(dst)]
	if d, ok := any(dst).([]float32); ok && geluFast(d, any(x).([]float32)) {
		return
	}
	geluGeneric(dst, x)
}

// GeluGrad computes dx[i] = dy[i]*(Phi(x[i]) + x[i]*phi(x[i])), the gradient of
// Gelu, phi(x) = exp(-x^2/2)/sqrt(2 pi). In float32 the factor's error is below
// 2e-7. dx may be x or dy.
func GeluGrad[T Float](dx, x, dy []T) {
	x, dy = x[:len(dx)], dy[:len(dx)]
	if d, ok := any(dx).([]float32); ok && geluGradFast(d, any(x).([]float32), any(dy).([]float32)) {
		return
	}
	geluGradGeneric(dx, x, dy)
}

func geluGeneric[T Float](dst, x []T) {
	for i := range dst {
		v := float64(x[i])
		if math.IsInf(v, -1) {
			dst[i] = 0 // not -Inf*0
			continue
		}
		dst[i] = T(v * .5 * math.Erfc(-v/math.Sqrt2))
	}
}

func geluGradGeneric[T Float](dx, x, dy []T) {
	for i := range dx {
		v := float64(x[i])
		slope := .5 * math.Erfc(-v/math.Sqrt2)
		if !math.IsInf(v, 0) {
			slope += v * math.Exp(-v*v/2) / math.Sqrt(2*math.Pi)
		}
		dx[i] = T(float64(dy[i]) * slope)
	}
}
