//go:build !amd64

package kernel

func smallGemmFast(m, n, k int, a []float32, ai, al int, b, init, c []float32) bool { return false }

func softmaxColumnsFast(x, scale []float32, rows, cols int) bool { return false }

func transposeFast(dst, src []float32, rows, cols int) bool { return false }

func copyRowsFast(dst []float32, dstep int, src []float32, sstep, rows, width int) bool { return false }
