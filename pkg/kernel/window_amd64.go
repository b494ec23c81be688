package kernel

import "unsafe"

// smallGemmFast cuts A into blocks of rows as equal as can be, of at most what
// the level has registers for.
func smallGemmFast(m, n, k int, a []float32, ai, al int, b, init, c []float32) bool {
	most := 0
	switch active {
	case AVX512:
		most = 12
	case AVX2:
		most = 6
	default:
		return false
	}
	ap, bp, cp := &a[0], &b[0], &c[0]
	var ip *float32
	if init != nil {
		ip = &init[0]
	}
	blocks := (m + most - 1) / most
	for i := range blocks {
		lo, hi := i*m/blocks, (i+1)*m/blocks
		var from *float32
		if ip != nil {
			from = at(ip, lo*n)
		}
		smallRows(active, hi-lo, n, k, at(ap, lo*ai), 4*ai, 4*al, bp, from, at(cp, lo*n))
	}
	return true
}

func smallRows(level Level, rows, n, k int, a *float32, ai, al int, b, init, c *float32) {
	if level == AVX2 {
		switch rows {
		case 1:
			small1AVX2(n, k, a, ai, al, b, init, c)
		case 2:
			small2AVX2(n, k, a, ai, al, b, init, c)
		case 3:
			small3AVX2(n, k, a, ai, al, b, init, c)
		case 4:
			small4AVX2(n, k, a, ai, al, b, init, c)
		case 5:
			small5AVX2(n, k, a, ai, al, b, init, c)
		case 6:
			small6AVX2(n, k, a, ai, al, b, init, c)
		}
		return
	}
	switch rows {
	case 1:
		small1AVX512(n, k, a, ai, al, b, init, c)
	case 2:
		small2AVX512(n, k, a, ai, al, b, init, c)
	case 3:
		small3AVX512(n, k, a, ai, al, b, init, c)
	case 4:
		small4AVX512(n, k, a, ai, al, b, init, c)
	case 5:
		small5AVX512(n, k, a, ai, al, b, init, c)
	case 6:
		small6AVX512(n, k, a, ai, al, b, init, c)
	case 7:
		small7AVX512(n, k, a, ai, al, b, init, c)
	case 8:
		small8AVX512(n, k, a, ai, al, b, init, c)
	case 9:
		small9AVX512(n, k, a, ai, al, b, init, c)
	case 10:
		small10AVX512(n, k, a, ai, al, b, init, c)
	case 11:
		small11AVX512(n, k, a, ai, al, b, init, c)
	case 12:
		small12AVX512(n, k, a, ai, al, b, init, c)
	}
}

func softmaxColumnsFast(x, scale []float32, rows, cols int) bool {
	switch active {
	case AVX512:
		softmaxColumnsAVX512(rows, cols, &x[0], &scale[0])
	case AVX2:
		softmaxColumnsAVX2(rows, cols, &x[0], &scale[0])
	default:
		return false
	}
	return true
}

func transposeFast(dst, src []float32, rows, cols int) bool {
	if active == Generic {
		return false
	}
	transpose8avx2(rows/8, cols/8, &dst[0], 4*rows, &src[0], 4*cols)
	return true
}

func copyRowsFast(dst []float32, dstep int, src []float32, sstep, rows, width int) bool {
	if active == Generic {
		return false
	}
	copyRowsavx2(rows, width, unsafe.SliceData(dst), 4*dstep, unsafe.SliceData(src), 4*sstep)
	return true
}
