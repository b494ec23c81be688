package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSoftmaxMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(21, 22))
		for _, cols := range []int{1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 24, 25, 31, 32, 33, 48, 67, 200} {
			for _, rows := range []int{1, 2, 5} {
				x, checkX := banded(rows*cols, cols%3)
				y, checkY := banded(rows*cols, cols%5)
				dy, _ := banded(rows*cols, 1)
				dx, checkDX := banded(rows*cols, 2)
				for i := range x {
					x[i], dy[i] = float32(rng.NormFloat64()*10), float32(rng.NormFloat64())
				}
				x[0] = float32(math.Inf(-1))
				if cols == 1 {
					x[0] = -500
				}
				SoftmaxRows(y, x, rows, cols)
				SoftmaxRowsGrad(dx, y, dy, rows, cols)
				checkX(t, "x")
				checkY(t, "y")
				checkDX(t, "dx")
				want, wantGrad := make([]float64, rows*cols), make([]float64, rows*cols)
				softmaxRowsGeneric(want, widen(x), rows, cols)
				softmaxRowsGradGeneric(wantGrad, widen(y), widen(dy), rows, cols)
				for i := range want {
					// The argument of the exponential is rounded: its size times half a
					// unit in the last place is what the result may be off.
					if !(math.Abs(float64(y[i])-want[i]) <= 5e-6*want[i]+1e-38) {
						t.Fatalf("%dx%d: y[%d] = %g, want %g", rows, cols, i, y[i], want[i])
					}
					r := i / cols * cols
					var size float64
					for j := range cols {
						size += math.Abs(float64(y[r+j]) * float64(dy[r+j]))
					}
					if !(math.Abs(float64(dx[i])-wantGrad[i]) <= 1e-6*float64(y[i])*(size+math.Abs(float64(dy[i])))+1e-44) {
						t.Fatalf("%dx%d: dx[%d] = %g, want %g", rows, cols, i, dx[i], wantGrad[i])
					}
				}
			}
		}
	})
}

func TestSoftmaxOfHostileRows(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	forLevels(t, func(t *testing.T) {
		for _, cols := range []int{3, 16, 20, 40} {
			for at := range cols {
				for name, v := range map[string]float32{"NaN": nan, "+Inf": inf} {
					x := make([]float32, 3*cols)
					x[cols+at] = v
					SoftmaxRows(x, x, 3, cols)
					for i, y := range x {
						if bad := i/cols == 1; bad != (y != y) {
							t.Fatalf("%d columns, %s at %d: [%d] = %g", cols, name, at, i, y)
						}
					}
				}
			}
			x := make([]float32, cols)
			for i := range x {
				x[i] = -inf
			}
			SoftmaxRows(x, x, 1, cols)
			for i, y := range x {
				if y == y {
					t.Fatalf("all -Inf: [%d] = %g, want NaN", i, y)
				}
			}
			// Sums of exponentials far beyond float32 on both sides.
			for i := range x {
				x[i] = 3e38
			}
			x[0] = -3e38
			SoftmaxRows(x, x, 1, cols)
			if x[0] != 0 || !(math.Abs(float64(x[1])*float64(cols-1)-1) < 1e-6) {
				t.Fatalf("large arguments: %g, %g", x[0], x[1])
			}
		}
	})
}
