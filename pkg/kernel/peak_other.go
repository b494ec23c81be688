//go:build !amd64

package kernel

// peakRounds runs n rounds of the plain loop and returns the operations done.
func peakRounds(_ Level, n int) float64 { return peakGeneric(n) }
