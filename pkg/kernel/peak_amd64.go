package kernel

// peakRounds runs n rounds of the level's peak loop and returns the operations
// done.
func peakRounds(l Level, n int) float64 {
	switch l {
	case AVX2:
		peakavx2(n)
		return 2 * 12 * 8 * float64(n)
	case AVX512:
		peakavx512(n)
		return 2 * 24 * 16 * float64(n)
	}
	return peakGeneric(n)
}
