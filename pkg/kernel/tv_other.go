//go:build !amd64

package kernel

func tvFluxFast(c *TV[float32], dst, w []float32, a, b [][]float32) bool { return false }

func tvFluxGradFast(c *TV[float32], l int, dst, dw []float32, dgamma []float64, w []float32, a, b, ga, gb [][]float32) bool {
	return false
}
