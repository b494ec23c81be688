//go:build !amd64

package kernel

func geluFast(dst, x []float32) bool { return false }

func geluGradFast(dx, x, dy []float32) bool { return false }
