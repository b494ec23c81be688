package kernel

import "math"

// SoftmaxRows computes the softmax of each of rows rows of cols elements:
//
//	m = max over j of x[r*cols+j]
//	dst[r*cols+j] = exp(x[r*cols+j]-m) / sum over l of exp(x[r*cols+l]-m)
//
// with the exponential of Exp and sums in T. A row with NaN, +Inf, or nothing but
// -Inf becomes NaN. dst may be x.
func SoftmaxRows[T Float](dst, x []T, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	dst, x = dst[:rows*cols], x[:rows*cols]
	if d, ok := any(dst).([]float32); ok && softmaxRowsFast(&d[0], &any(x).([]float32)[0], rows, cols) {
		return
	}
	softmaxRowsGeneric(dst, x, rows, cols)
}

// SoftmaxRowsGrad computes dx from the softmax y and its gradient dy, sums in T:
//
//	dx[r,j] = y[r,j] * (dy[r,j] - sum over l of y[r,l]*dy[r,l])
//
// dx may be dy or y.
func SoftmaxRowsGrad[T Float](dx, y, dy []T, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	dx, y, dy = dx[:rows*cols], y[:rows*cols], dy[:rows*cols]
	if d, ok := any(dx).([]float32); ok && softmaxRowsGradFast(&d[0], &any(y).([]float32)[0], &any(dy).([]float32)[0], rows, cols) {
		return
	}
	softmaxRowsGradGeneric(dx, y, dy, rows, cols)
}

func softmaxRowsGeneric[T Float](dst, x []T, rows, cols int) {
	for r := range rows {
		a, d := x[r*cols:][:cols], dst[r*cols:][:cols]
		m := T(math.Inf(-1))
		for _, v := range a {
			m = max(m, v)
		}
		var s T
		for j, v := range a {
			e := T(math.Exp(float64(v - m)))
			d[j] = e
			s += e
		}
		for j := range d {
			d[j] /= s
		}
	}
}

func softmaxRowsGradGeneric[T Float](dx, y, dy []T, rows, cols int) {
	for r := range rows {
		a, g, d := y[r*cols:][:cols], dy[r*cols:][:cols], dx[r*cols:][:cols]
		var s T
		for j := range a {
			s += a[j] * g[j]
		}
		for j := range d {
			d[j] = a[j] * (g[j] - s)
		}
	}
}
