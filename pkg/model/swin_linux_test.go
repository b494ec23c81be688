package model

import (
	"fmt"
	"testing"
)

// BenchmarkSwin reports the processor time, in milliseconds, of a patch of 64x64
// pixels, forward and as a training step. UNROLLNET_KERNEL chooses the kernels.
func BenchmarkSwin(b *testing.B) {
	const batch = 4
	for _, preset := range []string{"default", "base"} {
		for _, train := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/train=%v", preset, train), func(b *testing.B) {
				vm := stepMachine(b, Config{Type: "swin", Preset: preset}, batch, 64, train)
				defer vm.Close()
				step := func() {
					if err := vm.RunAll(); err != nil {
						b.Fatal(err)
					}
					vm.Reset()
				}
				step() // the first allocates
				b.ReportAllocs()
				start := processorTime(b)
				for b.Loop() {
					step()
				}
				b.ReportMetric((processorTime(b)-start)*1000/float64(b.N*batch), "cpu-ms/patch")
			})
		}
	}
}
