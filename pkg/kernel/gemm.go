package kernel

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
func Gemm[T Float](s *Scratch[T], workers int, transA, transB bool, m, n, k int, a []T, lda int, b []T, ldb int, c []T, ldc int, e Epilogue[T]) {
	gemmGeneric(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
}

func gemmGeneric[T Float](transA, transB bool, m, n, k int, a []T, lda int, b []T, ldb int, c []T, ldc int, e Epilogue[T]) {
	ai, al := lda, 1
	if transA {
		ai, al = 1, lda
	}
	bl, bj := ldb, 1
	if transB {
		bl, bj = 1, ldb
	}
	for i := range m {
		for j := range n {
			var s T
			for l := range k {
				s += a[i*ai+l*al] * b[l*bl+j*bj]
			}
			if e.RowBias != nil {
				s += e.RowBias[i]
			}
			if e.Accumulate {
				s += c[i*ldc+j]
			}
			if e.ReLU && s < 0 {
				s = 0
			}
			c[i*ldc+j] = s
		}
	}
}
