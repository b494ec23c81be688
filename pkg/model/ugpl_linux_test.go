package model

import (
	"fmt"
	"syscall"
	"testing"
)

// processorTime returns what the process has used of the processors, in seconds.
func processorTime(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// BenchmarkUGPL measures the processor time of forward, and of a training step,
// on 64x64 patches, beside uglr's with as many steps in one and in two layers.
// The networks take turns, so that what else the machine does meets all alike.
func BenchmarkUGPL(b *testing.B) {
	const batch = 4
	names := []string{"uglr", "uglr2x4", "ugpl"}
	cfgs := []Config{{}, {CGLayers: 2, CGSteps: 4}, {Type: "ugpl"}}
	for _, train := range []bool{false, true} {
		b.Run(fmt.Sprintf("train=%v", train), func(b *testing.B) {
			used := make([]float64, len(cfgs))
			machines := make([]interface {
				RunAll() error
				Reset()
				Close() error
			}, len(cfgs))
			for i, cfg := range cfgs {
				machines[i] = stepMachine(b, cfg, batch, 64, train)
				defer machines[i].Close()
			}
			for k := -1; k < b.N; k++ { // the first round, which allocates, does not count
				for i, vm := range machines {
					start := processorTime(b)
					if err := vm.RunAll(); err != nil {
						b.Fatal(err)
					}
					vm.Reset()
					if k >= 0 {
						used[i] += processorTime(b) - start
					}
				}
			}
			for i, name := range names {
				b.ReportMetric(1000*used[i]/float64(b.N*batch), name+"-cpu-ms/patch")
			}
		})
	}
}
