package kernel

import "time"

// Peak measures the floating-point operations per second of one core at a
// level: a loop of independent fused multiply-adds (two operations each) on
// registers alone, or, at Generic, of scalar multiply and add in plain Go. It is
// the best of ten runs, about 20 ms in all, and 0 for a level that is not
// Available.
func Peak(level Level) float64 {
	available := false
	for _, l := range Available() {
		available = available || l == level
	}
	if !available {
		return 0
	}
	const runs, length = 10, 2 * time.Millisecond
	n, best := 1000, 0.0
	for done := 0; done < runs; {
		start := time.Now()
		flops := peakRounds(level, n)
		took := time.Since(start)
		if took < length/2 {
			n *= 2
			continue
		}
		best = max(best, flops/took.Seconds())
		done++
	}
	return best
}

// peakSink keeps the generic loop's result alive.
var peakSink [8]float32

// peakGeneric runs n rounds of 8 independent scalar multiply-adds and returns
// the operations done.
func peakGeneric(n int) float64 {
	x, y := float32(0.5), float32(1)
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for range n {
		s0 = s0*x + y
		s1 = s1*x + y
		s2 = s2*x + y
		s3 = s3*x + y
		s4 = s4*x + y
		s5 = s5*x + y
		s6 = s6*x + y
		s7 = s7*x + y
	}
	peakSink = [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
	return 16 * float64(n)
}
