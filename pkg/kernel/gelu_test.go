package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func geluSlope(x float64) float64 {
	return .5*math.Erfc(-x/math.Sqrt2) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
}

// TestGeluPrecision holds both kernels to their documented errors, on a fine grid
// of arguments and on random ones.
func TestGeluPrecision(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(31, 32))
		const n = 100_000
		x, y, dx, one := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i], one[i] = float32(i-n/2)*(16./(n/2)), 1
			if i%3 == 0 {
				x[i] = float32(rng.NormFloat64() * math.Exp(6*rng.NormFloat64()))
			}
		}
		Gelu(y, x)
		GeluGrad(dx, x, one)
		worst, worstSlope := 0., 0.
		for i, v := range x {
			a := float64(v)
			want := a * .5 * math.Erfc(-a/math.Sqrt2)
			err := math.Abs(float64(y[i]) - want)
			if !(err <= 5e-8+6e-8*math.Abs(want)) {
				t.Fatalf("Gelu(%g) = %g, want %g", v, y[i], want)
			}
			slope := math.Abs(float64(dx[i]) - geluSlope(a))
			if !(slope <= 2e-7) {
				t.Fatalf("slope at %g is %g, want %g", v, dx[i], geluSlope(a))
			}
			if math.Abs(a) < 4 {
				worst = max(worst, err)
			}
			worstSlope = max(worstSlope, slope)
		}
		t.Logf("largest errors: value %.2g (below 4), slope %.2g", worst, worstSlope)
	})
}

// TestGeluMatchesReference runs odd lengths between guard bands, in place and
// apart, with values that have rules of their own, and every element alone: it
// must have the bits it has among others.
func TestGeluMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(33, 34))
		for _, n := range sizes() {
			what := fmt.Sprintf("n %d", n)
			x, checkX := banded(n, n%3)
			dy, checkDY := banded(n, n%5)
			y, checkY := banded(n, n%7)
			dx, checkDX := banded(n, n%2)
			for i := range n {
				x[i], dy[i] = float32(rng.NormFloat64()*3), float32(rng.NormFloat64())
				if rng.IntN(4) == 0 {
					x[i] = hostile[rng.IntN(len(hostile))]
				}
			}
			Gelu(y, x)
			GeluGrad(dx, x, dy)
			for _, check := range []func(*testing.T, string){checkX, checkDY, checkY, checkDX} {
				check(t, what)
			}
			want, wantGrad := make([]float64, n), make([]float64, n)
			geluGeneric(want, widen(x))
			geluGradGeneric(wantGrad, widen(x), widen(dy))
			for i := range n {
				if w := float32(want[i]); !equalBits(y[i], w) && !(math.Abs(float64(y[i])-want[i]) <= 5e-8+6e-8*math.Abs(want[i])) {
					t.Fatalf("%s: Gelu(%g) = %g, want %g", what, x[i], y[i], w)
				}
				if w := float32(wantGrad[i]); !equalBits(dx[i], w) && !(math.Abs(float64(dx[i])-wantGrad[i]) <= 3e-7*math.Abs(float64(dy[i]))) {
					t.Fatalf("%s: gradient at %g of %g is %g, want %g", what, x[i], dy[i], dx[i], w)
				}
			}
			for i := 0; i < n; i += 1 + n/20 {
				var a, b [1]float32
				Gelu(a[:], x[i:i+1])
				GeluGrad(b[:], x[i:i+1], dy[i:i+1])
				if !equalBits(a[0], y[i]) || !equalBits(b[0], dx[i]) {
					t.Fatalf("%s: element %d is %g, %g alone and %g, %g among others", what, i, a[0], b[0], y[i], dx[i])
				}
			}
			inX, inDY := append([]float32(nil), x...), append([]float32(nil), dy...)
			GeluGrad(inDY, x, inDY)
			GeluGrad(inX, inX, dy)
			for i := range n {
				if !equalBits(inX[i], dx[i]) || !equalBits(inDY[i], dx[i]) {
					t.Fatalf("%s: gradient %d in place is %g and %g, apart %g", what, i, inX[i], inDY[i], dx[i])
				}
			}
			Gelu(x, x)
			for i := range n {
				if !equalBits(x[i], y[i]) {
					t.Fatalf("%s: element %d in place is %g, apart %g", what, i, x[i], y[i])
				}
			}
		}
	})
}

func BenchmarkGelu(b *testing.B) {
	const n = 1 << 12
	x, y := make([]float32, n), make([]float32, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for _, l := range Available() {
		b.Run(l.String(), func(b *testing.B) {
			defer Force(l)()
			b.SetBytes(n)
			for b.Loop() {
				Gelu(y, x)
			}
		})
		b.Run(l.String()+"/grad", func(b *testing.B) {
			defer Force(l)()
			b.SetBytes(n)
			for b.Loop() {
				GeluGrad(y, x, x)
			}
		})
	}
}
