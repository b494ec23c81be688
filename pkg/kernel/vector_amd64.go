package kernel

// The functions below run the assembly of the active level on slices whose
// lengths have been checked, or report false if it has none.

func mulFast(dst, a, b []float32) bool {
	switch active {
	case AVX512:
		mulAVX512(dst, a, b)
	case AVX2:
		mulAVX2(dst, a, b)
	default:
		return false
	}
	return true
}

func mulAddFast(dst []float32, scale float32, a, b []float32) bool {
	switch active {
	case AVX512:
		mulAddAVX512(dst, scale, a, b)
	case AVX2:
		mulAddAVX2(dst, scale, a, b)
	default:
		return false
	}
	return true
}

func axpyFast(y []float32, alpha float32, x []float32) bool {
	switch active {
	case AVX512:
		axpyAVX512(y, alpha, x)
	case AVX2:
		axpyAVX2(y, alpha, x)
	default:
		return false
	}
	return true
}

func scaleFast(x []float32, alpha float32) bool {
	switch active {
	case AVX512:
		scaleAVX512(x, alpha)
	case AVX2:
		scaleAVX2(x, alpha)
	default:
		return false
	}
	return true
}

func expFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		expAVX512(dst, x)
	case AVX2:
		expAVX2(dst, x)
	default:
		return false
	}
	return true
}

func expNegClipFast(dst []float32, clip float32, x []float32) bool {
	switch active {
	case AVX512:
		expNegClipAVX512(dst, clip, x)
	case AVX2:
		expNegClipAVX2(dst, clip, x)
	default:
		return false
	}
	return true
}

func logFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		logAVX512(dst, x)
	case AVX2:
		logAVX2(dst, x)
	default:
		return false
	}
	return true
}

func reciprocalFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		reciprocalAVX512(dst, x)
	case AVX2:
		reciprocalAVX2(dst, x)
	default:
		return false
	}
	return true
}

func rsqrtFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		rsqrtAVX512(dst, x)
	case AVX2:
		rsqrtAVX2(dst, x)
	default:
		return false
	}
	return true
}

func reluFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		reluAVX512(dst, x)
	case AVX2:
		reluAVX2(dst, x)
	default:
		return false
	}
	return true
}

func reluGradFast(dx, y, dy []float32) bool {
	switch active {
	case AVX512:
		reluGradAVX512(dx, y, dy)
	case AVX2:
		reluGradAVX2(dx, y, dy)
	default:
		return false
	}
	return true
}

func softmaxRowsFast(dst, x *float32, rows, cols int) bool {
	switch active {
	case AVX512:
		softmaxRowsAVX512(dst, x, rows, cols)
	case AVX2:
		softmaxRowsAVX2(dst, x, rows, cols)
	default:
		return false
	}
	return true
}

func softmaxRowsGradFast(dx, y, dy *float32, rows, cols int) bool {
	switch active {
	case AVX512:
		softmaxRowsGradAVX512(dx, y, dy, rows, cols)
	case AVX2:
		softmaxRowsGradAVX2(dx, y, dy, rows, cols)
	default:
		return false
	}
	return true
}

func linearCombinationFast(dst []float32, coef *float32, src *[]float32, n int) bool {
	switch active {
	case AVX512:
		linearCombinationAVX512(dst, coef, src, n)
	case AVX2:
		linearCombinationAVX2(dst, coef, src, n)
	default:
		return false
	}
	return true
}

func dotFast(x, y []float32) (float64, bool) {
	switch active {
	case AVX512:
		return dotAVX512(x, y), true
	case AVX2:
		return dotAVX2(x, y), true
	}
	return 0, false
}

func sumFast(x []float32) (float64, bool) {
	switch active {
	case AVX512:
		return sumAVX512(x), true
	case AVX2:
		return sumAVX2(x), true
	}
	return 0, false
}
