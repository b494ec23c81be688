//go:build !amd64

package kernel

func mulFast(dst, a, b []float32) bool { return false }

func mulAddFast(dst []float32, scale float32, a, b []float32) bool { return false }

func axpyFast(y []float32, alpha float32, x []float32) bool { return false }

func scaleFast(x []float32, alpha float32) bool { return false }

func expFast(dst, x []float32) bool { return false }

func expNegClipFast(dst []float32, clip float32, x []float32) bool { return false }

func logFast(dst, x []float32) bool { return false }

func reciprocalFast(dst, x []float32) bool { return false }

func rsqrtFast(dst, x []float32) bool { return false }

func reluFast(dst, x []float32) bool { return false }

func reluGradFast(dx, y, dy []float32) bool { return false }

func softmaxRowsFast(dst, x *float32, rows, cols int) bool { return false }

func softmaxRowsGradFast(dx, y, dy *float32, rows, cols int) bool { return false }

func linearCombinationFast(dst []float32, coef *float32, src *[]float32, n int) bool { return false }

func dotFast(x, y []float32) (float64, bool) { return 0, false }

func sumFast(x []float32) (float64, bool) { return 0, false }
