//go:build !amd64

package kernel

// These are never reached: no level above Generic exists on this architecture.

func convForwardFast(*Scratch[float32], int, Conv, []float32, []float32, []float32, []float32, bool) {
	panic("kernel: no assembly on this architecture")
}

func convInputGradFast(*Scratch[float32], int, Conv, []float32, []float32, []float32) {
	panic("kernel: no assembly on this architecture")
}

func convWeightGradFast(*Scratch[float32], int, Conv, []float32, []float32, []float32) {
	panic("kernel: no assembly on this architecture")
}
