package kernel

import "unsafe"

// Epilogue is what a matrix product does to C after the sum.
type Epilogue[T Float] struct {
	Accumulate bool // add to C instead of overwriting it; excludes ReLU
	RowBias    []T  // length m, added to every column; nil for none
	ReLU       bool // max(0, .) last
}

// Gemm computes the row-major matrix product C = op(A) op(B):
//
//	for i < m, j < n:
//	    s = sum over l < k, in order, of opA[i,l] * opB[l,j]
//	    if e.RowBias != nil { s += e.RowBias[i] }
//	    if e.Accumulate { s += c[i*ldc+j] }
//	    if e.ReLU { s = max(s, 0) }
//	    c[i*ldc+j] = s
//
// where opA[i,l] is a[i*lda+l], or a[l*lda+i] if transA, and opB[l,j] is
// b[l*ldb+j], or b[j*ldb+l] if transB. NaN in a sum stays NaN under ReLU.
//
// The fast levels fuse multiply and add and cut a long sum into blocks that are
// added to C one after the other. The blocks depend on k alone, so the bits of an
// element depend on its row of A, its column of B, its bias and its old value,
// never on i, j, m, n or the workers.
func Gemm[T Float](s *Scratch[T], workers int, transA, transB bool, m, n, k int, a []T, lda int, b []T, ldb int, c []T, ldc int, e Epilogue[T]) {
	if m <= 0 || n <= 0 {
		return
	}
	checkMatrix(transA, m, k, len(a), lda)
	checkMatrix(transB, k, n, len(b), ldb)
	checkMatrix(false, m, n, len(c), ldc)
	if e.RowBias != nil && len(e.RowBias) < m {
		panic("kernel: Gemm: RowBias is shorter than m")
	}
	if e.Accumulate && e.ReLU {
		panic("kernel: Gemm: Accumulate excludes ReLU")
	}
	if fast, ok := any(s).(*Scratch[float32]); ok && active > Generic {
		p := product{
			batch: 1, m: m, n: n, k: k,
			a: asFloat32(a), lda: lda, transA: transA,
			b: asFloat32(b), ldb: ldb, transB: transB,
			c: asFloat32(c), ldc: ldc,
			bias: asFloat32(e.RowBias), add: e.Accumulate, relu: e.ReLU,
		}
		p.run(fast, workers)
		return
	}
	gemmGeneric(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
}

// checkMatrix panics unless a row-major matrix of rows by cols, or its
// transpose, with leading dimension ld fits in length elements.
func checkMatrix(transposed bool, rows, cols, length, ld int) {
	if transposed {
		rows, cols = cols, rows
	}
	if rows > 0 && cols > 0 && (ld < cols || (rows-1)*ld+cols > length) {
		panic("kernel: Gemm: a matrix does not fit its slice or leading dimension")
	}
}

// asFloat32 returns x, whose element type must be float32, as what it is.
func asFloat32[T Float](x []T) []float32 {
	return *(*[]float32)(unsafe.Pointer(&x))
}

// product is a batch of float32 matrix products with one A:
//
//	C_p = op(A) op(B_p) for p < batch, B_p at b[p*stepB:], C_p at c[p*stepC:]
type product struct {
	batch, m, n, k int
	a              []float32
	lda            int
	transA         bool
	b              []float32
	ldb, stepB     int
	transB         bool
	c              []float32
	ldc, stepC     int
	bias           []float32
	add, relu      bool
}

func gemmGeneric[T Float](transA, transB bool, m, n, k int, a []T, lda int, b []T, ldb int, c []T, ldc int, e Epilogue[T]) {
	ai, al := lda, 1
	if transA {
		ai, al = 1, lda
	}
	var acc [64]T
	for i := range m {
		// 64 columns at a time: the sums stay in the cache and B is read along
		// its rows.
		for j0 := 0; j0 < n; j0 += len(acc) {
			sum := acc[:min(len(acc), n-j0)]
			if transB {
				for j := range sum {
					var s T
					row := b[(j0+j)*ldb:]
					for l := range k {
						s += a[i*ai+l*al] * row[l]
					}
					sum[j] = s
				}
			} else {
				clear(sum)
				for l := range k {
					axpyGeneric(a[i*ai+l*al], b[l*ldb+j0:][:len(sum)], sum)
				}
			}
			out := c[i*ldc+j0:][:len(sum)]
			for j, s := range sum {
				if e.RowBias != nil {
					s += e.RowBias[i]
				}
				if e.Accumulate {
					s += out[j]
				}
				if e.ReLU && s < 0 {
					s = 0
				}
				out[j] = s
			}
		}
	}
}
