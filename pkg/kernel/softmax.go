package kernel

import "math"

// SoftmaxRows computes the softmax of each of rows rows of cols elements:
//
//	m = max over j of x[r*cols+j]
//	dst[r*cols+j] = exp(x[r*cols+j]-m) / sum over l of exp(x[r*cols+l]-m)
//
// dst may be x.
func SoftmaxRows[T Float](dst, x []T, rows, cols int) {
	softmaxRowsGeneric(dst, x, rows, cols)
}

// SoftmaxRowsGrad computes dx from the softmax y and its gradient dy:
//
//	dx[r,j] = y[r,j] * (dy[r,j] - sum over l of y[r,l]*dy[r,l])
//
// dx may be dy.
func SoftmaxRowsGrad[T Float](dx, y, dy []T, rows, cols int) {
	for r := range rows {
		a, g, d := y[r*cols:][:cols], dy[r*cols:][:cols], dx[r*cols:][:cols]
		s := T(Dot(a, g))
		for j := range d {
			d[j] = a[j] * (g[j] - s)
		}
	}
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
