package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// band is the width of the guard bands of banded.
const band = 37

// banded returns a slice of n elements at an odd place between guard bands, and
// a check that the bands are untouched.
func banded(n, shift int) ([]float32, func(t *testing.T, what string)) {
	all := make([]float32, n+2*band+shift)
	for i := range all {
		all[i] = poison
	}
	lo := band + shift
	return all[lo : lo+n : lo+n], func(t *testing.T, what string) {
		t.Helper()
		for i, v := range all {
			if (i < lo || i >= lo+n) && math.Float32bits(v) != math.Float32bits(poison) {
				t.Fatalf("%s: wrote element %d of %d", what, i-lo, n)
			}
		}
	}
}

func sizes() []int {
	s := []int{100, 127, 128, 129, 255, 256, 257, 1000, 4099, 16500}
	for n := range 68 {
		s = append(s, n)
	}
	return s
}

// hostile are values with rules of their own.
var hostile = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
	math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, math.MaxFloat32, -math.MaxFloat32, 1e-39, 0x1p-126,
	88.7, 88.73, 89, 200, -87.4, -103.9, -104.1, -200, 0.70710677, 1.4142135, 0.99999994, 1.0000001,
}

const scalar = 0.37

// elementwiseKernels lists kernels that compute dst[i] from dst[i], a[i], b[i].
// size bounds the terms of the result, whose rounding errors add up to tol times
// it; exact kernels have tol 0 and must give the bits of the generic twin.
var elementwiseKernels = []struct {
	name    string
	fast    func(dst, a, b []float32)
	generic func(dst, a, b []float32)
	wide    func(dst, a, b []float64)
	size    func(d, a, b float64) float64
	tol     float64
}{
	{"Mul", Mul[float32], mulGeneric[float32], mulGeneric[float64], nil, 0},
	{"MulAdd", func(d, a, b []float32) { MulAdd(d, scalar, a, b) }, func(d, a, b []float32) { mulAddGeneric(d, scalar, a, b) },
		func(d, a, b []float64) { mulAddGeneric(d, float64(float32(scalar)), a, b) },
		// scale*a may be subnormal: half its step of 2^-149 is multiplied by b.
		func(d, a, b float64) float64 { return math.Abs(d) + math.Abs(scalar*a*b) + 1e-38*math.Abs(b) }, 2e-7},
	{"Axpy", func(d, a, b []float32) { Axpy(scalar, a, d) }, func(d, a, b []float32) { axpyGeneric(scalar, a, d) },
		func(d, a, b []float64) { axpyGeneric(float64(float32(scalar)), a, d) },
		func(d, a, b float64) float64 { return math.Abs(d) + math.Abs(scalar*a) }, 2e-7},
	{"Scale", func(d, a, b []float32) { Scale(scalar, d) }, func(d, a, b []float32) { scaleGeneric(scalar, d) }, nil, nil, 0},
	{"Exp", func(d, a, b []float32) { Exp(d, a) }, func(d, a, b []float32) { expGeneric(d, a) }, func(d, a, b []float64) { expGeneric(d, a) },
		func(d, a, b float64) float64 { return math.Exp(a) + 1e-38 }, 1e-7},
	{"Log", func(d, a, b []float32) { Log(d, a) }, func(d, a, b []float32) { logGeneric(d, a) }, func(d, a, b []float64) { logGeneric(d, a) },
		func(d, a, b float64) float64 { return math.Abs(math.Log(a)) }, 1e-7},
	{"ExpNegClip", func(d, a, b []float32) { ExpNegClip(d, a, 2.5) }, func(d, a, b []float32) { expNegClipGeneric(d, a, 2.5) },
		func(d, a, b []float64) { expNegClipGeneric(d, a, 2.5) },
		func(d, a, b float64) float64 { return math.Exp(-min(a, 2.5)) + 1e-38 }, 1e-7},
	{"Reciprocal", func(d, a, b []float32) { Reciprocal(d, a) }, func(d, a, b []float32) { reciprocalGeneric(d, a) }, nil, nil, 0},
	{"Rsqrt", func(d, a, b []float32) { Rsqrt(d, a) }, func(d, a, b []float32) { rsqrtGeneric(d, a) }, nil, nil, 0},
	{"ReLU", func(d, a, b []float32) { ReLU(d, a) }, func(d, a, b []float32) { reluGeneric(d, a) }, nil, nil, 0},
	{"ReLUGrad", ReLUGrad[float32], reluGradGeneric[float32], nil, nil, 0},
	{"LinearCombination1", func(d, a, b []float32) { LinearCombination(d, []float32{scalar}, a) },
		func(d, a, b []float32) { linearCombinationGeneric(d, []float32{scalar}, [][]float32{a}) },
		func(d, a, b []float64) {
			linearCombinationGeneric(d, []float64{float64(float32(scalar))}, [][]float64{a})
		},
		func(d, a, b float64) float64 { return scalar*math.Abs(a) + 1e-38 }, 1e-7},
	{"LinearCombination3", func(d, a, b []float32) { LinearCombination(d, []float32{1, scalar, -2}, a, d, b) },
		func(d, a, b []float32) { linearCombinationGeneric(d, []float32{1, scalar, -2}, [][]float32{a, d, b}) },
		func(d, a, b []float64) {
			linearCombinationGeneric(d, []float64{1, float64(float32(scalar)), -2}, [][]float64{a, d, b})
		},
		func(d, a, b float64) float64 { return math.Abs(a) + scalar*math.Abs(d) + 2*math.Abs(b) + 1e-38 }, 2e-7},
}

func equalBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestElementwiseMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for _, k := range elementwiseKernels {
			for _, n := range sizes() {
				for _, special := range []bool{false, true} {
					what := fmt.Sprintf("%s n %d", k.name, n)
					d, checkD := banded(n, n%3)
					a, checkA := banded(n, n%5)
					b, checkB := banded(n, n%7)
					for i := range n {
						d[i], a[i], b[i] = float32(rng.NormFloat64()*3), float32(rng.NormFloat64()*3), float32(rng.NormFloat64()*3)
						if special {
							a[i], b[i] = hostile[rng.IntN(len(hostile))], hostile[rng.IntN(len(hostile))]
						}
					}
					before := append([]float32(nil), d...)
					want := append([]float32(nil), d...)
					k.fast(d, a, b)
					checkD(t, what+" dst")
					checkA(t, what+" a")
					checkB(t, what+" b")
					k.generic(want, a, b)
					var exact []float64
					if k.wide != nil {
						exact = widen(before)
						k.wide(exact, widen(a), widen(b))
					}
					for i := range n {
						// A fused product is not rounded and does not overflow on the way.
						if equalBits(d[i], want[i]) || exact != nil && equalBits(d[i], float32(exact[i])) {
							continue
						}
						if k.tol == 0 || math.IsNaN(float64(d[i])) != math.IsNaN(float64(want[i])) ||
							math.Abs(float64(d[i])-exact[i]) > k.tol*k.size(float64(before[i]), float64(a[i]), float64(b[i])) {
							t.Fatalf("%s: [%d] of %g, %g, %g is %g, want %g", what, i, before[i], a[i], b[i], d[i], want[i])
						}
					}
				}
			}
		}
	})
}

// TestElementwiseIsPositionIndependent computes every element alone: it must have
// the bits it has among others.
func TestElementwiseIsPositionIndependent(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		const n = 211
		a, b, c := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range n {
			a[i], b[i], c[i] = float32(rng.NormFloat64()*20), float32(rng.NormFloat64()*3), float32(rng.NormFloat64()*3)
		}
		for _, k := range elementwiseKernels {
			whole := append([]float32(nil), c...)
			k.fast(whole, a, b)
			for i := range n {
				for _, m := range []int{1, 3, 20} {
					if i+m > n {
						continue
					}
					part := append([]float32(nil), c[i:i+m]...)
					k.fast(part, a[i:i+m], b[i:i+m])
					for j := range part {
						if !equalBits(part[j], whole[i+j]) {
							t.Fatalf("%s: element %d is %g among %d, %g among %d", k.name, i+j, part[j], m, whole[i+j], n)
						}
					}
				}
			}
		}
	})
}

func TestElementwiseInPlace(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for _, n := range []int{1, 15, 16, 67, 300} {
			a, b := make([]float32, n), make([]float32, n)
			for i := range n {
				a[i], b[i] = float32(rng.NormFloat64()*3), float32(rng.NormFloat64()*3)
			}
			for name, f := range map[string]func(d, a, b []float32){
				"Mul":                 Mul[float32],
				"Mul into b":          func(d, a, b []float32) { Mul(d, b, a) },
				"Exp":                 func(d, a, b []float32) { Exp(d, a) },
				"Log":                 func(d, a, b []float32) { Log(d, a) },
				"ExpNegClip":          func(d, a, b []float32) { ExpNegClip(d, a, 1) },
				"Reciprocal":          func(d, a, b []float32) { Reciprocal(d, a) },
				"Rsqrt":               func(d, a, b []float32) { Rsqrt(d, a) },
				"ReLU":                func(d, a, b []float32) { ReLU(d, a) },
				"ReLUGrad":            func(d, a, b []float32) { ReLUGrad(d, b, a) },
				"LinearCombination":   func(d, a, b []float32) { LinearCombination(d, []float32{2, 3, 4}, b, a, b) },
				"SoftmaxRows":         func(d, a, b []float32) { SoftmaxRows(d, a, 1, n) },
				"SoftmaxRowsGrad":     func(d, a, b []float32) { SoftmaxRowsGrad(d, b, a, 1, n) },
				"SoftmaxRowsGrad y":   func(d, a, b []float32) { SoftmaxRowsGrad(d, a, b, 1, n) },
				"SoftmaxRows of rows": func(d, a, b []float32) { SoftmaxRows(d, a, n, 1) },
			} {
				apart, within := make([]float32, n), append([]float32(nil), a...)
				f(apart, a, b)
				f(within, within, b)
				for i := range n {
					if !equalBits(apart[i], within[i]) {
						t.Fatalf("%s n %d: [%d] %g apart, %g in place", name, n, i, apart[i], within[i])
					}
				}
			}
		}
	})
}

func TestLinearCombinationOfManySources(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for _, terms := range []int{0, 1, 2, 5, 24, 40} {
			for _, n := range []int{0, 1, 16, 63, 64, 65, 500} {
				dst, check := banded(n, 1)
				coef, src, wide, coef64 := make([]float32, terms), make([][]float32, terms), make([][]float64, terms), make([]float64, terms)
				for j := range terms {
					coef[j] = float32(rng.NormFloat64())
					coef64[j] = float64(coef[j])
					src[j], _ = banded(n, j%5)
					for i := range n {
						src[j][i] = float32(rng.NormFloat64())
					}
					wide[j] = widen(src[j])
				}
				LinearCombination(dst, coef, src...)
				check(t, "LinearCombination")
				want := make([]float64, n)
				linearCombinationGeneric(want, coef64, wide)
				for i := range n {
					size := 0.
					for j := range terms {
						size += math.Abs(coef64[j] * wide[j][i])
					}
					if !(math.Abs(float64(dst[i])-want[i]) <= 3e-6*size) {
						t.Fatalf("%d terms, n %d: [%d] %g, want %g", terms, n, i, dst[i], want[i])
					}
				}
			}
		}
	})
}

func TestReductionsMatchReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 12))
		for _, n := range append(sizes(), 100_003) {
			x, checkX := banded(n, n%3)
			y, checkY := banded(n, n%5)
			var size, total float64
			for i := range n {
				x[i], y[i] = float32(rng.Float64()), float32(rng.Float64())
				total += float64(x[i])
				size += float64(x[i]) * float64(y[i])
			}
			d, s := Dot(x, y), Sum(x)
			checkX(t, "x")
			checkY(t, "y")
			if !(math.Abs(d-size) <= 1e-6*size) {
				t.Errorf("Dot of %d: %g, want %g", n, d, size)
			}
			if !(math.Abs(s-total) <= 1e-6*total) {
				t.Errorf("Sum of %d: %g, want %g", n, s, total)
			}
			// The same elements at another address: the same bits.
			moved, _ := banded(n, 5)
			copy(moved, x)
			if Dot(moved, y) != d || Sum(moved) != s {
				t.Errorf("n %d: the sum depends on the address", n)
			}
			// Every element counts once, and NaN anywhere shows.
			if n > 0 {
				i := rng.IntN(n)
				x[i] += 1000
				if got := Sum(x) - s; !(math.Abs(got-1000) <= 1e-3) {
					t.Errorf("Sum of %d: 1000 more at %d adds %g", n, i, got)
				}
				x[i] = float32(math.NaN())
				if Sum(x) == Sum(x) || Dot(x, y) == Dot(x, y) {
					t.Errorf("n %d: NaN at %d is lost", n, i)
				}
			}
		}
	})
}

// TestExpLogPrecision holds Exp and Log to their documented errors over the whole
// range of float32; UNROLLNET_EXHAUSTIVE=1 takes every number instead of one in
// 1009.
func TestExpLogPrecision(t *testing.T) {
	step := uint64(1009)
	if os.Getenv("UNROLLNET_EXHAUSTIVE") != "" {
		step = 1
	}
	forLevels(t, func(t *testing.T) {
		if Active() == Generic && step == 1 {
			t.Skip("the generic twin rounds the float64 function")
		}
		const n = 4096
		x, e, l, c := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		var worstExp, worstLog, worstSub float64
		var atExp, atLog float32
		for bits := uint64(0); bits < 1<<32; {
			m := 0
			for ; m < n && bits < 1<<32; m++ {
				x[m] = math.Float32frombits(uint32(bits))
				bits += step
			}
			Exp(e[:m], x[:m])
			Log(l[:m], x[:m])
			ExpNegClip(c[:m], x[:m], 2)
			for i, v := range x[:m] {
				want := math.Exp(float64(v))
				switch r := float32(want); {
				case want != want || r == 0 || math.IsInf(float64(r), 0):
					if !equalBits(e[i], r) {
						t.Fatalf("Exp(%g) = %g, want %g", v, e[i], r)
					}
				case want < 0x1p-126:
					worstSub = max(worstSub, math.Abs(float64(e[i])-want)/math.SmallestNonzeroFloat32)
				default:
					if err := math.Abs(float64(e[i])-want) / want; err > worstExp || err != err {
						worstExp, atExp = err, v
					}
				}
				if v <= 2 && !equalBits(c[i], float32(math.Exp(-float64(v)))) || v > 2 {
					w := math.Exp(-math.Min(float64(v), 2))
					if r := float32(w); r != 0 && !math.IsInf(float64(r), 0) && w >= 0x1p-126 && !(math.Abs(float64(c[i])-w) <= 1e-7*w) {
						t.Fatalf("ExpNegClip(%g, 2) = %g, want %g", v, c[i], w)
					}
				}
				want = math.Log(float64(v))
				if want != want || want == 0 || math.IsInf(want, 0) {
					if !equalBits(l[i], float32(want)) {
						t.Fatalf("Log(%g) = %g, want %g", v, l[i], want)
					}
				} else if err := math.Abs(float64(l[i])-want) / math.Abs(want); err > worstLog || err != err {
					worstLog, atLog = err, v
				}
			}
		}
		t.Logf("Exp: relative error %.3g at %g, subnormal results %.3g steps; Log: %.3g at %g", worstExp, atExp, worstSub, worstLog, atLog)
		if !(worstExp < 1e-7 && worstSub <= 1 && worstLog < 1e-7) {
			t.Errorf("beyond the documented errors")
		}
	})
}

// TestExpLogAgreeBetweenLevels holds every assembly level to the bits of the
// first, as they do the same operations; UNROLLNET_EXHAUSTIVE=1 takes every
// number.
func TestExpLogAgreeBetweenLevels(t *testing.T) {
	levels := Available()
	if len(levels) < 3 {
		t.Skip("fewer than two levels of assembly on this machine")
	}
	step := uint64(1009)
	if os.Getenv("UNROLLNET_EXHAUSTIVE") != "" {
		step = 1
	}
	const n = 4096
	x := make([]float32, n)
	var results [2][3][n]float32
	for bits := uint64(0); bits < 1<<32; {
		m := 0
		for ; m < n && bits < 1<<32; m++ {
			x[m] = math.Float32frombits(uint32(bits))
			bits += step
		}
		for k, l := range levels[1:3] {
			restore := Force(l)
			r := &results[k]
			Exp(r[0][:m], x[:m])
			Log(r[1][:m], x[:m])
			ExpNegClip(r[2][:m], x[:m], 5)
			restore()
		}
		for f, name := range []string{"Exp", "Log", "ExpNegClip"} {
			a, b := &results[0][f], &results[1][f]
			for i := range m {
				if !equalBits(a[i], b[i]) {
					t.Fatalf("%s(%g): %g at %v, %g at %v", name, x[i], a[i], levels[1], b[i], levels[2])
				}
			}
		}
	}
}

func TestVectorAllocatesNothing(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		const n = 70
		a, b, c := make([]float32, n), make([]float32, n), make([]float32, n)
		alpha := float32(0.5)
		for name, f := range map[string]func(){
			"LinearCombination2": func() { LinearCombination(a, []float32{1, -alpha}, b, c) },
			"LinearCombination3": func() { LinearCombination(a, []float32{1, -alpha, alpha}, a, b, c) },
			"MulAdd":             func() { MulAdd(a, alpha, b, c) },
			"Axpy":               func() { Axpy(alpha, b, a) },
			"Mul":                func() { Mul(a, b, c) },
			"Scale":              func() { Scale(alpha, a) },
			"Dot":                func() { alpha += float32(Dot(a, b)) * 1e-9 },
			"Sum":                func() { alpha += float32(Sum(a)) * 1e-9 },
			"Exp":                func() { Exp(c, b) },
			"ExpNegClip":         func() { ExpNegClip(c, b, alpha) },
			"SoftmaxRows":        func() { SoftmaxRows(c, b, 7, 10) },
			"SoftmaxRowsGrad":    func() { SoftmaxRowsGrad(c, b, a, 7, 10) },
			"ReLUGrad":           func() { ReLUGrad(c, b, a) },
		} {
			if k := testing.AllocsPerRun(10, f); k != 0 {
				t.Errorf("%s: %v allocations", name, k)
			}
		}
	})
}

func TestVectorChecksLengths(t *testing.T) {
	long, short := make([]float32, 20), make([]float32, 19)
	for name, f := range map[string]func(){
		"Mul":                  func() { Mul(long, short, long) },
		"Axpy":                 func() { Axpy(1, short, long) },
		"Dot":                  func() { Dot(long, short) },
		"Exp":                  func() { Exp(long, short[:19:19]) },
		"LinearCombination":    func() { LinearCombination(long, []float32{1, 1}, long, short[:19:19]) },
		"LinearCombination n":  func() { LinearCombination(long, []float32{1}, long, long) },
		"SoftmaxRows":          func() { SoftmaxRows(long, short[:19:19], 4, 5) },
		"SoftmaxRowsGrad":      func() { SoftmaxRowsGrad(long, long, short[:19:19], 5, 4) },
		"SoftmaxRowsGrad long": func() { SoftmaxRowsGrad(long, long, long, 5, 5) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkVector(b *testing.B) {
	const n = 1 << 12
	rng := rand.New(rand.NewPCG(1, 1))
	x, y, z, w := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range n {
		x[i], y[i] = float32(rng.Float64()+0.1), float32(rng.Float64())
	}
	var s float64
	for _, k := range []struct {
		name string
		f    func()
	}{
		{"LinearCombination2", func() { LinearCombination(z, []float32{1, -0.5}, x, y) }},
		{"LinearCombination5", func() { LinearCombination(z, []float32{1, -0.5, 2, 3, 4}, x, y, w, x, y) }},
		{"Mul", func() { Mul(z, x, y) }},
		{"MulAdd", func() { MulAdd(z, 1e-9, x, y) }},
		{"Axpy", func() { Axpy(1e-9, x, z) }},
		{"Dot", func() { s += Dot(x, y) }},
		{"Sum", func() { s += Sum(x) }},
		{"Exp", func() { Exp(z, x) }},
		{"ExpNegClip", func() { ExpNegClip(z, x, 3) }},
		{"Log", func() { Log(z, x) }},
		{"Reciprocal", func() { Reciprocal(z, x) }},
		{"Rsqrt", func() { Rsqrt(z, x) }},
		{"ReLU", func() { ReLU(z, x) }},
		{"ReLUGrad", func() { ReLUGrad(z, x, y) }},
		{"SoftmaxRows24", func() { SoftmaxRows(z, x, n/24, 24) }},
		{"SoftmaxRowsGrad24", func() { SoftmaxRowsGrad(z, x, y, n/24, 24) }},
	} {
		b.Run(k.name, func(b *testing.B) { benchmarkLevels(b, n, k.f) })
	}
	_ = s
}
