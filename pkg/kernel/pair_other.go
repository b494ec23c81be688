//go:build !amd64

package kernel

func pairDistancesFast(x, g, q, add, low []float32, near float32, rows, cols int) bool { return false }

func pairScoresFast(s, r []float32, kappa, h float32, rows, cols int) bool { return false }

func softmaxStepFast(x, top, sum, scale []float32, rows, cols int) bool { return false }

func pairGradFast(s, r, dw, lse, t, dp, colE, rowE []float32, kappa, h float32, rows, cols int) bool {
	return false
}
