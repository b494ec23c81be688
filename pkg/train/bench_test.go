package train

import (
	"testing"

	"github.com/unrollnet/unrollnet/pkg/model"
)

// BenchmarkStep is one optimiser step of the default network on four 64x64
// patches, batches made beforehand.
func BenchmarkStep(b *testing.B) {
	cfg := experiment(1000)
	var err error
	if cfg.Model, err = (model.Config{}).Resolved(); err != nil {
		b.Fatal(err)
	}
	cfg.Data.Patch = 64
	cfg.Train.Batch, cfg.Train.MicroBatch, cfg.Train.Workers = 4, 2, 1
	p, err := build(cfg)
	if err != nil {
		b.Fatal(err)
	}
	r, err := newRun(cfg, Options{}.withDefaults(), p)
	if err != nil {
		b.Fatal(err)
	}
	var inputs [][]float32
	for _, n := range r.inputSizes() {
		inputs = append(inputs, make([]float32, n))
	}
	if err := r.fill(0, inputs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.step(inputs); err != nil {
			b.Fatal(err)
		}
	}
}
