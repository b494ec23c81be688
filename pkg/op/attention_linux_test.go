package op

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// timed reports the processor time of a call, the mean and the least, which other
// programs on the machine disturb less than time by the clock.
func timed(b *testing.B, call func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
			b.Fatal(err)
		}
		return time.Duration(t.Nano())
	}
	least, first, calls := time.Duration(1<<62), now(), 0
	for b.Loop() {
		start := now()
		call()
		least = min(least, now()-start)
		calls++
	}
	b.ReportMetric(float64(least)/1e6, "least-CPU-ms")
	b.ReportMetric(float64(now()-first)/1e6/float64(calls), "CPU-ms")
}

// attentionSizes are a vision transformer's layer (DeiT-tiny) and a small causal
// language model's.
var attentionSizes = []struct {
	b, heads, n, d int
	causal         bool
}{{4, 3, 197, 64, false}, {4, 4, 256, 32, true}}

// BenchmarkAttention times forward and backward of float32 on one thread, p = 1.5
// with distances and p = 2 without. held-MB is temporary memory and what is kept.
func BenchmarkAttention(b *testing.B) {
	rng := rand.New(rand.NewPCG(14, 74))
	for _, c := range append(attentionSizes[:2:2], struct {
		b, heads, n, d int
		causal         bool
	}{1, 1, 8192, 64, false}) {
		for _, p := range []float64{1.5, 2} {
			x := newTrial(rng, AttentionConfig{Heads: c.heads, P: []float64{p}, Eps: .1, Relative: true, Causal: c.causal}, c.b, 1, c.n, c.d)
			_, f := x.function(b)
			e := NewEnv(1)
			in, out := [][]float32{convert[float32](x.qkv)}, make([]float32, len(x.dout))
			dout, din := convert[float32](x.dout), [][]float32{make([]float32, len(x.qkv))}
			name := fmt.Sprintf("B%d-H%d-n%d-d%d/p%g", c.b, c.heads, c.n, c.d, p)
			forward := func() { f.forward(e, in, out) }
			backward := func() { f.backward(e, in, out, dout, din) }
			forward()
			backward()
			held := float64(e.ScratchBytes()+4*int64(len(f.lse))) / (1 << 20)
			for _, do := range []struct {
				name string
				run  func()
			}{{"forward", forward}, {"backward", backward}} {
				b.Run(name+"/"+do.name, func(b *testing.B) {
					b.ReportAllocs()
					timed(b, do.run)
					b.ReportMetric(held, "held-MB")
				})
			}
		}
	}
}

// BenchmarkAttentionPlain times the plain form, all pairs in memory, with the same
// matrix products: held-MB is what it makes for a backward pass of all heads.
func BenchmarkAttentionPlain(b *testing.B) {
	rng := rand.New(rand.NewPCG(15, 75))
	for _, c := range attentionSizes {
		x := newTrial(rng, AttentionConfig{Heads: c.heads, P: []float64{1.5}, Eps: .1, Causal: c.causal}, c.b, 1, c.n, c.d)
		var heads []*plain[float32]
		for i := range c.b {
			for h := range c.heads {
				a := x.plain(i, 0, h)
				heads = append(heads, &plain[float32]{cfg: a.cfg, n: a.n, d: a.d, p: a.p,
					eps: convert[float32](a.eps), q: convert[float32](a.q), k: convert[float32](a.k), v: convert[float32](a.v), f: make([]float32, a.n*a.d)})
			}
		}
		dout := convert[float32](x.dout[:c.n*c.d])
		name := fmt.Sprintf("B%d-H%d-n%d-d%d/p1.5", c.b, c.heads, c.n, c.d)
		b.Run(name+"/forward", func(b *testing.B) {
			timed(b, func() {
				for _, a := range heads {
					a.forward()
				}
			})
			b.ReportMetric(float64(len(heads)*4*c.n*c.n*4)/(1<<20), "held-MB")
		})
		b.Run(name+"/backward", func(b *testing.B) {
			timed(b, func() {
				for _, a := range heads {
					a.backward(dout)
				}
			})
		})
	}
}
