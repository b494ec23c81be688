package kernel

// The functions below run the assembly of the active level on slices whose
// lengths have been checked, or report false if it has none.

func geluFast(dst, x []float32) bool {
	switch active {
	case AVX512:
		geluAVX512(dst, x)
	case AVX2:
		geluAVX2(dst, x)
	default:
		return false
	}
	return true
}

func geluGradFast(dx, x, dy []float32) bool {
	switch active {
	case AVX512:
		geluGradAVX512(dx, x, dy)
	case AVX2:
		geluGradAVX2(dx, x, dy)
	default:
		return false
	}
	return true
}
