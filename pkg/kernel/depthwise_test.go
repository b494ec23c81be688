package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// naiveDepthwise calls f with the indices of output, input and weight of every
// product in a depthwise convolution.
func naiveDepthwise(d Depthwise, f func(y, x, w int)) {
	for b := range d.Batch {
		for c := range d.Channels {
			for r := range d.H {
				for q := range d.W {
					for u := range d.KH {
						for v := range d.KW {
							p, o := r+u-d.KH/2, q+v-d.KW/2
							if p >= 0 && p < d.H && o >= 0 && o < d.W {
								at := (b*d.Channels + c) * d.H
								f((at+r)*d.W+q, (at+p)*d.W+o, (c*d.KH+u)*d.KW+v)
							}
						}
					}
				}
			}
		}
	}
}

func depthwiseShapes() []Depthwise {
	var shapes []Depthwise
	for _, k := range [][2]int{{1, 1}, {3, 3}, {5, 5}, {7, 7}, {9, 9}, {1, 9}, {3, 1}} {
		for _, hw := range [][2]int{{1, 1}, {4, 4}, {1, 13}, {5, 3}, {7, 17}, {3, 33}} {
			shapes = append(shapes, Depthwise{2, 3, hw[0], hw[1], k[0], k[1]})
		}
	}
	return append(shapes, Depthwise{1, 5, 32, 32, 9, 9}, Depthwise{3, 1, 14, 14, 5, 5})
}

// TestDepthwiseMatchesNaive holds every level to the sums term by term, in
// float64, for one worker and for three, and to its slices.
func TestDepthwiseMatchesNaive(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(51, 1))
		var s Scratch[float32]
		for _, d := range depthwiseShapes() {
			n, kn := d.Batch*d.Channels*d.H*d.W, d.Channels*d.KH*d.KW
			what := fmt.Sprintf("%+v", d)
			x, checkX := banded(n, 1)
			w, checkW := banded(kn, 2)
			g, checkG := banded(n, 3)
			for _, a := range [][]float32{x, w, g} {
				for i := range a {
					a[i] = float32(rng.NormFloat64())
				}
			}
			y, dx, dw := make([]float64, n), make([]float64, n), make([]float64, kn)
			yy, dxx, dww := make([]float64, n), make([]float64, n), make([]float64, kn) // sums of sizes
			add := func(sum, size []float64, i int, a, b float32) {
				sum[i] += float64(a) * float64(b)
				size[i] += math.Abs(float64(a) * float64(b))
			}
			naiveDepthwise(d, func(o, i, k int) {
				add(y, yy, o, w[k], x[i])
				add(dx, dxx, i, w[k], g[o])
				add(dw, dww, k, g[o], x[i])
			})
			var first [3][]float32
			for _, workers := range []int{1, 3} {
				for j, r := range []struct {
					want, size []float64
					run        func(out []float32)
				}{
					{y, yy, func(out []float32) { DepthwiseForward(&s, workers, d, x, w, out) }},
					{dx, dxx, func(out []float32) { DepthwiseInputGrad(&s, workers, d, g, w, out) }},
					{dw, dww, func(out []float32) { DepthwiseWeightGrad(&s, workers, d, x, g, out) }},
				} {
					out, check := banded(len(r.want), 4)
					r.run(out)
					check(t, what)
					for i, v := range r.want {
						if !(math.Abs(float64(out[i])-v) <= 1e-6*r.size[i]+1e-30) {
							t.Fatalf("%s result %d element %d: %v, want %v", what, j, i, out[i], v)
						}
					}
					if workers == 1 {
						first[j] = out
					}
					for i, v := range first[j] {
						if !equalBits(v, out[i]) {
							t.Fatalf("%s result %d element %d: %v with 1 worker, %v with %d", what, j, i, v, out[i], workers)
						}
					}
				}
			}
			checkX(t, what)
			checkW(t, what)
			checkG(t, what)
		}
	})
}

// TestDepthwiseNaN follows a NaN and an infinity of the image to the outputs that
// see them, and no further.
func TestDepthwiseNaN(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		d := Depthwise{1, 2, 6, 7, 3, 5}
		x, w, y := make([]float32, 84), make([]float32, 30), make([]float32, 84)
		for i := range x {
			x[i] = float32(i%5) - 2
		}
		for i := range w {
			w[i] = 1 + float32(i%3)
		}
		x[2*7+3] = float32(math.NaN())
		x[42+6] = float32(math.Inf(1))
		var s Scratch[float32]
		DepthwiseForward(&s, 1, d, x, w, y)
		for c := range 2 {
			for r := range 6 {
				for q := range 7 {
					v := float64(y[(c*6+r)*7+q])
					seen := r >= 1 && r <= 3 && q >= 1 && q <= 5
					if c == 1 {
						seen = r <= 1 && q >= 4
					}
					if bad := math.IsNaN(v) || math.IsInf(v, 0); bad != seen {
						t.Errorf("channel %d row %d column %d: %v, expected it to see the special value: %v", c, r, q, v, seen)
					}
				}
			}
		}
	})
}

func TestDepthwiseRefusesEvenKernels(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	DepthwiseForward(nil, 1, Depthwise{1, 1, 4, 4, 2, 3}, make([]float64, 16), make([]float64, 6), make([]float64, 16))
}

// BenchmarkDepthwise reports a plane of 32x32 pixels in a batch of 8 with 144
// channels, forward and both gradients.
func BenchmarkDepthwise(b *testing.B) {
	for _, k := range []int{3, 5, 7, 9} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			d := Depthwise{8, 144, 32, 32, k, k}
			n := 8 * 144 * 1024
			x, w, y, dw := make([]float32, n), make([]float32, 144*k*k), make([]float32, n), make([]float32, 144*k*k)
			var s Scratch[float32]
			for b.Loop() {
				DepthwiseForward(&s, 1, d, x, w, y)
				DepthwiseInputGrad(&s, 1, d, y, w, x)
				DepthwiseWeightGrad(&s, 1, d, x, y, dw)
			}
			b.ReportMetric(3*float64(d.MACs())*2*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
