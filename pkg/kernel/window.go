package kernel

import "math"

// The kernels of this file serve attention within a window: many products of
// matrices so small that packing them would take longer than multiplying them.

// WindowAlign is what the columns of SmallGemm and SoftmaxColumns must be a
// multiple of: two vectors of the widest level.
const WindowAlign = 32

// SmallGemm computes C = A B, or C = C0 + A B where init holds C0 and is not nil,
// for matrices that stay in the first cache. B, C0 and C are dense with n columns,
// n a multiple of WindowAlign; A is anything that strides describe:
//
//	for i < m, j < n:
//	    s = init[i*n+j], or 0
//	    for l < k: s += a[i*ai+l*al] * b[l*n+j]
//	    c[i*n+j] = s
//
// The fast levels fuse multiply and add. An element's bits depend on its row of A,
// its column of B and its initial value, not on its place. init may be c.
func SmallGemm[T Float](m, n, k int, a []T, ai, al int, b, init, c []T) {
	if m <= 0 || n <= 0 {
		return
	}
	if n%WindowAlign != 0 || ai < 0 || al < 0 {
		panic("kernel: SmallGemm: n is no multiple of WindowAlign, or a stride is negative")
	}
	c, b = c[:m*n], b[:max(k, 0)*n]
	if k > 0 {
		_ = a[(m-1)*ai+(k-1)*al]
	}
	if init != nil {
		init = init[:m*n]
	}
	if d, ok := any(c).([]float32); ok && k > 0 && smallGemmFast(m, n, k, asFloat32(a), ai, al, asFloat32(b), asFloat32(init), d) {
		return
	}
	smallGemmGeneric(m, n, k, a, ai, al, b, init, c)
}

// SoftmaxColumns replaces each column of x (rows,cols) by exponentials, of which
// scale, of cols elements, receives the inverse of the sum:
//
//	m = max over i of x[i*cols+j]
//	x[i*cols+j] = exp(x[i*cols+j]-m)
//	scale[j] = 1 / sum over i, in order, of x[i*cols+j]
//
// cols is a multiple of WindowAlign. Differences beyond 87 count as 87. A column
// with NaN or +Inf, or nothing but -Inf, has the scale NaN.
func SoftmaxColumns[T Float](x, scale []T, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	if cols%WindowAlign != 0 {
		panic("kernel: SoftmaxColumns: cols is no multiple of WindowAlign")
	}
	x, scale = x[:rows*cols], scale[:cols]
	if d, ok := any(x).([]float32); ok && softmaxColumnsFast(d, asFloat32(scale), rows, cols) {
		return
	}
	softmaxColumnsGeneric(x, scale, rows, cols)
}

// Transpose computes dst[j*rows+i] = src[i*cols+j] for i < rows, j < cols.
func Transpose[T Float](dst, src []T, rows, cols int) {
	dst, src = dst[:rows*cols], src[:rows*cols]
	if d, ok := any(dst).([]float32); ok && len(dst) > 0 && rows%8 == 0 && cols%8 == 0 && transposeFast(d, asFloat32(src), rows, cols) {
		return
	}
	for i := range rows {
		for j, v := range src[i*cols:][:cols] {
			dst[j*rows+i] = v
		}
	}
}

// CopyRows copies rows of width elements: dst[r*dstep+j] = src[r*sstep+j] for
// r < rows, j < width.
func CopyRows[T Float](dst []T, dstep int, src []T, sstep, rows, width int) {
	if rows <= 0 || width <= 0 {
		return
	}
	dst, src = dst[:(rows-1)*dstep+width], src[:(rows-1)*sstep+width]
	if d, ok := any(dst).([]float32); ok && width >= 8 && copyRowsFast(d, dstep, asFloat32(src), sstep, rows, width) {
		return
	}
	if width == 4 { // half a window, without a call for each row
		for r := range rows {
			*(*[4]T)(dst[r*dstep:]) = *(*[4]T)(src[r*sstep:])
		}
		return
	}
	for r := range rows {
		copy(dst[r*dstep:][:width], src[r*sstep:])
	}
}

func smallGemmGeneric[T Float](m, n, k int, a []T, ai, al int, b, init, c []T) {
	for i := range m {
		row := c[i*n:][:n]
		if init == nil {
			clear(row)
		} else {
			copy(row, init[i*n:])
		}
		for l := range k {
			axpyGeneric(a[i*ai+l*al], b[l*n:][:n], row)
		}
	}
}

func softmaxColumnsGeneric[T Float](x, scale []T, rows, cols int) {
	top := T(math.Inf(-1))
	for j := range cols {
		m := top
		for i := range rows {
			m = max(m, x[i*cols+j])
		}
		var s T
		for i := range rows {
			e := T(math.Exp(max(float64(x[i*cols+j]-m), -87)))
			x[i*cols+j] = e
			s += e
		}
		scale[j] = 1 / s
	}
}
