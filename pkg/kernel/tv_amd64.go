package kernel

import "unsafe"

// The functions below run the assembly of the active level on slices that have
// been checked and are not empty, or report false if it has none or the
// recurrence is too long for it.

func tvFluxFast(c *TV[float32], dst, w []float32, a, b [][]float32) bool {
	if active == Generic || len(a) > maxTVLayers {
		return false
	}
	var buf [maxTVLayers]tvStep[float32]
	steps := c.steps(buf[:], len(a))
	if active == AVX512 {
		tvFluxAVX512(&dst[0], &w[0], &a[0], &b[0], &steps[0].shrink, len(a), len(dst))
	} else {
		tvFluxAVX2(&dst[0], &w[0], &a[0], &b[0], &steps[0].shrink, len(a), len(dst))
	}
	return true
}

// The work buffer of the adjoint holds a record a layer of these vectors:
// constants and sums in every lane, then what the assembly keeps of the edges it
// is at. _gen/tv has the same numbers.
const (
	tvSlotShrink = iota
	tvSlotRatio
	tvSlotRatio1
	tvSlotSumShrink
	tvSlotSumRatio
	tvSlotEdges
	tvSlots = tvSlotEdges + 16
)

// tvTerms is how many edges a lane sums in float32.
const tvTerms = 256

func tvFluxGradFast(c *TV[float32], l int, dst, dw []float32, dgamma []float64, w []float32, a, b, ga, gb [][]float32) bool {
	if active == Generic || len(a) > maxTVLayers {
		return false
	}
	const cacheLine = 16 // elements
	lanes := 8
	if active == AVX512 {
		lanes = 16
	}
	var memory [maxTVLayers*tvSlots*16 + cacheLine - 1]float32
	// An address counts only for speed: a vector should not straddle two lines.
	skip := -(uintptr(unsafe.Pointer(&memory[0])) / 4) % cacheLine
	work := memory[skip:]

	var stepBuf [maxTVLayers]tvStep[float32]
	steps := c.steps(stepBuf[:], len(a))
	slot := func(layer, k int) []float32 { return work[(layer*tvSlots+k)*lanes:][:lanes] }
	for k, s := range steps {
		shrink, ratio, ratio1 := slot(k, tvSlotShrink), slot(k, tvSlotRatio), slot(k, tvSlotRatio1)
		for i := range shrink {
			shrink[i], ratio[i], ratio1[i] = s.shrink, s.ratio, 1+s.ratio
		}
	}

	n := len(dst)
	if l > 0 {
		if active == AVX512 {
			tvFluxGradAVX512(&dst[0], &w[0], &a[0], &b[0], &ga[0], &gb[0], &work[0], l, len(a), n)
		} else {
			tvFluxGradAVX2(&dst[0], &w[0], &a[0], &b[0], &ga[0], &gb[0], &work[0], l, len(a), n)
		}
		return true
	}
	var sums [maxTVLayers]tvSums
	for lo := 0; lo < n; lo += tvTerms * lanes {
		m := min(tvTerms*lanes, n-lo)
		if active == AVX512 {
			tvFluxGradFirstAVX512(&dst[0], &dw[0], &w[0], &a[0], &b[0], &ga[0], &gb[0], &work[0], len(a), lo, m)
		} else {
			tvFluxGradFirstAVX2(&dst[0], &dw[0], &w[0], &a[0], &b[0], &ga[0], &gb[0], &work[0], len(a), lo, m)
		}
		for k := 1; k < len(a); k++ {
			shrink, ratio := slot(k, tvSlotSumShrink), slot(k, tvSlotSumRatio)
			for i := range shrink {
				sums[k].shrink -= float64(shrink[i])
				sums[k].ratio += float64(ratio[i])
			}
			clear(shrink)
			clear(ratio)
		}
	}
	c.addGamma(dgamma, sums[:len(a)])
	return true
}
