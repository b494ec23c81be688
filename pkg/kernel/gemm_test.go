package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// forLevels runs a test at every level this machine has.
func forLevels(t *testing.T, f func(t *testing.T)) {
	for _, l := range Available() {
		t.Run(l.String(), func(t *testing.T) {
			defer Force(l)()
			f(t)
		})
	}
}

// guard is the width of the poisoned band around a guarded slice.
const guard = 67

// poison fills guard bands: a NaN of a payload no arithmetic makes.
var poison = math.Float32frombits(0x7fa5a5a5)

// guarded returns n elements inside poisoned bands, and a check that the bands
// are whole.
func guarded(t *testing.T, name string, n int) ([]float32, func()) {
	all := make([]float32, n+2*guard)
	for i := range all {
		all[i] = poison
	}
	return all[guard : guard+n : guard+n], func() {
		t.Helper()
		for i, v := range all {
			if (i < guard || i >= guard+n) && math.Float32bits(v) != math.Float32bits(poison) {
				t.Fatalf("%s: wrote %v outside, at %d of %d", name, v, i-guard, n)
			}
		}
	}
}

// guardedRandom is guarded filled with uniform numbers in (-1, 1), and the same
// in float64.
func guardedRandom(t *testing.T, rng *rand.Rand, name string, n int) ([]float32, []float64, func()) {
	x, check := guarded(t, name, n)
	y := make([]float64, n)
	for i := range x {
		x[i] = 2*rng.Float32() - 1
		y[i] = float64(x[i])
	}
	return x, y, check
}

// closeTo fails unless got is want within tolerance*scale, NaN for NaN and
// infinity for infinity.
func closeTo(t *testing.T, name string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	for i, w := range want {
		g := float64(got[i])
		if math.IsNaN(w) && math.IsNaN(g) || g == w {
			continue
		}
		if !(math.Abs(g-w) <= tolerance) {
			t.Fatalf("%s[%d] = %v, want %v (difference %.3g, allowed %.3g)", name, i, g, w, g-w, tolerance)
		}
	}
}

// sameBits fails unless a and b are the same bit for bit.
func sameBits(t *testing.T, name string, a, b []float32) {
	t.Helper()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s[%d]: %v and %v differ in bits", name, i, a[i], b[i])
		}
	}
}

// gemmTolerance bounds the error of a float32 sum of k products of numbers
// below 1: half an ulp of the running sum, which stays below sqrt(k) here, per
// addition, with a factor of safety of about 4.
func gemmTolerance(k int) float64 {
	return 2.5e-7 * (2 + math.Sqrt(float64(k))) * math.Sqrt(float64(k)+1)
}

func TestGemmMatchesGeneric(t *testing.T) {
	type size struct{ m, n, k int }
	sizes := []size{{48, 70, 33}, {193, 40, 513}, {100, 300, 20}, {7, 5, 1100}, {12, 12, 1024}, {3, 4, 1031}, {6, 13, 4100}, {26, 7, 2063}, {12, 32, 0}, {0, 3, 4}, {3, 0, 4}}
	for _, m := range []int{1, 5, 6, 7, 11, 12, 13, 18, 25} {
		for _, n := range []int{1, 15, 16, 17, 31, 32, 33, 50} {
			for _, k := range []int{1, 3, 4, 7, 8, 9, 21} {
				sizes = append(sizes, size{m, n, k})
			}
		}
	}
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		var s Scratch[float32]
		for i, z := range sizes {
			for trans := range 4 {
				transA, transB := trans&1 != 0, trans&2 != 0
				lda, ldb, ldc := z.k+i%3, z.n+i%5, z.n+i%4
				rowsA, rowsB := z.m, z.k
				if transA {
					lda, rowsA = z.m+i%3, z.k
				}
				if transB {
					ldb, rowsB = z.k+i%5, z.n
				}
				a, a64, checkA := guardedRandom(t, rng, "a", rowsA*lda)
				b, b64, checkB := guardedRandom(t, rng, "b", rowsB*ldb)
				c, c64, checkC := guardedRandom(t, rng, "c", z.m*ldc)
				bias, bias64, checkBias := guardedRandom(t, rng, "bias", z.m)
				e, e64 := Epilogue[float32]{RowBias: bias}, Epilogue[float64]{RowBias: bias64}
				switch (i + trans) % 4 {
				case 1:
					e.Accumulate, e64.Accumulate = true, true
				case 2:
					e.ReLU, e64.ReLU = true, true
				case 3:
					e, e64 = Epilogue[float32]{}, Epilogue[float64]{}
				}
				old := append([]float32(nil), c...)
				one := append([]float32(nil), c...)
				for _, workers := range []int{1, 2, 3} {
					copy(c, old)
					Gemm(&s, workers, transA, transB, z.m, z.n, z.k, a, lda, b, ldb, c, ldc, e)
					if workers == 1 {
						copy(one, c)
					}
					sameBits(t, fmt.Sprintf("%v workers %d", z, workers), one, c)
				}
				gemmGeneric(transA, transB, z.m, z.n, z.k, a64, lda, b64, ldb, c64, ldc, e64)
				closeTo(t, fmt.Sprintf("%+v transA=%v transB=%v %+v: c", z, transA, transB, e), c, c64, gemmTolerance(z.k))
				checkA()
				checkB()
				checkC()
				checkBias()
			}
		}
	})
}

// The bits of a product depend on its row of A and column of B alone.
func TestGemmPositionIndependent(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		const m, n, k = 29, 83, 600
		rng := rand.New(rand.NewPCG(3, 4))
		row, col := make([]float32, k), make([]float32, k)
		for l := range k {
			row[l], col[l] = rng.Float32()-.5, rng.Float32()-.5
		}
		a, b := make([]float32, m*k), make([]float32, k*n)
		for i := range m {
			copy(a[i*k:], row)
		}
		for l := range k {
			for j := range n {
				b[l*n+j] = col[l]
			}
		}
		var one [1]float32
		Gemm(nil, 1, false, false, 1, 1, k, row, k, col, 1, one[:], 1, Epilogue[float32]{})
		c := make([]float32, m*n)
		Gemm(nil, 2, false, false, m, n, k, a, k, b, n, c, n, Epilogue[float32]{})
		for i, v := range c {
			if math.Float32bits(v) != math.Float32bits(one[0]) {
				t.Fatalf("element (%d,%d) is %v, alone it is %v", i/n, i%n, v, one[0])
			}
		}
	})
}

// NaN and infinities go where the definition sends them, and nowhere else.
func TestGemmNonFinite(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		const m, n, k = 14, 37, 11
		nan, inf := float32(math.NaN()), float32(math.Inf(1))
		a, b, c := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
		for i := range a {
			a[i] = 1
		}
		for i := range b {
			b[i] = 2
		}
		a[3*k+2], a[13*k+1], a[5*k] = nan, inf, -inf
		b[4*n+36] = nan
		Gemm(nil, 1, false, false, m, n, k, a, k, b, n, c, n, Epilogue[float32]{ReLU: true})
		for i := range m {
			for j := range n {
				want := float32(2 * k)
				switch {
				case i == 3 || j == 36:
					want = nan
				case i == 13:
					want = inf
				case i == 5:
					want = 0
				}
				if got := c[i*n+j]; got != want && !(math.IsNaN(float64(got)) && math.IsNaN(float64(want))) {
					t.Fatalf("c[%d,%d] = %v, want %v", i, j, got, want)
				}
			}
		}
	})
}

func TestGemmRefusesShortSlices(t *testing.T) {
	x := func(n int) []float32 { return make([]float32, n) }
	for name, f := range map[string]func(){
		"a":   func() { Gemm(nil, 1, false, false, 3, 4, 5, x(14), 5, x(20), 4, x(12), 4, Epilogue[float32]{}) },
		"b":   func() { Gemm(nil, 1, false, true, 3, 4, 5, x(15), 5, x(19), 5, x(12), 4, Epilogue[float32]{}) },
		"c":   func() { Gemm(nil, 1, false, false, 3, 4, 5, x(15), 5, x(20), 4, x(11), 4, Epilogue[float32]{}) },
		"lda": func() { Gemm(nil, 1, true, false, 3, 4, 5, x(15), 2, x(20), 4, x(12), 4, Epilogue[float32]{}) },
		"bias": func() {
			Gemm(nil, 1, false, false, 3, 4, 5, x(15), 5, x(20), 4, x(12), 4, Epilogue[float32]{RowBias: x(2)})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s too short: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestGemmAllocatesNothing(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		var s Scratch[float32]
		a, b, c := make([]float32, 40*600), make([]float32, 600*50), make([]float32, 40*50)
		if n := testing.AllocsPerRun(10, func() {
			Gemm(&s, 1, false, true, 40, 50, 600, a, 600, b, 600, c, 50, Epilogue[float32]{})
		}); n != 0 {
			t.Errorf("%v allocations per call", n)
		}
	})
}

func BenchmarkGemm(b *testing.B) {
	for _, z := range []struct {
		m, n, k        int
		transA, transB bool
	}{
		{512, 512, 512, false, false}, {512, 512, 512, true, false}, {512, 512, 512, false, true},
		{48, 4096, 432, false, false}, {24, 1024, 216, false, false},
		{96, 1024, 48, false, false}, {192, 1024, 48, false, false}, {64, 64, 64, false, false},
		{12, 1024, 12, true, false}, {12, 12, 1024, false, true}, {64, 192, 4096, false, true},
	} {
		for _, l := range Available()[1:] {
			b.Run(fmt.Sprintf("%dx%dx%d/transA=%v,transB=%v/%v", z.m, z.n, z.k, z.transA, z.transB, l), func(b *testing.B) {
				defer Force(l)()
				var s Scratch[float32]
				x, y, c := make([]float32, z.m*z.k), make([]float32, z.k*z.n), make([]float32, z.m*z.n)
				lda, ldb := z.k, z.n
				if z.transA {
					lda = z.m
				}
				if z.transB {
					ldb = z.k
				}
				benchFlops(b, l, 2*int64(z.m)*int64(z.n)*int64(z.k), func() {
					Gemm(&s, 1, z.transA, z.transB, z.m, z.n, z.k, x, lda, y, ldb, c, z.n, Epilogue[float32]{})
				})
			})
		}
	}
}

// benchFlops times f, of flops operations, and reports the rate of its median
// run in GFLOP/s of processor time and as a share of the peak measured around it.
func benchFlops(b *testing.B, l Level, flops int64, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
	peak := Peak(l)
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		start := threadTime()
		f()
		if len(took) < cap(took) {
			took = append(took, threadTime()-start)
		}
	}
	slices.Sort(took)
	rate := float64(flops) / took[len(took)/2].Seconds()
	b.ReportMetric(rate/1e9, "GFLOP/s")
	b.ReportMetric(100*rate/max(peak, Peak(l)), "%peak")
}
